"""`--simulation`: with `remote`, the same counts, times and statuses as without, tick by tick."""

from __future__ import annotations

import json
import os
import signal
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest

sys.path.insert(0, str(Path(__file__).parent))
from distributions import write_distribution
from scenario_tools import (
    SIGINT,
    SIGKILL,
    Server,
    children_of,
    commands_running,
    eventually,
    run_scenario,
)

ACTIONS = '''
import os, time
from py_trees.common import Status
from scenario_execution.actions.base_action import BaseAction
from scenario_execution.simulation import Clock


class Timed(BaseAction):
    """Runs for so many simulated seconds and tells how many updates it saw, and when."""

    def setup(self, **kwargs):
        self.clock, self.host_clock = kwargs["clock"], kwargs["host_clock"]
        assert isinstance(self.clock, Clock) and self.clock is not self.host_clock
        self.period, self.runs = kwargs["tick_period"], 0

    def execute(self, seconds: float, then: str):
        self.begin, self.seconds, self.then = self.clock.now(), seconds, then
        self.updates, self.times = 0, 0.0
        self.runs += 1

    def update(self):
        self.updates += 1
        now = self.clock.now()
        self.times += now
        self.feedback_message = f"run {self.runs}: {self.updates} updates, at {now!r}, sum {self.times!r}"
        if now - self.begin < self.seconds:
            return Status.RUNNING
        failed = self.then == "fail" or (self.then == "fail once" and self.runs == 1)
        return Status.FAILURE if failed else Status.SUCCESS

    def terminate(self, new_status):
        if new_status == Status.INVALID:
            self.logger.info(f"{self.name} stopped after {self.updates} updates at {self.clock.now()!r}")


class Slow(BaseAction):
    """Needs real time in which no simulated time passes."""

    def setup(self, **kwargs):
        self.clock = kwargs["clock"]

    def execute(self, updates: int):
        self.left, self.seen = updates, []

    def update(self):
        time.sleep(0.3)
        self.left -= 1
        self.feedback_message = f"at {self.clock.now()!r}"
        return Status.RUNNING if self.left else Status.SUCCESS


class Asks(BaseAction):
    def __init__(self, how: str):
        super().__init__()
        self.how = how

    def setup(self, **kwargs):
        self.get_simulation(kwargs) if self.how == "method" else kwargs["simulation"]

    def execute(self):
        pass

    def update(self):
        return Status.SUCCESS
'''

LIBRARY = """
import osc.types

action timed:
    seconds: float
    then: string = ""

action slow:
    updates: int

action asks:
    how: string
"""

SIMULATION = """
from scenario_execution.simulation import SimulationInterface

class Simulation(SimulationInterface):
    steps = 0

    @property
    def dt(self):
        return 0.01

    def step(self):
        self.steps += 1

    def shutdown(self):
        print(f"{self.steps} steps")
"""

HEAD = "import osc.helpers\nimport osc.remote\nimport osc.simulated\n\n"


@pytest.fixture(scope="module")
def plugin(tmp_path_factory):
    points = {"timed": "Timed", "slow": "Slow", "asks": "Asks"}
    folder = tmp_path_factory.mktemp("plugin")
    groups = {"scenario_execution.actions": points}
    return write_distribution(folder, "simulated", ACTIONS, groups, LIBRARY)


@pytest.fixture
def servers(plugin, tmp_path):
    found = [Server(tmp_path, plugin, name=name) for name in ("one", "two")]
    yield found
    for server in found:
        server.stop()


@pytest.fixture
def run(plugin, tmp_path):
    runs = []

    def start(folder, body, *remotes):
        """REMOTE and REMOTE2 become the modifiers, or nothing."""
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "simulation.py").write_text(SIMULATION)
        here = [f'remote("{server.path}", heartbeat_failure_timeout: 3s)' for server in remotes]
        text = body.replace("REMOTE2", here[-1]).replace("REMOTE", here[0]) if here else without(body)
        text = HEAD + (text if "scenario " in text else f"scenario test:\n    do serial:\n{text}")
        options = ["--simulation", "simulation.py:Simulation", "--bt-log", "-o", "."]
        runs.append(run_scenario(tmp_path / folder, plugin, text, *options))
        return runs[-1]

    yield start
    for one in runs:
        one.stop()


