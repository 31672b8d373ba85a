"""What has stayed of servers on a machine, purely: replies of the scripts in `keeping`, read.

reply of runs   →  one Run for each log, the newest first
reply of clean  →  Remains: what was removed
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Final

from launcher.errors import StartFailed
from launcher.model import Stage
from launcher.plan import Reply

_TIME: Final = re.compile(r"(\d{4})(\d\d)(\d\d)T(\d\d)(\d\d)(\d\d)Z", re.ASCII)


@dataclass(frozen=True)
class Run:
    """One run of a server, as far as its log tells. Times: epoch seconds, None where they are not known."""

    ended: str
    """running, stopped, killed, vanished, or the stage and the exit code, as in `server-137`."""
    began: float | None
    last_line: float | None
    size: int


def read_runs(reply: Reply) -> tuple[Run, ...]:
    """The runs of which there are logs, the newest first; raises StageError when the machine refused."""
    if reply.verb == "refused":
        raise StartFailed("logs", Stage(reply.get("stage")), reply.get("cause"), reply.get("next"))
    runs = []
    for line in reply.get("runs").splitlines():
        size, last, name = [*line.split(" ", 2), "", ""][:3]
        began, _, ended = name.removesuffix(".log").partition("-")
        if size.isdecimal():
            ended = re.sub(r"^\d+(-|$)", "", ended)
            runs.append(Run(ended or "unknown", epoch(began), epoch(last), int(size)))
    return tuple(runs)


@dataclass(frozen=True)
class Remains:
    """What has stayed, each as (kind, bytes, host). Kinds: log, run, window; used: was let alone."""

    items: tuple[tuple[str, int, str], ...]


def read_clean(reply: Reply) -> Remains:
    """What was removed; raises StageError when the machine refused."""
    if reply.verb == "refused":
        raise StartFailed("clean", Stage(reply.get("stage")), reply.get("cause"), reply.get("next"))
    lines = [line.split(" ", 2) for line in reply.get("items").splitlines() if line.count(" ") >= 2]
    return Remains(tuple((kind, int(size) if size.isdecimal() else 0, name) for kind, size, name in lines))


def epoch(text: str) -> float | None:
    """Of a time as run directories and logs are named by; None for any other text."""
    found = _TIME.fullmatch(text)
    if found is None:
        return None
    year, month, day, hour, minute, second = map(int, found.groups())
    try:  # not by `strptime`, which takes as long as all else that is read of a process
        return datetime(year, month, day, hour, minute, second, tzinfo=timezone.utc).timestamp()
    except ValueError:
        return None
