"""A link whose way somebody mends, over real sockets: the way is a recorder, the server a small ROUTER."""

from __future__ import annotations

import queue
import sys
import threading
import time
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from linktools import WAIT, Inbox, Relay, Router, session_of

from remote_exec.client.hub import Hub
from remote_exec.client.link import Gone, LinkSpec, LinkUp
from remote_exec.client.session import Reply


class Way:
    """Notes what it is told and lets a test say what becomes of it."""

    trouble = "no answer from port 22"

    def __init__(self) -> None:
        self.told: list[object] = []
        self.changed = threading.Condition()
        self.watcher = None

    def _note(self, what: object) -> None:
        with self.changed:
            self.told.append(what)
            self.changed.notify_all()

    def watch(self, watcher) -> None:
        self.watcher = watcher

    def doubt(self, silent: bool) -> None:
        self._note("silent" if silent else "closed")

    def fine(self) -> None:
        self._note("fine")

    def connected(self, endpoint: str) -> None:
        self._note(endpoint)

    def stop(self) -> None:
        self._note("stop")

    def wait_for(self, what: object) -> None:
        with self.changed:
            assert self.changed.wait_for(lambda: what in self.told, WAIT), self.told


class Bench:
    """A link to a router through a relay, and its only session."""

    def __init__(self, tmp_path, lease: float = 100.0) -> None:
        self.quiet = threading.Event()
        self.folder = tmp_path
        self.router = Router(f"ipc://{tmp_path}/inner", self.answer)
        self.lease = lease
        self.relays = [Relay(tmp_path / "one", tmp_path / "inner")]
        self.hub, self.way, self.inbox = Hub(), Way(), Inbox()
        spec = LinkSpec("lab-pc", f"ipc://{tmp_path}/one", ours=True, way=self.way)
        self.link = self.hub.connect(spec, self.inbox)
        self.inbox.next(LinkUp)
        self.session, self.session_inbox = session_of(self.link)

    def answer(self, message):
        if self.quiet.is_set():
            return None
        return {"lease": self.lease} if message["cmd"] == "hello" else {}

    def another(self, name: str) -> str:
        self.relays.append(Relay(self.folder / name, self.folder / "inner"))
        return f"ipc://{self.folder}/{name}"

    def close(self) -> None:
        self.hub.close()
        for relay in self.relays:
            relay.close()
        self.router.close()


@pytest.fixture
def bench(tmp_path):
    made = Bench(tmp_path)
    yield made
    made.close()


def test_a_closed_tunnel_is_doubted_not_probed_and_the_session_goes_on_at_the_new_endpoint(bench):
    bench.relays[0].cut()
    bench.way.wait_for("closed")
    number = bench.session.send("setup", {"action": "a"})
    endpoint = bench.another("two")
    bench.way.watcher.mended(endpoint)
    reply = bench.session_inbox.next(Reply)
    assert reply.id == number and reply.error is None
    bench.way.wait_for(endpoint)
    assert not bench.link.away
    # what was not answered is asked once more, by its old id
    assert [m["id"] for m in bench.router.seen if m["cmd"] == "setup"] == [number]


def test_a_way_that_is_gone_is_the_end_at_once(bench):
    bench.way.watcher.cut("closed by the other side")
    bench.way.watcher.gone("the server has ended")
    assert bench.session_inbox.next(Gone).reason == "the server has ended"
    assert bench.inbox.next(Gone).reason == "the server has ended"
    bench.way.wait_for("stop")


def test_silence_asks_for_another_way_and_what_is_heard_after_all_takes_that_back(tmp_path):
    bench = Bench(tmp_path, lease=4.0)
    try:
        bench.quiet.set()
        bench.way.wait_for("silent")
        assert bench.link.away
        bench.quiet.clear()
        bench.way.wait_for("fine")
    finally:
        bench.close()


def test_silence_for_the_patience_is_the_end_with_what_is_known(tmp_path):
    bench = Bench(tmp_path, lease=0.5)
    try:
        bench.quiet.set()
        reason = bench.session_inbox.next(Gone).reason
        assert reason == "nothing was heard from lab-pc for 0.5 s (no answer from port 22)"
        bench.way.wait_for("stop")
    finally:
        bench.close()


def test_a_cut_lasts_as_long_as_the_patience_without_an_end(bench):
    bench.way.watcher.cut("reset")
    bench.relays[0].cut()
    number = bench.session.send("setup", {"action": "a"})
    with pytest.raises(queue.Empty):
        bench.session_inbox.items.get(timeout=0.5)
    bench.way.watcher.mended(bench.another("two"))
    assert bench.session_inbox.next(Reply).id == number


def test_a_holder_that_has_ended_at_the_host_takes_no_session_with_it(bench):
    """`on_loss: continue`: the session with the actions outlives the one that holds the server."""
    holder = next(m["session"] for m in bench.router.seen if m["cmd"] == "hello")
    gone = {"ok": False, "error": {"kind": "unknown_session", "message": "ended"}}
    bench.router.script = lambda m: gone if m["session"] == holder else bench.answer(m)
    mine = {holder, bench.session.id}

    def new() -> set[str]:
        return {m["session"] for m in bench.router.seen if m["cmd"] == "hello"} - mine

    bench.way.watcher.mended(bench.another("two"))
    until = time.monotonic() + WAIT
    while not new() and time.monotonic() < until:
        pass
    number = bench.session.send("setup", {"action": "a"})
    assert bench.session_inbox.next(Reply).id == number
    bench.link.leave(release=True)
    assert bench.inbox.next(Gone).reason == "left"
    assert len(new()) == 1 and {m["session"] for m in bench.router.seen if m["cmd"] == "bye"} == new()
