"""What plugins there are: foreign code, so a worker of its own lists them, and the front only asks it.

Rules: one such worker at a time, for all who ask meanwhile; every question is answered, with a reason when
there is no list.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from remote_exec.host.workers import WorkerLink

SECONDS: Final = 20.0

Answer = Callable[[list[Any], str], None]
"""Gets the plugins, and what was wrong ("" for nothing)."""


class Probe:
    """`start` raises OSError when there can be no worker."""

    def __init__(self, start: Callable[[], WorkerLink], clock: Callable[[], float]) -> None:
        self._start = start
        self._clock = clock
        self._waiting: list[Answer] = []
        self._link: WorkerLink | None = None
        self._until = 0.0
        self._over = False

    def ask(self, answer: Answer) -> None:
        if self._over:
            answer([], "the plugins cannot be listed: the server is stopping")
            return
        self._waiting.append(answer)
        if self._link is not None:
            return
        try:
            self._link = self._start()
        except OSError as error:
            self._answer([], f"the plugins cannot be listed: {error.strerror}")
            return
        self._link.send({"id": 1, "cmd": "describe"})
        self._until = self._clock() + SECONDS

    def owns(self, link: WorkerLink) -> bool:
        return link is self._link

    def said(self, messages: Sequence[Mapping[str, Any]]) -> None:
        """By the worker."""
        for message in messages:
            if message.get("re") == 1:
                plugins, error = message.get("plugins"), message.get("error")
                problem = str(error.get("message")) if isinstance(error, dict) else ""
                self._answer(plugins if isinstance(plugins, list) else [], problem)

    def gone(self, link: WorkerLink) -> None:
        """The worker and all that came from it."""
        self._answer([], f"the plugins cannot be listed: {link.exited or 'no answer'}")
        self._link = None

    def check(self, now: float) -> None:
        if self._waiting and self._link is None:
            self.ask(self._waiting.pop())
        if self._link is not None and now >= self._until:
            self._answer([], "the plugins cannot be listed: no answer in time")
            self._until = now + SECONDS

    def next_deadline(self) -> float | None:
        return self._until if self._link is not None else None

    def end(self) -> None:
        """No worker is started any more."""
        self._over = True
        if self._link is not None:
            self._link.end()

    def _answer(self, plugins: list[Any], problem: str) -> None:
        waiting, self._waiting = self._waiting, []
        for answer in waiting:
            answer(plugins, problem)
        if self._link is not None:
            self._link.end()
