"""What a worker has to say to the front, from any of its threads, without ever blocking.

Rules: answers and statuses are never dropped. Log records are, beyond a rate or when the front does not
read; the next record says how many in `dropped`.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from typing import Any, Final

from remote_exec.codec import clean_text, pack
from remote_exec.errors import ValueDoesNotCross
from remote_exec.host.channel import Channel

LOG_RATE: Final = 2000.0
"""Records a second that may go on for ever."""
LOG_BURST: Final = 5000.0
MAX_PENDING_BYTES: Final = 2 * 1024 * 1024
"""Bytes that may wait for the front before records are dropped."""
LOG_CHARS: Final = 16 * 1024


class LogGate:
    """A token bucket that counts what it refused. Pure: `now` is passed in."""

    def __init__(self, now: float, rate: float = LOG_RATE, burst: float = LOG_BURST) -> None:
        self._rate, self._burst = rate, burst
        self._tokens, self._at = burst, now
        self.dropped = 0

    def admit(self, now: float, *, room: bool = True) -> bool:
        """Whether one more record may pass."""
        self._tokens = min(self._burst, self._tokens + (now - self._at) * self._rate)
        self._at = now
        if room and self._tokens >= 1.0:
            self._tokens -= 1.0
            return True
        self.dropped += 1
        return False

    def take_dropped(self) -> int:
        dropped, self.dropped = self.dropped, 0
        return dropped


def log_event(
    level: str, name: str, text: object, dropped: int = 0, action: str | None = None
) -> dict[str, Any]:
    """A `log` event of now; `action`: whose it is, where that is known."""
    event: dict[str, Any] = {
        "ev": "log",
        "level": level,
        "name": clean_text(name, 200),
        "text": clean_text(text, LOG_CHARS),
        "time": time.time(),
    }
    if dropped:
        event["dropped"] = dropped
    if action is not None:
        event["action"] = action
    return event


class Outbox:
    """Thread-safe sender over one channel. `wake` is called when the owner of the poll must flush."""

    def __init__(self, channel: Channel, wake: Callable[[], None]) -> None:
        self._channel = channel
        self._wake = wake
        # Reentrant: a logging __del__ may run in the middle of a send.
        self._lock = threading.RLock()
        self._gate = LogGate(time.monotonic())
        self._woken = False
        """The owner of the poll is about to flush."""

    def send(self, message: Mapping[str, Any], *, more: bool = False) -> None:
        """more: others follow at once, so the owner of the poll writes them all together."""
        try:
            body = pack(message)
        except ValueDoesNotCross as error:
            # Only what a plugin made can be at fault, and that is cleaned before; never lose an answer.
            body = pack(
                {
                    "re": message.get("re"),
                    "ok": False,
                    "error": {"kind": "internal", "message": str(error), "where": "", "traceback": ""},
                }
            )
        with self._lock:
            if more:
                self._channel.queue(body)
            else:
                self._channel.send(body)
            wake = self._channel.pending > 0 and not self._woken
            self._woken = self._woken or wake
        if wake:
            self._wake()

    def log(self, level: str, name: str, text: object, action: str | None = None) -> None:
        with self._lock:
            room = self._channel.pending < MAX_PENDING_BYTES
            if not self._gate.admit(time.monotonic(), room=room):
                return
            dropped = self._gate.take_dropped()
        self.send(log_event(level, name, text, dropped, action))

    def report_dropped(self, *, last: bool = False) -> None:
        """To be called now and then: says what was dropped when nothing follows that could say it.

        `last`: nothing will, so it is said in any case."""
        with self._lock:
            dropped = self._gate.dropped
            room = not self._channel.pending
            quiet = dropped and (last or self._gate.admit(time.monotonic(), room=room))
            if not quiet:
                self._gate.dropped = dropped
                return
            self._gate.take_dropped()
        self.send(
            log_event(
                "warning", "se-remote", f"log records beyond {LOG_RATE:.0f} a second are dropped", dropped
            )
        )

    def flush(self) -> bool:
        """Whether everything is out."""
        with self._lock:
            self._woken = False
            self._channel.flush()
            return self._channel.pending == 0
