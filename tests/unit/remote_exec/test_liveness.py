"""When sessions and servers end, by the table in `liveness`."""

from __future__ import annotations

import math

from remote_exec.host.liveness import FIRST_SESSION_SECONDS, Lease, LifeRules, ServerLife


def test_a_lease() -> None:
    lease = Lease(10.0, 5.0)
    assert not lease.expired(14.9)
    assert lease.expired(15.0)
    assert lease.renewed(12.0).left(13.0) == 9.0
    assert lease.left(99.0) == 0.0


def test_an_ordinary_server_lives_for_ever() -> None:
    life = ServerLife(LifeRules(), 0.0)
    assert life.reason_to_end(1e9, 0) is None
    assert life.next_deadline(0) is None


def test_connect_timeout_and_watchdog() -> None:
    life = ServerLife(LifeRules(watchdog=5.0, connect_timeout=15.0), 0.0)
    assert life.next_deadline(0) == 15.0
    assert "nobody connected" in str(life.reason_to_end(15.0, 0))
    life.heard(14.0)
    assert life.reason_to_end(18.9, 1) is None
    assert "nothing was heard" in str(life.reason_to_end(19.0, 1))


def test_an_ephemeral_server_waits_for_its_first_session() -> None:
    for lease in (1.0, 100.0):
        life = ServerLife(LifeRules(ephemeral=True, lease=lease), 0.0)
        first = max(lease, FIRST_SESSION_SECONDS)
        assert life.reason_to_end(first - 0.1, 0) is None
        assert life.reason_to_end(first, 0)
        assert life.reason_to_end(first, 1) is None


def test_an_ephemeral_server_after_its_last_session() -> None:
    life = ServerLife(LifeRules(ephemeral=True, lease=10.0), 0.0)
    life.session_opened()
    life.session_ended(50.0, at_once=False)
    assert life.reason_to_end(59.0, 0) is None
    life.heard(55.0)
    assert life.reason_to_end(60.0, 0) is None
    assert life.reason_to_end(65.0, 0)
    life.session_ended(70.0, at_once=True)
    assert life.reason_to_end(70.0, 0)
    assert life.reason_to_end(70.0, 1) is None
    life.session_opened()
    life.heard(71.0)
    assert life.reason_to_end(72.0, 0) is None


def test_keep() -> None:
    life = ServerLife(LifeRules(ephemeral=True, lease=10.0), 0.0)
    assert life.ephemeral(0.0)
    life.keep(100.0, 0.0)
    life.session_ended(5.0, at_once=True)
    assert not life.ephemeral(99.0)
    assert life.reason_to_end(99.0, 0) is None
    assert life.ephemeral(100.0)
    assert life.reason_to_end(100.0, 0)
    life.keep(None, 100.0)
    assert life.kept_left(1e9) == math.inf
    assert life.reason_to_end(1e9, 0) is None
    assert life.next_deadline(0) is None
