"""A site and a machine that says what a test has it say: which of it counts, and when."""

from __future__ import annotations

import asyncio

import pytest

from launcher.model import Machine, ProcessSpec
from launcher.processes.agent import HELLO
from launcher.processes.model import Change, Key, Launch
from launcher.processes.site import Site

LAUNCH = Launch(Key("se", "x"), ProcessSpec("x", "sleep 1", Machine()), "mine", "hash", "me@here")


class Scripted:
    """A runner and its one stream."""

    def __init__(self) -> None:
        self._said: asyncio.Queue[bytes] = asyncio.Queue()
        self.asked: asyncio.Queue[str] = asyncio.Queue()
        self.says(HELLO)

    def says(self, *lines: str) -> None:
        self._said.put_nowait("".join(f"{line}\n" for line in lines).encode())

    async def open(self, command: str, timeout: float) -> Scripted:
        return self

    async def read(self, most: int = 1 << 20) -> bytes:
        return await self._said.get()

    async def write(self, data: bytes) -> None:
        self.asked.put_nowait(data.split(maxsplit=2)[1].decode())

    def write_eof(self) -> None:
        self._said.put_nowait(b"")

    async def close(self) -> None:
        pass


@pytest.mark.parametrize(
    "lines, states",
    [
        (["x se/x token theirs", "x se/x end mine"], ["conflict"]),
        (["c se/x theirs running - 0 0"], ["running", "ready"]),
        (["c se/x mine starting - 0 7"], ["starting"]),
    ],
)
def test_what_another_one_becomes_counts_when_it_is_what_was_asked_for(lines, states):
    async def work() -> None:
        machine, heard = Scripted(), list[Change]()
        site = await Site.open("lab-pc", machine, on_change=heard.append, on_lost=lambda why: None)
        starting = asyncio.ensure_future(site.start([LAUNCH]))
        number = await machine.asked.get()
        machine.says("c se/x theirs ready - 0 1700000000", *lines, f"k {number}")
        await asyncio.wait_for(starting, 10)
        await asyncio.sleep(0)
        for _ in range(10):
            await asyncio.sleep(0)
        assert [change.state.value for change in heard] == states
        await site.close()

    asyncio.run(work())
