"""Hosts from Python: their actions called one by one, without a scenario. For asyncio.

    async with Host.open("lab-pc") as host:
        result = await host.call("run_process", command="hostname", timeout=10)

Rules:
- Nothing here blocks the caller's event loop: SSH lives in the launcher's thread, sockets in the hub's, and
  what waits for either does so in a thread of its own.
- Nothing is left behind: a server that was started by `open` is stopped at the end of the context, verified,
  however that comes; one that was up stays up. What could not be ended is raised as LeftBehind.
- Cancelling a task cancels its action on the host, and that is waited for.
- Errors are those of launcher.errors (reaching the host) and remote_exec.errors (calling the action).

A blocking form, for tests and scripts, is launcher.blocking. See docs/python.md.
"""

from __future__ import annotations

import asyncio
import contextlib
import sys
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from launcher import __version__, servers
from launcher.durations import KEEP_S
from launcher.errors import LeftBehind, NotReady, Unreachable
from launcher.inventory import Inventory
from launcher.lease import Launcher, Lease
from launcher.loopthread import DaemonExecutor
from launcher.machines.runner import Asker
from launcher.model import Event, HostSpec, Stage
from launcher.plan import HostStatus, Stopped
from launcher.targets import Names, Target
from remote_exec.client.calls import CallResult, CallSession, Line, OnLine
from remote_exec.client.holding import Holding
from remote_exec.client.identity import client_info
from remote_exec.client.link import LinkSpec
from remote_exec.client.paths import PathMap
from remote_exec.client.signature import Action, Parameter, bind, read_action
from remote_exec.errors import HostLost, RemoteError

__all__ = [
    "Action",
    "CallResult",
    "Host",
    "HostStatus",
    "Line",
    "LogStream",
    "Names",
    "Parameter",
    "Stopped",
    "Target",
]

_T = TypeVar("_T")
_COMMANDS = "run_process"
"""The action whose texts are command lines."""
_MAX_LINES = 10_000
"""Log lines that wait for who iterates."""


