"""Who this client is, as it says in `hello`.

`driver` makes several processes one client to a host that is exclusive: each process has its own, unless
`se-remote with` has started it and passes its own on by the environment.
"""

from __future__ import annotations

import functools
import getpass
import os
import socket
import uuid
from collections.abc import Mapping
from typing import Any, Final

DRIVER: Final = "SE_REMOTE_DRIVER"


def user() -> str:
    """The account's name; its number where it has none (a container's arbitrary uid)."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return str(os.getuid())


def client_info(what: str, version: str, environ: Mapping[str, str], client_id: str = "") -> dict[str, Any]:
    """The `client` of a hello. what: the scenario or command. client_id: the lease's, if there is one."""
    return {
        "version": version,
        "user": user(),
        "machine": socket.gethostname(),
        "pid": os.getpid(),
        "what": what,
        "id": client_id,
        "driver": environ.get(DRIVER) or driver_of(os.getpid()),
    }


@functools.lru_cache(maxsize=8)
def driver_of(pid: int) -> str:
    """This process's own; by its pid, for a fork is a client of its own."""
    return uuid.uuid4().hex
