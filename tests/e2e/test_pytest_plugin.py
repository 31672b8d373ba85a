"""The fixture `se_remote_host` in a pytest run of its own, as somebody who tests robots has it."""

from __future__ import annotations

import subprocess
import sys
from importlib import metadata

import pytest
import sshd as private
from commandline import ENDS_WITHIN, Terminal


@pytest.fixture
def terminal(world):
    made = Terminal(world)
    yield made
    assert private.wait_until(lambda: not made.run_dir.exists(), 20)


def run_pytest(terminal, text, *options, folder=None):
    """A test file with this text in a folder of its own; the ended run."""
    folder = folder or terminal.folder
    folder.mkdir(exist_ok=True)
    (folder / "test_robot.py").write_text(text)
    known = {point.name for point in metadata.entry_points(group="pytest11")}
    plugin = [] if "se_remote" in known else ["-p", "launcher.pytest_plugin"]
    return subprocess.run(
        [sys.executable, "-m", "pytest", *plugin, "-p", "no:cacheprovider", "-rA", *options, "test_robot.py"],
        cwd=folder, env=terminal.environ, text=True, capture_output=True, timeout=ENDS_WITHIN,
    )  # fmt: skip


def test_calls_logs_and_the_end(terminal):
    done = run_pytest(
        terminal,
        """
import os

def test_first(se_remote_host):
    robot = se_remote_host("lab-pc")
    assert robot.started
    robot.call("run_process", command="sleep 7461", wait_for_shutdown=False)
    assert robot.call("run_process", command="echo hello").success
    assert "hello" in [line.text for line in robot.log]

def test_then(se_remote_host):
    assert not os.path.exists(RUN_DIR), "the first test's server has ended with it"
    assert se_remote_host("local-or-not").call("log", msg="x").success

def test_failing(se_remote_host):
    robot = se_remote_host("lab-pc")
    robot.call("run_process", command="sleep 7461", wait_for_shutdown=False)
    robot.call("log", msg="what the robot said")
    assert False
""".replace("RUN_DIR", repr(str(terminal.run_dir))),
    )
    assert done.returncode == 1 and "2 failed, 1 passed" in done.stdout, done.stdout
    assert "InventoryError" in done.stdout, "an unknown host is named as everywhere"
    report = done.stdout.partition("_ test_failing _")[2]
    assert f"se_remote.{terminal.name}" in report and "what the robot said" in report
    assert not [text for text in private.marked(terminal.world.mark) if "sleep 7461" in text]


def test_the_inventory_beside_the_test_or_the_one_that_is_named(terminal):
    text = "def test_it(se_remote_host):\n    assert se_remote_host('lab-pc').call('log', msg='x').success\n"
    below = terminal.folder / "below"
    assert run_pytest(terminal, text, folder=below).returncode == 0, "one above it counts"
    elsewhere = terminal.world.directory / "elsewhere"
    lost = run_pytest(terminal, text, folder=elsewhere)
    assert lost.returncode == 1 and "there is no inventory" in lost.stdout
    named = run_pytest(terminal, text, "--se-remote-inventory", "../work/se-remote.yaml", folder=elsewhere)
    assert named.returncode == 0, named.stdout


def test_a_project_that_does_not_use_it_does_not_notice(terminal):
    text = """
import sys

def test_nothing_is_imported():
    heavy = {"asyncssh", "zmq", "yaml", "asyncio", "scenario_execution", "launcher.api", "launcher.inventory"}
    assert heavy & set(sys.modules) == set()
"""
    done = run_pytest(terminal, text, "-W", "error", "--strict-markers", "--strict-config")
    assert done.returncode == 0, done.stdout
    assert "warning" not in done.stdout.lower()
