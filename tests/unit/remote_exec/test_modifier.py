"""The modifier's factory: what stands where in the tree, and what is refused while the file is parsed."""

from __future__ import annotations

import threading
import time
from importlib.metadata import EntryPoint, EntryPoints
from types import SimpleNamespace

import py_trees
import pytest
from scenario_execution.actions.base_action import BaseAction
from scenario_execution.actions.base_action_subtree import BaseActionSubtree

from remote_exec import modifier
from remote_exec.modifier import remote
from remote_exec.tree.proxy import RemoteAction
from remote_exec.tree.target import Target


class Action(BaseAction):
    def update(self):
        raise AssertionError("the local instance must never be ticked")


class Subtree(BaseActionSubtree):
    pass


def plugin(name, kind=Action):
    action = kind()
    model = SimpleNamespace(name=None, actor=None, get_children=list)
    action._set_base_properities(name, model, None)
    action._external_plugin_key, action._external_init_args = name, {}
    action.osc_source = ("t.osc", 1, 0)
    return action


@pytest.fixture(autouse=True)
def names(monkeypatch):
    monkeypatch.setattr(modifier, "_resolve", lambda text: (Target(text), None))


def at(name, **values):
    return {"endpoint": name, "heartbeat_failure_timeout": 0.0, "setup_timeout": 10.0, **values}


def where(tree):
    return {n.name: n.target.name for n in tree.iterate() if isinstance(n, RemoteAction)}


def test_on_an_action_a_proxy_takes_its_place():
    proxy = remote(plugin("log"), at("lab-pc", heartbeat_failure_timeout=3.0, setup_timeout=4.0))
    assert isinstance(proxy, RemoteAction) and proxy.name == "log"
    assert (proxy.heartbeat_failure_timeout, proxy.setup_timeout) == (3.0, 4.0)


def test_on_a_composition_every_action_inside_is_replaced_where_it_stands():
    inner = py_trees.composites.Parallel("p", py_trees.common.ParallelPolicy.SuccessOnAll())
    inner.add_children([plugin("b"), py_trees.behaviours.Running("wait")])
    outer = py_trees.composites.Sequence("s", memory=True, children=[plugin("a"), inner])
    tree = remote(outer, at("lab-pc"))
    assert isinstance(tree, py_trees.decorators.PassThrough) and tree.decorated is outer
    assert [n.name for n in outer.children] == ["a", "p"]
    assert [n.name for n in inner.children] == ["b", "wait"]
    assert where(tree) == {"a": "lab-pc", "b": "lab-pc"}
    assert all(child.parent is node for node in tree.iterate() for child in node.children)


def test_inside_of_other_modifiers_the_modifiers_stay_where_they_are():
    retry = py_trees.decorators.Retry("retry", plugin("a"), 2)
    tree = remote(retry, at("lab-pc"))
    assert tree.decorated is retry
    assert retry.decorated is retry.children[0] and isinstance(retry.decorated, RemoteAction)


def test_the_innermost_remote_wins():
    sequence = py_trees.composites.Sequence("s", memory=True)
    sequence.add_children([remote(plugin("a"), at("near")), plugin("b")])
    assert where(remote(sequence, at("far"))) == {"a": "near", "b": "far"}
    assert where(remote(remote(plugin("c"), at("near")), at("far"))) == {"c": "near"}


def test_conditions_without_a_plugin_stay_local():
    condition = Action()
    sequence = py_trees.composites.Sequence("s", memory=True, children=[condition])
    remote(sequence, at("lab-pc"))
    assert sequence.children == [condition]


def test_a_subtree_is_one_action():
    subtree = plugin("drive", Subtree)
    subtree.add_child(plugin("inside"))
    sequence = py_trees.composites.Sequence("s", memory=True, children=[subtree])
    tree = remote(sequence, at("lab-pc"))
    assert where(tree) == {"drive": "lab-pc"}
    assert len(sequence.children) == 1 and not sequence.children[0].children


@pytest.mark.parametrize("endpoint", [None, "", "  ", {}, 3])
def test_no_endpoint(endpoint):
    with pytest.raises(ValueError, match="endpoint"):
        remote(plugin("a"), at(endpoint))


@pytest.mark.parametrize("values", [{"setup_timeout": 0.0}, {"heartbeat_failure_timeout": -1.0}])
def test_impossible_times(values):
    with pytest.raises(ValueError, match="timeout"):
        remote(plugin("a"), at("lab-pc", **values))


def test_absent_times_have_defaults():
    proxy = remote(plugin("a"), {"endpoint": "lab-pc"})
    assert (proxy.heartbeat_failure_timeout, proxy.setup_timeout) == (0.0, 10.0)


def test_two_packages_that_provide_remote_are_named(monkeypatch):
    def points(**kwargs):
        found = []
        for name in ("one-package", "other-package"):
            point = EntryPoint("remote", "module:remote", modifier.ENTRY_POINTS)
            found.append(point._for(SimpleNamespace(name=name)))  # type: ignore[attr-defined]
        return EntryPoints(found)

    monkeypatch.setattr(modifier.importlib.metadata, "entry_points", points)
    modifier._modifier_distributions.cache_clear()
    try:
        with pytest.raises(ValueError, match="one-package, other-package"):
            remote(plugin("a"), at("lab-pc"))
    finally:
        modifier._modifier_distributions.cache_clear()


def test_a_stage_that_takes_long_is_named_once_and_not_during_a_question(monkeypatch):
    monkeypatch.setattr(modifier, "SAY_WAITING_S", 0.0)
    said = []
    opener = modifier._LauncherOpener(None, "test", lambda level, text: said.append((level, text)), None)
    opener._stages = {"lab-pc": [("setup", 1.0)], "up": [("tunnel", 1.0)], "down": [("connect", 1.0)]}
    opener._failed.add("down")
    over = threading.Event()
    thread = threading.Thread(target=opener._tell_slow, args=(over,))
    opener._asking = True
    thread.start()
    time.sleep(0.6)
    assert said == []
    opener._asking = False
    time.sleep(0.8)
    over.set()
    thread.join()
    assert said == [("info", "[lab-pc] setup …")]
