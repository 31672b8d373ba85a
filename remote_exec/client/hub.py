"""The shell of the client: one thread that owns every socket, and links to hosts.

Rules:
- Only the hub's thread touches sockets. Everybody else appends a call and wakes it; that neither waits
  nor locks, so it may be done from any thread, from a tick and from a signal handler.
- What arrives is handed to the `deliver` that was passed in, in the hub's thread and in order.
- A link asks who is there before it speaks v2 to an address that this client did not start itself.
- One link's trouble ends that link, never the thread that serves them all.
- At exit nothing is waited for: the thread is a daemon and sockets do not linger.
"""

from __future__ import annotations

import os
import threading
import time
import uuid
from collections import deque
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import zmq

from remote_exec.client.connection import Connection, connect
from remote_exec.client.link import Context, Deliver, Driver, Gone, LinkSpec, RemoteSession
from remote_exec.client.session import remote_error
from remote_exec.client.v1_link import V1Link
from remote_exec.client.wire_link import WireLink
from remote_exec.codec import pack, pack_v1, unpack, unpack_v1
from remote_exec.errors import HostLost, RemoteExecError
from remote_exec.messages import WIRE_VERSION

OVER_S = 0.1
"""How often `request` looks whether an answer can still come."""
GATHER_S = 0.002
"""While a tick hands over one call after the other: they are taken together, or each would stop the tick."""
ASK_AGAIN_S = 2.0
"""An unanswered "who is there" is repeated on a fresh connection."""


def waking_time() -> float:
    """Seconds, monotonic; goes on while the computer sleeps, as the host's lease does."""
    # Linux has a clock of its own for that; the other systems' CLOCK_MONOTONIC is one already.
    return time.clock_gettime(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))


class Hub:
    """The thread that owns the sockets of one client. `clock` and `wall`: seconds, monotonic and epoch."""

    def __init__(
        self, clock: Callable[[], float] = waking_time, wall: Callable[[], float] = time.time
    ) -> None:
        self.now = clock
        self.wall = wall
        self.context: Any = zmq.Context()
        self._calls: deque[Callable[[], None]] = deque()
        self._links: list[HostLink] = []
        self._awake = False
        self._closing = False
        self._wake_in, self._wake_out = os.pipe()
        os.set_blocking(self._wake_in, False)
        os.set_blocking(self._wake_out, False)
        self._thread = threading.Thread(target=self._run, name="se-remote hub", daemon=True)
        self._thread.start()

    def connect(self, spec: LinkSpec, deliver: Deliver) -> HostLink:
        """A link to the host; `deliver` gets LinkUp once it has answered, or Gone."""
        link = HostLink(self, spec, deliver)
        self.call(partial(self._add, link))
        return link

    def call(self, function: Callable[[], None]) -> None:
        """Let the hub's thread call `function`, soon and in order."""
        self._calls.append(function)
        if not self._awake:
            self._awake = True
            try:
                os.write(self._wake_out, b"x")
            except OSError:
                pass  # the pipe is full, then it is being woken anyway; or it is closed

    def close(self, timeout: float = 2.0) -> None:
        """Close every socket and end the thread. Idempotent; waits for at most `timeout` seconds."""
        self.call(self._stop)
        if threading.current_thread() is not self._thread:
            self._thread.join(timeout)

    def _stop(self) -> None:
        self._closing = True

    def _add(self, link: HostLink) -> None:
        self._links.append(link)
        self._guard(link, link.driver.start)

    def drop(self, link: HostLink) -> None:
        """Forget a link. In the hub's thread."""
        if link in self._links:
            self._links.remove(link)
            link.driver.close()

    def _run(self) -> None:
        try:
            while not self._closing:
                self._round()
        except Exception as e:  # a fault of ours; who waits must not wait for ever
            for link in list(self._links):
                link.driver.fail(f"internal error of the client: {type(e).__name__}: {e}")
        finally:
            for link in list(self._links):
                self.drop(link)
            self.context.term()  # at once: every socket is closed and none lingers
            os.close(self._wake_in)
            os.close(self._wake_out)

    def _round(self) -> None:
        poller = zmq.Poller()
        poller.register(self._wake_in, zmq.POLLIN)
        for link in self._links:
            for pollable in link.driver.pollables():
                poller.register(pollable, zmq.POLLIN)
        due = min((link.driver.next_due() for link in self._links), default=float("inf"))
        wait = min(max(due - self.now(), 0.0), 3600.0)
        ready = dict(poller.poll(int(wait * 1000) + 1 if wait else 0))
        if ready.pop(self._wake_in, None) is not None:
            os.read(self._wake_in, 4096)
        for link in list(self._links):
            if any(pollable in ready for pollable in link.driver.pollables()):
                self._guard(link, link.driver.readable)
        self._take_calls()
        # Until here nobody had to write: in a busy tick every write would hand the interpreter over.
        self._awake = False
        self._take_calls()
        now = self.now()
        for link in list(self._links):
            self._guard(link, partial(link.driver.on_time, now))

    def _take_calls(self) -> None:
        while self._calls and not self._closing:
            for _ in range(len(self._calls)):
                self._calls.popleft()()
            if self._calls:
                time.sleep(GATHER_S)

    @staticmethod
    def _guard(link: HostLink, function: Callable[[], None]) -> None:
        try:
            function()
        except RemoteExecError as e:
            link.driver.fail(f"{link.spec.name} broke the protocol: {e}")
        except Exception as e:
            link.driver.fail(f"the connection to {link.spec.name} failed: {type(e).__name__}: {e}")


