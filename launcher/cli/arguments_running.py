"""The arguments of the commands that start and stop processes: run, restart, kill."""

from __future__ import annotations

import argparse
from collections.abc import Callable


def add(command: Callable[[str, str], argparse.ArgumentParser]) -> None:
    """Adds them to the command line."""
    run = command("run", "start processes with all that they depend on, and wait until they are ready")
    run.add_argument("name", nargs="+", metavar="NAME", help="a process (or host), NAME+VARIANT too")
    run.add_argument(
        "--plan", action="store_true", help="only show the order and the commands; touch nothing"
    )
    run.add_argument(
        "--wait", action="store_true", help="until those named have ended; the exit code is the process's own"
    )
    run.add_argument(
        "--follow", action="store_true", help="show what those named print, until they have ended"
    )
    run.add_argument("--keep", action="store_true", help="Ctrl-C leaves running what was started")

    restart = command("restart", "stop processes and what depends on them, and start them again")
    restart.add_argument("name", nargs="+", metavar="NAME", help="a process or host, NAME+VARIANT too")
    restart.add_argument("--force", action="store_true", help="stop at once, by KILL, whoever uses it")

    kill = command("kill", "stop processes and servers, dependants first, and verify that they are gone")
    kill.add_argument("host", nargs="*", metavar="NAME", help="a process or host")
    kill.add_argument("--all", action="store_true", help="every process and host of the inventory")
    kill.add_argument(
        "--force", action="store_true", help="processes by KILL at once; servers also while someone uses them"
    )
