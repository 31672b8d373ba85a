"""The relay: bytes unchanged both ways, an end for an end, and nothing needed but the standard library."""

import socket
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from remote_exec import relay

TEXT = Path(relay.__file__).read_text()


@pytest.fixture
def listening(tmp_path):
    path = tmp_path / "sock"
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(str(path))
        sock.listen()
        yield path, sock


def start(*words: str) -> subprocess.Popen:
    command = [sys.executable, "-I", "-S", "-c", TEXT, *words]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def test_bytes_go_both_ways_at_once(listening):
    path, sock = listening
    data = bytes(range(256)) * 20_000
    process = start(str(path))
    peer, _ = sock.accept()
    with peer:
        heard = bytearray()

        def echo() -> None:
            while chunk := peer.recv(1 << 16):
                peer.sendall(chunk)

        threading.Thread(target=echo, daemon=True).start()
        feeding = threading.Thread(target=lambda: (process.stdin.write(data), process.stdin.flush()))
        feeding.start()
        while len(heard) < len(data):
            heard += process.stdout.read1(1 << 16)
        feeding.join()
        assert bytes(heard) == data
        process.stdin.close()
        assert process.wait(10) == 0, "its input's end is its own"
    process.stdout.close()
    process.stderr.close()


def test_it_ends_with_the_socket_and_passes_on_what_came_before(listening):
    path, sock = listening
    process = start(str(path))
    peer, _ = sock.accept()
    peer.sendall(b"last words" * 1000)
    peer.close()
    out, err = process.communicate(timeout=10)
    assert (out, err, process.returncode) == (b"last words" * 1000, b"", 0)


def test_nobody_listens(tmp_path, capfd):
    assert relay.main([str(tmp_path / "none")]) == relay.NOBODY
    assert relay.main(["--check", str(tmp_path / "none")]) == relay.NOBODY
    assert relay.main([]) == 2
    assert "No such file" in capfd.readouterr().err


def test_a_check_only_looks(listening):
    path, sock = listening
    assert relay.main(["--check", str(path)]) == 0
    peer, _ = sock.accept()
    with peer:
        assert peer.recv(1) == b""
