"""The hub and its links, over real sockets, against a small ROUTER that does what a test says."""

from __future__ import annotations

import os
import sys
import threading
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from linktools import SERVER, WAIT, Inbox, Relay, Router, session_of

from remote_exec.client.connection import Probe
from remote_exec.client.hub import Hub, request
from remote_exec.client.link import Gone, LinkSpec, LinkUp, Note
from remote_exec.client.session import Event, Reply
from remote_exec.errors import HostLost, RemoteError


@pytest.fixture
def endpoint(tmp_path):
    return f"ipc://{tmp_path}/sock"


@pytest.fixture
def hub():
    hub = Hub()
    yield hub
    hub.close()
    assert not hub._thread.is_alive()


@pytest.fixture
def routers():
    made: list[Router] = []

    def make(*args, **kwargs) -> Router:
        made.append(Router(*args, **kwargs))
        return made[-1]

    yield make
    for router in made:
        router.close()


def connected(hub, endpoint, **spec):
    inbox = Inbox()
    link = hub.connect(LinkSpec("lab-pc", endpoint, **spec), inbox)
    assert inbox.next(LinkUp).wire == 2
    return link, inbox


def test_an_address_that_is_not_ours_is_first_asked_in_the_v1_form(hub, endpoint, routers):
    router = routers(endpoint)
    connected(hub, endpoint)
    assert router.seen[0]["cmd"] == "hello" and "v" not in router.seen[0]
    assert router.seen[1]["v"] == 2 and router.seen[1]["seen"] is None


def test_a_server_of_our_own_is_spoken_to_at_once(hub, endpoint, routers):
    router = routers(endpoint)
    connected(hub, endpoint, ours=True)
    assert router.seen[0]["v"] == 2


def test_the_link_waits_for_a_server_that_comes_later(hub, endpoint, routers):
    inbox = Inbox()
    hub.connect(LinkSpec("lab-pc", endpoint), inbox)
    routers(endpoint)
    assert inbox.next(LinkUp)


def test_nobody_there_is_said_after_the_connect_timeout(hub, endpoint):
    inbox = Inbox()
    hub.connect(LinkSpec("lab-pc", endpoint, connect_timeout=0.2), inbox)
    assert "no answer from lab-pc" in inbox.next(Gone).reason


def test_another_wire_version_is_refused(hub, endpoint, routers):
    routers(endpoint, lambda message: {"server": {**SERVER, "wire": 3}})
    inbox = Inbox()
    hub.connect(LinkSpec("lab-pc", endpoint, ours=True), inbox)
    assert "wire version 3" in inbox.next(Gone).reason


def test_commands_and_events_of_a_session(hub, endpoint, routers):
    router = routers(endpoint)
    link, _ = connected(hub, endpoint)
    session, inbox = session_of(link)
    number = session.send("setup", {"action": "a"})
    assert inbox.next(Reply).id == number
    router.push(seq=1, ev="status", action="a", status="success", feedback="done")
    assert inbox.next(Event).fields["feedback"] == "done"


def test_the_lease_is_renewed_and_the_round_trip_measured(hub, endpoint, routers):
    router = routers(endpoint)
    link, _ = connected(hub, endpoint)
    session_of(link)
    while "ping" not in router.commands():
        pass
    assert link.round_trip is not None and link.clock_ahead is not None and link.clock_ahead < 0


def test_a_server_that_falls_silent_is_lost(hub, endpoint, routers):
    silent = threading.Event()
    routers(endpoint, lambda message: None if silent.is_set() else {})
    link, inbox = connected(hub, endpoint)
    _, session_inbox = session_of(link)
    silent.set()
    assert "nothing was heard" in inbox.next(Gone).reason
    assert "nothing was heard" in session_inbox.next(Gone).reason


def test_a_server_that_is_gone_is_lost_at_once_not_after_its_lease(hub, endpoint, routers):
    router = routers(endpoint, lambda message: {"lease": 1000.0} if message["cmd"] == "hello" else {})
    link, inbox = connected(hub, endpoint)
    _, session_inbox = session_of(link)
    router.close()
    assert "nobody listens" in session_inbox.next(Gone).reason
    assert "nobody listens" in inbox.next(Gone).reason


