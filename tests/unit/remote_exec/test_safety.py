"""When `on_stop` runs: the table of host/safety.py, without any process."""

from __future__ import annotations

import random

import pytest

from remote_exec.host.safety import Rules, Step, why_unsafe


@pytest.mark.parametrize(
    ("asked", "exited", "left", "why"),
    [
        ("", "exit code 0", [], ""),
        ("", "exit code 0", ["pid 7"], "something could not be ended"),
        ("", "exit code 1", [], "a worker had to be ended by force: exit code 1"),
        ("", "signal SIGKILL", [], "a worker had to be ended by force: signal SIGKILL"),
        ("", "its keeper process died", [], "a worker had to be ended by force: its keeper process died"),
        ("", None, ["pid 7"], "a worker had to be ended by force: it is still there"),
        ("2 s of silence", "exit code 0", [], "2 s of silence"),
        ("2 s of silence", "signal SIGKILL", [], "2 s of silence"),
        (None, "exit code 0", [], "a worker process died: exit code 0"),
        (None, "signal SIGSEGV", [], "a worker process died: signal SIGSEGV"),
    ],
)
def test_what_is_in_order(asked, exited, left, why):
    assert why_unsafe(asked, exited, left) == why


def test_in_order():
    rules = Rules()
    assert rules.comes("a") is Step.ARM
    assert rules.comes("b") is Step.NOTHING
    assert rules.leaves("a", "") is Step.NOTHING
    assert rules.leaves("b", "") is Step.DISARM
    assert rules.comes("c") is Step.ARM


def test_a_bad_end_runs_it_once():
    rules = Rules()
    rules.comes("a")
    assert rules.leaves("a", "lost") is Step.RUN
    assert rules.leaves("a", "lost") is Step.NOTHING, "it is known no longer"
    assert rules.ran() is Step.NOTHING
    rules.comes("b")
    assert rules.leaves("b", "") is Step.DISARM, "the old reason is forgotten"


def test_one_that_was_not_done_is_due_after_the_next_user():
    rules = Rules()
    rules.comes("a")
    rules.leaves("a", "lost")
    assert rules.ran(done=False) is Step.NOTHING
    assert rules.comes("b") is Step.ARM
    assert rules.leaves("b", "") is Step.RUN


def test_a_bad_end_waits_for_the_others():
    rules = Rules()
    for user in "abc":
        rules.comes(user)
    assert rules.leaves("a", "lost") is Step.NOTHING
    assert rules.leaves("b", "killed") is Step.NOTHING
    assert rules.leaves("c", "") is Step.RUN
    assert rules.reasons == ["lost", "killed"]


def test_who_comes_meanwhile_is_armed_afterwards():
    rules = Rules()
    rules.comes("a")
    rules.leaves("a", "lost")
    assert rules.comes("b") is Step.NOTHING
    assert rules.ran() is Step.ARM
    assert rules.leaves("b", "") is Step.DISARM


def test_any_order_ends_safe():
    """Armed exactly while somebody is there or a bad end is not yet answered."""
    chance = random.Random(7)
    for _ in range(300):
        rules, due, users = Rules(), False, set()
        for step in range(40):
            if rules.running and chance.random() < 0.5:
                rules.ran()
            elif users and chance.random() < 0.5 and not rules.running:
                user, reason = users.pop(), chance.choice(["", "lost"])
                due = due or bool(reason)
                done = rules.leaves(user, reason)
                assert (done is Step.RUN) == (due and not users)
                due = due and done is not Step.RUN
            else:
                users.add(step)
                rules.comes(step)
            assert rules.running or rules.armed == bool(users)
