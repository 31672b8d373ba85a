"""A machine over SSH as a Runner: one asyncssh connection, execs of `exec sh`, forwarded unix sockets.

Rules:
- how it is made, and what is asked for it: ssh_login;
- all of asyncssh's and the operating system's exceptions become ours in `launcher.machines.ssh_errors`;
- importing this module costs 0.2 s (asyncssh): import it late.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import asyncssh

from launcher.errors import StartFailed
from launcher.machines import ssh_errors
from launcher.machines.runner import (
    Asker,
    Limits,
    Stream,
    Tail,
    remove_path,
    short_directory,
    talking_script,
    until_it_goes,
)
from launcher.machines.ssh_errors import Attempt
from launcher.machines.ssh_login import Client, Target, dial, log_in, login_options
from launcher.model import Completed, Stage

__all__ = ["SshRunner", "Target", "connect"]

_USUAL_LOGIN = 1.0
_TUNNELS = 3
"""Servers in containers for a connection: each may take two of its sessions, and one is for all else."""
_PROHIBITED, _CONNECT_FAILED = asyncssh.OPEN_ADMINISTRATIVELY_PROHIBITED, asyncssh.OPEN_CONNECT_FAILED


class SshRunner:
    """One SSH connection to one machine."""

    def __init__(self, connection: asyncssh.SSHClientConnection, client: Client, attempt: Attempt) -> None:
        self._connection = connection
        self._attempt = attempt
        self._callbacks: list[Callable[[str], None]] = []
        self._forwards: dict[str, asyncssh.SSHListener] = {}
        self._closing = self._retired = False
        self._users = 0
        """Execs that run on it, and connections that jump through it."""
        self.login_took = _USUAL_LOGIN
        self.through: SshRunner | None = None
        """What it jumps through."""
        # sshd's MaxSessions is 10: the eleventh exec would fail. Forwards do not count.
        self._slots, self._urgent = asyncio.Semaphore(7), asyncio.Semaphore(3)
        self._booked = 0
        self._dead = False
        self._reason: str | None = None
        """Why it cannot be used any more."""
        client.lost = self._lost

    @property
    def alive(self) -> bool:
        """Whether the connection still stands, as far as is known here."""
        return not self._dead and not self._closing

    @property
    def connection(self) -> asyncssh.SSHClientConnection:
        """To jump through."""
        return self._connection

    async def run(
        self,
        script: bytes,
        timeout: float | None,
        on_output: Callable[[bytes], None] | None = None,
        *,
        hold: bool = False,
        urgent: bool = False,
    ) -> Completed:
        """See Runner.run."""
        async with self._urgent if urgent else self._slots:
            with self.in_use():
                return await self._exec(script, timeout, on_output, hold)

    async def _exec(
        self, script: bytes, timeout: float | None, on_output: Callable[[bytes], None] | None, hold: bool
    ) -> Completed:
        session = _Exec(on_output)
        try:
            channel, _ = await asyncio.wait_for(
                self._connection.create_session(
                    lambda: session, "exec sh", encoding=None, request_pty=False,
                    x11_forwarding=False,
                ),
                timeout,
            )  # fmt: skip
        except (asyncssh.Error, OSError) as error:
            if not isinstance(error, TimeoutError | asyncio.TimeoutError):
                raise ssh_errors.no_session(self._attempt, error) from error
            raise
        try:
            with contextlib.suppress(BrokenPipeError):  # what runs there has ended already, and says how
                channel.write(script)
                if not hold:
                    channel.write_eof()
            await asyncio.wait_for(session.done, timeout)
        finally:
            channel.close()
        return session.completed(channel.get_exit_status())

    async def open(self, command: str, timeout: float) -> Stream:
        """See Runner.open."""
        nonce = secrets.token_hex(12)
        await asyncio.wait_for(self._slots.acquire(), timeout)
        stream = _Talk(self._attempt, self._slots.release)
        try:
            await asyncio.wait_for(stream.begin(self, talking_script(command, nonce), nonce), timeout)
        except BaseException:
            await stream.close()
            raise
        return stream

    def book(self) -> bool:
        """Keep room for a server in a container, whose tunnel is a session of this connection as long as
        it lives. False: there is none left here, ask for another connection."""
        self._booked += 1
        return self._booked <= _TUNNELS

    async def forward(self, remote_socket: str) -> str:
        """See Runner.forward. The path lies in a 0700 directory of its own."""
        path = ""
        try:
            path = str(short_directory() / "sock")
            self._forwards[path] = await self._connection.forward_local_path(path, remote_socket)
        except BaseException as error:
            if path:
                remove_path(path)
            if isinstance(error, asyncssh.Error | OSError):
                cause = f"cannot make a socket on this machine: {error}"
                raise StartFailed(self._attempt.name, Stage.TUNNEL, cause, "df -h /tmp") from error
            raise
        return path

    async def check(self, remote_socket: str) -> None:
        """See Runner.check."""
        try:
            _, writer = await self._connection.open_unix_connection(remote_socket, encoding=None)
            writer.close()
        except asyncssh.ChannelOpenError as error:
            if self.alive and error.code in (_PROHIBITED, _CONNECT_FAILED):
                raise ssh_errors.no_channel(self._attempt, remote_socket, error) from error
            raise ssh_errors.no_session(self._attempt, error) from error
        except (asyncssh.Error, OSError) as error:
            raise ssh_errors.translate(self._attempt, error) from error

    def drop(self, path: str) -> None:
        """See Runner.drop."""
        listener = self._forwards.pop(path, None)
        if listener is not None:
            listener.close()
            remove_path(path)
        self._close_if_idle()

    def retire(self) -> None:
        """See Runner.retire."""
        self._retired = True
        self._close_if_idle()

    @contextlib.contextmanager
    def in_use(self) -> Iterator[None]:
        """Something runs on it."""
        self._users += 1
        try:
            yield
        finally:
            self._users -= 1
            self._close_if_idle()

    def carry(self, other: SshRunner) -> None:
        """`other` jumps through this one."""
        self._users += 1
        other.through = self

    def _close_if_idle(self) -> None:
        if self._retired and not self._users and not self._forwards and self.alive:
            self._closing = True
            self._connection.abort()  # what is on its way there has been asked for again elsewhere

    def on_lost(self, callback: Callable[[str], None]) -> None:
        """See Runner.on_lost."""
        self._callbacks.append(callback)
        if self._reason is not None:
            callback(self._reason)

    def _lost(self, error: Exception | None) -> None:
        self._dead = True
        self._remove_tunnels()
        if self.through is not None:
            self.through._users -= 1
            self.through._close_if_idle()
        if not self._closing:
            self._reason = str(error or "closed by the other side")
            for callback in self._callbacks:
                callback(self._reason)

    async def close(self) -> None:
        """See Runner.close."""
        self._closing = True
        self._connection.close()
        with contextlib.suppress(Exception):
            await asyncio.wait_for(self._connection.wait_closed(), 2)
        self._remove_tunnels()

    def _remove_tunnels(self) -> None:
        for path in self._forwards:
            remove_path(path)
        self._forwards.clear()


class _Exec(asyncssh.SSHClientSession[bytes]):
    """Collects what an exec prints; chunks, not lines."""

    def __init__(self, on_output: Callable[[bytes], None] | None) -> None:
        self._stdout: list[bytes] = []
        self._stderr: list[bytes] = []
        self._sink = on_output or self._stdout.append
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def data_received(self, data: bytes, datatype: int | None) -> None:
        (self._stderr.append if datatype else self._sink)(data)

    def eof_received(self) -> bool:
        return True  # the exit status is still to come

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.done.done():
            self.done.set_result(None)

    def completed(self, status: int | None) -> Completed:
        return Completed(
            None if status is None or status < 0 else status, b"".join(self._stdout), b"".join(self._stderr)
        )


class _Talk:
    """A Stream to a command over SSH."""

    _WINDOW, _PACKET = 8 << 20, 256 << 10

    def __init__(self, attempt: Attempt, done: Callable[[], None]) -> None:
        self._attempt = attempt
        self._process: asyncssh.SSHClientProcess[bytes] | None = None
        self._listening: asyncio.Task[None] | None = None
        self._first = b""
        self._over = False
        self._stderr = Tail()
        self._use = contextlib.ExitStack()
        self._use.callback(done)

    async def begin(self, runner: SshRunner, script: bytes, nonce: str) -> None:
        self._use.enter_context(runner.in_use())
        try:
            self._process = await runner.connection.create_process(
                "exec sh", encoding=None, request_pty=False, x11_forwarding=False,
                window=self._WINDOW, max_pktsize=self._PACKET,
            )  # fmt: skip
        except (asyncssh.Error, OSError) as error:
            raise ssh_errors.no_session(self._attempt, error) from error
        self._listening = asyncio.ensure_future(self._listen(self._process))
        await self.write(script)
        first = await until_it_goes(self.read, nonce)
        if first is None:
            await asyncio.wait([self._listening], timeout=1)
            cause = "the login shell did not run `sh`"
            raise StartFailed(
                self._attempt.name, Stage.SHELL, cause, "ssh HOST 'exec sh -c id'", self._stderr.lines()
            )
        self._first = first

    async def _listen(self, process: asyncssh.SSHClientProcess[bytes]) -> None:
        with contextlib.suppress(asyncssh.Error, OSError):
            while chunk := await process.stderr.read(16384):
                self._stderr.add(chunk)

    async def read(self, most: int = 1 << 20) -> bytes:
        """See Stream.read."""
        if self._first:
            first, self._first = self._first[:most], self._first[most:]
            return first
        assert self._process is not None
        chunk = b""
        with contextlib.suppress(asyncssh.Error, OSError):  # the runner says itself that it is lost
            chunk = await self._process.stdout.read(most)
        self._over = self._over or not chunk
        return chunk

    async def write(self, data: bytes) -> None:
        """See Stream.write."""
        assert self._process is not None
        try:
            self._process.stdin.write(data)
            await self._process.stdin.drain()
        except (asyncssh.Error, OSError) as error:
            raise ssh_errors.translate(self._attempt, error) from error

    def write_eof(self) -> None:
        """See Stream.write_eof."""
        if self._process is not None:
            with contextlib.suppress(asyncssh.Error, OSError):
                self._process.stdin.write_eof()

    async def close(self) -> Completed:
        """See Stream.close."""
        code = None
        if self._process is not None:
            if self._over:
                with contextlib.suppress(asyncio.TimeoutError):
                    await asyncio.wait_for(self._process.wait_closed(), 1)
            code = self._process.exit_status
            self._process.close()
        if self._listening is not None:
            self._listening.cancel()
        self._use.close()
        return Completed(None if code is None or code < 0 else code, b"", self._stderr.bytes())


async def connect(
    target: Target,
    *,
    environ: Mapping[str, str],
    ask: Asker | None,
    lock: asyncio.Lock,
    keepalive: float,
    jump: Callable[[str], Any],
    limits: Limits,
    again: Callable[[str], None] | None = None,
) -> SshRunner:
    """Open the connection. `jump(text)` is awaited for the SshRunner to jump through; `keepalive` seconds.

    `again`: hears why it is tried a second time, when the way there broke the first; None: it is not.
    Raises Unreachable, whatever goes wrong.
    """
    home = Path(environ.get("HOME") or "~").expanduser()
    attempt = Attempt(target.name, target.machine, home)
    client: list[Client] = []

    def factory() -> Client:
        client.append(Client(attempt, ask, lock))
        return client[-1]

    gate: SshRunner | None = None
    try:
        options = await login_options(target, attempt, environ, ask, keepalive, factory, limits)
        through = target.options.jump or options.tunnel
        if through:
            attempt.jump = str(through)
            gate = await jump(str(through))

        direct = not (through or options.proxy_command or options.canonicalize_hostname)
        tunnel = gate.connection if gate is not None else None

        async def reach(seconds: float) -> Any:
            sock = await dial(options, seconds) if direct else None
            host = target.machine.host or ""
            return asyncssh.connect(host, config=None, options=options, tunnel=tunnel, sock=sock)

        began, connection = await log_in(reach, attempt, limits, again)
    except Exception as error:
        raise ssh_errors.translate(attempt, error) from error
    runner = SshRunner(connection, client[-1], attempt)
    if not attempt.asked:
        runner.login_took = time.monotonic() - began
    if gate is not None:
        gate.carry(runner)
    return runner
