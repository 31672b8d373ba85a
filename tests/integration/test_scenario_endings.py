"""How runs end: signals, crashes, lost servers, slow ends. Nothing is left, and there is always a verdict."""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest

sys.path.insert(0, str(Path(__file__).parent))
from scenario_tools import (
    SIGINT,
    SIGKILL,
    SIGTERM,
    Running,
    Server,
    children_of,
    commands_running,
    eventually,
    run_scenario,
)

HEAD = "import osc.helpers\nimport osc.remote\nimport osc.demo\n\n"


@pytest.fixture
def server(request, plugin, tmp_path):
    """`indirect` parameters are options of the server."""
    server = Server(tmp_path, plugin, options=getattr(request, "param", ()))
    yield server
    server.stop()


@pytest.fixture
def run(server, plugin, tmp_path):
    runs: list[Running] = []

    def start(*bodies: str, options: tuple[str, ...] = ("-o", ".")) -> Running:
        text = HEAD
        for number, body in enumerate(bodies):
            text += f"scenario test{number}:\n    timeout(50s)\n    do serial:\n{body}\n\n"
        text = text.replace("REMOTE", f'remote("{server.path}", heartbeat_failure_timeout: 5s)')
        runs.append(run_scenario(tmp_path, plugin, text, *options))
        return runs[-1]

    yield start
    for one in runs:
        one.stop()


def action(text: str) -> str:
    return f"        {text} with:\n            REMOTE\n"


def results(tmp_path) -> list[tuple[str, bool]]:
    cases = ElementTree.parse(tmp_path / "test.xml").getroot().iter("testcase")
    return [(case.get("name", ""), case.find("failure") is None) for case in cases]


def clean(running: Running) -> str:
    """No traceback of an exception that nobody caught."""
    assert "Exception ignored" not in running.output and "Fatal Python" not in running.output
    return running.output


@pytest.mark.parametrize("number", [SIGINT, SIGTERM])
def test_a_signal_while_an_action_runs(run, number, tmp_path):
    running = run(action('run_process("sleep 600.75")'))
    eventually(lambda: commands_running("600.75"), "it did not start")
    running.signal(number)
    assert running.result() == 1
    clean(running)
    assert results(tmp_path) == [("test0", False)]
    assert not commands_running("600.75")


def test_ctrl_c_in_the_first_scenario_does_not_run_the_second(run, tmp_path):
    running = run(action('run_process("sleep 601.3125")'), '        log("second")\n')
    eventually(lambda: commands_running("601.3125"), "it did not start")
    running.signal(SIGINT)
    assert running.result() == 1
    assert "second" not in re.sub(r"Executing.*|.*test1.*", "", clean(running))
    assert [ok for _, ok in results(tmp_path)].count(True) == 0


def test_ctrl_c_before_any_setup_is_not_lost(run, tmp_path):
    # The runner constructs the action while it builds the tree; its own setup() forgets the signal.
    running = run(action('demo_trouble("interrupt in init")'), action('log("second")'))
    assert running.result() == 1
    assert "aborted by a signal" in clean(running)
    assert not any(line.endswith("] second") for line in running.lines)
    assert [ok for _, ok in results(tmp_path)].count(True) == 0


def test_ctrl_c_while_the_setup_waits(run, tmp_path):
    running = run(action('demo_trouble("block in setup")'))
    running.wait_for("connected")
    running.signal(SIGINT)
    assert running.result() == 1
    assert "aborted by SIGINT" in clean(running)
    assert results(tmp_path) == [("test0", False)]


def test_ctrl_c_while_nobody_answers(tmp_path, plugin):
    body = "        log('x') with:\n            remote('./nobody', setup_timeout: 100s)\n"
    running = run_scenario(tmp_path, plugin, HEAD + "scenario test:\n    do serial:\n" + body)
    try:
        running.wait_for("Executing scenario")
        eventually(lambda: len(os.listdir(f"/proc/{running.process.pid}/task")) > 2, "no hub")
        running.signal(SIGINT)
        assert running.result() == 1
    finally:
        running.stop()
    assert "aborted by SIGINT" in clean(running) and "Traceback" not in running.output


def test_who_does_not_answer_is_named_while_it_is_waited_for(tmp_path, plugin):
    body = "        log('x') with:\n            remote('./nobody', setup_timeout: 3s)\n"
    running = run_scenario(tmp_path, plugin, HEAD + "scenario test:\n    do serial:\n" + body)
    try:
        running.wait_for("waiting for an answer")
        assert running.result() == 1
    finally:
        running.stop()
    assert "no answer from" in clean(running) and "Traceback" not in running.output


