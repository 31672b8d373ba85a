"""The client's end of the talk with an agent: starts it there, carries frames, says why it ended."""

from __future__ import annotations

import asyncio
import contextlib
import json
import zlib
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any, TypeVar

from launcher.command import quote
from launcher.errors import StageError, Unreachable
from launcher.files import wire
from launcher.machines.runner import Runner, Stream
from launcher.model import Completed, Stage

_T = TypeVar("_T")
_START_S = 30.0
SILENT_S = 30.0
"""An agent that says nothing for so long stands still: stopped, or in a container that is paused."""
_NO_PYTHON = (126, 127)
_SHIPPED = ("wire", "names", "tree", "agent")
"""In the order in which they import each other."""

_STARTER = """\
import os, sys, types, zlib, json
left, parts = %d, []
while left:
    part = os.read(0, left)
    if not part:
        sys.exit(1)
    left -= len(part)
    parts.append(part)
top = sys.modules["launcher"] = types.ModuleType("launcher")
package = sys.modules["launcher.files"] = top.files = types.ModuleType("launcher.files")
for name, source in json.loads(zlib.decompress(b"".join(parts)).decode()):
    module = types.ModuleType("launcher.files." + name)
    sys.modules[module.__name__] = module
    setattr(package, name, module)
    exec(compile(source, "<se-remote " + name + ">", "exec"), module.__dict__)
sys.exit(package.agent.main(0, 1))
"""


def program() -> bytes:
    """The source of what runs there."""
    here = Path(__file__).parent
    sources = [[name, (here / f"{name}.py").read_text("utf-8")] for name in _SHIPPED]
    return zlib.compress(json.dumps(sources).encode("ascii"))


class Channel:
    """Frames to and from an agent. One task reads, one writes."""

    def __init__(self, host: str, stage: Stage, stream: Stream, next_step: str) -> None:
        self._host, self._stage, self._stream = host, stage, stream
        self._next_step = next_step
        self._frames = wire.Frames()
        self._coming: Iterator[wire.Frame] = iter(())
        self._ended: Completed | None = None

    async def send(self, data: bytes) -> None:
        """Raises StageError: Unreachable when the connection is gone."""
        try:
            await self._stream.write(data)
        except StageError as error:
            raise await self.why_it_ended() from error

    async def read(self) -> bytes:
        """Bytes for a `Frames`. Raises StageError when it has ended, or stands still."""
        try:
            data = await asyncio.wait_for(self._stream.read(), SILENT_S)
        except asyncio.TimeoutError as error:
            cause = f"nothing has come for {SILENT_S:g} s: what runs there stands still"
            raise Unreachable(self._host, self._stage, cause, self._next_step) from error
        if not data:
            raise await self.why_it_ended()
        return data

    async def next(self) -> wire.Frame:
        """The next frame; raises StageError, for FAILED too."""
        while True:
            with self.understood():
                for kind, payload in self._coming:
                    if kind == wire.FAILED:
                        raise self.failed(payload)
                    if kind != wire.ALIVE:
                        return kind, payload
                self._coming = self._frames.feed(await self.read())

    async def expect(self, kind: int) -> memoryview:
        """The payload of the next frame, which has to be of that kind. Raises StageError."""
        found, payload = await self.next()
        if found != kind:
            raise self.error(f"the agent there said frame {found} instead of {kind}")
        return payload

    @contextlib.contextmanager
    def understood(self) -> Iterator[None]:
        """What in here is no frame, or holds what must not be believed, becomes a StageError."""
        try:
            yield
        except (wire.Garbled, ValueError, KeyError, TypeError, IndexError, RecursionError) as error:
            text = str(error)[:300] or type(error).__name__
            raise self.error(f"the agent there answers what it must not: {text}") from error

    def error(self, cause: str, next_step: str = "") -> StageError:
        return StageError(self._host, self._stage, cause, next_step or self._next_step)

    def failed(self, payload: memoryview) -> StageError:
        """What the agent said of its end."""
        why, what = wire.value_of(payload)
        if what == "full":
            return self.error(f"no space is left there ({why})", "on the machine: df -h")
        if what == "nothing":
            return Nothing(self._host, self._stage, str(why), self._next_step)
        return self.error(str(why))

    async def why_it_ended(self) -> StageError:
        """After its output has ended, or when nothing can be written to it any more."""
        if self._ended is None:
            self._ended = await self._stream.close()
        done = self._ended
        said = done.stderr.decode("utf-8", "replace").strip().splitlines()[-5:]
        if done.exit_code in _NO_PYTHON:
            step = f"name one in the inventory, `hosts.{self._host}.python`"
            return StageError(self._host, self._stage, "there is no Python there to do it with", step, said)
        if done.exit_code is None:
            cause = "the connection was lost, or what ran there was killed"
            return Unreachable(self._host, self._stage, cause, self._next_step, said)
        cause = f"what ran there has ended with code {done.exit_code}"
        return StageError(self._host, self._stage, cause, self._next_step, said)


class Nothing(StageError):
    """There is nothing of that name on the machine."""


@contextlib.asynccontextmanager
async def opened(
    host: str, stage: Stage, runner: Runner, python: str, request: dict[str, Any], next_step: str
) -> AsyncIterator[Channel]:
    """An agent that does `request`; its end is that of the block. Raises StageError."""
    source = program()
    command = f"exec {python} -I -S -c {quote([_STARTER % len(source)])}"
    try:
        stream = await runner.open(command, _START_S)
    except asyncio.TimeoutError as error:
        cause = f"no answer within {_START_S:g} s"
        raise Unreachable(host, stage, cause, next_step) from error
    channel = Channel(host, stage, stream, next_step)
    try:
        await channel.send(source + wire.said(wire.REQUEST, request))
        yield channel
    finally:
        await stream.close()


async def in_thread(work: Callable[..., _T], *args: object) -> _T:
    """What `work` gives. A cancel waits for it: nobody else may touch its files before it has ended.

    At interpreter exit it is done before this returns (see loopthread).
    """
    future = asyncio.get_running_loop().run_in_executor(None, work, *args)
    cancelled: asyncio.CancelledError | None = None
    while not future.done():
        try:
            await asyncio.wait([future])
        except asyncio.CancelledError as error:
            cancelled = error
    if cancelled is not None:
        future.exception()
        raise cancelled
    return future.result()


def begun(work: Coroutine[Any, Any, _T]) -> asyncio.Task[_T]:
    """Begun at once, to be awaited later; see `ended`."""
    return asyncio.ensure_future(work)


async def ended(*tasks: asyncio.Task[Any] | None) -> None:
    """Cancel what still runs, and wait for its end; what has come of it is nobody's concern any more."""
    for task in tasks:
        if task is not None:
            task.cancel()
            await asyncio.wait([task])
            if not task.cancelled():
                task.exception()


async def together(sending: Coroutine[Any, Any, object], listening: Coroutine[Any, Any, _T]) -> _T:
    """Both to their ends; what the listener has heard comes before what stopped the sender."""
    send, listen = begun(sending), begun(listening)
    try:
        await asyncio.wait([send, listen], return_when=asyncio.FIRST_EXCEPTION)
        if send.done() and send.exception() is not None and not listen.done():
            await asyncio.wait([listen], timeout=2)
        if listen.done():
            result = listen.result()
            await send
            return result
        send.result()
        return await listen
    finally:
        await ended(send, listen)
