"""The one port to a machine: run a script there, forward a socket from there.

`local` and `ssh` beside it implement it; nothing else runs commands. One test fixture runs the same tests
over both.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from launcher.model import Completed


@dataclass(frozen=True)
class Limits:
    """How long one attempt to connect may take; seconds."""

    dial: float = 10.0
    """Until something accepts the connection."""
    login: float = 20.0
    """From there until we are let in."""
    asking: float = 120.0
    """The same, when somebody is asked something."""


class Runner(Protocol):
    """A machine that was reached."""

    login_took: float
    """Seconds that it took to be let in: what to expect of the next time."""

    async def run(
        self,
        script: bytes,
        timeout: float | None,
        on_output: Callable[[bytes], None] | None = None,
        *,
        hold: bool = False,
        urgent: bool = False,
    ) -> Completed:
        """Run `exec sh` there with `script` on its stdin.

        Its stdout is returned, or goes to `on_output` as it comes. stdin ends behind the script; with
        `hold` it stays open as long as this call lasts (so a script can see that its caller is gone).
        A machine takes only so many at once, the others queue; `urgent` has a queue of its own, so that a
        stop never waits for the bring-up that it ends.
        `timeout` in seconds; raises asyncio.TimeoutError when it is over, and the translated StageError
        when the connection is gone.
        """

    async def forward(self, remote_socket: str) -> str:
        """A local unix socket's path that leads to `remote_socket`, until `drop` or the runner's end."""

    async def check(self, remote_socket: str) -> None:
        """Find out whether somebody listens there; what `forward` made accepts connections in any case.

        Raises NobodyListens, or another StageError when the connection is gone.
        """

    def drop(self, path: str) -> None:
        """End what `forward` made. Never raises."""

    def retire(self) -> None:
        """Close by itself as soon as nothing is forwarded, runs or jumps through it any more."""

    def on_lost(self, callback: Callable[[str], None]) -> None:
        """Have `callback(reason)` called, on the loop's thread, when the connection dies by itself; at once
        if it has died."""

    async def close(self) -> None:
        """Close the connection and remove what `forward` made here. Never raises."""


class Asker(Protocol):
    """Asks on the terminal; None = there is no terminal, or the user gave no answer."""

    def __call__(self, prompt: str, *, secret: bool) -> str | None: ...


def remove_path(path: str) -> None:
    """A tunnel's socket and the directory that was made for it."""
    with contextlib.suppress(OSError):
        Path(path).unlink()
    with contextlib.suppress(OSError):
        Path(path).parent.rmdir()
