"""Hosts of the inventory on this machine: the whole journey without SSH (that is in e2e)."""

from __future__ import annotations

import os
import sys
import uuid
from pathlib import Path
from xml.etree import ElementTree

import pytest

sys.path.insert(0, str(Path(__file__).parent))
from scenario_tools import (
    SIGINT,
    SIGKILL,
    SIGTERM,
    Running,
    commands_running,
    eventually,
    run_scenario,
)

HEAD = "import osc.helpers\nimport osc.remote\nimport osc.demo\n\n"


class Host:
    """A host with a name of its own, so that runs of others on this machine do not matter."""

    def __init__(self, name: str, plugin: Path) -> None:
        self.name = name
        self.run_dir = Path(f"/tmp/se-remote-{os.getuid()}") / name
        keys = f"machine: local, python: {sys.executable}, lease: 3s, EXTRA env: {{PYTHONPATH: {plugin}}}"
        self.entry = f"  {name}: {{{keys}}}\n"

    def is_clean(self) -> bool:
        return not self.run_dir.exists() and not commands_running(str(self.run_dir))


@pytest.fixture
def hosts(plugin):
    made = [Host(f"t{uuid.uuid4().hex[:10]}", plugin) for _ in range(2)]
    yield made
    for host in made:
        eventually(host.is_clean, f"something of {host.name} is left")


@pytest.fixture
def run(hosts, plugin, tmp_path):
    runs: list[Running] = []

    def start(body: str, *options: str, extra: str = "") -> Running:
        entries = "".join(host.entry for host in hosts).replace("EXTRA", extra)
        (tmp_path / "se-remote.yaml").write_text("hosts:\n" + entries)
        for number, host in enumerate(hosts):
            body = body.replace(f"HOST{number}", host.name)
        runs.append(run_scenario(tmp_path, plugin, HEAD + body, "-o", ".", *options))
        return runs[-1]

    yield start
    for one in runs:
        one.stop()


def scenario(body: str, name: str = "test") -> str:
    return f"scenario {name}:\n    timeout(40s)\n    do serial:\n{body}\n\n"


def action(text: str, host: str = "HOST0") -> str:
    return f'        {text} with:\n            remote("{host}")\n'


def failures(tmp_path) -> list[bool]:
    cases = ElementTree.parse(tmp_path / "test.xml").getroot().iter("testcase")
    return [case.find("failure") is not None for case in cases]


def test_two_hosts_are_brought_up_used_and_taken_down(run, hosts):
    running = run(scenario(action('log("one")') + action('log("two")', "HOST1")))
    assert running.result() == 0, running.output
    for host, text in zip(hosts, ("one", "two"), strict=True):
        assert f"[{host.name}] server started on local" in running.output
        assert f"[{host.name}] {text}" in running.output
        assert host.is_clean()


def test_hosts_stay_up_between_the_scenarios_of_a_file(run, hosts):
    running = run(scenario(action('log("one")'), "first") + scenario(action('log("two")'), "second"))
    assert running.result() == 0, running.output
    assert running.output.count("server started") == 1
    assert hosts[0].is_clean()


def test_a_parameter_of_the_scenario_names_the_host(run, hosts):
    text = scenario(action('log("x")')).replace('remote("HOST0")', "remote(robot)")
    running = run(text.replace("    do serial", '    robot: string = "HOST0"\n    do serial'))
    assert running.result() == 0, running.output


def test_an_unknown_name_is_a_parse_error_with_position_and_a_close_match(run, hosts, tmp_path):
    running = run(scenario(action('log("x")', "HOST0x")))
    assert running.result() == 1
    assert "did you mean" in running.output and "line: 9" in running.output
    assert "Traceback" not in running.output
    assert failures(tmp_path) == [True]


def test_a_dry_run_starts_nothing(run, hosts):
    running = run(scenario(action('log("x")')), "-n")
    assert running.result() == 0, running.output
    assert not hosts[0].run_dir.exists()


def test_a_host_that_does_not_start_fails_the_setup_with_stage_cause_and_next_step(run, hosts, tmp_path):
    running = run(scenario(action('log("x")')), extra='setup: "echo broken >&2; exit 3",')
    assert running.result() == 1
    assert f"{hosts[0].name}: setup:" in running.output and "broken" in running.output
    assert failures(tmp_path) == [True]


def test_ctrl_c_during_the_bring_up(run, hosts, tmp_path):
    running = run(scenario(action('log("x")')), extra='setup: "sleep 601.1", ready_timeout: 60s,')
    eventually(lambda: commands_running("601.1"), "the bring-up did not start")
    running.signal(SIGINT)
    assert running.result() == 1
    assert "aborted by SIGINT" in running.output
    assert failures(tmp_path) == [True]
    eventually(lambda: not commands_running("601.1"), "the setup shell is left")


@pytest.mark.parametrize("number", [SIGINT, SIGTERM])
def test_a_signal_while_an_action_runs(run, hosts, number, tmp_path):
    running = run(scenario(action('run_process("sleep 601.2")')))
    eventually(lambda: commands_running("601.2"), "it did not start")
    running.signal(number)
    assert running.result() == 1
    assert failures(tmp_path) == [True]
    assert hosts[0].is_clean() and not commands_running("601.2")


def test_a_client_that_is_killed_leaves_nothing_behind(run, hosts):
    running = run(scenario(action('run_process("sleep 601.3")')))
    eventually(lambda: commands_running("601.3"), "it did not start")
    running.signal(SIGKILL)
    running.result()
    eventually(hosts[0].is_clean, "the lease did not end the server")
    assert not commands_running("601.3")
