"""Actions called one by one, without a tree, for asyncio: what stands behind `Host.call`.

Rules:
- The hub's thread only appends and wakes the loop; everything else here happens in the loop's thread, so
  nothing needs a lock and nothing blocks the loop.
- All calls of a CallSession share one session at the host, as the actions of a scenario do: a labelled
  run_process is found by a later process_log_check, and what a call leaves running goes on until `close`.
- A call that is cancelled, or runs out of time, is cancelled on the host, and that is waited for (bounded).
- A call that was begun ends in a CallResult, also when the action raised. One that could not be begun raises.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
import uuid
from collections import deque
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final

from remote_exec.client.hub import HostLink, Hub
from remote_exec.client.link import Delivery, Gone, LinkSpec, LinkUp, Note, RemoteSession
from remote_exec.client.notices import lease_text
from remote_exec.client.session import Event, Reply
from remote_exec.client.signature import Action, Arguments, read_action
from remote_exec.errors import CallTimeout, HostLost, RemoteError

BYE_S: Final = 30.0
"""How long the end of the session may take: actions shut down in it."""
CANCEL_S: Final = 20.0
"""How long a cancelled action may take to end, on top of its own shutdown_timeout."""
HURRIED_S: Final = 1.0
LEAVE_S: Final = 2.0
MAX_LINES: Final = 10_000
"""Log lines that one call keeps; of a flood the last ones."""


@dataclass(frozen=True)
class Line:
    """One line of a host's log."""

    host: str
    level: str
    """debug, info, warning or error."""
    text: str
    time: float
    """Epoch seconds, on the host's clock."""
    action: str = ""
    """The action that wrote it, by its OSC name; "" when that is not known."""

    def __str__(self) -> str:
        return f"[{self.host}] {self.text}"


@dataclass(frozen=True)
class CallResult:
    """How a call ended."""

    action: str
    status: str
    """success, failure or invalid."""
    feedback: str
    """The action's last feedback message, or what went wrong."""
    log: tuple[Line, ...]
    duration: float
    """Seconds from `execute` to the action's end, as seen from here."""

    @property
    def success(self) -> bool:
        return self.status == "success"


OnLine = Callable[[Line], None]


@dataclass
class _Call:
    name: str
    id: str
    ended: asyncio.Future[tuple[str, str]]
    run: int = 0
    lines: deque[Line] = field(default_factory=partial(deque, maxlen=MAX_LINES))


