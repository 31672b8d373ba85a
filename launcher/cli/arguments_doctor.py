"""The arguments of `se-remote doctor`, `init` and `completion`."""

from __future__ import annotations

import argparse
from collections.abc import Callable


def add(command: Callable[[str, str], argparse.ArgumentParser]) -> None:
    """Adds the commands; `command(name, text)` makes a parser with the options that all commands share."""
    doctor = command("doctor", "look for what is wrong with hosts, and say what cures it")
    doctor.add_argument("host", nargs="*", metavar="HOST", help="default: all of the inventory")
    doctor.add_argument("--json", action="store_true", help="machine-readable")
    doctor.add_argument(
        "--no-start", action="store_true", help="only look: start no server on trial, no stopped container"
    )
