"""The server's log in its run directory, kept below a size: copied to `server.log.1`, then emptied.

    idle ──(larger than the limit)──> copying, a piece a turn ──(all copied)──> emptied, idle
                                         └──(the disk is full)──> idle; emptied without a copy at twice
                                                                  the limit, and says so

Rules:
- copied and emptied, not renamed: the file is the standard output of everything that the server and the
  setup lines have started, and the window's `tail -f` holds it too; all of them append, so they go on;
- the front does it, since the front writes it: between the last piece and the emptying it writes nothing,
  so no line of it is lost or torn. What else writes there (programs that the setup lines left running)
  could lose a line in those microseconds;
- never more than twice the limit on the disk, and what a flood adds within a second;
- the front never waits for it: a piece a turn, and trouble with the disk takes nothing down.
"""

from __future__ import annotations

import contextlib
import os
import stat
from typing import Final

from remote_exec.host import rundir
from remote_exec.host.console import Console

PIECE: Final = 512 * 1024
LOOK_SECONDS: Final = 1.0
IDLE_SECONDS: Final = 5.0
"""Between two looks at a log that the front itself does not write to."""
RETRY_SECONDS: Final = 60.0
NAME: Final = "server.log"
OLDER: Final = "server.log.1"
ROTATED: Final = "rotated"
"""Holds how many bytes of this run have left `server.log`."""


class LogFile:
    """The log that `fd` writes to, `limit` in bytes; does nothing when that is not the run directory's."""

    def __init__(self, run_dir: str | None, console: Console, limit: int, fd: int = 1) -> None:
        self._run_dir = run_dir or ""
        self._console = console
        self._limit = limit
        self._fd = fd
        self._looked = self._retry_at = 0.0
        self._source = self._copy = -1
        self._copied = 0
        self._rotated = 0
        self._ours = run_dir is not None and _same(fd, f"{run_dir}/{NAME}")

    def turn(self, now: float) -> None:
        """One piece of work, if there is any. `now`: monotonic seconds."""
        if not self._ours:
            return
        try:
            if self._copy >= 0:
                self._copy_piece()
            elif now - self._looked >= LOOK_SECONDS:
                self._looked = now
                self._look(now)
        except OSError as error:
            self._forget_copy()
            self._retry_at = now + RETRY_SECONDS
            if self._size() > 2 * self._limit:
                self._drop(error)

    def next_deadline(self) -> float | None:
        """When `turn` is to be called at the latest; monotonic seconds."""
        if not self._ours:
            return None
        return 0.0 if self._copy >= 0 else self._looked + IDLE_SECONDS

    def _size(self) -> int:
        return os.fstat(self._fd).st_size

    def _path(self, name: str) -> str:
        return f"{self._run_dir}/{name}"

    def _look(self, now: float) -> None:
        size = self._size()
        if size <= self._limit or (now < self._retry_at and size <= 2 * self._limit):
            return
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self._path(OLDER))  # first: a disk that is full has room again
        flags = os.O_CREAT | os.O_WRONLY | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW
        self._source = os.open(self._path(NAME), os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
        self._copy = os.open(self._path(f"{OLDER}.tmp"), flags, 0o600)
        self._copied = 0

    def _copy_piece(self) -> None:
        left = self._size() - self._copied
        # Who is filled faster than it is copied must not go on like that for ever.
        at_once = left <= PIECE or self._copied >= 2 * self._limit
        while True:
            data = os.read(self._source, PIECE)
            written = 0
            while written < len(data):
                written += os.write(self._copy, data[written:])
            self._copied += len(data)
            if not data:
                break
            if not at_once:
                return
        os.replace(self._path(f"{OLDER}.tmp"), self._path(OLDER))
        os.ftruncate(self._fd, 0)
        self._emptied(self._copied)
        self._forget_copy()
        self._console.info(f"the log goes on here: its last {self._copied} bytes are in {OLDER} beside it")

    def _emptied(self, size: int) -> None:
        self._rotated += size
        with contextlib.suppress(OSError):
            rundir.write_atomically(self._path(ROTATED), f"{self._rotated}\n")

    def _drop(self, error: OSError) -> None:
        with contextlib.suppress(OSError):
            size = self._size()
            os.ftruncate(self._fd, 0)
            self._emptied(size)
            self._console.error(f"{size} bytes of the log were dropped, there is no room: {error.strerror}")

    def _forget_copy(self) -> None:
        for fd in (self._source, self._copy):
            if fd >= 0:
                os.close(fd)
        self._source = self._copy = -1
        with contextlib.suppress(OSError):
            os.unlink(self._path(f"{OLDER}.tmp"))


def _same(fd: int, path: str) -> bool:
    try:
        mine, named = os.fstat(fd), os.lstat(path)
    except OSError:
        return False
    return stat.S_ISREG(mine.st_mode) and (mine.st_dev, mine.st_ino) == (named.st_dev, named.st_ino)
