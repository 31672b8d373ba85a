"""One client's session at the server, as a core without I/O: `now` and messages in, messages out.

    phase     | a command                    | the lease is over            | the worker dies
    ----------+------------------------------+------------------------------+------------------
    open      | answered or forwarded        | ending, or finishing if      | stays open; in
              |                              | on_loss is "continue"        | flight → crashed
    finishing | open again                   | (is over)                    | ended
    ending    | `stopping`, but ping and bye | .                            | ended
    ended     | (unknown to the server)      |                              |

Rules:
- Every id is executed at most once and answered once: a repeated one is answered from memory, or when
  the first is done, on the connection from which the client was last heard.
- Only `hello` says which connection counts, and of two the later one (by its id): what was under way on
  an older one may still arrive, and must not draw the answers and events there.
- Answers and events leave in the order in which they came about; what a connection does not take
  waits here, bounded.
- The front owns sockets and processes; it does what the returned effects say.
"""

from __future__ import annotations

import enum
from collections import OrderedDict, deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from remote_exec.host.eventlog import EventLog
from remote_exec.host.liveness import Lease
from remote_exec.host.replies import error_map
from remote_exec.messages import FORWARDED, WIRE_VERSION

MAX_REPLIES: Final = 4096
"""Replies that are remembered for a client that repeats a command."""
MAX_IN_FLIGHT: Final = 8192
MAX_IN_FLIGHT_BYTES: Final = 64 * 1024 * 1024
"""Of commands that a worker, which may be busy, has not answered: it keeps them all."""
MAX_ACTIONS: Final = 20_000
MAX_OUTBOX: Final = 8192
MAX_INFO_CHARS: Final = 200
"""Of a name that is only shown."""


class Phase(enum.Enum):
    OPEN = "open"
    FINISHING = "finishing"
    ENDING = "ending"
    ENDED = "ended"


class WorkerState(enum.Enum):
    NONE = "none"
    ALIVE = "alive"
    LOST = "lost"


@dataclass(frozen=True)
class StartWorker:
    """Fork a worker for this session."""


@dataclass(frozen=True)
class ToWorker:
    """Hand this to the session's worker."""

    message: Mapping[str, Any]


@dataclass(frozen=True)
class EndWorker:
    """Have the worker cancel and shut down its actions and go; then end whatever it left."""

    reason: str


Effect = StartWorker | ToWorker | EndWorker


@dataclass
class ActionInfo:
    """What `describe` and state.json say of an action."""

    id: str
    name: str
    plugin: str
    status: str = "created"

    def as_map(self) -> dict[str, str]:
        return {"id": self.id, "name": self.name, "plugin": self.plugin, "status": self.status}


@dataclass
class _InFlight:
    """What is kept of a command until it is answered."""

    cmd: str
    action: str = ""
    name: str = ""
    plugin: str = ""
    size: int = 0


@dataclass
class _Outgoing:
    after: int
    """Leaves after the event of this number."""
    message: dict[str, Any] = field(default_factory=dict)


