"""The arguments of `se-remote doctor`, `init` and `completion`."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Any


def add(command: Callable[[str, str], argparse.ArgumentParser]) -> None:
    """Adds the commands; `command(name, text)` makes a parser with the options that all commands share."""
    doctor = command("doctor", "look for what is wrong with hosts, and say what cures it")
    doctor.add_argument(
        "host", nargs="*", metavar="NAME", help="a host or process; default: all of the inventory"
    )
    doctor.add_argument("--json", action="store_true", help="machine-readable")
    doctor.add_argument(
        "--no-start", action="store_true", help="only look: start no server on trial, no stopped container"
    )
    init = command("init", "write an inventory from ~/.ssh/config and your answers")
    init.add_argument(
        "entry", nargs="*", metavar="NAME[=MACHINE]", help="hosts: of ~/.ssh/config, or as in "
        "lab-pc=robot@10.0.0.5 (default: each of ~/.ssh/config is asked for)",
    )  # fmt: skip
    init.add_argument("--python", metavar="PATH", help="the python of the hosts, if it is not python3")
    init.add_argument("--file", metavar="FILE", default="se-remote.yaml", help="default: se-remote.yaml")
    init.add_argument("-y", "--yes", action="store_true", help="ask nothing: all hosts of ~/.ssh/config")


def add_completion(commands: Any) -> None:
    """Adds `completion`, which has no options of its own."""
    text = "print the script for a shell's completion"
    completion = commands.add_parser(
        "completion", help=text, description=f"{text}: eval \"$(se-remote completion bash)\" in "
        "~/.bashrc; zsh and fish: docs/completion.md.",
    )  # fmt: skip
    completion.add_argument("shell", choices=["bash", "zsh", "fish"])
