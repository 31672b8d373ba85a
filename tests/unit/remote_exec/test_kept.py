"""For how long a server is kept up, and who hears of its end, by the table in `kept`."""

from __future__ import annotations

import math

from remote_exec.client.notices import lease_text
from remote_exec.host.kept import SOON, Kept
from remote_exec.host.liveness import LifeRules, ServerLife

HOUR = 3600.0


def test_keep_never_shortens() -> None:
    kept = Kept()
    assert kept.left(0.0) is None
    kept.keep(HOUR, 0.0)
    kept.keep(60.0, 0.0)
    assert kept.left(100.0) == HOUR - 100
    kept.keep(HOUR, 100.0)
    assert kept.left(100.0) == HOUR
    kept.keep(None, 200.0)
    kept.keep(HOUR, 200.0)
    assert kept.left(1e9) == math.inf
    assert kept.next_news() is None and kept.at_hello(1e9) is None


def test_every_session_hears_once_when_little_is_left_and_once_when_nothing_is() -> None:
    kept = Kept()
    kept.keep(HOUR, 0.0)
    assert kept.next_news() == HOUR - SOON
    assert kept.news(HOUR - SOON - 1) is None
    assert kept.at_hello(HOUR - SOON - 1) is None
    assert kept.news(HOUR - SOON) == SOON
    assert kept.news(HOUR - SOON + 1) is None
    assert kept.at_hello(HOUR - 60) == 60.0
    assert kept.next_news() == HOUR
    assert kept.news(HOUR) == 0.0
    assert kept.news(HOUR + 1) is None and kept.next_news() is None
    assert kept.at_hello(HOUR + 1) == 0.0


def test_a_time_that_is_extended_is_told_again() -> None:
    kept = Kept()
    kept.keep(HOUR, 0.0)
    kept.news(HOUR - 1)
    kept.keep(HOUR, HOUR - 1)
    assert kept.at_hello(HOUR) is None
    assert kept.next_news() == 2 * HOUR - 1 - SOON


def test_a_loop_that_comes_late_tells_only_that_it_is_over() -> None:
    kept = Kept()
    kept.keep(HOUR, 0.0)
    assert kept.news(2 * HOUR) == 0.0
    assert kept.next_news() is None


def test_nobody_is_told_of_the_short_time_that_he_has_asked_for() -> None:
    kept = Kept()
    kept.keep(90.0, 0.0)
    assert kept.next_news() == 90.0
    assert kept.at_hello(30.0) == 60.0


def test_a_server_that_is_kept_from_its_start_ends_though_nobody_ever_came() -> None:
    life = ServerLife(LifeRules(ephemeral=True, lease=10.0, keep=HOUR), 0.0)
    assert not life.ephemeral(0.0)
    assert life.reason_to_end(HOUR - 1, 0) is None
    assert life.reason_to_end(HOUR, 0)
    for_ever = ServerLife(LifeRules(ephemeral=True, keep=0.0), 0.0)
    assert for_ever.reason_to_end(1e9, 0) is None


def test_a_session_in_use_counts_as_use() -> None:
    life = ServerLife(LifeRules(ephemeral=True, lease=10.0, keep=HOUR), 0.0)
    life.session_opened()
    assert life.reason_to_end(HOUR + 1, 1) is None
    life.session_ended(HOUR + 2, at_once=True)
    assert life.reason_to_end(HOUR + 2, 0)


def test_the_words_say_what_will_happen_and_what_to_run() -> None:
    soon, over = lease_text("lab-pc", 540.0), lease_text("lab-pc", 0.0)
    assert "9 min" in soon and "not cut off" in soon
    assert "over: it ends after this run" in over
    assert all(text.endswith("se-remote extend lab-pc --for 4h") for text in (soon, over))
