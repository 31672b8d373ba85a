"""The public Launcher over real processes and a real tmux, on this machine."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import tempfile
import time
from pathlib import Path

import pytest

from launcher import processes
from launcher.cli import status_processes
from launcher.cli.output import Output
from launcher.errors import Conflict, InventoryError, LauncherError, NotReady, NotStarted, ProcessDied
from launcher.model import Machine, SshOptions, State
from launcher.processes import Launcher
from launcher.processes.viewing import Place, Subject, View

MARK = "SE_REMOTE_TEST_API"

STACK = """
context: {session: api, params: {word: hello, tone: plain}}
core: {cmd: "echo core says {word}; exec sleep 3711", login: false, ready_check: {log: "says h"}}
left: {cmd: "exec sleep 3711", depends: [core], login: false}
right: {cmd: "exec sleep 3711", depends: [core], login: false, variants: {loud: {cmd: "echo LOUD; {cmd}"}}}
top: {cmd: "exec sleep 3711", depends: [left, right], login: false}
swap: {cmd: "exec sleep 3711", depends: [left], login: false, variants: {other: {depends: [right]}}}
quiet: {cmd: "echo {tone}; exec sleep 3711", depends: [right], login: false,
  variants: {fast: {cmd: "echo FAST; {cmd}"}}}
