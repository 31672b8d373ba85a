"""Simulated time: the actions on the hosts take one step per tick of the tree, at the simulation's time.

Rules:
- The first thing in a tick is one `tick` at every host where something runs, all hosts side by side. Their
  actions are ticked once, with the clock at this tick's time, and their statuses are here before the tree
  looks at them. So no result is ever a tick late, and nothing happens between ticks.
- `execute` carries the time, too, and is answered in the tick that sent it.
- The simulation waits for its actions: there is no budget. Only the loss of a host (its lease) or a signal
  ends a wait.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import Any, Protocol

from remote_exec.client.session import Reply

FOREVER = float("inf")


def simulated_clock(setup_kwargs: Mapping[str, Any]) -> Any:
    """The clock of the simulation that this run steps (--simulation); None when time is real."""
    return setup_kwargs.get("clock") if setup_kwargs.get("simulation") is not None else None


class Waiting(Protocol):
    """What is needed of the run (see scenario.Desk)."""

    def wait(self, done: Callable[[], bool], deadline: float, abortable: bool = True) -> bool: ...
    def interrupted(self) -> bool: ...


class Host(Protocol):
    """A session at one host (see scenario.HostSession)."""

    @property
    def over(self) -> bool: ...
    def any_running(self) -> bool: ...
    def call(self, cmd: str, fields: Mapping[str, Any], then: Callable[[Reply], None]) -> int: ...
    def took_statuses(self, reply: Reply) -> None: ...


class Lockstep:
    """See the module's text. `clock` is the simulation's."""

    def __init__(self, desk: Waiting, clock: Any) -> None:
        self._desk = desk
        self._clock = clock

    def now(self) -> float:
        """Simulated seconds."""
        return float(self._clock.now())

    def tick(self, hosts: Collection[Host]) -> None:
        """One step of everything that runs; returns when all of it is here."""
        steps = [_Step(host) for host in hosts if not host.over and host.any_running()]
        for step in steps:
            step.host.call("tick", {"t": self.now()}, step.took)
        for step in steps:
            self.wait(step.host, step.over)

    def wait(self, host: Host, done: Callable[[], bool]) -> None:
        """Until `done`, however long it takes, while the host is there and no signal came."""
        self._desk.wait(lambda: done() or host.over or self._desk.interrupted(), FOREVER, abortable=False)


class _Step:
    """One `tick` on its way."""

    def __init__(self, host: Host) -> None:
        self.host = host
        self._answered = False

    def over(self) -> bool:
        return self._answered

    def took(self, reply: Reply) -> None:
        self._answered = True
        self.host.took_statuses(reply)
