"""`se-remote run` and `restart`: processes with all that they depend on.

everything is ready           0; with --wait or --follow, once those named have ended, their own exit code
something fails               its error; what depends on it is not started; what runs is left, and named
Ctrl-C, TERM, HUP             what this run has started is stopped again, dependants first (not with --keep);
                              a second one kills what is left at once
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import signal
from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any

from launcher.cli.interrupts import cancelled_by_signals
from launcher.cli.output import Output, StageProgress
from launcher.cli.printer import Printer
from launcher.cli.selection import Selection, need_file, select
from launcher.command import quote
from launcher.errors import Conflict, LauncherError, ProcessDied
from launcher.inventory import Inventory
from launcher.model import Event, State
from launcher.processes import plan
from launcher.processes.api import Launcher
from launcher.processes.graph import Stack, build

_BEGAN = (State.RUNNING, State.READY, State.STOPPED, State.DEAD)


def run(args: argparse.Namespace) -> int:
    """Runs one of the two. Raises InventoryError with everything that is wrong, before anything starts."""
    output = Output(inventory=args.inventory)
    selection = select(args)
    _, inventory = need_file(selection)
    stack = build(inventory, args.name, selection.settings)
    if args.command == "run" and args.plan:
        output.result("\n".join(plan.lines(stack)))
        return 0
    work = _restart if args.command == "restart" else _run
    stays = args.command == "run" and args.keep
    return _interruptible(partial(work, args, selection, stack, output), output, stays)


def _launcher(
    args: argparse.Namespace, selection: Selection, on_event: Callable[[Event], None], output: Output
) -> Launcher:
    return Launcher(
        selection.inventory,
        settings=selection.settings,
        environ=selection.environ,
        on_event=on_event,
        ask=output.asking(selection.ask),
        what=f"se-remote {args.command} {' '.join(args.name)}",
    )


async def _run(args: argparse.Namespace, selection: Selection, stack: Stack, output: Output) -> int:
    stays = args.wait or args.follow
    with StageProgress(output, list(stack.items)) as progress:
        following = _Following(output, stack) if args.follow else None

        def hear(event: Event) -> None:
            progress.on_event(event)
            if following is not None:
                following.hear(event)

        async with _launcher(args, selection, hear, output) as launcher:
            if following is not None:
                following.begin(launcher)
            try:
                ran = await launcher.run_stack(stack, keep=args.keep, wait=stays)
            except LauncherError as error:
                output.error(_as_asked(error, args, selection, stack))
                output.left(error.running)
                return _code_of(error, stack) if stays else error.exit_code
            except asyncio.CancelledError:
                if args.keep:
                    output.left(launcher.started())
                raise
            finally:
                if following is not None:
                    await following.end()
    if ran.started and not stays:
        output.say(f"what was started stays up, until: se-remote kill {quote(ran.started)}")
    return next((code for code in ran.codes.values() if code), 0)


async def _restart(args: argparse.Namespace, selection: Selection, stack: Stack, output: Output) -> int:
    with StageProgress(output, list(stack.items)) as progress:
        async with _launcher(args, selection, progress.on_event, output) as launcher:
            try:
                await launcher.restart(*args.name, force=args.force)
            except LauncherError as error:
                output.error(error)
                output.left(error.running)
                return error.exit_code
    return 0


def _as_asked(
    error: LauncherError, args: argparse.Namespace, selection: Selection, stack: Stack
) -> LauncherError:
    """What is to be restarted is wanted as this run was asked for: with its variants and parameters."""
    command, _, name = error.next_step.partition(" restart ")
    wanted = [item.name for item in stack.items.values() if quote([item.spec.name]) == name]
    if not isinstance(error, Conflict) or command != "se-remote" or not wanted:
        return error
    inventory = selection.inventory or Inventory()
    part = build(inventory, wanted, selection.settings, strict=False)
    has = {variant for one in part.items for variant in inventory.variants(one.partition("+")[0])}
    has |= {variant for one in part.items for variant in inventory.variants(one)}
    variants = [text for text in args.variant if "=" in text or has.issuperset(text.split("+"))]
    words = [*(f"--variant={text}" for text in variants), *(f"--param={text}" for text in args.param)]
    if words:
        error.next_step += f" {quote(words)}"
    return error


def _code_of(error: LauncherError, stack: Stack) -> int:
    """With --wait: that of the process itself, if it is one of those named."""
    if isinstance(error, ProcessDied) and error.host in stack.targets:
        return 128 + error.signal if error.signal else error.code or error.exit_code
    return error.exit_code


class _Following:
    """What the processes that were named print, from their start to their end."""

    def __init__(self, output: Output, stack: Stack) -> None:
        self._names = [name for name in stack.targets if stack.items[name].process is not None]
        self._output = output
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._printed: dict[str, int] = {}
        self._loop: asyncio.AbstractEventLoop | None = None
        self._launcher: Launcher | None = None
        self._printer: Printer | None = None

    def begin(self, launcher: Launcher) -> None:
        self._loop, self._launcher = asyncio.get_running_loop(), launcher
        task = asyncio.current_task()

        def gone() -> None:
            if self._loop is not None and task is not None:
                self._loop.call_soon_threadsafe(task.cancel)

        self._printer = Printer(self._output, self._names, None, gone)

    def hear(self, event: Event) -> None:
        """In the launcher's thread: from a process's start on its output can be read."""
        if event.name in self._names and event.to_state in _BEGAN and self._loop is not None:
            with contextlib.suppress(RuntimeError):
                self._loop.call_soon_threadsafe(self._follow, event.name)

    def _follow(self, name: str) -> None:
        if name not in self._tasks:
            self._printed[name] = 0
            self._tasks[name] = asyncio.ensure_future(self._print(name))

    async def _print(self, name: str) -> None:
        assert self._launcher is not None and self._printer is not None
        with contextlib.suppress(LauncherError):
            async for line in self._launcher.watch(name, lines=None, on_trouble=self._output.say):
                self._printer.line(name, line)
                self._printed[name] += 1

    async def end(self) -> None:
        """What they said last is read once more: following is a moment behind."""
        for task in self._tasks.values():
            task.cancel()
        await asyncio.gather(*self._tasks.values(), return_exceptions=True)
        assert self._launcher is not None and self._printer is not None
        for name, printed in self._printed.items():
            with contextlib.suppress(LauncherError):
                for line in (await self._launcher.log(name, lines=None)).split("\n")[printed:]:
                    self._printer.line(name, line)
        self._printer.close()


def _interruptible(work: Callable[[], Coroutine[Any, Any, int]], output: Output, stays: bool) -> int:
    """Run `work`; SIGINT, SIGTERM and SIGHUP cancel it, each further one again.

    stays: what was started is left running; else a process may take its time, and one learns how not to wait.
    """
    signals: list[signal.Signals] = []

    def stop(number: signal.Signals) -> None:
        hint = " (Ctrl-C again: what is left is killed)" if number is signal.SIGINT and not stays else ""
        output.say("interrupted" + (" again: what is left is killed" if signals else hint), "warning")
        signals.append(number)

    try:
        code = asyncio.run(cancelled_by_signals(work(), stop))
    except asyncio.CancelledError:
        if not signals:
            raise BrokenPipeError from None  # nobody reads what is followed
        code = 128 + signals[0]
    return 128 + signals[0] if signals else code
