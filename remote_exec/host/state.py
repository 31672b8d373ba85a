"""state.json, current: written after every change, at most five times a second."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any, Final

from remote_exec.host import rundir

MIN_SECONDS: Final = 0.2
RETRY_SECONDS: Final = 2.0


class StateFile:
    """Remembers what it wrote; does nothing without a run directory."""

    def __init__(self, run_dir: str | None) -> None:
        self._run_dir = run_dir
        self._written: Mapping[str, Any] | None = None
        self._at = -MIN_SECONDS
        self._due: float | None = None

    def update(self, state: Mapping[str, Any], now: float) -> None:
        """Writes when it differs, and it is time; else `next_deadline` says when."""
        if self._run_dir is None or state == self._written:
            self._due = None
            return
        if now - self._at < MIN_SECONDS:
            self._due = self._at + MIN_SECONDS
            return
        self.write(state, now)

    def write(self, state: Mapping[str, Any], now: float) -> None:
        """Now, for somebody who asks."""
        if self._run_dir is None:
            return
        self._at, self._due = now, None
        # A full disk, or a directory that somebody removed, must not take the server down.
        try:
            rundir.write_state(self._run_dir, {"time": time.time(), **state})
            self._written = state
        except OSError:
            self._due = now + RETRY_SECONDS

    def next_deadline(self) -> float | None:
        return self._due
