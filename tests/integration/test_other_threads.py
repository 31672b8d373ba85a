"""A runner of the ROS kind: ticks come from an executor's threads, and shutdown() of the tree comes twice."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest

sys.path.insert(0, str(Path(__file__).parent))
from scenario_tools import (
    SIGINT,
    Running,
    Server,
    children_of,
    commands_running,
    environment,
    eventually,
)

RUNNER = '''
"""As the ROS runner: no signal handlers of the base class, ticks by a timer of an executor."""
import signal, sys, threading, time
from concurrent.futures import ThreadPoolExecutor
from scenario_execution.scenario_execution_base import ScenarioExecution


class Runner(ScenarioExecution):
    def __init__(self, file, out):
        super().__init__(False, False, False, file, out, register_signal=False, tick_period=0.05)
        self.executor = ThreadPoolExecutor(4, thread_name_prefix="executor")
        self.over = threading.Event()
        self.shutdowns = []

    def run(self):
        self.tick_threads = set()
        for tree, *_ in self.scenarios_list:
            self.over.clear()
            try:
                self.setup(tree, node="a node")
            except Exception as e:
                self.fail_from_exception("Setup failed", e)
                break
            try:
                while not self.over.wait(self.tick_period):
                    # The timer's callback: each time whichever thread is free, one at a time.
                    self.executor.submit(self.tick).result()
            except KeyboardInterrupt:
                self.on_scenario_shutdown(False, "Aborted")
                for shutdown in self.shutdowns:
                    shutdown.result()
                break
            for shutdown in self.shutdowns:
                shutdown.result()
        main = threading.main_thread().name in self.tick_threads
        print("tick threads", len(self.tick_threads), "main", main)

    def tick(self):
        threading.Event().wait(0.001)
        self.tick_threads.add(threading.current_thread().name)
        self.behaviour_tree.tick()

    def on_scenario_shutdown(self, *args):
        super().on_scenario_shutdown(*args)
        self.shutdowns = [self.executor.submit(self.behaviour_tree.shutdown) for _ in range(2)]
        self.over.set()


signal.signal(signal.SIGINT, signal.default_int_handler)
runner = Runner("test.osc", ".")
code = 1
if runner.parse():
    runner.run()
    code = 0 if runner.process_results() else 1
sys.exit(code)
'''

HEAD = "import osc.helpers\nimport osc.remote\nimport osc.demo\n\n"


@pytest.fixture
def server(plugin, tmp_path):
    server = Server(tmp_path, plugin)
    yield server
    server.stop()


@pytest.fixture
def run(server, plugin, tmp_path):
    runs: list[Running] = []

    def start(*bodies: str) -> Running:
        text = HEAD
        for number, body in enumerate(bodies):
            text += f"scenario test{number}:\n    timeout(50s)\n    do serial:\n{body}\n\n"
        (tmp_path / "test.osc").write_text(text.replace("REMOTE", f'remote("{server.path}")'))
        (tmp_path / "runner.py").write_text(RUNNER)
        argv = [sys.executable, "-X", "dev", "runner.py"]
        runs.append(Running(argv, tmp_path, environment(plugin)))
        return runs[-1]

    yield start
    for one in runs:
        one.stop()


def action(text: str) -> str:
    return f"        {text} with:\n            REMOTE\n"


def results(folder: Path) -> list[bool]:
    cases = ElementTree.parse(folder / "test.xml").getroot().iter("testcase")
    return [case.find("failure") is None for case in cases]


def workers(server: Server) -> int:
    """Processes below the server beyond its own two."""
    return len(children_of(server.process.pid)) - 2


def test_scenarios_ticked_by_other_threads(run, server, tmp_path):
    first = action("demo_count(20)") + action("run_process('sleep 604.1', wait_for_shutdown: false)")
    running = run(first, action("demo_flaky(1)").replace("REMOTE", "retry(3)\n            REMOTE"))
    assert running.result() == 0, running.output
    assert results(tmp_path) == [True, True]
    (threads,) = re.findall(r"tick threads (\d+) main False", running.output)
    assert int(threads) > 1
    assert "Traceback" not in running.output and "Error" not in running.output
    assert not commands_running("604.1")
    eventually(lambda: workers(server) == 0, "a session is still there")


def test_a_failure(run, tmp_path):
    running = run(action("demo_trouble('update')"))
    assert running.result() == 1
    assert results(tmp_path) == [False]
    assert "trouble in update" in running.output


def test_ctrl_c_is_an_exception_there(run, server, tmp_path):
    running = run(action("run_process('sleep 604.2')"))
    eventually(lambda: commands_running("604.2"), "it did not start")
    running.signal(SIGINT)
    assert running.result() == 1, running.output
    assert results(tmp_path) == [False]
    assert not commands_running("604.2")
    eventually(lambda: workers(server) == 0, "a session is still there")
