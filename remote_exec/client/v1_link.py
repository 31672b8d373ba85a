"""A link to a server that speaks only the vocabulary in the field (v1), behind the same interface.

| ours                | theirs                                                                     |
|---------------------|----------------------------------------------------------------------------|
| configure           | nothing; goes along with init and setup                                    |
| create, setup       | init, setup                                                                |
| execute             | execute, then update: its status is the reply's                            |
| events of status    | update, once per tick period and running action; only a change is an event |
| (final status)      | terminate SUCCESS or FAILURE                                               |
| cancel              | terminate INVALID                                                          |
| shutdown            | reset                                                                      |
| bye                 | terminate INVALID and reset of what is left                                |
| ping                | heartbeat, when nothing else was said for a second                         |

Rules: one request at a time, the next one after its answer (their server is a REP socket). Nothing is sent
twice, because nothing there is safe to repeat: a cut connection is a lost host. Log lines and reasons of
failures do not cross; an action that fails says so.
"""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final

from remote_exec.client.connection import Connection
from remote_exec.client.link import DEFAULT_LEASE, Context, Deliver, Gone, LinkUp, RemoteSession
from remote_exec.client.session import Event, Reply
from remote_exec.codec import pack_v1, unpack_v1
from remote_exec.errors import RemoteError

HEARTBEAT_S: Final = 1.0
DEFAULT_TICK_S: Final = 0.1

Answer = Mapping[str, Any]


@dataclass
class _Request:
    body: bytes
    then: Callable[[Answer], None]
    sent: float = 0.0


@dataclass
class _Action:
    id: str
    run: int = 0
    """Id of the execute command; 0: not running."""
    next_update: float = float("inf")
    asked: bool = False


class V1Session:
    """One scenario at a v1 server: a set of actions, which is all that a v1 server knows."""

    def __init__(self, link: V1Link, context: Context, session_id: str, deliver: Deliver) -> None:
        self.id = session_id
        self.deliver = deliver
        self.actions: dict[str, _Action] = {}
        self.config: Mapping[str, Any] = {}
        self._link = link
        self._context = context
        self._ids = itertools.count(1)

    def send(self, cmd: str, fields: Mapping[str, Any]) -> int:
        number = next(self._ids)
        pack_v1(dict(fields))  # a refusal belongs to the caller
        self._context.call(partial(self._link.command, self, number, cmd, fields))
        return number

    @property
    def tick_period(self) -> float:
        return float(self.config.get("tick_period") or DEFAULT_TICK_S)

    def answer(self, number: int, cmd: str, error: RemoteError | None = None, **fields: Any) -> None:
        self.deliver(Reply(number, cmd, fields, error))


