"""The executor of the loop: what is given up while it runs says nothing on the terminal."""

import threading

import pytest

from launcher.loopthread import DaemonExecutor


def test_given_up_while_it_runs(monkeypatch):
    escaped = []
    monkeypatch.setattr(threading, "excepthook", escaped.append)
    begun, end = threading.Event(), threading.Event()

    def work():
        begun.set()
        end.wait(10)
        return 7

    future = DaemonExecutor().submit(work)
    assert begun.wait(10)
    assert not future.cancel(), "it runs: it cannot be taken back any more"
    end.set()
    assert future.result(10) == 7
    assert escaped == []


def test_its_error_is_the_futures():
    with pytest.raises(ZeroDivisionError):
        DaemonExecutor().submit(lambda: 1 / 0).result(10)
