"""Lockstep over hosts that record: all are asked before one is waited for, and what ends a wait."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from remote_exec.client.session import Reply
from remote_exec.tree.lockstep import Lockstep, simulated_clock


class Host:
    def __init__(self, record, name, running=True):
        self.record, self.name, self.running = record, name, running
        self.over = False
        self.then = None

    def any_running(self):
        return self.running

    def call(self, cmd, fields, then):
        self.record.append((self.name, cmd, fields))
        self.then = then
        return 1

    def took_statuses(self, reply):
        self.record.append((self.name, "took", reply.fields))


class Desk:
    """Calls `during_wait` until what is waited for is there."""

    def __init__(self):
        self.signalled = False
        self.during_wait = lambda: pytest.fail("nothing to wait for")

    def interrupted(self):
        return self.signalled

    def wait(self, done, deadline, abortable=True):
        assert deadline == float("inf") and not abortable
        while not done():
            self.during_wait()
        return True


@pytest.fixture
def bench():
    record, desk = [], Desk()
    hosts = [Host(record, "one"), Host(record, "idle", running=False), Host(record, "two")]
    lockstep = Lockstep(desk, SimpleNamespace(now=lambda: 0.25))
    return SimpleNamespace(record=record, desk=desk, hosts=hosts, lockstep=lockstep)


def test_all_hosts_where_something_runs_are_asked_side_by_side(bench):
    def answer():
        assert [entry[:2] for entry in bench.record] == [("one", "tick"), ("two", "tick")]
        for host in (bench.hosts[2], bench.hosts[0]):
            host.then(Reply(1, "tick", {"statuses": {}}))

    bench.desk.during_wait = answer
    bench.lockstep.tick(bench.hosts)
    assert bench.record[0] == ("one", "tick", {"t": 0.25})
    assert [entry[:2] for entry in bench.record[2:]] == [("two", "took"), ("one", "took")]


def test_a_host_that_is_lost_is_not_waited_for(bench):
    def lose():
        bench.hosts[0].over = True
        bench.hosts[2].then(Reply(1, "tick", {"statuses": {}}))

    bench.desk.during_wait = lose
    bench.lockstep.tick(bench.hosts)
    bench.record.clear()
    bench.lockstep.tick(bench.hosts)
    assert [entry[:2] for entry in bench.record] == [("two", "tick"), ("two", "took")]


def test_a_signal_ends_the_wait(bench):
    def signal():
        bench.desk.signalled = True

    bench.desk.during_wait = signal
    bench.lockstep.tick(bench.hosts)
    bench.lockstep.wait(bench.hosts[0], lambda: False)


def test_only_a_simulation_that_is_stepped_makes_time_simulated():
    clock = object()
    assert simulated_clock({"clock": clock, "simulation": object()}) is clock
    assert simulated_clock({"clock": clock}) is None
    assert simulated_clock({}) is None
