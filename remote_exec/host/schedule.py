"""When each of a session's actions is ticked next. Pure: the time is an argument, in seconds.

The times are points of the period's grid, so that actions of one period share their wake-ups.
"""

from __future__ import annotations

import math
from typing import Final

MIN_PERIOD: Final = 0.001


class Schedule:
    """The next tick of each action, by its id; what is not in it is not ticked."""

    def __init__(self) -> None:
        self._due: dict[str, float] = {}
        self.next: float = math.inf
        """Nothing is due before; so whoever asks often need not look at every action."""

    def put(self, action_id: str, period: float, now: float) -> None:
        """At least half a period away: an action that has just begun is not updated twice at once."""
        period = max(period, MIN_PERIOD)
        due = ((now + period / 2) // period + 1) * period
        self._due[action_id] = due
        self.next = min(self.next, due)

    def take(self, now: float) -> set[str]:
        """What is due, and from now on in the schedule no more."""
        if now < self.next:
            return set()
        taken = {action_id for action_id, due in self._due.items() if due <= now}
        for action_id in taken:
            del self._due[action_id]
        self.next = min(self._due.values(), default=math.inf)
        return taken