once: {cmd: "echo made; touch '{folder}/made'", persistent: false, depends: [core], login: false}
all: {cmd: "true", persistent: false, depends: [top, once], login: false}
bad: {cmd: "echo oh no; exit 5", login: false}
pick: {cmd: "true", persistent: false, depends: [left], login: false, variants: {other: {depends: [right]}}}
any: {cmd: "true", persistent: false, depends: [pick], login: false}
needs bad: {cmd: "touch '{folder}/wrong'", depends: [bad], login: false}
never: {cmd: "exec sleep 3711", ready_check: "false", ready_timeout: 1, login: false}
stubborn: {cmd: "trap '' INT TERM QUIT; touch '{folder}/up'; while :; do sleep 1; done", login: false}
deaf: {cmd: "trap '' HUP; exec sleep 3711", login: false}
brief: {cmd: "sleep 0.5; exit 9", login: false}
"""


class Bed:
    """Launchers of one test, over run directories of its own; `left` is what is still there at the end."""

    def __init__(self) -> None:
        # not tmp_path: the path of tmux's socket must stay short
        self.folder = Path(tempfile.mkdtemp(prefix="sela-", dir="/tmp"))
        self.file = self.folder / "launcher.yaml"
        self.file.write_text(STACK)
        self.home = self.folder / "home"
        self.home.mkdir()
        self.environ = {**os.environ, "HOME": str(self.home), MARK: self.folder.name}

    def launcher(self, **options) -> Launcher:
        params = {"folder": str(self.folder), **options.pop("params", {})}
        return Launcher.from_file(
            self.file, params=params, environ=self.environ, base=str(self.folder / "b"), **options
        )

    def marked(self) -> list[str]:
        found = []
        for environ in Path("/proc").glob("[0-9]*/environ"):
            try:
                if f"{MARK}={self.folder.name}".encode() in environ.read_bytes().split(b"\0"):
                    found.append((environ.parent / "cmdline").read_bytes().replace(b"\0", b" ").decode())
            except OSError:
                continue
        return found

    def sleeping(self) -> int:
        return len([text for text in self.marked() if text == "sleep 3711 "])


@pytest.fixture
def bed():
    made = Bed()
    try:
        yield made
        asyncio.run(_end(made))
        until = time.monotonic() + 20
        while (made.marked() or (made.folder / "b").exists()) and time.monotonic() < until:
            time.sleep(0.05)
        assert made.marked() == []
        assert not (made.folder / "b").exists()
    finally:
        shutil.rmtree(made.folder, ignore_errors=True)


async def _end(bed):
    async with bed.launcher() as launcher:
        names = [name for name in launcher.processes() if name != "stranger"]
        for ended in (await launcher.kill(*names, force=True)).values():
            assert not isinstance(ended, LauncherError), ended


async def states(launcher):
    return {name: seen.state for name, seen in (await launcher.status()).items()}


def test_a_stack_from_start_to_end(bed):
    async def main():
        events = []
        async with bed.launcher() as launcher:
            ran = await launcher.run("all", on_event=events.append)
            assert ran.started == ("core", "left", "right", "top")
            assert set(ran.ready) == {"core", "left", "right", "top", "once", "all"}
            assert (bed.folder / "made").exists()
            assert bed.sleeping() == 4
            seen = await states(launcher)
            assert [seen[name] for name in ("core", "top", "once")] == [
                State.READY,
                State.READY,
                State.STOPPED,
            ]
            (tree,) = (await launcher.tree("core"))["core"]
            assert tree.command == "sleep 3711" and tree.rss > 0
            ended = await launcher.kill("core")
            order = [name for name in ended if name in ran.started]
            assert order[0] == "top" and order[-1] == "core"
        assert bed.sleeping() == 0
        told = [(event.name, event.to_state) for event in events]
        assert told.index(("core", State.READY)) < told.index(("left", State.STARTING))
        assert told.index(("right", State.READY)) < told.index(("top", State.STARTING))
        assert {event.stage for event in events} == {None}

    asyncio.run(main())


def test_what_runs_outlives_the_context_and_is_used_again(bed):
    async def main():
        async with bed.launcher() as launcher:
            assert (await launcher.run("left")).started == ("core", "left")
        async with bed.launcher() as launcher:
            assert (await launcher.run("left")).started == ()
            assert (await launcher.run("top")).started == ("right", "top")

    asyncio.run(main())


def test_a_failure_is_typed_and_says_what_still_runs(bed):
    async def main():
        async with bed.launcher() as launcher:
            with pytest.raises(ProcessDied) as caught:
                await launcher.run("needs bad", "core")
            assert (caught.value.code, caught.value.tail) == (5, ("oh no",))
            assert caught.value.running == ("core",)
            assert not isinstance(caught.value, NotStarted)
            with pytest.raises(NotReady, match="not ready within 1 s"):
                await launcher.run("never")
            assert (await states(launcher))["never"] is State.RUNNING
            with pytest.raises(InventoryError, match='did you mean "core"'):
                await launcher.run("kore")
        assert not (bed.folder / "wrong").exists()

    asyncio.run(main())


def test_another_configuration_is_a_conflict_and_restart_solves_it(bed):
    async def main():
        async with bed.launcher() as launcher:
            await launcher.run("top")
            with pytest.raises(Conflict) as caught:
                await launcher.run("top", variants=["loud"])
            assert "right: " in str(caught.value)
            assert caught.value.next_step == "se-remote restart right+loud"
        async with bed.launcher() as launcher:
            with pytest.raises(Conflict):
                await launcher.run("core", params={"word": "howdy"})
            before = (await launcher.status("core"))["core"].pid
            ran = await launcher.restart("right", variants=["loud"])
            assert ran.started == ("right", "top"), "what depends on it runs again, too"
            assert "LOUD" in await launcher.log("right")
            assert (await launcher.status("core"))["core"].pid == before

    asyncio.run(main())


def test_one_that_nobody_watches_any_more_is_named_and_ended(bed):
    async def main():
        async with bed.launcher() as launcher:
            await launcher.run("deaf")
            (room,) = (bed.folder / "b/.processes").glob("*/deaf")
            # the guard first: it would end the process
            for who in ("guard", "wrapper"):
                os.kill(int((room / who).read_text().split()[0]), signal.SIGKILL)
            while (seen := (await launcher.status("deaf"))["deaf"]).state is not State.DEAD:
                await asyncio.sleep(0.02)
            assert bed.sleeping() == 1
            view = View(Subject("deaf", seen.key, Place(Machine(), SshOptions())), seen)
            text = status_processes.render([view], Output(), time.time(), trees=False)
            assert "its wrapper and its guard were killed" in text
            (pid,) = [line.split()[3] for line in text.splitlines() if "still running: pid" in line]
            assert Path(f"/proc/{pid}/cmdline").read_text() == "sleep\0003711\0"
            assert "ended by: se-remote kill deaf" in text
            ended = await launcher.kill("deaf")
            assert not ended["deaf"].left and not room.exists()
            assert bed.sleeping() == 0

    asyncio.run(main())


def test_what_needs_it_only_in_another_variant_is_left_alone(bed):
    async def main():
        async with bed.launcher() as launcher:
            await launcher.run("swap", "left", variants=["other"])
            ended = await launcher.kill("left")
            assert "swap" not in ended and (await states(launcher))["swap"] is State.READY
            ended = await launcher.kill("right")
            assert [name for name in ended if name in ("swap", "right")] == ["swap", "right"]
            assert (await states(launcher))["swap"] is State.STOPPED

    asyncio.run(main())


def test_a_group_in_a_group_takes_its_members_with_it_also_when_they_are_a_matter_of_variants(bed):
    async def main():
        async with bed.launcher() as launcher:
            await launcher.run("any")
            await launcher.kill("any")
            assert (await states(launcher))["left"] is State.STOPPED

    asyncio.run(main())


def test_what_needs_it_starts_again_as_it_ran(bed):
    async def main():
        async with bed.launcher() as launcher:
            await launcher.run("quiet", variants=["fast"], params={"tone": "shrill"})
        async with bed.launcher() as launcher:
            ran = await launcher.restart("right", variants=["loud"])
            assert ran.started == ("right", "quiet")
            assert await launcher.log("quiet") == "FAST\nshrill"
            assert "LOUD" in await launcher.log("right")
            text = bed.file.read_text()
            bed.file.write_text(text.replace("variants: {fast:", "variants: {slow:"))
        async with bed.launcher() as launcher:
            with pytest.raises(InventoryError, match="fast"):
                await launcher.restart("right")
            assert (await states(launcher))["right"] is State.READY, "it is said before anything is stopped"
        bed.file.write_text(text)

    asyncio.run(main())


def test_from_several_tasks_each_is_started_once(bed):
    async def main():
        async with bed.launcher() as one, bed.launcher() as two:
            names = ("left", "right", "top", "top")
            runs = [launcher.run(name) for launcher in (one, two) for name in names]
            ran = await asyncio.gather(*runs)
            assert {name for each in ran for name in each.started} == {"core", "left", "right", "top"}
            assert bed.sleeping() == 4

    asyncio.run(main())


def test_a_cancelled_run_stops_what_it_started_and_no_more(bed):
    async def main():
        async with bed.launcher() as launcher:
            await launcher.run("core")
            task = asyncio.ensure_future(launcher.run("left", "never"))
            while bed.sleeping() < 3:
                await asyncio.sleep(0.02)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert bed.sleeping() == 1
            seen = await states(launcher)
            assert (seen["core"], seen["left"], seen["never"]) == (State.READY, State.STOPPED, State.STOPPED)

    asyncio.run(main())


def test_cancelled_again_it_kills_at_once(bed):
    async def main():
        async with bed.launcher() as launcher:
            task = asyncio.ensure_future(launcher.run("stubborn", "never"))
            while not (bed.folder / "up").exists():
                await asyncio.sleep(0.02)
            began = time.monotonic()
            task.cancel()
            await asyncio.sleep(0.3)
            assert not task.done()
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert time.monotonic() - began < 7, "INT and TERM alone take longer"
            assert (await states(launcher))["stubborn"] is State.STOPPED

    asyncio.run(main())


def test_exit_codes_and_output(bed):
    async def main():
        async with bed.launcher() as launcher:
            await launcher.run("brief")
            assert await launcher.wait("brief") == 9
            ran = await launcher.run("once", wait=True)
            assert ran.codes == {"once": 0}
            assert await launcher.log("once") == "made"
            with pytest.raises(LauncherError, match="was not run here"):
                await launcher.wait("top")
            lines = []
            async for line in launcher.watch("core", lines=None):
                lines.append(line)
                break
            assert lines == ["core says hello"]

    asyncio.run(main())


def test_what_is_known_without_a_machine(bed):
    launcher = bed.launcher(variants=["right=loud"])
    assert launcher.processes()["right"] == {
        "variants": {"loud": None},
        "depends": ["core"],
        "persistent": True,
        "show_ui": True,
    }
    assert list(launcher.stack("right").items) == ["core", "right"]
    asyncio.run(launcher.close())
    with pytest.raises(LauncherError, match="closed"):
        asyncio.run(launcher.run("core"))
    with pytest.raises(InventoryError, match="unknown parameter"):
        bed.launcher(params={"nope": "x"})
    with pytest.raises(AttributeError):
        processes.Nothing  # noqa: B018
    assert not (bed.folder / "b").exists()
