"""Hosts with nothing but a Python, for tests of `se-remote provision`: over SSH, and in bare containers."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import zipfile
from dataclasses import dataclass
from pathlib import Path

import dockerd as engines
import pytest
import sshd as private
from commandline import BIN, Done, Terminal

from launcher.plan import WIRE

ROOT = Path(__file__).parents[2]
VENVS = ".local/share/se-remote/venvs"


def pythons() -> dict[str, Path]:
    """Interpreters of this machine, by version: ``3.10`` → its prefix."""
    found = {}
    for path in sorted(
        Path(os.path.expanduser("~root" if os.getuid() == 0 else "~")).glob(".pyenv/versions/3.*")
    ):
        match = re.match(r"3\.\d+", path.name)
        if match and (path / "bin" / f"python{match[0]}").exists():
            found[match[0]] = path
    own = f"{sys.version_info[0]}.{sys.version_info[1]}"
    found.setdefault(own, Path(sys.base_prefix))
    return found


def prefix(version: str) -> Path:
    """Of that interpreter; skips without one."""
    found = pythons().get(version)
    if found is None:
        pytest.skip(f"there is no Python {version} on this machine")
    return found


class Bare(Terminal):
    """A terminal whose host has a HOME of its own, and in PATH one Python and what a system has."""

    ends_within = 240.0  # the first fetches from the package index

    def __init__(self, world, cache: Path, version: str = "3.10") -> None:
        super().__init__(world)
        self.cache = cache
        self.more: dict[str, str] = {}
        self.host_home = world.server_home
        self.use_python(version)
        self.write_inventory(self.bare())

    def use_python(self, version: str) -> None:
        """What `python3` is on the host from now on; "": there is none."""
        tools = self.world.directory / f"bin{version}"
        tools.mkdir(exist_ok=True)
        for name in ("/usr/bin", "/bin"):
            for tool in Path(name).iterdir():
                if not re.match(r"python|pip", tool.name) and not (tools / tool.name).is_symlink():
                    (tools / tool.name).symlink_to(tool)
        if version and not (tools / "python3").is_symlink():
            (tools / "python3").symlink_to(prefix(version) / "bin" / f"python{version}")
        self.world.sshd.start(path=str(tools))

    def bare(self, **more: str) -> str:
        """The host as one would write it: `python` is not named."""
        lines = [line for line in self.entry(self.name).splitlines() if not line.startswith("    python:")]
        return "".join(
            f"{line}\n" for line in [*lines, *(f"    {key}: {value}" for key, value in more.items())]
        )

    @property
    def environ(self) -> dict[str, str]:
        return {**super().environ, "XDG_CACHE_HOME": str(self.cache), **self.more}

    @property
    def venvs(self) -> Path:
        return self.host_home / VENVS

    def provision(self, *words: str) -> Done:
        return self.se_remote("provision", self.name, *words)

    def provide(self) -> None:
        """As after a provision; what the first one of the session has made is copied."""
        stock = self.cache / "made"
        if not stock.exists():
            done = self.provision()
            assert done.code == 0, done.text
            subprocess.run(["cp", "-a", str(self.venvs), str(stock)], check=True)
            return
        self.venvs.parent.mkdir(parents=True)
        subprocess.run(["cp", "-a", str(stock), str(self.venvs)], check=True)

    def current(self) -> Path:
        return (self.venvs / "current").resolve()

    def whole(self) -> list[str]:
        """Environments that are complete."""
        found = {path.parent.name for path in self.venvs.glob("*/provision.json")}
        return sorted(found - {"current"})

    def client(self, checkout: Path, *words: str) -> Done:
        """`se-remote` of another checkout."""
        self.more["PYTHONPATH"] = str(checkout)
        try:
            return self.run("python", "-m", "launcher.cli.main", *words)
        finally:
            del self.more["PYTHONPATH"]


def checkout(directory: Path, version: str, wire: int | None = None) -> Path:
    """A copy of the code of another version, that may speak another wire version."""
    for package in ("launcher", "remote_exec"):
        shutil.copytree(ROOT / package, directory / package, ignore=shutil.ignore_patterns("__pycache__"))
        _change(
            directory / package / "__init__.py", r'(?m)^__version__ = ".*"$', f'__version__ = "{version}"'
        )
    if wire is not None:
        _change(directory / "launcher" / "plan.py", r"(?m)^WIRE: Final = \d+$", f"WIRE: Final = {wire}")
        _change(
            directory / "remote_exec" / "messages.py",
            r"(?m)^WIRE_VERSION: Final = \d+$",
            f"WIRE_VERSION: Final = {wire}",
        )
    return directory


RELEASES = Path(__file__).parent / "releases"
"""Wheels of se-remote as they were released; see the README there."""


@dataclass(frozen=True)
class Other:
    """Code of another version, for `Bare.client`."""

    folder: Path
    version: str
    wire: int


def other(directory: Path, release: str) -> Other:
    """What was released by that wheel; "": a copy of this code that says that it is another version."""
    if not release:
        return Other(checkout(directory, "0.0.9"), "0.0.9", WIRE)
    with zipfile.ZipFile(RELEASES / release) as wheel:
        wheel.extractall(directory)
    wire = re.search(r"(?m)^WIRE: Final = (\d+)$", (directory / "launcher" / "plan.py").read_text())
    assert wire is not None
    return Other(directory, release.split("-")[1], int(wire[1]))


def _change(path: Path, pattern: str, to: str) -> None:
    text, count = re.subn(pattern, to, path.read_text())
    assert count == 1, path
    path.write_text(text)


def distribution(folder: Path, name: str, *, version: str = "0.1", entry_points: str = "") -> Path:
    """Something that is installed in `folder`; the place of its module, which is still to be written."""
    folder.mkdir(exist_ok=True)
    info = folder / f"{name}-{version}.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
    (info / "entry_points.txt").write_text(entry_points)
    return folder / f"{name}.py"


class Box(Terminal):
    """A terminal with a host in a bare container of this machine: no network, one Python, no pip, no venv."""

    ends_within = 240.0

    def __init__(self, world, boxes, cache: Path, version: str = "3.10", *more: str, **docker: str) -> None:
        super().__init__(world)
        self.cache, self.boxes = cache, boxes
        self.more: dict[str, str] = {}
        self.box = f"bare-{self.name}"
        self.words = [*self.options(version), *more]
        boxes.create(self.box, *self.words)
        self.write_inventory(self.entry_text())

    @staticmethod
    def options(version: str) -> list[str]:
        at = prefix(version)
        library = f"{at}/lib/python{version}"
        words = ["-v", f"{at}:{at}:ro", "-e", f"PATH={at}/bin:/usr/bin:/bin"]
        for name in ("site-packages", "ensurepip", "venv"):
            words += ["--mount", f"type=tmpfs,destination={library}/{name},readonly"]
        if not (at / "bin" / "python3").exists():
            pytest.skip(f"{at} has no python3")
        return words

    def image(self) -> dict[str, object]:
        """`docker` of a container that is made, and as bare."""
        return {"image": engines.IMAGE, "run": ["--network", "none", "-v", "/usr:/usr:ro", *self.words]}

    def entry_text(self, *more: str, docker: str = "") -> str:
        env = json.dumps({private.MARK: self.world.mark, **private.SOON})
        lines = [f"  {self.name}:", "    machine: local", f"    docker: {docker or self.box}"]
        lines += ["    aliases: [lab-pc]", f"    env: {env}", *more]
        return "\n".join(lines) + "\n"

    @property
    def environ(self) -> dict[str, str]:
        return {**super().environ, "XDG_CACHE_HOME": str(self.cache), **self.more}

    def inside(self, *words: str) -> str:
        return self.boxes.dockerd.exec(self.box, *words)

    def offline(self, *words: str) -> Done:
        """As `se_remote`, on a machine without any network."""
        command = ["unshare", "--net", str(BIN / "se-remote"), *words]
        done = subprocess.run(
            command,
            cwd=self.folder,
            env=self.environ,
            capture_output=True,
            text=True,
            timeout=self.ends_within,
        )
        return Done(done.returncode, done.stdout, done.stderr)
