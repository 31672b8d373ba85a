"""The errors of `remote_exec`, split by who is at fault.

    RemoteExecError
    ├── ProtocolError        a peer broke the wire protocol
    │   ├── BadMessage       one message: undecodable, unknown command, wrong field (names the field)
    │   └── IncompatiblePeer the other side speaks no wire version that this one knows
    ├── BadArguments         an action was called with arguments it does not take: all of them at once
    ├── CallTimeout          a call did not end within its time; it was cancelled on the host
    ├── ValueDoesNotCross    a value the caller passed cannot be sent (names argument and type)
    ├── IllegalTransition    the caller asked an action for something its state does not allow
    ├── RemoteError          the other side answered `ok: false`; carries kind, where and traceback
    ├── SetupFailed          an action cannot be set up on its host; the tree's setup must not go on
    └── HostLost             nobody answers (any more): lease over, worker crashed, connection gone

Foreign exceptions are translated in one place per shell, with `from`.
"""

from __future__ import annotations

from collections.abc import Sequence


class RemoteExecError(Exception):
    """Root of all errors of this package."""


class ProtocolError(RemoteExecError):
    """The peer sent something the wire protocol does not allow."""


class BadMessage(ProtocolError):
    """One message is unusable; `field` names the part that is wrong, "" for the whole."""

    def __init__(self, reason: str, field: str = "", kind: str = "bad_message") -> None:
        self.field = field
        self.kind = kind
        super().__init__(f"{field}: {reason}" if field else reason)


class IncompatiblePeer(ProtocolError):
    """The peer speaks no wire version that this side knows."""


class BadArguments(RemoteExecError, TypeError):
    """An action does not take these arguments; `problems` has a sentence for each mistake."""

    def __init__(self, action: str, problems: Sequence[str]) -> None:
        self.action = action
        self.problems = tuple(problems)
        super().__init__("\n".join(f"{action}: {problem}" for problem in self.problems))


class CallTimeout(RemoteExecError, TimeoutError):
    """A call did not end within its time. It has been cancelled on the host."""


class ValueDoesNotCross(RemoteExecError):
    """A value cannot be sent; `where` is the argument's path, e.g. ``args.command[2]``."""

    def __init__(self, where: str, value: object, reason: str = "") -> None:
        self.where = where
        self.type_name = type(value).__name__
        super().__init__(
            f"{where}: a value of type {self.type_name} cannot be sent to another machine"
            + (f" ({reason})" if reason else "")
        )


class IllegalTransition(RemoteExecError):
    """An action was asked for something that its state does not allow; nothing has changed."""


class RemoteError(RemoteExecError):
    """The other side refused or failed; `kind` is one of `messages.ERROR_KINDS`."""

    def __init__(
        self, kind: str, message: str, where: str = "", traceback: str = "", next_step: str = ""
    ) -> None:
        self.next_step = next_step
        self.kind = kind
        self.where = where
        self.traceback = traceback
        super().__init__(message)


class SetupFailed(RemoteExecError, RuntimeError):
    """An action, or the host it is for, could not be made ready; the text says where in the .osc file."""


class HostLost(RemoteExecError):
    """Nobody answers there any more; the text says since when and why."""
