"""Arguments of an action, resolved at the client as BaseAction.initialise does.

`action` is the local instance that the runner has constructed; what scenario_execution keeps in it
(`_model`, `execute_method`, `execute_skip_args`, …) is read here and nowhere else.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from scenario_execution.actions.base_action import ActionError
from scenario_execution.actions.base_action_subtree import BaseActionSubtree
from scenario_execution.actions.run_process import RunProcess
from scenario_execution.model.types import IdentifierReference, NamedArgument, PositionalArgument

from remote_exec.tree.variables import as_sent


@dataclass(frozen=True)
class ResolvedCall:
    """What execute() would be called with; the actor apart."""

    args: Mapping[str, Any]
    """Variables in the place of references."""
    actor: Mapping[str, Any] | None
    variables: frozenset[str] = frozenset()
    """The names of these variables on the blackboard."""


def resolve_call(action: Any) -> ResolvedCall:
    """Raises what the resolution raises (ValueError, OSC2ParsingError, …)."""
    names: set[str] = set()
    args = as_sent(_arguments(action), names)
    return ResolvedCall(args, actor_values(action), frozenset(names))


def _arguments(action: Any) -> dict[str, Any]:
    blackboard = blackboard_of(action)
    if is_subtree(action):
        return _with_references_where_possible(action._model, blackboard)
    if action.execute_method is None:
        return {}
    args: dict[str, Any]
    if action.resolve_variable_reference_arguments_in_execute:
        args = action._model.get_resolved_value(blackboard, skip_keys=action.execute_skip_args)
        return args
    try:
        args = action._model.get_resolved_value_with_variable_references(
            blackboard, skip_keys=action.execute_skip_args
        )
    except ValueError as e:
        raise ActionError(f"Error initializing action: {e}", action=action) from e
    return args


def _with_references_where_possible(model: Any, blackboard: Any) -> dict[str, Any]:
    """A subtree chooses itself, on the host, whether it wants values or references."""
    args: dict[str, Any] = model.get_resolved_value(blackboard)
    names = list(args)
    position = 0
    for child in model.get_children():
        if isinstance(child, PositionalArgument):
            name, position = names[position], position + 1
        elif isinstance(child, NamedArgument):
            name = child.name
        else:
            continue
        value = child.get_child(0)
        reference = (
            value.get_variable_reference(blackboard) if isinstance(value, IdentifierReference) else None
        )
        if reference is not None:
            args[name] = reference
    return args


def blackboard_of(action: Any) -> Any:
    """The action's client of the tree's blackboard."""
    if not is_subtree(action):
        return action.get_blackboard_client()
    return action.blackboards[0] if action.blackboards else action.attach_blackboard_client(name=action.name)


def is_subtree(action: Any) -> bool:
    return isinstance(action, BaseActionSubtree)


def has_command(action: Any) -> bool:
    """Whether its texts are (parts of) command lines."""
    return isinstance(action, RunProcess)


def actor_values(action: Any) -> dict[str, Any] | None:
    """The acting actor's values and `name`, as actions get them in `associated_actor`."""
    actor = getattr(action._model, "actor", None)
    if not actor:
        return None
    values: dict[str, Any] = actor.get_resolved_value(blackboard_of(action))
    values["name"] = actor.name
    return values


def actor_path(action: Any) -> str | None:
    """Where the acting actor's variables are on the blackboard."""
    actor = getattr(action._model, "actor", None)
    return str(actor.get_qualified_name()) if actor else None


def source_text(action: Any) -> str:
    """The action's invocation as it is written in the .osc file, as `get_ctx` has it."""
    return str(action._model.get_ctx()[2] or "")
