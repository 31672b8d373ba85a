"""The Python API of processes, over a real sshd and tmux; and the commands that need a terminal."""

from __future__ import annotations

import asyncio
import os
import pty
import select
import signal
import subprocess
import time

import pytest
import sshd as private
from stackbed import BIN, LONG, until

from launcher.errors import InventoryError, LauncherError, StageError, Unreachable
from launcher.model import State
from launcher.processes import Launcher


def opened(stack):
    return Launcher.from_file(stack.folder / "se-remote.yaml", environ=stack.environ)


def test_run_watch_status_tree_wait_kill(stack):
    stack.processes(
        base={"cmd": LONG},
        talker={
            "cmd": "trap 'kill $!; exit' INT; echo one; sleep 3612 & echo two; wait",
            "depends": ["base"],
        },
        job={"cmd": "sleep 0.2; exit 7", "persistent": False},
    )
    events = []

    async def main():
        async with opened(stack) as launcher:
            assert sorted(launcher.processes()) == ["base", "job", "talker"]
            await launcher.run("talker", on_event=events.append)
            lines = []
            async for line in launcher.watch("talker"):
                lines.append(str(line))
                if len(lines) == 2:
                    break
            assert [line.endswith(word) for line, word in zip(lines, ("one", "two"), strict=True)] == [
                True,
                True,
            ]
            seen = await launcher.status()
            assert (seen["talker"].state, seen["job"].state) == (State.READY, State.STOPPED)
            tree = await launcher.tree("talker")
            assert "sleep 3612" in str(tree)
            assert await launcher.wait("job") == 7 if await started(launcher) else False
            await launcher.kill("base")
            assert (await launcher.status())["talker"].state is State.STOPPED

    async def started(launcher):
        with pytest.raises(LauncherError):
            await launcher.run("job")
        return True

    asyncio.run(main())
    assert [event.name for event in events if event.to_state is State.READY] == ["base", "talker"]
    first = next(event for event in events if event.name == "talker")
    assert (first.from_state, first.to_state) == (State.STOPPED, State.WAITING)
    assert all(event.level == "info" for event in events)
    stack.run("kill", "job")


def test_what_runs_stays_behind_the_context(stack):
    stack.processes(p={"cmd": LONG})

    async def main():
        async with opened(stack) as launcher:
            await launcher.run("p")

    asyncio.run(main())
    assert stack.states("p") == {"p": "ready"}


def test_errors_have_types_and_say_what_to_do(stack):
    stack.processes(
        dies={"cmd": "echo why; exit 3"},
        late={"cmd": LONG, "ready_check": "false", "ready_timeout": "1s"},
        far={"cmd": LONG, "machine": stack.machine(port=1)},
    )

    async def main():
        async with opened(stack) as launcher:
            for name, kind, code in (
                ("dies", StageError, 1),
                ("late", StageError, 4),
                ("far", Unreachable, 3),
            ):
                with pytest.raises(kind) as caught:
                    await launcher.run(name)
                assert caught.value.exit_code == code, name
                assert name in str(caught.value) and caught.value.next_step
            with pytest.raises(InventoryError):
                await launcher.run("nobody")
            await launcher.kill("late", "dies")

    asyncio.run(main())


def test_twice_in_one_process_and_from_several_tasks(stack):
    stack.processes(
        **{f"p{n}": {"cmd": f"echo {n} >>~/ledger; {LONG}", "depends": ["base"]} for n in range(6)},
        base={"cmd": f"echo base >>~/ledger; {LONG}"},
    )

    async def main():
        async with opened(stack) as first, opened(stack) as second:
            both = [launcher.run(f"p{n}") for n in range(6) for launcher in (first, second)]
            await asyncio.gather(*both)
            states = await second.status()
            assert {one.state for one in states.values()} == {State.READY}

    asyncio.run(main())
    assert sorted(stack.lines("ledger")) == sorted(["base", *map(str, range(6))])


