"""`se-remote kill`: stop servers and verify that they are gone."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from launcher import servers
from launcher.cli.output import Output
from launcher.cli.selection import select
from launcher.errors import LauncherError
from launcher.model import HostSpec
from launcher.plan import SILENT, UNSAFE, Stopped, is_machine

if TYPE_CHECKING:
    from launcher.lease import Launcher

_DONE = {
    "none": "was not running",
    "dead": "had died; cleaned up",
    "graceful": "stopped",
    "killed": "stopped by KILL: it did not react to TERM",
}


def run(args: argparse.Namespace) -> int:
    """Stops every named host, all side by side; the worst exit code of them."""
    from launcher.lease import Launcher

    output = Output()
    selection = select(args)
    specs = selection.all_hosts() if args.all else selection.hosts(args.host)
    launcher = Launcher(selection.inventory, environ=selection.environ, ask=selection.ask)
    try:
        found = _found(launcher, specs, args.all)
        with ThreadPoolExecutor(max(1, len(found))) as pool:
            outcomes = list(pool.map(lambda one: _stop(launcher, one[0], one[1], args.force), found))
    finally:
        launcher.close()
    reports = zip(found, outcomes, strict=True)
    return max((_report(output, spec, done) for (spec, _), done in reports), default=0)


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


def _report(output: Output, spec: HostSpec, done: Stopped | LauncherError) -> int:
    if isinstance(done, LauncherError):
        output.error(done)
        return done.exit_code
    if done.silent:
        output.say(f"{spec.name}: {SILENT}", "warning")
    if done.how == "used":
        output.say(f"{spec.name}: left running, in use by {'; '.join(done.users)}", "warning")
        output.say(f"  try: se-remote kill {spec.name} --force")
        return 1
    for line in done.on_stop:
        output.say(f"[{spec.name}] {line}", "error" if UNSAFE in line else "")
    if done.left:
        output.say(f"{spec.name}: still there after KILL: {', '.join(done.left)}", "error")
        return 1
    ended = f"; that ended the session of {'; '.join(done.users)}" if done.users else ""
    output.result(f"{spec.name}: {_DONE[done.how]}{ended}")
    return 1 if done.unsafe else 0
