"""How long a session and a server may live without hearing from their owner. Pure: `now` is passed in.

A server's end, in the order in which it is asked:

    rule              applies                          ends when
    connect timeout   nobody ever came                 that long after the start
    watchdog          somebody came                    nothing was heard for that long
    kept              `keep` was said, or the server   not before its time is over (nil: never), and
                      was started with a time          not before its last session has ended
    ephemeral         no session                       at the start: max(lease, 15 s) without one;
                                                       after the last one ended by lease or
                                                       `bye(release)`: at once; after a plain `bye`:
                                                       when nothing came for a lease
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

from remote_exec.host.kept import Kept

FIRST_SESSION_SECONDS: Final = 15.0
"""How long an ephemeral server waits at least for its first session."""
UNNEEDED: Final = "no session needs it any more"
MAX_LEASE_SECONDS: Final = 24 * 3600.0


@dataclass(frozen=True)
class Lease:
    """The time for which something may live without hearing from its owner; seconds, monotonic."""

    seconds: float
    heard: float

    def renewed(self, now: float) -> Lease:
        return Lease(self.seconds, now)

    def deadline(self) -> float:
        return self.heard + self.seconds

    def left(self, now: float) -> float:
        return max(0.0, self.deadline() - now)

    def expired(self, now: float) -> bool:
        return now >= self.deadline()


@dataclass(frozen=True)
class LifeRules:
    """What a server was started with; seconds, 0 switches a timeout off."""

    ephemeral: bool = False
    lease: float = 10.0
    watchdog: float = 0.0
    connect_timeout: float = 0.0
    keep: float | None = None
    """Kept up from the start for so long; 0: until killed; None: not kept."""


class ServerLife:
    """Decides when a server that nobody needs any more ends itself."""

    def __init__(self, rules: LifeRules, now: float) -> None:
        self._rules = rules
        self._started = now
        self._heard: float | None = None
        self.kept = Kept()
        if rules.keep is not None:
            self.kept.keep(rules.keep or None, now)
        first = max(rules.lease, FIRST_SESSION_SECONDS) if rules.keep is None else 0.0
        self._empty_until = now + first
        self._released = False

    def heard(self, now: float) -> None:
        """A valid message came, from whomever."""
        self._heard = now
        if not self._released:
            self._empty_until = max(self._empty_until, now + self._rules.lease)

    def session_opened(self) -> None:
        self._released = False

    def session_ended(self, now: float, *, at_once: bool) -> None:
        """`at_once`: it ended by its lease or said that it needs the server no longer."""
        self._released = at_once
        self._empty_until = now if at_once else now + self._rules.lease

    def wait(self, seconds: float, now: float) -> None:
        """Somebody is on the way: not yet."""
        self._empty_until = max(self._empty_until, now + seconds)

    def keep(self, seconds: float | None, now: float) -> None:
        """Keeps the server up for at least `seconds` from now, None: until it is killed."""
        self.kept.keep(seconds, now)

    def kept_left(self, now: float) -> float | None:
        """Seconds for which it is still kept; None when it is not, inf for ever."""
        return self.kept.left(now)

    def ephemeral(self, now: float) -> bool:
        """Whether it would end when its last session ends now."""
        return self._rules.ephemeral and self.kept_left(now) is None

    def reason_to_end(self, now: float, sessions: int) -> str | None:
        """Why the server ends now; None while it lives."""
        for deadline, reason in self._deadlines(sessions):
            if now >= deadline:
                return reason
        return None

    def next_deadline(self, sessions: int) -> float | None:
        """When `reason_to_end` may next change by itself."""
        deadlines = [deadline for deadline, _ in self._deadlines(sessions) if deadline < math.inf]
        return min(deadlines) if deadlines else None

    def _deadlines(self, sessions: int) -> list[tuple[float, str]]:
        rules, found = self._rules, []
        if rules.connect_timeout > 0 and self._heard is None:
            found.append(
                (
                    self._started + rules.connect_timeout,
                    f"nobody connected within {rules.connect_timeout:g} s",
                )
            )
        if rules.watchdog > 0 and self._heard is not None:
            found.append((self._heard + rules.watchdog, f"nothing was heard for {rules.watchdog:g} s"))
        if rules.ephemeral and sessions == 0:
            until = max(self._empty_until, -math.inf if self.kept.until is None else self.kept.until)
            found.append((until, UNNEEDED))
        return found
