"""`se-remote status`: what runs where, hosts and processes. One exec of each per machine, all in parallel."""

from __future__ import annotations

import argparse
import contextlib
import json
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from launcher.cli import status_processes
from launcher.cli.output import Output, age, fitted, table
from launcher.cli.selection import Selection, select_standing
from launcher.durations import time_text
from launcher.model import HostSpec, Problem, State
from launcher.plan import HostStatus, is_machine, user_text
from launcher.processes import viewing
from launcher.processes.viewing import Place, Subject, View
from launcher.wrapper import exclusive_resource

if TYPE_CHECKING:
    from launcher.lease import Launcher

_HEADER = ("HOST", "MACHINE", "STATE", "SINCE", "PID", "VERSION", "SESSIONS", "STAYS", "STARTED BY")
_SPARE = ("VERSION", "PID", "SESSIONS", "SINCE", "STAYS")
"""Columns that a narrow terminal does without, the first one first."""


def run(args: argparse.Namespace) -> int:
    """Prints the picture, with `--watch` again and again; 3 if a machine could not be reached, else 0."""
    from launcher.lease import Launcher

    output = Output(inventory=args.inventory)
    selection = select_standing(args, output)
    asked = _asked(selection, args.host)
    for problem in asked.problems:
        output.say(f"warning: {problem}", "warning")
    launcher = Launcher(selection.inventory, environ=selection.environ, ask=selection.ask)
    try:
        if args.watch is None:
            seen = _look(launcher, asked, args.tree)
            output.result(_text(seen, output, args, 2))
            return 3 if seen.unreachable else 2 if asked.partial else 0
        _watch(launcher, asked, args, output)
        return 0
    finally:
        launcher.close()


@dataclass(frozen=True)
class _Asked:
    """What is to be shown."""

    hosts: Sequence[HostSpec]
    subjects: Sequence[Subject]
    everything_on: Sequence[Place]
    """Machines of which more is shown than `subjects`."""
    sessions: frozenset[str] | None = None
    """Of which everything is shown there; None: of all."""
    problems: Sequence[Problem] = ()
    """Why something that was to be shown is not."""
    partial: bool = False
    """Not all of the inventory is shown, since what it says of some of it is wrong."""


@dataclass(frozen=True)
class _Seen:
    hosts: Sequence[tuple[HostSpec, HostStatus]]
    views: Sequence[View]

    @property
    def unreachable(self) -> bool:
        states = [status.state for _, status in self.hosts] + [view.seen.state for view in self.views]
        return State.UNREACHABLE in states


def _asked(selection: Selection, names: Sequence[str]) -> _Asked:
    if names:
        hosts, found = selection.mixed(names)
        subjects = [Subject.of(name, spec) for name, spec in found.items()]
        return _Asked(hosts, subjects, [Place(host.machine, host.ssh) for host in hosts if is_machine(host)])
    hosts, found, problems = selection.everything()
    subjects = [Subject.of(name, spec) for name, spec in found.items()]
    places = list(dict.fromkeys(subject.place for subject in subjects))
    sessions = frozenset(subject.key.session for subject in subjects)
    return _Asked(hosts, subjects, places, sessions, problems, bool(problems or selection.left_out))


def _look(launcher: Launcher, asked: _Asked, trees: bool) -> _Seen:
    with ThreadPoolExecutor(1) as pool:
        hosts = pool.submit(launcher.survey, asked.hosts)
        views: list[View] = []
        if asked.subjects or asked.everything_on:
            views = launcher.on_machines(
                lambda reach: viewing.survey(
                    reach,
                    asked.subjects,
                    everything_on=asked.everything_on,
                    sessions=asked.sessions,
                    trees=trees,
                )
            )
        hidden = {str(host.machine) for host, status in hosts.result() if status.error is not None}
        # of a machine that cannot be reached one line is enough
        views = [view for view in views if view.subject in asked.subjects or view.error is None
                 or str(view.subject.place.machine) not in hidden]  # fmt: skip
        return _Seen(hosts.result(), views)


def _text(seen: _Seen, output: Output, args: argparse.Namespace, indent: int | None) -> str:
    if args.json:
        hosts = [as_json(spec, status) for spec, status in seen.hosts]
        processes = [status_processes.as_json(view, trees=args.tree) for view in seen.views]
        return json.dumps([*hosts, *processes], indent=indent)
    now = time.time()
    parts = [render(seen.hosts, output, now)] if seen.hosts or not seen.views else []
    if seen.views:
        parts.append(status_processes.render(seen.views, output, now, trees=args.tree))
    return "\n\n".join(parts)


