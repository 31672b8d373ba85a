"""`se-remote extend`: keep servers up for longer that are up."""

from __future__ import annotations

import argparse
from concurrent.futures import ThreadPoolExecutor

from launcher import servers
from launcher.cli.output import Output
from launcher.cli.selection import select
from launcher.durations import time_text
from launcher.errors import LauncherError
from launcher.lease import Launcher, Lease


def run(args: argparse.Namespace) -> int:
    """Extends every named host, all side by side; the worst exit code of them."""
    output = Output(inventory=args.inventory)
    selection = select(args)
    specs = selection.hosts(args.host)
    launcher = Launcher(selection.inventory, environ=selection.environ, ask=selection.ask)
    try:
        found = launcher.attach(specs)
        with ThreadPoolExecutor(max(1, len(found))) as pool:
            outcomes = list(pool.map(lambda lease: _extend(lease, args.keep_for), found.values()))
    finally:
        launcher.close()
    for name, outcome in zip(found, outcomes, strict=True):
        if isinstance(outcome, LauncherError):
            output.error(outcome)
        else:
            output.result(output.typed(f"{name}: stays up {outcome}"))
    return max((o.exit_code for o in outcomes if isinstance(o, LauncherError)), default=0)


def _extend(lease: Lease | LauncherError, seconds: float) -> str | LauncherError:
    if isinstance(lease, LauncherError):
        return lease
    try:
        return stays_text(lease.host.name, seconds, servers.keep(lease, seconds).get("left"))
    except LauncherError as error:
        return error


def stays_text(name: str, asked: float, left: object) -> str:
    """For how long a server stays up now. asked, left: seconds; `asked` 0 and `left` None: until killed."""
    if not isinstance(left, (int, float)):
        before = "" if not asked else " (it was to stay until then before)"
        return f"until: se-remote kill {name}{before}"
    longer = asked and left > asked + 60
    before = f" (it was kept for longer than {time_text(asked)} before)" if longer else ""
    return f"for {time_text(left)}{before}, or until: se-remote kill {name}"
