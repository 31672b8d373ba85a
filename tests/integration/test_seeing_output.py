"""Logs of processes, read and followed on a real machine: whole, in order, through restarts and losses."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import time

import pytest
from rundirs import SHELLS

from launcher.errors import Unreachable
from launcher.model import Stage
from launcher.processes import output
from launcher.processes.logkeeping import GIVEN_BACK
from launcher.processes.model import Key

ONE = Key("lab", "planner")
every_shell = pytest.mark.parametrize("runner", SHELLS, indirect=True)
two_shells = pytest.mark.parametrize("runner", ["dash", "busybox"], indirect=True)
LINES = [f"line {number:06d}" for number in range(100_000)]


def read(dirs, runner, **more):
    path, text = asyncio.run(output.read(runner, ONE, base=str(dirs.base), **more))
    return path.rpartition("/")[2], text.split("\n") if text else []


async def until(condition, seconds=20.0):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not come about"
        await asyncio.sleep(0.01)


@contextlib.asynccontextmanager
async def following(dirs, runner, heard, troubles, reach=None, **more):
    async def here():
        return runner

    more.setdefault("lines", None)
    task = asyncio.ensure_future(
        output.follow(
            reach or here,
            ONE,
            heard.append,
            troubles.append,
            base=str(dirs.base),
            backoff=(0.05, 0.1),
            **more,
        )
    )
    try:
        yield task
    finally:
        task.cancel()
        await asyncio.wait([task])


@every_shell
def test_the_last_lines_and_all(dirs, runner):
    assert read(dirs, runner) == ("", [])
    dirs.add(ONE, log="\n".join(LINES).encode() + b"\n")
    assert read(dirs, runner, lines=3) == ("log", LINES[-3:])
    assert read(dirs, runner, lines=0) == ("log", [])
    assert read(dirs, runner, lines=None) == ("log", LINES)


@two_shells
def test_long_lines_and_what_is_no_text(dirs, runner):
    long = "x" * 1_000_000
    dirs.add(ONE, log=f"{long}1\n{long}2\n".encode() * 3 + b"caf\xe9 \xff\x00\x1b\nend")
    _, lines = read(dirs, runner, lines=4)
    assert [line[-1:] for line in lines] == ["1", "2", "\x1b", "d"] and lines[2] == "caf\ufffd \ufffd\x00\x1b"
    assert len(lines[0]) == 1_000_001


@every_shell
def test_since_by_the_index_by_the_machines_clock(dirs, runner):
    run = dirs.add(ONE, log=b"an hour ago\nten minutes ago\nnow\n")
    now = int(time.time())
    (run / "log.index").write_text(f"{now - 3600} 12\n{now - 600} 28\n{now} 32\n")
    assert read(dirs, runner, since=now - 700) == ("log", ["ten minutes ago", "now"])
    assert read(dirs, runner, since=now - 300) == ("log", ["now"])
    assert read(dirs, runner, since=now - 9999, lines=1) == ("log", ["now"])
    assert read(dirs, runner, since=now - 9999)[1][0] == "an hour ago"
    assert read(dirs, runner, since=now + 5) == ("log", [])


@every_shell
def test_earlier_runs(dirs, runner):
    dirs.add(ONE, log=b"first\n")
    dirs.restart(ONE, b"second\n", "signal-9")
    dirs.restart(ONE, b"third\n")
    assert read(dirs, runner)[1] == ["third"]
    assert read(dirs, runner, run=1)[1] == ["second"] and read(dirs, runner, run=2)[1] == ["first"]
    assert read(dirs, runner, run=3) == ("", [])
    seen = asyncio.run(output.runs(runner, ONE, base=str(dirs.base)))
    assert [(one.ended, one.size) for one in seen] == [("running", 6), ("stopped", 7), ("signal-9", 6)]
    run = dirs.run(ONE)
    (run / "state").write_text("dead 1700000000\n")
    (run / "exit").write_text("139 11 1700000000\n")
    assert asyncio.run(output.runs(runner, ONE, base=str(dirs.base)))[0].ended == "signal-11"
    assert read(dirs, runner, run=1)[1] == ["third"] and read(dirs, runner)[1] == ["third"]


@every_shell
def test_what_was_given_back_is_said(dirs, runner):
    log = b"\0" * 8192 + b"of a line\nwhole\n"
    run = dirs.add(ONE, log=log)
    (run / "log.punched").write_text("8192\n")
    assert read(dirs, runner, lines=None)[1] == [GIVEN_BACK % 8192, "whole"]
    assert read(dirs, runner, lines=1)[1] == ["whole"]
    (run / "log.index").write_text(f"{int(time.time()) - 9} 100\n")
    assert read(dirs, runner, since=time.time() - 5)[1] == [GIVEN_BACK % 8192, "whole"]
    (seen,) = asyncio.run(output.runs(runner, ONE, base=str(dirs.base)))
    assert seen.size == 16


@two_shells
def test_a_hundred_thousand_lines_while_they_are_written(dirs, runner):
    async def go():
        lines, troubles = [], []
        run = dirs.add(ONE, log=f"{LINES[0]}\n".encode())
        async with following(dirs, runner, lines, troubles):
            await until(lambda: lines)
            with (run / "log").open("ab") as log:
                data = "".join(f"{line}\n" for line in LINES[1:]).encode()
                for at in range(0, len(data), 33_333):  # not at ends of lines
                    log.write(data[at : at + 33_333])
                    log.flush()
            await until(lambda: len(lines) >= len(LINES))
        assert lines == LINES and troubles == []

    asyncio.run(go())


@two_shells
def test_through_restarts(dirs, runner):
    async def go():
        lines, troubles = [], []
        dirs.add(ONE, log=b"one\nno end")
        async with following(dirs, runner, lines, troubles):
            await until(lambda: lines == ["one"])
            dirs.restart(ONE, b"two\n")
            await until(lambda: lines == ["one", "no end", "two"])
            dirs.restart(ONE, b"three\n")
            await until(lambda: lines == ["one", "no end", "two", "three"])
        assert troubles == ["planner: started again"] * 2

    asyncio.run(go())


@two_shells
def test_after_a_loss_it_goes_on_where_it_was(dirs, runner):
    async def go():
        lines, troubles, attempts = [], [], []
        run = dirs.add(ONE, log=b"one\ntwo\n")

        async def reach():
            attempts.append(1)
            if len(attempts) == 2:
                with (run / "log").open("ab") as log:
                    log.write(b"three\nfo")
                raise Unreachable("planner", Stage.CONNECT, "the cable is out")
            if len(attempts) == 4:
                with (run / "log").open("ab") as log:
                    log.write(b"ur\n")
                dirs.restart(ONE, b"five\n")
            return Cut(runner) if len(attempts) in (1, 3) else runner

        async with following(dirs, runner, lines, troubles, reach, lines=1):
            await until(lambda: len(lines) >= 4)
        assert lines == ["two", "three", "four", "five"]
        assert "planner: the cable is out; trying again in" in "\n".join(troubles)
        assert troubles[-1] == "planner: started again"

    asyncio.run(go())


class Cut:
    """A runner whose command is cut off when something has been heard."""

    def __init__(self, inner):
        self._inner = inner

    async def run(self, script, timeout, on_output, *, hold):
        heard = asyncio.Event()

        def hear(chunk):
            on_output(chunk)
            if chunk.count(b"\n") > chunk.count(b" log "):
                heard.set()

        running = asyncio.ensure_future(self._inner.run(script, timeout, hear, hold=hold))
        await heard.wait()
        running.cancel()
        await asyncio.wait([running])
        raise Unreachable("planner", Stage.CONNECT, "cut")


def test_a_run_that_is_gone_is_said(dirs, runner):
    async def go():
        lines, troubles, attempts = [], [], []
        dirs.add(ONE, log=b"one\n")

        async def reach():
            attempts.append(1)
            if len(attempts) == 2:
                dirs.restart(ONE, b"two\n")
                shutil.rmtree(dirs.archive(ONE))
            return Cut(runner) if len(attempts) == 1 else runner

        async with following(dirs, runner, lines, troubles, reach):
            await until(lambda: lines == ["one", "two"])
        assert "planner: lines may be missing here" in troubles

    asyncio.run(go())


@two_shells
def test_it_ends_with_its_client_and_leaves_nothing(dirs, runner):
    async def go():
        lines = []
        run = dirs.add(ONE, log=b"one\n")
        async with following(dirs, runner, lines, []):
            await until(lambda: lines)
        await until(lambda: not holders(run))

    asyncio.run(go())


def holders(run):
    from pathlib import Path

    found = []
    for link in Path("/proc").glob("[0-9]*/fd/*"):
        with contextlib.suppress(OSError):
            if str(link.readlink()).startswith(str(run)):
                found.append(link)
    return found


def test_the_last_log_is_shown_when_it_does_not_run(dirs, runner):
    async def go():
        lines, troubles = [], []
        dirs.add(ONE, log=b"one\ntwo\n")
        dirs.restart(ONE, b"")
        shutil.rmtree(dirs.run(ONE))
        async with following(dirs, runner, lines, troubles, lines=1):
            await until(lambda: lines == ["two"])
            dirs.add(ONE, log=b"three\n")
            await until(lambda: lines == ["two", "three"])

    asyncio.run(go())


@pytest.mark.parametrize("size", [1, 7, 4096])
def test_pieces_of_any_size(size):
    lines, troubles = [], []
    cutter = output.Cutter("abc", "planner", lines.append, troubles.append)
    text = b"rc noise\nmoreabc log r1 100\none\n\nt\xc3\xa4wo\nparabc log r2 0\nthree\n"
    cutter.interrupted()
    for at in range(0, len(text), size):
        cutter.feed(text[at : at + size])
    assert lines == ["one", "", "täwo", "par", "three"]
    assert (cutter.run, cutter.offset) == ("r2", 6)
    assert troubles == ["planner: started again"]


def test_a_line_without_an_end_is_bounded():
    lines = []
    cutter = output.Cutter("abc", "planner", lines.append, print)
    cutter.feed(b"abc log r 0\n")
    for _ in range(600):
        cutter.feed(b"x" * 32768)
    cutter.feed(b"\nend\n")
    assert sum(map(len, lines[:-1])) == 600 * 32768 and lines[-1] == "end"
    assert cutter.offset == 600 * 32768 + 5


def test_a_hole_is_said():
    lines, troubles = [], []
    cutter = output.Cutter("abc", "planner", lines.append, troubles.append)
    cutter.feed(b"abc log r 0\none\nt" + bytes(10_000) + b"hree\nfour\n")
    assert lines == ["one", "three", "four"] and troubles == [GIVEN_BACK % 10_000]
    assert cutter.offset == 4 + 1 + 10_000 + 5 + 5
