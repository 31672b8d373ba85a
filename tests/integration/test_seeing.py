"""What is seen of processes on a machine: states, what dead ones have left, trees; real processes."""

from __future__ import annotations

import asyncio
import os
import shutil
import time
from pathlib import Path

import pytest
from rundirs import BOOT, SHELLS, identity, script
from sitebed import until

from launcher.errors import StartFailed
from launcher.model import State
from launcher.processes import seeing
from launcher.processes.looking import OPENING_S
from launcher.processes.model import Key

GONE = 2**22 + 1
"""No pid of a process, anywhere."""
ONE, TWO = Key("lab", "planner"), Key("lab", "HW Type+Base Only")


every_shell = pytest.mark.parametrize("runner", SHELLS, indirect=True)


def see(dirs, runner):
    return {one.key: one for one in asyncio.run(seeing.status(runner, base=str(dirs.base)))}


@every_shell
@pytest.mark.parametrize("long", [False, True])
def test_states_and_who_started_it(dirs, runner, long):
    began = time.time() // 1 - 3600
    dirs.add(ONE, "running", began=began, long=long)
    dirs.add(TWO, "ready", container="docker 0123456789abcdef nav", long=long)
    dirs.add(Key("other", "planner"), "starting", long=long)
    seen = see(dirs, runner)
    assert [(str(key), one.state) for key, one in seen.items()] == [
        ("HW Type+Base Only", State.READY), ("planner", State.RUNNING), ("planner", State.STARTING),
    ]  # fmt: skip
    one = seen[ONE]
    assert one.pid == dirs.pid(ONE) and one.since == began and one.reason == "" and one.left == ()
    assert (one.token, one.config_hash, one.started_by, one.what) == (
        "token1", "hash1", "robot@client", "se-remote run x",
    )  # fmt: skip
    assert seen[TWO].container == "docker 0123456789abcdef nav"


@every_shell
def test_nothing_there_and_a_base_that_is_not_ours(dirs, runner):
    assert see(dirs, runner) == {}
    (dirs.base / ".processes").mkdir()
    assert see(dirs, runner) == {}
    dirs.base.rename(dirs.base.with_name("c"))
    assert see(dirs, runner) == {}
    dirs.base.symlink_to("c")
    with pytest.raises(StartFailed, match="is not a directory of ours"):
        see(dirs, runner)


@every_shell
def test_dead_ones_say_how_and_what_they_have_left(dirs, runner):
    dirs.add(ONE, "dead", exit="3 0 1700000000", wrapper=False, pid=False)
    dirs.add(TWO, "dead", exit="139 11 1700000000", wrapper=False, pid=False)
    child = dirs.start(dirs.run(TWO), "sh", "-c", "env -i sleep 1000; :")
    seen = see(dirs, runner)
    assert (seen[ONE].state, seen[ONE].code, seen[ONE].signal) == (State.DEAD, 3, None)
    assert seen[ONE].reason == "exit code 3" and seen[ONE].left == () and seen[ONE].pid is None
    assert (seen[TWO].code, seen[TWO].signal, seen[TWO].reason) == (None, 11, "signal 11 (SIGSEGV)")
    left = seen[TWO].left
    assert left[0].split()[0] == str(child.pid) and len(left) == 2 and left[1].endswith("sleep 1000"), left


def test_what_state_says_is_not_believed_when_nobody_lives(dirs, runner):
    dirs.add(ONE, "ready", wrapper=False, pid=False)
    dirs.add(TWO, "running", wrapper=False, pid=True, long=True)
    (dirs.run(TWO) / "wrapper").unlink()
    guard = dirs.run(TWO) / "guard"
    guard.write_text(identity(os.getpid()) + "\n")
    seen = see(dirs, runner)
    assert (seen[ONE].state, seen[ONE].reason) == (State.DEAD, "it vanished without a word")
    assert seen[TWO].state is State.STOPPING and "window was closed" in seen[TWO].reason
    guard.write_text("1 1 x\n")
    seen = see(dirs, runner)
    assert seen[TWO].state is State.DEAD and "its guard were killed" in seen[TWO].reason
    assert seen[TWO].left == (f"{dirs.pid(TWO)} sleep 1000",)
    # another process has the pid by now
    pid, start, boot = (dirs.run(TWO) / "pid").read_text().split()
    (dirs.run(TWO) / "pid").write_text(f"{pid} {int(start) + 1} {boot}\n")
    assert see(dirs, runner)[TWO].state is State.DEAD


@every_shell
def test_a_start_that_was_cut_short_is_dead_and_says_so(dirs, runner):
    """What is in `setup` is not; nor what has its window but no wrapper yet."""
    run = dirs.add(ONE, "starting", pid=False)
    (run / "state").write_text(f"starting {int(time.time())} 1 1 {BOOT} -\n")
    assert (see(dirs, runner)[ONE].state, see(dirs, runner)[ONE].reason) == (State.STARTING, "")
    up = float(Path("/proc/uptime").read_text().split()[0])
    (run / "wrapper").write_text(f"{GONE} {int(up * 100)} {BOOT} starting\n")
    seen = see(dirs, runner)[ONE]
    assert (seen.state, seen.reason) == (State.STARTING, "its window is about to open")
    for old in (f"{GONE} {int(up * 100) - 100 * OPENING_S} {BOOT}", f"{GONE} {int(up * 100)} rebooted"):
        (run / "wrapper").write_text(f"{old} starting\n")
        seen = see(dirs, runner)[ONE]
        assert seen.state is State.DEAD and "its start was cut short" in seen.reason


