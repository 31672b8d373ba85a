"""`key=value` words of a command line as arguments of an action. Literals only; nothing is evaluated.

| declared type (.osc)      | what is read                                                       |
|---------------------------|--------------------------------------------------------------------|
| string                    | the text as it stands                                              |
| bool                      | true, false                                                        |
| int, uint, float          | a number                                                           |
| time                      | seconds, or a number with s, ms, min or h                          |
| an enum                   | one of its names, enum!name, or (name, value)                      |
| list of …, struct         | JSON                                                               |
| anything else, undeclared | JSON where it is some (5, true, "5", [1]), else the text           |
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import Any

from remote_exec.client.signature import Action, Parameter, unknown
from remote_exec.errors import BadArguments

_SECONDS = {"": 1.0, "s": 1.0, "ms": 0.001, "min": 60.0, "h": 3600.0}
_TIME = re.compile(r"([0-9]+(?:\.[0-9]*)?|\.[0-9]+)\s*(s|ms|min|h|)\Z")
_PAIR = re.compile(r"\(?\s*[\"']?(\w+)[\"']?\s*,\s*(-?\d+)\s*\)?\Z")


def split(action: str, words: Sequence[str]) -> dict[str, str]:
    """The words taken apart. Raises BadArguments for what has no `=`, and for names given twice."""
    found: dict[str, str] = {}
    problems = []
    for word in words:
        name, equals, text = word.partition("=")
        if not equals or not name.isidentifier():
            problems.append(f"expected key=value, found {word!r}")
        elif name in found:
            problems.append(f"{name} is given twice")
        found[name] = text
    if problems:
        raise BadArguments(action, problems)
    return found


def read(action: Action, texts: dict[str, str]) -> dict[str, Any]:
    """The values as the action's parameters want them. Raises BadArguments with all that is wrong."""
    known = {parameter.name: parameter for parameter in action.parameters}
    problems = unknown(action, list(texts))
    values: dict[str, Any] = {}
    for name, text in texts.items():
        if name not in known:
            continue
        try:
            values[name] = value_of(known[name], text)
        except ValueError as error:
            problems.append(f"{name}: {error}")
    missing = [p.text for p in action.parameters if p.required and p.name not in texts]
    if missing and problems:
        problems.append(f"missing: {', '.join(missing)}")  # else bind() says so
    if problems:
        raise BadArguments(action.name, problems)
    return values


def value_of(parameter: Parameter, text: str) -> Any:
    """One value. Raises ValueError."""
    kind = parameter.type
    if parameter.choices:
        return _enum(text)
    if kind == "string":
        return text
    if kind == "bool":
        if text.lower() not in ("true", "false"):
            raise ValueError(f"expected true or false, found {text!r}")
        return text.lower() == "true"
    if kind in ("int", "uint"):
        return _number(int, text, "a whole number")
    if kind == "float":
        return _number(float, text, "a number")
    if kind == "time":
        return seconds(text)
    return _json(text, strict=kind.startswith("list of "), kind=kind)


def _enum(text: str) -> Any:
    """A name, which `bind` looks up, or a (name, value) tuple, which it checks."""
    pair = _PAIR.match(text)
    return (pair[1], int(pair[2])) if pair is not None else text.rpartition("!")[2]


def _number(kind: type[int] | type[float], text: str, what: str) -> int | float:
    try:
        return kind(text)
    except ValueError:
        raise ValueError(f"expected {what}, found {text!r}") from None


def seconds(text: str) -> float:
    """A time as it is written in OSC, or seconds alone. Raises ValueError."""
    match = _TIME.match(text.strip())
    if match is None:
        raise ValueError(f"expected a time such as 2, 1.5s, 200ms or 3min, found {text!r}")
    return float(match[1]) * _SECONDS[match[2]]


def _json(text: str, *, strict: bool, kind: str) -> Any:
    try:
        value = json.loads(text)
    except ValueError as error:
        if strict or text[:1] in ("[", "{", '"'):
            raise ValueError(
                f"expected JSON{f' ({kind})' if kind else ''}, found {text!r}: {error}"
            ) from None
        return text
    if strict and not isinstance(value, list):
        raise ValueError(f"expected a JSON list ({kind}), found {text!r}")
    return value
