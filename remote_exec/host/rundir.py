"""The server's files in its run directory, which the bring-up reads.

lock            held by flock for the server's whole life, inherited by what it forks
sock            the socket
pid             "PID START BOOTID", atomically
endpoint.json   written last, atomically: who reads it may connect
state.json      sessions and their actions, atomically, after every change
coming.*        marks of those who are on the way: host/coming.py
ready.*         fifos of those who wait: get "ready\\n"; before it, where one is due, "on_stop\\n"
ask, answer.*   fifos: may the server be stopped? host/asked.py
safe.*          how to bring the machine into its safe state: host/safe_state.py
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from remote_exec.host.settings import Settings

MARKER: Final = "SE_REMOTE_RUN"
"""Environment variable with the run directory: what carries it belongs to its server."""
SESSION_MARKER: Final = "SE_REMOTE_SESSION"
"""With the session's id, in what its actions start."""
FILES: Final = ("sock", "pid", "endpoint.json", "state.json", "ask")


class RunDirError(Exception):
    """The directory cannot be used; a sentence."""


def check(run_dir: str) -> None:
    """Raises RunDirError unless it is a real directory, ours, and nobody else's to read."""
    try:
        info = os.lstat(run_dir)
    except OSError as error:
        raise RunDirError(f"run directory {run_dir}: {error.strerror}") from error
    if not stat.S_ISDIR(info.st_mode):
        raise RunDirError(f"run directory {run_dir} is no directory")
    if info.st_uid != os.getuid():
        raise RunDirError(f"run directory {run_dir} belongs to another user (uid {info.st_uid})")
    if stat.S_IMODE(info.st_mode) & 0o077:
        raise RunDirError(f"run directory {run_dir} is open to others; make it 0700")


def lock(run_dir: str) -> int | None:
    """The descriptor that holds the lock; None when another server holds it. Raises RunDirError."""
    try:
        fd = os.open(f"{run_dir}/lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    except OSError as error:
        raise RunDirError(f"{run_dir}/lock: {error.strerror}") from error
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(fd)
        if error.errno in (errno.EWOULDBLOCK, errno.EACCES):
            return None
        raise RunDirError(f"{run_dir}/lock: {error.strerror}") from error
    return fd


def write_atomically(path: str, text: str) -> None:
    """Readers see the old file or the new one, whole."""
    temporary = f"{path}.{os.getpid()}.tmp"
    fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    try:
        with open(fd, "w", encoding="utf-8") as file:
            file.write(text)
        os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        raise


def endpoint(settings: Settings, server: Mapping[str, Any], identity: tuple[int, int, str]) -> dict[str, Any]:
    """What endpoint.json holds. `identity`: pid, start time and boot id of the supervisor."""
    pid, start, boot = identity
    return {
        "pid": pid,
        "start": start,
        "boot_id": boot,
        "wire": server["wire"],
        "version": server["version"],
        "python": server["python"],
        "socket": settings.socket,
        "config": settings.config_hash,
        "name": settings.name,
        "started_by": settings.started_by,
        "what": settings.what,
        "since": server["time"],
    }


def announce(settings: Settings, server: Mapping[str, Any], identity: tuple[int, int, str]) -> None:
    """The server listens: pid, endpoint.json, and a word to everybody who waits."""
    run_dir = settings.run_dir
    if run_dir is None:
        return
    pid, start, boot = identity
    write_atomically(f"{run_dir}/pid", f"{pid} {start} {boot}\n")
    write_atomically(f"{run_dir}/endpoint.json", json.dumps(endpoint(settings, server, identity)) + "\n")
    tell(run_dir, "ready")


def tell(run_dir: str, word: str) -> None:
    """To every bring-up that waits."""
    for fifo in Path(run_dir).glob("ready.*"):
        with contextlib.suppress(OSError):
            fd = os.open(fifo, os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOFOLLOW)
            with contextlib.suppress(OSError):
                os.write(fd, f"{word}\n".encode())
            os.close(fd)


def withdraw(run_dir: str) -> None:
    """Nobody who looks from now on finds this server; `announce` undoes it."""
    with contextlib.suppress(OSError):
        os.unlink(f"{run_dir}/endpoint.json")


def write_state(run_dir: str, state: Mapping[str, Any]) -> None:
    write_atomically(f"{run_dir}/state.json", json.dumps(state) + "\n")


def remove_files(run_dir: str) -> None:
    """What the server wrote; the rest is the bring-up's."""
    for name in FILES:
        with contextlib.suppress(OSError):
            os.unlink(f"{run_dir}/{name}")
    for temporary in Path(run_dir).glob("*.tmp"):
        with contextlib.suppress(OSError):
            temporary.unlink()
