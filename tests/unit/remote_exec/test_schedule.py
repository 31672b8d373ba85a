"""When actions are ticked next."""

from __future__ import annotations

import math

import pytest

from remote_exec.host.schedule import Schedule


def test_actions_of_one_period_are_due_together() -> None:
    schedule = Schedule()
    schedule.put("a", 0.1, 5.01)
    schedule.put("b", 0.1, 5.04)
    assert schedule.next == pytest.approx(5.1)
    assert schedule.take(5.09) == set()
    assert schedule.take(5.11) == {"a", "b"}
    assert schedule.take(9.0) == set() and schedule.next == math.inf


def test_nothing_is_due_at_once_and_the_later_ones_stay() -> None:
    schedule = Schedule()
    schedule.put("a", 0.1, 5.06)  # less than half a period before a point of the grid
    assert schedule.next == pytest.approx(5.2)
    schedule.put("slow", 10.0, 5.06)
    schedule.put("greedy", 0.0, 5.06)
    assert 5.06 < schedule.next < 5.07
    assert schedule.take(5.5) == {"a", "greedy"}
    assert schedule.next == 20.0
