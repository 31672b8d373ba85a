"""Which wheels fit an interpreter elsewhere, and what is said of one that cannot run the server."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from launcher.errors import StartFailed
from launcher.plan import Reply, parse_reply
from launcher.provision import asking
from launcher.provision.target import pip_words, platforms, unfit, why_not
from launcher.provision.values import Python

JAMMY = Python("/usr/bin/python3.10", (3, 10, 12), "x86_64", glibc=(2, 35))
ROBOT = Python("/usr/bin/python3.12", (3, 12, 3), "aarch64", glibc=(2, 39))
ALPINE = Python("/usr/bin/python3.11", (3, 11, 9), "x86_64", musl=(1, 2))
RASPBERRY = Python("/usr/bin/python3.11", (3, 11, 2), "aarch64", bits=32, glibc=(2, 36))
FREE = Python("/opt/bin/python3.13t", (3, 13, 0), "x86_64", glibc=(2, 36), free_threaded=True)


def test_platforms_come_with_the_best_first() -> None:
    tags = platforms(JAMMY)
    assert tags[:2] == ("linux_x86_64", "manylinux_2_35_x86_64")
    order = ["manylinux_2_28_x86_64", "manylinux_2_17_x86_64", "manylinux2014_x86_64", "manylinux1_x86_64"]
    assert [tag for tag in tags if tag in order] == order
    assert "manylinux_2_36_x86_64" not in tags
    assert platforms(ROBOT)[-2:] == ("manylinux_2_17_aarch64", "manylinux2014_aarch64"), (
        "no manylinux1 of that"
    )
    assert platforms(ALPINE) == ("linux_x86_64", "musllinux_1_2_x86_64", "musllinux_1_1_x86_64",
                                 "musllinux_1_0_x86_64")  # fmt: skip
    assert "manylinux_2_17_armv7l" in platforms(RASPBERRY)
    assert not [tag for tag in platforms(RASPBERRY) if "aarch64" in tag], "its kernel has 64 bits, it has not"


def test_the_platforms_are_those_that_pip_names_here() -> None:
    """The same tags in the same order as the packaging library would give on this very machine."""
    from packaging import tags

    from launcher.provision.target import read_python

    said = probed(sys.executable)
    ours = platforms(read_python(said))
    assert list(ours) == list(tags.platform_tags())


def probed(python: str) -> dict[str, object]:
    import json

    words = [python, "-E", "-s", "-S", "-c", asking._PROBE, ".local/none"]
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    found = json.loads(done.stdout)
    assert isinstance(found, dict)
    return found


def test_what_lies_in_the_home_is_nothing_to_it(tmp_path: Path) -> None:
    """A login begins there, and a `json.py` in it is not Python's."""
    for name in ("json", "glob", "struct", "subprocess", "zipfile", "shutil"):
        (tmp_path / f"{name}.py").write_text("raise SystemExit('out of the home')\n")

    def run(script: bytes) -> Reply:
        environ = {"HOME": str(tmp_path), "PATH": os.environ["PATH"]}
        done = subprocess.run(["sh"], input=script, capture_output=True, cwd=tmp_path, env=environ)
        reply = parse_reply(done.stdout, "n0nce")
        assert reply is not None, done
        return reply

    seen = asking.read_look("lab-pc", run(asking.look(sys.executable, nonce="n0nce")))
    assert seen.python.version == sys.version_info[:3]
    rows = [("a-1-py3-none-any.whl", "0")]
    script = asking.install(sys.executable, "key", rows, rows[0][0], {}, nonce="n0nce")
    assert asking.read_install("lab-pc", run(script)).missing == ("a-1-py3-none-any.whl",)


