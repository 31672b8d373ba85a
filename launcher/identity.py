"""Who is asking: as machines are told by a bring-up. (What a client says to a server: remote_exec.client.)"""

from __future__ import annotations

import getpass
import os
import socket


def user() -> str:
    """The account's name; its number where it has none (a container's arbitrary uid)."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return str(os.getuid())


def machine() -> str:
    return socket.gethostname()


def who() -> str:
    """`user@machine`."""
    return f"{user()}@{machine()}"
