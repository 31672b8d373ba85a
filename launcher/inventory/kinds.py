"""What a value of the inventory may be: one reader and one JSON Schema per kind, side by side.

A reader takes a node and its place and gives the value, or None after it has reported what was expected.
Texts that may hold parameters stay `Text`: they are replaced, and reported with their place, once variants
and parameters are known.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from launcher.inventory.params import IDENTIFIER
from launcher.inventory.report import Place, Report, listing
from launcher.inventory.yamlnodes import Mapping as MappingNode
from launcher.inventory.yamlnodes import Node, Scalar, Sequence
from launcher.model import Machine

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*\Z")
NAME_RULE = "letters, digits, - and _, beginning with a letter or digit"
MAX_SECONDS = 366 * 86400.0


@dataclass(frozen=True)
class Text:
    """A text in which parameters are not replaced yet."""

    value: str
    place: Place


@dataclass(frozen=True)
class Kind:
    expected: str
    read: Callable[[Node, Place, Report], Any]
    schema: Mapping[str, Any]


@dataclass(frozen=True)
class Key:
    """A key of the inventory: a line of the table in `schema`."""

    name: str
    kind: Kind
    doc: str
    default: str = ""
    required: bool = False
    nullable: bool = False
    """An empty value means the key was not given."""


@dataclass(frozen=True)
class Field:
    """The value of a key, and where it stands."""

    value: Any
    place: Place


def found(node: Node) -> str:
    """What the node is, for "expected …, found …"."""
    if isinstance(node, Sequence):
        return "found a list"
    if isinstance(node, MappingNode):
        return "found a mapping"
    if node.kind == "null":
        return "found nothing"
    text = node.text if len(node.text) <= 60 else node.text[:57] + "…"
    return f'found "{text}"'


def quoting_hint(node: Node) -> str:
    """``cmd: {world}`` without quotes is a mapping to YAML: the mistake that parameters invite."""
    if isinstance(node, MappingNode) and all(
        isinstance(v, Scalar) and v.kind == "null" for _, v in node.items.values()
    ):
        return 'text that begins with { is written in quotes: "{name}"'
    return ""


def read_keys(
    node: Node, place: Place, report: Report, keys: Mapping[str, Key], *, dots: bool = False
) -> dict[str, Field] | None:
    """A mapping with the given keys. With `dots`, keys that begin with ``.`` are the file's own (anchors)."""
    if not isinstance(node, MappingNode):
        report.add(place, f"expected a mapping with {_some(keys)}, {found(node)}")
        return None
    fields: dict[str, Field] = {}
    for name, (line, value) in node.items.items():
        here = (place / name).at(line)
        key = keys.get(name)
        if key is None:
            if not (dots and name.startswith(".")):
                report.add(here, f'unknown key "{name}"', listing(keys), known=keys, word=name)
            continue
        if key.nullable and is_null(value):
            continue
        result = key.kind.read(value, here, report)
        if result is not None:
            fields[name] = Field(result, here)
    for name, key in keys.items():
        if key.required and name not in node.items:
            report.add(place, f'the key "{name}" is missing: {key.kind.expected}')
    return fields


def _some(keys: Iterable[str]) -> str:
    names = list(keys)
    return ", ".join(names[:3]) + (", …" if len(names) > 3 else "")


def is_null(node: Node) -> bool:
    return isinstance(node, Scalar) and node.kind == "null"


def item_place(place: Place, index: int, node: Node) -> Place:
    """An item's own line, unless it came from an anchor further up."""
    return place.item(index).at(max(place.line, node.line))


def scalar(node: Node, place: Place, report: Report, expected: str) -> str | None:
    """The text of a scalar as it was written, or None after a report."""
    if not isinstance(node, Scalar):
        report.add(place, f"expected {expected}, {found(node)}", quoting_hint(node))
        return None
    if node.kind == "null":
        report.add(place, f"expected {expected}, found nothing", 'an empty text is written ""')
        return None
    if "\0" in node.text:
        report.add(place, "holds a NUL character, which no command or path can")
        return None
    return node.text


