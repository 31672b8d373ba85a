"""Simulated time at the raw wire: who ticks, what a repeated `tick` does, and what a lost client means."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
from server_tools import Server, until, write_plugins

CONFIGURE = {"scenario_file_directory": None, "input_dir": None, "output_dir": None, "debug": False}


@pytest.fixture
def server(tmp_path):
    server = Server(write_plugins(tmp_path))
    yield server
    server.stop()


def simulated(server, **hello):
    client = server.v2()
    assert client.hello(**hello)["ok"]
    client.ok("configure", **CONFIGURE, tick_period=0.01, clock="sim")
    return client


def test_nothing_runs_between_ticks_and_a_repeated_tick_runs_once(server):
    client = simulated(server)
    client.make("a", "odd")
    assert client.ok("execute", action="a", args={}, t=0.01)["feedback"] == "tick 1"
    assert not client.pump(0.3), "a status was pushed"
    number = client.send("tick", t=0.02)
    assert client.wait(number)["statuses"] == {"a": ["running", "tick 2"]}
    client.replies.clear()
    client.send("tick", msg_id=number, t=0.02)
    assert client.wait(number)["statuses"] == {"a": ["running", "tick 2"]}
    assert client.ok("tick", t=0.03)["statuses"] == {"a": ["success", "tick 3"]}
    assert client.ok("tick", t=0.04)["statuses"] == {}
    assert not [event for event in client.events if event["ev"] == "status"]


def test_an_update_that_raises_is_a_failure_with_its_reason(server):
    client = simulated(server)
    client.make("a", "odd", {"phase": "update2", "what": "raise"})
    assert client.ok("execute", action="a", args={}, t=0.01)["status"] == "running"
    status, feedback = client.ok("tick", t=0.02)["statuses"]["a"]
    assert status == "failure" and "ValueError: odd update2" in feedback


@pytest.mark.parametrize(("clock", "t", "kind"), [("host", 1.0, "wrong_state"), ("sim", "x", "bad_message")])
def test_ticks_that_make_no_sense(server, clock, t, kind):
    client = server.v2().open() if clock == "host" else simulated(server)
    assert client.call("tick", t=t)["error"]["kind"] == kind
    assert client.ok("ping", seen=0)


def test_an_unknown_clock_is_refused(server):
    client = server.v2()
    assert client.hello()["ok"]
    reply = client.call("configure", **CONFIGURE, tick_period=0.01, clock="moon")
    assert reply["error"]["kind"] == "bad_message"


def test_without_its_client_simulated_time_stands_still_so_the_session_ends(server):
    client = simulated(server, lease=2, on_loss="continue")
    client.make("a", "odd", {"phase": "update", "what": ""})
    client.ok("execute", action="a", args={}, t=0.01)
    watcher = server.v2()
    until(lambda: not watcher.ok("describe")["sessions"], what="the session did not end")
