"""Points in time as they are typed after `--since`. Pure."""

from __future__ import annotations

import time
from typing import Final

from launcher.durations import parse_time

EXPECTED: Final = "a time such as 10m (ago), 14:30, 14:30:05, 2026-01-31 or 2026-01-31 14:30"
_CLOCK: Final = ("%H:%M", "%H:%M:%S")
_DATE: Final = ("%Y-%m-%d", "%Y-%m-%d %H:%M", "%Y-%m-%d %H:%M:%S", "%Y-%m-%dT%H:%M", "%Y-%m-%dT%H:%M:%S")


def parse_since(text: str, now: float) -> float:
    """Epoch seconds; a time of day is the last such before `now`, in local time. Raises ValueError."""
    words = text.strip()
    today = time.strftime("%Y-%m-%d", time.localtime(now))
    for form in _CLOCK:
        found = _parsed(f"{today} {words}", f"%Y-%m-%d {form}")
        if found is not None:
            return found if found <= now else found - 86400
    for form in _DATE:
        found = _parsed(words, form)
        if found is not None:
            return found
    try:
        return now - parse_time(words.removesuffix("ago").strip())
    except ValueError:
        raise ValueError(f'expected {EXPECTED}, found "{text}"') from None


def _parsed(text: str, form: str) -> float | None:
    try:
        return time.mktime(time.strptime(text, form))
    except (ValueError, OverflowError):
        return None
