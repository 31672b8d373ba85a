"""Our server as v1 clients see it; what holds for every v1 server is in test_v1_vocabulary."""

from __future__ import annotations

import sys
import time
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
from server_tools import Server, marked, until, write_plugins

OK = {"status": "ok"}
STUBBORN = ["sh", "-c", "trap '' TERM INT; while :; do sleep 0.1; done"]


@pytest.fixture
def server(tmp_path):
    server = Server(write_plugins(tmp_path), run_dir=False)
    yield server
    assert server.stop() == 0, server.log


@pytest.fixture
def client(server):
    return server.v1()


def begin(client, action, plugin, init_args=None, **exec_args):
    assert client.call(
        "init", action_id=action, plugin_key=plugin, init_args=init_args or {}, output_dir=None
    ) == {"status": "ok"}
    assert client.call(
        "setup", action_id=action, tick_period=0.02, output_dir=None, scenario_file_directory="/tmp"
    ) == {"status": "ok"}
    return client.call("execute", action_id=action, exec_args=exec_args)


def test_a_whole_life_more_than_once(client):
    assert begin(client, "a", "run_process", command="true", shutdown_signal=["SIGTERM", 15]) == OK
    assert client.until_status("a", ("success", "failure")) == "success"
    assert client.call("terminate", action_id="a", new_status="SUCCESS") == {"status": "ok"}
    assert client.call("execute", action_id="a", exec_args={"command": "false"}) == {"status": "ok"}
    assert client.until_status("a", ("success", "failure")) == "failure"
    assert client.call("terminate", action_id="a", new_status="FAILURE") == {"status": "ok"}
    assert begin(client, "a", "log", msg="again") == {"status": "ok"}
    assert client.until_status("a", ("success", "failure")) == "success"
    for action in ("a", "unknown", None):
        assert client.call("reset", action_id=action) == {"status": "ok"}
    assert client.call("update", action_id="a")["status"] == "error"


def test_hello_and_errors(client):
    assert client.call("hello") == {"status": "ok", "wire": 2}
    reply = client.call("fly")
    assert reply["status"] == "error"
    assert reply["message"].startswith("unknown command")
    assert "payload.action_id" in client.call("update")["message"]
    assert "plugin_key" in client.call("init", action_id="a")["message"]
    assert "did you mean" in client.call("init", action_id="a", plugin_key="lgo")["message"]
    assert "unknown action_id" in client.call("update", action_id="a")["message"]
    assert (
        "odd init"
        in client.call("init", action_id="a", plugin_key="odd", init_args={"phase": "init", "what": "raise"})[
            "message"
        ]
    )
    assert "odd execute" in begin(client, "b", "odd", {"phase": "execute", "what": "raise"})["message"]
    assert client.call("update", action_id="b")["action_status"] == "failure"


@pytest.mark.parametrize("phase", ["execute", "update2"])
def test_answers_come_while_an_action_is_busy(server, client, phase):
    other = server.v1()
    started = time.monotonic()
    assert begin(client, "a", "odd", {"phase": phase, "what": "sleep 40"}) == {"status": "ok"}
    for each in (client, other):
        assert each.call("heartbeat") == {"status": "ok"}
        assert each.call("update", action_id="a")["action_status"] == "running"
    assert client.call("terminate", action_id="a", new_status="INVALID") == {"status": "ok"}
    assert time.monotonic() - started < 40


def test_terminate_ends_a_process_that_ignores_it(server, client):
    begin(client, "a", "run_process", command=STUBBORN, shutdown_timeout=0.3, shutdown_signal=["sigterm", 15])
    until(lambda: any("trap" in command for _, command in marked(server.marker)))
    assert client.call("terminate", action_id="a", new_status="INVALID") == {"status": "ok"}
    assert client.call("update", action_id="a")["action_status"] == "invalid"
    until(lambda: not any("trap" in command for _, command in marked(server.marker)))


def test_a_crash_is_a_failure_and_init_starts_over(client):
    reply = begin(client, "a", "odd", {"phase": "update", "what": "_exit"})
    assert reply["status"] == "error"
    assert "exit code 4" in reply["message"]
    assert client.call("update", action_id="a")["action_status"] == "failure"
    assert begin(client, "b", "log", msg="x") == {"status": "ok"}
    assert client.until_status("b", ("success",)) == "success"


def test_quit_stops_the_server_and_its_processes(server, client):
    begin(client, "a", "run_process", command=STUBBORN, shutdown_timeout=0.3, shutdown_signal=["sigterm", 15])
    assert client.call("quit") == {"status": "ok"}
    assert server.wait() == 0
    assert marked(server.marker) == []
    assert not server.socket.exists()
