"""Signals: chained in front of the handlers that were there, and put back."""

from __future__ import annotations

import signal

import pytest

from remote_exec.tree.signals import SIGNALS, SignalChain


@pytest.fixture(autouse=True)
def restored():
    before = {number: signal.getsignal(number) for number in SIGNALS}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


def test_we_are_told_first_and_decide_about_the_rest():
    told, passed = [], []
    signal.signal(signal.SIGTERM, lambda number, frame: passed.append(number))
    chain = SignalChain(lambda number: told.append(number) is None and len(told) == 1)
    chain.install()
    signal.raise_signal(signal.SIGTERM)
    signal.raise_signal(signal.SIGTERM)
    assert told == [signal.SIGTERM] * 2 and passed == [signal.SIGTERM]
    assert (chain.count, chain.last) == (2, "SIGTERM")


def test_handlers_are_put_back():
    handler = signal.signal(signal.SIGTERM, lambda number, frame: None)
    ours = signal.getsignal(signal.SIGTERM)
    chain = SignalChain(lambda number: False)
    chain.install()
    assert signal.getsignal(signal.SIGTERM) is not ours
    chain.restore()
    assert signal.getsignal(signal.SIGTERM) is ours
    signal.signal(signal.SIGTERM, handler)


def test_a_handler_that_came_after_us_is_left_alone():
    chain = SignalChain(lambda number: False)
    chain.install()

    def later(number, frame):
        pass

    signal.signal(signal.SIGTERM, later)
    chain.restore()
    assert signal.getsignal(signal.SIGTERM) is later


def test_an_ignored_signal_stays_ignored():
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    SignalChain(lambda number: False).install()
    assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN


def test_where_the_default_would_kill_us_we_leave_orderly():
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    SignalChain(lambda number: True).install()
    with pytest.raises(SystemExit) as stop:
        signal.raise_signal(signal.SIGTERM)
    assert stop.value.code == 128 + signal.SIGTERM
