"""The facade: servers for hosts, from any thread. What the modifier and the command line call.

    Launcher.open  →  one Lease per host: an endpoint that leads to its server
    Launcher.close →  what was started is stopped again, verified

Rules:
- one daemon thread owns the event loop and with it SSH; callers hand over and wait;
- all hosts side by side, one connection per machine;
- `abort` may come from a signal handler: waits end within a second, the clean-up goes on behind them and
  `close` waits for it;
- a server that was up before, or that others use, is left running;
- at interpreter exit no thread can be started any more: what asyncio would do in one is then done inline.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import threading
import time
from collections.abc import Awaitable, Callable, Collection, Coroutine, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, TypeVar

from launcher import bootstrap, identity, logs, plan
from launcher.bootstrap import Starting
from launcher.crossing import Carried, Crossing
from launcher.durations import KEEP_S
from launcher.errors import Aborted, InventoryError, LauncherError, StageError
from launcher.hosts import GRACE, GRACE_HURRY, Hosts, Lease
from launcher.inventory import Inventory, Settings, read_settings
from launcher.inventory.endpoints import unsupported
from launcher.loopthread import LoopThread
from launcher.machines.container import ContainerRunner
from launcher.machines.pool import FindMachine, Machines
from launcher.machines.runner import Asker, Limits, Runner
from launcher.model import Event, HostSpec, Machine, ProcessSpec, SshOptions, Stage, State
from launcher.plan import HostStatus, Stopped
from launcher.processes.engine import Engine
from launcher.processes.graph import Stack, build
from launcher.processes.model import Change
from launcher.provision.values import Asked, Provided, Say
from launcher.remains import Remains, Run

__all__ = ["Carried", "Inventory", "Launcher", "Lease"]

_T = TypeVar("_T")
_Listener = Callable[[str], None]
ReachMachine = Callable[[str, Machine, SshOptions, int], Awaitable[Runner]]
"""Name, machine, options, lane → a runner: Machines.runner."""
_POLL = 0.1
_CLOSE_LIMIT, _CLOSE_LIMIT_HURRY = 40.0, 8.0


class Launcher:
    """Brings up the servers of hosts and takes them down again. Thread-safe."""

    def __init__(
        self,
        inventory: Inventory | None,
        *,
        environ: Mapping[str, str],
        settings: Settings | None = None,
        ask: Asker | None = None,
        on_event: Callable[[Event], None] | None = None,
        what: str = "",
        keep: bool = False,
        keep_for: float = KEEP_S,
        base: str = "",
        logs_to: Path | None = None,
    ) -> None:
        """`settings`: parameters and variants of what hosts depend on; None: those of `environ`.

        `logs_to`: a folder for the logs of the servers, fetched when their hosts are left. It is made, its
        parent is not.

        `keep`: what is started stays up when this launcher is closed, for `keep_for` seconds (0: until it
        is killed), of which its server knows from its start on. `base`: of run dirs, for tests."""
        self._inventory = inventory
        self._environ = dict(environ)
        self._settings = settings
        self._what = what
        self._on_event = on_event
        self._engine: Engine | None = None
        self._ask = ask
        self._base = base
        starting = Starting(identity.who(), what, keep=keep_for if keep else None, base=base)
        self._hosts = Hosts(starting, self._reach, self._renew, on_event, keep=keep, logs_to=logs_to,
                            reach_for_container=self._reach_for_container, environ=environ,
                            engine=self.engine)  # fmt: skip
        self._crossing = Crossing(
            self._hosts.where,
            self._hosts.remark,
            self._hosts.hurried,
            base,
            logs_to.parent if logs_to else None,
        )
        self._lock = threading.RLock()
        self._thread: LoopThread | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._machines: Machines | None = None
        self._cleaning: list[concurrent.futures.Future[Any]] = []
        self._left: list[str] | None = None
        self._close_limit = _CLOSE_LIMIT + (logs.FETCH_S if logs_to is not None else 0.0)

    def open(
        self, hosts: Sequence[HostSpec], *, on_open: Callable[[Lease], None] | None = None
    ) -> dict[str, Lease]:
        """A lease for each host, by its name, and for each that they depend on; `on_open` as below.

        When one fails, all that this call started is ended again.

        Raises InventoryError, StageError, Conflict, or Aborted.
        """
        outcome = self.open_each(hosts, together=True, on_open=on_open)
        # several hosts may have failed by the same thing that they depend on
        errors = list(dict.fromkeys(e for e in outcome.values() if isinstance(e, LauncherError)))
        if errors:
            named = [error for error in errors if not isinstance(error, Aborted)]
            raise plan.joined(named or errors)
        return {name: lease for name, lease in outcome.items() if isinstance(lease, Lease)}

    def open_each(
        self,
        hosts: Sequence[HostSpec],
        *,
        together: bool = False,
        on_open: Callable[[Lease], None] | None = None,
    ) -> dict[str, Lease | LauncherError]:
        """A lease or an error for each host. `together`: when one fails the others are given up.

        `on_open` is called with each lease as soon as it is there, in the launcher's thread: it must not
        block. So is what they depend on, processes and hosts, started before them; a host among that has a
        lease, too.
        """
        problems = [problem for host in hosts for problem in unsupported(host)]
        if problems:
            raise InventoryError(problems)
        stack = self._stack(hosts)
        if self._hosts.aborted.is_set():
            raise Aborted("the bring-up was aborted")
        keepalive = min((host.lease for host in hosts), default=10.0) / 4
        self._start_thread(keepalive)
        return self._wait(self._hosts.open_all(list(hosts), together, on_open, stack), cleans_up=True)

    def send(
        self, hosts: Sequence[HostSpec], *, scenario: Path | None = None, output: Path | None = None
    ) -> dict[str, Carried]:
        """Send what `push` says to hosts that are open, and make a folder there for what actions write.

        scenario: the folder of the .osc file. output: the folder here that `bring_back` fills. By host.
        Raises StageError, or Aborted.
        """
        return self._wait(self._crossing.send(list(hosts), scenario, output))

    def bring_back(
        self, given_up: Collection[str] = (), interrupted: Callable[[], bool] = lambda: False
    ) -> list[str]:
        """Fetch what actions wrote since `send`; what becomes of it is said as events. Never raises.

        Returns texts of what did not come, and is still there.

        given_up: hosts that are lost. `hurry()` ends it at once; `interrupted`, which is called in another
        thread, bounds it.
        """
        if self._loop is None or self._left is not None:
            return []
        work = self._crossing.bring_back(frozenset(given_up), interrupted)
        future = asyncio.run_coroutine_threadsafe(work, self._loop)
        while True:  # in short waits: a signal handler runs between them
            with contextlib.suppress(concurrent.futures.TimeoutError):
                return future.result(_POLL)

    def abort(self) -> None:
        """Give up: `open` raises Aborted within a second. From any thread, also from a signal handler."""
        self._hosts.aborted.set()
        loop = self._loop
        if loop is not None:
            with contextlib.suppress(RuntimeError):
                loop.call_soon_threadsafe(self._hosts.give_up)

    @property
    def client_id(self) -> str:
        """What those of its leases that connect call themselves."""
        return self._hosts.client_id

    def hurry(self) -> None:
        """Shorten the waits of `close`, also of one under way: 2 s instead of 10 between TERM and KILL.

        From any thread, also from a signal handler.
        """
        self._hosts.hurried.set()
        loop = self._loop
        if loop is not None:
            with contextlib.suppress(RuntimeError):
                loop.call_soon_threadsafe(self._hosts.cut_short)

    def close(self, *, hurry: bool = False) -> list[str]:
        """Stop what was started here and close the connections; texts of what is left. Idempotent.

        `hurry` as if `hurry()` had been called.
        """
        if hurry:
            self._hosts.hurried.set()
        with self._lock:
            if self._left is None:
                self._left = self._close() if self._loop is not None else []
            return list(self._left)

    def leftovers(self) -> list[str]:
        """Of what `close` returned, what was seen to be still there; the rest could not be verified."""
        return list(self._hosts.leftovers)

    def status(self, hosts: Sequence[HostSpec]) -> dict[str, HostStatus]:
        """The state of each host, by name: one exec per machine, all machines side by side."""
        wanted = {host.name for host in hosts}
        return {host.name: seen for host, seen in self.survey(hosts) if host.name in wanted}

    def survey(self, hosts: Sequence[HostSpec]) -> list[tuple[HostSpec, HostStatus]]:
        """As `status`, and what else is theirs on their machines: see plan.belonging."""
        self._start_thread(2.5)
        return self._wait(self._survey(list(hosts)))

    def attach(self, hosts: Sequence[HostSpec]) -> dict[str, Lease | LauncherError]:
        """A lease on each server that is up, whoever has started it and however; nothing is started."""
        self._start_thread(2.5)
        return self._wait(self._attach(list(hosts)))

    def stop(
        self,
        host: HostSpec,
        *,
        mode: str = "force",
        but: Mapping[str, str] = MappingProxyType({}),
        hurry: bool = False,
    ) -> Stopped:
        """Stop a host's server, whoever started it; see scripts.stop for `mode` and `but`."""
        self._start_thread(2.5)
        return self._wait(self._stop_one(host, mode, but, hurry))

    def read_log(self, host: HostSpec, lines: int = 100, run: int = 0) -> tuple[str, str]:
        """The path of the host's log on its machine, and its last lines; `run` as in logs.read_log."""
        self._start_thread(2.5)
        return self._wait(self._read_log(host, lines, run))

    def runs(self, host: HostSpec) -> tuple[Run, ...]:
        """The runs of the host's server of which there are logs, the newest first."""
        self._start_thread(2.5)
        return self._wait(self._runs(host))

    def over(
        self, host: HostSpec, work: Callable[[Runner], Awaitable[_T]], *, then: str = "", kept: bool = False
    ) -> _T:
        """What `work` gives with a way to where the host's server runs (files, see launcher.files).

        `then`, `kept`: see Hosts.where."""
        self._start_thread(2.5)
        return self._wait(self._over(host, work, then, kept))

    def on_machines(self, work: Callable[[ReachMachine], Awaitable[_T]]) -> _T:
        """What `work` gives, on the loop, until `abort`; it gets Machines.runner."""
        self._start_thread(2.5)
        return self._wait(self._on_machines(work))

    def provide(
        self, hosts: Sequence[HostSpec], saying: Callable[[HostSpec], Say], asked: Asked
    ) -> dict[str, Provided | LauncherError]:
        """Have the server and packages on each host, side by side; see supplying.supply."""
        self._start_thread(2.5)
        return self._wait(self._provide(list(hosts), saying, asked))

    def clean(
        self, hosts: Sequence[HostSpec], *, dry: bool
    ) -> list[tuple[list[HostSpec], Remains | LauncherError]]:
        """Remove what has stayed of the hosts, a machine at a time; `dry`: only look."""

        def clean(group: list[HostSpec], runner: Runner) -> Awaitable[Remains]:
            names = ["*"] if any(plan.is_machine(host) for host in group) else [host.name for host in group]
            return logs.clean(names, runner, dry=dry, base=self._base)

        return self.on_each_machine(hosts, clean)

    def on_each_machine(
        self, hosts: Sequence[HostSpec], work: Callable[[list[HostSpec], Runner], Awaitable[_T]]
    ) -> list[tuple[list[HostSpec], _T | LauncherError]]:
        """What `work` gives for the hosts of each machine, with a way to that; all machines side by side."""
        self._start_thread(2.5)
        return self._wait(self._on_each_machine(list(hosts), work))

    def follow_log(
        self,
        host: HostSpec,
        on_line: _Listener,
        on_trouble: _Listener,
        lines: int = 10,
    ) -> None:
        """Call `on_line` for each line, until `abort` or until one of the two raises; see bootstrap."""
        self._start_thread(2.5)
        self._wait(self._follow_log(host, on_line, on_trouble, lines))

    def stop_processes(
        self, named: Mapping[str, ProcessSpec], *, force: bool = False
    ) -> dict[str, Change | LauncherError]:
        """Stop processes, whoever started them, all at once; see Engine.stop."""
        self._start_thread(2.5)

        async def stop() -> dict[str, Change | LauncherError]:
            return await self.engine().stop(named, force=force)

        return self._wait(stop())

    def submit(self, work: Callable[[], Coroutine[Any, Any, _T]]) -> concurrent.futures.Future[_T]:
        """Begin `work` on the launcher's loop. Ends with it at `close`."""
        self._start_thread(2.5)
        assert self._loop is not None
        return asyncio.run_coroutine_threadsafe(work(), self._loop)

    async def bring_up(self, host: HostSpec) -> Lease:
        """On the loop: a lease for one host, whatever it depends on. Raises LauncherError."""
        return await self._hosts.open_one(host)

    # -- the caller's side ----------------------------------------------------------------------------

    def _start_thread(self, keepalive: float) -> None:
        with self._lock:
            if self._left is not None:
                raise LauncherError("this launcher is closed")
            if self._loop is not None:
                return
            self._thread = LoopThread("se-remote-launcher")
            self._loop = self._thread.loop
            self._wait(self._make_machines(keepalive))

    def _wait(self, work: Coroutine[Any, Any, _T], *, cleans_up: bool = False) -> _T:
        """The result of `work`. On abort: what `cleans_up` goes on doing that, anything else is cancelled."""
        assert self._loop is not None
        future = asyncio.run_coroutine_threadsafe(work, self._loop)
        try:
            while True:
                with contextlib.suppress(concurrent.futures.TimeoutError):
                    return future.result(_POLL)
                if self._hosts.aborted.is_set() and not future.done():
                    raise Aborted("aborted")
        except concurrent.futures.CancelledError as error:
            raise Aborted("aborted") from error
        except BaseException:
            if not future.done():
                if cleans_up:
                    self._cleaning.append(future)
                else:
                    future.cancel()
                self.abort()
            raise

    def _close(self) -> list[str]:
        assert self._loop is not None
        future = asyncio.run_coroutine_threadsafe(self._close_all(), self._loop)
        try:
            left = self._closing_result(future)
        except concurrent.futures.TimeoutError:
            left = ["the clean-up did not end in time"]
        assert self._thread is not None
        self._thread.stop()
        return left

    def _closing_result(self, future: concurrent.futures.Future[list[str]]) -> list[str]:
        """In short waits: a signal handler, which may ask for hurry, runs between them."""
        until = time.monotonic() + self._close_limit
        hurried = self._hosts.hurried.is_set()
        if hurried:
            until = time.monotonic() + _CLOSE_LIMIT_HURRY
        while True:
            try:
                return future.result(_POLL)
            except concurrent.futures.TimeoutError:
                if self._hosts.hurried.is_set() and not hurried:
                    hurried = True
                    until = time.monotonic() + _CLOSE_LIMIT_HURRY
                if time.monotonic() >= until:
                    raise

    # -- the loop's side ------------------------------------------------------------------------------

    async def _make_machines(self, keepalive: float) -> None:
        self._machines = Machines(
            self._environ, ask=self._ask, keepalive=keepalive, find=self._find_machine(), again=self._again
        )

    def _again(self, name: str, text: str) -> None:
        if self._on_event is not None:
            self._on_event(
                Event(time.monotonic(), name, Stage.CONNECT, State.STARTING, State.STARTING, text, "warning")
            )

    def _find_machine(self) -> FindMachine:
        def find(name: str) -> tuple[Machine, SshOptions] | None:
            if self._inventory is None:
                return None
            try:
                spec = self._inventory.place_of_host(name)
            except LauncherError:
                return None
            return spec.machine, spec.ssh

        return find

    def _stack(self, hosts: Sequence[HostSpec]) -> Stack | None:
        """What the hosts depend on, with them; None when that is nothing. Raises InventoryError."""
        if not any(host.depends for host in hosts):
            return None
        settings = self._settings or read_settings(self._environ)
        return build(self._inventory, (), settings, hosts=hosts, strict=False)

    def engine(self) -> Engine:
        """What runs processes; on the loop, see `submit`."""
        if self._engine is None:
            self._engine = Engine(
                self.reach,
                started_by=identity.who(),
                what=self._what,
                on_event=self._on_event,
                base=self._base,
            )
        return self._engine

    async def reach(self, name: str, machine: Machine, options: SshOptions, lane: int = 0) -> Runner:
        """On the loop: see Machines.runner."""
        assert self._machines is not None
        return await self._machines.runner(name, machine, options, lane)

    async def _close_all(self) -> list[str]:
        self._hosts.give_up()
        for future in self._cleaning:
            with contextlib.suppress(BaseException):
                await asyncio.wait_for(asyncio.wrap_future(future), 8)
        left = await self._hosts.close_all()
        if self._engine is not None:
            await self._engine.close()
        if self._machines is not None:
            await self._machines.close()
        return left

    async def _reach(self, host: HostSpec) -> Runner:
        assert self._machines is not None
        return await self._machines.runner(host.name, host.machine, host.ssh)

    async def _over(
        self, host: HostSpec, work: Callable[[Runner], Awaitable[_T]], then: str, kept: bool
    ) -> _T:
        return await work(await self._hosts.where(host, then=then, kept=kept))

    async def _on_machines(self, work: Callable[[ReachMachine], Awaitable[_T]]) -> _T:
        assert self._machines is not None
        return await work(self._machines.runner)

    async def _provide(
        self, hosts: list[HostSpec], saying: Callable[[HostSpec], Say], asked: Asked
    ) -> dict[str, Provided | LauncherError]:
        work = (self._hosts.provide(host, saying(host), asked) for host in hosts)
        return dict(zip([host.name for host in hosts], await asyncio.gather(*work), strict=True))

    async def _reach_for_container(self, host: HostSpec) -> Runner:
        assert self._machines is not None
        return await self._machines.with_room(host.name, host.machine, host.ssh)

    async def _on_each_machine(
        self, hosts: list[HostSpec], work: Callable[[list[HostSpec], Runner], Awaitable[_T]]
    ) -> list[tuple[list[HostSpec], _T | LauncherError]]:
        async def one(group: list[HostSpec]) -> _T | LauncherError:
            try:
                return await work(group, await self._reach(group[0]))
            except LauncherError as error:
                return error

        groups = _by_machine(hosts)
        return list(zip(groups, await asyncio.gather(*map(one, groups)), strict=True))

    async def _renew(self, host: HostSpec, than: Runner, deep: bool, limits: Limits) -> Runner:
        assert self._machines is not None
        if isinstance(than, ContainerRunner):
            if than.reachable:  # the trouble is the container's, not the connection's
                return than.on(than.outer)
            return than.on(await self._renew(host, than.outer, deep, limits))
        return await self._machines.another(
            host.name, host.machine, host.ssh, than=than, deep=deep, limits=limits
        )

    async def _survey(self, hosts: list[HostSpec]) -> list[tuple[HostSpec, HostStatus]]:
        answers = await asyncio.gather(*(self._survey_machine(group) for group in _by_machine(hosts)))
        found = {name: pairs for answer in answers for name, pairs in answer.items()}
        return [pair for host in hosts for pair in found[host.name]]

    async def _survey_machine(self, group: list[HostSpec]) -> dict[str, list[tuple[HostSpec, HostStatus]]]:
        """The hosts of one machine: one exec."""
        names = [host.name for host in group]
        try:
            seen = await bootstrap.status(names, await self._reach(group[0]), base=self._base)
        except StageError as error:
            reason = f"{error.stage.value}: {error.cause}"
            return {
                host.name: [(host, HostStatus(host.name, State.UNREACHABLE, reason, error=error))]
                for host in group
            }
        return plan.belonging(group, seen)

    async def _attach(self, hosts: list[HostSpec]) -> dict[str, Lease | LauncherError]:
        names = {host.name for host in hosts}
        found = [pair for pair in await self._survey(hosts) if pair[0].name in names]
        leases = await asyncio.gather(*(self._hosts.attach(*pair) for pair in found))
        return {host.name: lease for (host, _), lease in zip(found, leases, strict=True)}

    async def _stop_one(self, host: HostSpec, mode: str, but: Mapping[str, str], hurry: bool) -> Stopped:
        grace = GRACE_HURRY if hurry else GRACE
        runner = await self._reach(host)
        return await bootstrap.stop(host.name, runner, mode=mode, but=but, grace=grace, base=self._base)

    async def _read_log(self, host: HostSpec, lines: int, run: int) -> tuple[str, str]:
        runner = await self._reach(host)
        return await logs.read_log(host.name, runner, lines=lines, run=run, base=self._base)

    async def _runs(self, host: HostSpec) -> tuple[Run, ...]:
        return await logs.read_runs(host.name, await self._reach(host), base=self._base)

    async def _follow_log(
        self, host: HostSpec, on_line: _Listener, on_trouble: _Listener, lines: int
    ) -> None:
        broken: asyncio.Future[None] = asyncio.get_running_loop().create_future()

        def careful(listener: _Listener) -> _Listener:
            def call(text: str) -> None:
                try:
                    if not broken.done():
                        listener(text)
                except Exception as error:
                    broken.set_exception(error)

            return call

        following = asyncio.ensure_future(
            bootstrap.follow_log(
                host.name, lambda: self._reach(host), careful(on_line), careful(on_trouble),
                lines=lines, base=self._base,
            )
        )  # fmt: skip
        try:
            await asyncio.wait([following, broken], return_when=asyncio.FIRST_COMPLETED)
            (broken if broken.done() else following).result()
        finally:
            following.cancel()


def _by_machine(hosts: Sequence[HostSpec]) -> list[list[HostSpec]]:
    groups: dict[tuple[Machine, SshOptions], list[HostSpec]] = {}
    for host in hosts:
        groups.setdefault((host.machine, host.ssh), []).append(host)
    return list(groups.values())
