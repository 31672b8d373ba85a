"""When the host's `on_stop` command runs: never while somebody uses the robot, and once for each end.

    what happened                               | what is done
    --------------------------------------------+------------------------------------------------------
    the first user comes                        | armed (safe_state.py)
    a user has left in order, others are there  | nothing
    a user has left in order, it was the last   | disarmed; or runs, if it is due
    a user has left in another way              | due: runs at once if it was the last, else after them
    it has run                                  | idle; a user who came meanwhile begins now
    it was killed, or could not be started      | due: after the next user, or at the end of the server

A user is a worker of a session, from its start until it and all that came from it are gone. "In order" is:
its client said `bye`, and that it was no abort, and the worker then ended by itself (`why_unsafe`). So the
command is the last one to speak to the robot.
"""

from __future__ import annotations

import enum
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Collection, Hashable
from dataclasses import dataclass, field
from typing import IO, Any, Final

import zmq

from remote_exec.host import safe_state
from remote_exec.host.console import Console
from remote_exec.host.outbox import log_event

LINE_BYTES: Final = 8192


ENDED_BY_ITSELF: Final = "exit code 0"


def why_unsafe(asked: str | None, exited: str | None, left: Collection[str]) -> str:
    """Why a worker's end was not in order, "" when it was.

    asked: why it was told to end; "": its client wanted that, None: nobody told it. exited: how it ended.
    left: what could not be ended. Who was told to end and hung in foreign code had to be ended by force,
    and what it was doing has not been brought to an end.
    """
    if asked is None:
        return f"a worker process died: {exited}"
    if asked:
        return asked
    if exited != ENDED_BY_ITSELF:
        return f"a worker had to be ended by force: {exited or 'it is still there'}"
    return "something could not be ended" if left else ""


class Step(enum.Enum):
    """What is to be done now."""

    NOTHING = "nothing"
    ARM = "arm"
    DISARM = "disarm"
    RUN = "run"


@dataclass
class Rules:
    """The table above, without any I/O."""

    users: set[Hashable] = field(default_factory=set)
    reasons: list[str] = field(default_factory=list)
    armed: bool = False
    running: bool = False

    def comes(self, user: Hashable) -> Step:
        """A user that comes while the command runs has to be held until `ran`."""
        self.users.add(user)
        if self.armed or self.running:
            return Step.NOTHING
        self.armed = True
        return Step.ARM

    def leaves(self, user: Hashable, reason: str) -> Step:
        """reason: why that was not in order, "" when it was."""
        if user not in self.users:
            return Step.NOTHING
        self.users.discard(user)
        if reason:
            self.reasons.append(reason)
        if self.running or self.users:
            return Step.NOTHING
        if self.reasons:
            self.running, self.armed = True, False
            return Step.RUN
        self.armed = False
        return Step.DISARM

    def ran(self, done: bool = True) -> Step:
        """The command is over; whoever was held may begin. done: else it is still due, after them."""
        self.running = False
        if done:
            self.reasons.clear()
        if not self.users:
            return Step.NOTHING
        self.armed = True
        return Step.ARM


@dataclass(frozen=True)
class Witness:
    """A session that hears of the command, and ends when it is over."""

    name: str
    say: Callable[[dict[str, Any]], None]
    then: Callable[[], None]


