"""The scenario's variables in a worker: a py_trees blackboard whose changes go to the client.

Actions get scenario_execution's own VariableReference objects and blackboard clients; what they read and
write is this storage. Rules:

- A value that an action sets is sent by the thread that sets it, before anything that this thread does
  next. So it reaches the tree before the status of the same update, and also from a callback that runs
  after the action has ended.
- A list or map that was changed in place is found after the call into the action.
- What cannot cross raises where it is set; changed in place, once: after the call that made it so. The
  calls after that one, of other actions too, are not to blame.
- Values of the client and of actions may pass each other on the wire. The action's wins, at both ends:
  sets are numbered, and a value that the client sent before it saw the action's is dropped.
- Everything else on the blackboard stays in this process.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Mapping
from typing import Any, Final

from py_trees.blackboard import Blackboard
from scenario_execution.model.types import VariableReference

from remote_exec.codec import check_value, pack
from remote_exec.errors import ValueDoesNotCross
from remote_exec.messages import Variable

_UNCHANGEABLE: Final = (type(None), bool, int, float, str, bytes)


class VariableStore(dict[str, Any]):
    """The storage of the worker's blackboard. Any thread."""

    def __init__(self, emit: Callable[[Mapping[str, Any]], None]) -> None:
        super().__init__()
        self._emit = emit
        self._lock = threading.RLock()
        self._names: set[str] = set()
        self._folders: tuple[str, ...] = ()
        self._packed: dict[str, bytes] = {}
        """Of values that can change in place: what they were when last sent or taken."""
        self._refused: set[str] = set()
        """Those that were changed in place to something that cannot cross; it has been said."""
        self._number = 0
        self._set_at: dict[str, int] = {}

    def install(self) -> None:
        """Become the storage of this process's blackboard."""
        self.update(Blackboard.storage)
        Blackboard.storage = self

    def arrive(self, fields: Mapping[str, Any]) -> None:
        """Of a command: values that changed at the client, and what its action refers to."""
        if fields.get("actor_path"):
            self.share_below(fields["actor_path"])
        for variable in _variables_in(fields.get("args")):
            self._names.add(absolute(variable.name))
        self.take(fields.get("vars") or {}, fields.get("seen"))

    def share_below(self, path: str) -> None:
        """What is set in an actor's variables goes to the client, also those that do not exist yet."""
        folder = absolute(path).rstrip("/") + "/"
        if folder not in self._folders:
            self._folders += (folder,)

    def take(self, values: Mapping[str, Any], seen: int | None) -> None:
        """Values from the client, which had seen our sets up to the number `seen`; they are shared."""
        with self._lock:
            for name, value in values.items():
                self._names.add(name)
                if self._set_at.get(name, 0) <= (seen or 0):
                    super().__setitem__(name, value)
                    self._remember(name, value)

    def __setitem__(self, name: str, value: Any) -> None:
        if not self._is_shared(name):
            super().__setitem__(name, value)
            return
        check_value(value, f"variable {name}")
        with self._lock:
            super().__setitem__(name, value)
            self._send(name, value)

    def send_changes(self) -> None:
        """Send what was changed in place. Raises ValueDoesNotCross, when the rest is sent."""
        if not self._packed:
            return
        problem: ValueDoesNotCross | None = None
        with self._lock:
            for name, before in list(self._packed.items()):
                # One that another thread is changing at this moment is looked at again after the next call.
                with contextlib.suppress(RuntimeError):
                    problem = self._send_if_changed(name, before) or problem
        if problem is not None:
            raise problem

    def _send_if_changed(self, name: str, before: bytes) -> ValueDoesNotCross | None:
        """Why it cannot be sent, the first time that it cannot."""
        value = self.get(name)
        try:
            check_value(value, f"variable {name}")
        except ValueDoesNotCross as error:
            if name in self._refused:
                return None
            self._refused.add(name)
            return error
        self._refused.discard(name)
        if pack({"": value}) != before:
            self._send(name, value)
        return None

    def _is_shared(self, name: str) -> bool:
        return name in self._names or (bool(self._folders) and name.startswith(self._folders))

    def _send(self, name: str, value: Any) -> None:
        self._number += 1
        self._set_at[name] = self._number
        self._remember(name, value)
        self._emit({"ev": "set", "vars": {name: value}, "number": self._number})

    def _remember(self, name: str, value: Any) -> None:
        self._refused.discard(name)
        if isinstance(value, _UNCHANGEABLE):
            self._packed.pop(name, None)
        else:
            self._packed[name] = pack({"": value})


def absolute(reference: str) -> str:
    """The name in the storage for the name that a reference carries."""
    return str(Blackboard.absolute_name(Blackboard.separator, reference))


def with_references(value: Any, blackboard: Any) -> Any:
    """A copy of `value` in which variables are references over the client `blackboard`."""
    return _copy(value, lambda variable: VariableReference(blackboard, variable.name))


def with_values(value: Any) -> Any:
    """A copy of `value` in which variables are what they hold now. Raises KeyError."""
    return _copy(value, lambda variable: Blackboard.storage[absolute(variable.name)])


def _variables_in(value: Any) -> list[Variable]:
    found: list[Variable] = []
    _copy(value, found.append)
    return found


def _copy(value: Any, of_variable: Callable[[Variable], Any]) -> Any:
    if isinstance(value, Variable):
        return of_variable(value)
    if isinstance(value, dict):
        return {key: _copy(item, of_variable) for key, item in value.items()}
    if isinstance(value, tuple):
        return tuple(_copy(item, of_variable) for item in value)
    if isinstance(value, list):
        return [_copy(item, of_variable) for item in value]
    return value
