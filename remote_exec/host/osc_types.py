"""What the installed .osc libraries declare of actions: the types of their parameters and the enums' values.

A plugin's Python signature rarely says a type; the library it comes with always does. The libraries are read
by a few patterns and not by scenario_execution's parser, which takes half a second: what is not understood is
simply not declared, and nothing but the reading of command lines and of enum names depends on it.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Final

GROUP: Final = "scenario_execution.osc_libraries"

_ACTION = re.compile(r"^action\s+([\w.]+)(?:\s+inherits\s+([\w.]+))?\s*:?\s*$")
_FIELD = re.compile(r"^\s+(\w+)\s*:\s*(list\s+of\s+[\w.]+|[\w.]+)\s*(=.*)?$")
_ENUM = re.compile(r"^enum\s+(\w+)\s*:\s*\[(.*?)\]", re.DOTALL | re.MULTILINE)
_COMMENT = re.compile(r"#[^\n]*")


@dataclass(frozen=True)
class Declared:
    """A parameter as its .osc library declares it."""

    type: str = ""
    choices: Mapping[str, int] = field(default_factory=dict)
    """Of an enum: its names and values."""
    required: bool = False
    """The library gives no default, whatever the Python signature says."""


UNDECLARED: Final = Declared()


def of_action(name: str) -> Mapping[str, Declared]:
    """The parameters of an action, by its OSC name; empty when no library declares it."""
    return _installed().get(name, {})


def read(text: str) -> dict[str, dict[str, Declared]]:
    """Action to parameter to what is declared, in the text of a library (or of several)."""
    text = _COMMENT.sub("", text)
    enums = {name: _values(body) for name, body in _ENUM.findall(text)}
    actions: dict[str, dict[str, Declared]] = {}
    current: dict[str, Declared] | None = None
    for line in text.splitlines():
        head = _ACTION.match(line)
        if head is not None:
            current = actions.setdefault(head[1], {})
            current.update(actions.get(head[2] or "", {}))
        elif line.strip() and not line[0].isspace():
            current = None
        elif current is not None:
            declared = _FIELD.match(line)
            if declared is not None:
                kind = " ".join(declared[2].split())
                current[declared[1]] = Declared(kind, enums.get(kind, {}), not declared[3])
    return actions


def _values(body: str) -> dict[str, int]:
    """As OSC counts: a member without a value is one more than the one before it."""
    values: dict[str, int] = {}
    following = 0
    for item in body.split(","):
        name, _, number = (part.strip() for part in item.partition("="))
        if not name.isidentifier():
            continue
        try:
            following = int(number, 0) if number else following
        except ValueError:
            continue
        values[name] = following
        following += 1
    return values


@lru_cache(maxsize=1)
def _installed() -> dict[str, dict[str, Declared]]:
    """Of all libraries together: an enum may be declared in another one than the action."""
    return read("\n".join(_texts()))


def _texts() -> list[str]:
    found = []
    for point in importlib.metadata.entry_points(group=GROUP):
        try:
            package, file = point.load()()
            spec = importlib.util.find_spec(package)
            folders = list(spec.submodule_search_locations or ()) if spec is not None else []
            found += [(Path(folder) / "lib_osc" / file).read_text(encoding="utf-8") for folder in folders[:1]]
        except Exception:  # noqa: S112 - foreign code; what cannot be read is not declared
            continue
    return found