@pytest.mark.parametrize(
    ("name", "python", "why"),
    [
        ("a-1-py3-none-any.whl", JAMMY, ""),
        ("a-1-py2.py3-none-any.whl", ROBOT, ""),
        ("a-1-2-py3-none-any.whl", ROBOT, ""),
        ("a-1-cp310-cp310-manylinux_2_17_x86_64.manylinux2014_x86_64.whl", JAMMY, ""),
        ("a-1-cp38-abi3-manylinux_2_28_x86_64.whl", JAMMY, ""),
        ("a-1-cp310-none-manylinux_2_28_x86_64.whl", JAMMY, ""),
        ("a-1-cp313-cp313t-linux_x86_64.whl", FREE, ""),
        ("a-1-cp312-cp312-linux_aarch64.whl", JAMMY, "it is for linux_aarch64, and the machine is x86_64"),
        ("a-1-cp310-cp310-manylinux_2_39_x86_64.whl", JAMMY, "glibc 2.35"),
        ("a-1-py3-none-musllinux_1_2_x86_64.whl", JAMMY, "it is for musllinux_1_2_x86_64"),
        ("a-1-py3-none-manylinux_2_17_x86_64.whl", ALPINE, "musl 1.2"),
        ("a-1-cp311-cp311-linux_x86_64.whl", JAMMY, "it is for cp311-cp311, and the machine has Python 3.10"),
        ("a-1-cp311-abi3-linux_x86_64.whl", JAMMY, "it is for cp311-abi3"),
        ("a-1-cp38-abi3-linux_x86_64.whl", FREE, "it is for cp38-abi3"),
        ("a-1-py2-none-any.whl", JAMMY, "it is for py2-none"),
        ("a.whl", JAMMY, "its name is not that of a wheel"),
    ],
)
def test_why_a_wheel_does_not_fit(name: str, python: Python, why: str) -> None:
    found = why_not(name, python)
    assert (why in found) if why else found == ""


def test_what_pip_is_told() -> None:
    words = pip_words(ROBOT)
    assert words[:5] == ["--only-binary=:all:", "--python-version", "3.12", "--implementation", "cp"]
    assert "--abi" not in words
    assert words[words.index("--platform") + 1] == "linux_aarch64"
    assert pip_words(FREE)[5:7] == ["--abi", "cp313t"]


@pytest.mark.parametrize(
    ("python", "cause", "step"),
    [
        (Python("/usr/bin/python3", (3, 8, 10), ""), "is Python 3.8.10; 3.10 or newer", "python3.11"),
        (Python("/usr/bin/pypy3", (3, 10, 1), "x86_64", "pypy"), "is pypy; CPython is needed", "--python"),
        (
            Python("/usr/bin/python3", (3, 11, 2), "x86_64", missing=("asyncio",)),
            "asyncio",
            "apt-get install",
        ),
    ],
)
def test_what_cannot_run_the_server(python: Python, cause: str, step: str) -> None:
    found = unfit(python)
    assert cause in found[0] and step in found[1]


def test_what_can() -> None:
    assert unfit(JAMMY) == unfit(RASPBERRY) == ("", "")


def test_the_look_is_read() -> None:
    refused = Reply(
        (("verb", "refused"), ("stage", "python"), ("cause", "there is none"), ("next", "get one"))
    )
    with pytest.raises(StartFailed, match="there is none") as caught:
        asking.read_look("lab-pc", refused)
    assert caught.value.next_step == "get one"
    with pytest.raises(StartFailed, match="does not run") as caught:
        asking.read_look("lab-pc", Reply((("python", "libpython3.so: cannot open"),)))
    assert caught.value.tail == ("libpython3.so: cannot open",)


def test_needs_are_the_same_for_the_same() -> None:
    from pathlib import Path

    from launcher.provision.values import Wanted, Wheel

    own = Wheel(Path("/c/se_remote-1-py3-none-any.whl"), "aa")
    wanted = Wanted(own, ("py_trees>=2.4", "pyzmq>=25"), "1", names=("b", "a"))
    same = Wanted(Wheel(own.path, "bb"), ("pyzmq>=25", "py_trees>=2.4"), "1", names=("a", "b"))
    assert wanted.needs(JAMMY) == same.needs(JAMMY), "what runs here may change: nothing else is looked for"
    assert wanted.request(JAMMY) != same.request(JAMMY)
    assert wanted.needs(JAMMY) != wanted.needs(ROBOT)
    other = Python("/usr/local/bin/python3.10", (3, 10, 12), "x86_64", glibc=(2, 35))
    assert wanted.needs(JAMMY) == wanted.needs(other) and wanted.request(JAMMY) != wanted.request(other)
