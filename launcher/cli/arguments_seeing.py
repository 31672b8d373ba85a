"""The arguments of the commands that look: status, logs, attach, mon."""

from __future__ import annotations

import argparse
from collections.abc import Callable

WATCH_S = 2.0
ALL = 1_000_000_000
"""Lines: of `-n all`."""


def add(command: Callable[[str, str], argparse.ArgumentParser]) -> None:
    """Adds them to the command line."""
    status = command("status", "show what runs: hosts and processes")
    _names(status, "*", "a host or process; default: all of the inventory, and what else of ours runs there")
    status.add_argument(
        "--tree", action="store_true", help="what each process consists of, with CPU and memory"
    )
    status.add_argument("--json", action="store_true", help="machine-readable")
    status.add_argument(
        "--watch", nargs="?", type=_period, const=WATCH_S, metavar="SECONDS",
        help="again and again, until Ctrl-C (every 2 s)",
    )  # fmt: skip

    logs = command("logs", "show the logs of hosts and processes, also after they died")
    _names(logs, "+", "a host or process; several are shown with their names before each line")
    logs.add_argument(
        "-f",
        "--follow",
        action="store_true",
        help="wait for new lines, through restarts and lost connections",
    )
    logs.add_argument(
        "-n",
        "--lines",
        type=_line_count,
        metavar="N",
        help="the last N lines (200; with --since all), or `all`",
    )
    logs.add_argument(
        "--since", metavar="TIME", help="of processes: what was printed since then: 10m (ago), 14:30, "
        "2026-01-31 14:30 (to about 3 s)",
    )  # fmt: skip
    logs.add_argument("--grep", metavar="RE", help="only lines in which this regular expression is found")
    logs.add_argument(
        "--run", type=_run_number, default=0, metavar="N", help="of the N-th last finished run (1: the last)"
    )
    logs.add_argument("--runs", action="store_true", help="list the runs of which there are logs")

    attach = command("attach", "show the window of a process or host, and type into it (leave: Ctrl-B D)")
    attach.add_argument("name", metavar="NAME")
    attach.add_argument("--bare", action="store_true", help=argparse.SUPPRESS)

    mon = command("mon", "all running processes at once, a pane for each (leave: Ctrl-B D)")
    _names(mon, "*", "a process; default: all of the inventory that run")
    mon.add_argument("--detach", action="store_true", help="do not show it, only say how to attach")


def _names(command: argparse.ArgumentParser, number: str, text: str) -> None:
    command.add_argument("host", nargs=number, metavar="NAME", help=text)


def _period(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0
    if not 0.1 <= seconds <= 3600:
        raise argparse.ArgumentTypeError(f"expected seconds, 0.1 or more, found {text!r}")
    return seconds


def _run_number(text: str) -> int:
    if not (text.isascii() and text.isdecimal() and int(text) > 0):
        raise argparse.ArgumentTypeError(f"expected a number from 1 (the last finished run), found {text!r}")
    return int(text)


def _line_count(text: str) -> int:
    if text == "all":
        return ALL
    if not (text.isascii() and text.isdecimal()):
        raise argparse.ArgumentTypeError(f"expected a number, 0 or more, or `all`, found {text!r}")
    return int(text)
