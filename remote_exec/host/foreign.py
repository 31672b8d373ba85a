"""What stands around every call into a plugin. It is there for every action and tick, so it is kept cheap."""

from __future__ import annotations

from typing import Any, Final, NamedTuple, Protocol

from remote_exec.errors import RemoteError
from remote_exec.host.standins import ModelStandIn
from remote_exec.host.translate import translate
from remote_exec.host.variables import VariableStore

_PASSED: Final = (RemoteError, SystemExit, KeyboardInterrupt)


class Busy(NamedTuple):
    """What the main thread is doing in foreign code; `since` is monotonic. Made for every single call."""

    action: str
    phase: str
    since: float


class Calls(Protocol):
    """Who calls into plugins."""

    busy: Busy | None
    variables: VariableStore


class Foreign:
    """Says who is busy, translates what the plugin raises, sends the variables that it changed in place."""

    __slots__ = ("_busy", "_calls", "_model")

    def __init__(self, calls: Calls, busy: Busy, model: ModelStandIn) -> None:
        self._calls, self._busy, self._model = calls, busy, model

    def __enter__(self) -> None:
        self._calls.busy = self._busy

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        try:
            if error is None:
                self._calls.variables.send_changes()
            elif not isinstance(error, _PASSED):
                raise translate(error, self._model) from error
        except _PASSED:
            raise
        except Exception as failure:
            raise translate(failure, self._model) from failure
        finally:
            self._calls.busy = None
