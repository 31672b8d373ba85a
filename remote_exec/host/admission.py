"""How many sessions a server has room for: in all, and for one client.

A client is who says so (user, machine, pid): these bounds are for programs that forget to end their
sessions, not against somebody who means harm, whom the socket keeps out.
"""

from __future__ import annotations

import resource
from collections.abc import Iterable, Mapping
from typing import Any, Final

MAX_SESSIONS: Final = 1000
MAX_OF_A_CLIENT: Final = 200
WANTED_FILES: Final = 8192
"""Descriptors of the front: two for a session's worker, one or two for a client's connection."""
FILES_OF_A_SESSION: Final = 4


def raise_file_limit() -> None:
    """Of this process alone, as far as it may. What it has forked before keeps the limit it was given."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = WANTED_FILES if hard == resource.RLIM_INFINITY else min(WANTED_FILES, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def most_sessions() -> int:
    """As many as this process has descriptors for."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return MAX_SESSIONS if soft == resource.RLIM_INFINITY else min(MAX_SESSIONS, soft // FILES_OF_A_SESSION)


def refusal(clients: Iterable[Mapping[str, Any]], client: Mapping[str, Any], most: int) -> str:
    """Why `client` gets no session beside those of `clients`; "" when it gets one."""
    open_now = list(clients)
    if len(open_now) >= most:
        return f"{most} sessions are open on this server, which is all it has room for"
    mine = sum(_identity(one) == _identity(client) for one in open_now)
    if mine >= MAX_OF_A_CLIENT:
        return (
            f"this client has {mine} sessions open on this server, which is as many as it may: end some first"
        )
    return ""


def _identity(client: Mapping[str, Any]) -> tuple[Any, Any, Any]:
    return client.get("user"), client.get("machine"), client.get("pid")
