"""A host of a run, as the tree's thread sees it: its link, and what has become of it."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable
from functools import partial

from remote_exec.client.hub import HostLink
from remote_exec.client.link import Delivery, Gone, LinkUp, Note
from remote_exec.tree.target import Opened, Say, Target


class HostLine:
    """Only for the tree's thread."""

    def __init__(self, say: Say, target: Target, opened: Opened | None) -> None:
        self.target = target
        self.opened = opened
        self.link: HostLink | None = None
        self.up: LinkUp | None = None
        self.gone = ""
        self._say = say

    def apply(self, item: Delivery) -> None:
        """What the link has delivered."""
        if isinstance(item, LinkUp):
            self.up = item
            if self.opened is not None:
                self.opened.connected()
        elif isinstance(item, Gone):
            self.gone = item.text or "gone"
        elif isinstance(item, Note):
            self._say(item.level, f"[{self.target.name}] {item.text}")

    def look_up(self, tell: Callable[[Gone], None]) -> None:
        """What was only taken for an address may be no name of a machine: `tell` hears of it, in a thread.

        An address that was written as one is waited for: its machine may come up.
        """
        host = (self.target.endpoint or "").removeprefix("tcp://").rpartition(":")[0]
        if self.target.guessed:
            work = partial(_look_up, host, tell)
            threading.Thread(target=work, name=f"look up {host}", daemon=True).start()

    def failure(self, waited: float) -> str:
        """Why nothing has answered."""
        reason = self.gone or f"no answer from {self.target.name} within {waited:g} s"
        return f"{reason}; {self.target.guessed}" if self.target.guessed else reason

    @property
    def settled(self) -> bool:
        return self.up is not None or bool(self.gone)

    def introduce(self, version: str) -> None:
        """Say what has answered. `version`: our own."""
        assert self.up is not None
        name = self.target.name
        self._say("info", f"[{name}] {self.opened.summary if self.opened else 'connected'}")
        theirs = self.up.server.get("version")
        if self.up.wire < 2:
            text = "its server speaks only the older protocol (v1): no log lines, no reasons of failures"
            self._say("info", f"[{name}] {text}")
        elif theirs != version:
            self._say("info", f"[{name}] runs version {theirs}, this is {version}; they fit together")


def _look_up(host: str, tell: Callable[[Gone], None]) -> None:
    try:
        socket.getaddrinfo(host, None)
    except (OSError, UnicodeError) as error:
        why = getattr(error, "strerror", None) or str(error)
        tell(Gone(f"there is no host called {host} ({why})"))
