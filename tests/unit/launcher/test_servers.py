"""A server that is to stay up, but is gone or does not answer."""

from __future__ import annotations

import pytest

from launcher import servers
from launcher.errors import NotReady, StartFailed
from launcher.hosts import Lease
from launcher.model import HostSpec, Machine


@pytest.mark.parametrize("tunnelled", [False, True])
def test_one_that_was_stopped_meanwhile_is_told_at_once(tmp_path, tunnelled):
    path = f"{tmp_path}/sock"
    lease = Lease(HostSpec("lab-pc", Machine()), f"ipc://{path}", True, {}, path if tunnelled else None)
    lease.lost.set()
    with pytest.raises(StartFailed, match="has ended") as told:
        servers.keep(lease, 60)
    assert told.value.next_step == "se-remote logs lab-pc"


@pytest.mark.parametrize("tunnelled", [False, True])
def test_one_that_is_there_has_its_time(tmp_path, monkeypatch, tunnelled):
    path = tmp_path / "sock"
    path.touch()
    lease = Lease(HostSpec("lab-pc", Machine()), f"ipc://{path}", True, {}, str(path) if tunnelled else None)
    monkeypatch.setattr(servers, "HELLO_S", 0.3)
    with pytest.raises(NotReady, match="does not answer"):
        servers.keep(lease, 60)
