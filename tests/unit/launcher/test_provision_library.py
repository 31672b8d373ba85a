"""What this machine keeps for others, and who finds wheels for it."""

from __future__ import annotations

import asyncio
import hashlib
import importlib.util
import os
import time
from pathlib import Path

import pytest

from launcher.errors import StageError
from launcher.machines import pip
from launcher.model import Completed
from launcher.provision.library import Library, cache_folder, digest_of_folder
from launcher.provision.packing import packed
from launcher.provision.resolving import Resolver
from launcher.provision.values import Python, Wanted, Wheel

ROBOT = Python("/usr/bin/python3.12", (3, 12, 3), "aarch64", glibc=(2, 39))


def wheel_named(name: str) -> bytes:
    """With what it says of itself, and nothing else."""
    distribution, version = name.split("-")[:2]
    folder = f"{distribution}-{version}.dist-info"
    return packed({f"{folder}/METADATA": f"Name: {distribution}\nVersion: {version}\n".encode()}, folder)


class FakePip:
    """Answers `download` with what it has; records what it is asked for."""

    def __init__(self, *answers: tuple[int, str, tuple[str, ...]]) -> None:
        self.asked: list[tuple[str, ...]] = []
        self._answers = list(answers)

    async def run(self, *words: str, environ: object = None) -> Completed:
        self.asked.append(words)
        code, said, files = self._answers.pop(0)
        for option in ("-d", "-w"):
            if option in words:
                for name in files:
                    (Path(words[words.index(option) + 1]) / name).write_bytes(wheel_named(name))
        return Completed(code, b"", said.encode())


def resolve(library: Library, fake: FakePip) -> list[str]:
    own = library.add(OWN, wheel_named(OWN), apart=True)
    wanted = Wanted(own, ("pyzmq>=25",), "1")
    resolver = Resolver("lab-pc", library, lambda: fake, lambda text: None)  # type: ignore[arg-type,return-value]
    wheels, tool = asyncio.run(resolver.found(wanted, ROBOT))
    assert tool.name.startswith("installer-")
    return [wheel.name for wheel in wheels]


OWN = "se_remote-1-py3-none-any.whl"
ZMQ, TOOL = "pyzmq-27-cp312-cp312-manylinux2014_aarch64.whl", "installer-1.1.0-py3-none-any.whl"


def test_the_same_needs_ask_nobody_again(tmp_path: Path) -> None:
    library = Library(tmp_path)
    library.built("x-1-py3-none-any.whl", b"")
    fake = FakePip((0, "", (ZMQ, TOOL, OWN)))
    assert resolve(library, fake) == [OWN, ZMQ]
    assert fake.asked[0][0] == "download" and "linux_aarch64" in fake.asked[0]
    assert resolve(library, FakePip()) == [OWN, ZMQ], "pip is not asked"
    (library.wheels / ZMQ).write_bytes(b"something else")
    again = FakePip((0, "", (ZMQ, TOOL)))
    resolve(library, again)
    assert len(again.asked) == 1, "a file that is not what it was is looked for again"


def test_without_an_index_what_is_kept_does(tmp_path: Path) -> None:
    library = Library(tmp_path)
    library.built("x-1-py3-none-any.whl", b"")
    fake = FakePip((1, "NewConnectionError: no route", ()), (0, "", (ZMQ, TOOL)))
    resolve(library, fake)
    assert "--no-index" in fake.asked[1] and str(library.wheels) in fake.asked[1]
    nothing = FakePip((1, "", ()), (1, "NewConnectionError: no route", ()), (1, "", ()))
    with pytest.raises(StageError, match="cannot be reached") as caught:
        resolve(Library(tmp_path / "empty"), nothing)
    assert "with a network here" in caught.value.next_step


