"""What processes have printed: read, followed, listed, cleaned up, on machines that were reached. Async.

Rules:
- chunks, never a line at a time: a log of 100,000 lines costs no more than having its file sent;
- who follows knows at every moment which run he reads and at which byte, so after a lost connection he goes
  on exactly there, also when the process was started again meanwhile; what cannot be had any more is said;
- what is no UTF-8 is shown as such, and lines may be long.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Awaitable, Callable, Iterable
from typing import Final

from launcher.errors import StageError, StartFailed
from launcher.frames import framed
from launcher.keeping import REFUSED
from launcher.machines.runner import Runner
from launcher.model import Stage
from launcher.processes import looking
from launcher.processes.logkeeping import GIVEN_BACK
from launcher.processes.model import Key
from launcher.remains import Remains, Run, read_clean, read_runs

_ANSWER_S: Final = 15.0
_ALL_S: Final = 600.0
_LONGEST: Final = 1 << 24
"""Bytes of a line that are kept until its end comes; a longer one is handed on in pieces."""
_HOLE: Final = bytes(4096)

OnLine = Callable[[str], None]


async def read(
    runner: Runner,
    key: Key,
    *,
    lines: int | None = 200,
    run: int = 0,
    since: float | None = None,
    base: str = "",
) -> tuple[str, str]:
    """The path of a log there and its last `lines` (None: all); ("", "") when there is none.

    `run`: 0 is the one that runs, or else the last; 1 the last that has ended, 2 the one before. `since`:
    what was printed from then on, to about 3 s; epoch seconds of this machine's clock. Raises StageError.
    """
    nonce = secrets.token_hex(12)
    script = looking.read(key, base=base, nonce=nonce, lines=lines, run=run, ago=_ago(since))
    limit = _ALL_S if lines is None else _ANSWER_S + lines / 1000
    reply = await framed(key.name, runner, script, nonce, limit)
    if reply.verb == "refused":
        raise StartFailed(key.name, Stage(reply.get("stage")), reply.get("cause"), reply.get("next"))
    text = reply.get("log")
    if reply.get("gone"):
        text = f"{GIVEN_BACK % reply.get('gone')}\n{text.partition(chr(10))[2]}"
    return reply.get("from"), text


async def runs(runner: Runner, key: Key, *, base: str = "") -> tuple[Run, ...]:
    """The runs of which there are logs, the newest first. Raises StageError."""
    nonce = secrets.token_hex(12)
    script = looking.runs(key, base=base, nonce=nonce)
    return read_runs(await framed(key.name, runner, script, nonce, _ANSWER_S))


async def clean(runner: Runner, keys: Iterable[Key] | None, *, dry: bool, base: str = "") -> Remains:
    """Remove what has stayed of these processes, None: of all; `dry`: only look. Items are SESSION/SLUG."""
    nonce = secrets.token_hex(12)
    script = looking.clean(keys, base=base, nonce=nonce, dry=dry)
    return read_clean(await framed("clean", runner, script, nonce, 2 * _ANSWER_S))


async def follow(
    reach: Callable[[], Awaitable[Runner]],
    key: Key,
    on_line: OnLine,
    on_trouble: OnLine,
    *,
    lines: int | None = 10,
    since: float | None = None,
    base: str = "",
    backoff: tuple[float, float] = (0.5, 15.0),
) -> None:
    """Call `on_line` for each line of the log, for ever, through restarts; ends by being cancelled.

    Begins with the last `lines` (None: all), or with what was printed since `since` (see `read`).
    `reach()` is awaited for a Runner, again after each loss of the connection, with growing pauses
    (`backoff`: first and longest, seconds). `on_trouble` hears of losses, restarts and gaps. Raises
    Unreachable only the first time, StartFailed when the machine refuses. A connection carries only a few
    (`lane` of Machines.runner).
    """
    nonce = secrets.token_hex(12)
    cutter = Cutter(nonce, key.name, on_line, on_trouble)
    pause, first = backoff[0], True
    ago = _ago(since)
    while True:
        cutter.interrupted()
        try:
            runner, first = await reach(), False
            script = looking.follow(key, base=base, nonce=nonce, lines=lines, ago=ago, known=cutter.run,
                                    offset=cutter.offset)  # fmt: skip
            done = await runner.run(script, None, cutter.feed, hold=True)
            reason = "the connection ended"
            if done.exit_code == REFUSED:
                cause, step = ["", "", *done.stderr.decode("utf-8", "replace").splitlines()][-2:]
                raise StartFailed(key.name, Stage.SHELL, cause, step)
        except StartFailed:
            raise
        except StageError as error:
            if first:
                raise
            reason = error.cause
        pause = backoff[0] if cutter.heard else pause
        on_trouble(f"{key.name}: {reason}; trying again in {pause:g} s")
        await asyncio.sleep(pause)
        pause = min(pause * 2, backoff[1])


class Cutter:
    """Cuts what `looking.follow` sends into lines, and knows where in which log it is. Pure."""

    def __init__(self, nonce: str, name: str, on_line: OnLine, on_trouble: OnLine) -> None:
        self.run = ""
        """Which log it reads: its BEGAN."""
        self.offset = 0
        """Where the next line begins in it."""
        self.heard = False
        """Something has come since it was last interrupted."""
        self._mark = nonce.encode() + b" "
        self._name = name
        self._on_line = on_line
        self._on_trouble = on_trouble
        self._rest: list[bytes] = []
        self._held = 0
        self._begun = False
        """The first mark has come over this connection; what comes before it is of rc files."""

    def interrupted(self) -> None:
        """The next chunk comes over another connection."""
        self._rest, self._held, self.heard, self._begun = [], 0, False, False

    def feed(self, chunk: bytes) -> None:
        """Takes the next chunk."""
        self.heard = True
        end = chunk.rfind(b"\n")
        if end < 0 and self._held + len(chunk) < _LONGEST:
            self._rest.append(chunk)
            self._held += len(chunk)
            return
        if end < 0:
            block, rest = b"".join([*self._rest, chunk]), b""
            self.offset -= 1  # no line's end is there
        else:
            block, rest = b"".join([*self._rest, chunk[:end]]), chunk[end + 1 :]
        self._rest, self._held = [rest] if rest else [], len(rest)
        if self._mark in block:
            self._marked(block)
        elif self._begun:
            self._lines(block)

    def _marked(self, block: bytes) -> None:
        """In it another log begins: in the line in which the one before has ended, if that had no end."""
        while self._mark in block:
            before, _, block = block.partition(self._mark)
            if before and self._begun:
                self._lines(before.removesuffix(b"\n"))
            words, newline, block = block.partition(b"\n")
            self._begins(words.decode("ascii", "replace").split())
            if not newline:
                return
        self._lines(block)

    def _begins(self, words: list[str]) -> None:
        if words[:1] != ["log"] or len(words) != 3:
            self._on_trouble(f"{self._name}: lines may be missing here")
            return
        if self.run and words[1] != self.run:
            self._on_trouble(f"{self._name}: started again")
        self.run, self.offset, self._begun = words[1], int(words[2]), True

    def _lines(self, block: bytes) -> None:
        self.offset += len(block) + 1
        if _HOLE in block:
            before, _, after = block.partition(_HOLE)
            after = after.lstrip(b"\0")
            self._on_trouble(GIVEN_BACK % (len(block) - len(before) - len(after)))
            block = before + after
        on_line = self._on_line
        for line in block.decode("utf-8", "replace").split("\n"):
            on_line(line)


def _ago(since: float | None) -> float | None:
    return None if since is None else max(0.0, time.time() - since)