class HostLink:
    """A host, spoken to in whichever vocabulary it knows."""

    def __init__(self, hub: Hub, spec: LinkSpec, deliver: Deliver) -> None:
        self.spec = spec
        self.deliver = deliver
        self.round_trip: float | None = None
        """Smoothed, in seconds. Written by the hub's thread alone."""
        self.clock_ahead: float | None = None
        """Seconds that the host's clock is ahead of ours, from the quickest exchange so far."""
        self.away = False
        """The connection is lost, or silent, for now. Written by the hub's thread alone."""
        self._hub = hub
        self._quickest = float("inf")
        self.driver: Driver = WireLink(self) if spec.ours else AskingLink(self)

    def session(self, deliver: Deliver) -> RemoteSession:
        """A session of its own for one scenario. Only after LinkUp."""
        return self.driver.open_session(str(uuid.uuid4()), deliver)

    def leave(self, release: bool) -> None:
        """Say goodbye for good; `deliver` gets Gone when the host has heard it. Any thread."""
        self.call(lambda: self.driver.leave(release))

    def close(self) -> None:
        """Close the connection. The server notices by the lease, or has been told by `bye`."""
        self._hub.call(partial(self._hub.drop, self))

    def now(self) -> float:
        return self._hub.now()

    def call(self, function: Callable[[], None]) -> None:
        self._hub.call(partial(self._hub._guard, self, function))

    def socket_context(self) -> Any:
        return self._hub.context

    def become(self, driver: Driver) -> None:
        self.driver = driver
        driver.start()

    def measured(self, round_trip: float, server_time: object = None) -> None:
        """One exchange that the server answered at once, as soon as its reply is here.

        A shorter one is believed at once: the first ones hold a connection's handshake, too.
        """
        old = self.round_trip
        self.round_trip = round_trip if old is None or round_trip < old else 0.8 * old + 0.2 * round_trip
        if isinstance(server_time, (int, float)) and round_trip < self._quickest:
            self._quickest = round_trip
            self.clock_ahead = server_time - (self._hub.wall() - round_trip / 2)


class AskingLink:
    """Asks in the v1 vocabulary who is there: frames that it does not expect could kill a v1 server."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._connection: Connection | None = None
        self._again = 0.0
        self._give_up = context.now() + context.spec.connect_timeout

    def start(self) -> None:
        self.close()
        self._connection = Connection(self._context.socket_context(), self._context.spec.endpoint)
        self._connection.send([b"", pack_v1({"cmd": "hello", "payload": {}})])
        self._again = self._context.now() + ASK_AGAIN_S

    def open_session(self, session_id: str, deliver: Deliver) -> RemoteSession:
        raise HostLost(f"{self._context.spec.name} has not answered yet")

    def pollables(self) -> list[Any]:
        return self._connection.pollables() if self._connection else []

    def readable(self) -> None:
        if self._connection is None:
            return
        self._connection.broken()  # a cut is repaired by asking again
        for frames in self._connection.receive():
            answer = unpack_v1(frames[-1])
            self.close()
            wire = answer.get("wire")
            ours = answer.get("status") == "ok" and isinstance(wire, int) and wire >= WIRE_VERSION
            self._context.become(WireLink(self._context) if ours else V1Link(self._context))
            return

    def next_due(self) -> float:
        return min(self._again, self._give_up)

    def on_time(self, now: float) -> None:
        if now >= self._give_up:
            spec = self._context.spec
            self.fail(
                f"no answer from {spec.name} ({spec.endpoint}) within {spec.connect_timeout:g} s: "
                "is scenario_execution_server running there?"
            )
        elif now >= self._again:
            self.start()

    def leave(self, release: bool) -> None:
        self._context.deliver(Gone("left"))

    def fail(self, reason: str) -> None:
        self._again = self._give_up = float("inf")
        self.close()
        self._context.deliver(Gone(reason))

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None


def request(
    endpoint: str,
    cmd: str,
    fields: Mapping[str, Any] | None = None,
    *,
    timeout: float,
    over: Callable[[], bool] = lambda: False,
) -> dict[str, Any]:
    """One session-less command to a server of ours; blocks.

    endpoint: `ipc:///path` or `tcp://host:port`. timeout: seconds. over: whether no answer can come any more.
    Returns the reply. Raises HostLost (no answer), RemoteError (refused), BadMessage.
    """
    context: Any = zmq.Context()
    socket = connect(context, endpoint)
    try:
        socket.send(pack({"v": WIRE_VERSION, "id": 1, "session": None, "cmd": cmd, **(fields or {})}))
        until = time.monotonic() + timeout
        while not socket.poll(int(min(timeout, OVER_S) * 1000)):
            if over() or time.monotonic() >= until:
                raise HostLost(f"no answer from {endpoint} within {timeout:g} s")
        reply = unpack(socket.recv())
    finally:
        socket.close(linger=0)
        context.term()
    if not reply.get("ok"):
        raise remote_error(reply.get("error"))
    return reply
