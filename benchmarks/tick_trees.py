"""Trees of the same actions, local and remote, and what it takes to set them up and tick them.

Remote trees hold the real proxies, made by the modifier's own factory. `ScenarioExecution` stands for the
runner of that name: proxies look for it among their callers, so that sessions of one run share its links.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from importlib.metadata import entry_points
from types import SimpleNamespace
from typing import Any

import py_trees
from py_trees.common import ParallelPolicy, Status
from scenario_execution.utils.logging import Logger

from remote_exec.modifier import remote

PERIOD = 0.1


class Quiet(Logger):  # type: ignore[misc]
    """What is measured is no terminal."""

    def info(self, msg: str) -> None:
        pass


class ScenarioExecution:
    """Sets trees up one after the other, as the runner of this name does with a file's scenarios."""

    def __init__(self, logger: Any = None) -> None:
        self.logger = logger or Quiet("bench", False)
        self.took = 0.0

    def setup(self, tree: py_trees.trees.BehaviourTree) -> None:
        began = time.perf_counter()
        tree.setup(logger=self.logger, tick_period=PERIOD, timeout=py_trees.common.Duration.INFINITE)
        self.took = time.perf_counter() - began

    def process_results(self) -> None:
        pass


@contextmanager
def execution(logger: Any = None) -> Iterator[ScenarioExecution]:
    run = ScenarioExecution(logger)
    try:
        yield run
    finally:
        run.process_results()


def action(plugin: str, name: str, args: Mapping[str, Any], logger: Any) -> Any:
    """A local action as the runner makes it, without the scenario file around it."""
    point = next(p for p in entry_points(group="scenario_execution.actions") if p.name == plugin)
    made = point.load()()
    values = dict(args)
    model = SimpleNamespace(
        name=None,
        actor=None,
        get_children=list,
        get_resolved_value=lambda blackboard, skip_keys: dict(values),
        get_ctx=lambda: (0, 0, "", ""),
    )
    made._set_base_properities(name, model, logger)
    made._external_plugin_key, made._external_init_args = plugin, {}
    return made


def tree(
    plugin: str,
    count: int,
    endpoint: str | None = None,
    *,
    serial: bool = False,
    args: Mapping[str, Any] | None = None,
    extra: tuple[tuple[str, Mapping[str, Any]], ...] = (),
) -> py_trees.trees.BehaviourTree:
    """`count` actions, local ones without an endpoint; `extra`: (plugin, arguments) of more."""
    root = (
        py_trees.composites.Sequence("root", memory=True)
        if serial
        else py_trees.composites.Parallel("root", ParallelPolicy.SuccessOnAll())
    )
    for number, (key, values) in enumerate([*extra, *[(plugin, args or {})] * count]):
        leaf = action(key, f"{key} {number}", values, Quiet("bench", False))
        root.add_child(remote(leaf, {"endpoint": endpoint}) if endpoint else leaf)
    return py_trees.trees.BehaviourTree(root)


def timed_tick(ticked: py_trees.trees.BehaviourTree) -> float:
    began = time.perf_counter()
    ticked.tick()
    return time.perf_counter() - began


def settle(ticked: py_trees.trees.BehaviourTree, seconds: float) -> None:
    """Ticks until every first result must be here."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        ticked.tick()
        time.sleep(0.02)
    assert all(child.status is Status.RUNNING for child in ticked.root.children), [
        (c.status, c.feedback_message) for c in ticked.root.children if c.status is not Status.RUNNING
    ][:3]


def paced(ticked: py_trees.trees.BehaviourTree, period: float, go_on: Callable[[], bool]) -> list[float]:
    """Ticks on a grid, as the runner does; the ticks' durations."""
    durations = []
    due = time.perf_counter()
    while go_on():
        durations.append(timed_tick(ticked))
        due += period
        time.sleep(max(0.0, due - time.perf_counter()))
    return durations
