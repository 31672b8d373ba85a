"""A container on a machine as a Runner: everything goes through `docker exec -i` on the machine's own runner.

Rules:
- it stands on any other runner, so chains compose: a container over SSH, over a jump;
- a socket inside is reached by a relay: one `exec` for each connection, which speaks over its stdin and
  stdout. So a container needs no port, no network and no shared folder;
- a command that its engine did not run is an error with the container's state as its cause.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib.util
import re
import secrets
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Final

from launcher import docker, plan
from launcher.command import quote
from launcher.docker import Box, BoxState
from launcher.errors import LauncherError, NobodyListens, StageError, StartFailed, Unreachable
from launcher.machines.runner import Runner, Stream, remove_path, short_directory, until_it_goes
from launcher.model import Completed, Stage
from launcher.wrapper import path_word

_NOBODY: Final = 3
"""Exit code of the relay. Equals remote_exec.relay.NOBODY."""
_CHECK_S: Final = 10.0
_FIRST_BYTES: Final = 1024
"""Of an answer, to see whether it is the engine's and not that of what was to be run."""
_OPEN_S: Final = 15.0
_ENGINE_SAID: Final = re.compile(
    rb"Error response from daemon|[Ee]rror: |OCI runtime|Cannot connect|unable to find user|permission denied"
)
_CUT: Final = (137, 143)
"""Exit codes of what ended with its container."""


class ContainerRunner:
    """One container. `outer` is the machine that it is on, `python` a shell word for its interpreter."""

    def __init__(self, host: str, outer: Runner, box: Box, python: str) -> None:
        self.outer = outer
        self.box = box
        self.reachable = False
        """The machine has answered, when something was last asked about the container."""
        self._host = host
        self._python = python
        self._tunnels: dict[str, _Tunnel] = {}
        self.login_took = outer.login_took

    def on(self, outer: Runner) -> ContainerRunner:
        """The same container, over another connection to its machine."""
        return ContainerRunner(self._host, outer, self.box, self._python)

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
        heard = b""

        def hear(chunk: bytes) -> None:
            nonlocal heard
            heard = (heard + chunk)[:_FIRST_BYTES]
            if on_output is not None:
                on_output(chunk)

        text = quote([script.decode("utf-8", "surrogateescape")])
        feed = f"printf '%s' {text}" + ("; cat" if hold else "")
        words = quote([*self.box.exec_words("-i"), "sh"])
        source = "" if hold else " </dev/null"
        nested = f"se_remote() {{\n{{ {feed}; }} | {words}\n}}\nse_remote{source}\n"
        done = await self.outer.run(
            nested.encode("utf-8", "surrogateescape"), timeout, hear if on_output is not None else None,
            hold=hold, urgent=urgent,
        )  # fmt: skip
        first = heard + done.stdout[:_FIRST_BYTES]
        if done.exit_code and _ENGINE_SAID.match(first or done.stderr):
            raise await self._failure(first + done.stderr)
        if done.exit_code in _CUT and (await self.state()).status != "running":
            raise await self._failure(b"")
        return done

    async def open(self, command: str, timeout: float) -> Stream:
        """See Runner.open."""
        nonce = secrets.token_hex(12)
        inside = f"printf '\\n{nonce} go\\n'\n{command}"
        words = quote([*self.box.exec_words("-i"), "sh", "-c", inside])
        stream = await self.outer.open(f"exec {words}", timeout)
        try:
            first = await asyncio.wait_for(until_it_goes(stream.read, nonce), timeout)
        except BaseException:
            await stream.close()
            raise
        if first is None:
            raise await self._failure((await stream.close()).stderr)
        return _Begun(stream, first) if first else stream

    async def forward(self, remote_socket: str) -> str:
        """See Runner.forward. The path lies in a 0700 directory of its own."""
        path = ""
        try:
            path = str(short_directory() / "sock")
            tunnel = _Tunnel(self, remote_socket)
            await tunnel.listen(path)
        except BaseException as error:
            if path:
                remove_path(path)
            if isinstance(error, OSError):
                cause = f"cannot make a socket on this machine: {error}"
                raise StartFailed(self._host, Stage.TUNNEL, cause, "df -h /tmp") from error
            raise
        self._tunnels[path] = tunnel
        return path

    def relay_command(self, remote_socket: str, *options: str) -> str:
        """Shell text that becomes the relay: by the host's own interpreter, else that of the server there."""
        words = quote(["-I", "-S", "-c", _relay_text(), *options, remote_socket])
        run_dir = quote([remote_socket.rpartition("/")[0]])
        return (
            f"python={self._python}\n"
            'command -v "$python" >/dev/null || {\n'
            f'  read -r pid rest <{run_dir}/pid && python=$(readlink "/proc/$pid/exe")\n}}\n'
            f'exec "$python" {words}'
        )

    async def check(self, remote_socket: str) -> None:
        """See Runner.check."""
        self.reachable = False
        command = self.relay_command(remote_socket, "--check")
        done = await self.run(f"se_remote() {{\n{command}\n}}\nse_remote </dev/null\n".encode(), _CHECK_S)
        self.reachable = True
        if done.exit_code == 0:
            return
        said = done.stderr.decode("utf-8", "replace").strip()
        if done.exit_code == _NOBODY:
            raise NobodyListens(self._host, Stage.TUNNEL, said, f"se-remote logs {self._host}")
        raise await self._failure(done.stderr)

    async def state(self) -> BoxState:
        """What the engine says of it now. Raises StageError when the machine does not answer."""
        nonce = secrets.token_hex(12)
        try:
            done = await self.outer.run(docker.state(self.box, nonce=nonce), _CHECK_S, urgent=True)
        except asyncio.TimeoutError as error:
            cause = f"{self.box.engine} does not answer within {_CHECK_S:g} s"
            raise Unreachable(
                self._host, Stage.CONTAINER, cause, f"{docker.THERE} {self.box.engine} info"
            ) from error
        return docker.read_state(plan.parse_reply(done.stdout, nonce))

    async def _failure(self, said: bytes) -> StageError:
        """The error for an exec that was not run."""
        try:
            seen = await self.state()
        except StageError as error:
            return error
        self.reachable = True
        found = docker.failure(self._host, self.box, seen, said.decode("utf-8", "replace"))
        kind: type[StageError] = NobodyListens if seen.ended else Unreachable if seen.mute else StartFailed
        return kind(found.host, found.stage, found.cause, found.next_step)

    def drop(self, path: str) -> None:
        """See Runner.drop."""
        tunnel = self._tunnels.pop(path, None)
        if tunnel is not None:
            tunnel.close()
            remove_path(path)

    def retire(self) -> None:
        """See Runner.retire."""
        self.outer.retire()

    def on_lost(self, callback: Callable[[str], None]) -> None:
        """See Runner.on_lost."""
        self.outer.on_lost(callback)

    async def close(self) -> None:
        """See Runner.close. The machine's own runner stays."""
        relays = [task for tunnel in self._tunnels.values() for task in tunnel.relays]
        for path in list(self._tunnels):
            self.drop(path)
        if relays:
            await asyncio.wait(relays, timeout=3)


