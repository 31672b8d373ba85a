"""`exclusive` as users meet it: other host names, accounts, inventories; scenarios, calls, `with`, kill."""

from __future__ import annotations

import asyncio
import getpass
import json
import re
import sys

import pytest
import sshd as private
from commandline import ENDS_WITHIN, Terminal

from launcher.api import Host
from launcher.errors import Conflict

LOG = 'log("there") with:\n    remote("lab-pc")'
SLEEP = 'run_process("sleep 60") with:\n    remote("lab-pc")'


@pytest.fixture
def terminal(world):
    made = Terminal(world, "excl")
    # A resource of this test's own: others may be using the machine.
    made.resource = f"r-{made.name}"
    made.other = f"{made.name}-b"
    made.write_inventory(*entries(made))
    yield made
    made.se_remote("kill", made.name, made.other, "--force")
    assert not own_dirs(made)


def own_dirs(terminal):
    return list(terminal.run_dir.parent.glob(f"{terminal.name}*"))


def entries(terminal):
    return [terminal.entry(name, exclusive=terminal.resource) for name in (terminal.name, terminal.other)]


def holder(terminal, host="lab-pc"):
    seen = json.loads(terminal.se_remote("status", host, "--json").out)[0]["exclusive"]
    return seen["holder"] if seen else None


@pytest.fixture
def driving(terminal):
    """A scenario that has the robot, until the test ends."""
    running = terminal.start("scenario_execution", terminal.write_scenario(SLEEP))
    assert private.wait_until(lambda: holder(terminal), 30)
    yield running
    if running.poll() is None:
        running.terminate()
    running.communicate(timeout=ENDS_WITHIN)


def test_a_second_scenario_is_told_who_drives(terminal, driving):
    second = terminal.scenario(LOG)
    assert second.code == 1, second.text
    assert (
        f"{terminal.name} is in use: {terminal.resource} of this machine is exclusive and held by"
        in second.text
    )
    assert "for test.osc: test, since" in second.text
    assert f"se-remote kill {terminal.name} --force" in second.text

    table = terminal.se_remote("status", "lab-pc").out
    assert "exclusive: held by " in table and "for test.osc: test" in table
    assert "exclusive: held through another host" in terminal.se_remote("status", terminal.other).out

    through_another_name = terminal.se_remote("call", terminal.other, "log", "msg=x")
    assert through_another_name.code == 1, through_another_name.text
    assert f"through the host {terminal.name}" in through_another_name.err
    assert f"se-remote kill {terminal.name} --force" in through_another_name.err
    assert private.wait_until(lambda: len(own_dirs(terminal)) == 1, 20), "the refused one's server is gone"
    assert driving.poll() is None

    with_another = terminal.se_remote("with", terminal.other, "--", "touch", "started")
    assert with_another.code == 1 and "held by" in with_another.err
    assert not (terminal.folder / "started").exists()

    killed = terminal.se_remote("kill", "lab-pc", "--force")
    assert killed.code == 0 and "that ended the session of" in killed.out and "test.osc" in killed.out
    driving.communicate(timeout=ENDS_WITHIN)
    assert terminal.scenario(LOG).code == 0, "it is free again"


def test_up_holds_nothing_and_runs_one_after_the_other_do_not_collide(terminal):
    assert terminal.se_remote("up", "lab-pc").code == 0
    assert holder(terminal) is None
    for _ in range(3):
        assert terminal.scenario(LOG).code == 0
    assert terminal.se_remote("call", terminal.other, "log", "msg=x").code == 0


def test_runs_inside_of_with_share_what_it_holds(terminal):
    terminal.write_scenario(LOG)
    words = [
        "sh",
        "-c",
        "scenario_execution test.osc && se-remote call lab-pc log msg=x; echo ended with $?; cat",
    ]
    running = terminal.start("se-remote", "with", "lab-pc", "--", *words)
    lines = iter(running.stdout.readline, "")
    said = next(line for line in lines if "ended with" in line)
    assert said == "ended with 0\n"
    running.communicate(timeout=ENDS_WITHIN)
    assert running.returncode == 0
    code = (
        "import subprocess, sys, os; e = {k: v for k, v in os.environ.items() if k != 'SE_REMOTE_DRIVER'};"
        "sys.exit(subprocess.call(['scenario_execution', 'test.osc'], env=e))"
    )
    outside = terminal.se_remote("with", "lab-pc", "--", sys.executable, "-c", code)
    assert outside.code == 1 and "for se-remote with:" in outside.text, "who is not of it is refused"


async def _two_contexts(terminal):
    where = {"inventory": terminal.folder / "se-remote.yaml", "environ": terminal.environ}
    async with Host.open(terminal.name, **where) as first, Host.open(terminal.name, **where) as second:
        assert (await first.call("log", msg="x")).success and (await second.call("log", msg="x")).success
        with pytest.raises(Conflict) as refused:
            async with Host.open(terminal.other, **where):
                pass
        assert "held by" in str(refused.value)
        assert refused.value.next_step == f"wait, or: se-remote kill {terminal.name} --force"


def test_contexts_of_one_program_are_one_client(terminal):
    asyncio.run(_two_contexts(terminal))


def test_another_account_of_the_machine(world, terminal):
    """Other account, other inventory, other name; the same robot."""
    account = world.account()
    python, path = world.python
    theirs = terminal.entry("theirs", exclusive=terminal.resource, env=f"{{PYTHONPATH: {json.dumps(path)}}}")
    theirs = re.sub(r"machine: .*@", f"machine: {account.name}@", theirs)
    theirs = re.sub(r"python: .*", f"python: {python}", theirs)

    async def drive():
        where = {"inventory": terminal.folder / "se-remote.yaml", "environ": terminal.environ}
        async with Host.open(terminal.name, what="our test", **where):
            terminal.write_inventory(theirs)
            return await asyncio.get_running_loop().run_in_executor(
                None, lambda: terminal.se_remote("call", "theirs", "log", "msg=x")
            )

    done = asyncio.run(drive())
    assert done.code == 1, done.text
    assert "for our test, since" in done.err
    me = getpass.getuser()
    assert f"through account {me}" in done.err
    assert f"have {me} run: se-remote kill {terminal.name} --force" in done.err
    assert terminal.se_remote("call", "theirs", "log", "msg=x").code == 0, "and then it is free"
    terminal.write_inventory(*entries(terminal))


def test_an_inventory_without_the_word_gets_no_server_that_is_exclusive(terminal, driving):
    terminal.write_inventory(terminal.entry(terminal.name))
    done = terminal.scenario(LOG)
    assert done.code == 1 and "another configuration" in done.text
    terminal.write_inventory(*entries(terminal))


def test_a_server_line_of_ones_own_cannot_be_exclusive(terminal):
    terminal.write_inventory(terminal.entry(terminal.name, exclusive="true", server="my-server"))
    done = terminal.se_remote("up", "lab-pc")
    assert done.code == 2 and "cannot be told of `exclusive`" in done.err
