"""Hostile input at the real socket: the server's memory stays bounded, and everybody else is served on.

The bounds are wide: they tell apart what is kept from what is thrown away, not one allocator from another.
"""

from __future__ import annotations

import struct
import sys
import threading
from pathlib import Path

import msgpack
import pytest
import zmq

sys.path.insert(0, str(Path(__file__).parent))
from server_tools import Server, marked, until

from remote_exec import codec
from remote_exec.messages import MAX_MESSAGE_BYTES, WIRE_VERSION

MIB = 1024 * 1024


@pytest.fixture
def server(plugins):
    server = Server(plugins)
    yield server
    assert server.stop() == 0, server.log


class Memory:
    """The most that all processes of a server together have held for themselves, looked at all the time."""

    def __init__(self, server):
        self._server, self._over = server, threading.Event()
        self.most = self.start = self._now()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *error):
        self._over.set()
        self._thread.join()

    def _watch(self):
        while not self._over.wait(0.05):
            self.most = max(self.most, self._now())

    def _now(self):
        total = 0
        for pid, _ in marked(self._server.marker):
            try:
                lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
            except OSError:
                continue
            total += sum(int(line.split()[1]) for line in lines if line.startswith("Private_"))
        return total // 1024

    @property
    def grown(self):
        """MiB."""
        return self.most - self.start


@pytest.fixture
def others(server):
    """Another client with a running action: whatever happens, it is served."""
    client = server.v2().open()
    client.make("mine", "odd", {"phase": "update", "what": ""})
    assert client.execute("mine")["status"] == "running"

    def served():
        assert client.ok("ping", seen=client.events[-1]["seq"] if client.events else 0)
        client.make("new", "odd")
        assert client.result("new") == "success"
        client.ok("shutdown", action="new")

    yield served
    served()
    assert client.status("mine") in ("", "running")


def message(**fields):
    return {"v": WIRE_VERSION, "id": 1, "session": "s", "cmd": "hello", "client": {}, **fields}


def answered(client, body):
    client.replies.clear()
    client.raw(body)
    client.until(lambda: client.replies, what="no answer")
    (reply,) = client.replies.values()
    return reply


def nested(depth, kind):
    if kind == "list":
        return b"\x91" * depth + b"\xc0"
    if kind == "map":
        return b"\x81\xa1k" * depth + b"\xc0"
    body = b"\x90"
    for _ in range(depth):  # tuples in tuples
        body = b"\x91" + msgpack.packb(msgpack.ExtType(codec.TUPLE_EXT, body))
    return body


@pytest.mark.parametrize("kind", ["list", "map", "tuple"])
@pytest.mark.parametrize("depth", [60, 65, 500, 5_000])
def test_deep_nesting(server, others, kind, depth):
    vandal = server.v2()
    head = msgpack.packb(message())
    body = bytes([head[0] + 1]) + head[1:] + b"\xa1x" + nested(depth, kind)
    reply = answered(vandal, body)
    assert reply["ok"] or reply["error"]["kind"] == "bad_message"
    assert reply["ok"] == (depth == 60 and kind != "tuple") or kind == "tuple"


@pytest.mark.parametrize(
    "bomb",
    [
        b"\xdd" + struct.pack("!I", 2**32 - 1),
        b"\xdf" + struct.pack("!I", 2**32 - 1),
        b"\xdb" + struct.pack("!I", 2**32 - 1) + b"x" * 100,
        b"\xc9" + struct.pack("!IB", 2**31, codec.TUPLE_EXT) + b"x" * 100,
        b"\x81\xa1k" + b"\xdd" + struct.pack("!I", 2**31),
    ],
    ids=["array", "map", "text", "tuple", "inside"],
)
def test_a_length_that_is_a_lie(server, others, bomb):
    with Memory(server) as memory:
        assert answered(server.v2(), bomb)["error"]["kind"] == "bad_message"
    assert memory.grown < 100


@pytest.mark.parametrize(
    "huge",
    [
        b"\xdd" + struct.pack("!I", 8_000_000) + b"\x90" * 8_000_000,
        b"\xdd" + struct.pack("!I", 8_000_000) + b"\xc0" * 8_000_000,
        b"\xc6" + struct.pack("!I", 8_000_000) + b"x" * 8_000_000,
    ],
    ids=["empty lists", "nils", "bytes"],
)
def test_as_much_as_fits_into_a_message(server, others, huge):
    """Small values take more room in memory than on the wire; what has been dealt with is given back."""
    vandal = server.v2().open()
    head = msgpack.packb(message(id=100, session=vandal.session, cmd="set"))
    body = bytes([head[0] + 1]) + head[1:] + b"\xa1x" + huge
    assert len(body) <= MAX_MESSAGE_BYTES
    with Memory(server) as memory:
        for _ in range(5):
            answered(vandal, body)
            others()
    assert memory.grown < 1000


