"""What is talked to on a machine: `Runner.open`, the same over SSH and on this machine."""

from __future__ import annotations

import asyncio
import os

import pytest

from launcher.errors import StageError
from launcher.machines.pool import Machines


@pytest.fixture(params=["local", "ssh"])
def talk(world, request):
    """Runs `body(runner)` with a runner of that kind."""

    def run(body):
        async def whole():
            machines = Machines(world.environ, ask=None, keepalive=5, find=lambda name: None)
            host = world.host(local=request.param == "local")
            try:
                return await body(await machines.runner(host.name, host.machine, host.ssh))
            finally:
                await machines.close()

        return asyncio.run(whole())

    return run


async def everything(stream) -> bytes:
    heard = b""
    while chunk := await stream.read(70_000):
        heard += chunk
    return heard


def test_bytes_of_any_kind_go_there_and_come_back(talk):
    sent = os.urandom(3_000_000) + b"\n\0go\n"

    async def body(runner):
        stream = await runner.open("exec cat", 20)

        async def feed():
            await stream.write(sent)
            stream.write_eof()

        feeding = asyncio.ensure_future(feed())
        heard = await everything(stream)
        await feeding
        return heard, await stream.close()

    heard, done = talk(body)
    assert heard == sent
    assert done.exit_code == 0


def test_each_side_hears_the_other_one_at_once(talk):
    async def body(runner):
        stream = await runner.open("echo hello; exec cat", 20)
        first = await stream.read()
        for number in range(3):
            await stream.write(b"%d" % number)
            assert await stream.read() == b"%d" % number
        await stream.close()
        return first

    assert talk(body) == b"hello\n"


def test_who_takes_nothing_holds_the_writer_up(talk):
    async def body(runner):
        stream = await runner.open("exec sh -c 'sleep 3; cat >/dev/null'", 20)
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(stream.write(bytes(64 << 20)), 1)
        await stream.close()
        return await runner.run(b"echo still here", 20)

    assert talk(body).stdout == b"still here\n"


def test_how_it_ended_and_what_it_complained_of(talk):
    async def body(runner):
        stream = await runner.open("echo because >&2; exit 7", 20)
        assert await everything(stream) == b""
        return await stream.close()

    done = talk(body)
    assert (done.exit_code, done.stderr) == (7, b"because\n")


def test_a_shell_that_ends_at_once(talk):
    async def body(runner):
        with pytest.raises(StageError) as caught:
            await runner.open("} ; exit 3; {", 20)
        return caught.value

    error = talk(body)
    assert error.stage.value == "shell"
