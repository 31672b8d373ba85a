"""The Python API for code that does not use asyncio: tests and scripts.

    with BlockingHost.open("lab-pc") as host:
        assert host.call("run_process", command="hostname", timeout=10).success

The same as launcher.api.Host, whose errors and options it has, on an event loop in a thread of its own. Calls
may come from several threads at once. An exception that interrupts a waiting caller (Ctrl-C, the limit of a
test) cancels what it waited for on the host, and waits for that.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections import deque
from collections.abc import Callable, Coroutine, Mapping
from typing import Any, TypeVar

from launcher.api import Action, CallResult, Host, Line
from launcher.loopthread import LoopThread

__all__ = ["BlockingHost"]

_T = TypeVar("_T")
MAX_LINES = 100_000
"""Log lines that are kept; of a flood the last ones."""
_UNWIND_S = 60.0
"""How long an interrupted call may take to be cancelled on the host."""


class BlockingHost:
    """A host whose actions can be called, until `close`."""

    def __init__(self, host: Host, on_line: Callable[[Line], None] | None = None) -> None:
        """Use `open`. `on_line` gets every log line, in another thread."""
        self._lines: deque[Line] = deque(maxlen=MAX_LINES)
        self._host = host
        self._thread: LoopThread | None = LoopThread("se-remote-api")
        host.on_line(self._lines.append)
        if on_line is not None:
            host.on_line(on_line)
        try:
            self._wait(host.__aenter__())
        except BaseException:
            self._stop()
            raise

    @classmethod
    def open(
        cls, name: str, *, on_line: Callable[[Line], None] | None = None, **options: Any
    ) -> BlockingHost:
        """Reach the host and start its server if need be. `options` and errors: as Host.open."""
        return cls(Host.open(name, **options), on_line)

    @property
    def name(self) -> str:
        return self._host.name

    @property
    def started(self) -> bool:
        """Its server was started here; False: it was up."""
        return self._host.started

    @property
    def log(self) -> list[Line]:
        """The log lines so far."""
        return list(self._lines)

    def call(
        self,
        action: str,
        /,
        *,
        timeout: float | None = None,
        label: str | None = None,
        args: Mapping[str, Any] | None = None,
        **arguments: Any,
    ) -> CallResult:
        """Run one action to its end; see Host.call."""
        work = self._host.call(action, timeout=timeout, label=label, args=args, **arguments)
        return self._wait(work)

    def actions(self) -> list[Action]:
        """The action plugins there, with their parameters."""
        return self._wait(self._host.actions())

    def close(self) -> None:
        """End what is left running, and the server if it was started here. Idempotent. Raises LeftBehind."""
        self._close(None)

    def _close(self, error: BaseException | None) -> None:
        if self._thread is None:
            return
        try:
            self._wait(self._host.__aexit__(None, error, None))
        finally:
            self._stop()

    def __enter__(self) -> BlockingHost:
        return self

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        from launcher.errors import LeftBehind

        try:
            self._close(error)
        except LeftBehind:
            if error is None:
                raise

    def _wait(self, work: Coroutine[Any, Any, _T]) -> _T:
        if self._thread is None:
            work.close()
            raise RuntimeError("this host is closed")
        ended = threading.Event()

        async def run() -> _T:
            try:
                return await work
            finally:
                ended.set()

        future = asyncio.run_coroutine_threadsafe(run(), self._thread.loop)
        try:
            return future.result()
        except BaseException:
            if not future.done():
                future.cancel()
                ended.wait(_UNWIND_S)
            raise

    def _stop(self) -> None:
        thread, self._thread = self._thread, None
        if thread is not None:
            with contextlib.suppress(RuntimeError):
                thread.stop()
