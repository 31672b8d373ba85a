"""Two scenario_execution processes on one server, at the same time: neither sees anything of the other."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest

sys.path.insert(0, str(Path(__file__).parent))
from distributions import write_distribution
from scenario_tools import Server, eventually, run_scenario

ACTIONS = """
import json, os, time
from pathlib import Path
import py_trees
from py_trees.common import Status
from scenario_execution.actions.base_action import BaseAction
from scenario_execution.scenario_execution_base import ScenarioExecutionConfig

SEEN = []


class Look(BaseAction):
    '''Writes down everything that it could share with another client.'''

    def __init__(self, word: str):
        super().__init__()
        SEEN.append(word)
        self.word = word

    def setup(self, **kwargs):
        self.kwargs = kwargs
        py_trees.blackboard.Blackboard.set(self.word, self.word)

    def execute(self):
        config = ScenarioExecutionConfig()
        kwargs = self.kwargs
        found = {
            "pid": os.getpid(),
            "seen": SEEN,
            "blackboard": sorted(py_trees.blackboard.Blackboard.storage),
            "cwd": os.getcwd(),
            "output_dir": kwargs["output_dir"],
            "input_dir": kwargs["input_dir"],
            "config": [config.scenario_file_directory, config.output_directory],
            "tick_period": kwargs["tick_period"],
            "registry": sorted(str(key) for key in vars(kwargs["process_registry"]).values()),
        }
        Path(f"look-{self.word}.json").write_text(json.dumps(found))
        Path(kwargs["output_dir"], "written").write_text(self.word)
        self.logger.info(f"only for {self.word}")

    def update(self):
        return Status.SUCCESS


class Updates(BaseAction):
    '''Runs for so many updates, from when a file is there.'''

    def execute(self, file: str, updates: int):
        self.file, self.left = file, updates

    def update(self):
        if os.path.exists(self.file):
            self.left -= 1
        return Status.RUNNING if self.left > 0 else Status.SUCCESS


class Block(BaseAction):
    '''Blocks in update() until a file is there, then takes the whole process along.'''

    def execute(self, here: str, go: str):
        self.here, self.file = here, go

    def update(self):
        Path(self.here).touch()
        while not os.path.exists(self.file):
            time.sleep(0.02)
        os._exit(9)
"""

LIBRARY = """
import osc.types

action look:
    word: string

action updates:
    file: string
    updates: int

action block:
    here: string
    go: string
"""


@pytest.fixture
def plugin(tmp_path):
    points = {"look": "Look", "updates": "Updates", "block": "Block"}
    groups = {"scenario_execution.actions": points}
    return write_distribution(tmp_path / "plugin", "twofold", ACTIONS, groups, LIBRARY)


@pytest.fixture
def server(plugin, tmp_path):
    server = Server(tmp_path, plugin)
    yield server
    server.stop()


def passed(folder: Path) -> bool:
    return ElementTree.parse(folder / "out" / "test.xml").getroot().get("failures") == "0"


def test_two_clients_see_nothing_of_each_other(server, plugin, tmp_path):
    blocks, go = tmp_path / "blocks", tmp_path / "go"
    bodies = {
        "good": [f"updates('{blocks}', 20)"],
        "bad": [f"block('{blocks}', '{go}')"],
    }
    runs = {}
    try:
        for name, actions in bodies.items():
            (tmp_path / name).mkdir()
            text = "import osc.helpers\nimport osc.remote\nimport osc.twofold\n\n"
            text += "scenario test:\n    do serial:\n        job: run_process('sleep 0.1') with:\n"
            text += f'            remote("{server.path}")\n'
            for action in (f"look('{name}')", *actions):
                text += f'        {action} with:\n            remote("{server.path}")\n'
            options = ["-o", "out", "-s", "0.05" if name == "good" else "0.1"]
            runs[name] = run_scenario(tmp_path / name, plugin, text, *options)
        # The one ends while an action of the other one still blocks.
        assert runs["good"].result() == 0, runs["good"].output
        assert blocks.exists() and runs["bad"].process.poll() is None
        eventually(lambda: "has been busy in" in runs["bad"].output, "nobody was told who is busy")
        go.touch()
        assert runs["bad"].result() == 1
    finally:
        for run in runs.values():
            run.stop()
    assert "exit code 9" in runs["bad"].output
    assert passed(tmp_path / "good") and not passed(tmp_path / "bad")
    assert "busy" not in runs["good"].output and "exit code 9" not in runs["good"].output
    looks = {name: json.loads((tmp_path / name / f"look-{name}.json").read_text()) for name in runs}
    assert looks["good"]["pid"] != looks["bad"]["pid"]
    for name, look in looks.items():
        folder, out = str(tmp_path / name), str(tmp_path / name / "out")
        assert (look["cwd"], look["input_dir"], look["output_dir"]) == (folder, folder, out)
        assert look["config"] == [folder, out]
        assert look["seen"] == [name]
        assert look["tick_period"] == (0.05 if name == "good" else 0.1)
        assert (tmp_path / name / "out" / "written").read_text() == name
        others = [other for other in runs if other != name]
        assert f"only for {name}" in runs[name].output
        assert not [other for other in others if f"only for {other}" in runs[name].output]
        assert not [key for key in look["blackboard"] for other in others if other in key]


def test_many_clients_come_and_go_while_one_runs(server, plugin, tmp_path):
    """The same file, run by several at once: labels, actions and results do not mix."""
    runs = []
    try:
        for number in range(4):
            folder = tmp_path / f"client{number}"
            folder.mkdir()
            text = "import osc.helpers\nimport osc.remote\n\nscenario test:\n    do parallel:\n"
            for _ in range(5):
                command = f"echo word-{number}"
                text += f'        run_process("{command}") with:\n            remote("{server.path}")\n'
            runs.append(run_scenario(folder, plugin, text))
        for number, run in enumerate(runs):
            assert run.result() == 0, run.output
            assert run.output.count(f"word-{number}") == 5
            assert run.output.count("word-") == 5
    finally:
        for run in runs:
            run.stop()
