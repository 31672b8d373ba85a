"""What is told of a connection that is away for a while. Pure: times come in, texts come out.

| away for      | then back                          | told                                              |
|---------------|------------------------------------|---------------------------------------------------|
| less than 2 s | .                                  | nothing                                           |
| longer        | every session has answered         | one warning after 2 s, one line when it is back   |
| longer        | no; the host is given up           | the warning; the reason is told with the failures |
"""

from __future__ import annotations

from typing import Final

SAY_AFTER_S: Final = 2.0


class Outage:
    """One at a time. Times in seconds."""

    def __init__(self) -> None:
        self.since: float | None = None
        """When the host was last heard; None: there is no outage."""
        self._reason = ""
        self._told = False

    def begins(self, heard: float, reason: str) -> None:
        """Of one that is known already only a better reason is taken."""
        if self.since is None:
            self.since, self._reason, self._told = heard, reason, False
        elif reason:
            self._reason = reason

    def due(self) -> float:
        """When `warning` has something to say."""
        if self.since is None or self._told:
            return float("inf")
        return self.since + SAY_AFTER_S

    def warning(self, now: float, patience: float) -> str | None:
        """The line for one that lasts; once."""
        if now < self.due():
            return None
        self._told = True
        return f"connection lost ({self._reason}): the actions there go on; trying for up to {patience:g} s"

    def over(self, now: float, dropped: int) -> str | None:
        """The line for its end, if its begin was told or something is missing. dropped: log lines."""
        if self.since is None:
            return None
        lasted, told, self.since = now - self.since, self._told, None
        if dropped:
            return f"resumed after {lasted:.1f} s; the host has dropped {dropped} log lines: too many"
        return f"resumed after {lasted:.1f} s, nothing was lost" if told else None
