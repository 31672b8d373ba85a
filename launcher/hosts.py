"""The hosts of one launcher, on its event loop: opened side by side, given up, closed. All async.

Rules:
- a host that is given up ends what it has started itself; it is cancelled once, for the second time it
  would be its clean-up that is cancelled;
- what was started here is stopped here and verified; a server that was up before, that is to be kept or
  that others use, is left running;
- the way to a server is mended when it breaks (ways.py); at the end nothing waits for one that is not;
- nothing here blocks, and nothing knows of threads but `hurried`, which another one sets.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import threading
import time
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from launcher import bootstrap, carried, docker, logs, plan, supplying
from launcher.bootstrap import Starting, Up
from launcher.depends import CloseHost, Depends, hosts_of
from launcher.errors import Aborted, LauncherError, NoServer, StageError, StartFailed
from launcher.machines.container import ContainerRunner
from launcher.machines.runner import Runner, remove_path
from launcher.model import Event, HostSpec, Stage, State
from launcher.plan import Found, HostStatus, Stopped
from launcher.processes.course import root_of
from launcher.processes.engine import Engine
from launcher.processes.graph import Stack
from launcher.processes.run import Run
from launcher.provision.values import Asked, Provided, Say
from launcher.ways import Renew, Way

LAST_ERRORS = 1.0
"""Seconds that the others get to fail too, once one host has failed: all failures are named."""
GRACE, GRACE_HURRY = 10.0, 2.0
"""Seconds between TERM and KILL."""
_PATIENCE, _PATIENCE_HURRY = 3.0, 0.5
_LEAVE_S = 30.0
"""What the end of a provision that was given up may take: an engine stops a container."""
_MEND_AT_END = 1.0
"""Seconds that the end waits for a way that is being mended."""

Reach = Callable[[HostSpec], Awaitable[Runner]]
OnEvent = Callable[[Event], None]


@dataclass(frozen=True)
class Lease:
    """A host's server, reachable at `endpoint` until the Launcher is closed. `lost` is set when it is not."""

    host: HostSpec
    endpoint: str
    """ZeroMQ address, ``ipc://…``."""
    started: bool
    """By us: it was not up before."""
    server: Mapping[str, Any]
    """Its endpoint.json."""
    tunnel_path: str | None = None
    """The local socket of the tunnel; None on this machine."""
    client_id: str = ""
    """Who connects names it in `hello` (client.id): so its sessions are known as ours at the end."""
    way: Way | None = field(default=None, compare=False)
    """What mends the tunnel; None on this machine."""
    lost: threading.Event = field(default_factory=threading.Event, compare=False)
    reasons: list[str] = field(default_factory=list, compare=False)
    """Why `lost` is set; filled before it is."""
    greeted: threading.Event = field(default_factory=threading.Event, compare=False)
    """The host has answered hello."""

    def connected(self) -> None:
        """The host has answered. Removes the tunnel's path: who is connected stays so, and a client that is
        killed leaves no file."""
        self.greeted.set()
        if self.tunnel_path is not None:
            remove_path(self.tunnel_path)


@dataclass(frozen=True)
class _Open:
    """What a lease needs at its end."""

    lease: Lease
    token: str
    part: logs.Part
    """Of its log: what belongs to this launcher."""

    @property
    def place(self) -> ContainerRunner | None:
        """Where its server runs, when that is in a container."""
        way = self.lease.way
        return way.runner if way is not None and isinstance(way.runner, ContainerRunner) else None


class _Watcher:
    """What becomes of a lease's way, for the lease and for who hears events."""

    def __init__(self, note: Callable[[State, str], None]) -> None:
        self.lost = threading.Event()
        self.reasons: list[str] = []
        self._note = note

    def cut(self, reason: str) -> None:
        self._note(State.UNREACHABLE, reason)

    def mended(self, endpoint: str) -> None:
        self._note(State.RUNNING, "connected again")

    def gone(self, reason: str) -> None:
        self.reasons.append(reason)
        self.lost.set()
        self._note(State.UNREACHABLE, reason)


