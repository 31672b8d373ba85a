"""The client's side of sessions, as pure values: correlation, repeats, the order of events, liveness.

No socket, no clock, no thread: frames and times come in as arguments and what to do comes back.

Rules:
- A command is counted until its reply is here. After a reconnect every unanswered command is sent again
  with the id it had, in the order it had; the server answers what it has executed from memory.
- Only `prepare` may be called from any thread; everything else belongs to the thread that owns the socket.
- Events are handed on at most once and in the order of `seq`: one that was seen is dropped. A gap is what
  a flood lost at the server (log lines, superseded statuses); a connection itself keeps the order.
- `ping` is never repeated: it is only there to be heard, and to measure.

Liveness of a link:

| silent for                      | what to do                                                     |
|---------------------------------|----------------------------------------------------------------|
| less than the period            | nothing                                                        |
| a period (lease / 4, 1 s at most) | ping                                                         |
| two periods                     | doubt the connection: it may be half open                      |
| the patience                    | give the host up                                               |
| ... while this process slept    | ping; doubt after a period; 4 s for the host to say what it has |
|                                 | done meanwhile                                                 |
"""

from __future__ import annotations

import enum
import itertools
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from remote_exec.codec import pack
from remote_exec.errors import BadMessage, RemoteError
from remote_exec.messages import EVENTS, WIRE_VERSION, check_fields

ENVELOPE: Final = ("v", "re", "ok", "session")
FRONT_ANSWERED: Final = frozenset({"hello", "ping"})
"""Answered at once by the server's front: their round trip measures the way, not the work."""
PERIOD_MAX_S: Final = 1.0
SLEPT_S: Final = 0.5
"""Who was not asked for so long, and for two periods, did not run meanwhile."""
WAKING_S: Final = 4.0
"""After that: how long the host has to answer, though the patience is over."""


@dataclass(frozen=True)
class Outgoing:
    """One command, encoded."""

    id: int
    cmd: str
    frame: bytes


@dataclass(frozen=True)
class Reply:
    """The answer to the command `id`: its fields, or the error."""

    id: int
    cmd: str
    fields: Mapping[str, Any]
    error: RemoteError | None = None
    round_trip: float | None = None
    """Seconds; None when the command had been repeated (nobody knows which one was answered)."""


@dataclass(frozen=True)
class Event:
    """Something the server said without being asked."""

    name: str
    fields: Mapping[str, Any]


@dataclass
class _Pending:
    outgoing: Outgoing
    sent: float
    repeated: bool = False


@dataclass
class Received:
    """What one message meant."""

    items: list[Reply | Event] = field(default_factory=list)
    gone: str = ""
    """The session has ended at the server; why."""
    round_trip: float | None = None
    """Seconds that the way there and back took, when this message tells."""
    resumed: bool = False
    """The session goes on on a fresh connection."""
    dropped: int = 0
    """With `resumed`: log records that the host has dropped and the client has not heard of."""


