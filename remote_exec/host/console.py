"""The server's own lines on its standard output, which may be a pipe that nobody reads.

Rules: never blocks (what does not fit is dropped and counted); the same complaint is printed once a
minute, with the number of those in between.
"""

from __future__ import annotations

import os
import select
import stat
import time
from typing import Final

REPEAT_SECONDS: Final = 60.0
PIPE_ATOMIC: Final = 4096
FILE_PIECE: Final = 1024 * 1024


class Console:
    """Lines to a descriptor."""

    def __init__(self, fd: int = 1, *, verbose: bool = False) -> None:
        self._fd = fd
        self._verbose = verbose
        self._dropped = 0
        self._poll = select.poll()
        self._poll.register(fd, select.POLLOUT)
        # A pipe takes that much at once or nothing; a file takes a line whole, so no other tears it.
        self._piece = FILE_PIECE if _is_file(fd) else PIPE_ATOMIC
        self._complaints: dict[str, tuple[float, int]] = {}

    def info(self, text: str) -> None:
        self._line("INFO", text)

    def warning(self, text: str) -> None:
        self._line("WARN", text)

    def error(self, text: str) -> None:
        self._line("ERROR", text)

    def debug(self, text: str) -> None:
        if self._verbose:
            self._line("DEBUG", text)

    def record(self, session: str, level: str, name: str, text: str) -> None:
        """A log record of a session."""
        if level != "debug" or self._verbose:
            self._line(level.upper(), f"[{session[:8]}] [{name}]: {text}")

    def complain(self, text: str, now: float) -> None:
        """About a peer: not more often than once a minute in the same words."""
        at, count = self._complaints.get(text, (-REPEAT_SECONDS, 0))
        if now - at < REPEAT_SECONDS:
            self._complaints[text] = (at, count + 1)
            return
        if len(self._complaints) > 200:
            self._complaints.clear()
        self._complaints[text] = (now, 0)
        self._line("WARN", text + (f" ({count} more in between)" if count else ""))

    def _line(self, level: str, text: str) -> None:
        line = f"[{level}] [{time.time():.6f}] [se-remote] {text}\n"
        if self._dropped:
            line = f"({self._dropped} lines dropped)\n{line}"
        data = line.encode("utf-8", "backslashreplace")
        while data:
            if not self._poll.poll(0):
                self._dropped += 1
                return
            try:
                data = data[os.write(self._fd, data[: self._piece]) :]
            except OSError:
                self._dropped += 1
                return
        self._dropped = 0


def _is_file(fd: int) -> bool:
    try:
        return stat.S_ISREG(os.fstat(fd).st_mode)
    except OSError:
        return False
