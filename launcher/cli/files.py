"""`se-remote push` and `se-remote pull`: files to a host and from there, by hand."""

from __future__ import annotations

import argparse
import os
import posixpath
import threading
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TypeVar

from launcher import files
from launcher.cli.output import Output
from launcher.cli.selection import select
from launcher.command import quote
from launcher.errors import InventoryError, StageError, Unreachable
from launcher.files.plan import amount
from launcher.files.progress import Meter, shown
from launcher.machines.container import ContainerRunner
from launcher.machines.runner import Runner
from launcher.model import HostSpec, Problem
from launcher.plan import slug
from launcher.wrapper import path_word

_T = TypeVar("_T")
_REDRAW = 0.1
OUTPUTS = ".local/state/se-remote/outputs"
"""Under home, on the host: what could not be brought to a client, a folder for each host's name."""


def run(args: argparse.Namespace) -> int:
    """Does either; 1 when something of it is missing in the end."""
    return _push(args) if args.command == "push" else _pull(args)


def _push(args: argparse.Namespace) -> int:
    output = Output(inventory=args.inventory)
    folder = Path(args.folder)
    if not folder.is_dir():
        if folder.exists():
            step = f"its folder: se-remote push {quote([args.host, str(folder.parent)])}"
            raise InventoryError([Problem(f"{args.folder} is a file: push takes a folder")], step)
        problem = Problem(f"there is no folder {args.folder}: push takes a folder")
        raise InventoryError([problem], f"ls -la {quote([str(folder.parent)])}")
    to = args.to or folder.resolve().name or "root"
    began = time.monotonic()

    def work(spec: HostSpec, meter: files.OnStep) -> Callable[[Runner], Awaitable[files.Pushed]]:
        python = path_word(spec.interpreter)
        return lambda runner: files.push(spec.name, runner, python, folder, to, progress=meter)

    name, done = _over(args, output, "push", work, posixpath.dirname(to) or ".")
    for what, why in done.skipped:
        output.say(f"{name}: not sent: {shown(what)}: {why}", "warning")
    text = f"{name}: {_files(done.sent)} sent to {shown(done.path)}{_rate(done.bytes, began)}"
    output.say(f"{text}; {done.unchanged} unchanged, {done.removed} removed", "good")
    return 1 if done.skipped else 0


def _pull(args: argparse.Namespace) -> int:
    output = Output(inventory=args.inventory)
    into = Path(args.into or ".")
    kept = args.remote is None
    began = time.monotonic()

    def work(spec: HostSpec, meter: files.OnStep) -> Callable[[Runner], Awaitable[files.Fetched]]:
        remote = args.remote or f"{OUTPUTS}/{slug(spec.name)}"
        return lambda runner: files.fetch(
            spec.name, runner, _python(spec, runner), remote, into, progress=meter, remove=kept, kept=kept,
            named=not kept,
        )  # fmt: skip

    there = posixpath.dirname(args.remote.rstrip("/")) or "." if args.remote else OUTPUTS
    name, done = _over(args, output, "pull", work, there, kept=kept)
    for what, here in done.beside:
        output.say(f"{name}: {shown(what)} exists already: stored as {shown(here)}", "warning")
    for what, why in done.missing:
        output.say(f"{name}: {shown(what)}: {why}", "warning")
    if kept and not done.files and not done.missing:
        output.say(f"{name}: nothing of its sessions is kept there")
        return 0
    for file in done.files:
        output.result(shown(str(into / file)))
    text = f"{name}: {_files(len(done.files) - done.unchanged)} stored in {into}{_rate(done.bytes, began)}"
    output.say(f"{text}; {done.unchanged} unchanged", "good")
    return 1 if done.missing else 0


def _python(spec: HostSpec, runner: Runner) -> str:
    """The interpreter there: what the inventory says of one in a container is not said of its machine."""
    inside = spec.docker is None or isinstance(runner, ContainerRunner)
    return path_word(spec.interpreter) if inside else "python3"


def _over(
    args: argparse.Namespace,
    output: Output,
    what: str,
    work: Callable[[HostSpec, files.OnStep], Callable[[Runner], Awaitable[_T]]],
    there: str,
    kept: bool = False,
) -> tuple[str, _T]:
    """The host's name and what `work` gives, with a bar meanwhile.

    there: the folder to look at when it fails. kept: see Hosts.where.
    """
    from launcher.lease import Launcher

    selection = select(args)
    (spec,) = selection.hosts([args.host])
    launcher = Launcher(selection.inventory, environ=selection.environ, ask=selection.ask)
    try:
        with _Bar(output, spec.name, what) as bar:
            return spec.name, launcher.over(spec, work(spec, bar.take), then=_again(args), kept=kept)
    except StageError as error:
        # Once more helps when the connection was lost, and with nothing else.
        if isinstance(error, Unreachable) or not error.next_step.startswith(f"se-remote {what} "):
            raise
        instead = f"se-remote pull {quote([args.host])}" if what == "pull" and args.remote else ""
        step = look(spec, there, instead)
        raise StageError(error.host, error.stage, error.cause, step, error.tail) from None
    finally:
        launcher.close()


def look(spec: HostSpec, folder: str, instead: str) -> str:
    """What to try when something is wrong over there.

    folder: absolute, or from home. instead: another command that may help; "": none.
    """
    ls = quote(["ls", "-la", folder.removeprefix("~/") if folder != "~" else "."])
    machine, ssh = spec.machine, spec.ssh
    if spec.docker is not None:
        ls = f"{ls}   (in the container)"
    elif machine.is_local:
        ls = f"(cd && {ls})"
    else:
        port = ["-p", str(machine.port)] if machine.port else []
        key = ["-i", os.path.expanduser(ssh.identity)] if ssh.identity else []
        jump = ["-J", ssh.jump] if ssh.jump else []
        where = (f"{machine.user}@" if machine.user else "") + str(machine.host)
        ls = quote(["ssh", *key, *jump, *port, where, ls])
    return f"{ls}   (or what scenarios have left there: {instead})" if instead else ls


def _again(args: argparse.Namespace) -> str:
    """This command, as it is typed."""
    if args.command == "push":
        words = [args.host, args.folder, *([args.to] if args.to else [])]
    else:
        words = [args.host, *(word for word in (args.remote, args.into) if word)]
    return quote(["se-remote", args.command, *words])


class _Bar:
    """The live line of a transfer; without a terminal there is none."""

    def __init__(self, output: Output, host: str, what: str) -> None:
        self._output, self._meter = output, Meter(host, what)
        self._lock = threading.Lock()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._redraw, name="progress", daemon=True)

    def __enter__(self) -> _Bar:
        if self._output.live:
            self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        if self._thread.is_alive():
            self._thread.join()
        self._output.show_live("")

    def take(self, step: files.Step) -> None:
        """From the launcher's thread; returns at once."""
        with self._lock:
            self._meter.take(step, time.monotonic())

    def _redraw(self) -> None:
        while not self._over.wait(_REDRAW):
            with self._lock:
                text = self._meter.line(time.monotonic())
            self._output.show_live(text)


def _files(count: int) -> str:
    return f"{count} file{'' if count == 1 else 's'}"


def _rate(size: int, began: float) -> str:
    took = max(time.monotonic() - began, 1e-3)
    return f", {amount(size)} in {took:.1f} s ({amount(int(size / took))}/s)" if size else ""
