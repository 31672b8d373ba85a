"""From the caller's event loop to the launcher's, which is on a thread of its own, and back.

Rules:
- the caller's loop is never blocked, and what is begun is never cut short: a cancel is handed over, and its
  end is awaited before it is raised here;
- listeners are called on the loop of the task that gave them; when that is closed, nobody listens any more.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from launcher.loopthread import DaemonExecutor

_T = TypeVar("_T")
Submit = Callable[[Callable[[], Coroutine[Any, Any, Any]]], "concurrent.futures.Future[Any]"]
"""Runs something on the other loop."""


async def on_loop(submit: Submit, work: Callable[[], Coroutine[Any, Any, _T]]) -> _T:
    """What `work` gives, on the launcher's loop."""
    tasks: list[asyncio.Task[_T]] = []

    async def outer() -> _T:
        tasks.append(asyncio.ensure_future(work()))
        return await asyncio.shield(tasks[0])

    async def cancel() -> None:
        for task in tasks:
            task.cancel()

    future = asyncio.wrap_future(submit(outer))
    cancelled = False
    while True:
        try:
            result: _T = await asyncio.shield(future)
        except asyncio.CancelledError:
            if future.done():
                raise
            cancelled = True
            submit(cancel)
            continue
        if cancelled:
            raise asyncio.CancelledError
        return result


async def in_thread(work: Callable[[], _T]) -> _T:
    """What `work` gives, which blocks."""
    future = asyncio.get_running_loop().run_in_executor(DaemonExecutor(), work)
    try:
        return await asyncio.shield(future)
    except asyncio.CancelledError:
        with contextlib.suppress(Exception):
            await future
        raise


def on_this_loop(listener: Callable[[Any], None] | None) -> Callable[[Any], None] | None:
    """The listener, for whoever calls it from another thread."""
    if listener is None:
        return None
    loop = asyncio.get_running_loop()

    def hear(value: Any) -> None:
        with contextlib.suppress(RuntimeError):  # the loop is closed
            loop.call_soon_threadsafe(listener, value)

    return hear
