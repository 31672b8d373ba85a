"""`se-remote kill`: stop processes and servers, dependants first, and verify that they are gone."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from launcher import servers
from launcher.cli.output import Output
from launcher.cli.selection import Selection, select_standing
from launcher.errors import InventoryError, LauncherError, Unreachable
from launcher.inventory import Inventory, Settings
from launcher.model import HostSpec, Problem, State
from launcher.plan import SILENT, UNSAFE, Stopped, is_machine
from launcher.processes import viewing
from launcher.processes.graph import ends_with
from launcher.processes.model import Change

if TYPE_CHECKING:
    from launcher.lease import Launcher

_DONE = {
    "none": "was not running",
    "dead": "had died; cleaned up",
    "graceful": "stopped",
    "killed": "stopped by KILL: it did not react to TERM",
}

_GONE = (State.STOPPED, State.DEAD)


def run(args: argparse.Namespace) -> int:
    """Stops everything that is named, with what depends on it; the worst exit code of them."""
    from launcher.lease import Launcher

    output = Output(inventory=args.inventory)
    selection = select_standing(args, output)
    inventory = selection.inventory or Inventory()
    wrong: list[Problem] = []
    if args.all:
        hosts, processes, wrong = selection.everything()
        wrong += _left_out(selection)
    else:
        hosts, processes = selection.mixed(args.host)
    plain = [spec.name for spec in hosts if spec.name in inventory.hosts()]
    together = {name for names in ends_with(inventory, [*processes, *plain]) for name in names}
    launcher = Launcher(
        selection.inventory,
        environ=selection.environ,
        settings=selection.settings,
        ask=selection.ask,
        what="se-remote kill",
    )
    try:
        code = 0
        rest = hosts
        if together != set(plain):
            code = _take_down(launcher, inventory, selection.settings, [*processes, *plain], args, output)
            rest = [spec for spec in hosts if spec.name not in plain]
        if rest:
            ended = _kill_hosts(launcher, rest, args, output)
            code = max(code, ended)
            if ended < Unreachable.exit_code:
                _name_processes(launcher, [spec for spec in rest if is_machine(spec)], output)
    finally:
        launcher.close()
    if wrong:
        step = "cure that, then: se-remote kill --all\nse-remote kill user@machine, for all servers there"
        output.error(InventoryError(wrong, step))
        code = max(code, InventoryError.exit_code)
    return code


def _left_out(selection: Selection) -> list[Problem]:
    names = ", ".join(selection.left_out)
    return [Problem(f"not looked for, since it is unclear where they are: {names}")] if names else []


def _take_down(
    launcher: Launcher,
    inventory: Inventory,
    settings: Settings,
    names: Sequence[str],
    args: argparse.Namespace,
    output: Output,
) -> int:
    """Processes and hosts that depend on each other."""
    from launcher.takedown import Ended, Takedown, was_running

    codes = [0]

    def say(name: str, ended: Ended) -> None:
        if (
            args.host
            and name not in names
            and not isinstance(ended, LauncherError)
            and not was_running(ended)
        ):
            return  # it would have had to be stopped first
        if isinstance(ended, Change):
            codes.append(_report_process(output, name, ended))
        else:
            codes.append(_report(output, name, ended))

    Takedown(launcher, inventory, settings, names, args.force, say).run()
    return max(codes)


def _report_process(output: Output, name: str, change: Change) -> int:
    from launcher.takedown import was_running

    if change.left:
        output.say(f"{name}: still there after KILL: {', '.join(change.left)}", "error")
        return 1
    if change.state is State.DEAD:
        text = _DONE["dead"]
    elif not was_running(change):
        text = change.reason
    else:
        text = "stopped by KILL" if change.forced else _DONE["graceful"]
    output.result(f"{name}: {text}")
    return 0


def _kill_hosts(
    launcher: Launcher, specs: Sequence[HostSpec], args: argparse.Namespace, output: Output
) -> int:
    """All side by side."""
    found = _found(launcher, specs, args.all)
    with ThreadPoolExecutor(max(1, len(found))) as pool:
        outcomes = list(pool.map(lambda one: _stop(launcher, one[0], one[1], args.force), found))
    reports = zip(found, outcomes, strict=True)
    return max((_report(output, spec.name, done) for (spec, _), done in reports), default=0)


def _name_processes(launcher: Launcher, machines: Sequence[HostSpec], output: Output) -> None:
    """Of machines by themselves only servers are stopped: which processes go on there."""
    places = {viewing.Place(spec.machine, spec.ssh): spec.name for spec in machines}
    if not places:
        return
    views = launcher.on_machines(lambda reach: viewing.survey(reach, [], everything_on=list(places)))
    for place, name in places.items():
        running = [
            view.subject.name
            for view in views
            if view.subject.place == place and view.error is None and view.seen.state not in _GONE
        ]
        if running:
            output.say(f"{name}: processes go on there: {', '.join(running)}", "warning")
            output.say("  try: se-remote kill PROCESS, with the inventory that has them")


def _found(
    launcher: Launcher, named: Sequence[HostSpec], every: bool
) -> list[tuple[HostSpec, LauncherError | None]]:
    """What is to be stopped, and why that cannot be.

    A variant is a host of its own; but a machine by itself means everything that is on it: to be looked up.
    """
    if not every and not any(is_machine(one) for one in named):
        return [(spec, None) for spec in named]
    seen = launcher.survey(named)
    names = [one.name for one in named]
    wanted = [p for p in seen if every or p[0].name in names or any(is_machine(one) for one in named)]
    return [(spec, status.error) for spec, status in wanted]


def _stop(
    launcher: Launcher, spec: HostSpec, error: LauncherError | None, force: bool
) -> Stopped | LauncherError:
    if error is not None:
        return error
    try:
        return servers.stop(launcher, spec, force)
    except LauncherError as failed:
        return failed


def _report(output: Output, name: str, done: Stopped | LauncherError) -> int:
    if isinstance(done, LauncherError):
        output.error(done)
        return done.exit_code
    if done.silent:
        output.say(f"{name}: {SILENT}", "warning")
    if done.how == "used":
        output.say(f"{name}: left running, in use by {'; '.join(done.users)}", "warning")
        output.say(f"  try: se-remote kill {name} --force")
        return 1
    for line in done.on_stop:
        output.say(f"[{name}] {line}", "error" if UNSAFE in line else "")
    if done.left:
        output.say(f"{name}: still there after KILL: {', '.join(done.left)}", "error")
        return 1
    ended = f"; that ended the session of {'; '.join(done.users)}" if done.users else ""
    output.result(f"{name}: {_DONE[done.how]}{ended}")
    return 1 if done.unsafe else 0
