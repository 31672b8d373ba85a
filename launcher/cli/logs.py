"""`se-remote logs`: what servers and processes have printed, also after they died; `-f` outlives restarts and
lost connections."""

from __future__ import annotations

import argparse
import contextlib
import re
import select as waiting
import sys
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Final, TypeVar

from launcher.cli.arguments_seeing import ALL
from launcher.cli.output import Output, size, table
from launcher.cli.printer import Printer
from launcher.cli.selection import select_standing
from launcher.cli.since import parse_since
from launcher.command import quote
from launcher.errors import Aborted, InventoryError, LauncherError
from launcher.model import HostSpec, Problem, ProcessSpec
from launcher.processes import output as outputs
from launcher.processes import viewing
from launcher.processes.viewing import Subject

if TYPE_CHECKING:
    from launcher.lease import Launcher
    from launcher.remains import Run

_ENDED = {
    "running": "(it runs)",
    "stopped": "stopped in order",
    "done": "done",
    "killed": "killed: it did not react to TERM",
    "vanished": "vanished without a word: all its processes were killed, or the machine went down",
}
_LINES: Final = 200
_T = TypeVar("_T")


@dataclass(frozen=True)
class _Wanted:
    """Of what, and which of it."""

    names: tuple[str, ...]
    hosts: tuple[HostSpec, ...]
    subjects: tuple[Subject, ...]
    lines: int | None
    since: float | None
    run: int
    pattern: re.Pattern[str] | None


def run(args: argparse.Namespace) -> int:
    """Prints the logs; 1 if there is none of one of them, 3 if a machine cannot be reached."""
    from launcher.lease import Launcher

    output = Output(inventory=args.inventory)
    selection = select_standing(args, output)
    wanted = _wanted(args, *selection.mixed(args.host))
    launcher = Launcher(selection.inventory, environ=selection.environ, ask=selection.ask)
    try:
        if args.follow:
            return _follow(launcher, wanted, output)
        return _list_runs(launcher, wanted, output) if args.runs else _show(launcher, wanted, output)
    finally:
        launcher.close()


def _wanted(
    args: argparse.Namespace, hosts: Sequence[HostSpec], processes: dict[str, ProcessSpec]
) -> _Wanted:
    problems: list[Problem] = []
    since, pattern = None, None
    try:
        since = parse_since(args.since, time.time()) if args.since is not None else None
    except ValueError as error:
        problems.append(Problem(f"--since: {error}"))
    try:
        pattern = re.compile(args.grep) if args.grep is not None else None
    except re.error as error:
        problems.append(Problem(f"--grep: {args.grep!r} is no regular expression: {error}"))
    if since is not None and hosts:
        which = ", ".join(host.name for host in hosts)
        problems.append(Problem(f"--since works for processes; the log of a server has no times ({which})"))
    if problems:
        raise InventoryError(problems)
    subjects = tuple(Subject.of(name, spec) for name, spec in processes.items())
    lines = args.lines
    if lines is None:  # not said
        lines = _LINES if since is None else ALL
    names = (*(host.name for host in hosts), *(subject.name for subject in subjects))
    return _Wanted(names, tuple(hosts), subjects, None if lines == ALL else lines, since, args.run, pattern)


def _ask_all(
    wanted: _Wanted, of_host: Callable[[HostSpec], _T], of_process: Callable[[Subject], _T]
) -> dict[str, _T | LauncherError]:
    """By name, in the order of the names; all side by side."""

    def careful(work: Callable[[], _T]) -> _T | LauncherError:
        try:
            return work()
        except LauncherError as error:
            return error

    calls: list[Callable[[], _T]] = [partial(of_host, host) for host in wanted.hosts]
    calls += [partial(of_process, subject) for subject in wanted.subjects]
    with ThreadPoolExecutor(max(1, len(calls))) as pool:
        return dict(zip(wanted.names, pool.map(careful, calls), strict=True))


def _show(launcher: Launcher, wanted: _Wanted, output: Output) -> int:
    lines = None if wanted.pattern is not None else wanted.lines

    def of_host(spec: HostSpec) -> tuple[str, str]:
        return launcher.read_log(spec, ALL if lines is None else lines, wanted.run)

    def of_process(subject: Subject) -> tuple[str, str]:
        async def read(reach: viewing.Reach) -> tuple[str, str]:
            place = subject.place
            runner = await reach(subject.name, place.machine, place.ssh, 0)
            return await outputs.read(runner, subject.key, lines=lines, run=wanted.run, since=wanted.since)

        return launcher.on_machines(read)

    printer = Printer(output, wanted.names, None, lambda: None)
    code = 0
    try:
        for name, answer in _ask_all(wanted, of_host, of_process).items():
            if isinstance(answer, LauncherError):
                output.error(answer)
                code = max(code, answer.exit_code)
            elif not answer[0]:
                output.say(_none(name, wanted), "warning")
                code = max(code, 1)
            else:
                for line in _chosen(answer[1], wanted):
                    printer.line(name, line)
    finally:
        printer.close()
    return code


