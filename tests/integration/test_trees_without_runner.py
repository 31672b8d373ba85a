"""A py_trees tree that nobody of scenario_execution drives: shutdown(), exit and Ctrl-C end what runs."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
from scenario_tools import (
    SIGINT,
    SIGTERM,
    Running,
    Server,
    commands_running,
    environment,
    eventually,
)

PROGRAM = """
import sys, time
from types import SimpleNamespace
import py_trees
from scenario_execution.actions.run_process import RunProcess
from remote_exec.modifier import remote

def action(name, command):
    action = RunProcess()
    model = SimpleNamespace(name=None, actor=None, get_children=lambda: [],
                            get_resolved_value=lambda blackboard, skip_keys: {"command": command})
    action._set_base_properities(name, model, None)
    action._external_plugin_key, action._external_init_args = "run_process", {}
    return action

here = {"endpoint": sys.argv[1]}
root = py_trees.composites.Sequence("root", memory=True)
root.add_child(remote(action("first", "echo hello"), here))
root.add_child(remote(action("second", sys.argv[2]), here))
tree = py_trees.trees.BehaviourTree(root)
tree.setup(tick_period=0.1)
print("set up", flush=True)
while root.status in (py_trees.common.Status.INVALID, py_trees.common.Status.RUNNING):
    tree.tick()
    time.sleep(0.1)
    if len(sys.argv) > 3 and tree.count == 5:
        break
print("status", root.status.name, flush=True)
if "shutdown" in sys.argv:
    tree.shutdown()
    tree.shutdown()
    print("shut down", flush=True)
"""


@pytest.fixture(scope="module")
def server(plugin, tmp_path_factory):
    server = Server(tmp_path_factory.mktemp("server"), plugin)
    yield server
    server.stop()


@pytest.fixture
def run(server, plugin, tmp_path):
    runs: list[Running] = []

    def start(*arguments: str) -> Running:
        (tmp_path / "program.py").write_text(PROGRAM)
        argv = [sys.executable, "-X", "dev", "program.py", str(server.path), *arguments]
        runs.append(Running(argv, tmp_path, environment(plugin)))
        return runs[-1]

    yield start
    for one in runs:
        one.stop()


def test_a_tree_of_its_own(run, server):
    running = run("true")
    assert running.result() == 0, running.output
    assert "status SUCCESS" in running.output and f"[{server.path}] hello" in running.output
    assert "Warning" not in running.output.replace("DeprecationWarning", "")


@pytest.mark.parametrize("how", ["shutdown", "exit"])
def test_the_end_of_the_tree_ends_what_runs(run, how):
    running = run("sleep 602.1", how)
    assert running.result() == 0, running.output
    assert "status RUNNING" in running.output
    assert not commands_running("602.1")


@pytest.mark.parametrize(("number", "code"), [(SIGINT, -SIGINT), (SIGTERM, 128 + SIGTERM)])
def test_a_signal_ends_it_orderly(run, number, code):
    running = run("sleep 602.2")
    running.wait_for("set up")
    eventually(lambda: len(commands_running("602.2")) > 1, "it did not start")
    running.signal(number)
    assert running.result() == code, running.output
    assert not commands_running("602.2")