def without(body: str) -> str:
    """The body with no `remote` in it, and no `with:` that nothing follows."""
    lines = [line for line in body.splitlines() if "REMOTE" not in line]
    depths = [len(line) - len(line.lstrip()) for line in lines] + [0]
    kept = [
        line.removesuffix(" with:") if depths[number + 1] <= depths[number] else line
        for number, line in enumerate(lines)
    ]
    return "\n".join(kept) + "\n"


def history(folder: Path):
    """Every change of status of the tree: when, which, what, with which feedback."""
    lines = [json.loads(line) for line in (folder / "behaviors.jsonl").read_text().splitlines()[1:]]
    keys = ("timestamp", "behavior_name", "type", "status", "feedback_message", "is_active", "child_index")
    return [tuple(line[key] for key in keys) for line in lines]


def steps(output: str) -> str:
    return next(line for line in output.splitlines() if line.endswith(" steps"))


def told(output: str) -> list[str]:
    """What the actions logged, without who said it."""
    lines = [line for line in output.splitlines() if " stopped after " in line]
    return [line.rpartition("] ")[2].rpartition(": ")[2] for line in lines]


CASES = {
    "thousands of ticks": "        timed(25.0) with:\n            REMOTE\n",
    "serial": "".join(f"        timed({n / 100}) with:\n            REMOTE\n" for n in range(6)),
    "parallel on two hosts": """
        parallel:
            timed(0.5) with:
                REMOTE
            timed(0.7) with:
                REMOTE2
            timed(0.3) with:
                REMOTE2
            timed(0.3)
            wait elapsed(0.6s)
""",
    "one_of": """
        one_of:
            timed(0.5) with:
                REMOTE
            timed(9.0) with:
                REMOTE2
""",
    "timeout": """
        timed(9.0) with:
            failure_is_success()
            timeout(0.5s)
            REMOTE
        timed(0.1) with:
            REMOTE
""",
    "until": """
        timed(9.0) with:
            REMOTE
            until elapsed(0.35s)
        timed(0.1) with:
            REMOTE
""",
    "retry": """
        timed(0.2, "fail once") with:
            retry(3)
            REMOTE
""",
    "repeat": """
        timed(0.1) with:
            repeat(4)
            REMOTE
        serial:
            repeat(2)
            timed(0.0) with:
                REMOTE
            wait elapsed(0.05s)
            timed(0.05) with:
                REMOTE
""",
    "failure": "        timed(0.4, 'fail') with:\n            REMOTE\n",
    "variables": """
scenario test:
    var n: int = 0
    do serial:
        parallel:
            serial:
                wait n == 3
                timed(0.05) with:
                    REMOTE
            serial:
                increment(n) with:
                    REMOTE
                timed(0.1) with:
                    REMOTE
                increment(n)
                wait elapsed(0.1s)
                increment(n) with:
                    REMOTE2
        compare(n, "==", 3) with:
            REMOTE
""",
    "two scenarios": """
scenario first:
    do serial:
        timed(0.3) with:
            REMOTE

scenario second:
    do serial:
        wait elapsed(0.1s)
        timed(0.2) with:
            REMOTE
""",
}


@pytest.mark.parametrize("body", CASES.values(), ids=CASES)
def test_the_same_counts_times_and_statuses_as_locally(run, servers, body, tmp_path):
    local, remote = run("local", body), run("remote", body, *servers)
    assert local.result() == remote.result(), local.output + remote.output
    assert steps(local.output) == steps(remote.output)
    assert told(local.output) == told(remote.output)
    logs = [p.relative_to(tmp_path / "local") for p in (tmp_path / "local").rglob("behaviors.jsonl")]
    assert logs
    for log in logs:
        assert history((tmp_path / "remote" / log).parent) == history((tmp_path / "local" / log).parent)