class CallSession:
    """One session at one host. In the loop's thread, but where it says otherwise."""

    def __init__(self, spec: LinkSpec, on_line: OnLine) -> None:
        """`on_line` gets every log line of the session, in the loop's thread."""
        self.host = spec.name
        self.gone = ""
        self.refusal: Gone | None = None
        """The host is there and has refused to begin a session."""
        self.left: tuple[str, ...] = ()
        """After `close`: what still runs on the host."""
        self.hurry = asyncio.Event()
        self.gave_up = False
        """A call was cancelled, or its user's code raised: the host's `on_stop` runs at the end."""
        self._spec = spec
        self._on_line = on_line
        self._loop = asyncio.get_running_loop()
        self._inbox: deque[tuple[Callable[[Any], None], Any]] = deque()
        self._awake = False
        self._closing = False
        self._hub = Hub()
        self._link: HostLink | None = None
        self._session: RemoteSession | None = None
        self._linked: asyncio.Future[LinkUp] = self._loop.create_future()
        self._left_link = asyncio.Event()
        self._replies: dict[int, asyncio.Future[Reply]] = {}
        self._calls: dict[str, _Call] = {}
        self._names: dict[str, str] = {}
        """Of every action that there has been: it may go on logging after its call."""
        self._actions: dict[str, Action] = {}

    async def open(
        self, configure: Callable[[], Awaitable[Mapping[str, Any]]], connected: Callable[[], None]
    ) -> None:
        """Connect and begin the session. `connected` is called as soon as the host has answered, then
        `configure`, for the fields of the session's first command.

        Raises HostLost, RemoteError. After an exception only `close` may be called.
        """
        self._link = self._hub.connect(self._spec, partial(self._post, self._took_link))
        await self._linked
        connected()
        fields = await configure()
        self._session = self._link.session(partial(self._post, self._took))
        await self._command("configure", fields)

    async def keep(self, seconds: float | None) -> None:
        """Keep the server itself up; see `keep` in messages. Raises HostLost, RemoteError."""
        await self._command("keep", {"seconds": seconds})

    async def describe(self) -> list[Action]:
        """The plugins there. Raises HostLost, RemoteError."""
        reply = await self._command("describe", {})
        problem = reply.fields.get("problem")
        if problem:
            raise RemoteError("internal", str(problem))
        return [read_action(entry) for entry in reply.fields.get("plugins") or ()]

    async def signature(self, name: str) -> Action:
        """One plugin there, asked for once. Raises HostLost, RemoteError (no_plugin, plugin_error)."""
        if name not in self._actions:
            reply = await self._command("signature", {"plugin": name})
            self._actions[name] = read_action(reply.fields.get("plugin"))
        return self._actions[name]

    async def call(
        self, name: str, arguments: Arguments, *, label: str | None = None, timeout: float | None = None
    ) -> CallResult:
        """Run one action to its end. timeout: seconds.

        Raises HostLost, RemoteError (it could not be constructed or set up), CallTimeout.
        """
        call = _Call(name, str(uuid.uuid4()), self._loop.create_future())
        self._calls[call.id] = call
        self._names[call.id] = name
        try:
            try:
                return await asyncio.wait_for(self._run(call, arguments, label), timeout)
            except asyncio.TimeoutError:
                await self._stop(call, arguments)
                raise CallTimeout(f"{name} on {self.host} did not end within {timeout:g} s") from None
            except asyncio.CancelledError:
                self.gave_up = True
                await self._stop(call, arguments)
                raise
        finally:
            del self._calls[call.id]

    async def close(self, release: bool = True) -> None:
        """End what the calls left running, and the session; `left` then says what did not end. Bounded."""
        self._closing = True
        try:
            if self._session is not None and not self.gone:
                await self._bye(self._session)
            if self._link is not None and not self._left_link.is_set():
                self._link.leave(release)
                with contextlib.suppress(asyncio.TimeoutError):
                    await asyncio.wait_for(self._left_link.wait(), LEAVE_S)
        finally:
            self._lost("the session was closed")
            # It joins the hub's thread, which may be in the middle of something.
            await self._loop.run_in_executor(None, self._hub.close)

    # --- a call

    async def _run(self, call: _Call, arguments: Arguments, label: str | None) -> CallResult:
        session = self._open_session()
        create = {
            "action": call.id,
            "plugin": call.name,
            "name": label or call.name,
            "label": label,
            "source": None,
            "init_args": dict(arguments.init_args),
            "actor": arguments.actor,
            "args": dict(arguments.args),  # a subtree asks its model for them
        }
        execute = {"action": call.id, "args": dict(arguments.args), "actor": arguments.actor, "vars": None}
        created = self._send(session, "create", create)
        set_up = self._send(session, "setup", {"action": call.id})
        for future in (created, set_up):
            self._checked(await future)
        began = time.monotonic()
        executed = self._send(session, "execute", execute, call)
        status, feedback = await self._outcome(call, executed)
        duration = time.monotonic() - began
        if not self.gone:
            with contextlib.suppress(RemoteError):  # an older server does not know it
                await self._command("drain", {"action": call.id})
        return CallResult(call.name, status, feedback, tuple(call.lines), duration)

    async def _outcome(self, call: _Call, executed: asyncio.Future[Reply]) -> tuple[str, str]:
        reply = await executed
        if reply.error is not None:
            if reply.error.traceback:
                self._said("error", f"{reply.error}\n{reply.error.traceback}", call.id)
            return "failure", str(reply.error)
        status = str(reply.fields.get("status"))
        if status != "running":
            return status, str(reply.fields.get("feedback") or "")
        return await call.ended

    async def _stop(self, call: _Call, arguments: Arguments) -> None:
        """Cancel on the host and wait until the action has ended there. A further cancel ends the wait."""
        if self.gone or self._session is None:
            return
        own = arguments.args.get("shutdown_timeout")
        limit = CANCEL_S + (float(own) if isinstance(own, (int, float)) else 0.0)
        self._send(self._session, "cancel", {"action": call.id})
        ended = self._send(self._session, "shutdown", {"action": call.id})
        if not await self._within(ended, limit):
            self._said("warning", f"{call.name} was cancelled and has not confirmed its end", call.id)

    async def _bye(self, session: RemoteSession) -> None:
        done = self._send(session, "bye", {"release": False, "abort": self.gave_up})
        if await self._within(done, BYE_S) and not done.cancelled() and done.exception() is None:
            self.left = tuple(str(text) for text in done.result().fields.get("left") or ())
        elif not self.gone:
            self.left = ("it did not confirm that its actions have ended; the lease will end them",)

    async def _within(self, future: asyncio.Future[Reply], seconds: float) -> bool:
        """Whether the future is done in time. `hurry` and a host that is away shorten that. The future itself
        goes on."""
        if self._link is not None and self._link.away:
            seconds = min(seconds, HURRIED_S)
        hurry = asyncio.ensure_future(self.hurry.wait())
        try:
            both: set[asyncio.Future[Any]] = {future, hurry}
            await asyncio.wait(both, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
            if not future.done() and self.hurry.is_set():
                await asyncio.wait({future}, timeout=HURRIED_S)
        finally:
            hurry.cancel()
        return future.done()

    # --- commands

    def _open_session(self) -> RemoteSession:
        if self.gone or self._session is None:
            raise HostLost(f"{self.host}: {self.gone or 'there is no session'}")
        return self._session

    def _send(
        self, session: RemoteSession, cmd: str, fields: Mapping[str, Any], call: _Call | None = None
    ) -> asyncio.Future[Reply]:
        number = session.send(cmd, fields)
        if call is not None:
            call.run = number
        future: asyncio.Future[Reply] = self._loop.create_future()
        future.add_done_callback(_seen)
        self._replies[number] = future
        return future

    async def _command(self, cmd: str, fields: Mapping[str, Any]) -> Reply:
        return self._checked(await self._send(self._open_session(), cmd, fields))

    @staticmethod
    def _checked(reply: Reply) -> Reply:
        if reply.error is not None:
            raise reply.error
        return reply

    # --- what comes back

    def _post(self, sink: Callable[[Any], None], item: Delivery) -> None:
        """In the hub's thread: one wake-up of the loop for all that has come meanwhile."""
        self._inbox.append((sink, item))
        if not self._awake:
            self._awake = True
            with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits any more
                self._loop.call_soon_threadsafe(self._pump)

    def _pump(self) -> None:
        self._awake = False
        while self._inbox:
            sink, item = self._inbox.popleft()
            try:
                sink(item)
            except Exception as error:  # of a listener, say: what has come after it must not wait for ever
                text = f"{self.host}: what a host said was not taken"
                self._loop.call_exception_handler({"message": text, "exception": error})

    def _took_link(self, item: Delivery) -> None:
        if isinstance(item, LinkUp) and not self._linked.done():
            self._linked.set_result(item)
        elif isinstance(item, Note) and not self._closing:
            self._said(item.level, item.text)
        elif isinstance(item, Gone):
            self.refusal = item if item.refusal is not None else None
            self._left_link.set()
            self._lost(item.reason)

    def _took(self, item: Delivery) -> None:
        if isinstance(item, Reply):
            if item.cmd == "hello" and item.error is not None:
                self._lost(str(item.error))
            future = self._replies.pop(item.id, None)
            if future is not None and not future.done():
                future.set_result(item)
        elif isinstance(item, Gone):
            self._lost(item.reason)
        elif isinstance(item, Event):
            self._took_event(item.name, item.fields)

    def _took_event(self, name: str, fields: Mapping[str, Any]) -> None:
        if name == "log":
            if fields.get("dropped"):
                self._said("warning", f"{fields['dropped']} log lines were dropped on the host: too fast")
            self._said(fields["level"], fields["text"], fields.get("action"), fields["time"])
        elif name == "status":
            call = self._calls.get(fields["action"])
            over = call is not None and fields["status"] != "running" and fields["run"] in (None, call.run)
            if call is not None and over and not call.ended.done():
                call.ended.set_result((fields["status"], fields["feedback"]))
        elif name == "lease":
            self._said("warning", lease_text(self.host, fields["left"]), "")
        elif name == "lost":
            self._lost(
                fields["reason"] if fields.get("ended") else f"the worker there is gone: {fields['reason']}"
            )

    def _said(self, level: str, text: str, action: str | None = None, when: float | None = None) -> None:
        """Lines of the session; what no action owns is the only running call's, if there is just one."""
        call = self._calls.get(action or "")
        if action is None and len(self._calls) == 1:
            (call,) = self._calls.values()
        name = call.name if call is not None else self._names.get(action or "", "")
        for part in text.splitlines() or [""]:
            line = Line(self.host, level, part, when or time.time(), name)
            if call is not None:
                call.lines.append(line)
            self._on_line(line)

    def _lost(self, reason: str) -> None:
        """The session is over; whoever waits for something of it is told."""
        self.gone = self.gone or reason or "gone"
        error = HostLost(f"{self.host}: {self.gone}")
        waiting: list[asyncio.Future[Any]] = [self._linked, *self._replies.values()]
        waiting += [call.ended for call in self._calls.values()]
        for future in waiting:
            if not future.done():
                future.set_exception(error)
                _seen(future)
        self._replies.clear()


def _seen(future: asyncio.Future[Any]) -> None:
    """Nobody may be waiting for it any more: then its error is no news."""
    if not future.cancelled() and future.done():
        future.exception()