def test_one_that_is_just_being_made(dirs, runner):
    run = dirs.add(ONE, "starting")
    (run / "wrapper").unlink()
    assert see(dirs, runner)[ONE].state is State.STARTING
    (run / "about").write_text("token1\n")
    assert see(dirs, runner) == {}


def test_a_hundred_are_one_command_that_starts_one_program(dirs, runner, tmp_path):
    """Whatever is spawned would show in the list of who was started: `sh` and awk are all."""
    for number in range(3):
        dirs.add(Key("lab", f"p{number}"))
    tools = tmp_path / "counted"
    tools.mkdir()
    for tool in ("awk", "id", "ls", "cat", "grep", "tmux", "date", "tr", "sed"):
        script(tools / tool, f'echo {tool} >>"{tmp_path}/started"; exec {shutil.which(tool)} "$@"')
    runner._environ["PATH"] = f"{tools}:{runner._environ['PATH']}"
    assert len(see(dirs, runner)) == 3
    assert (tmp_path / "started").read_text().split() == ["awk"]


@every_shell
def test_trees_with_cpu_and_memory(dirs, runner):
    # bounded: if everything here were killed, it still ends
    busy = "(ulimit -t 20; exec sh -c 'while :; do :; done') & sleep 1000 & exec sleep 999"
    dirs.add(ONE, command=("bash", "-c", busy))
    dirs.add(TWO)
    over = 0.3

    def spinning():
        found = seeing.tree(runner, [ONE], base=str(dirs.base), over=0)
        ((root,),) = asyncio.run(found).values()
        pids = [one.pid for one in root.children if one.command.startswith("sh -c")]
        return root.command == "sleep 999" and pids

    def measured():
        begun, before = time.monotonic(), used_s(pid)
        found = seeing.tree(runner, [ONE, TWO, Key("lab", "none")], base=str(dirs.base), over=over)
        trees = asyncio.run(found)
        used, took = used_s(pid) - before, time.monotonic() - begun
        (root,) = trees[ONE]
        spun = next(one for one in root.children if one.pid == pid)
        return (trees, root, spun, used, took) if spun.cpu > 0 else None  # it had no turn meanwhile

    (pid,) = until(spinning)
    what = until(measured)
    assert what, "it had processor time, and none was measured"
    trees, root, spun, used, took = what
    assert root.pid == dirs.pid(ONE) and root.command == "sleep 999"
    assert sorted(child.command.split()[0] for child in root.children) == ["sh", "sleep"]
    # What it used while it was measured, at least `over`, is not more than it used while that was asked, and
    # not less than that without the rest of the time. Whoever else wants the processor: this holds.
    assert (used - took + over - 0.04) / took < spun.cpu <= used / (over - 0.02) and spun.parent == root.pid
    assert root.cpu < 0.1 and 100_000 < root.rss < 100_000_000
    assert [node.command for node in trees[TWO]] == ["sleep 1000"] and trees[Key("lab", "none")] == ()


def used_s(pid: int) -> float:
    """Seconds of a processor that the process has used, as the kernel says."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def test_a_tree_since_it_began(dirs, runner):
    dirs.add(ONE, command=("bash", "-c", "ulimit -t 20; while :; do :; done"))
    time.sleep(0.3)
    ((root,),) = asyncio.run(seeing.tree(runner, [ONE], base=str(dirs.base), over=0)).values()
    assert root.cpu > 0.1


@every_shell
def test_who_asks_again_asks_the_command_that_is_open(dirs, runner, monkeypatch):
    opened: list[int] = []
    asked: list[bytes] = []
    open_stream = runner.open

    async def counted(*args):
        opened.append(1)
        stream = await open_stream(*args)
        write = stream.write

        async def noted(data):
            asked.append(data)
            await write(data)

        monkeypatch.setattr(stream, "write", noted)
        return stream

    monkeypatch.setattr(runner, "open", counted)

    async def work() -> None:
        looking = seeing.Looking(str(dirs.base))
        try:
            assert await looking.status("lab", runner) == ()
            assert not asked, "the first answer came without another round trip"
            dirs.add(ONE, "ready")
            dirs.add(TWO, "dead", exit="3 0 1700000000", wrapper=False, pid=False)
            child = dirs.start(dirs.run(TWO), "sleep", "1000")
            both = await asyncio.gather(looking.status("lab", runner), looking.status("lab", runner))
            assert both[0] == both[1] == await seeing.status(runner, base=str(dirs.base))
            left = {one.key: one.left for one in both[0]}
            assert left == {ONE: (), TWO: (f"{child.pid} sleep 1000",)} and len(opened) == 1
            # somebody ends it: the next one opens another
            (stream,) = [stream for _, stream in looking._open.values()]
            await stream.close()
            assert len(await looking.status("lab", runner)) == 2 and len(opened) == 2
        finally:
            await looking.close()
        assert not looking.used

    asyncio.run(work())


def test_a_dead_one_with_nothing_left_costs_no_look_through_the_machine(dirs, runner):
    run = dirs.add(ONE, "dead", exit="3 0 1700000000", wrapper=False, pid=False)
    dirs.start(run, "sleep", "1000")
    assert len(see(dirs, runner)[ONE].left) == 1
    (run / "state").write_text("dead 1700000000 1 2 boot - gone\n")
    seen = see(dirs, runner)[ONE]
    assert (seen.state, seen.code, seen.left) == (State.DEAD, 3, ())
