"""What crosses the boundaries of `launcher.processes`: frozen values.

    inventory → ProcessSpec → Launch → (a machine) → Change, Seen

Times are seconds; epoch seconds are of the machine's own clock.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from launcher.model import ProcessSpec, State
from launcher.processes.recipe import Recipe


@dataclass(frozen=True, order=True)
class Key:
    """Which process on a machine: one of that name runs once there, whatever its variants."""

    session: str
    """tmux session."""
    name: str
    """As in the inventory, without variants."""

    def __str__(self) -> str:
        return self.name


@dataclass(frozen=True)
class Launch:
    """A process that is to run."""

    key: Key
    spec: ProcessSpec
    token: str
    """Of who launches: one that runs with the same token is his own, also after a reconnect."""
    config_hash: str
    """Of everything that decides what runs; one that runs with another is a conflict."""
    started_by: str
    """`user@client`."""
    what: str = ""
    """The command or scenario on whose behalf."""
    lease: str = ""
    """Names the lease it lives by (Site.lease); "": it has none and stays."""
    behind: tuple[Key | str, ...] = ()
    """Processes, and hosts by name, that need it on its machine: when the lease is over, it ends last."""
    recipe: Recipe = field(default_factory=Recipe)
    """How it was asked for: for who starts it again."""


@dataclass(frozen=True)
class Change:
    """Something that became of a process, as its machine tells it."""

    key: Key
    state: State
    reason: str = ""
    """Why, in words; of a conflict what is in the way, and of which configuration."""
    next_step: str = ""
    ours: bool = False
    """It was started by the asking launch (its token), now or before a reconnect."""
    token: str = ""
    """Of what it is about: of the launch that started it, if that was over the same Site."""
    code: int | None = None
    """Exit code of one that ended by itself; for a signal see below."""
    signal: int | None = None
    """The signal that ended it."""
    tail: tuple[str, ...] = ()
    """Last lines of its output, of one that died."""
    left: tuple[str, ...] = ()
    """Of one that was stopped: what survived KILL, as `PID COMMAND`."""
    forced: bool = False
    """Of one that was stopped: KILL was needed."""


@dataclass(frozen=True)
class Seen:
    """What `status` saw of one process."""

    key: Key
    state: State
    reason: str = ""
    pid: int | None = None
    """On the machine; of one in a container of what holds it."""
    since: float | None = None
    """When it was started."""
    code: int | None = None
    signal: int | None = None
    config_hash: str = ""
    token: str = ""
    started_by: str = ""
    what: str = ""
    lease: str = ""
    container: str = ""
    recipe: Recipe | None = None
    """None: it was not said."""
    left: tuple[str, ...] = ()
    """Of one that is dead: processes of its that still live, as `PID COMMAND`."""


@dataclass(frozen=True)
class Node:
    """One system process of a process's tree."""

    pid: int
    parent: int
    command: str
    cpu: float
    """Share of one core since the process began, or over the time that was asked for; 1.0 = a whole core."""
    rss: int
    """Resident memory in bytes."""
    children: tuple[Node, ...] = ()
