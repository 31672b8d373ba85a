"""The processes in `se-remote status`: rows, trees, JSON."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from launcher.cli.output import Output, age, fitted, size, table
from launcher.model import State
from launcher.processes.model import Node, Seen
from launcher.processes.viewing import View

_HEADER = ("PROCESS", "MACHINE", "STATE", "SINCE", "PID", "STARTED BY")
_TREE_HEADER = "    CPU %   MEMORY      PID  COMMAND"


def render(views: Sequence[View], output: Output, now: float, *, trees: bool) -> str:
    """The table; below a process why it is as it is, what it has left, its tree. `now`: epoch."""
    rows = [_row(view, output, now) for view in views]
    lines = table(*fitted(_HEADER, rows, output.width, ("PID", "SINCE"))).splitlines()
    text = [lines[0]]
    for view, line in zip(views, lines[1:], strict=True):
        text.append(line)
        text += [f"    {output.typed(part)}" for part in _remarks(view)]
        if trees and view.tree:
            text += [_TREE_HEADER, *branches(view.tree)]
    return "\n".join(text)


def _row(view: View, output: Output, now: float) -> list[str]:
    seen, subject = view.seen, view.subject
    there = seen.state not in (State.STOPPED, State.UNREACHABLE)
    machine = str(subject.place.machine)
    if seen.container:
        machine += f", in {_box(seen)}"
    lives = there and seen.state is not State.DEAD
    by = f"{seen.started_by}: {seen.what}" if seen.what else seen.started_by
    return [
        subject.name, machine, output.state(seen.state),
        age(now - seen.since) if lives and seen.since is not None else "-",
        str(seen.pid) if seen.pid is not None else "-",
        (f"{by}, for as long as it lives" if seen.lease else by) or "-",
    ]  # fmt: skip


def _box(seen: Seen) -> str:
    """The container's name, "" without one."""
    return [*seen.container.split(" "), "", ""][2]


def _remarks(view: View) -> Iterator[str]:
    seen = view.seen
    yield from seen.reason.splitlines()
    for line in seen.left:
        yield f"still running: pid {line}"
    if seen.left:
        yield f"ended by: se-remote kill {quoted(view.subject.name)}"
    if seen.state is State.DEAD:
        yield f"its output: se-remote logs {quoted(view.subject.name)}"


def branches(nodes: Iterable[Node], before: str = "") -> Iterator[str]:
    """A tree's lines, with what each of it uses."""
    nodes = list(nodes)
    for number, node in enumerate(nodes):
        last = number == len(nodes) - 1
        mark = "" if not before and len(nodes) == 1 else "└─ " if last else "├─ "
        used = f"{node.cpu * 100:9.1f}  {size(node.rss):>7}  {node.pid:7d}"
        yield f"{used}  {before}{mark}{printable(node.command)}"
        below = before + ("" if not mark else "   " if last else "│  ")
        yield from branches(node.children, below or " ")


def as_json(view: View, *, trees: bool) -> dict[str, Any]:
    """One process's entry of `--json`; times are epoch seconds of its machine."""
    seen = view.seen
    entry: dict[str, Any] = {
        "process": view.subject.name, "session": seen.key.session, "machine": str(view.subject.place.machine),
        "container": _box(seen) or None, "state": seen.state.value,
        "reason": seen.reason, "since": seen.since, "pid": seen.pid, "code": seen.code,
        "signal": seen.signal, "started_by": seen.started_by or None, "what": seen.what or None,
        "leased": bool(seen.lease), "left": list(seen.left),
    }  # fmt: skip
    if trees:
        entry["tree"] = [_node(node) for node in view.tree]
    return entry


def _node(node: Node) -> dict[str, Any]:
    return {
        "pid": node.pid, "command": node.command, "cpu": round(node.cpu, 4), "memory": node.rss,
        "children": [_node(child) for child in node.children],
    }  # fmt: skip


def quoted(name: str) -> str:
    """As it is typed on a command line."""
    from launcher.command import quote

    return quote([name])


def printable(text: str) -> str:
    """Without what would move a terminal's cursor."""
    return "".join(char if char.isprintable() else " " for char in text)
