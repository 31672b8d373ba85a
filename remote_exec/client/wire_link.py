"""A link in our own vocabulary: a session that holds the server, and one per scenario.

A connection that breaks is replaced and every session is resumed on the new one. When nobody listens any
more the sessions are gone with the server's process, so the host is lost at once and not after its lease.

| what happens           | somebody mends the way                   | nobody does                          |
|------------------------|------------------------------------------|--------------------------------------|
| the connection is cut  | it is asked for another one              | if somebody listens there: a new one |
| nothing is heard       | likewise; the old one goes on meanwhile  | a new one                            |
| the way is mended      | a new one there, every session resumed   | .                                    |
| the way is gone        | the host is lost, at once                | .                                    |
| the patience is over   | the host is lost                         | the host is lost                     |
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from functools import partial
from typing import Any

from remote_exec.client.connection import Connection, Probe
from remote_exec.client.link import (
    DEFAULT_LEASE,
    Context,
    Deliver,
    Delivery,
    Gone,
    LinkUp,
    Note,
    RemoteSession,
)
from remote_exec.client.notices import refusal_text
from remote_exec.client.outage import Outage
from remote_exec.client.session import ClientSession, Due, Liveness, Outgoing, Received, Reply, remote_error
from remote_exec.codec import unpack
from remote_exec.errors import ProtocolError, RemoteError
from remote_exec.messages import WIRE_VERSION

BACKOFF_S, BACKOFF_MAX_S = 0.02, 1.0
PROBE_INTERVAL_S = 0.02
SLEPT_S = 0.5
"""The patience was over for so long before anybody looked: this process did not run."""


class _WireSession:
    """A session in our own vocabulary."""

    def __init__(self, link: WireLink, context: Context, core: ClientSession, deliver: Deliver) -> None:
        assert core.session_id is not None
        self.id = core.session_id
        self.core = core
        self.deliver = deliver
        self._link = link
        self._context = context

    def send(self, cmd: str, fields: Mapping[str, Any]) -> int:
        outgoing = self.core.prepare(cmd, fields)
        self._context.call(partial(self._link.send, self, outgoing))
        return outgoing.id


class WireLink:
    """The driver of a link to a server that knows `hello`."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._spec = context.spec
        self._live = Liveness(DEFAULT_LEASE, self._spec.connect_timeout, context.now())
        self._outage = Outage()
        self._way = self._spec.way
        self._endpoint = self._spec.endpoint
        self._unconfirmed = ""
        """The endpoint of a mended way that has not answered yet."""
        self._sessions: dict[str, _WireSession] = {}
        self._resuming: set[str] = set()
        """Sessions that have not answered on the fresh connection."""
        self._ended: set[str] = set()
        """Sessions that said bye: what was under way then may be refused."""
        self._dropped = 0
        self._connection: Connection | None = None
        self._probe: Probe | None = None
        self._backoff = 0.0
        self._reconnect_at = float("inf")
        self._hold: RemoteSession | None = None
        self._up = False
        self._lost = ""
        self._refusal: RemoteError | None = None
        self._complained = False

    def start(self) -> None:
        if self._way is not None:
            self._way.watch(_Watcher(self, self._context))
        self._connect()
        self._hold = self.open_session(str(uuid.uuid4()), self._holder)

    def leave(self, release: bool) -> None:
        if self._hold is None or self._lost:
            self._context.deliver(Gone(self._lost))
        else:
            self._hold.send("bye", {"release": release})

    def open_session(self, session_id: str, deliver: Deliver) -> RemoteSession:
        session = _WireSession(self, self._context, ClientSession(session_id), deliver)
        spec = self._spec
        hello = {"client": dict(spec.client), "seen": None, "lease": spec.lease, "on_loss": spec.on_loss}
        session.send("hello", hello)
        return session

    def send(self, session: _WireSession, outgoing: Outgoing) -> None:
        if self._lost:
            session.deliver(Gone(self._lost))
            return
        if outgoing.cmd == "hello":
            self._sessions[session.id] = session
        session.core.sent(outgoing, self._context.now())
        if self._connection is not None:
            self._connection.send([outgoing.frame])

    def _holder(self, item: Delivery) -> None:
        if isinstance(item, Gone):
            self._hold_again(item.reason)
        elif isinstance(item, Reply) and item.cmd == "hello":
            self._greeted(item)
        elif isinstance(item, Reply) and item.cmd == "bye":
            self._lost = "left"
            self.close()
            self._context.deliver(Gone("left"))

    def _hold_again(self, reason: str) -> None:
        """What held the server has ended there. Where another session goes on (on_loss), so does the link."""
        if self._sessions and not self._lost:
            self._hold = self.open_session(str(uuid.uuid4()), self._holder)
        else:
            self.fail(reason)

    def _greeted(self, reply: Reply) -> None:
        name = self._spec.name
        if reply.error is not None:
            self._refusal = reply.error
            self.fail(refusal_text(name, reply.error))
            return
        server = reply.fields.get("server")
        wire = server.get("wire") if isinstance(server, dict) else None
        if not isinstance(server, dict) or wire != WIRE_VERSION:
            both = (
                "have the same version of se-remote on both sides: `se-remote provision HOST` brings it there"
            )
            self.fail(f"{name} speaks wire version {wire}, this client speaks {WIRE_VERSION}; {both}")
            return
        lease = reply.fields.get("lease")
        lease = float(lease) if isinstance(lease, (int, float)) and lease > 0 else DEFAULT_LEASE
        self._live.set(lease, self._spec.patience or lease)
        self._up = True
        self._context.deliver(LinkUp(server, WIRE_VERSION))

    def pollables(self) -> list[Any]:
        return self._connection.pollables() if self._connection else []

    def readable(self) -> None:
        if self._connection is None:
            return
        for frames in self._connection.receive():
            self._heard(self._context.now())
            try:
                self._message(frames[-1])
            except ProtocolError as e:
                self._complain(f"sent something that cannot be understood: {e}")
            if self._connection is None:
                return
        if self._connection.broken() and self._probe is None:
            self._cut("closed")

    def _heard(self, now: float) -> None:
        self._live.heard(now)
        self._backoff = 0.0
        if self._way is not None and self._unconfirmed:
            self._way.connected(self._unconfirmed)
            self._unconfirmed = ""
        elif self._way is not None and self._context.away:
            self._way.fine()
        if not self._resuming:
            self._back(now)

    def _cut(self, reason: str) -> None:
        """What was connected is of no use any more."""
        self._away(reason)
        if self._way is None:
            self._probe = Probe(self._endpoint)
            return
        self._drop_connection()
        self._later(self._context.now())

    def _later(self, now: float) -> None:
        self._reconnect_at = now + self._backoff
        self._backoff = min(max(2 * self._backoff, BACKOFF_S), BACKOFF_MAX_S)

    def _away(self, reason: str) -> None:
        if self._up:
            self._outage.begins(self._live.heard_at, reason)
            self._context.away = True

    def _back(self, now: float) -> None:
        """Heard, and every session has been resumed."""
        if self._context.away:
            text = self._outage.over(now, self._dropped)
            self._context.away, self._dropped = False, 0
            if text:
                self._context.deliver(Note("info", text))

    # --- what becomes of the way

    def way_cut(self, reason: str) -> None:
        if not self._lost:
            self._reconnect_at = float("inf")
            self._drop_connection()
            self._away(reason)

    def way_mended(self, endpoint: str) -> None:
        if not self._lost:
            self._endpoint = self._unconfirmed = endpoint
            self._reconnect(self._context.now())

    def way_gone(self, reason: str) -> None:
        silent = self._context.now() - self._live.heard_at
        if self._up and silent >= self._live.lease:
            reason = f"{_ended_after(self._live.lease)}, and its server with it"
        self.fail(f"the connection to {self._spec.name} is lost: {reason}" if not self._up else reason)

    def _message(self, frame: bytes) -> None:
        message = unpack(frame)
        session = self._sessions.get(str(message.get("session")))
        if session is None:
            if message.get("ok") is False and message.get("session") not in self._ended:
                self._complain(f"refused a message: {remote_error(message.get('error'))}")
            return
        received = session.core.receive(message, self._context.now())
        if received.round_trip is not None:
            server = message.get("server")
            self._context.measured(
                received.round_trip, server.get("time") if isinstance(server, dict) else None
            )
        self._took_resumed(session, received)
        for item in received.items:
            if isinstance(item, Reply) and item.cmd == "bye":
                self._sessions.pop(session.id, None)
                self._ended.add(session.id)
            session.deliver(item)
        if received.gone:
            self._sessions.pop(session.id, None)
            session.deliver(Gone(received.gone))

    def _took_resumed(self, session: _WireSession, received: Received) -> None:
        if received.resumed or received.gone:
            self._resuming.discard(session.id)
            self._dropped += received.dropped
            if not self._resuming:
                self._back(self._context.now())

    def next_due(self) -> float:
        if self._lost:
            return float("inf")
        soon = self._context.now() + PROBE_INTERVAL_S if self._probe is not None else float("inf")
        return min(soon, self._reconnect_at, self._live.next_due(), self._outage.due())

    def on_time(self, now: float) -> None:
        if self._lost:
            return
        if self._probe is not None:
            self._probed(self._probe, now)
        due = self._live.due(now)
        if due is Due.LOST:
            self.fail(self._silence(now))
        elif now >= self._reconnect_at:
            self._fresh(now, silent=False)
        elif due is Due.DOUBT:
            self._away(f"nothing heard for {now - self._live.heard_at:.1f} s")
            self._fresh(now, silent=True)
        elif due is Due.PING:
            self._ping(now)
        warning = self._outage.warning(now, self._live.patience) if not self._lost else None
        if warning is not None:
            self._context.deliver(Note("warning", warning))

    def _fresh(self, now: float, silent: bool) -> None:
        """A fresh connection: made here, or asked for."""
        self._reconnect_at = float("inf")
        if self._way is None:
            self._reconnect(now)
        else:
            self._live.doubted(now)
            self._way.doubt(silent)

    def _probed(self, probe: Probe, now: float) -> None:
        answer = probe.answer()
        if answer is None:
            return
        self._probe = None
        if answer:
            self._later(now)
        else:
            self.fail(
                f"the connection to {self._spec.name} was closed and nobody listens there any more "
                "(the server has ended, or the tunnel is gone)"
            )

    def _silence(self, now: float) -> str:
        silent, patience, name = now - self._live.heard_at, self._live.patience, self._spec.name
        trouble = self._way.trouble if self._way is not None else ""
        why = f" ({trouble})" if trouble else ""
        if self._up and silent > patience + SLEPT_S:
            ended = _ended_after(self._live.lease)
            return f"{ended}: this machine slept, or the program was stopped; no answer from {name}{why}"
        if self._up:
            return f"nothing was heard from {name} for {patience:g} s{why}"
        return (
            f"no answer from {name} ({self._endpoint}) within {patience:g} s{why}: "
            "is scenario_execution_server running there?"
        )

    def _ping(self, now: float) -> None:
        self._live.pinged(now)
        if self._connection is None:
            return
        for session in self._sessions.values():
            if session.core.opened:
                self._connection.send([session.core.ping(now)])

    def _connect(self) -> None:
        self._drop_connection()
        context = self._context.socket_context()
        again = self._up or bool(self._unconfirmed)
        self._connection = Connection(context, self._endpoint, again=again)

    def _drop_connection(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _reconnect(self, now: float) -> None:
        self._reconnect_at = float("inf")
        self._live.doubted(now)
        self._live.pinged(now)
        self._connect()
        self._resuming = {session.id for session in self._sessions.values() if session.core.opened}
        for session in self._sessions.values():
            self._resume(session)

    def _resume(self, session: _WireSession) -> None:
        assert self._connection is not None
        for frame in session.core.resume(self._spec.client, self._context.now()):
            self._connection.send([frame])

    def _complain(self, text: str) -> None:
        if not self._complained:
            self._complained = True
            self._context.deliver(Note("warning", f"{self._spec.name} {text}"))

    def fail(self, reason: str) -> None:
        if self._lost:
            return
        self._lost = reason
        sessions, self._sessions = list(self._sessions.values()), {}
        self.close()
        self._context.deliver(Gone(reason, self._refusal))
        for session in sessions:
            if session.deliver != self._holder:
                session.deliver(Gone(reason))

    def close(self) -> None:
        if self._way is not None:
            self._way.stop()
        if self._probe is not None:
            self._probe.close()
            self._probe = None
        self._drop_connection()
        self._context.away = False


class _Watcher:
    """Brings what becomes of the way into the hub's thread."""

    def __init__(self, link: WireLink, context: Context) -> None:
        self._link = link
        self._context = context

    def cut(self, reason: str) -> None:
        self._context.call(partial(self._link.way_cut, reason))

    def mended(self, endpoint: str) -> None:
        self._context.call(partial(self._link.way_mended, endpoint))

    def gone(self, reason: str) -> None:
        self._context.call(partial(self._link.way_gone, reason))


def _ended_after(lease: float) -> str:
    return f"the session was ended at the host after {lease:g} s of silence"
