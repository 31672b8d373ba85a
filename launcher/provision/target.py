"""Which wheels fit an interpreter on another machine, and what pip is told of it. Pure.

Python  →  platform tags, the best first        (what `packaging.tags` would say there)
Python  →  the words that make pip look for that interpreter
wheel's file name, Python  →  "" │ why it does not fit
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

from launcher.provision.values import NEEDED, Python

_LEGACY: Final = {17: "manylinux2014", 12: "manylinux2010", 5: "manylinux1"}
_OLDEST_GLIBC: Final = {"x86_64": 5, "i686": 5}
"""Minor version of the oldest manylinux of an architecture; 17 of any other."""
_32BIT: Final = {"x86_64": ("i686",), "aarch64": ("armv8l", "armv7l")}
"""What a 32-bit interpreter runs as on a 64-bit kernel."""
_WHEEL: Final = re.compile(
    r"(?P<name>[^-]+)-(?P<version>[^-]+)(-\d[^-]*)?-(?P<py>[^-]+)-(?P<abi>[^-]+)-(?P<on>[^-]+)\.whl"
)


def read_python(said: Mapping[str, Any]) -> Python:
    """From what the probe has printed. Raises KeyError, TypeError or ValueError for anything else."""
    major, minor, micro = (int(number) for number in said["version"])
    return Python(
        str(said["executable"]), (major, minor, micro), str(said["machine"]), str(said["implementation"]),
        int(said["bits"]), _pair(said["glibc"]), _pair(said["musl"]), bool(said["free_threaded"]),
        tuple(str(name) for name in said["missing"]),
    )  # fmt: skip


def _pair(said: Any) -> tuple[int, int] | None:
    return None if said is None else (int(said[0]), int(said[1]))


def unfit(python: Python) -> tuple[str, str]:
    """Why the server cannot run with it, and what to do; ("", "") when it can."""
    if python.version < NEEDED:
        return (
            f"{python.executable} is Python {'.'.join(map(str, python.version))}; 3.10 or newer is needed",
            "install a newer one there (Ubuntu: sudo apt-get install python3.11), and name it: "
            "`python: python3.11` in the inventory with `provision: auto`, or --python python3.11",
        )
    if python.implementation != "cpython":
        return (
            f"{python.executable} is {python.implementation}; CPython is needed",
            "name a CPython: --python /usr/bin/python3",
        )
    if python.missing:
        return (
            f"{python.executable} is not whole: {', '.join(python.missing)} cannot be imported",
            "on the machine: sudo apt-get install python3",
        )
    return "", ""


def platforms(python: Python) -> tuple[str, ...]:
    """Platform tags that the interpreter takes, the best first: what was built for it, then the newest."""
    archs: tuple[str, ...] = (python.machine,)
    if python.bits == 32 and python.machine in _32BIT:
        archs = _32BIT[python.machine]
    tags: list[str] = []
    for arch in archs:
        if python.glibc is not None and python.glibc[0] == 2:
            for minor in range(python.glibc[1], _OLDEST_GLIBC.get(arch, 17) - 1, -1):
                tags.append(f"manylinux_2_{minor}_{arch}")
                if minor in _LEGACY and (minor == 17 or arch in _OLDEST_GLIBC):
                    tags.append(f"{_LEGACY[minor]}_{arch}")
        if python.musl is not None:
            tags += [f"musllinux_{python.musl[0]}_{minor}_{arch}" for minor in range(python.musl[1], -1, -1)]
    return (*(f"linux_{arch}" for arch in archs), *tags)


def pip_words(python: Python) -> list[str]:
    """Options of pip that make it look for wheels for that interpreter, and for nothing else."""
    words = ["--only-binary=:all:", "--python-version", python.short, "--implementation", "cp"]
    if python.free_threaded:
        words += ["--abi", f"cp{python.version[0]}{python.version[1]}t"]
    for tag in platforms(python):
        words += ["--platform", tag]
    return words


def why_not(file_name: str, python: Python) -> str:
    """Why that wheel cannot be installed there; "" when it can."""
    match = _WHEEL.fullmatch(file_name)
    if match is None:
        return "its name is not that of a wheel (NAME-VERSION-PYTHON-ABI-PLATFORM.whl)"
    on = match["on"].split(".")
    if "any" not in on and not set(on) & set(platforms(python)):
        return f"it is for {', '.join(on)}, and the machine is {python.machine} with {_libc(python)}"
    if not any(_speaks(tag, match["abi"], python) for tag in match["py"].split(".")):
        return f"it is for {match['py']}-{match['abi']}, and the machine has Python {python.short}"
    return ""


def _speaks(tag: str, abi: str, python: Python) -> bool:
    major, minor = python.version[:2]
    found = re.fullmatch(r"(py|cp)(\d)(\d*)", tag)
    if found is None or int(found[2]) != major:
        return False
    that = int(found[3]) if found[3] else 0
    if found[1] == "py":
        return that <= minor
    own = f"cp{major}{minor}{'t' if python.free_threaded else ''}"
    abis = abi.split(".")
    if "abi3" in abis and not python.free_threaded:
        return that <= minor
    return that == minor and bool({own, "none"} & set(abis))


def _libc(python: Python) -> str:
    if python.glibc is not None:
        return "glibc " + ".".join(map(str, python.glibc))
    return "musl " + ".".join(map(str, python.musl)) if python.musl is not None else "an unknown libc"