def text_kind(expected: str, *, one_line: bool = False, empty: bool = True, replaced: bool = True) -> Kind:
    """Text in which parameters are replaced later (a Text), or with `replaced=False` a plain str."""

    def read(node: Node, place: Place, report: Report) -> Text | str | None:
        text = scalar(node, place, report, expected)
        if text is None:
            return None
        if (not empty and not text.strip()) or (one_line and not text.isprintable()):
            report.add(place, f"expected {expected}, {found(node)}")
            return None
        return Text(text, place) if replaced else text

    return Kind(expected, read, {"type": ["string", "number", "boolean"] if not one_line else "string"})


def word_kind(expected: str, pattern: str) -> Kind:
    """A plain str that matches the pattern as a whole. No parameters."""
    compiled = re.compile(rf"(?:{pattern})\Z")

    def read(node: Node, place: Place, report: Report) -> str | None:
        text = scalar(node, place, report, expected)
        if text is not None and not compiled.match(text):
            hint = "parameters are replaced in commands, env and paths only" if "{" in text else ""
            report.add(place, f"expected {expected}, {found(node)}", hint)
            return None
        return text

    return Kind(expected, read, {"type": "string", "pattern": f"^(?:{pattern})$"})


def list_kind(expected: str, item: Kind) -> Kind:
    """A tuple of Fields, one per item."""

    def read(node: Node, place: Place, report: Report) -> tuple[Field, ...] | None:
        if is_null(node):
            return ()
        if not isinstance(node, Sequence):
            hint = f"[{node.text}]" if isinstance(node, Scalar) and node.text else ""
            report.add(
                place, f"expected {expected}, {found(node)}", hint and f"a list of one is written {hint}"
            )
            return None
        items: list[Field] = []
        for index, child in enumerate(node.items):
            here = item_place(place, index, child)
            value = item.read(child, here, report)
            if value is not None:
                items.append(Field(value, here))
        return tuple(items)

    return Kind(expected, read, {"type": ["array", "null"], "items": dict(item.schema)})


def map_kind(expected: str, replaced: bool, of: str) -> Kind:
    """``identifier: text`` pairs, as a dict of Text (or of str). Used for env and params."""

    def read(node: Node, place: Place, report: Report) -> dict[str, Any] | None:
        if is_null(node):
            return {}
        if not isinstance(node, MappingNode):
            report.add(place, f"expected {expected}, {found(node)}", quoting_hint(node))
            return None
        values: dict[str, Any] = {}
        for name, (line, child) in node.items.items():
            here = (place / name).at(line)
            if not IDENTIFIER.match(name):
                report.add(
                    here, f'"{name}" is no name of {of}', "letters, digits and _, not beginning with a digit"
                )
                continue
            text = scalar(child, here, report, "a text or a number")
            if text is not None:
                values[name] = Text(text, here) if replaced else text
        return values

    return Kind(
        expected,
        read,
        {
            "type": ["object", "null"],
            "propertyNames": {"pattern": "^[A-Za-z_][A-Za-z0-9_]*$"},
            "additionalProperties": {"type": ["string", "number", "boolean"]},
        },
    )


def table_kind(expected: str, keys: Mapping[str, Key], schema: Mapping[str, Any]) -> Kind:
    """A mapping with a table of its own, as a dict of Fields."""

    def read(node: Node, place: Place, report: Report) -> dict[str, Field] | None:
        return read_keys(node, place, report, keys)

    return Kind(expected, read, schema)


def _read_bool(node: Node, place: Place, report: Report) -> bool | None:
    if isinstance(node, Scalar) and node.kind == "bool":
        return node.text.lower() in ("true", "yes", "on")
    report.add(place, f"expected true or false, {found(node)}")
    return None


BOOL = Kind("true or false", _read_bool, {"type": "boolean"})

_DURATION = re.compile(r"(\d{1,12}(?:\.\d{1,12})?|\.\d{1,12})\s*(ms|s|min|h|)\Z", re.ASCII)
_UNITS = {"ms": 0.001, "s": 1.0, "": 1.0, "min": 60.0, "h": 3600.0}