def _watch(launcher: Launcher, asked: _Asked, args: argparse.Namespace, output: Output) -> None:
    """Until Ctrl-C, which is how one leaves it."""
    with contextlib.suppress(KeyboardInterrupt), output.screen() as show:
        while True:
            began = time.monotonic()
            text = _text(_look(launcher, asked, args.tree), output, args, None)
            show(text)
            time.sleep(max(0.05, args.watch - (time.monotonic() - began)))


def as_json(spec: HostSpec, status: HostStatus) -> dict[str, Any]:
    """One host's entry of `--json`; times are epoch seconds."""
    endpoint = status.endpoint
    return {
        "host": spec.name,
        "machine": str(spec.machine),
        "state": status.state.value,
        "reason": status.reason,
        "since": endpoint.get("since"),
        "pid": endpoint.get("pid"),
        "version": endpoint.get("version"),
        "python": endpoint.get("python"),
        "started_by": endpoint.get("started_by"),
        "what": endpoint.get("what"),
        "kept": status.kept,
        "kept_until": status.server_state.get("kept_until"),
        "exclusive": status.server_state.get("exclusive"),
        "sessions": list(_sessions(status)),
    }


def render(statuses: Sequence[tuple[HostSpec, HostStatus]], output: Output, now: float) -> str:
    """The table, with a line per session and its actions below the hosts that have any. `now`: epoch."""
    if not statuses:
        return "no hosts; write an inventory (docs/inventory.md) or name user@machine"
    rows = [_row(spec, status, output, now) for spec, status in statuses]
    lines = table(*fitted(_HEADER, rows, output.width, _SPARE)).splitlines()
    text = [lines[0]]
    for (spec, status), line in zip(statuses, lines[1:], strict=True):
        text.append(line)
        if status.reason and status.state is not State.READY:
            text += [f"    {part}" for part in output.typed(status.reason).splitlines()]
        text += [f"    {line}" for line in [_exclusive_line(spec, status)] if line]
        text += [f"    {_session_line(session, now)}" for session in _sessions(status)]
    return "\n".join(text)


def _row(spec: HostSpec, status: HostStatus, output: Output, now: float) -> list[str]:
    endpoint = status.endpoint
    alive = status.state in (State.READY, State.RUNNING)
    since = endpoint.get("since")
    sessions = _sessions(status)
    return [
        spec.name,
        str(spec.machine),
        output.state(status.state),
        age(now - since) if alive and isinstance(since, (int, float)) else "-",
        str(endpoint.get("pid", "-")) if alive else "-",
        str(endpoint.get("version", "-")) if alive else "-",
        str(len(sessions)) if alive else "-",
        _stays(status) if alive else "-",
        _started(status) if endpoint else "-",
    ]


def _started(status: HostStatus) -> str:
    by, what = status.endpoint.get("started_by", "?"), status.endpoint.get("what", "")
    return f"{by}: {what}" if what else str(by)


def _exclusive_line(spec: HostSpec, status: HostStatus) -> str:
    """Who has what is exclusive on the host; "" when nobody does, or nothing is."""
    seen = status.server_state.get("exclusive")
    holder = seen.get("holder") if isinstance(seen, dict) else None
    resource = exclusive_resource(spec)
    if isinstance(holder, dict):
        since = holder.get("since")
        ago = ""
        if isinstance(since, (int, float)) and status.clock is not None:
            ago = f", for {age(status.clock - since)}"
        return f"exclusive: held by {user_text({'client': holder})}{ago}"
    if resource and resource in status.held:
        return "exclusive: held through another host or account of that machine; a run says by whom"
    return ""


def _stays(status: HostStatus) -> str:
    """For how long it stays up, at least; a session in use counts as use."""
    if not status.kept:
        return "while used"
    left = status.kept_left
    return "until killed" if left is None else time_text(left)


def _sessions(status: HostStatus) -> Sequence[Mapping[str, Any]]:
    """The sessions, without those that only hold the server up for another one of the same client."""
    found = status.server_state.get("sessions")
    sessions = [s for s in found if isinstance(s, dict)] if isinstance(found, list) else []
    busy = [s.get("client") for s in sessions if s.get("actions")]
    return [s for s in sessions if s.get("actions") or s.get("client") not in busy]


def _session_line(session: Mapping[str, Any], now: float) -> str:
    since = session.get("since")
    text = user_text(session)
    if isinstance(since, (int, float)):
        text += f", for {age(now - since)}"
    actions = session.get("actions")
    names = [
        f"{a.get('name')} ({a.get('status')})"
        for a in (actions if isinstance(actions, list) else [])
        if isinstance(a, dict)
    ]
    return f"session of {text}" + (": " + ", ".join(names) if names else "")
