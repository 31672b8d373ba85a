"""The whole stack from Python: processes and hosts of an inventory, for asyncio.

    async with Launcher.from_file("launcher.yaml") as launcher:
        await launcher.run("navigation", variants=["Base Only"])
        async for line in launcher.watch("navigation"): ...
        await launcher.kill("navigation")

Rules:
- nothing here blocks the caller's event loop: SSH and all that is waited for live on a thread of its own;
- what runs stays when the context ends; a `run` that is cancelled stops what it has started, and that is
  waited for; cancelled again, what is left is killed at once;
- may be used from several tasks; two that run the same process share it; no state but that of the object;
- errors are those of launcher.errors; listeners are called on the loop of the task that gave them.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections import deque
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from launcher import identity, inventory, lease, plan, servers, takedown
from launcher.bootstrap import stop as stop_server
from launcher.durations import KEEP_S
from launcher.errors import InventoryError, LauncherError
from launcher.hosts import GRACE
from launcher.inventory import Inventory, Settings
from launcher.machines.runner import Asker
from launcher.model import Event, HostSpec, Problem, ProcessSpec, State
from launcher.processes import output, seeing, viewing
from launcher.processes.course import causes
from launcher.processes.graph import Stack, build, ends_with, needed
from launcher.processes.handover import in_thread, on_loop, on_this_loop
from launcher.processes.model import Change, Key, Node, Seen
from launcher.processes.outcomes import exit_code
from launcher.processes.recipe import Recipe
from launcher.processes.run import Run
from launcher.takedown import Ended

_T = TypeVar("_T")
OnEvent = Callable[[Event], None]


@dataclass(frozen=True)
class Ran:
    """What a run came to: everything is ready."""

    ready: tuple[str, ...]
    """All processes and hosts of it, dependencies first."""
    started: tuple[str, ...]
    """Those that were started for it and live; the others ran already, or have ended."""
    codes: Mapping[str, int] = field(default_factory=dict)
    """Exit codes of those that were named, as a shell has them; of a run that waits for their ends."""


class Launcher:
    """Runs, stops and watches the processes of one inventory, for the time of an `async with`."""

    def __init__(
        self,
        inventory: Inventory | None,
        *,
        settings: Settings | None = None,
        environ: Mapping[str, str] | None = None,
        on_event: OnEvent | None = None,
        ask: Asker | None = None,
        what: str = "",
        base: str = "",
    ) -> None:
        """`settings`: parameters and variants for all runs. `on_event`: hears all, in a thread of the
        launcher. `what`: what others read of who has started something. `base`: of run dirs, for tests."""
        self.inventory = inventory or Inventory()
        self._settings = settings or Settings()
        self._what = what or "python"
        self._base = base
        environ = dict(os.environ if environ is None else environ)
        self._launcher = lease.Launcher(
            self.inventory, environ=environ, settings=self._settings, ask=ask, on_event=on_event,
            what=self._what, keep=True, keep_for=KEEP_S, base=base,
        )  # fmt: skip
        self._looking = seeing.Looking(base)
        self._runs: list[Run] = []
        self._waited_for: list[Run] = []
        self._closed = False

    @classmethod
    def from_file(
        cls,
        path: str | Path | None = None,
        *,
        params: Mapping[str, str] | None = None,
        variants: Sequence[str] = (),
        environ: Mapping[str, str] | None = None,
        **options: Any,
    ) -> Launcher:
        """Of an inventory, in our form or concert_launcher's; None: found as the command line finds it.

        `environ`: None is os.environ; its SE_REMOTE_PARAMS and SE_REMOTE_VARIANTS count. `options`: see
        __init__. Raises InventoryError with all that is wrong.
        """
        environ = dict(os.environ if environ is None else environ)
        given = [f"{name}={value}" for name, value in (params or {}).items()]
        settings = inventory.read_settings(environ, params=given, variants=variants)
        found = inventory.find(environ, Path.cwd(), None, path)
        if found is None:
            raise InventoryError([Problem(inventory.not_found(Path.cwd(), None))])
        read = inventory.load(found)
        problems = inventory.check_settings(read, settings)
        if problems:
            raise InventoryError(problems)
        return cls(read, settings=settings, environ=environ, **options)

    async def __aenter__(self) -> Launcher:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Leave the machines; what runs there stays."""
        if not self._closed:
            if self._looking.used:
                await self._call(self._looking.close)
            self._closed = True
            await in_thread(self._launcher.close)

    # -- running --------------------------------------------------------------------------------------

    def stack(
        self, *names: str, variants: Sequence[str] = (), params: Mapping[str, str] | None = None
    ) -> Stack:
        """What a run of these would be. Touches no machine. Raises InventoryError."""
        return build(self.inventory, names, self._merged(variants, params))

    async def run(
        self,
        *names: str,
        variants: Sequence[str] = (),
        params: Mapping[str, str] | None = None,
        on_event: OnEvent | None = None,
        keep: bool = False,
        wait: bool = False,
    ) -> Ran:
        """Start processes (and hosts) with all that they depend on, each once; returns when they are ready.
        `wait`: when those that were named have ended.

        A one-shot is ready when it has ended with 0. What runs already, as it is wanted, is used. `keep`:
        what was started stays also when this is cancelled. Raises InventoryError before anything is
        started; then ProcessDied, NotReady, Conflict, Unreachable, StartFailed, or one for several. What was
        started before that is left running: `running` of the error names it.
        """
        stack = self.stack(*names, variants=variants, params=params)
        return await self.run_stack(stack, on_event, keep=keep, wait=wait)

    async def run_stack(
        self, stack: Stack, on_event: OnEvent | None = None, *, keep: bool = False, wait: bool = False
    ) -> Ran:
        """As `run`."""
        return await self._call(partial(self._run, stack, on_this_loop(on_event), keep, wait))

    def started(self) -> tuple[str, ...]:
        """The processes that were started here and live, as far as is known."""
        return tuple(dict.fromkeys(name for run in self._runs for name in run.running()))

    async def wait(self, name: str) -> int:
        """The exit code of a process that was run here, once it has ended: as a shell has it (128 + signal).

        Raises Unreachable when it is not known.
        """
        run = next((run for run in reversed(self._runs) if name in run.stack.items), None)
        if run is None:
            raise LauncherError(f"{name}: was not run here", f'await launcher.run("{name}")')
        item = run.stack.items[name]
        return exit_code(await self._call(lambda: run.engine.ended(item)))

    async def kill(
        self,
        *names: str,
        force: bool = False,
        on_done: Callable[[str, Ended], None] = lambda name, ended: None,
    ) -> dict[str, Ended]:
        """Stop processes and hosts, dependants first; what became of each. No names: all of the inventory.

        What could not be stopped is in there as a LauncherError, or with what is `left`. `on_done`: in a
        thread.
        """
        wanted = [self._canonical(name) for name in names]
        wanted = wanted if names else [*self.inventory.processes(), *self.inventory.hosts()]
        work = takedown.Takedown(
            self._launcher, self.inventory, self._settings, wanted, force, on_done, self._base
        )
        return await in_thread(work.run)

    async def restart(
        self,
        *names: str,
        variants: Sequence[str] = (),
        params: Mapping[str, str] | None = None,
        on_event: OnEvent | None = None,
        force: bool = False,
    ) -> Ran:
        """Stop these and what depends on them, and start them again, with those of them that ran: these as
        it is said here, the others with the variants and parameters with which they ran.

        Raises Conflict or another error when something could not be stopped; nothing is started then.
        """
        settings = self._merged(variants, params)
        stack = build(self.inventory, names, settings)  # what is wrong is said before
        targets = [self._canonical(name) for name in stack.targets]
        recipes = await self._recipes(targets, stack)
        build(self.inventory, [*names, *recipes], settings, recipes=recipes)
        ended = await self.kill(*stack.targets, force=force)
        errors = takedown.errors(ended)
        if errors:
            raise plan.joined(errors)
        again = [name for name, one in ended.items() if name not in targets and takedown.was_running(one)]
        stack = build(self.inventory, [*names, *again[::-1]], settings, recipes=recipes)
        return await self.run_stack(stack, on_event)

    async def _recipes(self, targets: Sequence[str], stack: Stack) -> dict[str, Recipe]:
        """Of what runs and needs one of `targets`, and of what else that needs; not of what is in `stack`."""
        users = [name for names in ends_with(self.inventory, targets) for name in names]
        around = [name for name in needed(self.inventory, users) if name not in stack.items]
        seen = await self.status(*around) if around else {}
        lives = (State.STARTING, State.RUNNING, State.READY)
        return {
            name: one.recipe for name, one in seen.items() if one.recipe is not None and one.state in lives
        }

    # -- looking --------------------------------------------------------------------------------------

    def processes(self) -> dict[str, dict[str, Any]]:
        """The processes of the inventory by name: variants (with their group, or None) and dependencies."""
        document = self.inventory.document
        return {
            name: {
                "variants": self.inventory.variants(name),
                "depends": [item.value for item in entry.value("depends", ())],
                "persistent": bool(entry.value("persistent", True)),
                "show_ui": bool(entry.value("show_ui", True)),
            }
            for name, entry in document.processes.items()
        }

    async def status(self, *names: str) -> dict[str, Seen]:
        """What is seen of processes, by name; none given: of all. One command a machine."""
        return {view.subject.name: view.seen for view in await self._survey(names)}

    async def tree(self, *names: str, over: float = 0.2) -> dict[str, tuple[Node, ...]]:
        """The system processes of each, with CPU (over so many seconds) and memory."""
        return {view.subject.name: view.tree for view in await self._survey(names, trees=True, over=over)}

    async def log(
        self, name: str, *, lines: int | None = 200, run: int = 0, since: float | None = None
    ) -> str:
        """What a process has printed; `run`: 0 the one that runs, or the last; 1 the last that ended, …"""
        subject = self._subject(name)

        async def read() -> tuple[str, str]:
            runner = await self._reach(name, subject.place.machine, subject.place.ssh)
            return await output.read(runner, subject.key, lines=lines, run=run, since=since, base=self._base)

        return (await self._call(read))[1]

    async def watch(
        self,
        name: str,
        *,
        lines: int | None = 10,
        since: float | None = None,
        on_trouble: Callable[[str], None] | None = None,
    ) -> AsyncIterator[str]:
        """The lines of a process's output, the last `lines` (None: all) first, for ever: through restarts and
        lost connections, of which `on_trouble` hears."""
        subject = self._subject(name)
        loop = asyncio.get_running_loop()
        trouble = on_this_loop(on_trouble) or (lambda text: None)
        heard: deque[str] = deque()
        more = asyncio.Event()

        def hear(_: viewing.Subject, line: str) -> None:
            heard.append(line)
            if len(heard) == 1:  # else it is awake: to be woken costs more than a line
                with contextlib.suppress(RuntimeError):
                    loop.call_soon_threadsafe(more.set)

        async def follow() -> None:
            await viewing.follow(
                self._reach, [subject], hear, trouble, lines=lines, since=since, base=self._base
            )

        following = asyncio.ensure_future(self._call(follow))
        following.add_done_callback(lambda done: more.set())
        try:
            while True:
                await more.wait()
                more.clear()
                while heard:
                    yield heard.popleft()
                if following.done():
                    following.result()
                    return
        finally:
            following.cancel()
            with contextlib.suppress(asyncio.CancelledError, LauncherError):
                await following

    # -- how ------------------------------------------------------------------------------------------

    def _merged(self, variants: Sequence[str], params: Mapping[str, str] | None) -> Settings:
        given = [f"{name}={value}" for name, value in (params or {}).items()]
        more = inventory.read_settings({}, params=given, variants=variants)
        mine = self._settings
        return replace(
            mine,
            params={**mine.params, **more.params},
            options=mine.options | more.options,
            variants={**mine.variants, **more.variants},
            for_all=more.for_all or mine.for_all,
        )

    def _canonical(self, name: str) -> str:
        """Without variants. Raises InventoryError."""
        if name in self.inventory.processes():
            return name
        host = self.inventory.canonical(name.split("+")[0])
        if host is not None:
            return host
        return build(self.inventory, [name], replace(self._settings, for_all=())).targets[0]

    def _subject(self, name: str) -> viewing.Subject:
        name = self._canonical(name)
        return viewing.Subject.of(name, self.inventory.place_of_process(name, params=self._settings.params))

    async def _survey(self, names: Sequence[str], **options: Any) -> list[viewing.View]:
        subjects = [self._subject(name) for name in names or self.inventory.processes()]

        async def look() -> list[viewing.View]:
            return await viewing.survey(
                self._reach, subjects, base=self._base, asking=self._looking, **options
            )

        return await self._call(look)

    async def _reach(self, *where: Any) -> Any:
        return await self._launcher.reach(*where)

    async def _run(self, stack: Stack, on_event: OnEvent | None, keep: bool, wait: bool) -> Ran:
        """On the launcher's loop."""
        opened: dict[str, lease.Lease] = {}

        async def open_host(spec: HostSpec) -> None:
            found = await self._launcher.bring_up(spec)
            opened[spec.name] = found
            work = partial(servers.keep, found, KEEP_S)
            await asyncio.get_running_loop().run_in_executor(None, work)

        async def close_host(name: str) -> list[str]:
            found = opened.get(name)
            return await self._close_host(found) if found is not None and found.started else []

        run = self._launcher.engine().begin(stack, open_host=open_host, on_event=on_event, what=self._what)
        self._remember(run)
        self._waited_for.append(run)
        try:
            await run.settled()
            codes = await self._codes(run) if wait and not run.errors else {}
        except asyncio.CancelledError:
            if keep:
                run.leave()
                raise
            ending = asyncio.ensure_future(run.unwind(close_host=close_host))
            while not ending.done():
                try:
                    await asyncio.shield(ending)
                except asyncio.CancelledError:
                    run.hurry()
            left = ending.result()
            if left:
                raise LauncherError("\n".join(left)) from None
            raise
        finally:
            self._waited_for.remove(run)
        if run.errors:
            error = plan.joined(causes(run.errors))
            error.running = tuple(run.running())
            raise error
        return Ran(tuple(stack.items), tuple(run.running()), codes)

    @staticmethod
    async def _codes(run: Run) -> dict[str, int]:
        items = [run.stack.items[name] for name in run.stack.targets]
        items = [item for item in items if item.process is not None]
        changes = await asyncio.gather(*(run.engine.ended(item) for item in items))
        return {item.name: exit_code(change) for item, change in zip(items, changes, strict=True)}

    def _remember(self, run: Run) -> None:
        """Runs of which nothing is left that a later one does not know are forgotten."""
        kept: list[Run] = []
        for old in self._runs:
            over = old not in self._waited_for and not old.running()
            if over and set(old.stack.items) <= set(run.stack.items):
                old.leave()
            else:
                kept.append(old)
        self._runs = [*kept, run]

    async def _close_host(self, opened: lease.Lease) -> list[str]:
        host = opened.host
        try:
            me = {"user": identity.user(), "machine": identity.machine()}
            runner = await self._reach(host.name, host.machine, host.ssh)
            done = await stop_server(host.name, runner, mode="mine", but=me, grace=GRACE, base=self._base)
        except LauncherError as error:
            return [str(error)]
        return [f"{host.name}: still there: {line}" for line in done.left]

    async def _call(self, work: Callable[[], Coroutine[Any, Any, _T]]) -> _T:
        """What `work` gives, on the launcher's loop."""
        if self._closed:
            raise LauncherError("this launcher is closed")
        return await on_loop(self._launcher.submit, work)


__all__ = ["Change", "Ended", "Key", "Launcher", "ProcessSpec", "Ran"]
