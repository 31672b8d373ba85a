"""Processes in containers: a private engine, real sh, real tmux, `docker exec`."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
import sys
from pathlib import Path

import pytest
import sshd as private

sys.path.insert(0, str(Path(__file__).parents[1] / "integration"))
from sitebed import Heard, soon

from launcher.machines.local import LocalRunner
from launcher.model import Container, Machine, ProcessSpec, ReadyCheck, State
from launcher.processes import seeing
from launcher.processes.model import Key, Launch
from launcher.processes.site import Site

READY, DEAD, STOPPED = State.READY, State.DEAD, State.STOPPED


class Bed:
    """Sites over this machine, whose engine is the private one."""

    def __init__(self, boxes) -> None:
        self.boxes, self.world = boxes, boxes.world
        self.count = 0

    def launch(self, name: str, cmd: str, box: str | Container, **more) -> Launch:
        self.count += 1
        docker = Container(name=box) if isinstance(box, str) else box
        env = {self.world.mark_name: self.world.mark, **more.pop("env", {})}
        token = more.pop("token", f"t{self.count}")
        spec = ProcessSpec(name, cmd, Machine(), docker=docker, env=env, **more)
        return Launch(Key("se", name), spec, token, "hash", "me@here")

    async def site(self, base: str = "") -> tuple[Site, Heard]:
        heard = Heard()
        runner = LocalRunner(self.world.environ)
        base = base or self.world.base
        site = await Site.open("local", runner, on_change=heard.change, on_lost=heard.lost.append, base=base)
        return site, heard

    def go(self, work) -> None:
        try:
            asyncio.run(work)
        except BaseException:
            self._abandon()
            raise

    def _abandon(self) -> None:
        """After a failure: nothing may hold up the next test."""
        self.world.tmux("kill-server")
        for text in private.marked(self.world.mark):
            with contextlib.suppress(ProcessLookupError):
                os.kill(int(text.split()[0]), signal.SIGKILL)
        shutil.rmtree(self.world.base, ignore_errors=True)

    def inside(self, name: str, text: str) -> str:
        return self.boxes.dockerd.run("exec", name, "sh", "-c", text, check=False).stdout

    def run(self, name: str) -> Path:
        return Path(self.world.base, ".processes/se", name)


@pytest.fixture
def bed(boxes):
    return Bed(boxes)


def test_several_share_a_container_and_all_of_each_is_ended_inside(bed):
    bed.boxes.create("nav")

    async def work() -> None:
        site, heard = await bed.site()
        stubborn = (
            "trap '' INT TERM; setsid sleep 771 & echo \"$A 'x'\"; touch ~/up; while :; do sleep 0.1; done"
        )
        env = {"A": '$HOME "q" \'ü'}
        launches = [
            bed.launch(
                "one",
                stubborn,
                "nav",
                env=env,
                ready_check=ReadyCheck(command="[ -e ~/up ] && $SET"),
                setup="SET=true",
            ),
            bed.launch("two", "echo it is UP; sleep 772", "nav", ready_check=ReadyCheck(log="is UP$")),
            bed.launch("file", "touch ~/there; sleep 773", "nav", ready_check=ReadyCheck(file="~/there")),
            bed.launch("shot", "echo done; exit 0", "nav", persistent=False),
            bed.launch("dies", "echo oops; exit 3", "nav"),
            bed.launch("signal", "kill -9 $$", "nav"),
        ]
        await site.start(launches)
        for name in ("one", "two", "file"):
            await heard.until(name, READY)
        assert (await heard.until("shot", STOPPED)).code == 0
        dead = await heard.until("dies", DEAD)
        assert (dead.code, dead.tail) == (3, ("oops",))
        assert (await heard.until("signal", DEAD)).signal == 9
        assert (bed.run("one") / "log").read_text() == "$HOME \"q\" 'ü 'x'\n"
        assert (bed.run("one") / "about").read_text().splitlines()[5].split()[2] == "nav"
        done = await site.stop([launch.key for launch in launches], grace=0.6)
        assert {key.name: (change.state, change.forced, change.left) for key, change in done.items()} == {
            "one": (STOPPED, True, ()), "two": (STOPPED, False, ()), "file": (STOPPED, False, ()),
            "shot": (STOPPED, False, ()), "dies": (DEAD, False, ()), "signal": (DEAD, False, ()),
        }  # fmt: skip
        assert "sleep 77" not in bed.inside("nav", "cat /proc/[0-9]*/cmdline | tr '\\0' ' '")
        assert bed.inside("nav", "ls -d /tmp/se-remote-*") == ""
        assert bed.boxes.dockerd.run("inspect", "-f", "{{.State.Status}}", "nav").stdout.strip() == "running"
        await site.close()

    bed.go(work())


def test_accounts_that_are_the_same_one_inside_leave_each_other_alone(bed):
    bed.boxes.create("nav")

    async def work() -> None:
        site, heard = await bed.site()
        other, others = await bed.site(f"{bed.world.base}2")
        launch = bed.launch("one", "echo mine; exec sleep 771", "nav")
        theirs = bed.launch("one", "echo theirs; exec sleep 772", "nav")
        await site.start([launch])
        await heard.until("one", READY)
        await other.start([theirs])
        await others.until("one", READY)
        # a read over the tree, too: what is shown is one's own
        key, runner = launch.key, LocalRunner(bed.world.environ)
        seen = await seeing.status(runner, base=bed.world.base)
        (holder,) = (await seeing.tree(runner, [key], base=bed.world.base, over=0, seen=seen))[key]
        assert [node.command for node in holder.children] == ["sleep 771"]
        await other.stop([theirs.key])
        assert heard.states("one")[-1] == "ready"
        assert "sleep\x00771" in bed.inside("nav", "cat /proc/[0-9]*/cmdline")
        await site.stop([launch.key])
        await site.close()
        await other.close()

    bed.go(work())


def test_what_runs_in_a_paused_container_is_named(bed):
    bed.boxes.create("nav")

    async def work() -> None:
        site, heard = await bed.site()
        launch = bed.launch("one", "exec sleep 771", "nav")
        await site.start([launch])
        await heard.until("one", READY)
        bed.boxes.dockerd.run("pause", "nav")
        (change,) = (await site.stop([launch.key])).values()
        assert "in container nav: it is paused" in change.left[0]
        bed.boxes.dockerd.run("unpause", "nav")
        heard.changes.clear()
        await site.start([bed.launch("one", "exec sleep 772", "nav")])  # ends it first
        await heard.until("one", READY)
        (change,) = (await site.stop([launch.key])).values()
        assert change.left == ()
        assert "sleep 77" not in bed.inside("nav", "cat /proc/[0-9]*/cmdline | tr '\\0' ' '")
        await site.close()

    bed.go(work())


def test_one_that_was_stopped_is_started_and_stopped_again_by_the_last(bed):
    bed.boxes.create("nav", start=False)

    async def work() -> None:
        site, heard = await bed.site()
        launches = [bed.launch(name, "sleep 1000", "nav") for name in ("one", "two")]
        await site.start(launches)
        for launch in launches:
            await heard.until(launch.key.name, READY)
        await site.stop([launches[0].key])
        status = ["inspect", "-f", "{{.State.Status}}", "nav"]
        assert bed.boxes.dockerd.run(*status).stdout.strip() == "running"
        await site.stop([launches[1].key])
        assert bed.boxes.dockerd.run(*status).stdout.strip() == "exited"
        await site.close()

    bed.go(work())


def test_one_that_is_made_goes_with_its_process(bed):
    async def work() -> None:
        site, heard = await bed.site()
        launch = bed.launch("one", "pwd; sleep 1000", bed.boxes.image(workdir="/tmp"))
        await site.start([launch])
        await heard.until("one", READY)
        assert await soon(lambda: (bed.run("one") / "log").read_text() == "/tmp\n")
        await site.stop([launch.key])
        await site.close()

    bed.go(work())


@pytest.mark.parametrize("how", ["container", "wrapper", pytest.param("kill-server", marks=pytest.mark.slow)])
def test_without_its_container_wrapper_or_window_it_ends_and_says_why(bed, how):
    bed.boxes.create("nav")

    async def work() -> None:
        site, heard = await bed.site()
        launch = bed.launch("one", "setsid sleep 771 & while :; do sleep 0.1; done", "nav")
        await site.start([launch])
        await heard.until("one", READY)
        if how == "container":
            bed.boxes.dockerd.run("kill", "nav")
        elif how == "wrapper":
            os.kill(int((bed.run("one") / "wrapper").read_text().split()[0]), signal.SIGKILL)
        else:
            bed.world.tmux("kill-server")
        dead = await heard.until("one", DEAD)
        words = {
            "container": "container nav has ended",
            "wrapper": "wrapper was killed",
            "kill-server": "window",
        }
        assert words[how] in dead.reason
        if how != "container":
            assert await soon(
                lambda: "sleep 77" not in bed.inside("nav", "cat /proc/[0-9]*/cmdline | tr '\\0' ' '")
            )
        await site.stop([launch.key])
        await site.close()

    bed.go(work())


def test_the_rc_file_inside_is_read_once(bed):
    bed.boxes.create("nav")
    rc = "sleep 0.3; echo read >>~/reads; alias hello='echo from alias'; A=rc"
    bed.inside("nav", f"echo {rc!r} >~/.bashrc")

    async def work() -> None:
        site, heard = await bed.site()
        launches = [bed.launch(f"p{n}", "hello $A; sleep 1000", "nav", login=True) for n in range(3)]
        await site.start(launches[:2])
        await site.start(launches[2:])
        for n in range(3):
            await heard.until(f"p{n}", READY)
            assert await soon(lambda n=n: (bed.run(f"p{n}") / "log").read_text() == "from alias rc\n")
        assert bed.inside("nav", "cat ~/reads") == "read\n"
        await site.stop([launch.key for launch in launches], force=True)
        await site.close()

    bed.go(work())