def _chosen(text: str, wanted: _Wanted) -> Sequence[str]:
    """The lines of a log that are asked for."""
    lines = text.split("\n") if text else []
    if wanted.pattern is None:
        return lines
    found = [line for line in lines if wanted.pattern.search(line)]
    return found if wanted.lines is None else found[len(found) - min(wanted.lines, len(found)) :]


def _none(name: str, wanted: _Wanted) -> str:
    if wanted.run > 0:
        command = f"se-remote logs {quote([name])} --runs"
        return f"{name}: there is no log of run {wanted.run}; what there is: {command}"
    if name in {host.name for host in wanted.hosts}:
        return f"{name}: no log: no server of that name has run there, or it was cleaned"
    return f"{name}: no log: no process of that name has run there, or it was cleaned"


def _list_runs(launcher: Launcher, wanted: _Wanted, output: Output) -> int:
    def of_process(subject: Subject) -> tuple[Run, ...]:
        async def ask(reach: viewing.Reach) -> tuple[Run, ...]:
            runner = await reach(subject.name, subject.place.machine, subject.place.ssh, 0)
            return await outputs.runs(runner, subject.key)

        return launcher.on_machines(ask)

    code = 0
    for name, answer in _ask_all(wanted, launcher.runs, of_process).items():
        if isinstance(answer, LauncherError):
            output.error(answer)
            code = max(code, answer.exit_code)
        elif not answer:
            output.say(_none(name, wanted), "warning")
            code = max(code, 1)
        else:
            title = f"{name}:\n" if len(wanted.names) > 1 else ""
            output.result(title + render(answer))
    return code


def render(runs: Sequence[Run]) -> str:
    """The listing, the newest first; numbers as `--run` takes them."""
    rows, number = [], 0
    for run in runs:
        number += run.ended != "running"
        word = "-" if run.ended == "running" else str(number)
        rows.append([word, _time(run.began), _time(run.last_line), size(run.size), _ended(run.ended)])
    return table(("RUN", "BEGAN", "LAST LINE", "SIZE", "ENDED"), rows)


def _time(epoch: float | None) -> str:
    return "-" if epoch is None else time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(epoch))


def _ended(how: str) -> str:
    """`server-137`, `exit-1` or `signal-9` in words: what it was at, and its exit code or signal."""
    stage, _, code = how.rpartition("-")
    if how in _ENDED:
        return _ENDED[how]
    if not stage or not code.isdecimal():
        return how
    if stage == "signal":
        return f"died: signal {code}"
    reason = f"signal {int(code) - 128}" if int(code) > 128 else f"exit code {code}"
    return f"{'died' if stage in ('server', 'exit') else f'{stage} failed'}: {reason}"


def _follow(launcher: Launcher, wanted: _Wanted, output: Output) -> int:
    """Until Ctrl-C, or until nobody reads any more."""
    gone = threading.Event()

    def leave() -> None:
        gone.set()
        launcher.abort()

    threading.Thread(target=_await_no_reader, args=(leave,), name="reader", daemon=True).start()
    printer = Printer(output, wanted.names, wanted.pattern, leave)

    def remark(text: str) -> None:
        output.say(f"[{text}]", "dim")

    def of_host(host: HostSpec) -> None:
        lines = ALL if wanted.lines is None else wanted.lines
        launcher.follow_log(host, partial(printer.line, host.name), remark, lines)

    def of_processes() -> None:
        def hear(subject: Subject, line: str) -> None:
            printer.line(subject.name, line)

        launcher.on_machines(
            lambda reach: viewing.follow(
                reach, wanted.subjects, hear, remark, lines=wanted.lines, since=wanted.since
            )
        )

    calls: list[Callable[[], None]] = [partial(of_host, host) for host in wanted.hosts]
    calls += [of_processes] if wanted.subjects else []
    try:
        _until_the_first_ends(launcher, calls)
    except Aborted:
        if not gone.is_set():
            raise
    finally:
        printer.close()
    return 1


def _until_the_first_ends(launcher: Launcher, calls: Sequence[Callable[[], None]]) -> None:
    """The main thread waits in short steps: Ctrl-C comes between them."""
    pool = ThreadPoolExecutor(len(calls))
    try:
        futures: list[Future[None]] = [pool.submit(call) for call in calls]
        while not any(future.done() for future in futures):
            wait(futures, 0.2, FIRST_COMPLETED)
        for future in futures:
            if future.done():
                future.result()
    finally:
        launcher.abort()
        pool.shutdown()


def _await_no_reader(leave: Callable[[], None]) -> None:
    """A log that is quiet would not notice that nobody reads it any more (`| head -n 1`)."""
    with contextlib.suppress(OSError, ValueError):
        poll = waiting.poll()
        poll.register(sys.stdout.fileno(), 0)
        poll.poll()
        leave()
