"""Runs stacks: each item as soon as its own dependencies are ready, each once, whoever asks for it.

    Stack → Engine.begin → Run: settled, wait, unwind
    rounds of processes → Engine.stop → what became of each

Rules:
- lives on one event loop; machines are Places, what may begin is decided by a Course;
- those that may begin at one moment on one machine go there in one delivery;
- a process that a run of this engine has launched and that lives is joined by others, never launched again;
- what a run has started is known by its token: stopping it never stops what another has started since;
- when a machine cannot be reached nothing ever runs on this one instead.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from typing import cast

from launcher.errors import LauncherError, StageError
from launcher.machines.runner import Runner
from launcher.model import Event, Machine, ProcessSpec, SshOptions, State
from launcher.processes.entry import Entry
from launcher.processes.graph import Item, Stack, config_hash
from launcher.processes.model import Change, Key, Launch
from launcher.processes.outcomes import ENDED, problem, renamed
from launcher.processes.places import PATIENCE_S, OpenSite, Place, SitePort
from launcher.processes.run import OpenHost, Run
from launcher.processes.unwinding import GRACE_S

Reach = Callable[[str, Machine, SshOptions], Awaitable[Runner]]
OnEvent = Callable[[Event], None]


class Engine:
    """The processes of one client."""

    def __init__(
        self,
        reach: Reach,
        *,
        started_by: str,
        what: str = "",
        on_event: OnEvent | None = None,
        base: str = "",
        open_site: OpenSite | None = None,
        patience: float = PATIENCE_S,
    ) -> None:
        """reach: a runner for a machine, by the name that errors call it. base: of run dirs, for tests."""
        self._reach = reach
        self._started_by = started_by
        self._what = what
        self._on_event = on_event
        self._base = base
        self._open_site = open_site
        self._patience = patience
        self._places: dict[tuple[Machine, SshOptions], Place] = {}
        self._entries: dict[tuple[Place, Key], Entry] = {}

    def begin(
        self,
        stack: Stack,
        *,
        lease: tuple[str, float] | None = None,
        open_host: OpenHost | None = None,
        on_event: OnEvent | None = None,
        what: str = "",
    ) -> Run:
        """Start what may start. `lease`: name and seconds, of what this run starts; None: it stays.

        open_host: brings up a host of the stack, and returns when it is ready. on_event: of this run alone.
        """
        run = Run(self, stack, lease=lease, open_host=open_host, on_event=on_event, what=what or self._what)
        run.begin()
        return run

    async def ended(self, item: Item) -> Change:
        """How the process ends, or has ended, that a run of this engine asked for. Raises LauncherError."""
        entry = self.entry(item)
        if entry is None:
            raise LauncherError(f"{item.name}: nothing here has started it")
        change = await asyncio.shield(entry.ended)
        if change.state in (State.UNREACHABLE, State.CONFLICT):
            raise problem(item, change)
        return change

    async def stop(
        self, named: Mapping[str, ProcessSpec], *, force: bool = False, grace: float = GRACE_S
    ) -> dict[str, Change | LauncherError]:
        """Stop processes, whoever started them, all at once; by the inventory's names."""
        groups: dict[Place, dict[Key, str]] = {}
        for name, spec in named.items():
            groups.setdefault(self.place(spec), {})[Key(spec.session, name)] = name
        quits = {Key(spec.session, name) for name, spec in named.items() if spec.force_sigquit}

        for place, keys in groups.items():
            for entry in (self._entries.get((place, key)) for key in keys):
                if entry is not None:
                    entry.stopping = True

        async def one(place: Place, keys: Mapping[Key, str]) -> dict[str, Change | LauncherError]:
            try:
                done = await place.stop(
                    list(keys), force=force, quit=[key for key in keys if key in quits], grace=grace
                )
            except StageError as error:
                return {name: renamed(error, name) for name in keys.values()}
            for change in done.values():
                self.changed(place, change)
            return {keys[key]: change for key, change in done.items()}

        answers = await asyncio.gather(*(one(place, keys) for place, keys in groups.items()))
        return {name: change for answer in answers for name, change in answer.items()}

    async def close(self) -> None:
        """Leave the machines; ends nothing that runs there. Never raises."""
        places, self._places = list(self._places.values()), {}
        await asyncio.gather(*(place.close() for place in places))

    async def release(self, lease: str) -> None:
        """Give a lease up where nothing lives by it any more; what is handed over to another run goes on."""
        used = {
            entry.place
            for entry in self._entries.values()
            if entry.alive and entry.runs and entry.launch.lease == lease
        }
        await asyncio.gather(*(place.release(lease) for place in self._places.values() if place not in used))

    # -- for runs -------------------------------------------------------------------------------------

    def place(self, spec: ProcessSpec) -> Place:
        where = (spec.machine, spec.ssh)
        found = self._places.get(where)
        if found is None:
            name = spec.host or str(spec.machine)

            def reach() -> Awaitable[Runner]:
                return self._reach(name, *where)

            found = Place(name, reach, self._open_site or _open_site, self, self._base, self._patience)
            self._places[where] = found
        return found

    def entry(self, item: Item) -> Entry | None:
        spec = cast(ProcessSpec, item.spec)
        return self._entries.get((self.place(spec), item.key))

    def enter(self, item: Item, run: Run, lease: str) -> tuple[Entry, bool]:
        """The entry of a process that `run` wants, and whether it is new: to be launched."""
        spec = cast(ProcessSpec, item.spec)
        found = self.entry(item)
        if found is not None and found.alive:
            found.runs.append(run)
            return found, False
        launch = Launch(
            item.key, spec, secrets.token_hex(8), config_hash(spec), self._started_by, run.what, lease,
            run.stack.behind(item.name), item.recipe,
        )  # fmt: skip
        made = Entry(item.name, self.place(spec), launch, run, [run])
        self._entries[made.place, item.key] = made
        return made, True

    def forget(self, entry: Entry) -> None:
        """It was never sent."""
        at = (entry.place, entry.launch.key)
        if self._entries.get(at) is entry and not entry.sent:
            del self._entries[at]

    def emit(self, event: Event) -> None:
        if self._on_event is not None:
            self._on_event(event)

    # -- from places ----------------------------------------------------------------------------------

    def changed(self, place: Place, change: Change) -> None:
        entry = self._entries.get((place, change.key))
        if entry is None or not entry.alive:
            return
        if entry.change is None and change.code is None and change.state in (State.STOPPING, State.STOPPED):
            return  # of the one before, which was stopped
        if change.token:
            known = (entry.launch.token, entry.change.token if entry.change is not None else "")
            if change.state in ENDED and change.token not in known:
                return  # of an earlier launch of ours
            change = replace(change, ours=change.token == entry.launch.token)
        before, entry.change = entry.state, change
        if change.state in ENDED:
            place.over(change.key)
            if not entry.ended.done():
                entry.ended.set_result(change)
        for run in list(entry.runs):
            run.heard(entry, before, change)

    def lost(self, place: Place, reason: str) -> None:
        self._tell(place, f"connection to {place.name} lost ({reason}); trying again", "warning")

    def back(self, place: Place) -> None:
        self._tell(place, f"connected to {place.name} again", "info")

    def gave_up(self, place: Place, error: LauncherError) -> None:
        cause = error.cause if isinstance(error, StageError) else str(error)
        for (where, key), entry in list(self._entries.items()):
            if where is place and entry.alive:
                self.changed(place, Change(key, State.UNREACHABLE, cause, error.next_step))

    def _tell(self, place: Place, text: str, level: str) -> None:
        """Once for the machine, in the name of one that is on it."""
        entries = [e for (where, _), e in self._entries.items() if where is place and e.alive and e.sent]
        for entry in entries[:1]:
            for run in entry.runs[:1]:
                run.remark(entry.name, entry.state, text, level)


async def _open_site(
    name: str,
    runner: Runner,
    *,
    on_change: Callable[[Change], None],
    on_lost: Callable[[str], None],
    base: str = "",
) -> SitePort:
    from launcher.processes.site import Site

    return await Site.open(name, runner, on_change=on_change, on_lost=on_lost, base=base)
