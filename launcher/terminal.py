"""Questions on the terminal. Whatever ends the program meanwhile, the terminal echoes again afterwards."""

from __future__ import annotations

import atexit
import getpass
import os
import sys
import termios
from collections.abc import Callable


def can_ask() -> bool:
    """Whether there is somebody to ask."""
    return sys.stdin.isatty() and sys.stderr.isatty()


def ask(prompt: str, *, secret: bool) -> str | None:
    """The answer; None when there is none. Called in a thread that Ctrl-C does not end: the exit does."""
    if not can_ask():
        return None
    restore = _keeper()
    atexit.register(restore)
    try:
        return getpass.getpass(prompt, sys.stderr) if secret else _line(prompt)
    except (EOFError, KeyboardInterrupt):
        return None
    finally:
        atexit.unregister(restore)


def _line(prompt: str) -> str | None:
    print(prompt, end="", file=sys.stderr, flush=True)
    return sys.stdin.readline().rstrip("\n")


def _keeper() -> Callable[[], None]:
    """What puts the terminal back as it is now."""
    try:
        terminal = os.open("/dev/tty", os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC)
    except OSError:
        terminal = sys.stdin.fileno()
    before = termios.tcgetattr(terminal)

    def restore() -> None:
        termios.tcsetattr(terminal, termios.TCSANOW, before)
        print(file=sys.stderr)

    return restore
