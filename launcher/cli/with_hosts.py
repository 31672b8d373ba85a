"""`se-remote with HOST… -- COMMAND…`: hosts are up for the length of a command, and its exit code is ours.

    COMMAND cannot be found, or run    127, 126: nothing was brought up, or is ended again
    a host does not come up            as `up`: COMMAND is not started, what was started is ended
    COMMAND ends                       its exit code (128 + N when signal N ended it), after what was started
                                       here is ended; 1 instead of 0 when something could not be ended
    we are killed (KILL)               the servers notice by their lease and end themselves

Rules:
- The servers are ephemeral, held by a session of this process: nothing stays that nobody holds. What COMMAND
  runs finds them up and leaves them; a server that was up before stays up.
- COMMAND is in our process group, so a Ctrl-C at the terminal reaches it by itself; signals that come
  otherwise are passed on.
- COMMAND counts as this very client where a host is exclusive: it gets our `driver` by the environment, as it
  gets the inventory, parameters and variants that were named here.
"""

from __future__ import annotations

import argparse
import os
import queue
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from functools import partial
from types import FrameType

from launcher import __version__, servers
from launcher.cli.output import Output, StageProgress
from launcher.cli.selection import Selection, select
from launcher.errors import LauncherError
from launcher.inventory.settings import INVENTORY, PARAMS, VARIANTS
from launcher.lease import Launcher, Lease
from launcher.model import Event, HostSpec, Stage, State
from launcher.plan import joined
from remote_exec.client.hub import HostLink, Hub
from remote_exec.client.identity import DRIVER, client_info
from remote_exec.client.link import Delivery, Gone, LinkSpec, LinkUp, Note

EXIT_NOT_FOUND, EXIT_CANNOT_RUN = 127, 126
LEAVE_S = 2.0
WHAT_CHARS = 50
"""Of the command, in what others read of who uses the host."""
FORWARDED = (signal.SIGINT, signal.SIGQUIT, signal.SIGTERM, signal.SIGHUP)
_FROM_TERMINAL = (signal.SIGINT, signal.SIGQUIT, signal.SIGHUP)


def run(args: argparse.Namespace) -> int:
    """Brings the hosts up, runs the command, ends what was started here."""
    output = Output(inventory=args.inventory)
    cannot = cannot_start(args.words[0])
    if cannot is not None:
        output.say(f"error: {cannot[1]}", "error")
        return cannot[0]
    selection = select(args)
    specs = selection.hosts(args.host)
    began = time.monotonic()
    words = shlex.join(args.words)
    what = f"se-remote with: {words if len(words) <= WHAT_CHARS else words[: WHAT_CHARS - 1] + '…'}"
    progress = StageProgress(output, [spec.name for spec in specs])
    launcher = Launcher(
        selection.inventory,
        environ=selection.environ,
        settings=selection.settings,
        ask=output.asking(selection.ask),
        on_event=progress.on_event,
        what=what,
    )
    holding = _Holding(output, client_info(what, __version__, selection.environ))
    code, left = 1, []
    try:
        with progress:  # the terminal is the command's from then on
            holding.hold(launcher.open(specs), progress, began)
        named = args.inventory is not None
        code = _Command(launcher).run(args.words, child_environ(selection, specs, holding.driver, named))
    finally:
        holding.leave()
        left = launcher.close()
    for text in left:
        output.say(f"error: {text}", "error")
    return code or (1 if left else 0)


def cannot_start(program: str) -> tuple[int, str] | None:
    """Why a command cannot be started, with the exit code that says so; None: it can, as far as one sees."""
    if shutil.which(program) is not None:
        return None
    if "/" in program and os.path.exists(program):
        return EXIT_CANNOT_RUN, f"{program} cannot be executed"
    return EXIT_NOT_FOUND, f"there is no command {program}"


def child_environ(
    selection: Selection, specs: Sequence[HostSpec], driver: str, named: bool
) -> dict[str, str]:
    """The command's environment: what was named on our command line holds for it too. named: --inventory."""
    settings = selection.settings
    environ = {**selection.environ, DRIVER: driver}
    if named and selection.path is not None:
        environ[INVENTORY] = str(selection.path.absolute())
    if settings.options:
        environ[PARAMS] = ",".join(f"{k}={_escaped(v)}" for k, v in settings.params.items())
    variants = dict(settings.variants)
    for spec in specs:
        name, *chosen = spec.name.split("+")
        for_all = [variant for variant in chosen if variant in settings.for_all]
        if for_all:
            variants[name] = tuple(dict.fromkeys([*variants.get(name, ()), *for_all]))
    if variants:
        environ[VARIANTS] = ",".join(f"{name}={'+'.join(chosen)}" for name, chosen in variants.items())
    return environ