def test_machine_code_without_a_wheel_is_named(tmp_path: Path) -> None:
    library = Library(tmp_path)
    report = '{"install": [{"download_info": {"url": "https://x/arm-1.tar.gz"}, "metadata": ' \
        '{"name": "arm", "version": "1"}}]}'  # fmt: skip

    class Builds(FakePip):
        async def run(self, *words: str, environ: object = None) -> Completed:
            if "--report" in words:
                Path(words[words.index("--report") + 1]).write_text(report)
                return Completed(0, b"", b"")
            return await super().run(*words, environ=environ)

    with pytest.raises(StageError, match="no wheel of arm==1, and without a compiler") as caught:
        resolve(library, Builds((1, "ERROR: gcc failed", ())))
    assert "--with PATH/arm-" in caught.value.next_step and caught.value.tail == ("ERROR: gcc failed",)


def test_a_folder_is_known_by_what_is_in_it(tmp_path: Path) -> None:
    (tmp_path / "a.py").write_text("1")
    before = digest_of_folder(tmp_path)
    (tmp_path / "__pycache__").mkdir()
    (tmp_path / "__pycache__" / "a.pyc").write_text("x")
    (tmp_path / "a.egg-info").mkdir()
    assert digest_of_folder(tmp_path) == before
    (tmp_path / "a.py").write_text("2")
    assert digest_of_folder(tmp_path) != before


def test_a_package_that_is_called_build(tmp_path: Path) -> None:
    for folder in (tmp_path / "build", tmp_path / "mine" / "build"):
        folder.mkdir(parents=True)
        (folder / "a.py").write_text("1")
    (tmp_path / "gone").symlink_to("nowhere")
    before = digest_of_folder(tmp_path)
    (tmp_path / "build" / "a.py").write_text("2")
    assert digest_of_folder(tmp_path) == before, "what a build has left"
    (tmp_path / "mine" / "build" / "a.py").write_text("2")
    assert digest_of_folder(tmp_path) != before


def test_what_is_ours_alone_is_bounded(tmp_path: Path) -> None:
    """Each change of a folder leaves a wheel; those that somebody may be sending stay."""
    library = Library(tmp_path)
    made = [library.add(OWN, str(number).encode(), apart=True).path for number in range(30)]
    assert all(path.exists() for path in made), "wanted just now"
    long_ago = time.time() - 7200
    for number, path in enumerate(made):
        os.utime(path.parent, (long_ago + number, long_ago + number))
    library.add(OWN, b"3", apart=True)
    assert [number for number, path in enumerate(made) if path.exists()] == [3, *range(11, 30)]
    library.remember("folder-x", [Wheel(made[11], hashlib.sha256(b"11").hexdigest())])
    assert library.note("folder", "x") is not None, "wanted again, of a folder that has not changed"
    library.add(OWN, b"new", apart=True)
    assert [number for number, path in enumerate(made) if path.exists()] == [3, 11, *range(13, 30)]


def test_what_a_killed_one_has_left(tmp_path: Path) -> None:
    library = Library(tmp_path)
    for name, age in ((".work-old", 2 * 86400), (".work-another", 60)):
        (tmp_path / name).mkdir()
        (tmp_path / name / "part").write_text("x")
        os.utime(tmp_path / name, (time.time() - age,) * 2)
    with library.work() as work:
        assert sorted(tmp_path.iterdir()) == sorted([tmp_path / ".work-another", work])


def test_where_it_is() -> None:
    assert cache_folder({"HOME": "/home/me"}) == Path("/home/me/.cache/se-remote")
    assert cache_folder({"HOME": "/home/me", "XDG_CACHE_HOME": "/c"}) == Path("/c/se-remote")


def test_no_pip(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    found = pip.find_pip({"PATH": str(tmp_path)})
    assert found._words[1:] == ("-m", "pip")
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(pip.NoPip, match="no pip on this machine") as caught:
        pip.find_pip({"PATH": str(tmp_path)})
    assert "pip" in caught.value.next_step
    (tmp_path / "pip3").write_text("#!/bin/sh\n")
    (tmp_path / "pip3").chmod(0o755)
    assert pip.find_pip({"PATH": str(tmp_path)})._words == (str(tmp_path / "pip3"),)
