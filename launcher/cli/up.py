"""`se-remote up`: start the servers of hosts, side by side, and keep them up."""

from __future__ import annotations

import argparse
import time
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor

from launcher import plan, servers
from launcher.cli.extend import stays_text
from launcher.cli.output import Output, StageProgress
from launcher.cli.selection import select
from launcher.errors import LauncherError, NotReady, StartFailed
from launcher.lease import Launcher, Lease
from launcher.model import Event, Stage, State


def run(args: argparse.Namespace) -> int:
    """Brings every host up; the worst exit code of them. What is up stays up, also when others fail."""
    output = Output(inventory=args.inventory)
    selection = select(args)
    specs = selection.hosts(args.host)
    began = time.monotonic()
    with StageProgress(output, [spec.name for spec in specs]) as progress:
        launcher = Launcher(
            selection.inventory,
            environ=selection.environ,
            settings=selection.settings,
            ask=output.asking(selection.ask),
            on_event=progress.on_event,
            what="se-remote up",
            keep=True,
            keep_for=args.keep_for,
        )
        greetings: dict[str, Future[LauncherError | None]] = {}

        def greet(lease: Lease) -> None:
            """In the launcher's thread, as soon as that host is there: nobody waits for the slowest."""
            greetings[lease.host.name] = pool.submit(_greet, lease, args.keep_for, progress, began)

        try:
            with ThreadPoolExecutor(max(1, len(specs))) as pool:
                outcomes = launcher.open_each(specs, on_open=greet)
        finally:
            launcher.close()
    results = {
        name: outcome if isinstance(outcome, LauncherError) else greetings[name].result()
        for name, outcome in outcomes.items()
    }
    return _report(output, results)


def _greet(lease: Lease, keep_for: float, progress: StageProgress, began: float) -> LauncherError | None:
    """Only the server's own answer counts as ready; it also learns that it is to stay up."""
    spec = lease.host
    progress.on_event(Event(time.monotonic(), spec.name, Stage.HELLO, State.RUNNING, State.RUNNING))
    try:
        answer = servers.keep(lease, keep_for)
    except LauncherError as error:
        return error
    progress.on_event(Event(time.monotonic(), spec.name, Stage.HELLO, State.RUNNING, State.READY))
    stays = stays_text(spec.name, keep_for, answer.get("left"))
    progress.done(spec.name, _ready_text(lease, time.monotonic() - began))
    progress.done(spec.name, f"stays up {stays}")
    skew = plan.skew(spec.name, lease.server)
    if skew:
        progress.tell(spec.name, skew, "warning")
    return None


def _ready_text(lease: Lease, seconds: float) -> str:
    server = lease.server
    how = "ready" if lease.started else "was up already"
    facts = f"se-remote {server.get('version')}, python {server.get('python')}, pid {server.get('pid')}"
    return f"{how} after {seconds:.2f} s  ({facts})"


def _report(output: Output, results: Mapping[str, LauncherError | None]) -> int:
    errors = [error for error in results.values() if error is not None]
    for error in dict.fromkeys(errors):  # several hosts may have failed by the same thing
        output.error(error)
        if isinstance(error, NotReady) or (isinstance(error, StartFailed) and error.began):
            output.say(f"  what is left of it stays to be looked at, until: se-remote kill {error.host}")
    output.left(tuple(dict.fromkeys(name for error in errors for name in error.running)))
    return max((error.exit_code for error in errors), default=0)
