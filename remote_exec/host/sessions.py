"""All v2 sessions of a server: from a decoded message to the session it is for, and to its worker.

Rules: a message that is wrong gets an answer naming the field and changes nothing else; nothing here
waits. What must be sent stands in `direct` (answers without a session) and in the sessions themselves.
"""

from __future__ import annotations

import math
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Final

from remote_exec.codec import unpack
from remote_exec.errors import BadMessage, RemoteExecError
from remote_exec.host import incoming
from remote_exec.host.admission import most_sessions, refusal
from remote_exec.host.console import Console
from remote_exec.host.exclusive import Exclusive, Refusal, Request, driver_of
from remote_exec.host.liveness import MAX_LEASE_SECONDS, Lease, ServerLife
from remote_exec.host.replies import error_map, error_reply
from remote_exec.host.safety import Safety, Witness, why_unsafe
from remote_exec.host.session import (
    Effect,
    EndWorker,
    Phase,
    Session,
    StartWorker,
    ToWorker,
    WorkerState,
)
from remote_exec.host.workers import WorkerLink
from remote_exec.messages import FORWARDED, WIRE_VERSION

MIN_LEASE_SECONDS: Final = 0.1
MAX_DIRECT: Final = 1000
"""Answers outside a session that wait for one connection; who asks and never reads loses the rest."""
TOMBSTONES: Final = 64
DELIVER_SECONDS: Final = 5.0
"""For the last words of a session over a connection that is slow to take them."""

Describe = Callable[[Callable[[list[Any], str], None]], None]
"""Asks for the plugins; the callback gets them, or why there are none."""


