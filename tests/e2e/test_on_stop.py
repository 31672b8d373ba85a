"""`on_stop` as a user has it: in the inventory, over a real sshd; whoever of it all is killed."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
from pathlib import Path
from xml.etree import ElementTree

import pytest
import sshd as private
from commandline import ENDS_WITHIN, Terminal

from remote_exec.host import procs, rundir


class Robot(Terminal):
    """A host whose `on_stop` writes a line with what still sleeps, and its own surroundings."""

    def __init__(self, world, command: str = "", ready_timeout: str = "20s", lease: str = "3s") -> None:
        super().__init__(world)
        self.trace = world.directory / "trace"
        default = f'echo "$SPEED $LANE asleep: $(pgrep -fc "^sleep 703.25")" >>{self.trace}; echo braked'
        more = {
            "setup": "export LANE=left",
            "env": "{SPEED: '7'}",
            "lease": lease,
            "ready_timeout": ready_timeout,
            "on_stop": json.dumps(command or default),
        }
        self.write_inventory(self.entry(self.name, **more))

    @property
    def stops(self) -> list[str]:
        return self.trace.read_text().splitlines() if self.trace.exists() else []

    def driving(self):
        """A scenario whose action has started a process on the host."""
        script = self.folder / "drive"
        script.write_text("#!/bin/sh\nsetsid sleep 703.25 &\nsleep 703.25\n")
        script.chmod(0o755)
        action = f'run_process("{script}") with:\n    remote("lab-pc")'
        made = self.start("scenario_execution", "-o", ".", self.write_scenario(action))
        assert private.wait_until(lambda: len(asleep(self)) >= 2, 30), made.communicate()
        return made

    def pid(self, what: str) -> int:
        (path,) = self.run_dir.glob(what)
        return int(path.read_text().split()[0])

    def server(self) -> list[int]:
        """Every process of the server itself: supervisor, front, fork server, keepers, workers."""
        supervisor = self.pid("pid")
        below = procs.descendants(supervisor, procs.all_procs())
        return [supervisor, *(proc.pid for proc in below if "remote_exec.server" in procs.describe(proc))]


def asleep(robot: Robot) -> list[procs.Proc]:
    run = f"{rundir.MARKER}={robot.run_dir}".encode()
    return [proc for proc in procs.carriers(run) if "sleep 703.25" in procs.describe(proc)]


SAFE = ["7 left asleep: 0"]


@pytest.fixture
def robot(world):
    made = Robot(world)
    yield made
    made.se_remote("kill", "--force", made.name)
    assert private.wait_until(lambda: not made.run_dir.exists(), 20), list(made.run_dir.iterdir())


def end(process) -> str:
    """What it said, all of it."""
    out, err = process.communicate(timeout=ENDS_WITHIN)
    return out + err


@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM])
def test_a_run_that_is_given_up(robot, sent):
    driving = robot.driving()
    driving.send_signal(sent)
    text = end(driving)
    assert driving.returncode == 1
    assert f"[{robot.name}] on_stop: braked" in text and f"[{robot.name}] on_stop: done" in text
    assert robot.stops == SAFE


def test_a_run_that_ends_by_itself(robot):
    done = robot.scenario('run_process("true") with:\n    remote("lab-pc")')
    assert done.code == 0 and "on_stop" not in done.text
    assert robot.stops == []


def test_a_client_that_is_killed(robot):
    driving = robot.driving()
    driving.kill()
    end(driving)
    assert private.wait_until(lambda: robot.stops == SAFE, 25), robot.stops
    assert private.wait_until(lambda: not robot.run_dir.exists(), 20)


def test_kill(robot):
    driving = robot.driving()
    done = robot.se_remote("kill", "--force", robot.name)
    assert done.code == 0 and f"[{robot.name}] on_stop: braked" in done.text, done
    assert robot.stops == SAFE
    end(driving)
    assert robot.stops == SAFE


def test_kill_when_it_fails(world):
    robot = Robot(world, "echo no map; exit 3")
    end_of = robot.driving()
    done = robot.se_remote("kill", "--force", robot.name)
    assert done.code == 1
    assert f"[{robot.name}] on_stop: no map" in done.text and "MAY NOT BE IN A SAFE STATE" in done.text
    end(end_of)


def test_the_whole_server_is_killed(robot):
    """Nobody of it is left: what it orphaned is ended and the robot stopped by the wrapper in the window."""
    driving = robot.driving()
    for pid in robot.server():
        with contextlib.suppress(ProcessLookupError):  # some die with their parent
            os.kill(pid, signal.SIGKILL)
    assert private.wait_until(lambda: robot.stops == SAFE, 20), robot.stops
    end(driving)
    assert robot.stops == SAFE


def test_supervisor_and_keeper_are_killed(robot):
    """Their orphans go to init."""
    driving = robot.driving()
    supervisor, *rest = robot.server()
    table = procs.all_procs()
    keepers = [pid for pid in rest if table[table[pid].ppid].ppid == supervisor]
    for pid in (supervisor, *keepers):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    assert private.wait_until(lambda: robot.stops == SAFE, 40), robot.stops
    assert private.wait_until(lambda: not asleep(robot), 20)
    end(driving)
    assert robot.stops == SAFE


@pytest.mark.parametrize("then", ["kill", pytest.param("up", marks=pytest.mark.slow)])
def test_the_wrapper_is_killed_as_well(robot, then):
    driving = robot.driving()
    for pid in [robot.pid("wrapper.*"), *robot.server()]:
        with contextlib.suppress(ProcessLookupError):  # some die with their parent
            os.kill(pid, signal.SIGKILL)
    driving.kill()
    end(driving)
    assert asleep(robot) and robot.stops == []
    status = robot.se_remote("status", robot.name)
    assert "on_stop has not run" in status.text and f"{asleep(robot)[0].pid}" in status.text, status
    done = robot.se_remote(then, robot.name)
    assert done.code == 0, done
    assert robot.stops == SAFE and not asleep(robot)


@pytest.mark.slow
def test_one_that_is_due_and_slow_has_its_own_time(world):
    robot = Robot(world, "sleep 8; echo braked", ready_timeout="6s")
    driving = robot.driving()
    for pid in [robot.pid("wrapper.*"), *robot.server()]:
        with contextlib.suppress(ProcessLookupError):  # some die with their parent
            os.kill(pid, signal.SIGKILL)
    driving.kill()
    end(driving)
    done = robot.se_remote("up", robot.name)
    assert done.code == 0 and re.search(r"^\S+ +on_stop +\d", done.text, re.M), done
    assert robot.se_remote("kill", robot.name).code == 0


@pytest.mark.parametrize(
    "cause", ["end", *(pytest.param(how, marks=pytest.mark.slow) for how in ("Ctrl-C", "kill"))]
)
def test_a_recorder_closes_its_file(world, cause):
    """It needs SIGINT, and 3 s after it: nobody takes them from it, and `on_stop` comes after it."""
    robot = Robot(world, lease="20s")  # it is not the lease that ends it, however slow this machine is
    script, taken = robot.folder / "record", robot.folder / "taken"
    lines = ["#!/bin/sh", f"trap 'sleep 3; echo closed >>{robot.trace}; exit' INT", f"echo >{taken}"]
    script.write_text("\n".join([*lines, "while :; do sleep 0.1; done", ""]))
    script.chmod(0o755)
    # one that has not begun would end by the signal at once
    begun = robot.folder / "begun"
    begun.write_text(f"#!/bin/sh\nuntil [ -e {taken} ]; do sleep 0.1; done\n")
    begun.chmod(0o755)
    how = "wait_for_shutdown: false, shutdown_signal: signal!sigint, shutdown_timeout: 8s"
    lasting = f'serial:\n        run_process("{script}", {how}) with:\n            remote("lab-pc")\n'
    lasting += f'        run_process("{begun}")' if cause == "end" else "        wait elapsed(600s)"
    running = robot.start("scenario_execution", robot.write_scenario(lasting))
    assert private.wait_until(taken.exists, 30), running.communicate()
    if cause == "Ctrl-C":
        running.send_signal(signal.SIGINT)
    elif cause == "kill":
        assert robot.se_remote("kill", robot.name).code == 0
        running.send_signal(signal.SIGINT)
    end(running)
    assert robot.stops == (["closed"] if cause == "end" else ["closed", *SAFE])


def test_what_is_left_fails_the_scenario(robot, monkeypatch):
    """A process that no signal ends is not to be had; so the look of the keeper is what fails here."""
    plugin = Path(robot.folder, "sitecustomize.py")
    plugin.write_text(
        "import os\n"
        "from remote_exec.host import procs\n"
        "end_all = procs.end_all\n"
        "procs.end_all = lambda *a: (end_all(*a)[0], ['pid 1 (init): init'])\n"
    )
    entry = robot.entry(robot.name, env=f"{{PYTHONPATH: '{robot.folder}'}}")
    robot.write_inventory(entry)
    done = robot.scenario('run_process("true") with:\n    remote("lab-pc")', "-o", ".")
    assert done.code == 1
    assert "still running: pid 1 (init)" in done.text
    (case,) = ElementTree.parse(robot.folder / "test.xml").getroot().iter("testcase")
    (failure,) = case.iter("failure")
    assert "left running" in str(failure.attrib) + str(failure.text)
    assert "pid 1 (init)" in str(failure.attrib) + str(failure.text)
