"""Servers that are kept up by hand: for how long, and what a run hears of it. Real sshd, real server."""

from __future__ import annotations

import json
import os
import signal
import time

import pytest
import sshd as private
from commandline import ENDS_WITHIN, Terminal

from launcher.api import Host

SLEEP = 'run_process("sleep {}") with:\n    remote("lab-pc")'


@pytest.fixture
def terminal(world):
    made = Terminal(world, "kept")
    yield made
    made.se_remote("kill", made.name, "--force")
    assert not made.run_dir.exists()


def seen(terminal):
    return json.loads(terminal.se_remote("status", "lab-pc", "--json").out)[0]


def stays(terminal):
    """What the table says under STAYS, and STARTED BY behind it."""
    header, row, *_ = terminal.se_remote("status", "lab-pc").out.splitlines()
    return row[header.index("STAYS") :]


def test_up_for_some_time_extend_and_status(terminal):
    up = terminal.se_remote("up", "lab-pc", "--for", "1h30m")
    assert up.code == 0 and "stays up for 90 min, or until: se-remote kill" in up.err, up.text
    assert abs(seen(terminal)["kept_until"] - time.time() - 5400) < 60
    assert stays(terminal).startswith(("90 min ", "89 min "))

    shorter = terminal.se_remote("up", "lab-pc", "--for", "10m")
    assert "it was kept for longer than 10 min before" in shorter.err
    assert abs(seen(terminal)["kept_until"] - time.time() - 5400) < 60, "it is not shortened"

    longer = terminal.se_remote("extend", "lab-pc")
    assert longer.code == 0 and "stays up for 12 h" in longer.out
    assert abs(seen(terminal)["kept_until"] - time.time() - 43200) < 60

    for_ever = terminal.se_remote("extend", "lab-pc", "--for", "0")
    assert f"stays up until: se-remote kill {terminal.name}" in for_ever.out
    assert (seen(terminal)["kept"], seen(terminal)["kept_until"]) == (True, None)
    assert stays(terminal).startswith("until killed ")


def test_extend_starts_nothing_and_asks_no_configuration(terminal):
    none = terminal.se_remote("extend", "lab-pc")
    assert none.code == 1 and "not up" in none.err and f"se-remote up {terminal.name}" in none.err
    assert not terminal.run_dir.exists()

    terminal.se_remote("up", "lab-pc", "--for", "1h")
    terminal.write_inventory(terminal.entry(terminal.name, env="{OTHER: '1'}"))
    assert terminal.se_remote("extend", "lab-pc", "--for", "2h").code == 0
    assert abs(seen(terminal)["kept_until"] - time.time() - 7200) < 60


def test_a_time_that_is_none_is_refused_before_anything_happens(terminal):
    wrong = terminal.se_remote("up", "lab-pc", "--for", "8x")
    assert wrong.code == 2 and "90s, 30m, 8h" in wrong.err


def test_a_server_whose_time_is_over_ends_by_itself(terminal):
    terminal.write_inventory(terminal.entry(terminal.name, lease="1s"))
    assert terminal.se_remote("up", "lab-pc", "--for", "2s").code == 0
    assert private.wait_until(lambda: not terminal.run_dir.exists(), 40)


def test_an_up_that_is_killed_in_the_middle_leaves_a_server_with_an_end(terminal):
    """Not one for ever: the server knows its time from its start on, not from the client's word."""
    terminal.write_inventory(terminal.entry(terminal.name, lease="1s"))
    up = terminal.start("se-remote", "up", "lab-pc", "--for", "3s")
    assert private.wait_until(lambda: (terminal.run_dir / "pid").exists(), 20)
    up.send_signal(signal.SIGKILL)
    up.communicate(timeout=ENDS_WITHIN)
    assert private.wait_until(lambda: not terminal.run_dir.exists(), 40)


def test_a_run_hears_of_the_end_and_is_not_cut_off(terminal):
    terminal.se_remote("up", "lab-pc", "--for", "4s")
    done = terminal.scenario(SLEEP.format(6))
    assert done.code == 0, done.text
    assert f"[{terminal.name}] this server is kept up for" in done.text
    assert "it ends after this run" in done.text
    assert f"se-remote extend {terminal.name} --for 4h" in done.text
    assert private.wait_until(lambda: not terminal.run_dir.exists(), 20), "it ends after the run"


def test_a_call_hears_of_the_end_too(terminal):
    terminal.se_remote("up", "lab-pc", "--for", "60s")
    done = terminal.se_remote("call", "lab-pc", "log", "msg=hello")
    assert done.code == 0 and f"se-remote extend {terminal.name}" in done.text


async def _python(terminal):
    where = {"inventory": terminal.folder / "se-remote.yaml", "environ": terminal.environ}
    up = await Host.up(terminal.name, keep_for="1h", **where)
    assert abs(up.server_state["kept_until"] - time.time() - 3600) < 60
    more = await Host.extend(terminal.name, keep_for=7200, **where)
    assert abs(more.server_state["kept_until"] - time.time() - 7200) < 60
    await Host.kill(terminal.name, **where)
    with pytest.raises(ValueError):
        await Host.up(terminal.name, keep_for="8x", **where)
    async with Host.open(terminal.name, keep_for="20m", **where) as host:
        assert host.started and (await host.call("log", msg="x")).success
    left = (await Host.status([terminal.name], **where))[terminal.name]
    assert left.kept and 1100 < left.kept_left <= 1201
    async with Host.open(terminal.name, **where) as host:
        assert not host.started


def test_from_python(terminal):
    import asyncio

    asyncio.run(_python(terminal))
    assert os.path.exists(terminal.run_dir), "it stays up behind the context that was left"
