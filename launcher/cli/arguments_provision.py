"""The command line of `se-remote provision`. Imports nothing: it is there for every command's start."""

from __future__ import annotations

import argparse
from collections.abc import Callable


def add(command: Callable[[str, str], argparse.ArgumentParser]) -> None:
    """Adds the command."""
    provision = command("provision", "put the server and action packages on machines that have only python3")
    provision.add_argument("host", nargs="+", metavar="HOST")
    provision.add_argument(
        "--with", dest="packages", action="append", nargs="+", default=[], metavar="PACKAGE",
        help="beside the server and what the inventory lists: a name (numpy, my-actions==1.4), a folder with "
        "a pyproject.toml (./my_actions), a wheel. What was named before stays",
    )  # fmt: skip
    provision.add_argument(
        "--only", action="store_true", help="without what was named by --with before and is not named now",
    )  # fmt: skip
    provision.add_argument(
        "--python", default="", metavar="PYTHON", help="the interpreter there that it is made with "
        "(default: `python` of the inventory, else python3)",
    )  # fmt: skip
