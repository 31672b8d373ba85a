"""What a client knows of one process that it has asked for, whichever of its runs did.

An entry knows its runs as those who want it; what else a run is, it need not know.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import Protocol

from launcher.errors import StageError
from launcher.model import State
from launcher.processes.model import Change, Launch
from launcher.processes.outcomes import ENDED
from launcher.processes.places import Place


class Wants(Protocol):
    """A run that wants a process, and hears what becomes of it."""

    @property
    def open(self) -> bool:
        """It has not been given up."""

    def heard(self, entry: Entry, before: State, change: Change) -> None: ...

    def begun(self, name: str) -> None:
        """It has been launched."""

    def failed(self, name: str, error: StageError) -> None:
        """It could not be."""

    def remark(self, name: str, state: State, text: str, level: str) -> None: ...

    def launch(self, entry: Entry) -> None:
        """Whoever was to launch it has been given up before."""


@dataclass(eq=False)
class Entry:
    """A process that was launched here, and what is known of it."""

    name: str
    place: Place
    launch: Launch
    owner: Wants
    """Whose it is to stop."""
    runs: list[Wants] = field(default_factory=list)
    """Who is told."""
    sent: bool = False
    """Its machine has been told to start it."""
    stopping: bool = False
    """This client stops it: that is no news."""
    change: Change | None = None
    ended: asyncio.Future[Change] = field(default_factory=lambda: asyncio.get_running_loop().create_future())

    @property
    def alive(self) -> bool:
        return self.change is None or self.change.state not in ENDED

    @property
    def state(self) -> State:
        return State.STOPPED if self.change is None else self.change.state

    @property
    def ours(self) -> bool:
        """As far as is known: it was started by this launch, or may have been."""
        return self.sent and (self.change is None or self.change.ours)
