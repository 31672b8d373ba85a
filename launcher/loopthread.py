"""An asyncio loop on a daemon thread of its own, that goes on working while the interpreter exits.

At exit no thread can be started any more; what asyncio would do in one (looking up a host name, reading
keys) is then done inline. Before that it gets daemon threads, so that a slow DNS server or a question on
the terminal blocks neither the loop nor the exit.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import threading
from collections.abc import Callable
from typing import Any


class LoopThread:
    """A loop that runs on a new daemon thread until `stop`."""

    def __init__(self, name: str) -> None:
        self.loop = asyncio.new_event_loop()
        self.loop.set_default_executor(DaemonExecutor())
        self._thread = threading.Thread(target=_run, args=(self.loop,), name=name, daemon=True)
        self._thread.start()

    def stop(self, seconds: float = 2.0) -> None:
        """Cancel what still runs on the loop, end it and close it; waits for that, but not longer."""
        with contextlib.suppress(RuntimeError):  # it is closed already
            self.loop.call_soon_threadsafe(self.loop.stop)
        if self._thread is not threading.current_thread():
            self._thread.join(seconds)


class DaemonExecutor(concurrent.futures.ThreadPoolExecutor):
    """A daemon thread per call, or the caller's own when none can be started any more (interpreter exit)."""

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> concurrent.futures.Future[Any]:
        future: concurrent.futures.Future[Any] = concurrent.futures.Future()

        def work() -> None:
            if not future.set_running_or_notify_cancel():
                return  # given up before it began; from now on it cannot be
            try:
                result = fn(*args, **kwargs)
            except BaseException as error:
                future.set_exception(error)
            else:
                future.set_result(result)

        try:
            threading.Thread(target=work, daemon=True).start()
        except RuntimeError:
            work()
        return future


def _run(loop: asyncio.AbstractEventLoop) -> None:
    asyncio.set_event_loop(loop)
    loop.run_forever()
    tasks = asyncio.all_tasks(loop)
    for task in tasks:
        task.cancel()
    if tasks:
        loop.run_until_complete(asyncio.wait(tasks, timeout=1.5))
    loop.run_until_complete(loop.shutdown_asyncgens())
    loop.close()
