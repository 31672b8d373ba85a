"""What crosses the boundaries of a provision: an interpreter, wheels, what is wanted, what came of it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

NEEDED = (3, 10)
"""The oldest Python that runs the server."""


@dataclass(frozen=True)
class Python:
    """An interpreter on a machine, as it says itself."""

    executable: str
    version: tuple[int, int, int]
    machine: str
    """As `uname -m` says."""
    implementation: str = "cpython"
    bits: int = 64
    glibc: tuple[int, int] | None = None
    musl: tuple[int, int] | None = None
    free_threaded: bool = False
    missing: tuple[str, ...] = ()
    """Modules of the standard library that are not there."""

    @property
    def short(self) -> str:
        """As people say it: ``3.10``."""
        return f"{self.version[0]}.{self.version[1]}"

    @property
    def target(self) -> str:
        """What decides which wheels fit."""
        libc = f"glibc{self.glibc}" if self.glibc else f"musl{self.musl}"
        free = "t" if self.free_threaded else ""
        return f"{self.implementation} {self.short}{free} {self.machine} {self.bits} {libc}"


@dataclass(frozen=True)
class Wheel:
    """A wheel in a folder of this machine. `digest`: sha256, hex."""

    path: Path
    digest: str
    about: str = ""
    """Of one that was given or made of a folder: digest of what it says of itself, and so of its needs."""

    @property
    def name(self) -> str:
        return self.path.name

    @property
    def label(self) -> str:
        """``pyzmq 27.3.0``"""
        return " ".join(self.name.split("-")[:2])


@dataclass(frozen=True)
class Asked:
    """What a person asks for, beside what the inventory lists."""

    packages: tuple[str, ...] = ()
    only: bool = False
    """Without those that a person has asked for before."""
    python: str = ""
    """"": as the inventory says."""


@dataclass(frozen=True)
class Wanted:
    """What is to be there: our own wheel, and packages beside it, as they were named."""

    own: Wheel
    requires: tuple[str, ...]
    """What our own wheel needs."""
    version: str
    names: tuple[str, ...] = ()
    wheels: tuple[Wheel, ...] = ()
    """Given as files, or made of folders."""
    said: tuple[str, ...] = ()
    """All of them; paths from the root of this machine."""
    given: tuple[str, ...] = ()
    """Of these what no inventory lists: it stays until somebody says otherwise."""

    def needs(self, python: Python) -> str:
        """A key for what has to be looked for: the same key, the same wheels."""
        wheels = sorted([wheel.name, wheel.about] for wheel in self.wheels)
        return _digest([sorted(self.requires), sorted(self.names), wheels, python.target])

    def request(self, python: Python) -> str:
        """A key for all of it, on that interpreter."""
        wheels = sorted(wheel.digest for wheel in (self.own, *self.wheels))
        return _digest([self.needs(python), wheels, python.executable, python.version, sorted(self.given)])


@dataclass(frozen=True)
class Seen:
    """What a machine says when it is looked at."""

    python: Python
    manifest: Mapping[str, Any] = field(default_factory=dict)
    """Of the environment that is in use there; {}: there is none."""
    works: bool = False
    """Its interpreter is there, and is the one it was made with."""


@dataclass(frozen=True)
class Provided:
    """What a provision did."""

    version: str
    python: Python
    place: str = ""
    """The environment's folder there."""
    fresh: bool = False
    """It was not there already."""
    sent: int = 0
    bytes: int = 0
    packages: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()
    """Old environments that nobody used any more."""
    kept: tuple[str, ...] = ()
    """Old ones that somebody uses."""


@dataclass(frozen=True)
class Say:
    """Who is told how far it is: lines that stay, and what goes on just now."""

    line: Callable[[str], None] = lambda text: None
    live: Callable[[str], None] = lambda text: None


def _digest(value: object) -> str:
    return hashlib.sha256(json.dumps(value).encode()).hexdigest()[:16]
