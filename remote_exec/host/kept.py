"""For how long a server is kept up by hand, and when its sessions are to hear that little of it is left.

    time                     | who hears `lease {left}`
    -------------------------+------------------------------------------------------------
    a session begins         | that session, when no more than SOON is left
    SOON is left             | every session, once
    nothing is left          | every session, once: a session in use counts as use, so the
                             | server lives on until the last one ends

Pure: `now` is passed in; seconds, monotonic. Rule: `keep` never shortens. Who wants a server to end sooner
ends it, and sees by that who else uses it.
"""

from __future__ import annotations

import math
from typing import Final

SOON: Final = 600.0


class Kept:
    """See the module's text."""

    def __init__(self) -> None:
        self._until: float | None = None
        """inf: until killed."""
        self._told: float | None = None
        """The last mark of which every session has heard: SOON or 0."""

    def keep(self, seconds: float | None, now: float) -> None:
        """At least for `seconds` from now; None: until it is killed."""
        until = math.inf if seconds is None else now + max(0.0, seconds)
        if self._until is None or until > self._until:
            self._until = until
            left = until - now
            # Who asked for a short time knows it; who comes later hears it at its hello.
            self._told = SOON if left <= SOON else None

    @property
    def until(self) -> float | None:
        """None: nobody has asked for it; inf: until killed."""
        return self._until

    def left(self, now: float) -> float | None:
        """Seconds for which it is still kept; None when it is not (any more), inf for ever."""
        if self._until is None or self._until <= now:
            return None
        return self._until - now

    def at_hello(self, now: float) -> float | None:
        """What a session that begins hears: the seconds that are left, 0: none; None: nothing at all."""
        if self._until is None:
            return None
        left = max(0.0, self._until - now)
        return left if left <= SOON else None

    def news(self, now: float) -> float | None:
        """To be called at `next_news`: what every session is to hear now; None: nothing. Says each once."""
        due = self.next_news()
        if due is None or now < due or self._until is None:
            return None
        left = max(0.0, self._until - now)
        self._told = SOON if left > 0 else 0.0
        return left

    def next_news(self) -> float | None:
        if self._until is None or self._until == math.inf or self._told == 0.0:
            return None
        return self._until - SOON if self._told is None else self._until