class Host:
    """A host whose actions can be called, for the time of an `async with`. Made by `Host.open`."""

    def __init__(
        self,
        resolve: Callable[[], Target],
        *,
        directory: str | None = None,
        output_dir: str | None = None,
        tick_period: float = 0.1,
        what: str = "",
        keep_for: float | str | None = None,
        ask: Asker | None = None,
        on_event: Callable[[Event], None] | None = None,
    ) -> None:
        """Use `Host.open`. `resolve` is called in a thread. `ask`, `on_event`: as launcher.lease.Launcher."""
        self.name = ""
        """As the inventory calls it, variants included; known once the context is entered."""
        self.started = False
        """Its server was started here; False: it was up."""
        self._resolve = resolve
        self._configure = {
            "scenario_file_directory": directory,
            "input_dir": directory,
            "output_dir": None,
            "tick_period": tick_period,
            "clock": "host",
            "debug": False,
        }
        self._output_dir = output_dir
        self._paths = PathMap()
        program = Path(sys.argv[0]).name
        self._keep_for = None if keep_for is None else servers.seconds_of(keep_for)
        self._what = what or (program if program not in ("", "-", "-c", "-m") else "python")
        self._ask = ask
        self._on_event = on_event
        self._launcher: Launcher | None = None
        self._holding = Holding(lambda name, reason: None)  # the launcher tells it, too
        self._session: CallSession | None = None
        self._streams: list[LogStream] = []
        self._listeners: list[OnLine] = []
        self._entered = self._closed = False

    @classmethod
    def open(
        cls,
        name: str,
        *,
        inventory: str | Path | Inventory | None = None,
        variants: Sequence[str] = (),
        params: Mapping[str, str] | None = None,
        environ: Mapping[str, str] | None = None,
        directory: str | None = None,
        output_dir: str | None = None,
        tick_period: float = 0.1,
        what: str = "",
        keep_for: float | str | None = None,
    ) -> Host:
        """An asynchronous context manager; entering it reaches the host and starts its server if need be.

        name: a host of the inventory, `local`, `user@machine`, or an address (tcp://…, /path).
        directory: the working directory of actions, on the host; None: the home directory there.
        output_dir: a folder here. Actions on another machine get a new one there, and what they write into it
        comes here when the context ends, what exists under its NAME beside it as NAME.HOST; what could
        not be fetched is raised as LeftBehind. Actions at an address get the path as it is.
        tick_period: seconds between two updates of a running action. what: shown by `se-remote status`.
        keep_for: the server stays up behind the context, for at least so long from now (``"10m"`` or seconds;
        0: until it is killed): the next one finds it. None: one that was started here ends here.
        Entering raises InventoryError, StageError (Unreachable, StartFailed, NotReady) or Conflict.
        """
        names = Names(inventory, variants, params, environ)
        return cls(
            partial(names.target, name),
            directory=directory,
            output_dir=output_dir,
            tick_period=tick_period,
            what=what,
            keep_for=keep_for,
        )

    async def __aenter__(self) -> Host:
        if self._entered:
            raise RuntimeError("a Host is entered once; open another one")
        self._entered = True
        try:
            await self._connect(await _in_thread(self._resolve))
        except BaseException:
            await self._close()
            raise
        return self

    async def __aexit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if self._session is not None and error is not None:
            self._session.gave_up = True
        left = await self._close()
        if left and error is None:
            raise LeftBehind("\n".join(left))

    async def call(
        self,
        action: str,
        /,
        *,
        timeout: float | None = None,
        label: str | None = None,
        args: Mapping[str, Any] | None = None,
        **arguments: Any,
    ) -> CallResult:
        """Run one action to its end. Any number at once.

        action: its OSC name. timeout: seconds; then it is cancelled and CallTimeout raised. label: what
        process_log_check finds it by. args: arguments whose names are taken here, such as `timeout`.
        An action that fails, or raises while it runs, gives a result that is no success.
        Raises BadArguments; ValueDoesNotCross (all of them together are too large for a message); RemoteError
        (no such plugin, or its constructor or setup() raised); CallTimeout; HostLost.
        """
        session = self._open()
        given = self._paths.arguments({**(args or {}), **arguments}, commands=action == _COMMANDS)
        bound = bind(await self._signature(session, action), given)
        return await session.call(action, bound, label=label, timeout=timeout)

    async def actions(self) -> list[Action]:
        """The action plugins there, with their parameters. Raises HostLost, RemoteError."""
        return await self._open().describe()

    async def action(self, name: str) -> Action:
        """One of them. Raises HostLost, RemoteError (no_plugin with what is close to it)."""
        return await self._signature(self._open(), name)

    def logs(self) -> LogStream:
        """The log lines of all calls from now on, to be iterated with `async for`; ends with the context."""
        stream = LogStream()
        self._streams.append(stream)
        self._listeners.append(stream.put)
        if self._closed:
            stream.end()
        return stream

    def on_line(self, listener: OnLine) -> None:
        """`listener` gets every log line from now on, in the loop's thread; it must not block."""
        self._listeners.append(listener)

    # --- servers that stay

    @staticmethod
    async def up(name: str, *, keep_for: float | str = KEEP_S, **names: Any) -> HostStatus:
        """Start the server of a host and keep it up, as `se-remote up` does. `names`: fields of Names.

        keep_for: ``"8h"`` or seconds from now; 0: until it is killed. One that was to stay for longer does.
        Raises InventoryError, StageError, Conflict.
        """
        return await _in_thread(partial(servers.up, Names(**names), name, keep_for))

    @staticmethod
    async def extend(name: str, *, keep_for: float | str = KEEP_S, **names: Any) -> HostStatus:
        """Keep a server up that is up, as `se-remote extend` does; options as of `up`.

        Raises LauncherError when it is not up; InventoryError, StageError.
        """
        return await _in_thread(partial(servers.extend, Names(**names), name, keep_for))

    @staticmethod
    async def status(hosts: Sequence[str] | None = None, **names: Any) -> dict[str, HostStatus]:
        """What runs on the hosts, by name; None: on all of the inventory. Raises InventoryError.

        A machine that cannot be reached has the state `unreachable` and the reason.
        """
        return await _in_thread(partial(servers.status, Names(**names), hosts))

    @staticmethod
    async def kill(name: str, *, force: bool = False, **names: Any) -> Stopped:
        """Stop a host's server, whoever started it, and verify that.

        Raises Conflict while somebody else uses it (unless `force`), LeftBehind, InventoryError, StageError.
        """
        return await _in_thread(partial(servers.kill, Names(**names), name, force))

    # --- inside

    def _open(self) -> CallSession:
        if self._session is None or self._closed:
            raise RuntimeError("this Host is not open: use it inside `async with Host.open(…)`")
        return self._session

    async def _connect(self, target: Target) -> None:
        self.name = target.name
        host, lease = target.host, None
        if isinstance(host, HostSpec):
            lease = await self._bring_up(target, host)
            self.started = lease.started
        endpoint = lease.endpoint if lease is not None else getattr(host, "endpoint", "")
        spec = LinkSpec(
            name=target.name,
            endpoint=endpoint,
            ours=lease is not None,
            client=client_info(self._what, __version__, target.environ, lease.client_id if lease else ""),
            lease=host.lease if isinstance(host, HostSpec) else None,
            connect_timeout=servers.HELLO_S,
            on_loss=host.on_loss if isinstance(host, HostSpec) else None,
            way=lease.way if lease is not None else None,
        )
        self._session = CallSession(spec, self._took_line)
        try:
            configured = partial(self._configured, host if isinstance(host, HostSpec) else None)
            await self._session.open(configured, lease.connected if lease else _nothing)
            if self._keep_for is not None:
                await self._session.keep(self._keep_for or None)
        except HostLost as error:
            if self._session.refusal is not None:
                raise servers.refused(target.name, self._session.refusal) from None
            failed = Unreachable if lease is None else NotReady
            hint = "" if lease is None else f"se-remote logs {target.name}"
            raise failed(target.name, Stage.HELLO, self._session.gone or str(error), hint) from error

    async def _configured(self, host: HostSpec | None) -> Mapping[str, Any]:
        """The session's first command; before it, what `push` of the inventory says is sent."""
        output = self._output_dir
        launcher = self._launcher
        if host is not None and launcher is not None:
            into = Path(output).absolute() if output is not None else None
            sent = await _in_thread(partial(launcher.send, [host], output=into), launcher.abort)
            self._paths = PathMap(sent[host.name].paths)
            output = sent[host.name].output or (str(into) if into is not None else None)
        return {**self._configure, "output_dir": output}

    async def _bring_up(self, target: Target, host: HostSpec) -> Lease:
        launcher = Launcher(
            target.inventory,
            environ=target.environ,
            settings=target.settings,
            ask=self._ask,
            on_event=partial(self._heard, asyncio.get_running_loop()),
            what=self._what,
            keep=self._keep_for is not None,
            keep_for=self._keep_for or 0.0,
        )
        self._launcher = launcher
        leases = await _in_thread(
            partial(launcher.open, [host], on_open=partial(self._hold, host.name, target)), launcher.abort
        )
        return leases[host.name]

    def _hold(self, name: str, target: Target, lease: Lease) -> None:
        """One that the host depends on, and on which nothing is called; in the launcher's thread."""
        host = lease.host
        if host.name != name and self._keep_for is None:
            client = client_info(self._what, __version__, target.environ, lease.client_id)
            spec = LinkSpec(
                name=host.name, endpoint=lease.endpoint, ours=True, client=client, lease=host.lease,
                connect_timeout=servers.HELLO_S, on_loss=host.on_loss, way=lease.way,
            )  # fmt: skip
            self._holding.hold(spec, lease.connected)

    async def _signature(self, session: CallSession, name: str) -> Action:
        try:
            return await session.signature(name)
        except RemoteError as error:
            if error.kind not in ("unsupported", "unknown_command"):
                raise
        # An older server, or one of the older protocol, does not say it: what is installed here must do.
        from remote_exec.host.plugins import describe_plugin

        return read_action(await _in_thread(partial(describe_plugin, name)))

    def _heard(self, loop: asyncio.AbstractEventLoop, event: Event) -> None:
        """In the launcher's thread."""
        if event.stage in (Stage.PUSH, Stage.FETCH):
            line = Line(event.name, event.level, event.reason, time.time())
            with contextlib.suppress(RuntimeError):  # the loop is closed
                loop.call_soon_threadsafe(self._took_line, line)
        if self._on_event is not None:
            self._on_event(event)

    def _took_line(self, line: Line) -> None:
        for listener in self._listeners:
            listener(line)

    async def _close(self) -> list[str]:
        """Texts of what is left. A cancel meanwhile shortens it, and is raised when it is done."""
        if self._closed:
            return []
        self._closed = True
        work = asyncio.ensure_future(self._end())
        cancelled: asyncio.CancelledError | None = None
        while not work.done():
            try:
                await asyncio.wait({work})
            except asyncio.CancelledError as error:
                cancelled = error
                if self._session is not None:
                    self._session.hurry.set()
                if self._launcher is not None:
                    self._launcher.hurry()
        if cancelled is not None:
            raise cancelled
        return work.result()

    async def _end(self) -> list[str]:
        left: list[str] = []
        try:
            lost = [self.name] if self._session is not None and self._session.gone else []
            if self._session is not None:
                await self._session.close()
                left += [f"{self.name}: still running: {text}" for text in self._session.left]
            if self._launcher is not None:
                left += await _in_thread(partial(self._launcher.bring_back, lost))
        finally:
            for stream in self._streams:
                stream.end()
            await _in_thread(self._holding.leave)
            if self._launcher is not None:
                left += await _in_thread(self._launcher.close)
        return left


