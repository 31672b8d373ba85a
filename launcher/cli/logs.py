"""`se-remote logs`: a server's log, also after it died; `-f` outlives a restart and a lost connection."""

from __future__ import annotations

import argparse
import contextlib
import select as waiting
import sys
import threading
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

from launcher.cli.output import Output, size, table
from launcher.cli.selection import select
from launcher.errors import Aborted
from launcher.model import HostSpec

if TYPE_CHECKING:
    from launcher.lease import Launcher
    from launcher.remains import Run

_ENDED = {
    "running": "(it runs)",
    "stopped": "stopped in order",
    "killed": "killed: it did not react to TERM",
    "vanished": "vanished without a word: all its processes were killed, or the machine went down",
}


def run(args: argparse.Namespace) -> int:
    """Prints the log; 1 if there is none."""
    from launcher.lease import Launcher

    output = Output()
    selection = select(args)
    (spec,) = selection.hosts([args.host])
    launcher = Launcher(selection.inventory, environ=selection.environ, ask=selection.ask)
    try:
        if args.follow:
            return _follow(launcher, spec, args.lines, output)
        runs = launcher.runs(spec) if args.runs else ()
        path, text = ("", "") if args.runs else launcher.read_log(spec, args.lines, args.run)
    finally:
        launcher.close()
    if runs:
        output.result(render(runs))
        return 0
    if not path:
        output.say(_none(spec, args.run), "warning")
        return 1
    if text:
        output.result(text)
    return 0


def _none(spec: HostSpec, run: int) -> str:
    if run > 0:
        return f"{spec.name}: there is no log of run {run}; what there is: se-remote logs {spec.name} --runs"
    return f"{spec.name}: no log: no server of that name has run on {spec.machine}, or it was cleaned"


def render(runs: Sequence[Run]) -> str:
    """The listing, the newest first; numbers as `--run` takes them."""
    rows, number = [], 0
    for run in runs:
        number += run.ended != "running"
        word = "-" if run.ended == "running" else str(number)
        rows.append([word, _time(run.began), _time(run.last_line), size(run.size), _ended(run.ended)])
    return table(("RUN", "BEGAN", "LAST LINE", "SIZE", "ENDED"), rows)


def _time(epoch: float | None) -> str:
    return "-" if epoch is None else time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(epoch))


def _ended(how: str) -> str:
    """`server-137` in words: what it was at, and its exit code or signal."""
    stage, _, code = how.rpartition("-")
    if how in _ENDED:
        return _ENDED[how]
    if not stage or not code.isdecimal():
        return how
    reason = f"signal {int(code) - 128}" if int(code) > 128 else f"exit code {code}"
    return f"{'died' if stage == 'server' else f'{stage} failed'}: {reason}"


def _follow(launcher: Launcher, spec: HostSpec, lines: int, output: Output) -> int:
    gone = threading.Event()
    threading.Thread(target=_await_no_reader, args=(gone, launcher), name="reader", daemon=True).start()
    try:
        launcher.follow_log(spec, output.result, lambda remark: output.say(f"[{remark}]", "dim"), lines)
    except Aborted:
        if not gone.is_set():
            raise
    return 1


def _await_no_reader(gone: threading.Event, launcher: Launcher) -> None:
    """A log that is quiet would not notice that nobody reads it any more (`| head -n 1`)."""
    with contextlib.suppress(OSError, ValueError):
        poll = waiting.poll()
        poll.register(sys.stdout.fileno(), 0)
        poll.poll()
        gone.set()
        launcher.abort()
