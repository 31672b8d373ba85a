"""One robot, one driver: servers that know nothing of each other, and one resource of this machine."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import sys
import uuid
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
from server_tools import Server, kill, until, write_plugins
from v2client import CLIENT

from remote_exec.host.exclusive import address

STUBBORN = ["sh", "-c", "trap '' TERM INT; echo up; while :; do sleep 0.1; done"]


@pytest.fixture(scope="session")
def plugins(tmp_path_factory):
    return write_plugins(tmp_path_factory.mktemp("plugins"))


@pytest.fixture
def resource():
    return f"test-{uuid.uuid4().hex[:12]}"


@pytest.fixture
def start(plugins, resource):
    started = []

    def start(name, *options, exclusive=resource):
        started.append(Server(plugins, "--exclusive", exclusive, "--name", name, *options))
        return started[-1]

    yield start
    for server in started:
        server.stop()


def held(resource):
    return address(resource).replace("\0", "@") in Path("/proc/net/unix").read_text()


def who(**more):
    return {**CLIENT, "user": "ann", "machine": "laptop", "pid": 11, "what": "a.osc", **more}


def refused(client, **more):
    reply = client.hello(client=who(user="bob", pid=12, **more))
    assert not reply["ok"] and reply["error"]["kind"] == "exclusive", reply
    return reply["error"]


def test_two_clients_of_one_server(start, resource):
    server = start("lab")
    ann, again, bob = server.v2(), server.v2(), server.v2()
    assert not held(resource), "who only starts a server has nothing yet"
    assert ann.hello(client=who())["ok"]
    assert again.hello(client=who())["ok"], "sessions of one client share it"
    error = refused(bob)
    assert "held by ann@laptop (pid 11) for a.osc, since" in error["message"]
    assert error["next"].endswith("se-remote kill lab --force")
    state = json.loads((server.run_dir / "state.json").read_text())
    until(lambda: json.loads((server.run_dir / "state.json").read_text())["exclusive"]["holder"], 20)
    state = json.loads((server.run_dir / "state.json").read_text())
    assert state["exclusive"]["holder"]["user"] == "ann"
    ann.ok("bye")
    assert not bob.hello(client=who(user="bob", pid=12))["ok"], "until the last one of them has ended"
    again.ok("bye")
    assert bob.hello(client=who(user="bob", pid=12))["ok"]


def test_two_servers(start, resource):
    first, second = start("lab"), start("the-robot")
    ann, bob = first.v2(), second.v2()
    assert ann.hello(client=who())["ok"]
    error = refused(bob)
    assert "held by ann@laptop (pid 11) for a.osc" in error["message"]
    assert "through the host lab" in error["message"]
    assert error["next"] == "wait, or: se-remote kill lab --force"
    ann.ok("bye")
    assert bob.hello(client=who(user="bob", pid=12))["ok"]
    assert "through the host the-robot" in refused(first.v2(), what="")["message"]


def test_resources_of_other_names_do_not_disturb_each_other(start, resource):
    assert start("one").v2().hello(client=who())["ok"]
    assert start("two", exclusive=resource + "b").v2().hello(client=who(pid=12))["ok"]


def test_a_driver_makes_processes_one_client(start):
    server = start("lab")
    assert server.v2().hello(client=who(driver="campaign"))["ok"]
    assert server.v2().hello(client=who(pid=77, driver="campaign"))["ok"]
    refused(server.v2())
    refused(server.v2(), driver="another")


def test_a_killed_server_lets_go_and_one_that_is_stopped_does_not(start, resource):
    first, second = start("lab"), start("the-robot")
    assert first.v2().hello(client=who())["ok"]
    front = first.processes()["front"]
    os.kill(front, signal.SIGSTOP)
    try:
        error = refused(second.v2())
        assert f"process {front} of account" in error["message"]
        assert "does not say for whom" in error["message"]
    finally:
        os.kill(front, signal.SIGCONT)
    kill(*first.processes().values())
    until(lambda: not held(resource), 20)
    assert second.v2().hello(client=who(user="bob"))["ok"]


def test_it_is_held_until_the_last_process_of_its_actions_is_gone(start, resource):
    """Though the front, which has bound it, is killed."""
    first, second = start("lab"), start("the-robot")
    ann = first.v2()
    assert ann.hello(client=who(), lease=60)["ok"]
    configure = {"scenario_file_directory": None, "input_dir": None, "output_dir": None, "debug": False}
    ann.ok("configure", **configure, tick_period=0.02, clock="host")
    ann.make("a", "run_process")
    ann.execute("a", command=STUBBORN, shutdown_signal=["SIGTERM", 15])
    os.kill(first.processes()["front"], signal.SIGKILL)
    error = refused(second.v2())
    assert "does not say for whom" in error["message"]
    until(lambda: not held(resource), 40)
    assert second.v2().hello(client=who(user="bob"))["ok"]


def test_the_lease_frees_it(start, resource):
    server = start("lab")
    ann, bob = server.v2(), server.v2()
    assert ann.hello(client=who(), lease=0.3)["ok"]
    until(lambda: bob.hello(client=who(user="bob", pid=12))["ok"])


def test_a_v1_client_has_it_too(start, resource):
    first, second = start("lab"), start("the-robot")
    old, ann = first.v1(), second.v2()
    init = {"action_id": "a", "plugin_key": "log", "init_args": {}, "output_dir": None}
    assert old.call("heartbeat") == {"status": "ok"}
    assert ann.hello(client=who())["ok"]
    reply = old.call("init", **init)
    assert reply["status"] == "error" and "held by ann@laptop (pid 11) for a.osc" in reply["message"]
    assert "se-remote kill the-robot --force" in reply["message"]
    ann.ok("bye")
    assert old.call("init", **init) == {"status": "ok"}
    assert "a client of the v1 protocol" in refused(second.v2())["message"]
    assert old.call("reset", action_id=None) == {"status": "ok"}
    bob = second.v2()
    until(lambda: bob.hello(client=who(user="bob"))["ok"], 20)


def test_a_silent_v1_client_loses_it(start, resource):
    server = start("lab", "--lease", "1")
    old, bob = server.v1(), server.v2()
    sleep = {"plugin_key": "run_process", "init_args": {}, "output_dir": None}
    assert old.call("init", action_id="a", **sleep) == {"status": "ok"}
    setup = {"tick_period": 0.02, "output_dir": None, "scenario_file_directory": "/tmp"}
    assert old.call("setup", action_id="a", **setup) == {"status": "ok"}
    run = {"command": "sleep 60", "shutdown_signal": ["SIGTERM", 15]}
    assert old.call("execute", action_id="a", exec_args=run) == {"status": "ok"}
    refused(bob)
    until(lambda: bob.hello(client=who(user="bob", pid=12))["ok"], 15)
    assert "unknown action_id" in old.call("update", action_id="a")["message"]


def test_something_else_that_has_the_name(start, resource):
    with socket.socket(socket.AF_UNIX) as other:
        other.bind(address(resource))
        other.listen(4)
        error = refused(start("lab").v2())
        assert f"process {os.getpid()} of account" in error["message"]
        silent, _ = other.accept()
        silent.close()
        asking = start("robot").v2()
        asking.send("hello", client=who(), seen=None)
        talkative, _ = other.accept()
        with talkative, contextlib.suppress(OSError):
            talkative.sendall(b"x" * 1_000_000)
        asking.until(lambda: asking.replies, 20)
        (reply,) = asking.replies.values()
        assert "does not say for whom" in reply["error"]["message"]


def test_a_resource_that_cannot_be_held_is_an_error(start, monkeypatch):
    """Never silently not exclusive. A resource limit plays the machine that has no descriptors left."""
    import resource as limits

    server = start("lab")
    client = server.v2()
    client.hello(client=who(), sessionless=True)
    front = server.processes()["front"]
    used = len(os.listdir(f"/proc/{front}/fd"))
    limits.prlimit(front, limits.RLIMIT_NOFILE, (used, used))
    reply = client.hello(client=who())
    assert not reply["ok"] and "cannot be held" in reply["error"]["message"]
