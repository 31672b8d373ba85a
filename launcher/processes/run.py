"""One run of a stack: what becomes of its items, what it has started, and the way back.

begin ──► items start as soon as they may ──► settled
                                          └─► unwind: what this run started is stopped, in reverse order
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Protocol

from launcher.errors import Aborted, LauncherError, StageError, Unreachable
from launcher.model import Event, HostSpec, State
from launcher.processes.course import Course, Step, ending_rounds
from launcher.processes.entry import Entry
from launcher.processes.graph import Item, Stack, config_hash
from launcher.processes.model import Change, Launch
from launcher.processes.outcomes import ENDED, late, problem, renamed, spec_of
from launcher.processes.places import Place
from launcher.processes.unwinding import Unwinding

OpenHost = Callable[[HostSpec], Awaitable[None]]
CloseHost = Callable[[str], Awaitable[list[str]]]


class Engine(Protocol):
    """What a run needs of the engine."""

    def enter(self, item: Item, run: Run, lease: str) -> tuple[Entry, bool]: ...

    def forget(self, entry: Entry) -> None: ...

    def changed(self, place: Place, change: Change) -> None: ...

    def emit(self, event: Event) -> None: ...

    async def release(self, lease: str) -> None: ...

    async def ended(self, item: Item) -> Change: ...


class Run:
    """Made by Engine.begin."""

    def __init__(
        self,
        engine: Engine,
        stack: Stack,
        *,
        lease: tuple[str, float] | None,
        open_host: OpenHost | None,
        on_event: Callable[[Event], None] | None,
        what: str,
    ) -> None:
        self.stack = stack
        self.what = what
        self.engine = engine
        self._lease = lease
        self._open_host = open_host
        self._on_event = on_event
        self._course = Course(stack)
        self._entries: dict[str, Entry] = {}
        self._states: dict[str, State] = {}
        self._told = asyncio.Condition()
        self._timers: dict[str, asyncio.TimerHandle] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._sending: list[tuple[Place, str, asyncio.Future[None]]] = []
        """Deliveries to machines, each with the first name in it; those under way end before anything is
        stopped: or it would come behind."""
        self._planned = False
        self._broken: BaseException | None = None
        """What should not have happened in one of its tasks: who waits is told, instead of waiting on."""
        self._closed = False
        self._unwinding = Unwinding(self, lease, self._event, engine.changed)

    # -- for who runs it ------------------------------------------------------------------------------

    def begin(self) -> None:
        for name, item in self.stack.items.items():
            if item.depends:
                self._event(name, State.WAITING, f"for {', '.join(item.depends)}")
        self._advance()

    @property
    def errors(self) -> dict[str, LauncherError]:
        """Of the items that failed, or were not started."""
        return dict(self._course.errors)

    async def settled(self) -> None:
        """Returns when every item is ready, has failed or cannot start any more."""
        async with self._told:
            await self._told.wait_for(lambda: self._course.settled or self._closed or self._broken)
        if self._broken is not None:
            raise self._broken

    async def before(self, name: str) -> None:
        """Returns when all that an item needs is ready. Raises NotStarted, or Aborted."""
        async with self._told:
            await self._told.wait_for(
                lambda: self._course.step(name) is not Step.WAITING or self._closed or self._broken
            )
        if self._broken is not None:
            raise self._broken
        if name in self._course.errors:
            raise self._course.errors[name]
        if self._course.step(name) is Step.WAITING:
            raise Aborted(f"{name}: given up")

    @property
    def open(self) -> bool:
        return not self._closed

    def launch(self, entry: Entry) -> None:
        """Instead of another run that has been given up before it could."""
        self._task(self._launch(entry.place, [entry]))

    def entry(self, name: str) -> Entry | None:
        return self._entries.get(name)

    def running(self) -> list[str]:
        """The processes that this run has started and that live, in the order of the stack."""
        return [name for name in self.stack.items if self._is_ours(name)]

    def hurry(self) -> None:
        """Shorten an unwind, also one under way: what is left is killed at once."""
        self._unwinding.hurry()

    async def unwind(self, *, close_host: CloseHost | None = None) -> list[str]:
        """Stop what this run started, dependants first; nothing more is started. Texts of what is left.

        close_host: ends a host of the stack when it is its turn, and gives such texts of it.
        """
        await self._stop_advancing()
        mine = self.running()
        hosts = [name for name, item in self.stack.items.items() if item.process is None]
        texts: list[str] = []
        for names in ending_rounds(self.stack, [*mine, *(hosts if close_host else [])]):
            work: list[Awaitable[list[str]]] = [
                close_host(name) for name in names if name in hosts and close_host is not None
            ]
            groups: dict[Place, list[Entry]] = {}
            for name in names:
                if name in mine:
                    groups.setdefault(self._entries[name].place, []).append(self._entries[name])
            work += [self._unwinding.group(place, entries) for place, entries in groups.items()]
            texts += [text for some in await asyncio.gather(*work) for text in some]
        await self._unwinding.give_back(self._entries.values())
        self.leave()
        if self._lease is not None:
            await self.engine.release(self._lease[0])
        return texts

    def leave(self) -> None:
        """Nothing more is heard of; what runs goes on."""
        self._closed = True
        for timer in self._timers.values():
            timer.cancel()
        for entry in self._entries.values():
            if self in entry.runs:
                entry.runs.remove(self)

    # -- what happens ---------------------------------------------------------------------------------

    def heard(self, entry: Entry, before: State, change: Change) -> None:
        """From the engine: something became of a process of this run."""
        name = entry.name
        item = self.stack.items[name]
        step = self._course.step(name)
        if self._closed:
            return
        bad = step in (Step.BEGUN, Step.GOOD) and change.state in ENDED
        done = not spec_of(item).persistent and change.state in ENDED and change.code == 0
        if step is Step.BAD or (done and step is Step.GOOD):
            self._event(name, change.state, change.reason)
        elif done:
            self._event(name, State.STOPPED, "done")
            self._good(name)
        elif bad and entry.stopping and change.state is State.STOPPED:
            self._event(name, change.state, "")
            self._bad(name, problem(item, change))
        elif bad:
            error = problem(item, change)
            cause = error.cause if isinstance(error, StageError) else str(error).partition(": ")[2]
            self._event(name, change.state, cause, "error" if step is Step.BEGUN else "warning")
            self._bad(name, error)
        else:
            reason = change.reason or ("" if change.ours else "was running")
            ready = change.state is State.READY and spec_of(item).persistent
            state = State.RUNNING if change.state is State.READY and not ready else change.state
            hindered = change.state is State.RUNNING and change.reason
            self._event(name, state, reason, "warning" if hindered else "info")
            if ready and step is Step.BEGUN:
                self._good(name)

    def remark(self, name: str, state: State, text: str, level: str) -> None:
        """An event that changes no state."""
        self._event(name, state, text, level)

    def _good(self, name: str) -> None:
        self._forget_timer(name)
        self._course.good(name)
        self._advance()

    def _bad(self, name: str, error: LauncherError) -> None:
        self._forget_timer(name)
        for other in self._course.bad(name, error):
            self._event(other, State.STOPPED, f"not started: {name} is not ready", "warning")
        self._advance()

    def _advance(self) -> None:
        """Once for all that happens in one turn of the loop: so what may begin together goes together."""
        if not self._planned and not self._closed:
            self._planned = True
            asyncio.get_running_loop().call_soon(self._go_on)

    def _go_on(self) -> None:
        self._planned = False
        if self._closed:
            return
        batches: dict[Place, list[Entry]] = {}
        for name in self._course.take():
            item = self.stack.items[name]
            if item.process is None:
                self._task(self._host(item))
                continue
            entry, new = self.engine.enter(item, self, self._lease[0] if self._lease else "")
            self._entries[name] = entry
            if new:
                self._event(name, State.STARTING, "")
                batches.setdefault(entry.place, []).append(entry)
            else:
                self._join(item, entry)
        for place, entries in batches.items():
            self._task(self._launch(place, entries))
        self._task(self._tell())

    def _join(self, item: Item, entry: Entry) -> None:
        """Another run of this engine has launched it."""
        name, launch = item.name, entry.launch
        if launch.config_hash != config_hash(spec_of(item)):
            text = f"runs with another configuration, started by {launch.started_by} ({launch.what})"
            entry.runs.remove(self)
            error = problem(item, Change(launch.key, State.CONFLICT, text))
            self._event(name, State.CONFLICT, text, "error")
            self._bad(name, error)
            return
        self._set_timer(item)
        if entry.change is not None:
            self.heard(entry, State.STOPPED, entry.change)

    async def _launch(self, place: Place, entries: Sequence[Entry]) -> None:
        launches: list[Launch] = []
        try:
            await place.reached()
            if self._lease is not None:
                await place.lease(*self._lease)
            for entry in entries:
                if not self._closed:
                    entry.sent = True
                    launches.append(entry.launch)
            if launches:
                # shielded: half a command must not be all that its machine gets
                sending = asyncio.ensure_future(place.start(launches))
                self._sending.append((place, entries[0].name, sending))
                await asyncio.shield(sending)
        except StageError as error:
            for entry in entries:
                self._not_reached(entry, error)
            return
        finally:
            for entry in entries:
                if not entry.sent:
                    self._hand_over(entry)
        for entry in entries:
            for run in entry.runs:
                run.begun(entry.name)

    def _hand_over(self, entry: Entry) -> None:
        """It was not sent: who has joined it launches it; else it never was."""
        others = [run for run in entry.runs if run is not self and run.open]
        if others and self._closed:
            entry.owner = others[0]
            others[0].launch(entry)
        else:
            self.engine.forget(entry)

    def begun(self, name: str) -> None:
        """From now on its time to get ready counts."""
        if self._course.step(name) is Step.BEGUN:
            self._set_timer(self.stack.items[name])

    def _not_reached(self, entry: Entry, error: StageError) -> None:
        if entry.sent:
            entry.change = Change(entry.launch.key, State.DEAD, error.cause)
        for run in list(entry.runs):
            run.failed(entry.name, renamed(error, entry.name))

    def failed(self, name: str, error: StageError) -> None:
        """It could not be launched."""
        if not self._closed and self._course.step(name) is Step.BEGUN:
            state = State.UNREACHABLE if isinstance(error, Unreachable) else State.DEAD
            self._event(name, state, f"{error.stage.value}: {error.cause}", "error")
            self._bad(name, error)

    async def _host(self, item: Item) -> None:
        spec = item.spec
        assert isinstance(spec, HostSpec)
        try:
            if self._open_host is None:
                raise LauncherError(f"{item.name}: is a host, and cannot be brought up here")
            await self._open_host(spec)
        except LauncherError as error:
            if not self._closed:
                self._bad(item.name, error)
        else:
            if not self._closed:
                self._good(item.name)

    def _set_timer(self, item: Item) -> None:
        seconds = spec_of(item).ready_timeout
        if seconds and item.name not in self._timers and self._course.step(item.name) is Step.BEGUN:
            loop = asyncio.get_running_loop()
            self._timers[item.name] = loop.call_later(seconds, self._late, item)

    def _forget_timer(self, name: str) -> None:
        timer = self._timers.pop(name, None)
        if timer is not None:
            timer.cancel()

    def _late(self, item: Item) -> None:
        if self._course.step(item.name) is Step.BEGUN and not self._closed:
            entry = self._entries.get(item.name)
            error = late(item, entry.change if entry is not None else None)
            self._event(item.name, self._states.get(item.name, State.RUNNING), error.cause, "error")
            self._bad(item.name, error)

    # -- the way back ---------------------------------------------------------------------------------

    async def _stop_advancing(self) -> None:
        self._closed = True
        for timer in self._timers.values():
            timer.cancel()
        tasks = [task for task in self._tasks if not task.done()]
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)
        async with self._told:
            self._told.notify_all()
        sending = [one for one in self._sending if not one[-1].done()]
        await asyncio.gather(*(self._unwinding.delivered(*one) for one in sending))

    def _is_ours(self, name: str) -> bool:
        entry = self._entries.get(name)
        return entry is not None and entry.owner is self and entry.ours and entry.alive

    # -- telling --------------------------------------------------------------------------------------

    def _task(self, work: Awaitable[None]) -> None:
        task = asyncio.ensure_future(work)
        assert isinstance(task, asyncio.Task)
        self._tasks.add(task)
        task.add_done_callback(self._task_over)

    def _task_over(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and task.exception() is not None and self._broken is None:
            self._broken = task.exception()
            self._task(self._tell())

    async def _tell(self) -> None:
        async with self._told:
            self._told.notify_all()

    def _event(self, name: str, state: State, reason: str, level: str = "info") -> None:
        before = self._states.get(name, State.STOPPED)
        if before is state and not reason:
            return
        self._states[name] = state
        event = Event(time.monotonic(), name, None, before, state, reason, level)
        for listener in (self.engine.emit, self._on_event):
            if listener is not None:
                with contextlib.suppress(Exception):  # a listener must not break a run
                    listener(event)
