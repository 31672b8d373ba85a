"""A first inventory, with comments: written from hosts of ~/.ssh/config and what a person said. Pure.

Nothing of ~/.ssh/config is repeated: a machine that has a `Host` there is named by that, so user, address,
port, key and jump stay where they are.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

SCHEMA_FILE = "se-remote.schema.json"
SCHEMA_LINE = f"# yaml-language-server: $schema={SCHEMA_FILE}"
"""What has an editor use the schema beside the file."""

_MARK = re.compile(r"^#\s*yaml-language-server:\s*\$schema=", re.MULTILINE)
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*")
_TAKEN = ("local", "localhost")


@dataclass(frozen=True)
class Known:
    """A `Host` of ~/.ssh/config that is one machine."""

    alias: str
    address: str = ""
    """`user@hostname:port` as far as it says; for a comment."""


@dataclass(frozen=True)
class Entry:
    """A host to be written."""

    name: str
    machine: str
    python: str = ""
    remark: str = ""


def known_hosts(texts: Iterable[str]) -> list[Known]:
    """The machines that ssh configurations name: `Host` lines without patterns, each once.

    One whose name holds a space can be no machine of an inventory, and is left out.
    """
    found: dict[str, dict[str, str]] = {}
    current: list[dict[str, str]] = []
    for text in texts:
        current = []
        for line in text.splitlines():
            match = re.match(r"\s*([A-Za-z]+)(?:\s*=\s*|\s+)(.*?)\s*$", line)
            if match is None:
                continue
            keyword, value = match.group(1).lower(), match.group(2)
            if keyword == "host":
                names = [name for name in _words(value) if not re.search(r"[*?!\s]", name)]
                current = [found.setdefault(name, {}) for name in names]
            elif keyword == "match":
                current = []
            else:
                for options in current:
                    options.setdefault(keyword, value.strip('"'))
    return [Known(name, _address(options)) for name, options in found.items()]


def included(text: str) -> list[str]:
    """The patterns of its `Include` lines."""
    lines = re.findall(r"^\s*include(?:\s*=\s*|\s+)(.+?)\s*$", text, re.MULTILINE | re.IGNORECASE)
    return [pattern for line in lines for pattern in _words(line)]


def _words(text: str) -> list[str]:
    """Words of a line, of which those in quotes may hold spaces."""
    return [quoted or plain for quoted, plain in re.findall(r'"([^"]*)"|([^\s"]+)', text)]


def _address(options: Mapping[str, str]) -> str:
    host = options.get("hostname", "")
    if not host:
        return ""
    user, port = options.get("user", ""), options.get("port", "22")
    return (f"{user}@" if user else "") + host + (f":{port}" if port != "22" else "")


def name_for(machine: str, taken: Collection[str]) -> str:
    """A host's name for a machine: letters, digits, `-` and `_`, and nobody else's."""
    plain = machine.rpartition("@")[2].partition(":")[0] if not machine.startswith("[") else machine
    name = re.sub(r"[^A-Za-z0-9_-]+", "-", plain).strip("-_") or "host"
    number, unique = 1, name
    while unique in taken or unique in _TAKEN:
        number += 1
        unique = f"{name}-{number}"
    return unique


def is_name(text: str) -> bool:
    """Whether a host may be called so."""
    return _NAME.fullmatch(text) is not None and text not in _TAKEN


def render(entries: Sequence[Entry]) -> str:
    """The inventory as text."""
    lines = [
        SCHEMA_LINE,
        '# Machines that scenarios use: remote("NAME"). Every key: docs/inventory.md',
        "# Check it:     se-remote inventory check",
        "# Try a host:   se-remote doctor NAME",
        "# A machine without se-remote:   se-remote provision NAME",
        "",
        "hosts:",
    ]
    for number, entry in enumerate(entries):
        lines += _entry(entry, explained=number == 0)
    first = entries[0].name if entries else "lab-pc"
    if not entries:
        lines[-1] = "hosts: {}"
        lines += ["#  lab-pc:", "#    machine: robot@lab-pc.example"]
    lines += [
        "",
        "# processes:                          # commands that run there, in tmux",
        "#   simulator:",
        "#     cmd: gz sim world.sdf",
        f"#     host: {first}",
    ]
    return "\n".join(lines) + "\n"


def _entry(entry: Entry, explained: bool) -> list[str]:
    """Its lines; the first one has the keys that one is likely to want, as comments."""
    remark = f"   # {entry.remark}" if entry.remark else ""
    lines = [f"  {entry.name}:", f"    machine: {_yaml(entry.machine)}{remark}"]
    if entry.python:
        lines.append(f"    python: {_yaml(entry.python)}")
    elif explained:
        lines.append(
            "    # python: ~/venvs/se/bin/python            # the one that has se-remote, if not python3"
        )
    if explained:
        lines += [
            "    # setup: source /opt/ros/jazzy/setup.bash  # before the server starts, in the same shell",
            '    # env: {ROS_DOMAIN_ID: "7"}',
            "    # exclusive: true                          # it is one robot: one client at a time",
            "    # on_stop: ./stop_motors.sh                # brings it into a safe state",
            "    # push: scenario                           # send the scenario's folder there",
        ]
    return lines


def _yaml(text: str) -> str:
    """As a YAML scalar."""
    return text if re.fullmatch(r"[A-Za-z0-9~/][A-Za-z0-9@._~/-]*(:\d+)?", text) else json.dumps(text)


def with_schema(text: str) -> str:
    """The inventory with the line that names its schema; as it is when it has one."""
    return text if _MARK.search(text) else f"{SCHEMA_LINE}\n{text}"