class LogStream:
    """Log lines, for `async for`. What nobody reads in time is dropped from the front and counted."""

    def __init__(self) -> None:
        self.dropped = 0
        self._lines: deque[Line] = deque()
        self._more = asyncio.Event()
        self._ended = False

    def __aiter__(self) -> LogStream:
        return self

    async def __anext__(self) -> Line:
        while not self._lines:
            if self._ended:
                raise StopAsyncIteration
            self._more.clear()
            await self._more.wait()
        return self._lines.popleft()

    def put(self, line: Line) -> None:
        if self._ended:
            return
        if len(self._lines) >= _MAX_LINES:
            self._lines.popleft()
            self.dropped += 1
        self._lines.append(line)
        self._more.set()

    def end(self) -> None:
        """No more lines; those that are here can still be read."""
        self._ended = True
        self._more.set()


async def _in_thread(function: Callable[[], _T], abort: Callable[[], None] | None = None) -> _T:
    """The result of `function`, called in a thread of its own. A cancel calls `abort` and waits for it."""
    future = asyncio.get_running_loop().run_in_executor(DaemonExecutor(), function)
    try:
        return await asyncio.shield(future)
    except asyncio.CancelledError:
        if abort is not None:
            abort()
        await asyncio.wait({future})
        if not future.cancelled():
            future.exception()
        raise


def _nothing() -> None:
    pass
