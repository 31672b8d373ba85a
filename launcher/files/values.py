"""What a push and a fetch say: progress, and what came of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Step:
    """Progress, in bytes; `total` may grow."""

    host: str
    done: int
    total: int
    file: str


@dataclass(frozen=True)
class Pushed:
    """What a push did."""

    sent: int
    """Files whose content was sent."""
    bytes: int
    unchanged: int
    """Files that were there already."""
    removed: int
    skipped: tuple[tuple[str, str], ...]
    """Relative name, and why it is not there (unreadable, a link that leads outside, changed while it was
    read…)."""
    path: str = ""
    """Where, on the machine."""


@dataclass(frozen=True)
class Fetched:
    """What a fetch brought."""

    files: tuple[str, ...]
    """Relative names as they are now here."""
    bytes: int
    """That were sent."""
    beside: tuple[tuple[str, str], ...]
    """Name, and the NAME.HOST it is stored as, since a name existed."""
    missing: tuple[tuple[str, str], ...]
    """Name, and why it is not, or not whole, here; it is kept on the host."""
    unchanged: int = 0
    """So many of `files` were here already."""


OnStep = Callable[[Step], None]
"""Called on the loop's thread; must not block."""
