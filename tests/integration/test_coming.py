"""Who has found a server and has not said hello yet: it does not end under them."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
from server_tools import Server, until, write_plugins
from v2client import CLIENT

from remote_exec.host import coming


@pytest.fixture
def server(tmp_path):
    server = Server(write_plugins(tmp_path), "--ephemeral", "--lease", "2")
    yield server
    server.stop()


def leave(server):
    """The last session there ends, and says that it needs the server no longer."""
    client = server.v2()
    assert client.hello()["ok"]
    assert client.ok("bye", release=True)["left"] == []


def test_an_ephemeral_server_waits_for_who_is_on_the_way(server):
    mark = server.run_dir / "coming.0123456789abcdef"
    mark.touch()
    leave(server)
    time.sleep(1.0)  # it would have ended at once
    assert server.process.poll() is None and (server.run_dir / "endpoint.json").exists()
    late = server.v2()
    assert late.hello(client={**CLIENT, "id": "0123456789abcdef"})["ok"]
    until(lambda: not mark.exists(), 20)
    late.ok("bye", release=True)
    assert server.wait(10) == 0


def test_a_mark_that_is_too_old_does_not_count(server):
    mark = server.run_dir / "coming.0123456789abcdef"
    mark.touch()
    old = time.time() - coming.SECONDS + 2
    os.utime(mark, (old, old))
    leave(server)
    assert server.wait(10) == 0


def test_only_a_clients_own_mark_is_removed(tmp_path):
    for name in ("coming.aa", "coming.bb", "pid"):
        (tmp_path / name).touch()
    for client in ("aa", "../coming.bb", "", None, 5, "AA"):
        coming.arrived(str(tmp_path), client)
    coming.arrived(None, "bb")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["coming.bb", "pid"]
    os.utime(tmp_path / "coming.bb", (time.time() + 3600,) * 2)
    assert not coming.anybody(str(tmp_path)), "a clock that was stepped"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["pid"]