def _escaped(value: str) -> str:
    return value.replace(",", "\\,")


class _Holding:
    """A session at each host that holds its server. Ours to leave; what becomes of them is said."""

    def __init__(self, output: Output, client: Mapping[str, object]) -> None:
        self.driver = str(client["driver"])
        self._output = output
        self._client = client
        self._hub: Hub | None = None
        self._links: dict[str, HostLink] = {}
        self._settled: queue.SimpleQueue[tuple[str, LinkUp | Gone]] = queue.SimpleQueue()
        self._up: set[str] = set()
        self._leaving = False

    def hold(self, leases: Mapping[str, Lease], progress: StageProgress, began: float) -> None:
        """Returns when every host has answered. Raises NotReady, or what they are refused with."""
        self._hub = Hub()
        for name, lease in leases.items():
            progress.on_event(Event(time.monotonic(), name, Stage.HELLO, State.RUNNING, State.RUNNING))
            self._links[name] = self._hub.connect(self._spec(lease), partial(self._took, name))
        errors: list[LauncherError] = []
        for _ in leases:
            name, answer = self._settled.get()
            leases[name].connected()
            failed = State.DEAD if isinstance(answer, Gone) else State.READY
            progress.on_event(Event(time.monotonic(), name, Stage.HELLO, State.RUNNING, failed))
            if isinstance(answer, Gone):
                errors.append(servers.refused(name, answer))
                continue
            how = "ready" if leases[name].started else "was up already"
            progress.done(name, f"{how} after {time.monotonic() - began:.2f} s")
        if errors:
            raise joined(errors)

    def _spec(self, lease: Lease) -> LinkSpec:
        host = lease.host
        return LinkSpec(
            name=host.name,
            endpoint=lease.endpoint,
            ours=True,
            client={**self._client, "id": lease.client_id},
            lease=host.lease,
            connect_timeout=servers.HELLO_S,
            on_loss=host.on_loss,
            way=lease.way,
        )

    def _took(self, name: str, item: Delivery) -> None:
        """In the hub's thread."""
        if isinstance(item, Note):
            self._output.say(f"[{name}] {item.text}", item.level)
        if not isinstance(item, (LinkUp, Gone)):
            return
        if isinstance(item, LinkUp):
            self._up.add(name)
        elif name in self._up and not self._leaving:
            text = f"{item.reason}. It is not held any more: what uses it starts it for itself"
            self._output.say(f"[{name}] {text}", "warning")
        self._settled.put((name, item))

    def leave(self) -> None:
        """Bounded; who cannot be told notices by the lease."""
        self._leaving = True
        if self._hub is None:
            return
        while not self._settled.empty():
            name, item = self._settled.get()
            if isinstance(item, Gone):
                self._up.discard(name)
        for name in self._up:
            self._links[name].leave(release=True)
        until = time.monotonic() + LEAVE_S
        while self._up and time.monotonic() < until:
            try:
                name, _ = self._settled.get(timeout=max(0.0, until - time.monotonic()))
            except queue.Empty:
                break
            self._up.discard(name)
        self._hub.close()


class _Command:
    """The command in the foreground: signals are passed on to it, and a second one shortens our own end."""

    def __init__(self, launcher: Launcher) -> None:
        self._launcher = launcher
        self._child: subprocess.Popen[bytes] | None = None
        self._early: list[int] = []

    def run(self, words: Sequence[str], environ: Mapping[str, str]) -> int:
        """Its exit code, as a shell has it."""
        sys.stdout.flush()
        sys.stderr.flush()
        for number in FORWARDED:
            if signal.getsignal(number) is not signal.SIG_IGN:  # below nohup
                signal.signal(number, self._on_signal)
        try:
            self._child = subprocess.Popen(words, env=dict(environ))
        except OSError as error:
            missing = isinstance(error, FileNotFoundError)
            Output().say(f"error: {words[0]} cannot be started: {error.strerror}", "error")
            return EXIT_NOT_FOUND if missing else EXIT_CANNOT_RUN
        for early in self._early:
            self._child.send_signal(early)
        return shell_code(self._child.wait())

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        if self._child is None:
            self._early.append(number)
        elif self._child.returncode is not None:
            self._launcher.hurry()
        elif not (number in _FROM_TERMINAL and _in_foreground()):
            self._child.send_signal(number)


def shell_code(returncode: int) -> int:
    """Of subprocess, as a shell would have it."""
    return 128 - returncode if returncode < 0 else returncode


def _in_foreground() -> bool:
    """Whether our process group is the one that the terminal sends Ctrl-C to."""
    try:
        terminal = os.open("/dev/tty", os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        return os.tcgetpgrp(terminal) == os.getpgrp()
    except OSError:
        return False
    finally:
        os.close(terminal)
