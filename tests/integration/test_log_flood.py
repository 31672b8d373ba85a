"""A flood of log lines from an action: counted where lines are missing, and the end comes."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
from scenario_tools import BIN, ENDS_WITHIN, Server, environment, run_scenario, write_plugin

LINES = 60_000

FLOOD = f"""
from py_trees.common import Status
from scenario_execution.actions.base_action import BaseAction


class Flood(BaseAction):
    def execute(self):
        for number in range({LINES}):
            self.logger.info(f"flood {{number}}")
    def update(self):
        return Status.SUCCESS
"""

SCENARIO = """
import osc.flood
import osc.helpers
import osc.remote

scenario flooded:
    do serial:
        flood() with:
            remote("{endpoint}")
        log("after the flood")
"""


@pytest.fixture(scope="module")
def plugin(tmp_path_factory):
    folder = write_plugin(tmp_path_factory.mktemp("plugin"))
    package = folder / "flood_actions"
    (package / "lib_osc").mkdir(parents=True)
    library = '\n\ndef library():\n    return "flood_actions", "flood.osc"\n'
    (package / "__init__.py").write_text(FLOOD + library)
    (package / "lib_osc" / "flood.osc").write_text("action flood\n")
    info = folder / "flood_actions-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: flood-actions\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(
        "[scenario_execution.actions]\nflood = flood_actions:Flood\n\n"
        "[scenario_execution.osc_libraries]\nflood = flood_actions:library\n"
    )
    return folder


@pytest.fixture(scope="module")
def server(plugin, tmp_path_factory):
    server = Server(tmp_path_factory.mktemp("server"), plugin)
    yield server
    server.stop()


def accounted(output: str) -> int:
    """Lines of the flood that were printed, and those that a line says are missing."""
    missing = re.findall(r"(\d+) log lines were dropped", output)
    return len(re.findall(r"\] flood \d+", output)) + sum(map(int, missing))


def test_every_line_is_printed_or_counted(server, plugin, tmp_path):
    running = run_scenario(tmp_path, plugin, SCENARIO.format(endpoint=server.path))
    try:
        assert running.result() == 0, running.output[-2000:]
    finally:
        running.stop()
    assert accounted(running.output) >= LINES
    assert "log lines were dropped on the host" in running.output
    # Not a number for every line: the notices are few.
    assert running.output.count("were dropped") < 100
    assert running.output.index("after the flood") < running.output.index("succeeded")


def test_a_slow_terminal_does_not_hold_up_the_end(server, plugin, tmp_path):
    (tmp_path / "test.osc").write_text(SCENARIO.format(endpoint=server.path))
    process = subprocess.Popen(
        [str(BIN / "scenario_execution"), "test.osc"],
        cwd=tmp_path, env=environment(plugin), stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip
    try:
        assert process.stdout is not None
        printed = []
        deadline = time.monotonic() + ENDS_WITHIN
        while data := os.read(process.stdout.fileno(), 2000):
            printed.append(data)
            assert time.monotonic() < deadline
            if len(printed) < 40:
                time.sleep(0.05)
        assert process.wait(ENDS_WITHIN) == 0
    finally:
        process.kill()
        process.wait()
        process.stdout.close()
    output = b"".join(printed).decode()
    assert "succeeded" in output and accounted(output) >= LINES
