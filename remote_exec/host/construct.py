"""From the fields of `create` to a plugin's instance, as scenario_execution constructs it."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

from py_trees.common import Status
from scenario_execution.actions.base_action_subtree import BaseActionSubtree

from remote_exec.host.plugins import load_action
from remote_exec.host.simulated import no_simulation
from remote_exec.host.standins import ModelStandIn


def model_of(fields: Mapping[str, Any]) -> ModelStandIn:
    return ModelStandIn(fields["label"], fields["source"], fields["actor"], fields.get("actor_path"))


def construct(fields: Mapping[str, Any], model: ModelStandIn, logger: Any) -> Any:
    """Runs the plugin's code. Raises RemoteError, and whatever the plugin raises."""
    kind = load_action(fields["plugin"])
    model.is_subtree = issubclass(kind, BaseActionSubtree)
    model.args = dict(fields.get("args") or {})
    instance = kind(**fields["init_args"])
    instance._set_base_properities(fields["name"], model, logger)
    if model.is_subtree and hasattr(instance, "create_subtree"):
        instance.create_subtree()
    for node in instance.iterate():
        node.get_simulation = partial(no_simulation, node)
    return instance


def py_trees_status(name: str) -> Status:
    """`SUCCESS`, `FAILURE`; anything else is INVALID."""
    return {"SUCCESS": Status.SUCCESS, "FAILURE": Status.FAILURE}.get(name.upper(), Status.INVALID)
