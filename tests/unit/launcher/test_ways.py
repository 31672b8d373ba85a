"""The mending of a way, over runners that do what a test says."""

from __future__ import annotations

import asyncio

import pytest

from launcher.errors import NobodyListens, NotTrusted, Unreachable
from launcher.model import HostSpec, Machine, Stage
from launcher.ways import Way, limits_of

HOST = HostSpec("lab-pc", Machine("lab-pc.example"), lease=5.0)


class Line:
    """A connection: `answer` is what a check does (None: works, "silent", or an error)."""

    def __init__(self, name: str, answer: object = None) -> None:
        self.name = name
        self.login_took = 0.2
        self.answer = answer
        self.log: list[str] = []
        self._lost: list = []
        self._paths = 0

    async def check(self, remote: str) -> None:
        if self.answer == "silent":
            await asyncio.sleep(60)
        if isinstance(self.answer, Exception):
            raise self.answer

    async def forward(self, remote: str) -> str:
        self._paths += 1
        return f"/{self.name}{self._paths}"

    def drop(self, path: str) -> None:
        self.log.append(f"drop {path}")

    def retire(self) -> None:
        self.log.append("retire")

    def on_lost(self, callback) -> None:
        self._lost.append(callback)

    def lose(self, reason: str = "reset") -> None:
        for callback in self._lost:
            callback(reason)


class Heard:
    """Notes what a watcher is told."""

    def __init__(self) -> None:
        self.told: list[tuple[str, str]] = []
        self._more = asyncio.Event()

    def _note(self, what: str, value: str) -> None:
        self.told.append((what, value))
        self._more.set()

    def cut(self, reason: str) -> None:
        self._note("cut", reason)

    def mended(self, endpoint: str) -> None:
        self._note("mended", endpoint)

    def gone(self, reason: str) -> None:
        self._note("gone", reason)

    async def until(self, what: str) -> str:
        while True:
            for kind, value in self.told:
                if kind == what:
                    return value
            self._more.clear()
            await asyncio.wait_for(self._more.wait(), 20)


class Desk:
    """A way, its first line, and those that come after it."""

    def __init__(self, *later: object) -> None:
        self.first = Line("a")
        self.later = list(later)
        self.asked: list[tuple[str, bool]] = []
        self.own, self.owner = Heard(), Heard()
        self.way = Way(HOST, "/remote", self.first, "/a0", self.renew, self.own)

    async def renew(self, host, than, deep, limits):
        self.asked.append((than.name, deep))
        made = self.later.pop(0)
        if isinstance(made, Exception):
            raise made
        if made == "silent":
            await asyncio.sleep(60)
        return made

    async def watched(self) -> Desk:
        self.way.watch(self.owner)
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        return self


def trial(work):
    async def bounded():
        await asyncio.wait_for(work(), 30)

    asyncio.run(bounded())


REFUSED = Unreachable("lab-pc", Stage.CONNECT, "nothing listens on port 22")


def test_a_lost_connection_is_made_again_and_the_owner_told():
    async def work():
        second = Line("b")
        desk = await Desk(REFUSED, REFUSED, second).watched()
        desk.first.lose("closed by the other side")
        assert await desk.owner.until("mended") == "ipc:///b1"
        assert desk.owner.told == [("cut", "closed by the other side"), ("mended", "ipc:///b1")]
        # what is jumped through is only doubted when the first attempt has failed
        assert desk.asked == [("a", False), ("a", True), ("a", True)]
        assert desk.first.log == ["drop /a0", "retire"]
        second.lose("again")
        assert ("cut", "again") in desk.owner.told
        desk.way.stop()

    trial(work)


@pytest.mark.parametrize(
    "error",
    [
        NobodyListens("lab-pc", Stage.TUNNEL, "the server has ended"),
        Unreachable("lab-pc", Stage.AUTHENTICATE, "let us in with none of: key"),
        NotTrusted("lab-pc", Stage.CONNECT, "the host key has CHANGED"),
    ],
)
def test_what_cannot_change_is_told_at_once(error):
    async def work():
        desk = await Desk(error).watched()
        desk.first.lose()
        assert (await desk.owner.until("gone")).endswith(error.cause)
        assert len(desk.asked) == 1 and desk.own.told[-1][0] == "gone"

    trial(work)