class Hosts:
    """What is open, and what is on the way there or back."""

    def __init__(
        self,
        starting: Starting,
        reach: Reach,
        renew: Renew,
        on_event: OnEvent | None,
        *,
        keep: bool,
        logs_to: Path | None = None,
        reach_for_container: Reach | None = None,
        engine: Callable[[], Engine] | None = None,
        environ: Mapping[str, str] | None = None,
    ) -> None:
        """`reach_for_container`: as `reach`, with room for a tunnel into one.

        `keep`: what is started stays up when this is closed. `logs_to`: see Launcher. `engine`: runs what is
        depended on."""
        self._environ = environ or {}
        self._logs_to = logs_to
        self._renew = renew
        self.client_id = secrets.token_hex(8)
        self._starting = replace(starting, client_id=self.client_id)
        self._base = starting.base
        self._reach = reach
        self._reach_for_container = reach_for_container or reach
        self._on_event = on_event
        self._depends = Depends(engine, self.client_id, keep=keep)
        self._keep = keep
        self._hosts: list[asyncio.Task[_Open]] = []
        self._given_up: set[asyncio.Task[_Open]] = set()
        self._providing: list[asyncio.Task[Any]] = []
        self._opened: dict[str, _Open] = {}
        self._states: dict[str, State] = {}
        self._stops: list[asyncio.Task[Stopped]] = []
        self.leftovers: list[str] = []
        """What was seen to be still there after KILL."""
        self.aborted = threading.Event()
        self.hurried = threading.Event()

    def give_up(self) -> None:
        """Whatever is on its way up turns round."""
        self._give_up(self._hosts)

    def _give_up(self, tasks: Iterable[asyncio.Task[_Open]]) -> None:
        """Cancel each once: the second time it would be its clean-up that is cancelled."""
        for task in tasks:
            if task not in self._given_up:
                self._given_up.add(task)
                task.cancel()

    async def open_all(
        self,
        hosts: list[HostSpec],
        together: bool,
        on_open: Callable[[Lease], None] | None = None,
        stack: Stack | None = None,
    ) -> dict[str, Lease | LauncherError]:
        """A lease or an error for each host; see Launcher.open_each.

        `stack`: the hosts and what they depend on, when they depend on anything; hosts among that are opened,
        too.
        """
        run = self._depends.begin(stack) if stack is not None else None
        hosts = list({host.name: host for host in [*hosts, *hosts_of(stack)]}.values())
        tasks = {host.name: asyncio.ensure_future(self._open_one(host, on_open, run)) for host in hosts}
        self._depends.take_turns(tasks)
        self._hosts = list(tasks.values())
        if self.aborted.is_set():
            self.give_up()
        if together and not self._keep:
            await self._until_one_fails(self._hosts)
        outcome: dict[str, Lease | LauncherError] = {}
        for name, task in tasks.items():
            try:
                outcome[name] = (await task).lease
            except LauncherError as error:
                outcome[name] = root_of(error, run.errors) if run is not None else error
            except asyncio.CancelledError:
                outcome[name] = Aborted(f"{name}: given up")
        failed = any(isinstance(value, LauncherError) for value in outcome.values())
        if failed and together and not self._keep:
            if run is not None:
                await self._depends.unwind(run, self._closing(GRACE_HURRY))
            opened = [self._opened.pop(name) for name in tasks if name in self._opened]
            await asyncio.gather(*(self._release_and_fetch(item, GRACE_HURRY) for item in opened))
        elif run is not None and self.aborted.is_set():
            await run.unwind()
        elif run is not None:
            for value in outcome.values():
                if isinstance(value, LauncherError):
                    value.running = tuple(run.running())
        return outcome

    def _closing(self, grace: float) -> CloseHost:
        async def close(name: str) -> list[str]:
            opened = self._opened.pop(name, None)
            return await self._release_and_fetch(opened, grace) if opened is not None else []

        return close

    async def open_one(self, host: HostSpec) -> Lease:
        """A lease for one host, whatever it depends on. Raises LauncherError."""
        return (await self._open_one(host, None)).lease

    async def _until_one_fails(self, tasks: list[asyncio.Task[_Open]]) -> None:
        if not tasks:
            return
        _, pending = await asyncio.wait(tasks, return_when=asyncio.FIRST_EXCEPTION)
        if pending:
            _, pending = await asyncio.wait(pending, timeout=LAST_ERRORS)
        self._give_up(pending)

    async def _open_one(
        self, host: HostSpec, on_open: Callable[[Lease], None] | None, run: Run | None = None
    ) -> _Open:
        if run is not None:
            await run.before(host.name)
        token = bootstrap.new_token()
        self._event(host, Stage.CONNECT, State.STARTING, str(host.machine))
        try:
            reach = self._reach if host.docker is None else self._reach_for_container
            runner = await self._enter(host, await reach(host), token)
            up = await self._with_server(host, runner, token)
            runner = up.runner or runner
            self._event(host, Stage.TUNNEL, State.RUNNING, "started" if up.started else "was up")
            part = logs.Part(up.found.began, up.found.written)
            opened = _Open(await self._lead_there(host, runner, up), up.token, part)
        except StageError as error:
            self._event(host, error.stage, State.DEAD, error.cause, "error")
            raise
        self._opened[host.name] = opened
        if on_open is not None:
            on_open(opened.lease)
        return opened

    async def _enter(self, host: HostSpec, machine: Runner, token: str) -> Runner:
        """Where the server is to run: the machine, or the container on it."""
        if host.docker is None:
            return machine
        note = self._noting(host)
        entering = asyncio.ensure_future(
            carried.enter(host, machine, token=token, base=self._base, note=note)
        )
        try:
            return await asyncio.shield(entering)
        except asyncio.CancelledError:
            with contextlib.suppress(LauncherError, asyncio.TimeoutError):
                inner = await asyncio.wait_for(entering, 4)
                await carried.leave(host.name, inner, token=token, base=self._base)
            raise

    async def _with_server(self, host: HostSpec, runner: Runner, token: str) -> Up:
        """Brought up. What is not there is provided first, when the inventory says so."""
        if not supplying.auto_first(host):
            try:
                return await self._bring_up(host, runner, token)
            except NoServer:
                if not supplying.auto(host):
                    raise
            token = bootstrap.new_token()
            outer = runner.outer if isinstance(runner, ContainerRunner) else runner
            runner = await self._enter(host, outer, token)
        try:
            await supplying.supply(host, runner, self._environ, self._saying(host))
        except BaseException:
            await self._out_of_box(host, runner, token)
            raise
        return await self._bring_up(host, runner, token)

    async def _out_of_box(self, host: HostSpec, runner: Runner, token: str) -> None:
        """What `_enter` has given; a machine needs nothing."""
        if isinstance(runner, ContainerRunner):
            await _to_its_end(carried.leave(host.name, runner, token=token, base=self._base))

    async def provide(self, host: HostSpec, say: Say, asked: Asked) -> Provided | LauncherError:
        """Have the server and packages where it is to run; nothing is started."""
        task = asyncio.current_task()
        assert task is not None
        self._providing.append(task)
        token = bootstrap.new_token()
        self._event(host, Stage.CONNECT, State.STARTING, str(host.machine))
        try:
            reach = self._reach if host.docker is None else self._reach_for_container
            runner = await self._enter(host, await reach(host), token)
            try:
                self._event(host, Stage.PROVISION, State.STARTING, "")
                done = await supplying.supply(host, runner, self._environ, say, asked)
            finally:
                await self._out_of_box(host, runner, token)
        except LauncherError as error:
            stage = error.stage if isinstance(error, StageError) else Stage.PROVISION
            self._event(host, stage, State.DEAD, str(error), "error")
            return error
        self._event(host, Stage.PROVISION, State.READY, "")
        return done

    def _saying(self, host: HostSpec) -> Say:
        self._event(host, Stage.PROVISION, State.STARTING, "there is no server: it is brought there")

        def line(text: str) -> None:
            self.remark(host, Stage.PROVISION, text, "info")

        return Say(line, supplying.throttled(line, asyncio.get_running_loop().time))

    def _noting(self, host: HostSpec) -> Callable[[Stage, str], None]:
        return lambda stage, text: self._event(host, stage, State.STARTING, text)

    async def _bring_up(self, host: HostSpec, runner: Runner, token: str) -> Up:
        note = self._noting(host)
        work = asyncio.ensure_future(bootstrap.bring_up(host, runner, self._starting, token=token, note=note))
        try:
            return await asyncio.shield(work)
        except asyncio.CancelledError:
            await bootstrap.abandon(host.name, runner, work, token, self._base, self.client_id)
            work.cancel()
            raise
        except LauncherError as error:
            await _to_its_end(self._clear_up(host, runner, token, error))
            raise

    async def _clear_up(self, host: HostSpec, runner: Runner, token: str, error: LauncherError) -> None:
        """Behind a bring-up that failed."""
        if not self._keep:  # kept ones stay for whoever comes to look
            await self._clear(host, runner, token)
        if isinstance(error, StageError) and error.began:
            await self._fetch(host, logs.Part(error.began))

    async def _lead_there(self, host: HostSpec, runner: Runner, up: Up) -> Lease:
        """Its lease; when there can be none what was started for it is ended."""
        try:
            return await self._lease(host, runner, up)
        except BaseException as error:
            if isinstance(error, StageError) and up.started:
                error.began = up.found.began
            if up.started and not self._keep:
                await _to_its_end(self._clear(host, runner, up.token))
            raise

    async def _clear(self, host: HostSpec, runner: Runner, token: str) -> None:
        with contextlib.suppress(LauncherError):
            await bootstrap.stop(
                host.name,
                runner,
                mode="unused",
                token=token,
                grace=GRACE_HURRY,
                patience=0,
                base=self._base,
                client=self.client_id,
            )

    async def attach(self, host: HostSpec, seen: HostStatus) -> Lease | LauncherError:
        """A lease on the server that was seen, if it is up; it is nobody's here to stop."""
        if seen.error is not None:
            return seen.error
        if seen.state is not State.READY or not seen.endpoint.get("socket"):
            text = f"{host.name}: its server is not up ({seen.state.value})"
            return LauncherError(text, f"se-remote up {host.name}")
        found = Found("", False, seen.endpoint, seen.server_state)
        try:
            box = docker.read_box(seen.container)
            runner = await (self._reach if box is None else self._reach_for_container)(host)
            runner = carried.inside(host.name, runner, box) if box is not None else runner
            lease = await self._lease(host, runner, Up(found, ""))
        except StageError as error:
            return error
        self._opened[host.name] = _Open(lease, "", logs.Part())
        return lease

    async def _lease(self, host: HostSpec, runner: Runner, up: Up) -> Lease:
        remote = str(up.found.endpoint["socket"])
        path = await runner.forward(remote)
        tunnelled = path != remote
        watcher = _Watcher(lambda state, reason: self._event(host, Stage.TUNNEL, state, reason))
        way = Way(host, remote, runner, path, self._renew, watcher) if tunnelled else None
        tunnel_path = path if tunnelled else None
        return Lease(host, f"ipc://{path}", up.started, up.found.endpoint, tunnel_path, self.client_id, way,
                     watcher.lost, watcher.reasons)  # fmt: skip

    async def where(self, host: HostSpec, *, then: str = "", kept: bool = False) -> Runner:
        """A way to where its server runs and its files lie. Raises StageError.

        `then`: the command that can go on when its server is up. `kept`: or to where they are kept when the
        container that was made for it is gone: the machine.
        """
        if host.docker is None:
            return await self._reach(host)
        machine = await self._reach_for_container(host)
        opened = self._opened.get(host.name)
        if opened is not None and opened.place is not None:
            return opened.place.on(machine)
        seen = await bootstrap.status([host.name], machine, base=self._base)
        box = next((docker.read_box(one.container) for one in seen if one.name == host.name), None)
        if kept and host.docker.image and not await _runs(host.name, machine, box):
            return machine
        if box is None:
            cause = "no server of ours is in its container"
            up = f"se-remote up {host.name}"
            raise StartFailed(host.name, Stage.CONTAINER, cause, f"{up} && {then}" if then else up)
        return carried.inside(host.name, machine, box)

    def remark(self, host: HostSpec, stage: Stage, text: str, level: str) -> None:
        """An event that changes no state."""
        self._event(host, stage, self._states.get(host.name, State.STOPPED), text, level)

    def cut_short(self) -> None:
        """Stops that are under way begin again with short waits."""
        for task in self._stops:
            task.cancel()
        self._depends.hurry()

    async def close_all(self) -> list[str]:
        """Stop what was started here; texts of what is left."""
        self.give_up()
        if self._hosts:
            await asyncio.wait(self._hosts, timeout=6)
        if self._providing:  # cancelled by who waited for it
            await asyncio.wait(self._providing, timeout=_LEAVE_S)
        left = await self._depends.end(self._closing(GRACE), hurried=self.hurried.is_set())
        self.leftovers += [text for text in left if "still there" in text and text not in self.leftovers]
        opened, self._opened = list(self._opened.values()), {}
        texts = await asyncio.gather(*(self._release_and_fetch(item, GRACE) for item in opened))
        return left + [text for some in texts for text in some]

    async def _release_and_fetch(self, item: _Open, grace: float) -> list[str]:
        """The log comes behind the stop: then it is whole, and nobody waits for it who is to stop."""
        host, way = item.lease.host, item.lease.way
        ours = item.lease.started and not self._keep
        greeted = item.lease.greeted.is_set()
        item.lease.connected()
        away = ""
        if way is not None:
            if (ours or self._logs_to is not None) and not await way.settled(_MEND_AT_END):
                away = way.trouble or "its connection is silent"
            way.stop()
            if item.place is not None:
                await item.place.close()
        if away:
            self._no_log(host, away, said=ours)
            return [self._not_verified(host, away)] if ours else []
        texts = await self._release(item, grace) if ours else []
        if not (ours or greeted or self._keep or not item.token):
            await self._leave(host, item.place)
        await self._fetch(host, item.part)
        return texts

    def _no_log(self, host: HostSpec, reason: str, said: bool) -> None:
        """It cannot be fetched; that of an earlier scenario must not stand for it."""
        if self._logs_to is not None:
            with contextlib.suppress(OSError):
                logs.forget(host.name, self._logs_to)
            if not said:
                text = logs.why(LauncherError(reason), host.name)
                self._event(host, Stage.STOP, self._states.get(host.name, State.STOPPED), text, "warning")

    async def _leave(self, host: HostSpec, place: Runner | None) -> None:
        """We have found its server, and have not come: nobody is to wait for us."""
        with contextlib.suppress(LauncherError, asyncio.TimeoutError):
            runner = place if place is not None else await asyncio.wait_for(self._reach(host), 5)
            await bootstrap.leave(host.name, runner, client=self.client_id, base=self._base)

    async def _fetch(self, host: HostSpec, part: logs.Part) -> None:
        if self._logs_to is None:
            return
        limit = logs.FETCH_HURRY_S if self.hurried.is_set() else logs.FETCH_S
        try:
            logs.forget(host.name, self._logs_to)
            runner = await asyncio.wait_for(self._reach(host), min(limit, 5))
            await logs.fetch(host.name, runner, part, self._logs_to, timeout=limit, base=self._base)
        except (LauncherError, OSError, asyncio.TimeoutError) as error:
            text = logs.why(error, host.name)
            self._event(host, Stage.STOP, self._states.get(host.name, State.STOPPED), text, "warning")

    async def _release(self, item: _Open, grace: float) -> list[str]:
        """Stop one server, which is ours to stop; texts of what is left."""
        host = item.lease.host
        self._event(host, Stage.STOP, State.STOPPING, "")
        try:
            runner = await asyncio.wait_for(self._reach(host), 5)
            done = await self._stop_in_time(host, runner, item.token, grace)
        except (LauncherError, asyncio.TimeoutError) as error:
            return [self._not_verified(host, str(error) or "no answer in time")]
        if done.silent:
            self._event(host, Stage.STOP, State.STOPPING, plan.SILENT, "warning")
        if done.how == "used":
            self._event(host, Stage.STOP, State.READY, f"left running for {'; '.join(done.users)}")
            return []
        self._event(host, Stage.STOP, State.STOPPED, done.how)
        unsafe = [line for line in done.on_stop if done.unsafe]
        found = [f"{host.name}: still there: {line}" for line in done.left]
        self.leftovers += found
        return [f"{host.name}: {line}" for line in unsafe] + found

    def _not_verified(self, host: HostSpec, reason: str) -> str:
        self._event(host, Stage.STOP, State.UNREACHABLE, reason)
        return (
            f"{host.name}: its end is not verified ({reason}); the server there ends by itself within "
            f"{max(host.lease, 15):g} s. To check: se-remote status {host.name}"
            + (f"; its log: se-remote logs {host.name}" if self._logs_to is not None else "")
        )

    async def _stop_in_time(self, host: HostSpec, runner: Runner, token: str, grace: float) -> Stopped:
        """As `_stop_ours`, but a hurry that comes meanwhile begins again with short waits."""
        if not self.hurried.is_set():
            task = asyncio.ensure_future(self._stop_ours(host, runner, token, grace, _PATIENCE))
            self._stops.append(task)
            await asyncio.wait([task])
            if not task.cancelled():
                return task.result()
        return await self._stop_ours(host, runner, token, GRACE_HURRY, _PATIENCE_HURRY)

    async def _stop_ours(
        self, host: HostSpec, runner: Runner, token: str, grace: float, patience: float
    ) -> Stopped:
        ours = {"id": self.client_id}  # one of these may be there that could not say goodbye
        return await bootstrap.stop(
            host.name, runner, mode="release", but=ours, token=token, base=self._base, client=self.client_id,
            grace=grace, patience=patience,
        )  # fmt: skip

    def _event(self, host: HostSpec, stage: Stage, state: State, reason: str, level: str = "info") -> None:
        before = self._states.get(host.name, State.STOPPED)
        self._states[host.name] = state
        if self._on_event is not None:
            with contextlib.suppress(Exception):  # a listener must not break a bring-up
                self._on_event(Event(time.monotonic(), host.name, stage, before, state, reason, level))


async def _runs(name: str, machine: Runner, box: docker.Box | None) -> bool:
    """Whether there is a container, and something can be asked in it."""
    if box is None:
        return False
    return not (await carried.inside(name, machine, box).state()).ended


async def _to_its_end(clean_up: Coroutine[Any, Any, object]) -> None:
    """A cancel that comes meanwhile does not cut it: it is bounded itself, and its caller raises then."""
    work = asyncio.ensure_future(clean_up)
    try:
        await asyncio.shield(work)
    except asyncio.CancelledError:
        await work
