"""Servers that nobody calls anything on, but that others depend on: held up by a connection each.

A server that was started for a client ends when it has no session, also one that others only need to exist.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial

from remote_exec.client.hub import HostLink, Hub
from remote_exec.client.link import Delivery, Gone, LinkSpec, LinkUp

LEAVE_S = 2.0


class Holding:
    """Any thread may call; nothing blocks but `leave`. `lost(name, reason)`: in the hub's thread."""

    def __init__(self, lost: Callable[[str, str], None]) -> None:
        self._lost = lost
        self._hub: Hub | None = None
        self._links: dict[str, HostLink] = {}
        self._gone: set[str] = set()
        self._leaving = False

    def hold(self, spec: LinkSpec, connected: Callable[[], None]) -> None:
        """From now on; `connected` is called once it has answered."""
        if self._hub is None:
            self._hub = Hub()
        self._links[spec.name] = self._hub.connect(spec, partial(self._took, spec.name, connected))

    def leave(self) -> None:
        """Say goodbye to all; waits for that, bounded. Who cannot be told notices by the lease."""
        self._leaving = True
        if self._hub is None:
            return
        for name, link in self._links.items():
            if name not in self._gone:
                link.leave(release=True)
        until = time.monotonic() + LEAVE_S
        while self._gone != set(self._links) and time.monotonic() < until:
            time.sleep(0.01)
        self._hub.close()
        self._hub = None

    def _took(self, name: str, connected: Callable[[], None], item: Delivery) -> None:
        if isinstance(item, LinkUp):
            connected()
        elif isinstance(item, Gone):
            self._gone.add(name)
            if not self._leaving:
                self._lost(name, item.reason)
