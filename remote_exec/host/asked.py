"""Whether the server may be stopped: asked by a shell script of who came by SSH, decided by the front.

    the script                                  | the front
    --------------------------------------------+----------------------------------------------------
    makes the fifo answer.NAME, opens it        |
    writes a line of JSON into the fifo `ask`   | opens answer.NAME; when nobody reads there: dropped,
                                                | who asked has given up, or died
    reads two lines                             | `stopping`: it does, and lets nobody in any more
                                                | `used`; then what state.json would say now

Who asks says which sessions do not count (`but`: what their client says of itself), whether being kept up
counts (`kept`), and for how long those that do not count may still end by themselves (`wait`, seconds).

Rules: `verdict` is pure; nothing here blocks; what cannot be understood changes nothing. It is a fifo, not a
signal: a server of an older version has none, and goes on.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import zmq

ASK: Final = "ask"
STOPPING: Final = "stopping"
USED: Final = "used"
MAX_LINE: Final = 4096
"""Bytes: more is not written in one piece."""
MAX_STATE: Final = 32_000
"""Bytes: what a fifo takes at once. Of more, state.json has to do, if it is still there."""
MAX_WAIT_S: Final = 60.0
MAX_QUESTIONS: Final = 100


@dataclass(frozen=True)
class Question:
    """May the server be stopped? `until`: monotonic seconds."""

    name: str
    until: float
    but: Mapping[str, Any]
    kept: bool
    why: str


def verdict(question: Question, clients: Sequence[Mapping[str, Any]], kept: bool, now: float) -> str | None:
    """STOPPING, USED, or None: not yet. `clients`: of all sessions. `kept`: it stays without any."""
    if kept and question.kept:
        return USED
    if not clients:
        return STOPPING
    if now < question.until:
        return None
    mine = bool(question.but) and all(_is(client, question.but) for client in clients)
    return STOPPING if mine else USED


def _is(client: Mapping[str, Any], but: Mapping[str, Any]) -> bool:
    return all(client.get(key) == value for key, value in but.items())


def parse(line: bytes, now: float) -> Question | None:
    """A line as scripts write it; None when it is none."""
    try:
        found = json.loads(line)
    except ValueError:
        return None
    if not isinstance(found, dict):
        return None
    name, wait, but = found.get("answer"), found.get("wait"), found.get("but")
    right = isinstance(name, str) and name.isascii() and name.isalnum() and isinstance(but, dict)
    if not right or not isinstance(wait, (int, float)) or not math.isfinite(wait):
        return None
    until = now + min(MAX_WAIT_S, max(0.0, wait))
    return Question(str(name), until, dict(but or {}), found.get("kept") is not False, str(found.get("why")))


class Asked:
    """The fifo, and the questions that wait for their answer. Without a run directory there are none."""

    def __init__(self, run_dir: str | None) -> None:
        self._run_dir = run_dir
        self._fd: int | None = None
        self._rest = b""
        self._questions: list[Question] = []

    def open(self) -> None:
        """When that fails, as where the disk is full, nobody can ask."""
        if self._run_dir is not None:
            path = f"{self._run_dir}/{ASK}"
            with contextlib.suppress(OSError):
                os.mkfifo(path, 0o600)
                # For both: it must not come to an end when a writer does.
                self._fd = os.open(path, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOFOLLOW)

    def watch(self, poller: Any) -> None:
        if self._fd is not None:
            poller.register(self._fd, zmq.POLLIN)

    def owns(self, fd: int) -> bool:
        return fd == self._fd

    def readable(self, now: float) -> None:
        assert self._fd is not None
        with contextlib.suppress(BlockingIOError):
            self._rest += os.read(self._fd, 65536)
        *lines, self._rest = self._rest.split(b"\n")
        self._rest = self._rest[-MAX_LINE:]
        questions = [question for line in lines if (question := parse(line, now)) is not None]
        self._questions = [*self._questions, *questions][-MAX_QUESTIONS:]

    def decide(
        self,
        now: float,
        look: Callable[[], tuple[Sequence[Mapping[str, Any]], bool]],
        comes: Callable[[], bool],
        act: Callable[[str, str], Mapping[str, Any]],
    ) -> None:
        """Answers what can be answered now. `look`: clients and kept, as in `verdict`.

        `comes()`: somebody has found this server and is on the way (coming.py), who counts where being kept
        does. `act(verdict, why)` does it, before who asked hears of it, and returns the state until then.
        """
        for question in list(self._questions):
            answer = verdict(question, *look(), now)
            heard = self._reader(question.name)
            if answer == STOPPING and question.kept and heard is not None and comes():
                answer = USED if now >= question.until else None
            if answer is None and heard is not None:
                os.close(heard)
                continue
            self._questions.remove(question)
            if heard is not None:
                state = json.dumps(act(str(answer), question.why))
                state = state if len(state) < MAX_STATE else ""
                with contextlib.suppress(OSError):
                    os.write(heard, f"{answer}\n{state}\n".encode())
                os.close(heard)

    def next_deadline(self) -> float | None:
        return min((question.until for question in self._questions), default=None)

    def _reader(self, name: str) -> int | None:
        """Whom to answer; None when nobody waits for it any more."""
        flags = os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOFOLLOW
        try:
            return os.open(f"{self._run_dir}/answer.{name}", flags)
        except OSError:
            return None
