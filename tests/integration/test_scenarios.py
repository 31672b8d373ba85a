"""The real `scenario_execution` command against real servers at a direct address.

Where a test is about something that both vocabularies carry, it runs over our server and over one that speaks
only v1. How runs end (signals, crashes, lost servers) is in test_scenario_endings.py.
"""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest

sys.path.insert(0, str(Path(__file__).parent))
from scenario_tools import Running, Server, commands_running, eventually, run_scenario


@pytest.fixture(scope="module", params=["ours", "v1"])
def any_server(request, plugin, tmp_path_factory):
    server = Server(tmp_path_factory.mktemp("server"), plugin, request.param)
    server.kind = request.param
    yield server
    server.stop()


@pytest.fixture(scope="module")
def server(plugin, tmp_path_factory):
    server = Server(tmp_path_factory.mktemp("server"), plugin)
    yield server
    server.stop()


HEAD = "import osc.helpers\nimport osc.remote\nimport osc.demo\n\n"


def scenario(body: str, server: Server, name: str = "test") -> str:
    """A scenario with this body; REMOTE stands for the modifier's invocation."""
    body = body.strip("\n").replace("REMOTE", f'remote("{server.path}")')
    return f"scenario {name}:\n    timeout(40s)\n    do serial:\n{body}\n\n"


@pytest.fixture
def run(tmp_path, plugin):
    runs: list[Running] = []

    def start(server, body: str, *options: str) -> Running:
        """`body` of a scenario, or whole scenarios."""
        text = body if "scenario " in body else scenario(body, server)
        text = text.replace("REMOTE", f'remote("{server.path}")')
        runs.append(run_scenario(tmp_path, plugin, HEAD + text, *options))
        return runs[-1]

    yield start
    for one in runs:
        one.stop()


def succeeds(running: Running) -> str:
    assert running.result() == 0, running.output
    assert "Traceback" not in running.output
    return running.output


def fails(running: Running) -> str:
    assert running.result() == 1, running.output
    return running.output


# --- what both vocabularies carry


BOTH = {
    "serial": """
        log("a") with:
            REMOTE
        run_process("true") with:
            REMOTE
    """,
    "parallel": """
        parallel:
            demo_count(3) with:
                REMOTE
            demo_count(5) with:
                REMOTE
            wait elapsed(0.1s)
    """,
    "one_of": """
        one_of:
            demo_count(3) with:
                REMOTE
            demo_count(100000) with:
                REMOTE
    """,
    "retry": """
        demo_flaky(2) with:
            retry(3)
            REMOTE
    """,
    "repeat": """
        demo_count(2) with:
            repeat(3)
            REMOTE
    """,
    "repeat around a composition": """
        serial:
            repeat(2)
            log("x") with:
                REMOTE
            demo_count(2) with:
                REMOTE
    """,
    "inverter": """
        run_process("false") with:
            inverter()
            REMOTE
    """,
    "failure is success": """
        run_process("false") with:
            failure_is_success()
            REMOTE
    """,
    "timeout around": """
        demo_count(100000) with:
            failure_is_success()
            timeout(0.5s)
            REMOTE
    """,
    "until": """
        demo_count(100000) with:
            REMOTE
            until elapsed(0.5s)
    """,
    "label": """
        first: run_process("true") with:
            REMOTE
        second: run_process("true") with:
            REMOTE
    """,
    "on a composition": """
        serial:
            REMOTE
            log("x")
            wait elapsed(0.1s)
            parallel:
                demo_count(2)
                demo_count(3)
    """,
    "outside of another modifier": """
        demo_flaky(1) with:
            REMOTE
            retry(2)
    """,
    "process parameters": """
        run_process("sleep 0.3", wait_for_shutdown: true, shutdown_signal: signal!sigint) with:
            REMOTE
        run_process(command: "sleep 600.125", wait_for_shutdown: false, shutdown_timeout: 3s) with:
            REMOTE
    """,
    "compare literals": """
        compare("a", "==", "a") with:
            REMOTE
        compare("1", "!=", "2") with:
            REMOTE
    """,
}