class Safety:
    """Does what the rules say: the front's side of `on_stop`. Without a command it does nothing."""

    def __init__(self, run_dir: str | None, configured: bool, console: Console) -> None:
        self._run_dir = run_dir if configured else None
        self._console = console
        self.poller: Any = None
        """Of the front's loop; watches the command's output."""
        self._rules = Rules()
        self._witnesses: list[Witness] = []
        self._held: list[Callable[[], None]] = []
        self._process: subprocess.Popen[bytes] | None = None
        self._pipes: dict[int, tuple[str, IO[bytes], bytes]] = {}
        """By descriptor: level, stream, and the beginning of a line."""

    @property
    def running(self) -> bool:
        return self._process is not None

    def owns(self, fd: int) -> bool:
        """Whether it is one of ours, for `readable`."""
        return fd in self._pipes

    def comes(self, user: Hashable, begin: Callable[[], None]) -> None:
        """A worker is wanted: `begin` is called now, or when the command that is running is over."""
        if self._run_dir is None:
            begin()
            return
        self._do(self._rules.comes(user))
        if self.running:
            self._console.info("a session waits until on_stop is over")
            self._held.append(begin)
        else:
            begin()

    def leaves(self, user: Hashable, reason: str, witness: Witness) -> None:
        """A worker and all of its processes are gone. reason: why that was not in order, "" when it was.

        `witness.then` is called when nothing has to be waited for any more, which may be now.
        """
        if self._run_dir is None:
            witness.then()
            return
        step = self._rules.leaves(user, reason)
        waits = step is Step.RUN or (self.running and bool(reason))
        if waits:
            self._witnesses.append(witness)
        elif reason:
            others = len(self._rules.users)
            text = f"on_stop: waits for {others} other session{'s' if others > 1 else ''} on this server"
            self._tell([witness], "warning", text)
        self._do(step)
        if not waits:
            witness.then()

    def readable(self, fd: int) -> None:
        """Something came from the command, or it is over."""
        level, stream, rest = self._pipes[fd]
        data = os.read(fd, 65536)
        *lines, rest = (rest + data).split(b"\n")
        if rest and (len(rest) > LINE_BYTES or not data):
            lines, rest = [*lines, rest], b""
        for line in lines:
            self._tell(self._witnesses, level, line.decode("utf-8", "replace"))
        self._pipes[fd] = (level, stream, rest)
        if not data:
            del self._pipes[fd]
            self.poller.unregister(fd)
            stream.close()
        if not self._pipes:
            self._over()

    # -- inside

    def _do(self, step: Step) -> None:
        assert self._run_dir is not None
        try:
            if step is Step.ARM:
                safe_state.arm(self._run_dir)
            elif step is Step.DISARM:
                safe_state.disarm(self._run_dir)
        except OSError as error:
            self._console.error(f"{self._run_dir}: {error.strerror}: on_stop will not outlive this server")
        if step is Step.RUN:
            self._start(self._run_dir)

    def _start(self, run_dir: str) -> None:
        reason = "; ".join(dict.fromkeys(self._rules.reasons))
        sessions = [witness.name for witness in self._witnesses]
        recipe = f"{run_dir}/{safe_state.ARMED}"
        command = [sys.executable, "-m", "remote_exec.host.on_stop", recipe, reason, *sessions]
        try:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                start_new_session=True,
            )
        except OSError as error:
            self._finish(f"on_stop: cannot be run ({error}): {safe_state.UNSAFE}")
            return
        for level, stream in (("info", self._process.stdout), ("error", self._process.stderr)):
            assert stream is not None
            self._pipes[stream.fileno()] = (level, stream, b"")
            self.poller.register(stream.fileno(), zmq.POLLIN)

    def _over(self) -> None:
        """Both pipes are closed, so it is at its very end."""
        assert self._process is not None
        code = self._process.wait()
        failure = ""
        if code not in (0, 1):  # of 1 it has told itself
            how = f"signal {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
            failure = f"on_stop: was ended ({how}): {safe_state.UNSAFE}"
        self._process = None
        self._finish(failure)

    def _finish(self, failure: str) -> None:
        if failure:
            self._tell(self._witnesses, "error", failure)
        witnesses, self._witnesses = self._witnesses, []
        held, self._held = self._held, []
        self._do(self._rules.ran(done=not failure))
        for witness in witnesses:
            witness.then()
        for begin in held:
            begin()

    def _tell(self, witnesses: list[Witness], level: str, text: str) -> None:
        {"info": self._console.info, "warning": self._console.warning, "error": self._console.error}[level](
            text
        )
        for witness in witnesses:
            witness.say(log_event(level, "on_stop", text))
