"""What plugins and clients do that nobody should: the server answers, and nothing is left."""

from __future__ import annotations

import itertools
import os
import signal
import sys
import uuid
from pathlib import Path

import pytest
import zmq

sys.path.insert(0, str(Path(__file__).parent))
from server_tools import kill, marked, until

from remote_exec import codec
from remote_exec.host.binding import READ_BYTES
from remote_exec.messages import MAX_MESSAGE_BYTES

STUBBORN = ["sh", "-c", "trap : INT TERM; while :; do sleep 0.1; done"]


@pytest.fixture
def server(start):
    server = start()
    yield server
    assert server.stop() == 0, server.log


@pytest.fixture
def client(server):
    return server.v2().open()


# -- plugins


@pytest.mark.parametrize("what", ["mute", "memory", "recursion"])
@pytest.mark.parametrize("phase", ["init", "setup", "execute", "update"])
def test_any_exception_is_an_answer(client, what, phase):
    fields = {"plugin": "odd", "name": "odd", "source": None, "init_args": {"phase": phase, "what": what}}
    client.send("create", action="a", **fields)
    client.send("setup", action="a")
    last = client.send("execute", action="a", args={})
    client.until(lambda: last in client.replies)
    errors = [r["error"]["kind"] for r in client.replies.values() if not r["ok"]]
    assert errors[0] == "plugin_error"
    client.make("b", "log")
    assert client.execute("b", msg="still here")["status"] == "success"


def test_an_exception_without_a_text_ends_one_action_only(client):
    client.make("a", "odd", {"phase": "update2", "what": "mute"})
    assert client.result("a") == "failure"
    client.make("b", "odd", {"phase": "update2", "what": "mute feedback"})
    client.ok("execute", action="b", args={})
    client.until(lambda: any("Mute" in e["feedback"] for e in client.events if e["ev"] == "status"))


@pytest.mark.parametrize("what", ["close", "close all", "garbage", "interrupt"])
def test_who_breaks_the_worker_has_crashed(server, client, what):
    other = server.v2().open()
    client.make("p", "run_process")
    client.ok("execute", action="p", args={"command": STUBBORN, "shutdown_timeout": 0.3})
    client.make("a", "odd", {"phase": "execute", "what": what})
    assert client.execute("a")["error"]["kind"] == "crashed"
    client.until(lambda: any(e["ev"] == "lost" for e in client.events))
    until(lambda: not any("trap" in command for _, command in marked(server.marker)))
    other.make("a", "log")
    assert other.execute("a", msg="still here")["status"] == "success"


def test_a_plugin_that_is_deaf_or_prints_binary_changes_nothing(server, client):
    client.make("a", "odd", {"phase": "execute", "what": "deaf"})
    client.make("b", "odd", {"phase": "execute", "what": "binary"})
    assert client.result("a") == client.result("b") == "success"
    assert client.ok("bye", release=True)["left"] == []
    assert "worker" not in server.processes()


def test_a_cancel_after_the_end_is_told_but_ticks_no_more(client):
    client.make("a", "parked")
    assert client.execute("a")["status"] == "success"
    client.ok("cancel", action="a")
    client.ok("cancel", action="a")
    # A later action has run for several periods: a tick of the first one would have been seen.
    client.make("b", "odd")
    assert client.result("b") == "success"
    client.ok("shutdown", action="a")
    assert client.execute("b")["ok"]
    texts = [e["text"] for e in client.events if e["ev"] == "log"]
    assert "parked update" not in texts
    assert client.call("execute", action="a", args={})["error"]["kind"] == "unknown_action"


def test_a_process_left_running_by_success_survives_a_cancel_s_rest_and_ends_with_the_action(server, client):
    client.make("a", "run_process")
    reply = client.execute("a", command=STUBBORN, wait_for_shutdown=False, shutdown_timeout=0.5)
    assert reply["status"] == "success"
    client.ok("cancel", action="a")
    again = client.execute("a", command=STUBBORN, wait_for_shutdown=False, shutdown_timeout=0.5)
    assert again["status"] == "success"
    client.ok("cancel", action="a")
    client.ok("shutdown", action="a")
    assert not any("trap" in command for _, command in marked(server.marker))


# -- clients


@pytest.mark.parametrize("user", [b"\xff", {"deep": [1]}, "new\nline \x1b[31m", "x" * 5_000_000, (1, 2)])
def test_whoever_a_client_says_it_is(server, user):
    client = server.v2()
    assert client.call("hello", client={"user": user, "pid": 2**64 - 1, "more": b"\0"}, seen=None)["ok"]
    client.ok("ping", seen=0)
    until(lambda: client.session in (server.run_dir / "state.json").read_text())
    (session,) = client.ok("describe")["sessions"]
    assert set(session["client"]) <= {"user", "pid"}
    assert str(session["client"].get("user", "")).isprintable()
    assert len(str(session)) < 2000


def test_who_asks_and_never_reads_holds_up_nobody(server):
    deaf = server.context.socket(zmq.DEALER)
    for option in (zmq.RCVHWM, zmq.LINGER):
        deaf.setsockopt(option, 1)
    deaf.setsockopt(zmq.SNDHWM, 0)
    deaf.connect(server.endpoint)
    question = codec.pack({"v": 2, "id": 1, "session": None, "cmd": "hello", "client": {}, "seen": None})
    for _ in range(60_000):
        deaf.send(question)
    server.clients.append(deaf)
    for _ in range(3):
        assert server.v2().call("hello", sessionless=True, client={}, seen=None, timeout=60)["ok"]


