"""This machine as a Runner: the same scripts, by a subprocess `sh`.

The exec's environment is the one handed in. asyncio's own subprocesses are not used: their child watcher
needs threads, which cannot be started any more at interpreter exit, when the last servers are stopped.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import IO

from launcher.errors import StartFailed, Unreachable
from launcher.machines.runner import Stream, Tail, talking_script, until_it_goes
from launcher.model import Completed, Stage

_CHUNK = 65536
_ENDS_WITHIN = 1.0
"""Seconds between the end of a command's output and its own."""


class LocalRunner:
    """Runs scripts here; there is nothing to forward and nothing to lose."""

    login_took = 0.0

    def __init__(self, environ: Mapping[str, str]) -> None:
        # `python3` is the one that runs us: who starts a scenario by its path in a virtual environment,
        # without activating it, means that environment here too.
        own = str(Path(sys.executable).parent)
        self._environ = {**environ, "PATH": os.pathsep.join([own, environ.get("PATH", os.defpath)])}

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
        process = self._start()
        try:
            return await asyncio.wait_for(_converse(process, script, on_output, hold), timeout)
        finally:
            _release(process)

    async def open(self, command: str, timeout: float) -> Stream:
        """See Runner.open."""
        nonce = secrets.token_hex(12)
        stream = _Talk(self._start())
        try:
            await asyncio.wait_for(stream.begin(talking_script(command, nonce), nonce), timeout)
        except BaseException:
            await stream.close()
            raise
        return stream

    def _start(self) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            ["sh"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            env=self._environ, start_new_session=True, bufsize=0,
        )  # fmt: skip

    async def forward(self, remote_socket: str) -> str:
        """The socket itself: it is on this machine."""
        return remote_socket

    async def check(self, remote_socket: str) -> None:
        """There is no way that could be barred."""

    def drop(self, path: str) -> None:
        """The socket is the server's own."""

    def retire(self) -> None:
        """There is nothing to close."""

    def on_lost(self, callback: Callable[[str], None]) -> None:
        """This machine is not lost."""

    async def close(self) -> None:
        """Nothing is open."""


class _Talk:
    """A Stream to a process of this machine."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        assert process.stdin and process.stdout and process.stderr
        self._process = process
        self._stdin, self._stdout = process.stdin, process.stdout
        self._first = b""
        self._over = False
        self._stderr = Tail()
        self._listening = asyncio.ensure_future(_drain(process.stderr, self._stderr.add))

    async def begin(self, script: bytes, nonce: str) -> None:
        await self.write(script)
        first = await until_it_goes(self.read, nonce)
        if first is None:
            await asyncio.wait([self._listening], timeout=1)
            raise StartFailed(
                "local", Stage.SHELL, "`sh` has ended before it began", "", self._stderr.lines()
            )
        self._first = first

    async def read(self, most: int = 1 << 20) -> bytes:
        """See Stream.read."""
        if self._first:
            first, self._first = self._first[:most], self._first[most:]
            return first
        fd = self._stdout.fileno()
        os.set_blocking(fd, False)
        while True:
            try:
                chunk = os.read(fd, most)
                self._over = self._over or not chunk
                return chunk
            except BlockingIOError:
                await _ready(fd, writing=False)

    async def write(self, data: bytes) -> None:
        """See Stream.write."""
        try:
            await _feed(self._stdin, data)
        except (OSError, ValueError) as error:
            raise Unreachable("local", Stage.SHELL, "what was talked to has ended") from error

    def write_eof(self) -> None:
        """See Stream.write_eof."""
        with contextlib.suppress(OSError):
            self._stdin.close()

    async def close(self) -> Completed:
        """See Stream.close."""
        self.write_eof()
        until = time.monotonic() + _ENDS_WITHIN
        while self._over and self._process.poll() is None and time.monotonic() < until:
            await asyncio.sleep(0.002)
        if self._process.poll() is not None:
            await asyncio.wait([self._listening], timeout=_ENDS_WITHIN)
        self._listening.cancel()
        code = self._process.poll()
        _release(self._process)
        return Completed(code if code is None or code >= 0 else None, b"", self._stderr.bytes())


async def _converse(
    process: subprocess.Popen[bytes], script: bytes, on_output: Callable[[bytes], None] | None, hold: bool
) -> Completed:
    assert process.stdin and process.stdout and process.stderr
    stdout: list[bytes] = []
    stderr: list[bytes] = []
    readers = asyncio.gather(
        _drain(process.stdout, on_output or stdout.append), _drain(process.stderr, stderr.append)
    )
    try:
        with contextlib.suppress(BrokenPipeError):
            await _feed(process.stdin, script)
        if not hold:
            process.stdin.close()
        await readers
    finally:
        readers.cancel()
    while process.poll() is None:  # its output has ended: it is about to exit
        await asyncio.sleep(0.002)
    code = process.returncode
    return Completed(code if code >= 0 else None, b"".join(stdout), b"".join(stderr))


async def _drain(pipe: IO[bytes], sink: Callable[[bytes], None]) -> None:
    fd = pipe.fileno()
    os.set_blocking(fd, False)
    while True:
        await _ready(fd, writing=False)
        with contextlib.suppress(BlockingIOError):
            chunk = os.read(fd, _CHUNK)
            if not chunk:
                return
            sink(chunk)


async def _feed(pipe: IO[bytes], data: bytes) -> None:
    fd = pipe.fileno()
    os.set_blocking(fd, False)
    view = memoryview(data)
    while view:
        try:
            view = view[os.write(fd, view) :]
        except BlockingIOError:
            await _ready(fd, writing=True)


async def _ready(fd: int, *, writing: bool) -> None:
    loop = asyncio.get_running_loop()
    future: asyncio.Future[None] = loop.create_future()
    add, remove = (loop.add_writer, loop.remove_writer) if writing else (loop.add_reader, loop.remove_reader)
    add(fd, lambda: None if future.done() else future.set_result(None))
    try:
        await future
    finally:
        remove(fd)


def _release(process: subprocess.Popen[bytes]) -> None:
    """Close the pipes and end what did not end by itself (a cancelled script and what it runs)."""
    for pipe in (process.stdin, process.stdout, process.stderr):
        if pipe is not None:
            with contextlib.suppress(OSError):
                pipe.close()
    if process.poll() is None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGTERM)
        try:
            process.wait(1)
        except subprocess.TimeoutExpired:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
