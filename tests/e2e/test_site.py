"""launcher.processes.site over a real sshd."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import shutil
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "integration"))
from sitebed import Heard, soon

from launcher.machines.pool import Machines
from launcher.model import Machine, ProcessSpec, ReadyCheck, State
from launcher.processes.model import Key, Launch
from launcher.processes.site import Site

READY, STOPPED = State.READY, State.STOPPED
_tokens = itertools.count(1)


def launch(world, name: str, cmd: str, **more) -> Launch:
    env = {world.mark_name: world.mark}
    token = more.pop("token", f"t{next(_tokens)}-{os.getpid()}")
    lease = more.pop("lease", "")
    spec = ProcessSpec(name, cmd, Machine(), env=env, **more)
    return Launch(Key("se", name), spec, token, "hash", "me@here", lease=lease)


@contextlib.asynccontextmanager
async def reached(world, user: str | None = None):
    """A runner over SSH, as that account."""
    machines = Machines(world.environ, ask=None, keepalive=5, find=lambda name: None)
    host = world.host(user=user)
    try:
        yield await machines.runner(host.name, host.machine, host.ssh)
    finally:
        await machines.close()


async def opened(runner, base: str) -> tuple[Site, Heard]:
    heard = Heard()
    site = await Site.open("lab-pc", runner, on_change=heard.change, on_lost=heard.lost.append, base=base)
    return site, heard


@pytest.mark.parametrize("shell", ["/bin/bash", "/usr/bin/fish", "/usr/bin/zsh"])
def test_two_users_of_any_login_shell_do_not_clash(world, shell):
    if not shutil.which(shell):
        pytest.skip(f"no {shell} here")
    accounts = [world.account(shell), world.account("/bin/sh")]

    async def work() -> None:
        async with contextlib.AsyncExitStack() as stack:
            sites = []
            for account in accounts:
                runner = await stack.enter_async_context(reached(world, account.name))
                sites.append(await opened(runner, ""))
            same = [launch(world, "same", "id -u; sleep 1000") for _ in accounts]
            for (site, heard), one in zip(sites, same, strict=True):
                await site.start([one])
                await heard.until("same", READY)
            for (site, _), one, account in zip(sites, same, accounts, strict=True):
                log = Path(f"/tmp/se-remote-{account.uid}/.processes/se/same/log")
                assert await soon(lambda log=log: log.read_text())
                assert log.read_text() == f"{account.uid}\n"
                await site.stop([one.key])
                await site.close()

    asyncio.run(work())


def test_a_lost_connection_ends_nothing_and_the_next_hears_the_rest(world):
    async def work() -> None:
        starts = world.directory / "starts"
        one = launch(world, "stays", f"echo once >>{starts}; sleep 1000")
        check = ReadyCheck(command=f"[ -e {world.directory}/open ]")
        late = launch(world, "late", "sleep 1000", ready_check=check)
        async with reached(world) as runner:
            site, heard = await opened(runner, world.base)
            await site.start([one, late])
            await heard.until("stays", READY)
            await heard.until("late", State.RUNNING)
            await runner.close()
            assert await soon(lambda: heard.lost)
            await site.close()
        async with reached(world) as runner:
            site, heard = await opened(runner, world.base)
            await site.start([one, late])
            assert (await heard.until("stays", READY)).ours
            assert (await heard.until("late", State.RUNNING)).ours
            (world.directory / "open").touch()
            await heard.until("late", READY)
            assert starts.read_text() == "once\n"
            done = await site.stop([one.key, late.key])
            assert {change.state for change in done.values()} == {STOPPED}
            await site.close()

    asyncio.run(work())


def test_one_channel_however_many_processes(world):
    """MaxSessions is 10."""

    async def work() -> None:
        async with reached(world) as runner:
            site, heard = await opened(runner, world.base)
            launches = [launch(world, f"p{n}", "sleep 1000") for n in range(24)]
            await asyncio.gather(*(site.start(launches[n::4]) for n in range(4)))
            for one in launches:
                await heard.until(one.key.name, READY)
            done = await site.stop([one.key for one in launches])
            assert all(change.state is STOPPED and not change.left for change in done.values())
            await site.close()

    asyncio.run(work())
