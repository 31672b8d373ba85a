"""Times as they are typed on the command line: ``90s``, ``30m``, ``8h``, ``1h30m``, ``2d``. Pure."""

from __future__ import annotations

import re
from typing import Final

from launcher.inventory.kinds import parse_duration

KEEP_S: Final = 12 * 3600.0
"""How long a server is kept up when nobody says for how long."""
EXPECTED: Final = "a time such as 90s, 30m, 8h, 1h30m or 2d; 0: until it is killed"
_PART = re.compile(r"([\d.]+)\s*(ms|s|min|m|h|d|)\s*", re.ASCII)


def parse_time(text: str) -> float:
    """Seconds; a number alone counts seconds, as in the inventory. Raises ValueError."""
    parts = _PART.findall(text.strip())
    if not parts or _PART.sub("", text.strip()) or (len(parts) > 1 and any(not unit for _, unit in parts)):
        raise ValueError(f'expected {EXPECTED}, found "{text}"')
    total = 0.0
    for number, unit in parts:
        seconds = parse_duration(number + {"m": "min", "d": "h"}.get(unit, unit))
        if seconds is None:
            raise ValueError(f'expected {EXPECTED}, of a year at most, found "{text}"')
        total += seconds * (24 if unit == "d" else 1)
    return total


def time_text(seconds: float) -> str:
    """As a person says it, to the minute: ``45 s``, ``12 min``, ``7 h 59 min``, ``2 d 3 h``."""
    whole = max(0, round(seconds))
    if whole < 100:
        return f"{whole} s"
    minutes = round(seconds / 60)
    if minutes < 100:
        return f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    if hours < 48:
        return f"{hours} h {minutes} min" if minutes else f"{hours} h"
    return f"{hours // 24} d {hours % 24} h" if hours % 24 else f"{hours // 24} d"