def test_a_closed_tunnel_over_a_connection_that_stands_needs_no_new_one():
    async def work():
        desk = await Desk().watched()
        desk.way.doubt(False)
        assert await desk.owner.until("mended") == "ipc:///a1"
        assert desk.asked == [] and desk.first.log == ["drop /a0"]

    trial(work)


def test_a_server_that_has_ended_is_told_over_a_connection_that_stands():
    async def work():
        desk = await Desk().watched()
        desk.first.answer = NobodyListens("lab-pc", Stage.TUNNEL, "the server has ended")
        desk.way.doubt(False)
        assert "nobody listens there any more" in await desk.owner.until("gone")

    trial(work)


def test_silence_begins_one_connection_and_the_old_one_stays_until_it_works():
    async def work():
        second = Line("b")
        desk = await Desk(REFUSED, second).watched()
        for _ in range(5):
            desk.way.doubt(True)
        assert desk.first.log == [] and desk.owner.told == []
        assert await desk.owner.until("mended") == "ipc:///b1"
        assert desk.asked == [("a", True), ("a", True)]
        assert desk.owner.told == [("mended", "ipc:///b1")]

    trial(work)


def test_something_heard_after_all_gives_the_new_connection_up():
    async def work():
        desk = await Desk("silent", Line("b")).watched()
        desk.way.doubt(True)
        while not desk.asked:
            await asyncio.sleep(0)
        assert desk.way.broken
        desk.way.fine()
        assert await desk.way.settled(5)
        assert desk.first.log == [] and desk.owner.told == []
        desk.first.lose()  # later it really breaks
        assert await desk.owner.until("mended") == "ipc:///b1"

    trial(work)


def test_heard_after_a_cut_means_nothing():
    async def work():
        desk = await Desk(REFUSED, Line("b")).watched()
        desk.first.lose()
        desk.way.fine()
        assert await desk.owner.until("mended")

    trial(work)


def test_a_new_connection_on_which_nothing_comes_back_is_replaced_too():
    async def work():
        desk = await Desk(Line("b", "silent"), Line("c")).watched()
        desk.first.lose()
        assert await desk.owner.until("mended") == "ipc:///c1"
        assert desk.asked == [("a", False), ("b", True)]

    trial(work)


def test_who_watches_late_hears_what_has_happened():
    async def work():
        desk = Desk(Line("b"))
        desk.first.lose()
        await desk.own.until("mended")
        await desk.watched()
        assert desk.owner.told == [("mended", "ipc:///b1")]

    trial(work)


def test_stopped_it_is_not_mended_but_the_end_may_try_once_more():
    async def work():
        desk = await Desk("silent", Line("b")).watched()
        desk.first.lose()
        while not desk.asked:
            await asyncio.sleep(0)
        desk.way.stop()
        await asyncio.sleep(0)
        assert await desk.way.settled(10)
        assert desk.way.endpoint == "ipc:///b1"

    trial(work)


def test_nobody_watches_and_the_lease_is_over(monkeypatch):
    async def work():
        desk = Desk(*[REFUSED] * 100)
        times = iter(range(0, 1000, 2))
        monkeypatch.setattr(desk.way, "_loop", type("L", (), {"time": lambda self: float(next(times))})())
        desk.first.lose()
        assert "not reached again within 5 s: nothing listens" in await desk.own.until("gone")

    trial(work)


def test_attempts_are_short_first_and_never_longer_than_a_login_needs():
    assert limits_of(0, 0.2).dial == limits_of(0, 0.2).login == 1.0
    assert limits_of(0, 2.0).login == 6.0  # a long way
    assert max(limits_of(n, 0.2).dial for n in range(20)) == 3.0
    assert max(limits_of(n, 0.2).asking for n in range(20)) == 10.0
