"""What of this machine's files a host is to see: the keys `push` and `path_map`.

push: scenario                              the folder of the .osc file
push: [scenario, ../maps, {from: ~/nav, to: navigation}]
path_map: {/home/me/ws: /home/robot/ws}     absolute paths here: what they are called there
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from launcher.inventory.kinds import Key, Kind, Text, found, is_null, item_place, read_keys, scalar, text_kind
from launcher.inventory.report import Place, Report
from launcher.inventory.yamlnodes import Mapping as MappingNode
from launcher.inventory.yamlnodes import Node, Sequence

SCENARIO: Final = "scenario"
_EXPECTED: Final = "scenario, a path of a folder, {from: PATH, to: NAME}, or a list of these"
_FOLDER: Final = text_kind("a path of a folder on this machine", one_line=True, empty=False)
_FILE_NAME: Final = re.compile(r"(?!\.{1,2}\Z)[^/\x00-\x1f\x7f{}]{1,200}\Z")
_ABSOLUTE: Final = re.compile(r"(/|~(/|\Z))")
_PATHS: Final = "absolute paths here as keys, absolute paths there as values"


@dataclass(frozen=True)
class PushEntry:
    """One folder of `push`; `folder` None: the scenario's."""

    folder: Text | None
    to: str
    place: Place


def _read_name(node: Node, place: Place, report: Report) -> str | None:
    text = scalar(node, place, report, "the name of a folder, without /")
    if text is not None and not _FILE_NAME.match(text):
        report.add(place, f"expected the name of a folder, without /, {found(node)}")
        return None
    return text


FROM_TO: Final[Mapping[str, Key]] = {
    "from": Key("from", _FOLDER, "The folder, here.", required=True),
    "to": Key("to", Kind("a name", _read_name, {"type": "string", "minLength": 1}), "Its name there."),
}


def _read_entry(node: Node, place: Place, report: Report) -> PushEntry | None:
    name = ""
    if isinstance(node, MappingNode):
        fields = read_keys(node, place, report, FROM_TO)
        if fields is None or "from" not in fields:
            return None
        text: Text = fields["from"].value
        name = fields["to"].value if "to" in fields else ""
    else:
        read = scalar(node, place, report, _EXPECTED)
        if read is None:
            return None
        if not read.strip() or not read.isprintable():
            report.add(place, f"expected {_EXPECTED}, {found(node)}")
            return None
        text = Text(read, place)
    return PushEntry(None if text.value == SCENARIO else text, name, place)


def _read_push(node: Node, place: Place, report: Report) -> tuple[PushEntry, ...] | None:
    if is_null(node):
        return ()
    nodes = (
        [(item_place(place, index, child), child) for index, child in enumerate(node.items)]
        if isinstance(node, Sequence)
        else [(place, node)]
    )
    entries: list[PushEntry] = []
    for here, child in nodes:
        entry = _read_entry(child, here, report)
        if entry is None:
            continue
        if any(_same(entry, other) for other in entries):
            report.add(here, "this folder is in the list already")
        entries.append(entry)
    return tuple(entries)


def _same(one: PushEntry, other: PushEntry) -> bool:
    if one.folder is None or other.folder is None:
        return one.folder is other.folder
    return one.folder.value == other.folder.value


def _read_path_map(node: Node, place: Place, report: Report) -> dict[str, Any] | None:
    if is_null(node):
        return {}
    if not isinstance(node, MappingNode):
        report.add(place, f"expected a mapping with {_PATHS}, {found(node)}")
        return None
    values: dict[str, Any] = {}
    for name, (line, child) in node.items.items():
        here = (place / name).at(line)
        path = name.rstrip("/")
        if not _ABSOLUTE.match(name) or not name.isprintable():
            report.add(here, f'"{name}" is no absolute path', "the keys are paths on this machine: /… or ~/…")
            continue
        if not path:
            report.add(here, "everything cannot be mapped", "name a folder, such as /home/me/ws")
            continue
        if path in values:
            report.add(here, f'"{path}" is in here already')
        text = scalar(child, here, report, "an absolute path on the host")
        if text is None:
            continue
        if not (_ABSOLUTE.match(text) or text.startswith("{")) or not text.isprintable():
            report.add(
                here, f"expected an absolute path on the host, {found(child)}", "such as /home/robot/ws"
            )
            continue
        values[path] = Text(text, here)
    return values


_FOLDER_SCHEMA: Final[Mapping[str, Any]] = {"type": "string", "minLength": 1}
_ENTRY_SCHEMA: Final[Mapping[str, Any]] = {
    "anyOf": [
        _FOLDER_SCHEMA,
        {
            "type": "object",
            "properties": {key.name: {**key.kind.schema, "description": key.doc} for key in FROM_TO.values()},
            "required": ["from"],
            "additionalProperties": False,
        },
    ]
}
PUSH: Final = Kind(
    _EXPECTED,
    _read_push,
    {"anyOf": [*_ENTRY_SCHEMA["anyOf"], {"type": ["array", "null"], "items": _ENTRY_SCHEMA}]},
)
PATH_MAP: Final = Kind(
    _PATHS,
    _read_path_map,
    {
        "type": ["object", "null"],
        "propertyNames": {"pattern": r"^(~|~/.*|/.*[^/].*)$"},
        "additionalProperties": {"type": "string", "pattern": r"^(/|~(/|$)|\{)"},
    },
)
