"""What stays of servers: their logs, last lines, a list of the runs, the part of a scenario.

Rules:
- one exec each, as everything in `bootstrap`;
- what is fetched for a scenario has a bound in bytes and in time, and says so where it is cut.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from launcher import plan, scripts
from launcher.errors import LauncherError, StageError, StartFailed
from launcher.frames import framed
from launcher.machines.runner import Runner
from launcher.model import Stage
from launcher.remains import Remains, Run, read_clean
from launcher.remains import read_runs as read_runs_reply

MAX_BYTES: Final = 20_000_000
FETCH_S: Final = 30.0
FETCH_HURRY_S: Final = 2.0
_ANSWER_S: Final = 15.0
_LINES_A_SECOND: Final = 1000
"""What a slow link carries at least."""


@dataclass(frozen=True)
class Part:
    """Which log, and from where on: see plan.Found."""

    began: str = ""
    since: int = 0


async def read_log(
    name: str, runner: Runner, *, lines: int = 100, run: int = 0, base: str = ""
) -> tuple[str, str]:
    """The file's path on the machine and its last `lines`; ("", "") when there is none.

    `run`: 0 is the server that runs, or else the last one; 1 the last that has ended, 2 the one before.
    """
    nonce = secrets.token_hex(12)
    script = scripts.logs(plan.slug(name), base=base, nonce=nonce, lines=lines, run=run)
    reply = await framed(name, runner, script, nonce, _ANSWER_S + lines / _LINES_A_SECOND)
    if reply.verb == "refused":
        raise StartFailed(name, Stage(reply.get("stage")), reply.get("cause"), reply.get("next"))
    return reply.get("from"), reply.get("log")


async def read_runs(name: str, runner: Runner, *, base: str = "") -> tuple[Run, ...]:
    """The runs of which there are logs, the newest first."""
    nonce = secrets.token_hex(12)
    script = scripts.runs(plan.slug(name), base=base, nonce=nonce)
    return read_runs_reply(await framed(name, runner, script, nonce, _ANSWER_S))


async def fetch(
    name: str,
    runner: Runner,
    part: Part,
    folder: Path,
    *,
    timeout: float,
    limit: int = MAX_BYTES,
    base: str = "",
) -> Path | None:
    """Write the log of host `name`, from `part` on, into `folder`; None when there is none.

    At most the last `limit` bytes; a first line says what is missing. `timeout`: seconds.
    Raises StageError, OSError.
    """
    path = _path(name, folder)
    nonce = secrets.token_hex(12)
    script = scripts.fetch(
        plan.slug(name), base=base, nonce=nonce, began=part.began, since=part.since, limit=limit
    )
    reply = await framed(name, runner, script, nonce, timeout, urgent=True)
    if reply.verb == "refused":
        raise LauncherError(reply.get("cause"), reply.get("next"))
    if reply.verb != "log":
        return None
    text = reply.get("log")
    missing = _count(reply.get("lost")) + max(0, _count(reply.get("size")) - limit)
    folder.mkdir(exist_ok=True)
    with path.open("w", encoding="utf-8", errors="replace") as file:
        if missing:
            text = text.partition("\n")[2]  # the first line may be cut
            file.write(
                f"[se-remote: about {missing} bytes before this line are left out: the log is longer]\n"
            )
        file.write(text if text.endswith("\n") or not text else text + "\n")
    return path


def forget(name: str, folder: Path) -> None:
    """Remove what an earlier scenario has left there: it must not be taken for the one to come."""
    _path(name, folder).unlink(missing_ok=True)


def _path(name: str, folder: Path) -> Path:
    return folder / f"{plan.slug(name)}.log"


def _count(text: str) -> int:
    return int(text) if text.isdecimal() else 0


def why(error: BaseException, name: str) -> str:
    """That the log of `name` could not be fetched, and how to get it later."""
    cause = error.cause if isinstance(error, StageError) else error
    text = "it took too long" if isinstance(error, (TimeoutError, asyncio.TimeoutError)) else str(cause)
    return f"its log could not be fetched ({text}); later: se-remote logs {name}"


async def clean(names: Sequence[str], runner: Runner, *, dry: bool, base: str = "") -> Remains:
    """Remove what has stayed of these hosts and their variants, `*`: of all; `dry`: only look."""
    nonce = secrets.token_hex(12)
    slugs = [name if name == "*" else plan.slug(name) for name in names]
    script = scripts.clean(slugs, base=base, nonce=nonce, dry=dry)
    return read_clean(await framed("clean", runner, script, nonce, 2 * _ANSWER_S))
