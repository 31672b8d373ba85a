"""Wheels for another Python than the one here, by the real pip; the index is a folder."""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path

import pytest

from launcher.errors import StageError
from launcher.machines.pip import Pip
from launcher.provision.library import Library
from launcher.provision.packing import packed
from launcher.provision.resolving import Resolver
from launcher.provision.values import Python, Wanted

OTHER = 10 if sys.version_info >= (3, 11) else 13
PYTHON = Python(f"/usr/bin/python3.{OTHER}", (3, OTHER, 1), "x86_64", glibc=(2, 35))


def wheel(name: str, version: str, *requires: str) -> tuple[str, bytes]:
    folder = f"{name}-{version}.dist-info"
    about = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
    about += "".join(f"Requires-Dist: {each}\n" for each in requires)
    said = "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
    files = {f"{name}.py": b"", f"{folder}/METADATA": about.encode(), f"{folder}/WHEEL": said.encode()}
    return f"{name}-{version}-py3-none-any.whl", packed(files, folder)


@pytest.fixture
def index(tmp_path: Path) -> Path:
    folder = tmp_path / "index"
    folder.mkdir()
    condition = f'python_version == "3.{OTHER}"'
    for name, data in (
        wheel("installer", "0.7.0"),
        wheel("actions", "1.0", f"backport>=2; {condition}", f'here; python_version != "3.{OTHER}"'),
        wheel("backport", "1.0"),
        wheel("backport", "2.1", f"below; {condition}"),
        wheel("below", "1.0"),
        wheel("here", "1.0"),
    ):
        (folder / name).write_bytes(data)
    return folder


def resolver(tmp_path: Path, *words: str) -> tuple[Resolver, Library]:
    library = Library(tmp_path / "cache")
    environ = {**os.environ, "PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(tmp_path / "index")}
    pip = Pip(words or (sys.executable, "-m", "pip"), environ)
    return Resolver("lab-pc", library, lambda: pip, lambda text: None), library


def wanted(library: Library, *names: str) -> Wanted:
    own = library.add(*wheel("se_remote", "0.1.0"), apart=True)
    return Wanted(own, (), "0.1.0", names)


@pytest.mark.usefixtures("index")
def test_what_is_needed_there_and_not_here(tmp_path: Path) -> None:
    resolving, library = resolver(tmp_path)
    found, tool = asyncio.run(resolving.found(wanted(library, "actions"), PYTHON))
    names = {one.label for one in found}
    assert {"se_remote 0.1.0", "actions 1.0", "backport 2.1", "below 1.0"} <= names
    assert tool.label == "installer 0.7.0"


def test_an_old_pip_is_named(tmp_path: Path) -> None:
    """Ubuntu 22.04 has 22.0.2, which cannot say what it would install."""
    script = tmp_path / "pip"
    script.write_text("#!/bin/sh\necho 'no such option: --report' >&2\nexit 2\n")
    script.chmod(0o755)
    resolving, library = resolver(tmp_path, str(script))
    with pytest.raises(StageError, match="too old") as raised:
        asyncio.run(resolving.found(wanted(library, "actions"), PYTHON))
    assert raised.value.next_step == f"{script} install --upgrade pip"


@pytest.mark.usefixtures("index")
def test_what_a_killed_pip_has_unpacked_lies_in_the_cache(tmp_path: Path) -> None:
    script = tmp_path / "pip"
    script.write_text(f"#!/bin/sh\nmktemp -d >>{tmp_path}/made\nexec sleep 60\n")
    script.chmod(0o755)
    resolving, library = resolver(tmp_path, str(script))

    async def stopped() -> None:
        asking = asyncio.ensure_future(resolving.found(wanted(library, "actions"), PYTHON))
        while not (tmp_path / "made").exists() or not (tmp_path / "made").read_text():
            await asyncio.sleep(0.02)
        asking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asking

    asyncio.run(stopped())
    made = Path((tmp_path / "made").read_text().strip())
    assert library.folder in made.parents and not made.exists()