@dataclass
class V1Link:
    """The driver of a link to a v1 server. In the hub's thread, but for open_session."""

    context: Context
    _connection: Connection | None = None
    _sessions: list[V1Session] = field(default_factory=list)
    _queue: deque[_Request] = field(default_factory=deque)
    _flying: _Request | None = None
    _last_sent: float = 0.0
    _lost: str = ""

    def start(self) -> None:
        self._connection = Connection(self.context.socket_context(), self.context.spec.endpoint)
        self._ask("heartbeat", {}, self._greeted)

    def _greeted(self, answer: Answer) -> None:
        self.context.deliver(LinkUp({}, 1))

    def open_session(self, session_id: str, deliver: Deliver) -> RemoteSession:
        session = V1Session(self, self.context, session_id, deliver)
        self.context.call(partial(self._opened, session))
        return session

    def _opened(self, session: V1Session) -> None:
        self._sessions.append(session)
        session.answer(0, "hello")

    # --- commands

    def command(self, session: V1Session, number: int, cmd: str, fields: Mapping[str, Any]) -> None:
        """Carry one of our commands out in theirs."""
        if self._lost:
            session.deliver(Gone(self._lost))
            return
        handler = getattr(self, f"_do_{cmd}", None)
        if handler is None:
            reason = f"{self.context.spec.name} speaks only the older protocol (v1), which has no {cmd!r}"
            session.answer(number, cmd, RemoteError("unsupported", reason))
            return
        handler(session, number, fields)

    def _do_configure(self, session: V1Session, number: int, fields: Mapping[str, Any]) -> None:
        session.config = fields
        error = None
        if fields.get("clock") == "sim":
            reason = (
                f"{self.context.spec.name} speaks only the older protocol (v1), which has no simulated time"
            )
            error = RemoteError("unsupported", reason)
        session.answer(number, "configure", error)

    def _do_create(self, session: V1Session, number: int, fields: Mapping[str, Any]) -> None:
        action = session.actions.setdefault(fields["action"], _Action(fields["action"]))
        payload = {"action_id": action.id, "plugin_key": fields["plugin"], "init_args": fields["init_args"]}
        payload["output_dir"] = session.config.get("output_dir")
        self._ask("init", payload, partial(self._answered, session, number, "create"))

    def _do_setup(self, session: V1Session, number: int, fields: Mapping[str, Any]) -> None:
        payload = {"action_id": fields["action"], "tick_period": session.tick_period}
        for name in ("output_dir", "scenario_file_directory"):
            payload[name] = session.config.get(name)
        self._ask("setup", payload, partial(self._answered, session, number, "setup"))

    def _do_execute(self, session: V1Session, number: int, fields: Mapping[str, Any]) -> None:
        action = session.actions[fields["action"]]
        args = dict(fields["args"])
        if fields.get("actor") is not None:
            args["associated_actor"] = fields["actor"]
        action.run, action.next_update = number, float("inf")
        payload = {"action_id": action.id, "exec_args": args}
        self._ask("execute", payload, partial(self._executed, session, action, number))

    def _executed(self, session: V1Session, action: _Action, number: int, answer: Answer) -> None:
        error = _error(answer)
        if error is not None:
            action.run = 0
            session.answer(number, "execute", error)
        else:
            self._ask("update", {"action_id": action.id}, partial(self._first, session, action, number))

    def _first(self, session: V1Session, action: _Action, number: int, answer: Answer) -> None:
        status, feedback = self._status(answer)
        session.answer(number, "execute", status=status, feedback=feedback)
        self._took_status(session, action, number, status)

    def _do_cancel(self, session: V1Session, number: int, fields: Mapping[str, Any]) -> None:
        action = session.actions.get(fields["action"])
        if action is not None:
            self._terminate(action, "INVALID")
        session.answer(number, "cancel")

    def _do_shutdown(self, session: V1Session, number: int, fields: Mapping[str, Any]) -> None:
        action = session.actions.pop(fields["action"], None)
        if action is None:
            session.answer(number, "shutdown")
            return
        if action.run:
            self._terminate(action, "INVALID")
        then = partial(self._answered, session, number, "shutdown")
        self._ask("reset", {"action_id": action.id}, then)

    def _do_bye(self, session: V1Session, number: int, fields: Mapping[str, Any]) -> None:
        for action in session.actions.values():
            if action.run:
                self._terminate(action, "INVALID")
            self._ask("reset", {"action_id": action.id}, lambda answer: None)
        session.actions = {}
        self._ask("heartbeat", {}, lambda answer: self._gone(session, number))

    def _gone(self, session: V1Session, number: int) -> None:
        if session in self._sessions:
            self._sessions.remove(session)
        session.answer(number, "bye", left=[])

    # --- statuses

    def _terminate(self, action: _Action, status: str) -> None:
        action.run, action.next_update = 0, float("inf")
        payload = {"action_id": action.id, "new_status": status}
        self._ask("terminate", payload, lambda answer: None)

    def _status(self, answer: Answer) -> tuple[str, str]:
        error = _error(answer)
        name = self.context.spec.name
        if error is not None:
            return "failure", f"{name}: {error}"
        status = str(answer.get("action_status", "")).lower()
        if status == "running" or status == "success":
            return status, ""
        reason = f"{status or 'no status'} on {name}; its server speaks only v1 and tells no reason"
        return "failure", reason

    def _took_status(self, session: V1Session, action: _Action, run: int, status: str) -> None:
        if action.run != run:
            return
        if status == "running":
            action.next_update = self.context.now() + session.tick_period
        else:
            self._terminate(action, status.upper())

    def _updated(self, session: V1Session, action: _Action, run: int, answer: Answer) -> None:
        action.asked = False
        if action.run != run:
            return  # cancelled or started anew meanwhile
        status, feedback = self._status(answer)
        if status != "running":
            fields = {"action": action.id, "status": status, "feedback": feedback, "run": run}
            session.deliver(Event("status", fields))
        self._took_status(session, action, run, status)

    def _answered(self, session: V1Session, number: int, cmd: str, answer: Answer) -> None:
        session.answer(number, cmd, _error(answer))

    # --- the wire

    def _ask(self, cmd: str, payload: Mapping[str, Any], then: Callable[[Answer], None]) -> None:
        self._queue.append(_Request(pack_v1({"cmd": cmd, "payload": dict(payload)}), then))
        self._next()

    def _next(self) -> None:
        if self._flying is None and self._queue and self._connection is not None:
            self._flying = self._queue.popleft()
            self._flying.sent = self._last_sent = self.context.now()
            self._connection.send([b"", self._flying.body])

    def pollables(self) -> list[Any]:
        return self._connection.pollables() if self._connection else []

    def readable(self) -> None:
        if self._connection is None:
            return
        for frames in self._connection.receive():
            request, self._flying = self._flying, None
            if request is None:
                continue
            self.context.measured(self.context.now() - request.sent)
            request.then(unpack_v1(frames[-1]))
            if self._connection is None:
                return
            self._next()
        if self._connection.broken():
            name = self.context.spec.name
            self.fail(f"the connection to {name} was cut, and its server's protocol (v1) cannot resume")

    @property
    def _patience(self) -> float:
        return self.context.spec.patience or self.context.spec.lease or DEFAULT_LEASE

    def next_due(self) -> float:
        if self._lost:
            return float("inf")
        if self._flying is not None:
            return self._flying.sent + self._patience
        updates = [a.next_update for s in self._sessions for a in s.actions.values()]
        return min([self._last_sent + HEARTBEAT_S, *updates])

    def on_time(self, now: float) -> None:
        if self._lost:
            return
        if self._flying is not None and now - self._flying.sent >= self._patience:
            self.fail(f"no answer from {self.context.spec.name} for {self._patience:g} s")
            return
        for session in self._sessions:
            for action in session.actions.values():
                if now >= action.next_update and not action.asked:
                    action.asked, action.next_update = True, float("inf")
                    then = partial(self._updated, session, action, action.run)
                    self._ask("update", {"action_id": action.id}, then)
        if self._flying is None and now - self._last_sent >= HEARTBEAT_S:
            self._ask("heartbeat", {}, lambda answer: None)

    def leave(self, release: bool) -> None:
        self.context.deliver(Gone("left"))

    def fail(self, reason: str) -> None:
        if self._lost:
            return
        self._lost = reason
        self.close()
        self.context.deliver(Gone(reason))
        for session in self._sessions:
            session.deliver(Gone(reason))

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None


def _error(answer: Answer) -> RemoteError | None:
    if answer.get("status") == "ok":
        return None
    return RemoteError("plugin_error", str(answer.get("message") or "refused without a reason"))