def test_simulated_time_waits_for_a_slow_action(run, servers, tmp_path):
    running = run("run", "        slow(4) with:\n            REMOTE\n", *servers)
    assert running.result() == 0, running.output
    assert steps(running.output) == "4 steps"
    assert "at 0.04" in [line[4] for line in history(tmp_path / "run")]


@pytest.mark.parametrize("how", ["method", "key"])
def test_the_simulation_itself_cannot_be_reached(run, servers, how):
    running = run("run", f"        asks('{how}') with:\n            REMOTE\n", *servers)
    assert running.result() == 1
    assert "runs at the client and cannot be reached from a remote action" in running.output
    assert "Pass --simulation" not in running.output


def test_what_is_cancelled_ends_in_real_time(run, servers, tmp_path):
    script = tmp_path / "stubborn"
    script.write_text("#!/bin/sh\ntrap '' INT TERM\nsleep 603.1 & wait; wait; wait\nsleep 603.1\n")
    script.chmod(0o755)
    body = f"""
        run_process("{script}", shutdown_timeout: 1s) with:
            failure_is_success()
            timeout(0.05s)
            REMOTE
        run_process("true") with:
            REMOTE
"""
    running = run("run", body, *servers)
    assert running.result() == 0, running.output
    assert not commands_running("603.1")


def test_what_is_executed_again_while_it_still_ends_waits_for_that(run, servers, tmp_path):
    script = tmp_path / "stubborn"
    script.write_text("#!/bin/sh\ntrap '' INT TERM\nsleep 603.2 & wait; wait; wait\nsleep 603.2\n")
    script.chmod(0o755)
    body = f"""
        run_process("{script}", shutdown_timeout: 0.5s) with:
            repeat(3)
            failure_is_success()
            timeout(0.05s)
            REMOTE
"""
    running = run("run", body, *servers)
    assert running.result() == 0, running.output
    # Three times six ticks (the timeout is over when 0.05 s have been exceeded) and one that starts each.
    assert int(steps(running.output).split()[0]) in range(18, 22)
    assert not commands_running("603.2")


def runs(folder: Path) -> None:
    log = folder / "behaviors.jsonl"
    eventually(lambda: log.exists() and "RUNNING" in log.read_text(), "it did not start")


def cases(folder: Path):
    return [
        (case.get("name"), case.find("failure") is None)
        for case in ElementTree.parse(folder / "test.xml").getroot().iter("testcase")
    ]


@pytest.mark.parametrize("body", ["timed(1000000.0)", "slow(100000)"])
def test_ctrl_c(run, servers, tmp_path, body):
    running = run("run", f"        {body} with:\n            REMOTE\n", *servers)
    running.wait_for("connected")
    runs(tmp_path / "run")
    running.signal(SIGINT)
    assert running.result() == 1
    assert cases(tmp_path / "run") == [("test", False)]
    assert "Traceback" not in running.output
    assert steps(running.output)


@pytest.mark.parametrize("what", ["server", "worker", "silent"])
def test_a_lost_host_ends_the_wait(run, servers, tmp_path, what):
    body = """
        parallel:
            timed(1000000.0) with:
                REMOTE
            timed(1000000.0) with:
                REMOTE2
"""
    running = run("run", body, *servers)
    runs(tmp_path / "run")
    below = children_of(servers[0].process.pid)
    if what == "silent":
        for pid in below:
            os.kill(pid, signal.SIGSTOP)
    else:
        os.kill(below[-1] if what == "worker" else servers[0].process.pid, SIGKILL)
    try:
        assert running.result() == 1, running.output
    finally:
        for pid in below if what == "silent" else ():
            os.kill(pid, signal.SIGCONT)
    assert cases(tmp_path / "run") == [("test", False)]
    assert "Traceback" not in running.output


def test_a_server_that_speaks_only_v1_is_refused(run, plugin, tmp_path):
    server = Server(tmp_path, plugin, "v1", "old")
    try:
        running = run("run", "        timed(0.1) with:\n            REMOTE\n", server)
        assert running.result() == 1
        assert "has no simulated time" in running.output
    finally:
        server.stop()