class Session:
    """See the module's text."""

    def __init__(
        self, session_id: str, client: Mapping[str, Any], lease: Lease, on_loss: str, since: float
    ) -> None:
        self.id = session_id
        self.client = dict(client)
        self.lease = lease
        self.on_loss = on_loss
        self.since = since
        """Epoch seconds."""
        self.route: bytes | None = None
        self.phase = Phase.OPEN
        self.worker = WorkerState.NONE
        self.lost_reason = ""
        self.release = False
        self.unsafe = ""
        """Why its end is none in order; "" when it is."""
        self.actions: dict[str, ActionInfo] = {}
        self.events = EventLog()
        self._in_flight: dict[int, _InFlight] = {}
        self._in_flight_bytes = 0
        self._replies: OrderedDict[int, dict[str, Any]] = OrderedDict()
        self._forgotten = -1
        self._tick = -1
        """The last `tick`: who sends the next one has its answer, so only that one's is remembered."""
        self._outbox: deque[_Outgoing] = deque()
        self._hello_id = 0
        self.forget_at: float | None = None
        """Once it has ended: until when its last words may wait for their connection; monotonic."""
        self.end_reason = ""
        """Why it ends or has ended, as a sentence for its client."""

    # -- from the client

    def hello(
        self, route: bytes, msg_id: int, fields: Mapping[str, Any], reply: Mapping[str, Any], now: float
    ) -> list[Effect]:
        """The client is (again) there: answers at once, then replays what it has not seen."""
        if msg_id < self._hello_id:
            return []
        self._hello_id = msg_id
        effects = self._heard(route, now)
        self.route = route
        self.client = dict(fields["client"])
        # What still waits was for the old connection: the client repeats what it has no answer to.
        self._outbox.clear()
        self.events.rewind(max(0, fields["seen"] or 0))
        body = {"ok": True, **reply, "dropped": self.events.missing}
        self._outbox.append(_Outgoing(0, self._frame(msg_id, body)))
        return effects

    def command(
        self, route: bytes, msg_id: int, cmd: str, fields: Mapping[str, Any], now: float, size: int = 0
    ) -> list[Effect]:
        """One command other than hello, its fields checked. size: bytes of the message."""
        effects = self._heard(route, now)
        if cmd == "ping":
            self.events.trim(fields["seen"] or 0)
            self._send(msg_id, {"ok": True})
        elif msg_id in self._replies:
            self._send(msg_id, self._replies[msg_id])
        elif msg_id in self._in_flight:
            pass
        elif msg_id <= (self._tick if cmd == "tick" else self._forgotten):
            self._fail(msg_id, "bad_message", f"id {msg_id} was answered before, the answer is forgotten")
        elif len(self._in_flight) >= MAX_IN_FLIGHT:
            self._fail(msg_id, "bad_message", f"more than {MAX_IN_FLIGHT} commands wait for an answer")
        elif size and self._in_flight_bytes + size > MAX_IN_FLIGHT_BYTES:
            text = f"more than {MAX_IN_FLIGHT_BYTES} bytes of commands wait for an answer"
            self._fail(msg_id, "bad_message", text)
        elif cmd == "bye":
            self.release = bool(fields["release"])
            self._in_flight[msg_id] = _InFlight(cmd)
            reason = "its client gave up what was running" if fields.get("abort") else "the client said bye"
            effects += self.end(reason, in_order=not fields.get("abort"))
        elif cmd in FORWARDED:
            effects += self._forward(msg_id, cmd, fields, size)
        else:
            self._fail(msg_id, "unknown_command", f"unknown command {cmd!r}")
        return effects

    def answer(self, msg_id: int, body: Mapping[str, Any]) -> None:
        """The front's own answer to a command (describe, keep), not remembered."""
        self._send(msg_id, body)

    # -- from the worker

    def worker_reply(self, message: Mapping[str, Any]) -> None:
        msg_id = message.get("re")
        pending = self._in_flight.pop(msg_id, None) if isinstance(msg_id, int) else None
        if pending is None or not isinstance(msg_id, int):
            return
        self._in_flight_bytes -= pending.size
        body = {key: value for key, value in message.items() if key != "re"}
        if body.get("ok"):
            self._note(pending, body)
        self._remember(msg_id, body)

    def worker_event(self, event: Mapping[str, Any]) -> None:
        if event.get("ev") == "status":
            info = self.actions.get(str(event.get("action")))
            if info is not None:
                info.status = str(event.get("status"))
        self.events.append(dict(event))

    def server_ends(self, left: float | None) -> None:
        """So many seconds are left of the time for which the server is kept up; None: nothing to say."""
        if left is not None:
            self.events.append({"ev": "lease", "left": left})

    def worker_lost(self, reason: str) -> None:
        """The worker is gone though nobody asked it to go, or before it had answered everything."""
        self.worker = WorkerState.LOST
        self.lost_reason = reason
        for info in self.actions.values():
            info.status = "lost"
        self._fail_in_flight("crashed", f"the session's worker process died: {reason}")
        self.events.append({"ev": "lost", "reason": reason})

    # -- time and end

    def next_deadline(self) -> float | None:
        return self.lease.deadline() if self.phase is Phase.OPEN else None

    def check_lease(self, now: float) -> list[Effect]:
        """To be called at `next_deadline`."""
        if self.phase is not Phase.OPEN or not self.lease.expired(now):
            return []
        if self.on_loss == "continue" and self.worker is WorkerState.ALIVE:
            self.phase = Phase.FINISHING
            return [ToWorker({"cmd": "finish", "on": True})]
        silence = f"{self.lease.seconds:g} s of silence"
        return self.end(silence, f"the session was ended at the host after {silence}")

    def end(self, reason: str, told: str = "", *, in_order: bool = False) -> list[Effect]:
        """Ends the session; `ended` follows, at once when there is no worker.

        told: what its client hears. in_order: its client wanted that, and it was no abort.
        """
        if self.phase in (Phase.ENDING, Phase.ENDED):
            return []
        self.unsafe = "" if in_order else reason
        self.phase = Phase.ENDING
        self.end_reason = told or f"the session has ended: {reason}"
        if self.worker is not WorkerState.NONE:  # of one that died something may be left, too
            return [EndWorker(reason)]
        self.ended([])
        return []

    def ended(self, left: list[str]) -> None:
        """The worker and all its processes are gone, but for what `left` names."""
        self.phase = Phase.ENDED
        self.worker = WorkerState.NONE
        for msg_id in [i for i, pending in self._in_flight.items() if pending.cmd == "bye"]:
            del self._in_flight[msg_id]
            self._remember(msg_id, {"ok": True, "left": left})
        if not self.bye_replies():
            self.events.append({"ev": "lost", "reason": self.end_reason, "ended": True})
        self._fail_in_flight("stopping", self.end_reason)

    def bye_replies(self) -> dict[int, dict[str, Any]]:
        """What is answered to a `bye` that is repeated after the end."""
        return {i: body for i, body in self._replies.items() if "left" in body}

    # -- to the client

    def next_out(self) -> dict[str, Any] | None:
        """The next message for the client."""
        event = self.events.next()
        if self._outbox and (event is None or self._outbox[0].after < event[0]):
            return self._outbox[0].message
        if event is None:
            return None
        return {"v": WIRE_VERSION, "session": self.id, "seq": event[0], **event[1]}

    def out_sent(self) -> None:
        """The connection took what `next_out` gave."""
        event = self.events.next()
        if self._outbox and (event is None or self._outbox[0].after < event[0]):
            self._outbox.popleft()
        else:
            self.events.sent()

    # -- inside

    def _heard(self, route: bytes, now: float) -> list[Effect]:
        if self.route is None:
            self.route = route
        self.lease = self.lease.renewed(now)
        if self.phase is Phase.FINISHING:
            self.phase = Phase.OPEN
            return [ToWorker({"cmd": "finish", "on": False})]
        return []

    def _forward(self, msg_id: int, cmd: str, fields: Mapping[str, Any], size: int) -> list[Effect]:
        if self.phase is not Phase.OPEN:
            self._fail(msg_id, "stopping", "the session is ending")
            return []
        if cmd == "create" and len(self.actions) >= MAX_ACTIONS:
            self._fail(msg_id, "bad_message", f"there are {MAX_ACTIONS} actions already")
            return []
        effects: list[Effect] = []
        if self.worker is not WorkerState.ALIVE:
            if cmd != "configure":
                if self.worker is WorkerState.LOST:
                    self._fail(msg_id, "crashed", f"the session's worker process died: {self.lost_reason}")
                else:
                    self._fail(msg_id, "wrong_state", "`configure` comes first")
                return []
            self.worker = WorkerState.ALIVE
            self.actions.clear()
            effects.append(StartWorker())
        if cmd == "tick":
            self._replies.pop(self._tick, None)
            self._tick = msg_id
        action, name, plugin = (
            str(fields.get(k) or "")[:MAX_INFO_CHARS] for k in ("action", "name", "plugin")
        )
        self._in_flight[msg_id] = _InFlight(cmd, action, name, plugin, size)
        self._in_flight_bytes += size
        return [*effects, ToWorker({"id": msg_id, "cmd": cmd, **fields})]

    def _note(self, pending: _InFlight, body: Mapping[str, Any]) -> None:
        """Keeps the actions' states as the worker's answers tell them."""
        action = pending.action
        if pending.cmd == "tick":
            for ticked, (status, _) in body["statuses"].items():
                if ticked in self.actions:
                    self.actions[ticked].status = status
        elif pending.cmd == "create":
            self.actions[action] = ActionInfo(action, pending.name, pending.plugin)
        elif pending.cmd == "shutdown":
            self.actions.pop(action, None)
        elif action in self.actions:
            status = {"setup": "ready", "execute": body.get("status"), "cancel": "invalid"}.get(pending.cmd)
            if status is not None:
                self.actions[action].status = str(status)

    def _fail_in_flight(self, kind: str, message: str) -> None:
        for msg_id, pending in list(self._in_flight.items()):
            if pending.cmd != "bye":
                del self._in_flight[msg_id]
                self._in_flight_bytes -= pending.size
                self._remember(msg_id, {"ok": False, "error": error_map(kind, message)})

    def _fail(self, msg_id: int, kind: str, message: str) -> None:
        self._send(msg_id, {"ok": False, "error": error_map(kind, message)})

    def _remember(self, msg_id: int, body: Mapping[str, Any]) -> None:
        self._replies[msg_id] = dict(body)
        while len(self._replies) > MAX_REPLIES:
            forgotten, _ = self._replies.popitem(last=False)
            self._forgotten = max(self._forgotten, forgotten)
        self._send(msg_id, body)

    def _send(self, msg_id: int, body: Mapping[str, Any]) -> None:
        self._queue(self._frame(msg_id, body))

    def _frame(self, msg_id: int, body: Mapping[str, Any]) -> dict[str, Any]:
        return {"v": WIRE_VERSION, "re": msg_id, "session": self.id, **body}

    def _queue(self, message: dict[str, Any]) -> None:
        if len(self._outbox) < MAX_OUTBOX:
            # Beyond that the client does not read; it will repeat what it has no answer to.
            self._outbox.append(_Outgoing(self.events.last_seq, message))
