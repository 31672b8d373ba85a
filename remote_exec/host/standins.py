"""What stands in a worker for the parts of the scenario that stay at the client.

An action asks its `_model` for its label, its position, its arguments and its actor, and writes to its
`logger`. These give the same answers from what came over the wire. Imports scenario_execution, so only
workers (and the fork server, ahead of them) import this.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

from scenario_execution.utils.logging import BaseLogger

from remote_exec.host.variables import with_references, with_values


class ActorStandIn:
    """The acting actor: its name and its values as they were when the client sent them.

    path: where its variables are on the blackboard.
    """

    def __init__(self, values: Mapping[str, Any], path: str | None) -> None:
        self._values = dict(values)
        self.name = str(self._values.pop("name", ""))
        self._path = path or self.name

    def get_resolved_value(self, blackboard: object = None) -> dict[str, Any]:
        return copy.deepcopy(self._values)

    def get_qualified_name(self) -> str:
        return self._path


class ModelStandIn:
    """The action's invocation in the scenario. source: file, line, column, text."""

    def __init__(
        self,
        label: str | None,
        source: Sequence[Any] | None,
        actor: Mapping[str, Any] | None = None,
        actor_path: str | None = None,
    ) -> None:
        self.name = label
        file, line, column, text = (*(source or ()), None, None, None, None)[:4]
        self._ctx = (line or 0, column or 0, str(text or ""), str(file or ""))
        self._actor_path = actor_path
        self.actor: ActorStandIn | None = None
        self.args: dict[str, Any] = {}
        """The arguments of `execute`, resolved by the client but for the variables in them.

        Those of the constructor are not among them: the client leaves them out by the plugin's signature
        there. Only a subtree, which chooses for itself, gets all.
        """
        self.is_subtree = False
        self.set_actor(actor)

    def set_actor(self, actor: Mapping[str, Any] | None) -> None:
        self.actor = ActorStandIn(actor, self._actor_path) if actor is not None else None

    def get_ctx(self) -> tuple[int, int, str, str]:
        """Line, column, text, file: what ActionError shows."""
        return self._ctx

    @property
    def where(self) -> str:
        """`file:line:column`, "" when unknown."""
        line, column, _, file = self._ctx
        return f"{file}:{line}:{column}" if file else ""

    def get_resolved_value(
        self, blackboard: object = None, skip_keys: Collection[str] | None = None
    ) -> dict[str, Any]:
        """A copy of the arguments, variables as their values."""
        return {key: with_values(value) for key, value in self._arguments(skip_keys)}

    def get_resolved_value_with_variable_references(
        self, blackboard: Any, skip_keys: Collection[str] | None = None
    ) -> dict[str, Any]:
        """A copy of the arguments, variables as references over the blackboard's client."""
        return {key: with_references(value, blackboard) for key, value in self._arguments(skip_keys)}

    def _arguments(self, skip_keys: Collection[str] | None) -> Iterator[tuple[str, Any]]:
        left_out = skip_keys if self.is_subtree and skip_keys else ()
        return ((key, value) for key, value in self.args.items() if key not in left_out)


class WireLogger(BaseLogger):  # type: ignore[misc]
    """The logger of a worker and, by `of_action`, of each of its actions. Never blocks; for any thread.

    `emit` takes level, name and text, and `action` when it is one's own.
    """

    def __init__(self, name: str, debug: bool, emit: Callable[..., None]) -> None:
        super().__init__(name, debug)
        self._emit_record = emit

    def of_action(self, action_id: str) -> WireLogger:
        """The same logger for one action: its records say whose they are."""
        return WireLogger(self.name, self.log_debug, partial(self._emit_record, action=action_id))

    def info(self, msg: object) -> None:
        self._emit_record("info", self.name, str(msg))

    def debug(self, msg: object) -> None:
        if self.log_debug:
            self._emit_record("debug", self.name, str(msg))

    def warning(self, msg: object) -> None:
        self._emit_record("warning", self.name, str(msg))

    def error(self, msg: object) -> None:
        self._emit_record("error", self.name, str(msg))