class ClientSession:
    """One session at one server, seen from the client. `session_id` None: only session-less commands."""

    def __init__(self, session_id: str | None) -> None:
        self.session_id = session_id
        self.seen = 0
        self.opened = False
        self._ids = itertools.count(1)
        self._pending: dict[int, _Pending] = {}
        self._resuming = 0
        self._hello: Mapping[str, Any] | None = None

    def prepare(self, cmd: str, fields: Mapping[str, Any]) -> Outgoing:
        """A command with an id, encoded. Raises ValueDoesNotCross."""
        if cmd == "hello" and self._hello is None:
            self._hello = fields
        number = next(self._ids)
        message = {"v": WIRE_VERSION, "id": number, "session": self.session_id, "cmd": cmd, **fields}
        return Outgoing(number, cmd, pack(message))

    def sent(self, outgoing: Outgoing, now: float) -> None:
        """The command was handed to the connection at `now`."""
        self._pending[outgoing.id] = _Pending(outgoing, now)

    @property
    def unanswered(self) -> int:
        return len(self._pending)

    def ping(self, now: float) -> bytes:
        self._forget("ping")
        outgoing = self.prepare("ping", {"seen": self.seen})
        self.sent(outgoing, now)
        return outgoing.frame

    def resume(self, client: Mapping[str, Any], now: float) -> list[bytes]:
        """What to send on a fresh connection: who we are, then everything that was not answered."""
        self._forget("ping")
        self._forget("hello")
        for pending in self._pending.values():
            pending.repeated = True
        frames = [pending.outgoing.frame for pending in self._pending.values()]
        fields = {"client": dict(client), "seen": self.seen} if self.opened else self._hello
        if fields is None:
            return frames
        # Its id is a new one in any case: of two that arrive the later one names the connection that counts.
        hello = self.prepare("hello", fields)
        self._resuming = hello.id if self.opened else 0
        self.sent(hello, now)
        return [hello.frame, *frames]

    def receive(self, message: Mapping[str, Any], now: float) -> Received:
        """One message for this session. Raises BadMessage."""
        if "ev" in message:
            return self._event(message)
        number = message.get("re")
        if not isinstance(number, int):
            raise BadMessage("neither a reply nor an event", "re")
        pending = self._pending.pop(number, None)
        if pending is None:
            return Received()
        return self._reply(pending, message, now)

    def _reply(self, pending: _Pending, message: Mapping[str, Any], now: float) -> Received:
        cmd = pending.outgoing.cmd
        error = None if message.get("ok") else remote_error(message.get("error"))
        took = None if pending.repeated else now - pending.sent
        received = Received(round_trip=took if cmd in FRONT_ANSWERED else None)
        if error is not None and error.kind == "unknown_session" and not self._ending:
            received.gone = str(error)
        if cmd == "hello" and error is None:
            self.opened = True
        if pending.outgoing.id == self._resuming:
            self._resuming = 0
            dropped = message.get("dropped")
            received.resumed = error is None
            received.dropped = dropped if isinstance(dropped, int) else 0
        elif cmd != "ping":
            fields = {k: v for k, v in message.items() if k not in ENVELOPE}
            received.items.append(Reply(pending.outgoing.id, cmd, fields, error, took))
        return received

    def _event(self, message: Mapping[str, Any]) -> Received:
        name, seq = message["ev"], message.get("seq")
        if not isinstance(seq, int) or isinstance(seq, bool):
            raise BadMessage("expected int", "seq")
        if seq <= self.seen:
            return Received()
        self.seen = seq
        table = EVENTS.get(name) if isinstance(name, str) else None
        if table is None:
            return Received()  # of a newer server; it has its number all the same
        return Received([Event(name, check_fields(message, table, f"{name}."))])

    @property
    def _ending(self) -> bool:
        """A `bye` is on its way: the session may have ended by it, and its answer tells how."""
        return any(pending.outgoing.cmd == "bye" for pending in self._pending.values())

    def _forget(self, cmd: str) -> None:
        for number in [n for n, p in self._pending.items() if p.outgoing.cmd == cmd]:
            del self._pending[number]


def remote_error(value: object) -> RemoteError:
    """The `error` map of a reply as an exception; never fails, whatever came."""
    if not isinstance(value, Mapping):
        return RemoteError("internal", "the server refused without saying why")
    texts = {k: value.get(k) for k in ("kind", "message", "where", "traceback", "next")}
    clean = {k: v if isinstance(v, str) else "" for k, v in texts.items()}
    kind = clean["kind"] or "internal"
    return RemoteError(kind, clean["message"], clean["where"], clean["traceback"], clean["next"])


class Due(enum.Enum):
    """What the silence of a host asks for."""

    NOTHING = 0
    PING = 1
    DOUBT = 2
    LOST = 3


class Liveness:
    """When to ping, when to doubt the connection, when to give the host up. Times in seconds."""

    def __init__(self, lease: float, patience: float, now: float) -> None:
        self.set(lease, patience)
        self.heard_at = self._pinged_at = self._doubted_at = self._asked_at = now
        self._woke_at = float("-inf")

    def set(self, lease: float, patience: float) -> None:
        """lease: what the server promised. patience: silence after which the host is lost."""
        self.period = min(min(lease, patience) / 4, PERIOD_MAX_S)
        self.lease = lease
        self.patience = patience

    def heard(self, now: float) -> None:
        self.heard_at = now

    def pinged(self, now: float) -> None:
        self._pinged_at = now

    def doubted(self, now: float) -> None:
        """The connection was doubted, or is a fresh one."""
        self._doubted_at = now

    def due(self, now: float) -> Due:
        """A ping is due each period, heard or not: it also renews the lease at the server."""
        if now - self._asked_at > max(2 * self.period, SLEPT_S):
            self._woke_at = now
        self._asked_at = now
        if now - self.heard_at >= self.patience and now - self._woke_at >= WAKING_S:
            return Due.LOST
        silent = now - max(self.heard_at, self._woke_at - self.period)
        if silent >= 2 * self.period and now - self._doubted_at >= 2 * self.period:
            return Due.DOUBT
        if now - self._pinged_at >= self.period:
            return Due.PING
        return Due.NOTHING

    def next_due(self) -> float:
        """The time at which `due` should be asked again, at the latest."""
        lost = max(self.heard_at + self.patience, self._woke_at + WAKING_S)
        quiet = max(self.heard_at, self._woke_at - self.period, self._doubted_at) + 2 * self.period
        return min(self._pinged_at + self.period, quiet, lost)
