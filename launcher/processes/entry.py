"""What a client knows of one process that it has asked for, whichever of its runs did."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from launcher.model import State
from launcher.processes.model import Change, Launch
from launcher.processes.outcomes import ENDED
from launcher.processes.places import Place

if TYPE_CHECKING:
    from launcher.processes.run import Run


@dataclass(eq=False)
class Entry:
    """A process that was launched here, and what is known of it."""

    name: str
    place: Place
    launch: Launch
    owner: Run
    """Whose it is to stop."""
    runs: list[Run] = field(default_factory=list)
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