def test_commands_that_pile_up_behind_a_busy_action_are_bounded(server, others):
    vandal = server.v2().open()
    vandal.make("busy", "odd", {"phase": "update", "what": "sleep 15"})
    vandal.send("execute", action="busy", args={})
    big = {"text": "x" * 4_000_000}
    fields = {"plugin": "odd", "name": "n", "init_args": big, "label": None, "source": None, "actor": None}
    with Memory(server) as memory:
        for number in range(100):
            vandal.send("create", action=f"a{number}", **fields)
        vandal.until(lambda: len(vandal.replies) >= 80, what="nothing was refused")
        others()
    refused = [reply["error"]["message"] for reply in vandal.replies.values() if not reply["ok"]]
    assert refused and all("wait for an answer" in text or "does not take" in text for text in refused)
    assert memory.grown < 400


def test_a_session_whose_client_never_reads(server, others):
    vandal = server.v2()
    vandal.sock.setsockopt(zmq.RCVHWM, 1)
    vandal.close()
    vandal.sock = vandal.context.socket(zmq.DEALER)
    for option, value in ((zmq.LINGER, 0), (zmq.RCVHWM, 1), (zmq.RCVBUF, 4096)):
        vandal.sock.setsockopt(option, value)
    vandal.sock.connect(server.endpoint)
    configure = {"scenario_file_directory": None, "input_dir": None, "output_dir": None}
    vandal.send("hello", client={}, seen=None)
    vandal.send("configure", tick_period=0.001, clock="host", debug=False, **configure)
    with Memory(server) as memory:
        for number in range(20):
            name = f"a{number}"
            args = {"phase": "execute", "what": "flood"}
            vandal.send(
                "create",
                action=name,
                plugin="odd",
                name=name,
                init_args=args,
                label=None,
                source=None,
                actor=None,
            )
            vandal.send("setup", action=name)
            vandal.send("execute", action=name, args={})
            vandal.send("ping", seen=0)
        until(lambda: _finished(server, 20), 60, "the floods did not end")
        for _ in range(20_000):
            vandal.send("ping", seen=0)
        others()
    assert memory.grown < 300


def _finished(server, count):
    watcher = server.v2()
    sessions = watcher.ok("describe")["sessions"]
    watcher.close()
    states = [action["status"] for session in sessions for action in session["actions"]]
    return states.count("success") >= count


def test_ids_that_come_twice_and_commands_out_of_order(server, others):
    vandal = server.v2()
    wrong = ["tick", "set", "cancel", "shutdown", "execute", "setup", "create", "configure", "bye", "ping"]
    fields = {
        "action": "a",
        "plugin": "odd",
        "name": "a",
        "init_args": {},
        "args": {},
        "vars": {},
        "t": 1.0,
        "clock": "host",
        "tick_period": 0.1,
    }
    for cmd in wrong:
        reply = vandal.call(cmd, **fields)
        assert reply["error"]["kind"] == "unknown_session", cmd
    vandal.open()
    assert vandal.call("execute", **fields)["error"]["kind"] == "unknown_action"
    assert vandal.call("setup", **fields)["error"]["kind"] == "unknown_action"
    assert vandal.ok("create", **fields)
    assert vandal.call("execute", **fields)["error"]["kind"] == "wrong_state"
    assert vandal.call("create", **fields)["error"]["kind"] == "wrong_state"
    assert vandal.ok("setup", **fields)
    number = vandal.send("execute", **{**fields, "vars": None})
    first = vandal.wait(number)
    vandal.replies.clear()
    for cmd in ("execute", "shutdown", "cancel", "create"):
        # The same id again, under whatever name: the answer that was given, and nothing is done.
        vandal.send(cmd, msg_id=number, **fields)
        vandal.until(lambda: number in vandal.replies)
        assert vandal.replies.pop(number)["feedback"] == first["feedback"] == "tick 1"
    vandal.until(lambda: vandal.status("a") == "success")
    assert vandal.ok("shutdown", **fields) and vandal.ok("shutdown", **fields)
    assert vandal.call("execute", **{**fields, "vars": None})["error"]["kind"] == "unknown_action"


def test_a_message_of_very_many_frames(server, others):
    vandal = server.v2()
    with Memory(server) as memory:
        for _ in range(3):
            vandal.raw(*[b""] * 50_000)
            vandal.raw(*[b"x" * 1000] * 2_000)
        assert vandal.hello()["ok"]
    assert memory.grown < 200


def test_a_flood_of_large_messages_delays_others_by_few_of_them_and_is_not_read_ahead(server, others):
    vandal = server.v2().open()
    head = msgpack.packb(message(id=100, session=vandal.session, cmd="set"))
    body = bytes([head[0] + 1]) + head[1:] + b"\xa1x\xdd" + struct.pack("!I", 4_000_000) + b"\xc0" * 4_000_000
    vandal.sock.setsockopt(zmq.SNDHWM, 10_000)
    got = []
    with Memory(server) as memory:
        for _ in range(100):  # more than the front lets wait
            vandal.raw(body)
        others()
        while vandal.sock.poll(0):
            got.append(vandal.sock.recv())
    assert len(got) < 80, "the flood came first"
    assert memory.grown < 800