def test_a_message_that_is_too_large_is_refused_with_its_size_and_a_larger_one_disconnected(server):
    client, vandal = server.v2(), server.v2()
    client.raw(b"x" * (MAX_MESSAGE_BYTES + 1))
    client.until(lambda: None in client.replies)
    assert str(MAX_MESSAGE_BYTES + 1) in client.replies[None]["error"]["message"]
    assert str(MAX_MESSAGE_BYTES + 1) in server.log
    vandal.raw(b"x" * (READ_BYTES + 1))
    assert vandal.hello()["ok"]
    assert client.hello()["ok"]


def test_absurd_numbers_of_what_was_seen_and_bogus_sessions(server):
    client = server.v2().open()
    client.make("a", "odd")
    for seen in (2**63 - 1, -(2**63), 0):
        assert client.hello(seen=seen)["resumed"]
    assert client.result("a") == "success"
    for unprintable in ("\0", "\u202e" * 40):
        assert server.v2(unprintable).hello()["error"]["kind"] == "bad_message"
    for bogus in ("v1", "describe", "../../x"):
        other = server.v2(bogus)
        assert other.hello(seen=7)["error"]["kind"] == "unknown_session"
        other.open()
        other.make("a", "log")
        assert other.execute("a", msg="x")["status"] == "success"
        assert other.ok("bye", release=False)["left"] == []


# -- v1


@pytest.mark.parametrize("period", [float("nan"), float("inf"), -1.0, 1e300, 10**18])
def test_a_v1_tick_period_that_is_none(server, period):
    client = server.v1()
    assert client.call("init", action_id="a", plugin_key="odd", init_args={})["status"] == "ok"
    assert "tick_period" in client.call("setup", action_id="a", tick_period=period)["message"]
    assert client.call("setup", action_id="a", tick_period=0.02)["status"] == "ok"
    assert client.call("execute", action_id="a", exec_args={})["status"] == "ok"
    assert client.until_status("a", ("success",)) == "success"


def test_after_a_crash_a_v1_client_gets_answers_and_may_start_over(server):
    client = server.v1()
    action, bomb = str(uuid.uuid4()), str(uuid.uuid4())
    odd = {"phase": "execute", "what": "_exit"}
    for each, args in ((action, {}), (bomb, odd)):
        assert client.call("init", action_id=each, plugin_key="odd", init_args=args)["status"] == "ok"
        assert client.call("setup", action_id=each)["status"] == "ok"
    assert "died" in client.call("execute", action_id=bomb, exec_args={})["message"]
    for cmd in ("setup", "execute"):
        assert "died" in client.call(cmd, action_id=action)["message"]
    assert client.call("update", action_id=action)["action_status"] == "failure"
    for cmd in ("terminate", "reset"):
        assert client.call(cmd, action_id=action)["status"] == "ok"
    assert client.call("init", action_id=action, plugin_key="odd", init_args={})["status"] == "ok"
    assert client.call("setup", action_id=action, tick_period=0.02)["status"] == "ok"
    assert client.call("execute", action_id=action, exec_args={})["status"] == "ok"
    assert client.until_status(action, ("success",)) == "success"


# -- signals

PAIRS = [
    pair
    for pair in itertools.combinations(["supervisor", "front", "forkserver", "keeper", "worker"], 2)
    # Two reapers at once: what they looked after is init's. The bring-up's `kill` finds it.
    if pair != ("supervisor", "keeper")
]


def with_a_stubborn_process(server):
    client = server.v2().open(lease=2)
    client.make("a", "run_process")
    client.ok("execute", action="a", args={"command": STUBBORN, "shutdown_timeout": 0.3})


@pytest.mark.parametrize("pair", PAIRS, ids="+".join)
def test_sigkill_of_two_leaves_nothing(start, pair):
    server = start()
    with_a_stubborn_process(server)
    processes = server.processes()
    kill(*(processes[name] for name in pair))
    if pair == ("keeper", "worker"):
        until(lambda: not any("trap" in command for _, command in marked(server.marker)), 60)
        assert server.stop() == 0, server.log
    else:
        until(lambda: marked(server.marker) == [], 60, "something is left")


@pytest.mark.parametrize("name", ["front", "forkserver", "keeper", "worker"])
def test_a_server_of_which_a_part_is_stopped_still_ends(start, name):
    server = start()
    with_a_stubborn_process(server)
    os.kill(server.processes()[name], signal.SIGSTOP)
    assert server.stop() == 0, server.log


def test_a_server_of_which_parts_are_stopped_ends_by_itself(start):
    server = start("--ephemeral", "--lease", "1")
    server.v2().open(lease=1)
    for name in ("forkserver", "worker", "keeper", "supervisor"):
        os.kill(server.processes()[name], signal.SIGSTOP)
    assert server.wait() == 0, server.log
    assert marked(server.marker) == []


def test_a_crash_is_told_though_who_tells_it_is_stopped(start):
    server = start()
    client = server.v2().open()
    client.make("a", "run_process")
    client.ok("execute", action="a", args={"command": ["sleep", "1000"]})
    processes = server.processes()
    os.kill(processes["keeper"], signal.SIGSTOP)
    os.kill(processes["worker"], signal.SIGKILL)
    client.until(lambda: [e["reason"] for e in client.events if e["ev"] == "lost"] == ["signal SIGKILL"])
    assert server.stop() == 0, server.log


def test_ctrl_z_in_its_window_does_not_stop_it(server, client):
    os.killpg(server.process.pid, signal.SIGTSTP)
    assert client.ok("ping", seen=0)
    client.make("a", "run_process")
    script = "grep SigIgn /proc/self/status"
    assert client.result("a", command=["sh", "-c", script]) == "success"
    client.until(lambda: "SigIgn" in client.logs())
    ignored = int(client.logs().partition("SigIgn:")[2].split()[0], 16)
    assert not ignored >> (signal.SIGTSTP - 1) & 1