def test_a_second_ctrl_c_shortens_the_end(run, server, tmp_path):
    script = tmp_path / "stubborn"
    script.write_text("#!/bin/sh\ntrap '' INT TERM\nsleep 600.9 & wait; wait; wait\nsleep 600.9\n")
    script.chmod(0o755)
    running = run(action(f'run_process("{script}", shutdown_timeout: 6s)'))
    eventually(lambda: commands_running("600.9"), "it did not start")
    running.signal(SIGINT)
    running.wait_for("waiting for its actions")
    running.signal(SIGINT)
    assert running.result() == 1
    assert "did not confirm" in clean(running)
    assert results(tmp_path) == [("test0", False)]


def test_the_worker_dies(run, tmp_path):
    running = run(action('demo_trouble("die in update")'))
    assert running.result() == 1
    assert results(tmp_path) == [("test0", False)]
    text = (tmp_path / "test.xml").read_text()
    assert "worker" in text and "7" in text, text


def test_the_worker_dies_in_setup(run, tmp_path):
    running = run(action('demo_trouble("die in setup")'))
    assert running.result() == 1
    assert "worker" in clean(running)


def test_other_sessions_do_not_notice(run, server, tmp_path, plugin):
    text = "scenario calm:\n    do serial:\n        demo_count(20) with:\n            remote('{}')\n"
    (tmp_path / "calm").mkdir()
    calm = run_scenario(tmp_path / "calm", plugin, HEAD + text.format(server.path))
    try:
        calm.wait_for("connected")
        assert run(action('demo_trouble("die in update")')).result() == 1
        assert calm.result() == 0, calm.output
    finally:
        calm.stop()


def test_the_server_is_killed_while_an_action_runs(run, server, tmp_path):
    running = run(action("demo_count(1000000)"))
    running.wait_for("connected")
    eventually(lambda: len(children_of(server.process.pid)) >= 4, "no worker")
    everything = [server.process.pid, *children_of(server.process.pid)]
    for pid in everything:
        os.kill(pid, SIGKILL)
    assert running.result() == 1
    assert results(tmp_path) == [("test0", False)]
    assert "nobody listens" in (tmp_path / "test.xml").read_text()
    clean(running)


def test_the_server_stops_in_order_while_an_action_runs(run, server, tmp_path):
    running = run(action("demo_count(1000000)"))
    running.wait_for("connected")
    eventually(lambda: len(children_of(server.process.pid)) >= 4, "no worker")
    server.signal(SIGTERM)
    assert running.result() == 1
    assert results(tmp_path) == [("test0", False)]
    clean(running)


@pytest.mark.parametrize("server", [("--lease", "2")], indirect=True, ids=["lease of 2 s"])
def test_a_client_that_is_killed_leaves_nothing(run, server):
    running = run(action('run_process("sleep 600.95")'))
    eventually(lambda: commands_running("600.95"), "it did not start")
    running.process.kill()
    running.result()
    eventually(lambda: not commands_running("600.95"), "the lease did not end it")


def test_an_action_that_blocks_in_update_does_not_stop_the_tree(run, tmp_path):
    body = """        one_of:
            demo_trouble("block in update") with:
                REMOTE
            wait elapsed(2s)
"""
    running = run(body, options=())
    assert running.result() == 0, running.output
    assert "Tick too long" not in running.output


def test_a_setup_that_takes_too_long(server, plugin, tmp_path):
    modifier = f"            remote('{server.path}', setup_timeout: 1s)\n"
    text = "scenario test:\n    do serial:\n        demo_trouble('block in setup') with:\n" + modifier
    running = run_scenario(tmp_path, plugin, HEAD + text)
    try:
        assert running.result() == 1
    finally:
        running.stop()
    assert "longer than 1 s (setup_timeout)" in clean(running)


def test_a_local_exception_in_a_tick_still_ends_what_runs_remotely(run, tmp_path):
    body = """        run_process("sleep 600.97", wait_for_shutdown: false) with:
            REMOTE
        demo_trouble("update")
"""
    running = run(body)
    running.result()  # scenario_execution itself does not survive this
    assert "trouble in update" in running.output
    assert not commands_running("600.97")
