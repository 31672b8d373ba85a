"""Signals of a command that runs an event loop: they cancel its work, which then cleans up."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable, Coroutine
from typing import Any


async def cancelled_by_signals(
    work: Coroutine[Any, Any, int], on_signal: Callable[[signal.Signals], None]
) -> int:
    """What `work` gives; SIGINT, SIGTERM and SIGHUP cancel it, each further one again, behind `on_signal`."""
    task = asyncio.ensure_future(work)

    def stop(number: signal.Signals) -> None:
        on_signal(number)
        task.cancel()

    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is not signal.SIG_IGN:  # below nohup
            loop.add_signal_handler(number, stop, number)
    return await task
