"""Context for actions: extensions of a session through the real command, and the ROS node over a stand-in."""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
from distributions import write_distribution
from scenario_tools import Running, Server, children_of, eventually, run_scenario

STANDIN = Path(__file__).parent / "standin_ros"

ACTIONS = """
import os, time
from contextlib import contextmanager
from py_trees.common import Status
from scenario_execution.actions.base_action import BaseAction


class Wants(BaseAction):
    '''Tells what setup() gave it under a name.'''

    def __init__(self, what: str):
        super().__init__()
        self.wanted = what

    def setup(self, **kwargs):
        self.found = kwargs[self.wanted]
        self.names = ",".join(sorted(kwargs))

    def execute(self):
        self.logger.info(f"{self.name} found {self.found} id {id(self.found)}")

    def update(self):
        return Status.SUCCESS

    def shutdown(self):
        self.logger.info(f"{self.name} shuts down")


class Listens(BaseAction):
    '''Succeeds by a callback of the node, after one that raises.'''

    def setup(self, **kwargs):
        self.node, self.heard = kwargs["node"], False

    def execute(self):
        self.node.callbacks += [lambda: 1 / 0, self.hear]

    def hear(self):
        self.heard = True

    def update(self):
        return Status.SUCCESS if self.heard else Status.RUNNING

    def shutdown(self):
        import rclpy
        rclpy.record("action.shutdown")


def note(session, text):
    session.logger.info(f"extension: {text}")


@contextmanager
def good(session):
    note(session, f"opened {session.tick_period}")
    yield {"lamp": "a lamp"}
    note(session, "closed")


def raises(session):
    raise OSError("no lamp")


@contextmanager
def greedy(session):
    yield {"logger": 1}


@contextmanager
def hangs(session):
    yield {"rope": "a rope"}
    time.sleep(1000)
"""

LIBRARY = """
import osc.types

action wants:
    what: string

action listens
"""

HEAD = "import osc.helpers\nimport osc.remote\nimport osc.wanting\n\n"


@pytest.fixture
def world(tmp_path):
    """Starts a server with these extensions installed, and scenarios on it."""
    started: list[Running] = []

    class World:
        def server(self, extensions=None, env=None):
            actions = {"wants": "Wants", "listens": "Listens"}
            groups = {"scenario_execution.actions": actions, "se_remote.context": extensions or {}}
            folder = write_distribution(tmp_path / "plugin", "wanting", ACTIONS, groups, LIBRARY)
            saved = dict(os.environ)
            os.environ.update(env or {})
            try:
                started.append(Server(tmp_path, folder))
            finally:
                os.environ.clear()
                os.environ.update(saved)
            self.plugin = folder
            return started[-1]

        def run(self, server, *actions, folder="run"):
            (tmp_path / folder).mkdir()
            text = HEAD + "scenario test:\n    do serial:\n"
            for action in actions:
                text += f'        {action} with:\n            remote("{server.path}")\n'
            started.append(run_scenario(tmp_path / folder, self.plugin, text, "-o", "."))
            return started[-1]

    yield World()
    for one in reversed(started):
        one.stop()


def lines(running: Running, word: str) -> list[str]:
    return [line.rpartition("] ")[2] for line in running.output.splitlines() if word in line]


def test_an_extension_is_opened_once_before_the_first_setup_and_closed_after_the_last_shutdown(world):
    server = world.server({"good": "good"})
    running = world.run(server, "wants('lamp')", "wants('lamp')")
    assert running.result() == 0, running.output
    first, second = lines(running, "found a lamp")
    assert first == second
    story = [line.replace("\x1b[0m", "") for line in lines(running, "")]
    story = [line for line in story if "extension" in line or "shuts" in line]
    assert story == ["extension: opened 0.1", "wants shuts down", "wants shuts down", "extension: closed"]


@pytest.mark.parametrize(
    ("extensions", "text"),
    [
        ({"broken": "raises"}, "the context extension 'broken' (wanting:raises) failed: OSError: no lamp"),
        ({"greedy": "greedy"}, "'greedy' (wanting:greedy) provides 'logger', which setup() gets from"),
        ({"a": "good", "b": "good"}, "'b' (wanting:good) and the context extension 'a' (wanting:good) both"),
        ({"gone": "missing"}, "the context extension 'gone' (wanting:missing) failed: AttributeError"),
    ],
    ids=["raises", "a name of ours", "one name twice", "not importable"],
)
def test_an_error_in_an_extension_is_a_setup_error_that_names_it(world, extensions, text):
    running = world.run(world.server(extensions), "wants('logger')", "log('never')")
    assert running.result() == 1
    assert text in running.output and "test.osc:7:8" in running.output


def test_an_extension_that_hangs_at_its_end_does_not_hold_up_the_end(world):
    server = world.server({"hangs": "hangs"})
    running = world.run(server, "wants('rope')")
    assert running.result() == 0, running.output
    eventually(lambda: len(children_of(server.process.pid)) == 2, "the worker is still there")


def test_without_ros_there_is_no_node_and_nothing_else_differs(world):
    server = world.server()
    running = world.run(server, "wants('node')")
    assert running.result() == 1
    assert "KeyError: 'node'" in running.output
    assert world.run(server, "wants('tick_period')", folder="other").result() == 0


def ros(tmp_path, **more):
    path = os.pathsep.join(p for p in (str(STANDIN), os.environ.get("PYTHONPATH", "")) if p)
    return {"PYTHONPATH": path, "STANDIN_ROS": str(tmp_path / "ros"), **more}


def test_a_session_has_a_node_that_spins_until_its_end(world, tmp_path):
    server = world.server(env=ros(tmp_path))
    for folder in ("one", "two"):
        running = world.run(server, "listens()", "wants('node')", folder=folder)
        assert running.result() == 0, running.output
        assert "a callback of the ROS node raised ZeroDivisionError" in running.output
    eventually(lambda: (tmp_path / "ros").read_text().count(" shutdown\n") == 2, "not shut down")
    told = [line.split() for line in (tmp_path / "ros").read_text().splitlines()]
    pids = sorted({pid for pid, *_ in told}, key=int)
    names = set()
    for pid in pids:
        (init, made, added, *rest) = [words for number, *words in told if number == pid]
        names.add(made[1])
        assert (init, made[0], added) == (["init", "NO"], "create_node", ["add_node", made[1]])
        assert [words[0] for words in rest] == [
            "spin",
            "spin",
            "action.shutdown",
            "executor.shutdown",
            "destroy_node",
            "shutdown",
        ]
    assert len(pids) == len(names) == 2
    assert all(re.fullmatch(r"[a-z][a-z0-9_]*", name) for name in names)


def test_ros_that_cannot_be_used_is_a_setup_error(world, tmp_path):
    server = world.server(env=ros(tmp_path, STANDIN_ROS_FAILS="1"))
    running = world.run(server, "wants('logger')")
    assert running.result() == 1
    assert "the context extension 'ros'" in running.output and "no middleware found" in running.output


def test_ros_made_for_another_python_disturbs_nobody_and_is_said(world, tmp_path):
    server = world.server(env=ros(tmp_path, STANDIN_ROS_OF_ANOTHER_PYTHON="1"))
    running = world.run(server, "wants('logger')")
    assert running.result() == 0, running.output
    assert "no ROS node for actions" in running.output and "_rclpy_pybind11" in running.output