class Sessions:
    """See the module's text."""

    def __init__(
        self,
        life: ServerLife,
        server: Mapping[str, Any],
        default_lease: float,
        start_worker: Callable[[str], WorkerLink],
        describe: Describe,
        console: Console,
    ) -> None:
        self._life = life
        self._server = server
        self._default_lease = default_lease
        self._start_worker = start_worker
        self._describe = describe
        self._console = console
        self._tombstones: OrderedDict[str, dict[int, dict[str, Any]]] = OrderedDict()
        self._endings: OrderedDict[str, str] = OrderedDict()
        """Why the last ones ended, for a client that comes back too late."""
        self.sessions: dict[str, Session] = {}
        self.links: dict[str, WorkerLink] = {}
        self.direct: dict[bytes, deque[dict[str, Any]]] = {}
        """By connection, so that one that does not read holds up no other."""
        self.stopping = False
        self.safety: Safety | None = None
        self.exclusive = Exclusive("", "")
        self.arrived: Callable[[object], None] = lambda client_id: None
        self.other_sessions: Callable[[], list[dict[str, Any]]] = list

    # -- from clients

    def message(self, route: bytes, body: bytes, now: float) -> None:
        """One v2 body."""
        message: dict[str, Any] = {}
        try:
            message = unpack(body)
            msg_id, cmd, session, fields = incoming.parse(message)
            self._dispatch(route, msg_id, cmd, session, fields, now, len(body))
        except BadMessage as error:
            self._console.complain(f"a client sent a message that cannot be used: {error}", now)
            self.refuse(route, message, error)

    def refuse(self, route: bytes, message: Mapping[str, Any], error: RemoteExecError) -> None:
        """Answers a message that changes nothing."""
        msg_id, session = message.get("id"), message.get("session")
        self._answer(
            route,
            msg_id if type(msg_id) is int else None,
            session if isinstance(session, str) else None,
            error_reply(error),
        )

    def _dispatch(
        self,
        route: bytes,
        msg_id: int,
        cmd: str,
        session_id: str | None,
        fields: dict[str, Any],
        now: float,
        size: int,
    ) -> None:
        session = self._living(session_id)
        self._life.heard(now)
        if cmd == "hello":
            self._hello(route, msg_id, session_id, fields, now)
        elif cmd == "keep":
            self._answer(route, msg_id, session_id, self._keep(fields, now))
        elif cmd == "describe":
            self._describe(
                lambda plugins, problem: self._answer(
                    route, msg_id, session_id, self._description(plugins, problem)
                )
            )
        elif session is None:
            replies = self._tombstones.get(session_id or "", {})
            known = replies.get(msg_id) if cmd == "bye" else None
            self._answer(route, msg_id, session_id, known or self._unknown_session(session_id))
        elif cmd in FORWARDED and self._congested(session):
            self._answer(
                route,
                msg_id,
                session_id,
                {
                    "ok": False,
                    "error": error_map("internal", "the session's worker does not take its commands"),
                },
            )
        else:
            self._apply(session, session.command(route, msg_id, cmd, fields, now, size))

    def _hello(
        self,
        route: bytes,
        msg_id: int,
        session_id: str | None,
        fields: dict[str, Any],
        now: float,
        admitted: bool = False,
    ) -> None:
        """admitted: nobody else has what is exclusive here, and this client has it from now on."""
        server = {**self._server, "time": time.time()}
        if session_id is None:
            body = {"ok": True, "server": server, "session": None, "resumed": False, "lease": None}
            self._answer(route, msg_id, None, body)
            return
        fields = {**fields, "client": incoming.client_info(fields["client"])}
        session = self._living(session_id)
        resumed = session is not None
        # A client that comes back (it has seen something) hears there how the session ends.
        if session is not None and session.phase is Phase.ENDING and fields["seen"] is None:
            self._answer(
                route,
                msg_id,
                session_id,
                {"ok": False, "error": error_map("stopping", "the session is ending")},
            )
            return
        if session is None:
            # One that said bye: its first greeting was on the way for longer than that.
            if fields["seen"] is not None or self._tombstones.get(session_id):
                self._answer(route, msg_id, session_id, self._unknown_session(session_id))
                return
            why = "the server is stopping" if self.stopping else self._full(fields["client"])
            if why:
                self._answer(route, msg_id, session_id, {"ok": False, "error": error_map("stopping", why)})
                return
            if not admitted:
                self._ask_admission(route, msg_id, session_id, fields, now)
                return
            session = self._open(session_id, fields, now)
            session.server_ends(self._life.kept.at_hello(now))
        reply = {"server": server, "session": session_id, "resumed": resumed, "lease": session.lease.seconds}
        self._apply(session, session.hello(route, msg_id, fields, reply, now))

    def _full(self, client: Mapping[str, Any]) -> str:
        return refusal((s.client for s in self.sessions.values()), client, most_sessions())

    def _ask_admission(
        self, route: bytes, msg_id: int, session_id: str, fields: dict[str, Any], now: float
    ) -> None:
        def refused(why: Refusal) -> None:
            self._console.info(f"refused {incoming.client_text(fields['client'])}: {why.text}")
            error = {**error_map("exclusive", why.text), "next": why.next_step}
            self._answer(route, msg_id, session_id, {"ok": False, "error": error})

        client = fields["client"]
        again = partial(self._hello, route, msg_id, session_id, fields, admitted=True)
        self.exclusive.admit(Request(driver_of(client), client, again, refused), now)

    def _open(self, session_id: str, fields: Mapping[str, Any], now: float) -> Session:
        seconds = fields["lease"] if fields["lease"] is not None else self._default_lease
        seconds = min(MAX_LEASE_SECONDS, max(MIN_LEASE_SECONDS, float(seconds)))
        session = Session(
            session_id, fields["client"], Lease(seconds, now), fields["on_loss"] or "stop", time.time()
        )
        self.sessions[session_id] = session
        self._tombstones.pop(session_id, None)
        self._life.session_opened()
        self.arrived(session.client.get("id"))
        self._console.debug(f"session {session_id[:8]} opened by {incoming.client_text(session.client)}")
        return session

    def _keep(self, fields: Mapping[str, Any], now: float) -> dict[str, Any]:
        self._life.keep(fields["seconds"], now)
        left = self._life.kept_left(now)
        if left == math.inf:
            return {"ok": True, "left": None, "until": None}
        return {"ok": True, "left": left or 0.0, "until": time.time() + (left or 0.0)}

    def _description(self, plugins: list[Any], problem: str) -> dict[str, Any]:
        body = {"ok": True, "plugins": plugins, "sessions": self.described()}
        return {**body, "problem": problem} if problem else body

    # -- from workers

    def worker_said(self, session_id: str, messages: list[dict[str, Any]]) -> None:
        session = self.sessions.get(session_id)
        for message in messages:
            if message.get("ev") == "log":
                self.log(session_id, message)
            if session is None:
                continue
            if "re" in message:
                session.worker_reply(message)
            elif "ev" in message:
                session.worker_event(message)

    def log(self, session_id: str, message: Mapping[str, Any]) -> None:
        """A record goes to the server's output, too."""
        self._console.record(
            session_id, str(message.get("level")), str(message.get("name")), str(message.get("text"))
        )

    def worker_exited(self, session_id: str, link: WorkerLink) -> None:
        """The worker's process has ended; what came from it may still be ending."""
        session = self.sessions.get(session_id)
        reason = link.exited or "it is gone"
        if session is None or self.links.get(session_id) is not link:
            return
        if session.worker is not WorkerState.ALIVE:
            return
        if session.phase is Phase.FINISHING:
            session.end("its actions have finished after its client was gone")
        elif session.phase is Phase.OPEN:
            self._console.error(f"session {session_id[:8]}: its worker process died: {reason}")
            session.worker_lost(reason)

    def link_over(self, session_id: str, link: WorkerLink) -> None:
        """Worker, keeper and all that came from them are gone."""
        self.worker_exited(session_id, link)  # of one that could not be launched nothing was heard before
        session = self.sessions.get(session_id)
        left = link.left or []
        if left:
            self._console.error(f"session {session_id[:8]}: could not end {'; '.join(left)}")
        current = session if self.links.get(session_id) is link else None
        told = (
            current is not None and current.phase is Phase.ENDING and current.worker is not WorkerState.LOST
        )
        unsafe = why_unsafe(current.unsafe if current is not None and told else None, link.exited, left)

        def over() -> None:
            if self.links.get(session_id) is link:
                del self.links[session_id]
                if current is not None and current.phase is Phase.ENDING:
                    current.ended(left)

        def say(event: dict[str, Any]) -> None:
            if session is not None:
                session.worker_event(event)

        if self.safety is None:
            over()
        else:
            self.safety.leaves(link, unsafe, Witness(session_id, say, over))

    # -- time

    def check(self, now: float) -> None:
        left = self._life.kept.news(now)
        for session in self.sessions.values():
            session.server_ends(left)
        for session in list(self.sessions.values()):
            before = session.phase
            effects = session.check_lease(now)
            if session.phase is not before:
                self._console.info(f"session {session.id[:8]} ends: nothing was heard from its client")
            self._apply(session, effects)

    def next_deadline(self) -> float | None:
        deadlines = [d for d in (s.next_deadline() for s in self.sessions.values()) if d is not None]
        return min(deadlines) if deadlines else None

    def forget_ended(self, now: float) -> bool:
        """To be called after what was said to the clients has been sent. True: something ended."""
        ended = [s for s in self.sessions.values() if s.phase is Phase.ENDED]
        for session in ended:
            said_bye = bool(session.bye_replies())
            if session.forget_at is None:
                session.forget_at = now + DELIVER_SECONDS
                self._bury(session)
            # A connection that takes no more just now: who said bye and reads on gets it all.
            waits = said_bye and session.route is not None and session.next_out() is not None
            if not (waits and now < session.forget_at):
                del self.sessions[session.id]
                self._life.session_ended(now, at_once=session.release or not said_bye)
        return bool(ended)

    def _bury(self, session: Session) -> None:
        self._tombstones[session.id] = session.bye_replies()
        self._endings[session.id] = session.end_reason
        for remembered in (self._tombstones, self._endings):
            while len(remembered) > TOMBSTONES:
                remembered.popitem(last=False)

    def stop(self, reason: str) -> None:
        """Ends all sessions; new ones are refused."""
        self.stopping = True
        for session in list(self.sessions.values()):
            self._apply(session, session.end(reason))

    # -- for describe and state.json

    def described(self) -> list[dict[str, Any]]:
        own = [
            {
                "id": s.id,
                "client": s.client,
                "since": s.since,
                "actions": [info.as_map() for info in s.actions.values()],
            }
            for s in self.sessions.values()
            if s.phase is not Phase.ENDED
        ]
        return own + self.other_sessions()

    # -- inside

    def _living(self, session_id: str | None) -> Session | None:
        session = self.sessions.get(session_id) if session_id is not None else None
        return session if session is not None and session.phase is not Phase.ENDED else None

    def _apply(self, session: Session, effects: list[Effect]) -> None:
        for effect in effects:
            link = self.links.get(session.id)
            if isinstance(effect, StartWorker):
                # A link of a dead worker whose leftovers are still being ended goes on by itself.
                try:
                    self.links[session.id] = self._start_worker(session.id)
                except OSError as error:  # e.g. no more descriptors: it is this session's trouble alone
                    session.worker_lost(f"it could not be started: {error.strerror}")
                    return
            elif isinstance(effect, EndWorker) and link is None:
                session.ended([])
            elif link is None:
                continue
            elif isinstance(effect, ToWorker):
                link.send(effect.message)
            elif isinstance(effect, EndWorker):
                self._console.debug(f"session {session.id[:8]} ends: {effect.reason}")
                link.end()

    def _unknown_session(self, session_id: str | None) -> dict[str, Any]:
        gone = "the session does not exist (any more): its lease was over, or it said bye"
        text = self._endings.get(session_id or "", gone)
        return {"ok": False, "error": error_map("unknown_session", text)}

    def _congested(self, session: Session) -> bool:
        link = self.links.get(session.id)
        return link is not None and link.congested

    def _answer(self, route: bytes, msg_id: int | None, session: str | None, body: Mapping[str, Any]) -> None:
        answers = self.direct.setdefault(route, deque())
        if len(answers) < MAX_DIRECT:
            answers.append({"v": WIRE_VERSION, "re": msg_id, "session": session, **body})
