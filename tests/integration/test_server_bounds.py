"""What a server holds is bounded and given back: sessions, descriptors, processes, memory."""

from __future__ import annotations

import os
import resource
import sys
import time
from pathlib import Path

import pytest
import zmq

sys.path.insert(0, str(Path(__file__).parent))
from server_tools import Server, marked, until
from v2client import CLIENT

from remote_exec.host.admission import MAX_OF_A_CLIENT

OTHER = {**CLIENT, "user": "somebody", "pid": 1}


@pytest.fixture
def start(plugins):
    started = []

    def start(*options, files=None):
        before = resource.getrlimit(resource.RLIMIT_NOFILE)
        if files is not None:
            resource.setrlimit(resource.RLIMIT_NOFILE, (files, before[1]))
        try:
            started.append(Server(plugins, *options))
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, before)
        return started[-1]

    yield start
    for server in started:
        assert server.stop() == 0, server.log


def holds(server) -> dict[str, int]:
    """Descriptors and MB of the server's own three processes, and how many processes there are in all."""
    parts = server.processes()
    found = {"processes": len(marked(server.marker))}
    for name in ("supervisor", "front", "forkserver"):
        found[f"{name} fds"] = len(os.listdir(f"/proc/{parts[name]}/fd"))
        status = Path(f"/proc/{parts[name]}/status").read_text()
        found[f"{name} MB"] = int(status.partition("VmRSS:")[2].split()[0]) // 1024
    return found


def test_a_client_that_opens_a_thousand_sessions(start):
    """It gets its share and a clear refusal; the others notice nothing; all of it ends with the client."""
    server = start()
    other = server.v2()
    assert other.call("hello", client=OTHER, seen=None, lease=None)["ok"]
    configure = {"scenario_file_directory": None, "input_dir": None, "output_dir": None}
    other.ok("configure", tick_period=0.02, clock="host", debug=False, **configure)
    other.make("mine", "odd", {"phase": "update", "what": ""})
    before = holds(server)
    vandal = server.v2()
    base = vandal.session
    for number in range(1000):
        vandal.session = f"{base}-{number}"
        vandal.send("hello", client=CLIENT, seen=None, lease=6.0)
        vandal.send("configure", tick_period=0.02, clock="host", debug=False, **configure)
    vandal.until(lambda: len(vandal.replies) == 2000, 60)
    refused = [r for r in vandal.replies.values() if not r["ok"]]
    texts = {r["error"]["message"] for r in refused if "many" in r["error"]["message"]}
    assert texts == {
        f"this client has {MAX_OF_A_CLIENT} sessions open on this server, which is as many as it may: "
        "end some first"
    }
    assert len(refused) == 2 * (1000 - MAX_OF_A_CLIENT)
    assert other.execute("mine")["status"] == "running"
    third = server.v2()
    assert third.call("hello", client=OTHER, seen=None, lease=None)["ok"]
    during = holds(server)
    assert during["front fds"] - before["front fds"] <= 2 * MAX_OF_A_CLIENT + 10
    assert during["front MB"] - before["front MB"] < 50
    vandal.close()
    until(lambda: len(marked(server.marker)) == before["processes"], 60, "its workers have ended")
    until(lambda: holds(server)["front fds"] <= before["front fds"] + 1, 20)
    assert other.ok("ping", seen=0)


def test_a_server_without_room_refuses_and_serves_on(start):
    """Few descriptors, and more connections than it has: who is there is served."""
    server = start(files=64)
    limits = f"/proc/{server.process.pid}/limits"
    assert "Max open files            64" in Path(limits).read_text()
    first = server.v2().open()
    first.make("mine", "odd", {"phase": "update", "what": ""})
    resource_of_front = server.processes()["front"]
    resource.prlimit(resource_of_front, resource.RLIMIT_NOFILE, (64, 64))
    clients, refused = [], []
    for number in range(30):
        one = server.v2()
        answer = one.call("hello", client={**CLIENT, "pid": number + 2}, seen=None, lease=None)
        clients.append(one)
        if not answer["ok"]:
            refused.append(answer["error"]["message"])
    assert refused and all("all it has room for" in text for text in refused)
    assert first.execute("mine")["status"] == "running"
    for one in clients:
        one.close()
    server.clients[:] = [c for c in server.clients if c not in clients]


def test_a_worker_that_cannot_be_started_is_that_session_s_trouble(start):
    """No descriptor is left for its channels: an answer says so, and a later one starts."""
    server = start()
    first = server.v2().open()
    first.make("mine", "odd", {"phase": "update", "what": ""})
    front = server.processes()["front"]
    used = len(os.listdir(f"/proc/{front}/fd"))
    second = server.v2()
    assert second.hello()["ok"]
    before = resource.prlimit(front, resource.RLIMIT_NOFILE)
    resource.prlimit(front, resource.RLIMIT_NOFILE, (used + 2, before[1]))
    configure = {"scenario_file_directory": None, "input_dir": None, "output_dir": None}
    fields = {"tick_period": 0.02, "clock": "host", "debug": False, **configure}
    answer = second.call("configure", **fields)
    assert answer["error"]["kind"] == "crashed" and "could not be started" in answer["error"]["message"]
    assert first.execute("mine")["status"] == "running"
    assert "cannot be listed" in second.call("describe", sessionless=True)["problem"]
    resource.prlimit(front, resource.RLIMIT_NOFILE, before)
    third = server.v2().open()
    third.make("a", "odd")
    assert third.result("a") == "success"
    assert second.ok("bye", release=False)["left"] == []


@pytest.mark.slow
def test_two_hundred_sessions_one_after_the_other_leave_nothing(start):
    server = start()

    def use(count: int) -> None:
        for _ in range(count):
            client = server.v2().open()
            client.make("a", "odd")
            assert client.result("a") == "success"
            assert client.ok("bye", release=False)["left"] == []
            client.close()
            server.clients.remove(client)

    use(20)
    until(lambda: len(marked(server.marker)) == 3, 20)
    before = holds(server)
    use(200)
    until(lambda: len(marked(server.marker)) == 3, 20)
    until(lambda: holds(server)["front fds"] <= before["front fds"], 20)
    after = holds(server)
    assert all(after[key] <= before[key] for key in after if "fds" in key), (before, after)
    assert all(after[key] - before[key] <= 8 for key in after if "MB" in key), (before, after)


def test_who_reads_late_gets_everything_up_to_the_answer_to_its_bye(start):
    client = start().v2().open(lease=20)
    client.make("f", "odd", {"phase": "execute", "what": "flood"})
    client.execute("f")
    client.until(lambda: any("flood" in event.get("text", "") for event in client.events))
    client.sock.setsockopt(zmq.RCVHWM, 10)
    client.sock.disconnect(client.endpoint)
    client.sock.connect(client.endpoint)
    client.send("hello", client=CLIENT, seen=0)
    bye = client.send("bye", release=False)
    time.sleep(1)  # it does not read: more than the connection takes is waiting there
    assert client.wait(bye)["ok"]
    last = [event for event in client.events if event["ev"] == "log"][-1]
    assert last["text"] == "shut down" or last.get("dropped"), "behind a flood it may be one of too many"
