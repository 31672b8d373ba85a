"""Processes as somebody looks at them: of an inventory, and what else is found, machine by machine. Async.

Rules:
- one command a machine, all machines side by side; one that cannot be reached makes its own `unreachable`;
- who follows many logs of one machine gets several connections: each carries only so many commands at once.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from launcher.errors import LauncherError, StageError
from launcher.machines.runner import Runner
from launcher.model import Machine, ProcessSpec, SshOptions, State
from launcher.processes import looking, output, seeing
from launcher.processes.model import Key, Node, Seen
from launcher.remains import Remains
from launcher.tmux import session_name

FOLLOWED: Final = 5
"""Logs that one connection carries; it can do ten things at once, seven of which are not urgent."""

Reach = Callable[[str, Machine, SshOptions, int], Awaitable[Runner]]
"""Name, machine, options, lane → a runner; see Machines.runner."""


@dataclass(frozen=True)
class Place:
    """A machine, by the options with which it is reached."""

    machine: Machine
    ssh: SshOptions


@dataclass(frozen=True)
class Subject:
    """A process that is looked at."""

    name: str
    """As in the inventory."""
    key: Key
    place: Place

    @classmethod
    def of(cls, name: str, spec: ProcessSpec) -> Subject:
        return cls(name, Key(spec.session, name), Place(spec.machine, spec.ssh))


@dataclass(frozen=True)
class View:
    """What was seen of one process."""

    subject: Subject
    seen: Seen
    tree: tuple[Node, ...] = ()
    error: LauncherError | None = None
    """Why its machine is unreachable."""


async def survey(
    reach: Reach,
    subjects: Sequence[Subject],
    *,
    everything_on: Collection[Place] = (),
    sessions: Collection[str] | None = None,
    trees: bool = False,
    over: float = 0.2,
    base: str = "",
    asking: seeing.Looking | None = None,
) -> list[View]:
    """What is seen of each of `subjects`, and of everything else that runs on some machines.

    `sessions`: only of what is in these, None: in all. `trees`, `over`: see seeing.tree.
    `asking`: of who asks again soon.
    """
    places: dict[Place, list[Subject]] = {place: [] for place in everything_on}
    for subject in subjects:
        places.setdefault(subject.place, []).append(subject)

    async def look(place: Place, own: list[Subject]) -> list[View]:
        name = own[0].name if own else str(place.machine)
        try:
            runner = await reach(name, place.machine, place.ssh, 0)
            found = await (asking.status(place, runner) if asking else seeing.status(runner, base=base))
            if sessions is not None:
                wanted = {session_name(one) for one in sessions}
                found = tuple(one for one in found if one.key.session in wanted)
            seen = matched(own, found, place if place in everything_on else None)
            return await _with_trees(runner, seen, over, base) if trees else seen
        except StageError as error:
            reason = f"{error.stage.value}: {error.cause}"
            return [
                View(one, Seen(one.key, State.UNREACHABLE, reason), error=error)
                for one in own or [Subject(name, Key("", name), place)]
            ]

    answers = await asyncio.gather(*(look(*item) for item in places.items()))
    return [view for views in answers for view in views]


def matched(subjects: Sequence[Subject], found: Iterable[Seen], rest: Place | None) -> list[View]:
    """What was seen of each; one of which nothing was seen is stopped. `rest`: then all others, too."""
    there = {looking.place_of(one.key): one for one in found}
    views = [
        View(one, there.pop(looking.place_of(one.key), Seen(one.key, State.STOPPED))) for one in subjects
    ]
    if rest is not None:
        views += [View(Subject(one.key.name, one.key, rest), one) for one in there.values()]
    return views


async def _with_trees(runner: Runner, views: list[View], over: float, base: str) -> list[View]:
    running = [view.seen for view in views if view.seen.state is not State.STOPPED]
    if not running:
        return views
    keys = [one.key for one in running]
    trees = await seeing.tree(runner, keys, base=base, over=over, seen=running)
    return [View(view.subject, view.seen, trees.get(view.seen.key, ()), view.error) for view in views]


async def follow(
    reach: Reach,
    subjects: Sequence[Subject],
    on_line: Callable[[Subject, str], None],
    on_trouble: Callable[[str], None],
    *,
    lines: int | None = 10,
    since: float | None = None,
    base: str = "",
) -> None:
    """Follow the logs of all, for ever; raises what the first of them raises. See output.follow."""
    lanes: dict[Place, int] = {}

    def follower(subject: Subject) -> Awaitable[None]:
        number = lanes[subject.place] = lanes.get(subject.place, -1) + 1

        def way() -> Awaitable[Runner]:
            place = subject.place
            return reach(subject.name, place.machine, place.ssh, number // FOLLOWED)

        def hear(line: str) -> None:
            on_line(subject, line)

        return output.follow(way, subject.key, hear, on_trouble, lines=lines, since=since, base=base)

    tasks = [asyncio.ensure_future(follower(subject)) for subject in subjects]
    try:
        await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()


async def clean(
    reach: Reach, places: Mapping[Place, Sequence[Key] | None], *, dry: bool, base: str = ""
) -> list[tuple[Place, Remains | LauncherError]]:
    """Remove what stays of processes, machine by machine; None: of all there. See output.clean."""

    async def one(place: Place, keys: Sequence[Key] | None) -> Remains | LauncherError:
        try:
            runner = await reach(str(place.machine), place.machine, place.ssh, 0)
            return await output.clean(runner, keys, dry=dry, base=base)
        except LauncherError as error:
            return error

    answers = await asyncio.gather(*(one(*item) for item in places.items()))
    return list(zip(places, answers, strict=True))
