"""One exec of a script on a machine, and its framed reply."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from launcher import plan
from launcher.errors import Unreachable
from launcher.machines.runner import Runner
from launcher.model import Completed, Stage
from launcher.plan import Reply

Note = Callable[[Stage, str], None]
"""Hears what a bring-up is at: the stage it enters, and a remark."""


async def framed(
    name: str,
    runner: Runner,
    script: bytes,
    nonce: str,
    timeout: float,
    *,
    urgent: bool = False,
    note: Note | None = None,
    on_window: Callable[[str], None] | None = None,
) -> Reply:
    """One exec of a script, and its reply. `timeout`: seconds. Raises StageError.

    `on_window` hears the run directory for which the script wants a window that it cannot open itself.
    """
    stdout = bytearray()
    told = 0
    asked = False

    def hear(chunk: bytes) -> None:
        nonlocal told, asked
        stdout.extend(chunk)
        if note is not None:
            entered = plan.stages(bytes(stdout), nonce)
            for stage, text in entered[told:]:
                note(stage, text)
            told = len(entered)
        wanted = plan.window(bytes(stdout), nonce) if on_window is not None and not asked else ""
        if wanted and on_window is not None:
            asked = True
            on_window(wanted)

    try:
        done = await runner.run(script, timeout, hear, urgent=urgent)
    except asyncio.TimeoutError as error:
        cause = f"the machine did not answer within {timeout:g} s"
        raise Unreachable(name, Stage.CONNECT, cause) from error
    reply = plan.parse_reply(bytes(stdout), nonce)
    if reply is None:
        raise plan.no_frame(name, Completed(done.exit_code, bytes(stdout), done.stderr))
    return reply
