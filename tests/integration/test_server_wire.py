"""What anybody may send to the server's socket, and the command line."""

from __future__ import annotations

import random
import socket
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
from server_tools import Server, until

from remote_exec import codec
from remote_exec.messages import MAX_MESSAGE_BYTES, WIRE_VERSION


@pytest.fixture
def start():
    started = []

    def start(*options, **more):
        started.append(Server(None, *options, **more))
        return started[-1]

    yield start
    for server in started:
        server.stop()


@pytest.fixture
def server(start):
    return start()


def body(**fields):
    return codec.pack({"v": WIRE_VERSION, "id": 1, "session": "s", "cmd": "ping", **fields})


@pytest.mark.parametrize(
    ("message", "kind", "where"),
    [
        (body(v=3), "bad_message", "v"),
        (body(id="x"), "bad_message", "id"),
        (body(id=True), "bad_message", "id"),
        (body(id=-1), "bad_message", "id"),
        (body(cmd="fly"), "unknown_command", "cmd"),
        (body(cmd=7), "bad_message", "cmd"),
        (body(session=None), "bad_message", "session"),
        (body(session=""), "bad_message", "session"),
        (body(session="x" * 129), "bad_message", "session"),
        (body(cmd="hello"), "bad_message", "client"),
        (body(cmd="hello", client=[]), "bad_message", "client"),
        (body(cmd="hello", client={}, on_loss="perhaps"), "bad_message", "on_loss"),
        (body(cmd="hello", client={}, lease=float("nan")), "bad_message", "lease"),
        (body(cmd="setup", action=7), "bad_message", "action"),
        (body(cmd="setup", action=""), "bad_message", "action"),
        (body(cmd="ping"), "unknown_session", ""),
        (b"\xc1", "bad_message", ""),
        (b"", "bad_message", ""),
    ],
    ids=lambda value: value if isinstance(value, str) else str(len(value)),
)
def test_a_wrong_message_is_answered_with_its_field(server, message, kind, where):
    client = server.v2()
    client.raw(message)
    client.until(lambda: client.replies)
    ((_, reply),) = client.replies.items()
    client.replies.clear()
    assert not reply["ok"]
    assert (reply["error"]["kind"], reply["error"]["where"]) == (kind, where)
    assert client.hello()["ok"]


def test_garbage_changes_nothing(server):
    client, vandal = server.v2().open(), server.v2()
    client.make("a", "run_process")
    client.ok("execute", action="a", args={"command": ["sleep", "30"]})
    dice = random.Random(2)
    good = body(cmd="hello", client={"user": "x"}, seen=None)
    for _ in range(300):
        vandal.raw(*(dice.randbytes(dice.randrange(40)) for _ in range(dice.randrange(1, 6))))
        vandal.raw(good[: dice.randrange(len(good))])
        vandal.raw(b"", dice.randbytes(dice.randrange(60)))
        wrong = {"cmd": dice.choice(["init", "update", 3, None]), "payload": dice.random()}
        vandal.raw(b"", codec.pack_v1(wrong))
    vandal.raw(*[b"x"] * 500)
    with socket.socket(socket.AF_UNIX) as plain:
        plain.connect(str(server.socket))
        plain.send(dice.randbytes(5000))
        assert client.ok("ping", seen=0)
    assert vandal.hello()["ok"]
    assert client.ok("ping", seen=0)
    assert client.status("a") == ""
    assert len(server.log.splitlines()) < 60, "a complaint is not repeated"


def test_a_message_that_is_too_large_disconnects_its_sender_only(server):
    client, vandal = server.v2(), server.v2()
    vandal.raw(b"x" * (2 * MAX_MESSAGE_BYTES + 1000))
    assert client.hello()["ok"]
    assert vandal.hello()["ok"]


def test_a_server_that_is_kept_for_longer_than_a_clock_can_count(start):
    server = start()
    client = server.v2()
    assert client.call("keep", sessionless=True, seconds=1e308)["ok"]
    until(lambda: str(int(1e308))[:9] in (server.run_dir / "state.json").read_text(), what=server.log)
    assert client.hello()["ok"] and "Traceback" not in server.log


