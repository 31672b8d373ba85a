"""What a change means for who waits: errors with their next step, exit codes, words. Pure."""

from __future__ import annotations

from launcher.command import quote
from launcher.errors import Conflict, LauncherError, NotReady, ProcessDied, StageError, Unreachable
from launcher.model import ProcessSpec, Stage, State
from launcher.processes.graph import Item
from launcher.processes.model import Change

ENDED = (State.STOPPED, State.DEAD, State.CONFLICT, State.UNREACHABLE)
"""States behind which nothing more is heard of a launch."""


def spec_of(item: Item) -> ProcessSpec:
    """Of an item that is a process."""
    assert isinstance(item.spec, ProcessSpec)
    return item.spec


def problem(item: Item, change: Change) -> LauncherError:
    """The error for a process that is not, or no longer, what a run needs."""
    name, spec = item.name, spec_of(item)
    if change.state is State.CONFLICT:
        text = change.reason or "something of that name runs there that is not ours"
        return Conflict(f"{name}: {text}", change.next_step or f"se-remote restart {quote([spec.name])}")
    if change.state is State.UNREACHABLE:
        return Unreachable(name, Stage.CONNECT, change.reason, change.next_step)
    hint = change.next_step or f"se-remote logs {quote([name])}"
    if change.state is State.STOPPED and change.code is None and change.signal is None:
        return ProcessDied(name, change.reason or "it was stopped meanwhile", hint, change.tail)
    how = ended_text(change)
    when = "" if not spec.persistent else " before it was ready"
    reason = f": {change.reason}" if change.reason else ""
    return ProcessDied(
        name, f"it ended{when} ({how}){reason}", hint, change.tail, code=change.code, signal=change.signal
    )


def ended_text(change: Change) -> str:
    """How a process ended, in words."""
    if change.signal:
        return f"signal {change.signal}"
    return "exit code unknown" if change.code is None else f"exit code {change.code}"


def exit_code(change: Change) -> int:
    """As a shell has it; of one that was stopped by somebody and tells no more that of TERM."""
    if change.signal:
        return 128 + change.signal
    return 143 if change.code is None else change.code


def late(item: Item, change: Change | None) -> NotReady:
    """The error for a process that is not ready in time; it goes on. `change`: what is known of it."""
    spec = spec_of(item)
    check = spec.ready_check
    wanted = "it has not come up"
    if check is not None:
        wanted = (
            f"its output has no line that matches {check.log}" if check.log
            else f"nobody listens on port {check.port}" if check.port
            else f"there is no {check.file}" if check.file
            else f"its ready_check does not succeed: {check.command}"
        )  # fmt: skip
    if not spec.persistent:
        wanted = "it has not ended"
    if spec.setup.strip() and change is not None and change.state is State.STARTING:
        wanted = "its `setup` has not come to its end"
    if change is not None and change.state is State.RUNNING and change.reason:
        wanted += f" ({change.reason})"
    cause = f"not ready within {spec.ready_timeout:g} s: {wanted}"
    return NotReady(item.name, Stage.READY, cause, f"se-remote logs {quote([item.name])}")


def renamed(error: StageError, name: str) -> StageError:
    """The same of something else on that machine."""
    if error.host == name or isinstance(error, ProcessDied):
        return error
    made = type(error)(name, error.stage, error.cause, error.next_step, error.tail)
    made.__cause__ = error
    return made
