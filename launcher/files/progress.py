"""How far a transfer is, as a line: a bar, how much of how much, the rate, the time that is left. Pure."""

from __future__ import annotations

from collections import deque

from launcher.files.plan import amount
from launcher.files.values import Step

_WINDOW = 4.0
"""Seconds over which the rate is taken: a line that stalls shows it, and a burst does not jump."""
_BAR = 20


class Meter:
    """Of one transfer. `now` in seconds, of any clock that goes forward. For one thread."""

    def __init__(self, host: str, what: str) -> None:
        self._host, self._what = host, what
        self._seen: deque[tuple[float, int]] = deque()
        self._step: Step | None = None

    def take(self, step: Step, now: float) -> None:
        """What was told."""
        self._step = step
        if self._seen and now - self._seen[-1][0] < _WINDOW / 40:
            return
        self._seen.append((now, step.done))
        while len(self._seen) > 2 and now - self._seen[1][0] > _WINDOW:
            self._seen.popleft()

    def line(self, now: float) -> str:
        """The line; it may be longer than a terminal is wide, what matters least is at its end."""
        step = self._step
        if step is None:
            return f"{self._host}: {self._what}: looking what has changed"
        share = min(1.0, step.done / step.total) if step.total > 0 else 1.0
        full = int(share * _BAR)
        parts = [
            f"{self._host}: {self._what} [{'#' * full}{'-' * (_BAR - full)}] {int(100 * share):3d} %",
            f"{amount(step.done)} of {amount(step.total)}",
        ]
        rate = self._rate(now, step.done)
        if rate > 0:
            parts += [f"{amount(int(rate))}/s", f"{clock((step.total - step.done) / rate)} left"]
        return "  ".join([*parts, shown(step.file)])

    def _rate(self, now: float, done: int) -> float:
        if not self._seen:
            return 0.0
        began, before = self._seen[0]
        return (done - before) / (now - began) if now - began > 0.2 else 0.0


def clock(seconds: float) -> str:
    """``0:07``, ``12:40``, ``3:05:00``."""
    whole = max(0, int(seconds + 0.5))
    hours, minutes, rest = whole // 3600, whole // 60 % 60, whole % 60
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


def shown(name: str) -> str:
    """A file's name on one line, whatever is in it."""
    if name.isprintable():
        return name
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in name)