def test_a_client_that_never_reads_costs_bounded_memory(server):
    import zmq

    client, other = server.v2(), server.v2()
    client.sock.setsockopt(zmq.RCVHWM, 1)
    client.close()
    client.sock = client.context.socket(zmq.DEALER)
    client.sock.setsockopt(zmq.LINGER, 0)
    client.sock.setsockopt(zmq.RCVHWM, 1)
    client.sock.connect(client.endpoint)
    for number in range(30_000):
        client.send("hello", msg_id=number, sessionless=True, client={}, seen=None)
        if number % 5000 == 0:
            assert other.hello()["ok"]
    assert other.hello()["ok"]
    front = server.processes()["front"]
    resident = int(
        next(
            line
            for line in Path(f"/proc/{front}/status").read_text().splitlines()
            if line.startswith("VmRSS")
        ).split()[1]
    )
    assert resident < 200_000


# -- the command line


def run(*options, **more):
    command = [sys.executable, "-m", "remote_exec.server", *options]
    return subprocess.run(
        command, capture_output=True, text=True, timeout=30, stdin=subprocess.DEVNULL, **more
    )


@pytest.mark.parametrize(
    ("options", "text"),
    [
        (["--bind", "0.0.0.0"], "--insecure"),
        (["--bind", "lab-pc"], "numeric"),
        (["--port", "99999"], "99999"),
        (["--socket-mode", "9"], "octal"),
        (["--watchdog", "-1"], "-1"),
        (["--run-dir", "/x", "--socket", "/y"], "--socket"),
    ],
)
def test_usage_errors_are_sentences(options, text):
    result = run(*options)
    assert result.returncode == 2
    assert text in result.stderr
    assert "Traceback" not in result.stderr


def test_places_where_it_cannot_listen(tmp_path, start):
    (tmp_path / "file").write_text("keep me")
    open_dir = tmp_path / "open"
    open_dir.mkdir(mode=0o755)
    open_dir.chmod(0o755)
    live = start(run_dir=False)
    assert live.v2().hello()["ok"]
    for options, text in (
        (["--socket", str(tmp_path / "file")], "no socket"),
        (["--socket", str(tmp_path / "no" / "dir")], "No such file"),
        (["--socket", str(tmp_path / ("x" * 120))], "107"),
        (["--socket", str(live.socket)], "another server"),
        (["--run-dir", str(tmp_path / "none")], "No such file"),
        (["--run-dir", str(open_dir)], "0700"),
        (["--run-dir", str(tmp_path / "file")], "no directory"),
    ):
        result = run(*options)
        assert result.returncode == 1, options
        assert text in result.stderr, (options, result.stderr)
        assert "Traceback" not in result.stderr
    assert (tmp_path / "file").read_text() == "keep me"
    assert live.v2().hello()["ok"]


def test_a_stale_socket_is_replaced_and_the_mode_is_kept(start, tmp_path):
    path = tmp_path / "s"
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
    result = run("--socket", str(path), "--socket-mode", "660", "--connect-timeout", "0.2")
    assert result.returncode == 0, result.stderr
    assert "nobody connected" in result.stdout
    assert not path.exists()


def test_the_socket_has_its_mode(start):
    server = start("--socket-mode", "660", run_dir=False)
    assert server.v2().hello()["ok"]
    assert stat.S_IMODE(server.socket.stat().st_mode) == 0o660


def test_tcp_on_loopback(start):
    server = start("--port", "0")
    until(lambda: "tcp://" in server.log)
    server.endpoint = server.log.split("tcp://")[1].split()[0].rstrip(",")
    server.endpoint = f"tcp://{server.endpoint}"
    assert server.endpoint.startswith("tcp://127.0.0.1:")
    assert server.v2().hello()["ok"]


def test_the_watchdog_ends_a_server_that_hears_nothing(start):
    server = start("--watchdog", "0.5", "--connect-timeout", "60", run_dir=False)
    assert server.v1().call("heartbeat") == {"status": "ok"}
    started = time.monotonic()
    assert server.wait() == 0
    assert time.monotonic() - started < 20
    assert "nothing was heard" in server.log


def test_its_output_may_be_a_pipe_that_nobody_reads(tmp_path):
    process = subprocess.Popen(
        [sys.executable, "-m", "remote_exec.server", "--socket", str(tmp_path / "s"), "-v", "-c", "30"],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    try:
        import zmq
        from v2client import V2Client

        context = zmq.Context()
        client = V2Client(context, f"ipc://{tmp_path}/s").open()
        client.make("a", "run_process")
        assert client.result("a", command=["sh", "-c", "seq 1 20000"]) == "success"
        assert client.ok("bye")["left"] == []
        client.close()
        context.destroy(0)
    finally:
        process.terminate()
        assert process.wait(30) == 0
        process.stdout.close()
