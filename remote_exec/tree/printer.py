"""Log lines of other machines into the scenario's own log, from a thread of their own.

Rules:
- `put` never waits: a slow terminal must not slow the wire or a tick. What does not fit is counted and said,
  in the place where it is missing; so is what is left when nobody waits for a slow terminal any more.
- Lines of different threads are never mixed up: scenario_execution's logger prints text and line end one
  after the other, so for as long as we print too, its methods take turns, and ours come after others'.
- `drain` is called before results are written, so that a log ends before the verdict.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Any, Final

CAPACITY: Final = 10_000
CLOSE_S: Final = 2.0
METHODS: Final = ("debug", "info", "warning", "error")
KEPT: Final = ("warning", "error")
"""Levels that are printed in any case."""
GIVE_WAY_S: Final = 0.001
_GUARD: Final = "_se_remote_guard"


class Printer:
    """Prints through `logger` (anything with debug, info, warning and error)."""

    def __init__(self, logger: Any, capacity: int = CAPACITY) -> None:
        self._logger = logger
        self._capacity = capacity
        self._lines: deque[tuple[str, str]] = deque()
        self._dropped = 0
        self._counting = threading.RLock()
        """Around `_dropped`: every thread may drop."""
        self._turn = threading.RLock()
        self._asking: deque[None] = deque()
        """One for every thread that waits for its turn, or has it."""
        self._more = threading.Semaphore(0)
        self._printed = threading.Event()
        self._closing = False
        self._guarded = [name for name in METHODS if self._guard(name)]
        self._thread = threading.Thread(target=self._run, name="se-remote printer", daemon=True)
        self._thread.start()

    def put(self, level: str, text: str) -> None:
        """Queue a text; each of its lines is a record of its own. Any thread."""
        for line in text.splitlines() or [""]:
            # A warning may be the one that counts what a host has dropped.
            if len(self._lines) >= self._capacity * (2 if level in KEPT else 1):
                with self._counting:
                    self._dropped += 1
            else:
                self._say_dropped()
                self._lines.append((level if level in METHODS else "info", line))
        self._more.release()

    def drain(self, timeout: float) -> bool:
        """Wait until everything is printed, for at most `timeout` seconds. Whether it is."""
        if not self._thread.is_alive():
            return not self._lines
        self._printed.clear()
        self._more.release()
        return self._printed.wait(timeout)

    def give_up(self) -> None:
        """Print only warnings and errors of what is queued, and how many lines that leaves out."""
        kept = []
        for _ in range(len(self._lines)):
            try:
                level, line = self._lines.popleft()
            except IndexError:
                break
            if level in KEPT:
                kept.append((level, line))
            else:
                with self._counting:
                    self._dropped += 1
        self._lines.extend(kept)
        self._say_dropped()
        self._more.release()

    def _say_dropped(self) -> None:
        with self._counting:
            dropped, self._dropped = self._dropped, 0
        if dropped:
            text = f"{dropped} log lines were dropped: they came faster than they print"
            self._lines.append(("warning", text))

    def close(self) -> None:
        """Stop printing and give the logger back as it was. What is queued is printed first (bounded)."""
        if not self.drain(CLOSE_S / 2):
            self.give_up()
            self.drain(CLOSE_S / 2)
        self._closing = True
        self._more.release()
        self._thread.join(1.0)
        for name in self._guarded:
            if getattr(self._logger.__dict__.get(name), _GUARD, None) is self:
                delattr(self._logger, name)

    def _guard(self, name: str) -> bool:
        """Let one method of the logger take turns with us. False when it cannot be replaced."""
        if name in getattr(self._logger, "__dict__", {}):
            return False
        method: Callable[..., Any] | None = getattr(self._logger, name, None)
        if method is None:
            return False

        def in_turn(*args: Any, **kwargs: Any) -> Any:
            self._asking.append(None)
            try:
                with self._turn:
                    return method(*args, **kwargs)
            finally:
                self._asking.pop()

        setattr(in_turn, _GUARD, self)
        try:
            setattr(self._logger, name, in_turn)
        except AttributeError:
            return False
        return True

    def _run(self) -> None:
        while not self._closing:
            self._more.acquire()
            while line := self._next():
                if self._asking:
                    time.sleep(GIVE_WAY_S)  # a lock is not fair: a flood would keep it
                self._print(*line)
            self._say_dropped()
            if not self._lines:
                self._printed.set()
            else:
                self._more.release()

    def _next(self) -> tuple[str, str] | None:
        try:
            return self._lines.popleft()
        except IndexError:
            return None

    def _print(self, level: str, line: str) -> None:
        method = getattr(self._logger, level, None)
        if method is None:
            return
        try:
            method(line)
        except Exception:  # noqa: S110 - a closed stdout must not end the thread, and cannot be told of
            pass