def parse_duration(text: str) -> float | None:
    """Seconds of ``10``, ``10s``, ``500ms``, ``2min``, ``8h``; None if it is none of these or over a year."""
    match = _DURATION.match(text.strip())
    if match is None:
        return None
    seconds = float(match.group(1)) * _UNITS[match.group(2)]
    return seconds if seconds <= MAX_SECONDS else None


def duration_kind(*, zero: bool) -> Kind:
    expected = "a duration such as 20, 20s, 500ms, 2min or 8h" + ("" if zero else ", more than 0")

    def read(node: Node, place: Place, report: Report) -> float | None:
        text = scalar(node, place, report, expected)
        if text is None:
            return None
        seconds = parse_duration(text)
        if seconds is None or (seconds == 0 and not zero):
            unit = text.strip().lstrip("0123456789. ")
            hint = {"m": "minutes are written min", "sec": "seconds are written s"}.get(unit, "")
            report.add(place, f"expected {expected}, {found(node)}", hint)
            return None
        return seconds

    number = {"type": "number", "minimum": 0} if zero else {"type": "number", "exclusiveMinimum": 0}
    pattern = r"^\s*(\d+(\.\d+)?|\.\d+)\s*(ms|s|min|h)?\s*$"
    return Kind(expected, read, {"anyOf": [number, {"type": "string", "pattern": pattern}]})


def choice_kind(*choices: str) -> Kind:
    expected = " or ".join(choices)

    def read(node: Node, place: Place, report: Report) -> str | None:
        text = scalar(node, place, report, expected)
        if text is not None and text not in choices:
            report.add(place, f"expected {expected}, {found(node)}", known=choices, word=text)
            return None
        return text

    return Kind(expected, read, {"enum": list(choices)})


MACHINE_FORMS = "local, host, user@host or user@host:port"
_HOSTNAME = re.compile(r"(?![-.])[\w.-]{1,253}\Z")
_USER = re.compile(r"(?!-)[\w.$\\-]{1,64}\Z")


def parse_machine(text: str) -> Machine | str:
    """The machine, or a sentence that says what is wrong with the text. IPv6 addresses stand in brackets."""
    if text in ("local", "localhost"):
        return Machine()
    if "://" in text:
        return f'expected {MACHINE_FORMS}, found the address "{text}"'
    user, at, rest = text.rpartition("@")
    if at and not _USER.match(user):
        return f'"{user}" is no user name (expected {MACHINE_FORMS})'
    if rest.startswith("["):
        host, bracket, tail = rest[1:].partition("]")
        if not bracket or not _is_ipv6(host) or (tail and not tail.startswith(":")):
            return f'expected an IPv6 address as in user@[fe80::1]:22, found "{rest}"'
        port = tail[1:] if tail else None
    else:
        if rest.count(":") > 1:
            return f"an IPv6 address stands in brackets: [{rest}]" if _is_ipv6(rest) else _no_machine(text)
        host, colon, number = rest.partition(":")
        port = number if colon else None
        if not _HOSTNAME.match(host):
            return _no_machine(text)
        if host == "local":
            return "local is this machine, without user or port; SSH to it is written user@localhost"
    if port is not None and not (re.match(r"[0-9]{1,5}\Z", port) and 0 < int(port) < 65536):
        return f'"{port}" is no port (1 to 65535)'
    return Machine(host, user if at else None, int(port) if port is not None else None)


def _no_machine(text: str) -> str:
    return f'expected {MACHINE_FORMS}, found "{text[:60]}"'


def _is_ipv6(text: str) -> bool:
    import ipaddress

    try:
        ipaddress.IPv6Address(text)
    except ValueError:
        return False
    return True


def _read_machine(node: Node, place: Place, report: Report) -> Machine | None:
    text = scalar(node, place, report, MACHINE_FORMS)
    if text is None:
        return None
    machine = parse_machine(text)
    if isinstance(machine, str):
        hint = "parameters are replaced in commands, env and paths only; a variant may set the machine"
        report.add(place, machine, hint if "{" in text else "")
        return None
    return machine


MACHINE = Kind(MACHINE_FORMS, _read_machine, {"type": "string", "minLength": 1})
