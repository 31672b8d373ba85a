"""What wheels need on another machine, by what they say of themselves. Pure.

pip looks for wheels of another interpreter, but asks conditions (`exceptiongroup; python_version < "3.11"`)
of the interpreter that it runs in. So what it finds is gone through once more, with the conditions asked of
the machine: what is missing there is asked for by name.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from email.parser import HeaderParser
from typing import Final

from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name

from launcher.provision.values import Python

_SYSTEM: Final = {"os_name": "posix", "sys_platform": "linux", "platform_system": "Linux",
                  "platform_release": "", "platform_version": ""}  # fmt: skip


@dataclass(frozen=True)
class About:
    """A wheel, as its METADATA says."""

    name: str
    """As indexes compare it."""
    version: str
    requires: tuple[str, ...] = ()


def read_about(metadata: str) -> About:
    """From the text of METADATA."""
    said = HeaderParser().parsestr(metadata)
    requires = tuple(str(value) for value in said.get_all("Requires-Dist") or ())
    return About(canonicalize_name(str(said["Name"])), str(said["Version"]), requires)


def why_no_name(word: str) -> str:
    """Why that is not what an index can be asked for; "" when it is."""
    try:
        Requirement(word)
    except InvalidRequirement as error:
        return str(error).splitlines()[0] or "it is empty"
    return ""


def project(word: str) -> str:
    """Which package is meant by a name, a folder or a wheel: two of one project replace each other."""
    name = word.rstrip("/").rpartition("/")[2]
    if name.endswith(".whl"):
        return canonicalize_name(name.partition("-")[0])
    with contextlib.suppress(InvalidRequirement):
        return canonicalize_name(Requirement(name).name)
    return name


def missing(words: Iterable[str], among: Iterable[str]) -> tuple[str, ...]:
    """Those of whose project nothing is `among` others."""
    known = {project(word) for word in among}
    return tuple(word for word in words if project(word) not in known)


def replaced(words: Iterable[str], among: Sequence[str]) -> tuple[tuple[str, str], ...]:
    """Those in whose place there is another now, with that: two folders of one name may be two projects."""
    by, same = {project(word): word for word in among}, set(among)
    pairs = ((word, by.get(project(word), word)) for word in words if word not in same)
    return tuple(pair for pair in pairs if pair[0] != pair[1])


def conditions(python: Python) -> dict[str, str]:
    """What conditions are asked of, as that interpreter would say."""
    full = ".".join(map(str, python.version))
    return {
        **_SYSTEM, "implementation_name": python.implementation, "implementation_version": full,
        "platform_machine": python.machine, "platform_python_implementation": "CPython",
        "python_full_version": full, "python_version": python.short,
    }  # fmt: skip


def there(needs: Iterable[str], python: Python) -> list[str]:
    """Those whose condition holds there, without it."""
    return [str(_bare(need)) for need in map(Requirement, needs) if _holds(need, (), python)]


def unmet(needs: Sequence[str], found: Iterable[About], python: Python) -> list[str]:
    """What the wheels found for `needs` need there, and is not among them, or in another version."""
    by_name: Mapping[str, About] = {about.name: about for about in found}
    missing: dict[str, None] = {}
    left = [Requirement(need) for need in needs]
    asked: set[tuple[str, frozenset[str]]] = set()
    while left:
        need = left.pop()
        name = canonicalize_name(need.name)
        about = by_name.get(name)
        if about is None or not need.specifier.contains(about.version, prereleases=True):
            missing[str(_bare(need))] = None
        extras = frozenset(need.extras)
        if about is None or (name, extras) in asked:
            continue
        asked.add((name, extras))
        left += [each for each in _read(about.requires) if _holds(each, tuple(extras), python)]
    return sorted(missing)


def _read(requires: Iterable[str]) -> list[Requirement]:
    found = []
    for text in requires:
        with contextlib.suppress(InvalidRequirement):  # an old package: pip judges it
            found.append(Requirement(text))
    return found


def _holds(need: Requirement, extras: tuple[str, ...], python: Python) -> bool:
    marker = need.marker
    values = conditions(python)
    return marker is None or any(marker.evaluate({**values, "extra": extra}) for extra in ("", *extras))


def _bare(need: Requirement) -> Requirement:
    bare = Requirement(str(need))
    bare.marker = None
    return bare