def test_it_connects_again(stack):
    """Between two calls, and in the middle of one: nothing is started twice."""
    stack.processes(p={"cmd": f"echo p >>~/ledger; {LONG}", "ready_check": "test -e ~/go"}, q={"cmd": LONG})

    async def main():
        async with opened(stack) as launcher:
            await launcher.run("q")
            running = asyncio.create_task(launcher.run("p"))
            await asyncio.to_thread(until, lambda: stack.lines("ledger"))
            await asyncio.to_thread(stack.world.sshd.start)
            stack.file("go").touch()
            await asyncio.wait_for(running, 40)
            assert stack.lines("ledger") == ["p"]
            await asyncio.to_thread(stack.world.sshd.start)
            assert (await launcher.status())["p"].state is State.READY
            await launcher.kill("p", "q")

    asyncio.run(main())
    assert not stack.base().exists()


def test_a_task_that_is_cancelled_stops_what_it_started(stack):
    stack.processes(
        base={"cmd": LONG}, slow={"cmd": LONG, "depends": ["base"], "ready_check": "touch ~/asked; false"}
    )

    async def main():
        async with opened(stack) as launcher:
            running = asyncio.create_task(launcher.run("slow"))
            await asyncio.to_thread(until, lambda: stack.file("asked").exists())
            running.cancel()
            with pytest.raises(asyncio.CancelledError):
                await running
            assert {one.state for one in (await launcher.status()).values()} == {State.STOPPED}

    asyncio.run(main())


# -- what needs a terminal


class Pty:
    """A command in a terminal of its own."""

    def __init__(self, stack, *words, **env):
        self.fd, inner = pty.openpty()
        self.process = subprocess.Popen(
            [str(BIN / "se-remote"), *words],
            cwd=stack.folder,
            env={**stack.environ, **env},
            start_new_session=True,
            stdin=inner,
            stdout=inner,
            stderr=inner,
        )
        os.close(inner)
        stack._started.append(self.process)
        self.heard = b""

    def hear(self, word, seconds=20.0):
        deadline = time.monotonic() + seconds
        while word.encode() not in self.heard:
            assert time.monotonic() < deadline, self.heard
            if select.select([self.fd], [], [], 0.2)[0]:
                try:
                    self.heard += os.read(self.fd, 65536)
                except OSError:
                    raise AssertionError(self.heard) from None

    def leave(self, stack):
        """C-b d. What comes within a millisecond of other keys is pasted text to tmux, and no prefix."""
        for _ in range(10):
            self.type(b"\x02")
            if private.wait_until(lambda: "1" in stack.tmux("list-clients", "-F", "#{client_prefix}"), 2):
                break
        self.type(b"d")

    def type(self, keys):
        os.write(self.fd, keys)

    def end(self, seconds=20.0):
        deadline = time.monotonic() + seconds
        while self.process.poll() is None and time.monotonic() < deadline:
            if select.select([self.fd], [], [], 0.1)[0]:
                try:
                    self.heard += os.read(self.fd, 65536)
                except OSError:
                    break
        self.process.wait(5)
        os.close(self.fd)
        return self.process.returncode


def test_attach_is_its_window_with_its_keyboard(stack):
    stack.processes(teleop={"cmd": 'while read key; do echo "got $key"; echo $key >>~/keys; done'})
    stack.good("run", "teleop")
    terminal = Pty(stack, "attach", "teleop")
    until(lambda: stack.tmux("list-clients"))
    terminal.type(b"forward\r")
    terminal.hear("got forward")
    assert stack.lines("keys") == ["forward"]
    terminal.leave(stack)
    assert terminal.end() == 0
    assert stack.states("teleop") == {"teleop": "ready"}


@pytest.mark.slow
def test_mon_is_a_pane_for_each(stack):
    stack.processes(a={"cmd": f"echo from the left; {LONG}"}, b={"cmd": f"echo from the right; {LONG}"})
    stack.good("run", "a", "b")
    place = stack.folder / "tmux"
    place.mkdir(mode=0o700)
    terminal = Pty(stack, "mon", TMUX_TMPDIR=str(place))
    try:
        terminal.hear("from the left")
        terminal.hear("from the right")
    finally:
        os.kill(terminal.process.pid, signal.SIGHUP)
        for socket in place.rglob("*"):
            if socket.is_socket():
                subprocess.run(["tmux", "-S", str(socket), "kill-server"], capture_output=True)
        terminal.end()