def test_a_server_that_still_accepted_after_the_cut_is_lost_at_once(hub, endpoint, routers, monkeypatch):
    router = routers(endpoint, lambda message: {"lease": 1000.0} if message["cmd"] == "hello" else {})
    _link, inbox = connected(hub, endpoint)
    answers = iter([True])
    real = Probe.answer
    monkeypatch.setattr(Probe, "answer", lambda self: next(answers, None) or real(self))
    router.close()
    assert "nobody listens" in inbox.next(Gone).reason


def test_a_cut_connection_is_replaced_and_the_session_resumed(hub, tmp_path, routers):
    inner, outer = f"ipc://{tmp_path}/inner", tmp_path / "outer"
    answered = threading.Event()
    router = routers(inner, lambda m: {} if m["cmd"] != "setup" or answered.is_set() else None)
    relay = Relay(outer, tmp_path / "inner")
    try:
        link, _ = connected(hub, f"ipc://{outer}")
        session, inbox = session_of(link)
        router.push(seq=1, ev="busy", action="a", phase="setup", since=1)
        inbox.next(Event)
        number = session.send("setup", {"action": "a"})
        while "setup" not in router.commands():
            pass
        answered.set()
        relay.cut()
        reply = inbox.next(Reply)
        assert reply.id == number and reply.error is None
    finally:
        relay.close()
    resumed = [m for m in router.seen if m["cmd"] == "hello" and m.get("seen") is not None]
    assert 1 in [m["seen"] for m in resumed]


def test_a_message_that_cannot_be_understood_is_said_once_and_changes_nothing(hub, endpoint, routers):
    router = routers(endpoint)
    link, inbox = connected(hub, endpoint)
    session, session_inbox = session_of(link)
    router.push(seq=1, ev="status", action=3)
    assert "cannot be understood" in inbox.next(Note).text
    session.send("setup", {"action": "a"})
    assert session_inbox.next(Reply).cmd == "setup"


def test_what_was_under_way_at_the_goodbye_may_be_refused(hub, endpoint, routers):
    router = routers(endpoint)
    link, inbox = connected(hub, endpoint)
    session, session_inbox = session_of(link)
    session.send("bye", {"release": False})
    assert session_inbox.next(Reply).cmd == "bye"
    router.push(re=99, ok=False, error={"kind": "unknown_session", "message": "it has ended"})
    while not router._out.empty():
        pass
    link.leave(release=True)
    told = [inbox.items.get(timeout=WAIT)]
    while not isinstance(told[-1], Gone):
        told.append(inbox.items.get(timeout=WAIT))
    assert not [item for item in told if isinstance(item, Note)]


def test_saying_goodbye(hub, endpoint, routers):
    router = routers(endpoint)
    link, inbox = connected(hub, endpoint)
    link.leave(release=True)
    assert inbox.next(Gone).reason == "left"
    assert router.seen[-1]["cmd"] == "bye" and router.seen[-1]["release"] is True


def test_request_asks_once_and_returns_the_reply(endpoint, routers):
    router = routers(endpoint, lambda message: {"plugins": ["log"]})
    assert request(endpoint, "describe", timeout=WAIT)["plugins"] == ["log"]
    assert router.seen[0]["session"] is None


def test_request_raises_what_the_server_refuses(endpoint, routers):
    error = {"kind": "unsupported", "message": "not here"}
    routers(endpoint, lambda message: {"ok": False, "error": error})
    with pytest.raises(RemoteError, match="not here"):
        request(endpoint, "keep", {"seconds": 3}, timeout=WAIT)


def test_request_without_an_answer(endpoint):
    with pytest.raises(HostLost, match="no answer"):
        request(endpoint, "describe", timeout=0.1)


def test_a_call_while_the_hub_wakes_up_loses_no_later_call(monkeypatch):
    hub = Hub()
    real, between = os.read, threading.Event()

    def read(fd, count):
        if fd == hub._wake_in and not between.is_set():
            between.set()
            hub.call(lambda: None)
        return real(fd, count)

    monkeypatch.setattr(os, "read", read)
    done = [threading.Event() for _ in range(3)]
    try:
        for one in done:
            hub.call(one.set)
            assert one.wait(10), "nobody woke the hub"
            assert between.is_set()
    finally:
        hub.close()
