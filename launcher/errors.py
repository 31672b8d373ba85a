"""The errors of `launcher`, split by who is at fault; each says what to do next.

    LauncherError                  exit code
    ├── InventoryError        2    the inventory or the command line is wrong: all problems at once
    ├── StageError                 one stage of a bring-up failed (stage, cause, next step, log tail)
    │   ├── Unreachable       3    connect or authenticate: the machine could not be reached
    │   │   └── NotTrusted         its host key is not known, or has changed
    │   ├── StartFailed       1    shell … start: reached, but the server does not start
    │   │   ├── NoServer           reached, but its Python has no server, or one that speaks another wire
    │   │   ├── NobodyListens      reached, but the server's socket leads nowhere (any more)
    │   │   └── ProcessDied        a process died before it was ready; a one-shot did not end with 0
    │   └── NotReady          4    started, but it does not answer in time
    ├── Conflict              1    a server that does not fit is in use, or an exclusive host; names by whom
    ├── NotStarted            1    something that it depends on is not ready
    ├── LeftBehind            1    something still runs after KILL; names pids
    └── Aborted             130    the user asked to stop

When a machine cannot be reached, nothing ever runs on the local one instead.
"""

from __future__ import annotations

from collections.abc import Sequence

from launcher.model import Problem, Stage


class LauncherError(Exception):
    """Root of all errors of this package. `next_step` is a command or an edit to try."""

    exit_code = 1
    running: tuple[str, ...] = ()
    """Of a run of processes that failed: what it has started and left running."""

    def __init__(self, message: str, next_step: str = "") -> None:
        self.next_step = next_step
        super().__init__(message)


class InventoryError(LauncherError):
    """Everything that is wrong with an inventory or a selection of it, in one report."""

    exit_code = 2

    def __init__(self, problems: Sequence[Problem], next_step: str = "") -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(str(p) for p in self.problems), next_step)


class StageError(LauncherError):
    """A stage of a bring-up failed. `tail` holds the last lines of the server's log, if there are any."""

    began = ""
    """Names the run that failed among the logs of its host; "" when none was begun."""

    def __init__(
        self, host: str, stage: Stage, cause: str, next_step: str = "", tail: Sequence[str] = ()
    ) -> None:
        self.host = host
        self.stage = stage
        self.cause = cause
        self.tail = tuple(tail)
        text = f"{host}: {stage.value}: {cause}"
        for line in self.tail:
            text += f"\n    | {line}"
        super().__init__(text, next_step)


class Unreachable(StageError):
    """The machine could not be reached, or did not let us in."""

    exit_code = 3


class NotTrusted(Unreachable):
    """Something answers there, but with a host key that is not known, or no longer the known one."""


class StartFailed(StageError):
    """The machine was reached, but the server did not start there."""


class NoServer(StartFailed):
    """What `se-remote provision` is for: there is no server, or none of our wire version."""


class NobodyListens(StartFailed):
    """The machine was reached, but nothing can be forwarded to the server's socket."""


class ProcessDied(StartFailed):
    """A process ended that was waited for; `code` or `signal` say how. `tail`: the last lines it wrote."""

    def __init__(
        self,
        name: str,
        cause: str,
        next_step: str = "",
        tail: Sequence[str] = (),
        *,
        code: int | None = None,
        signal: int | None = None,
    ) -> None:
        self.code = code
        self.signal = signal
        super().__init__(name, Stage.START, cause, next_step, tail)


class NotReady(StageError):
    """The server was started but does not answer."""

    exit_code = 4


class Conflict(LauncherError):
    """On the host a server that does not fit is in use, or somebody else has what is exclusive there."""


class NotStarted(LauncherError):
    """A process or host was not started, because of `because`, on which it depends."""

    def __init__(self, name: str, because: str) -> None:
        self.name = name
        self.because = because
        super().__init__(f"{name}: not started: {because} is not ready")


class LeftBehind(LauncherError):
    """Something of ours still runs although it was killed."""


class Aborted(LauncherError):
    """The user asked to stop (a signal), or another host of the same bring-up failed."""

    exit_code = 130
