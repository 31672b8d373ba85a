"""The one port to a machine: run a script there, talk to one that runs there, forward a socket from there.

`local` and `ssh` beside it implement it; nothing else runs commands. One test fixture runs the same tests
over both.
"""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from launcher.model import Completed

_MAX_SOCKET_PATH = 100


@dataclass(frozen=True)
class Limits:
    """How long one attempt to connect may take; seconds."""

    dial: float = 10.0
    """Until something accepts the connection."""
    login: float = 20.0
    """From there until we are let in."""
    asking: float = 120.0
    """The same, when somebody is asked something."""


class Stream(Protocol):
    """The standard input and output of a command that runs on a machine. For one task at each end of it."""

    async def read(self, most: int = 1 << 20) -> bytes:
        """Some bytes, `most` at most, as soon as there are any; b"" at the end."""

    async def write(self, data: bytes) -> None:
        """Returns when the other side takes more. Raises StageError when it is gone."""

    def write_eof(self) -> None:
        """Its standard input ends here. Never raises."""

    async def close(self) -> Completed:
        """Cut it off; over SSH that is the end of its stdin and stdout, which it has to notice.

        The exit code is None when it had not ended, as its stdout tells; stdout is empty. Never raises.
        """


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

    async def open(self, command: str, timeout: float) -> Stream:
        """Run shell text there whose last command, by `exec`, is what is talked to from then on.

        It comes as a script on the stdin of `exec sh`, which says when it has been read to its end: only
        then anything is written behind it, since some shells read ahead. `timeout`: seconds until it says so.
        Raises asyncio.TimeoutError, and StageError when the connection is gone or the shell does not answer.
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


class Tail:
    """The last bytes of what is heard."""

    _KEPT = 16384

    def __init__(self) -> None:
        self._heard = b""

    def add(self, chunk: bytes) -> None:
        self._heard = (self._heard + chunk)[-self._KEPT :]

    def bytes(self) -> bytes:
        return self._heard

    def lines(self, number: int = 5) -> list[str]:
        """The last ones, as text."""
        return self._heard.decode("utf-8", "replace").strip().splitlines()[-number:]


def talking_script(command: str, nonce: str) -> bytes:
    """A script for `Runner.open`: shell text whose last command, by `exec`, is what is talked to."""
    lines = ["se_remote() {", f"printf '\\n{nonce} go\\n'", command, "}", "se_remote", ""]
    return "\n".join(lines).encode("utf-8", "surrogateescape")


async def until_it_goes(read: Callable[[], Awaitable[bytes]], nonce: str) -> bytes | None:
    """Read up to the line by which a `talking_script` goes; returns what came behind it, None: it ended."""
    line, heard = f"\n{nonce} go\n".encode(), b""
    while line not in heard:
        chunk = await read()
        if not chunk:
            return None
        heard += chunk
    return heard.partition(line)[2]


def short_directory() -> Path:
    """A new one, 0700, for a tunnel's socket, whose path is bounded. Raises OSError."""
    directory = Path(tempfile.mkdtemp(prefix="se-remote-"))
    if len(str(directory)) > _MAX_SOCKET_PATH - 6:
        directory.rmdir()
        directory = Path(tempfile.mkdtemp(prefix="se-remote-", dir="/tmp"))
    return directory


def remove_path(path: str) -> None:
    """A tunnel's socket and the directory that was made for it."""
    with contextlib.suppress(OSError):
        Path(path).unlink()
    with contextlib.suppress(OSError):
        Path(path).parent.rmdir()
