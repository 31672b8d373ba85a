"""The vocabulary in the field, as a v1 client speaks it: the same over our server and over the fake.

So the fake that the client is tested with says what our server says.
"""

from __future__ import annotations

import sys
import time
import uuid
from pathlib import Path

import msgpack
import pytest
import zmq

sys.path.insert(0, str(Path(__file__).parent))
from scenario_tools import Server


@pytest.fixture(scope="module", params=["ours", "v1"])
def server(request, plugin, tmp_path_factory):
    server = Server(tmp_path_factory.mktemp("server"), plugin, request.param)
    yield server
    server.stop()


@pytest.fixture
def ask(server):
    context = zmq.Context()
    socket = context.socket(zmq.REQ)
    socket.connect(server.endpoint)

    def ask(cmd: str, **payload):
        socket.send(msgpack.packb({"cmd": cmd, "payload": payload}))
        assert socket.poll(20_000), f"no answer to {cmd}"
        return msgpack.unpackb(socket.recv())

    yield ask
    socket.close(linger=0)
    context.term()


def started(ask, plugin_key, init_args=None, exec_args=None):
    action_id = str(uuid.uuid4())
    init = {"plugin_key": plugin_key, "init_args": init_args or {}, "output_dir": None}
    assert ask("init", action_id=action_id, **init) == {"status": "ok"}
    where = {"output_dir": None, "scenario_file_directory": None}
    assert ask("setup", action_id=action_id, tick_period=0.1, **where) == {"status": "ok"}
    assert ask("execute", action_id=action_id, exec_args=exec_args or {}) == {"status": "ok"}
    return action_id


def test_heartbeat(ask):
    assert ask("heartbeat") == {"status": "ok"}


def test_unknown_command(ask):
    answer = ask("dance")
    assert answer["status"] == "error" and "unknown command" in answer["message"].lower()


def test_the_order_per_action(ask):
    action_id = started(ask, "demo_count", exec_args={"updates": 2})
    assert ask("update", action_id=action_id) == {"status": "ok", "action_status": "running"}
    time.sleep(0.15)
    assert ask("update", action_id=action_id)["action_status"] == "success"
    assert ask("terminate", action_id=action_id, new_status="SUCCESS") == {"status": "ok"}
    assert ask("execute", action_id=action_id, exec_args={"updates": 1}) == {"status": "ok"}
    assert ask("update", action_id=action_id)["action_status"] == "success"
    assert ask("reset", action_id=action_id) == {"status": "ok"}


def test_a_failing_action(ask):
    action_id = started(ask, "compare", exec_args={"left_value": "a", "operator": "==", "right_value": "b"})
    assert ask("update", action_id=action_id)["action_status"] == "failure"


def test_unknown_plugins_and_actions_are_errors_and_reset_of_an_unknown_one_is_not(ask):
    answer = ask("init", action_id="x", plugin_key="no_such_plugin", init_args={}, output_dir=None)
    assert answer["status"] == "error"
    assert ask("update", action_id="unknown")["status"] == "error"
    assert ask("reset", action_id="unknown") == {"status": "ok"}


def test_an_exception_is_an_error_with_its_message(ask):
    action_id = str(uuid.uuid4())
    ask("init", action_id=action_id, plugin_key="demo_trouble", init_args={"where": "setup"}, output_dir=None)
    answer = ask("setup", action_id=action_id, tick_period=0.1, output_dir=None, scenario_file_directory=None)
    assert answer["status"] == "error" and "trouble in setup" in answer["message"]
