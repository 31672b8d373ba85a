"""The scenario's variables, as far as one host's actions refer to them. In the tree's thread.

The tree's own blackboard is where they live; a host has a copy of the values it was told of. Rules:

- Only what an action of the host refers to crosses: variables in its arguments, its actor's variables.
- What changed here since the host was last told goes with `execute`, and as `set` at the end of a tick.
  It is found by comparing; where nothing is referred to, there is nothing to do.
- What an action has set is applied when it arrives, which is before the status that follows it. It is not
  sent back. Which of two values that pass each other wins is said in host/variables.py.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Collection, Mapping
from typing import Any, Final

from py_trees.blackboard import Blackboard
from scenario_execution.model.types import VariableReference

from remote_exec.codec import check_value, pack
from remote_exec.errors import ValueDoesNotCross
from remote_exec.messages import Variable

_UNCHANGEABLE: Final = (type(None), bool, int, float, str, bytes)


class HostVariables:
    """What one host knows. say: level and text, for values that cannot cross."""

    def __init__(self, say: Callable[[str, str], None]) -> None:
        self._say = say
        self._names: set[str] = set()
        self._folders: tuple[str, ...] = ()
        self._keys = -1
        """How many keys the blackboard had when it was last searched for an actor's variables."""
        self._told: dict[str, _Value] = {}
        self._refused: dict[str, _Value] = {}
        self.seen = 0
        """Number of the last `set` of the host."""

    def refer(self, names: Collection[str]) -> None:
        """Actions of the host use these variables from now on."""
        self._names.update(names)

    def refer_below(self, path: str) -> None:
        """The same for all variables of an actor, also for those that do not exist yet."""
        folder = absolute(path).rstrip("/") + "/"
        if folder not in self._folders:
            self._folders += (folder,)
            self._keys = -1

    def news(self, needed: Collection[str] = ()) -> dict[str, Any]:
        """Values that the host was not told of; it counts as told with this.

        Raises ValueDoesNotCross for one that is `needed`; of others it is said once.
        """
        if not self._names and not self._folders:
            return {}
        storage = Blackboard.storage
        if self._folders and len(storage) != self._keys:
            self._keys = len(storage)
            self._names.update(name for name in list(storage) if name.startswith(self._folders))
        news: dict[str, Any] = {}
        told: dict[str, _Value] = {}
        for name in self._names:
            # Another thread may be changing a list or map: then it is looked at again in the next tick.
            with contextlib.suppress(RuntimeError):
                if name in storage and not _is(self._told.get(name), storage[name]):
                    self._add(news, name, storage[name], name in needed)
                    told[name] = _Value(storage[name])
        self._told.update({name: told[name] for name in news if name in told})
        return {name: value for name, value in news.items() if name in told}

    def took(self, values: Mapping[str, Any], number: int | None) -> None:
        """What an action has set."""
        self.seen = max(self.seen, number or 0)
        for name, value in values.items():
            Blackboard.set(name, value)
            self._names.add(name)
            self._told[name] = _Value(value)

    def _add(self, news: dict[str, Any], name: str, value: Any, needed: bool) -> None:
        try:
            check_value(value, f"variable {name}")
        except ValueDoesNotCross as e:
            if needed:
                raise
            if not _is(self._refused.get(name), value):
                self._refused[name] = _Value(value)
                self._say("warning", f"{e}; actions there see what it was before")
        else:
            news[name] = value


class _Value:
    """A value as it was, also when it changes in place later."""

    def __init__(self, value: Any) -> None:
        self.value = value
        self.packed = _packed(value)


def _is(before: _Value | None, value: Any) -> bool:
    if before is None:
        return False
    if before.packed is None:
        return before.value is value or (type(before.value) is type(value) and bool(before.value == value))
    return before.packed == _packed(value)


def _packed(value: Any) -> bytes | None:
    """None for what cannot change in place."""
    if isinstance(value, _UNCHANGEABLE):
        return None
    try:
        return pack({"": value})
    except ValueDoesNotCross:
        return b"%d" % id(value)


def absolute(reference: str) -> str:
    """The name in the blackboard's storage for the name that a reference carries."""
    return str(Blackboard.absolute_name(Blackboard.separator, reference))


def as_sent(value: Any, names: set[str]) -> Any:
    """`value` with Variables in the place of references; their names are added to `names`."""
    if isinstance(value, VariableReference):
        names.add(absolute(value.ref))
        return Variable(value.ref)
    if isinstance(value, dict):
        return {key: as_sent(item, names) for key, item in value.items()}
    if isinstance(value, tuple):
        return tuple(as_sent(item, names) for item in value)
    if isinstance(value, list):
        return [as_sent(item, names) for item in value]
    return value