@pytest.mark.parametrize("body", BOTH.values(), ids=BOTH.keys())
def test_scenarios_succeed(any_server, run, body):
    output = succeeds(run(any_server, body))
    assert "Tick too long" not in output
    eventually(lambda: not commands_running("600.125"), "a process was left behind")


FAILING = {
    "process": 'run_process("false")',
    "compare": 'compare("a", "==", "b")',
    "execute": 'demo_trouble("execute")',
    "update": 'demo_trouble("update")',
}


@pytest.mark.parametrize("action", FAILING.values(), ids=FAILING.keys())
def test_failures_are_failures(any_server, run, action, tmp_path):
    output = fails(run(any_server, f"        {action} with:\n            REMOTE\n", "-o", "."))
    assert any_server.path.name in output
    (case,) = ElementTree.parse(tmp_path / "test.xml").getroot().iter("testcase")
    assert case.find("failure") is not None


def test_an_exception_in_setup_fails_the_run_with_reason_and_position(any_server, run, tmp_path):
    output = fails(run(any_server, '        demo_trouble("setup") with:\n            REMOTE\n', "-o", "."))
    assert "trouble in setup" in output and "test.osc:8:8" in output
    assert (tmp_path / "test.xml").exists()


def test_a_dry_run_touches_no_machine(run, tmp_path, plugin):
    class Nobody:
        path = tmp_path / "nobody"

    output = succeeds(run(Nobody, '        log("x") with:\n            REMOTE\n', "-n"))
    assert "nobody" not in output


def test_nobody_at_the_address(run, tmp_path):
    class Nobody:
        path = tmp_path / "nobody"

    body = '        log("x") with:\n            REMOTE\n'.replace(
        "REMOTE", f'remote("{Nobody.path}", setup_timeout: 1s)'
    )
    output = fails(run(Nobody, body))
    assert f"no answer from {Nobody.path}" in output and "scenario_execution_server" in output


def test_a_name_without_an_inventory_that_is_no_machine(run, tmp_path):
    """Said at once, and where an inventory was looked for: the time that it may take is not waited."""

    class Nobody:
        path = "no-such-machine.invalid"

    body = '        log("x") with:\n            remote("no-such-machine.invalid", setup_timeout: 600s)\n'
    output = fails(run(Nobody, body))
    assert "there is no host called no-such-machine.invalid (" in output
    assert "no inventory was found: looked for se-remote.yaml in " in output
    assert "~/.config/se-remote/inventory.yaml" in output and "SE_REMOTE_INVENTORY=FILE" in output


# --- what only our own carries


def test_log_lines_come_back_with_the_hosts_name_before_the_verdict(server, run):
    body = """
        log("over there") with:
            REMOTE
        run_process("echo from a child") with:
            REMOTE
    """
    output = succeeds(run(server, body))
    prefix = rf"^\[INFO\] \[[\d.]+\] \[scenario_execution\]: \[{re.escape(str(server.path))}\] "
    for text in ("over there", "from a child"):
        assert re.search(prefix + text + "$", output, re.M), output


def test_parameters_are_as_locally(server, run):
    body = """
        demo_show(point: place(x: 3m, label: 'p'), names: ['a', 'b'], colour: colour!green, flag: false) with:
            REMOTE
    """
    remote = succeeds(run(server, body))
    local = succeeds(run(server, body.replace("REMOTE", "inverter()\n            inverter()")))
    (shown,) = re.findall(r"show .*", local)
    assert shown in remote and "('green', 5)" in shown


def test_an_actor_comes_with_its_values(server, run):
    body = '        robot.demo_actor("hi") with:\n            REMOTE\n'
    text = scenario(body, server).replace("    do serial", "    robot: robot_demo\n    do serial")
    running = run(server, text)
    assert "actor True" in succeeds(running)
    assert "'name': 'robot'" in running.output and "'wheels': 4" in running.output


def test_feedback_and_reason_of_a_failure_come_back(server, run, tmp_path):
    output = fails(run(server, '        run_process("false") with:\n            REMOTE\n', "-o", "."))
    assert re.search(r"Execution of .* failed with", (tmp_path / "test.xml").read_text()), output


