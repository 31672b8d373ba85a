"""The events of one session: numbered, replayed after a reconnect, bounded.

Rules: `seq` counts up from 1 and an event keeps its number for ever; what the client has `seen` is
forgotten. When the bound is reached, log records go first (the next one says how many in `dropped`),
then statuses that a later one of the same action supersedes, and values that a later one of the same
variable does. So a client may find gaps in `seq`, and never misses a last status or a last value.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Hashable, Iterable
from dataclasses import dataclass
from typing import Any, Final

MAX_EVENTS: Final = 5000
MAX_EVENT_CHARS: Final = 4_000_000


@dataclass
class _Entry:
    seq: int
    event: dict[str, Any]
    size: int

    @property
    def is_log(self) -> bool:
        return self.event.get("ev") == "log"


class EventLog:
    """Events that were pushed and not yet seen, and how far they have been sent."""

    def __init__(self, max_events: int = MAX_EVENTS, max_chars: int = MAX_EVENT_CHARS) -> None:
        self._max_events = max_events
        self._max_chars = max_chars
        self._sent: deque[_Entry] = deque()
        self._unsent: deque[_Entry] = deque()
        self._chars = 0
        self._events_kept = self._chars_kept = 0
        """Not to be looked through again before it is more than that."""
        self._dropped = 0
        """Records lost since the last one that is still kept."""
        self._dropped_after_sending: deque[int] = deque(maxlen=100_000)
        self.last_seq = 0

    def __len__(self) -> int:
        return len(self._sent) + len(self._unsent)

    def append(self, event: dict[str, Any]) -> None:
        self.last_seq += 1
        entry = _Entry(self.last_seq, event, _size(event))
        if entry.is_log and self._dropped:
            _add_dropped(entry, self._dropped)
            self._dropped = 0
        self._unsent.append(entry)
        self._chars += entry.size
        if len(self) > max(self._max_events, self._events_kept) or self._chars > max(
            self._max_chars, self._chars_kept
        ):
            self._shrink()
            # What cannot be spared may be more than the bound: then not with every event.
            self._events_kept, self._chars_kept = len(self) * 5 // 4, self._chars * 5 // 4

    def next(self) -> tuple[int, dict[str, Any]] | None:
        """The next event to send with its number."""
        return (self._unsent[0].seq, self._unsent[0].event) if self._unsent else None

    def sent(self) -> None:
        """`next` has been sent."""
        self._sent.append(self._unsent.popleft())

    def trim(self, seen: int) -> None:
        """The client has everything up to `seen`."""
        while self._sent and self._sent[0].seq <= seen:
            self._chars -= self._sent.popleft().size
        self._events_kept = self._chars_kept = 0
        while self._dropped_after_sending and self._dropped_after_sending[0] <= seen:
            self._dropped_after_sending.popleft()

    def rewind(self, seen: int) -> None:
        """After a reconnect: everything after `seen` is to be sent again."""
        self.trim(seen)
        lost = len(self._dropped_after_sending)
        self._dropped_after_sending.clear()
        self._unsent.extendleft(reversed(self._sent))
        self._sent.clear()
        if lost:
            first = next((entry for entry in self._unsent if entry.is_log), None)
            if first is None:
                self._dropped += lost
            else:
                _add_dropped(first, lost)

    @property
    def missing(self) -> int:
        """Log records that are lost and that the client, when it gets what is to be sent, will hear of."""
        return self._dropped + sum(e.event.get("dropped") or 0 for e in self._unsent if e.is_log)

    def _shrink(self) -> None:
        """Down to three quarters, so that a flood does not pay for it with every record."""
        count, chars = self._max_events * 3 // 4, self._max_chars * 3 // 4
        self._drop_logs(count, chars)
        if len(self) > count or self._chars > chars:
            self._drop_superseded()

    def _drop_logs(self, count: int, chars: int) -> None:
        excess, excess_chars = len(self) - count, self._chars - chars
        kept: deque[_Entry] = deque()
        for entry in self._sent:
            if entry.is_log and (excess > 0 or excess_chars > 0):
                excess, excess_chars = excess - 1, excess_chars - entry.size
                self._chars -= entry.size
                self._dropped_after_sending.append(entry.seq)
            else:
                kept.append(entry)
        self._sent, kept = kept, deque()
        carry = 0
        # The newest record stays, to say how many were lost: another one may never come.
        newest = next((entry for entry in reversed(self._unsent) if entry.is_log), None)
        for entry in self._unsent:
            if entry.is_log and entry is not newest and (excess > 0 or excess_chars > 0):
                excess, excess_chars = excess - 1, excess_chars - entry.size
                self._chars -= entry.size
                carry += 1 + (entry.event.get("dropped") or 0)
                continue
            if entry.is_log and carry:
                _add_dropped(entry, carry)
                carry = 0
            kept.append(entry)
        self._unsent = kept
        self._dropped += carry

    def _drop_superseded(self) -> None:
        last: dict[Hashable, int] = {}
        for entry in (*self._sent, *self._unsent):
            key = _superseded_by(entry.event)
            if key is not None:
                last[key] = entry.seq
        self._sent = deque(self._without_superseded(self._sent, last))
        self._unsent = deque(self._without_superseded(self._unsent, last))

    def _without_superseded(self, entries: Iterable[_Entry], last: dict[Hashable, int]) -> list[_Entry]:
        kept = []
        for entry in entries:
            if last.get(_superseded_by(entry.event), entry.seq) == entry.seq:
                kept.append(entry)
            else:
                self._chars -= entry.size
        return kept


def _add_dropped(entry: _Entry, count: int) -> None:
    entry.event = {**entry.event, "dropped": (entry.event.get("dropped") or 0) + count}


def _superseded_by(event: dict[str, Any]) -> Hashable:
    """What a later event must have in common with this one to take its place; None: nothing does."""
    if event.get("ev") in ("status", "busy"):
        return event["ev"], event.get("action")
    if event.get("ev") == "set":
        return "set", *sorted(event["vars"])
    return None


def _size(event: dict[str, Any]) -> int:
    return 100 + sum(map(_chars, event.values()))


def _chars(value: object) -> int:
    """Roughly, what is in it."""
    if isinstance(value, (str, bytes)):
        return len(value)
    if isinstance(value, dict):
        return sum(10 + len(key) + _chars(item) for key, item in value.items())
    if isinstance(value, (list, tuple)):
        return sum(10 + _chars(item) for item in value)
    return 0
