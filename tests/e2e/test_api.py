"""launcher.api on hosts of an inventory: a private sshd, real tmux, real servers; nothing is left behind."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time

import pytest
import sshd as private
from commandline import ENDS_WITHIN, Terminal

from launcher.api import Host
from launcher.errors import Conflict, InventoryError, StartFailed, Unreachable
from remote_exec.errors import HostLost


@pytest.fixture
def terminal(world, monkeypatch):
    made = Terminal(world)
    monkeypatch.setenv(world.mark_name, world.mark)
    yield made
    made.se_remote("kill", made.name, "--force")
    assert not made.run_dir.exists()


def options(terminal):
    return {"inventory": terminal.folder / "se-remote.yaml", "environ": terminal.environ}


async def sessions_with_actions(terminal):
    seen = (await Host.status(["lab-pc"], **options(terminal)))[terminal.name]
    return [session for session in seen.server_state.get("sessions", []) if session["actions"]]


def run(work):
    return asyncio.run(asyncio.wait_for(work, ENDS_WITHIN))


def test_a_server_that_was_started_ends_with_the_context(terminal):
    async def main():
        async with Host.open("lab-pc", **options(terminal)) as host:
            assert host.started and host.name == terminal.name
            assert terminal.run_dir.exists()
            result = await host.call("run_process", command="printenv SSH_CONNECTION")
            assert result.success and "127.0.0.1" in result.log[0].text
            while not (busy := await sessions_with_actions(terminal)):
                await asyncio.sleep(0.05)  # the server writes its state a few times a second
            assert busy[0]["client"]["pid"] == os.getpid()

    run(main())
    assert not terminal.run_dir.exists()


def test_up_status_kill_and_a_server_that_stays(terminal):
    async def main():
        up = await Host.up("lab-pc", **options(terminal))
        assert up.state.value == "ready" and up.endpoint["pid"]
        async with Host.open("lab-pc", **options(terminal)) as host:
            assert not host.started
        status = await Host.status(**options(terminal))
        assert status[terminal.name].endpoint["pid"] == up.endpoint["pid"], "the same server is still there"
        assert status["local"].state.value in ("stopped", "ready")
        stopped = await Host.kill("lab-pc", **options(terminal))
        assert stopped.how == "graceful"
        assert (await Host.kill("lab-pc", **options(terminal))).how == "none"

    run(main())
    assert not terminal.run_dir.exists()


def test_kill_refuses_while_somebody_else_works_there(terminal, monkeypatch):
    async def main():
        async with Host.open("lab-pc", **options(terminal)) as host:
            call = asyncio.create_task(host.call("run_process", command="sleep 600"))
            while not await sessions_with_actions(terminal):
                await asyncio.sleep(0.05)
            monkeypatch.setenv("LOGNAME", "somebody-else")  # what getpass.getuser() says first
            with pytest.raises(Conflict, match="in use by"):
                await Host.kill("lab-pc", **options(terminal))
            await Host.kill("lab-pc", force=True, **options(terminal))
            with pytest.raises(HostLost):
                await call

    run(main())


def test_several_hosts_side_by_side(terminal):
    other = f"{terminal.name}-b"
    terminal.write_inventory(terminal.entry(terminal.name), terminal.entry(other))

    async def on(name):
        async with Host.open(name, **options(terminal)) as host:
            return (await host.call("run_process", command="true")).success

    async def main():
        return await asyncio.gather(on("lab-pc"), on(other), on("lab-pc"))

    assert run(main()) == [True] * 3
    assert private.wait_until(lambda: not terminal.run_dir.exists(), 20)
    assert not terminal.run_dir.with_name(other).exists()


def test_a_bring_up_that_is_cancelled_leaves_nothing(terminal):
    terminal.write_inventory(terminal.entry(terminal.name, server="sleep 60; {server}"))

    async def main():
        async def enter():
            async with Host.open("lab-pc", **options(terminal)):
                raise AssertionError("it does not get ready")

        task = asyncio.create_task(enter())
        while not (terminal.run_dir / "stage").exists():
            await asyncio.sleep(0.02)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    run(main())
    assert private.wait_until(lambda: not terminal.run_dir.exists(), 15)


def test_what_goes_wrong_before_is_typed(terminal):
    closed = terminal.entry("gone").replace(f":{terminal.world.sshd.port}", ":1")
    broken = terminal.entry(terminal.name, server="echo the driver is missing; exit 5")
    terminal.write_inventory(broken, closed)

    async def enter(name):
        async with Host.open(name, **options(terminal)):
            raise AssertionError("it cannot be entered")

    with pytest.raises(InventoryError, match="did you mean"):
        run(enter("lab-pd"))
    with pytest.raises(Unreachable, match="connect"):
        run(enter("gone"))
    with pytest.raises(StartFailed, match="the driver is missing"):
        run(enter("lab-pc"))


def test_variants_and_params(terminal):
    entry = terminal.entry(terminal.name, env="{WORD: '{word}'}", variants="{loud: {params: {word: LOUD}}}")
    (terminal.folder / "se-remote.yaml").write_text(f"context: {{params: {{word: quiet}}}}\nhosts:\n{entry}")

    async def word(**more):
        async with Host.open("lab-pc", **options(terminal), **more) as host:
            result = await host.call("run_process", command="printenv WORD")
            return host.name, result.log[0].text

    assert run(word()) == (terminal.name, "quiet")
    assert run(word(params={"word": "given"})) == (terminal.name, "given")
    assert run(word(variants=["loud"])) == (f"{terminal.name}+loud", "LOUD")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_a_script_that_is_stopped_leaves_nothing(terminal, number):
    script = terminal.folder / "script.py"
    script.write_text(
        "from launcher.blocking import BlockingHost\n"
        f"with BlockingHost.open('{terminal.name}') as host:\n"
        "    print('open', flush=True)\n"
        "    host.call('run_process', command='sleep 7441')\n"
    )
    terminal.write_inventory(terminal.entry(terminal.name, lease="2s"))
    running = private.subprocess.Popen(
        [sys.executable, str(script)], cwd=terminal.folder, env=terminal.environ, text=True,
        stdout=private.subprocess.PIPE, stderr=private.subprocess.PIPE,
    )  # fmt: skip

    def sleeping():
        return [text for text in private.marked(terminal.world.mark) if "sleep 7441" in text]

    try:
        assert private.wait_until(sleeping, 30)
        running.send_signal(number)
        running.communicate(timeout=ENDS_WITHIN)
    finally:
        running.kill()
    until = time.monotonic() + (0 if number == signal.SIGINT else 25)
    assert private.wait_until(lambda: not sleeping(), max(0.1, until - time.monotonic()))
    assert private.wait_until(lambda: not terminal.run_dir.exists(), 25)
