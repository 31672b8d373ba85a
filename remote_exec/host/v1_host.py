"""Does what `v1_server` says: sends its replies, starts and feeds the worker that all v1 clients share."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

from remote_exec.codec import unpack_v1
from remote_exec.errors import BadMessage
from remote_exec.host.console import Console
from remote_exec.host.exclusive import Exclusive, Refusal, Request
from remote_exec.host.safety import Safety, Witness, why_unsafe
from remote_exec.host.v1_server import (
    SESSION,
    Forward,
    Quit,
    Reply,
    Start,
    V1Effect,
    V1Server,
    error_body,
    error_text,
)
from remote_exec.host.workers import WorkerLink

QUIT = "a client said quit"


class V1Host:
    """See the module's text."""

    def __init__(
        self,
        start_worker: Callable[[str], WorkerLink],
        send: Callable[[bytes, Mapping[str, Any]], None],
        stop: Callable[[str], None],
        console: Console,
        debug: bool,
        safety: Safety,
    ) -> None:
        self._core = V1Server(debug=debug)
        self._start_worker = start_worker
        self._send = send
        self._stop = stop
        self._console = console
        self._safety = safety
        self._links: set[WorkerLink] = set()
        """Whose end has not been told yet."""
        self._using = False
        self._end_reason = ""
        self._stopping = False
        self._link: WorkerLink | None = None
        self._since = time.time()
        self.exclusive = Exclusive("", "")
        self.lease = 10.0
        """Where the host is exclusive: seconds of silence after which v1 clients lose it."""
        self._heard = 0.0

    def message(self, route: bytes, body: bytes, now: float) -> bool:
        """Whether it was a valid one."""
        self._heard = now
        try:
            if self._stopping and unpack_v1(body).get("cmd") == "init":
                self._send(route, error_body("the server is stopping"))
            elif self.exclusive.is_held_by(SESSION) or unpack_v1(body).get("cmd") != "init":
                self._apply(self._core.message(route, body, now))
            else:
                self._ask_admission(route, body, now)
        except BadMessage as error:
            self._console.complain(f"a v1 client sent a message that cannot be used: {error}", now)
            self._send(route, error_body(str(error)))
            return False
        self._tell_use()
        return True

    def _ask_admission(self, route: bytes, body: bytes, now: float) -> None:
        """All v1 clients are one: they say nothing of themselves, and share a worker."""

        def admitted(then: float) -> None:
            self.message(route, body, then)

        def refused(why: Refusal) -> None:
            self._console.info(f"refused a v1 client: {why.text}")
            self._send(route, error_body(f"{why.text}. To do: {why.next_step}"))

        client = {"user": "a client of the v1 protocol"}
        self.exclusive.admit(Request(SESSION, client, admitted, refused), now)

    @property
    def in_use(self) -> bool:
        """It has actions, or some are still being ended."""
        return bool(self._core.actions()) or any(link.ending for link in self._links)

    def _check_silence(self, now: float) -> None:
        """v1 has no lease and need not say goodbye: silent clients must not hold a robot for ever."""
        silent = now - self._heard > self.lease
        if not (self.exclusive.resource and silent and self._core.actions()):
            return
        self._console.warning(f"v1: nothing was heard for {self.lease:g} s: the exclusive host is free again")
        self._end_reason = f"nothing was heard from its v1 client for {self.lease:g} s"
        link = self._link
        if link is not None:
            link.end()
            self.worker_exited(link)
        self._core.forget()

    def _tell_use(self) -> None:
        """Who has reset all its actions uses the robot no longer, though the worker stays."""
        using = bool(self._core.actions())
        if self._link is not None and using != self._using:
            self._using = using
            if using:
                self._safety.comes(self._link, _nothing)
            else:
                self._safety.leaves(self._link, "", Witness(SESSION, _unheard, _nothing))

    def owns(self, link: WorkerLink) -> bool:
        return link is self._link

    def worker_said(
        self, messages: list[dict[str, Any]], log: Callable[[str, Mapping[str, Any]], None]
    ) -> None:
        for message in messages:
            if message.get("ev") == "log":
                log(SESSION, message)
            elif message.get("ok") is False:
                # v1 has no place for a traceback; it stays here.
                error = message.get("error")
                trace = error.get("traceback") if isinstance(error, dict) else ""
                self._console.error(f"v1: {error_text(message)}" + (f"\n{trace}" if trace else ""))
            self._apply(self._core.worker_said(message))

    def worker_exited(self, link: WorkerLink) -> None:
        if link is self._link:
            self._link = None
            if not link.ending:
                self._console.error(f"v1: the process that runs the actions died: {link.exited}")
            self._apply(self._core.worker_lost(link.exited or "it is gone"))

    def link_over(self, link: WorkerLink) -> bool:
        """Whether it was one of ours."""
        if link not in self._links:
            return False
        self._links.discard(link)
        self.worker_exited(link)
        if link.left:
            self._console.error(f"v1: could not end {'; '.join(link.left)}")
        reason = why_unsafe(self._end_reason if link.ending else None, link.exited, link.left or [])
        self._safety.leaves(link, reason, Witness(SESSION, _unheard, _nothing))
        return True

    def check(self, now: float) -> None:
        self._apply(self._core.check(now))
        self._check_silence(now)

    def next_deadline(self) -> float | None:
        deadlines = [self._core.next_deadline()]
        if self.exclusive.resource and self._core.actions():
            deadlines.append(self._heard + self.lease)
        return min((deadline for deadline in deadlines if deadline is not None), default=None)

    def stop(self, reason: str) -> None:
        """reason: as the server's; a v1 client that says `quit` ends its own actions in order."""
        self._stopping = True
        self._end_reason = "" if reason == QUIT else reason
        if self._link is not None:
            self._link.end()

    def described(self) -> list[dict[str, Any]]:
        """As one session, when there is anything to show."""
        actions = self._core.actions()
        if not actions:
            return []
        return [{"id": SESSION, "client": {"version": "v1"}, "since": self._since, "actions": actions}]

    def _apply(self, effects: list[V1Effect]) -> None:
        for effect in effects:
            if isinstance(effect, Reply):
                self._send(effect.route, effect.body)
            elif isinstance(effect, Start):
                try:
                    self._link = self._start_worker(SESSION)
                except OSError as error:
                    self._apply(self._core.worker_lost(f"it could not be started: {error.strerror}"))
                    return
                self._links.add(self._link)
                self._using = True
            elif isinstance(effect, Forward):
                if self._link is not None:
                    self._link.send(effect.message)
            elif isinstance(effect, Quit):
                self._stop(QUIT)


def _nothing() -> None:
    pass


def _unheard(event: Mapping[str, Any]) -> None:
    """v1 has no message for it; it stays in the server's log."""