def test_an_exception_has_its_traceback_in_the_log_and_its_position_in_the_verdict(server, run, tmp_path):
    output = fails(run(server, '        demo_trouble("update") with:\n            REMOTE\n', "-o", "."))
    assert "ActionError: trouble in update" in (tmp_path / "test.xml").read_text()
    assert re.search(rf"\[{re.escape(str(server.path))}\] .*in update", output)
    assert "test.osc:8" in output


def test_an_unknown_plugin_says_where_it_is_missing(server, run, plugin, tmp_path_factory):
    bare = Server(tmp_path_factory.mktemp("bare"), tmp_path_factory.mktemp("empty"))
    try:
        output = fails(run(bare, "        demo_count(2) with:\n            REMOTE\n"))
    finally:
        bare.stop()
    assert "demo_count" in output and "is installed" in output


def test_records_show_the_action_not_the_proxy(server, run, tmp_path):
    body = "        first: demo_count(3) with:\n            REMOTE\n"
    succeeds(run(server, body, "-o", ".", "--bt-log", "--tick-log", "-t"))
    records = [json.loads(line) for line in (tmp_path / "behaviors.jsonl").read_text().splitlines()]
    mine = [r for r in records if r.get("behavior_name") == "first"]
    assert {(r["osc_line"], r["osc_column"]) for r in mine} == {(8, 15)}
    assert mine[-1]["status"] == "SUCCESS" and mine[-1]["class_name"] == "remote_exec.tree.proxy.RemoteAction"
    assert "first" in (tmp_path / "action_timing.csv").read_text()


def test_a_variable_does_not_cross_to_an_older_server_and_the_reason_is_told(plugin, run, tmp_path):
    (tmp_path / "v1").mkdir()
    older = Server(tmp_path / "v1", plugin, "v1")
    try:
        text = scenario("        increment(count) with:\n            REMOTE\n", older)
        text = text.replace("    do serial", "    var count: int = 1\n    do serial")
        fails(run(older, text, "-o", "."))
    finally:
        older.stop()
    assert "the older protocol (v1) has no variables" in (tmp_path / "test.xml").read_text()


def test_the_value_of_a_variable_is_sent_as_it_is_when_the_action_starts(server, run):
    text = """
scenario test:
    timeout(40s)
    var count: int = 1
    do serial:
        increment(count)
        demo_count(count) with:
            REMOTE
"""
    succeeds(run(server, text))


def test_each_scenario_of_a_file_has_its_own_session(server, run):
    body = """
        run_process("sleep 600.25", wait_for_shutdown: false, shutdown_timeout: 2s) with:
            REMOTE
    """
    second = '        log("second") with:\n            REMOTE\n'
    running = run(server, scenario(body, server, "first") + scenario(second, server, "second"))
    output = succeeds(running)
    ended = output.index("Cancel requested")
    assert ended < output.index("Executing scenario 'second'")
    assert output.count("connected") == 1
    assert not commands_running("600.25")


def test_a_hundred_actions(server, run):
    actions = "".join("            demo_count(2) with:\n                REMOTE\n" for _ in range(100))
    output = succeeds(run(server, "        parallel:\n" + actions))
    assert "Scenario 'test' succeeded" in output


def test_a_flood_of_lines_does_not_hurt(server, run):
    running = run(server, '        run_process("seq 200000") with:\n            REMOTE\n')
    output = succeeds(running)
    lines = [line for line in output.splitlines() if f"[{server.path}]" in line]
    assert len(lines) > 1000 and all(line.startswith("[") for line in lines)


def test_a_post_run_command_sees_that_everything_has_ended(server, run, tmp_path):
    script = tmp_path / "post"
    script.write_text("#!/bin/sh\npgrep -f 'sleep 600.5' >/dev/null && echo still || echo clean\n")
    script.chmod(0o755)
    body = """
        run_process("sleep 600.5", wait_for_shutdown: false, shutdown_timeout: 2s) with:
            REMOTE
    """
    output = succeeds(run(server, body, "-o", ".", "--post-run", str(script)))
    assert "clean" in output.splitlines()