class _Begun:
    """A Stream of which something was read already."""

    def __init__(self, stream: Stream, first: bytes) -> None:
        self._stream = stream
        self._first = first
        self.write, self.write_eof, self.close = stream.write, stream.write_eof, stream.close

    async def read(self, most: int = 1 << 20) -> bytes:
        """See Stream.read."""
        if self._first:
            first, self._first = self._first[:most], self._first[most:]
            return first
        return await self._stream.read(most)


class _Tunnel:
    """A local unix socket; each connection to it is a relay inside."""

    def __init__(self, runner: ContainerRunner, remote_socket: str) -> None:
        self._runner = runner
        self._remote = remote_socket
        self._server: asyncio.AbstractServer | None = None
        self.relays: set[asyncio.Task[None]] = set()

    async def listen(self, path: str) -> None:
        self._server = await asyncio.start_unix_server(self._connected, path, limit=1 << 20)

    def close(self) -> None:
        if self._server is not None:
            self._server.close()
        for task in self.relays:
            task.cancel()

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self.relays.add(task)
        try:
            await self._relay(reader, writer)
        except (LauncherError, asyncio.TimeoutError, OSError):
            pass  # who is connected sees the end of it, and asks `check` for the reason
        except asyncio.CancelledError:
            pass  # the tunnel is dropped; asyncio would print it
        finally:
            self.relays.discard(task)
            writer.close()

    async def _relay(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        stream = await self._runner.open(self._runner.relay_command(self._remote), _OPEN_S)
        ways = [asyncio.ensure_future(_up(reader, stream)), asyncio.ensure_future(_down(stream, writer))]
        try:
            await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
            stream.write_eof()
            await asyncio.wait(ways, timeout=1)
        finally:
            for way in ways:
                way.cancel()
            await asyncio.gather(*ways, return_exceptions=True)
            await stream.close()


async def _up(reader: asyncio.StreamReader, stream: Stream) -> None:
    with contextlib.suppress(LauncherError, OSError):
        while data := await reader.read(1 << 18):
            await stream.write(data)


async def _down(stream: Stream, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(LauncherError, OSError):
        while data := await stream.read(1 << 18):
            writer.write(data)
            await writer.drain()
    writer.close()


@cache
def _relay_text() -> str:
    """The relay's program. It is data here, sent to an interpreter there: nothing of it is imported."""
    found = importlib.util.find_spec("remote_exec")
    assert found is not None and found.submodule_search_locations
    return (Path(next(iter(found.submodule_search_locations))) / "relay.py").read_text()


def runner_in(host: str, outer: Runner, box: Box, python: str) -> ContainerRunner:
    """A runner in `box`; `python` as in an inventory."""
    return ContainerRunner(host, outer, box, path_word(python))
