"""Processes as a person sees them: status, logs, attach, mon and clean, by the commands, over a real sshd."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import json
import os
import pty
import re
import select
import signal
import struct
import subprocess
import termios
import time
from pathlib import Path

import pytest
import sshd as private
from commandline import BIN, Terminal

from launcher.machines.local import LocalRunner
from launcher.model import State
from launcher.processes import seeing
from launcher.processes.model import Key, Node, Seen

TICK = 'i=0; while :; do i=$((i+1)); echo "line $i"; sleep 0.1; done'


class Stack(Terminal):
    """Processes of an inventory, in a tmux session of their own, on the machine that the sshd plays."""

    def __init__(self, world) -> None:
        super().__init__(world)
        self.session = f"t{self.name[-6:]}"
        self.names: list[str] = []

    def write(self, commands: dict[str, str], **more: str) -> None:
        """An inventory with these; `more`: whole further entries of processes."""
        self.names = [*commands, *more]
        host = self.entry(self.name)
        lines = [f"  {json.dumps(name)}: {{host: {self.name}, cmd: {json.dumps(command)}}}\n"
                 for name, command in commands.items()]  # fmt: skip
        lines += [f"  {name}: {entry}\n" for name, entry in more.items()]
        text = f"context: {{session: {self.session}}}\nhosts:\n{host}processes:\n{''.join(lines)}"
        (self.folder / "se-remote.yaml").write_text(text)

    def up(self, commands: dict[str, str], **more: str) -> None:
        self.write(commands, **more)
        done = self.se_remote("run", *commands)
        assert done.code == 0, done.text

    @property
    def runs(self) -> Path:
        return Path(f"/tmp/se-remote-{os.getuid()}/.processes/{self.session}")

    def windows(self) -> list[str]:
        """Sessions that look at a window."""
        command = ["tmux", "-S", f"/tmp/se-remote-{os.getuid()}/tmux", "list-windows", "-aF"]
        done = subprocess.run(
            [*command, "#{session_name} #{@se_remote_process}"], capture_output=True, text=True, check=False
        )
        return [line.split()[0] for line in done.stdout.splitlines() if f" {self.session}/" in line]


@pytest.fixture
def stack(world):
    made = Stack(world)
    yield made
    if made.names:
        made.se_remote("kill", "--force", *made.names)


class Screen:
    """A command on a terminal of its own."""

    def __init__(self, stack: Stack, *words: str, **environ: str) -> None:
        self.master, slave = pty.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 30, 120, 0, 0))
        self.process = subprocess.Popen(
            [str(BIN / words[0]), *words[1:]], cwd=stack.folder,
            env={**stack.environ, "TERM": "xterm", **environ},
            stdin=slave, stdout=slave, stderr=slave, start_new_session=True,
            preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
        )  # fmt: skip
        os.close(slave)
        self.text = ""

    def until(self, wanted: str, seconds: float = 30.0) -> str:
        """Read until it shows what is wanted (a regular expression)."""
        end = time.monotonic() + seconds
        while not re.search(wanted, self.text):
            assert time.monotonic() < end, f"no {wanted!r} in {self.text!r}"
            self.read()
        return self.text

    def read(self) -> bool:
        if select.select([self.master], [], [], 0.1)[0]:
            with contextlib.suppress(OSError):
                data = os.read(self.master, 65536)
                self.text += data.decode("utf-8", "replace")
                return bool(data)
        return False

    def type(self, text: str) -> None:
        os.write(self.master, text.encode())

    def ends(self, seconds: float = 20.0) -> int:
        end = time.monotonic() + seconds
        while self.process.poll() is None and time.monotonic() < end:
            self.read()
        while self.read():
            pass
        return self.process.wait(1)

    def close(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        os.close(self.master)


@pytest.fixture
def screen(stack):
    made: list[Screen] = []

    def start(*words: str, **environ: str) -> Screen:
        made.append(Screen(stack, *words, **environ))
        return made[-1]

    yield start
    for one in made:
        one.close()


def test_hosts_and_processes_in_one_picture(stack):
    stack.write(
        {"planner": "sleep 1000 & exec sleep 999", "HW Type": "echo oops; exit 3"},
        never=f"{{host: {stack.name}, cmd: a}}",
    )
    assert stack.se_remote("run", "planner").code == 0
    assert stack.se_remote("run", "HW Type").code == 1
    done = stack.se_remote("status")
    assert done.code == 0, done.text
    assert re.search(rf"^{stack.name} +\S+ +stopped", done.out, re.M)
    assert re.search(
        r"^planner +\S+127.0.0.1:\d+ +ready +\d+ s +\d+ +\S+@\S+: se-remote run planner", done.out, re.M
    )
    assert re.search(
        r"^HW Type +\S+ +dead .*\n    exit code 3\n    its output: se-remote logs 'HW Type'$", done.out, re.M
    )
    assert re.search(r"^never +\S+ +stopped +- +- +-$", done.out, re.M)

    tree = stack.se_remote("status", "planner", "--tree")
    assert re.search(
        r"CPU %.*\n +0\.0 +[\d.]+ .B +\d+  sleep 999\n +0\.0 +[\d.]+ .B +\d+   └─ sleep 1000$", tree.out, re.M
    )
    assert stack.name not in tree.out
    (entry,) = json.loads(stack.se_remote("status", "--json", "--tree", "planner").out)
    assert (
        entry["process"] == "planner"
        and entry["state"] == "ready"
        and entry["tree"][0]["pid"] == entry["pid"]
    )
    assert {one.get("host") for one in json.loads(stack.se_remote("status", "--json").out)} >= {
        stack.name,
        None,
    }


def test_unknown_names_and_a_machine_that_cannot_be_reached(stack):
    stack.write({"planner": "sleep 1"}, far="{machine: nobody@127.0.0.2:1, cmd: a}")
    done = stack.se_remote("status", "plannr")
    assert done.code == 2 and 'did you mean the process "planner"?' in done.err
    done = stack.se_remote("status", "planner", "far")
    assert done.code == 3
    assert re.search(r"^far +nobody@127.0.0.2:1 +unreachable +.*\n    connect: ", done.out, re.M)
    assert re.search(r"^planner .* stopped ", done.out, re.M)
    done = stack.se_remote("logs", "planner", "far", "--runs")
    assert done.code == 3 and "far: connect:" in done.err and "planner: no log" in done.err


def test_the_logs_of_several(stack):
    stack.up({"a": "seq 1 5; exec sleep 1000", "long name": "printf 'no end'; exec sleep 1000"})
    log = stack.runs / "a" / "log"
    assert private.wait_until(lambda: log.read_text() == "1\n2\n3\n4\n5\n")
    done = stack.se_remote("logs", "a", "long name", "-n", "1")
    assert done.out == "[a]         5\n[long name] no end\n" and done.code == 0
    done = stack.se_remote("logs", "a", "--since", "1h", "--grep", "[245]", "-n", "2")
    assert done.out == "4\n5\n", done.text
    wrong = stack.se_remote("logs", "a", stack.name, "--since", "soon", "--grep", "(")
    assert wrong.code == 2 and "--since: expected" in wrong.err and "no regular expression" in wrong.err
    assert stack.se_remote("restart", "a").code == 0
    assert stack.se_remote("kill", "a").code == 0
    runs = stack.se_remote("logs", "a", "--runs").out
    assert re.search(r"^1 +\d{4}-.* 10 B +stopped in order\n2 +.* 10 B +stopped in order$", runs, re.M), runs
    assert stack.se_remote("logs", "a", "--run", "2").out == "1\n2\n3\n4\n5\n"
    done = stack.se_remote("logs", "a", "--run", "3")
    assert done.code == 1 and "there is no log of run 3; what there is: se-remote logs a --runs" in done.err


def test_following_a_hundred_thousand_lines_is_the_file(stack):
    """Long lines and what is no UTF-8 among them; every line, in order."""
    text = ("import sys; w = sys.stdout.buffer.write\n"
            "for n in range(100_000):\n"
            "    w(b'caf\\xe9 %d \\xff\\n' % n if n % 1000 == 7 else b'line %d\\n' % n)\n"
            "w(b'x' * 1_000_000 + b'!\\n'); w(b'the end\\n')")  # fmt: skip
    (stack.folder / "flood.py").write_text(text)
    stack.up({"flood": f"python3 {stack.folder}/flood.py; exec sleep 1000"})
    reader = stack.start("se-remote", "logs", "-f", "-n", "all", "flood", errors="surrogateescape")
    try:
        lines = []
        for line in reader.stdout:
            lines.append(line.rstrip("\n"))
            if lines[-1] == "the end":
                break
        expected = (stack.runs / "flood" / "log").read_text(errors="replace").splitlines()
        assert len(lines) == 100_002 and lines == expected
        assert lines[7] == "caf\ufffd 7 \ufffd" and lines[100_000] == "x" * 1_000_000 + "!"
    finally:
        reader.kill()
        reader.communicate()


def test_more_than_a_connection_carries_are_followed_at_once(stack):
    """MaxSessions of the sshd is 10."""
    names = [f"p{number}" for number in range(13)]
    stack.up(dict.fromkeys(names, TICK))
    reader = stack.start("se-remote", "logs", "-f", "-n", "0", *names)
    try:
        heard = set()
        for line in reader.stdout:
            heard.add(line.partition("]")[0].strip("["))
            if len(heard) == len(names):
                break
        assert heard == set(names)
        reader.send_signal(signal.SIGINT)
        assert reader.wait(20) == 130
    finally:
        reader.kill()
        reader.communicate()
    assert private.wait_until(lambda: not tails(stack))


def tails(stack: Stack) -> list[str]:
    return [text for text in private.marked(stack.world.mark) if "tail -c" in text]


@pytest.mark.slow
def test_following_goes_on_through_a_restart_and_a_lost_connection(stack):
    stack.up({"a": "echo begun; exec sleep 1000"})
    reader = stack.start("se-remote", "logs", "-f", "a")
    try:
        assert reader.stdout.readline() == "begun\n"
        assert stack.se_remote("restart", "a").code == 0
        assert reader.stdout.readline() == "begun\n"
        stack.world.sshd.start()
        assert stack.se_remote("restart", "a").code == 0
        assert reader.stdout.readline() == "begun\n"
    finally:
        reader.kill()
        _, remarks = reader.communicate()
    assert "a: started again" in remarks and "trying again in" in remarks


def test_it_ends_when_nobody_reads(stack):
    stack.up({"a": "echo one; exec sleep 1000"})
    done = stack.run("/bin/sh", "-c", f"{BIN}/se-remote logs -f a | head -n 1; echo over")
    assert done.out == "one\nover\n"
    assert private.wait_until(lambda: not tails(stack))


def test_colours_are_for_terminals_and_for_those_who_want_them(stack, screen):
    stack.up({"a": "echo one; exec sleep 1000", "b": "echo two; exec sleep 1000"})
    colours = screen("se-remote", "logs", "-f", "a", "b").until("one(.|\n)*two|two(.|\n)*one")
    assert "\033[36m[a] \033[0mone" in colours and "\033[33m[b] \033[0mtwo" in colours
    assert "\033[" not in screen("se-remote", "logs", "a", "b", NO_COLOR="1").until("two")


@pytest.mark.slow
def test_watching(stack, screen):
    stack.up({"a": "exec sleep 1000"})
    shown = screen("se-remote", "status", "--watch", "0.2", "a")
    shown.until("ready(.|\n)*ready")
    assert stack.se_remote("kill", "a").code == 0
    shown.until("stopped")
    shown.type("\x03")
    assert shown.ends() == 0 and shown.text.endswith("\033[?1049l") and "interrupted" not in shown.text


def test_attach_types_into_the_window_and_leaves_it_as_it_was(stack, screen):
    stack.up({"teleop": 'echo ready; while read -r key; do echo "pressed: $key"; done'})
    assert stack.windows() == [stack.session]
    shown = screen("se-remote", "attach", "teleop")
    shown.until("ready")
    shown.type("left\r")
    shown.until("pressed: left")
    assert len(stack.windows()) == 2, "it looks through a session of its own"
    shown.type("\x02d")
    assert shown.ends() == 0
    assert private.wait_until(lambda: stack.windows() == [stack.session])
    assert stack.se_remote("logs", "teleop").out == "ready\npressed: left\n"


def test_attach_says_first_that_there_is_no_such_name(stack):
    stack.write({"a": "true"})
    unknown, known = stack.se_remote("attach", "b c"), stack.se_remote("attach", "a")
    assert unknown.code == 2 and '"b c"' in unknown.err and "terminal" not in unknown.err, unknown.text
    assert known.code == 2 and "needs a terminal" in known.err and "se-remote logs a -f" in known.err


@pytest.mark.slow
def test_the_terminal_comes_back_when_the_process_is_stopped(stack, screen):
    stack.up({"a": "echo one; exec sleep 1000", "b": "echo two; exec sleep 1000"})
    shown = screen("se-remote", "attach", "a")
    shown.until("one")
    assert stack.se_remote("kill", "a").code == 0
    shown.ends()
    assert "two" not in shown.text
    done = stack.se_remote("attach", "a")
    assert done.code == 2 and "needs a terminal" in done.err
    again = screen("se-remote", "attach", "a")
    assert again.ends() == 1 and "it has no window: it does not run" in again.text


def test_mon_shows_each_that_runs_and_ends_without_a_trace(stack, screen):
    stack.up({"a": "echo I am a; exec sleep 1000", "b": "echo I am b; exec sleep 1000"},
             c=f"{{host: {stack.name}, cmd: sleep 1}}")  # fmt: skip
    shown = screen("se-remote", "mon", TMPDIR=str(stack.world.tunnels))
    shown.until("I am a(.|\n)*I am b|I am b(.|\n)*I am a")
    assert " a " in shown.text and " b " in shown.text and " c " not in shown.text
    shown.type("\x02d")
    assert shown.ends() == 0
    assert private.wait_until(lambda: stack.windows() == [stack.session] * 2)
    assert not list(stack.world.tunnels.iterdir())


@pytest.mark.slow
def test_mon_behind_the_scenes_ends_with_what_it_shows(stack):
    stack.up({"a": "exec sleep 1000", "b": "exec sleep 1000"})
    stack.world.more_environ["TMPDIR"] = str(stack.world.tunnels)
    done = stack.se_remote("mon", "a", "--detach")
    assert done.code == 0 and done.out.startswith("shown by: tmux ")
    assert private.wait_until(lambda: len(stack.windows()) == 3)
    assert stack.se_remote("kill", "a").code == 0
    assert private.wait_until(lambda: not list(stack.world.tunnels.iterdir()))
    assert stack.se_remote("kill", "b").code == 0
    done = stack.se_remote("mon", "--detach")
    assert done.code == 1 and "nothing to show" in done.err


def test_clean_removes_what_stays_and_nothing_that_runs(stack):
    stack.write({"a": "echo one; exec sleep 1000", "b": "echo two; exit 3"})
    assert stack.se_remote("run", "a").code == 0
    for _ in range(2):
        assert stack.se_remote("restart", "a").code == 0
    assert stack.se_remote("run", "b").code == 1
    dry = stack.se_remote("clean", "--dry-run", "a", "b")
    assert (
        dry.code == 0
        and "a: would remove 2 logs (8 B)" in dry.out
        and "b: would remove 1 dead run" in dry.out
    )
    assert "1 window" in dry.out and "left alone" not in dry.out and (stack.runs / "b").exists()
    done = stack.se_remote("clean", "a", "b")
    assert done.out == dry.out.replace("would remove", "removed").replace("would free", "freed")
    assert not (stack.runs / "b").exists()
    assert (stack.runs / "a" / "log").exists() and len(stack.windows()) == 1


def test_a_tree_reaches_into_the_container(boxes):
    """What carries the process's mark in there, below what holds it on the machine."""
    box = boxes.create("nav")
    key = Key("lab", "planner")
    whose = boxes.world.base.removeprefix("/tmp/se-remote-").replace("/", "_")
    run = f"/tmp/se-remote-0-{box[:12]}-{whose}/.processes/lab/planner"  # what is ours inside
    boxes.dockerd.run(
        "exec", "-d", "-e", f"SE_REMOTE_RUN={run}", "nav", "sh", "-c", "sleep 998 & exec sleep 997"
    )
    seen = [Seen(key, State.READY, container=f"docker {box} nav")]
    runner = LocalRunner(boxes.world.environ)

    def look() -> tuple[Node, ...]:
        return asyncio.run(seeing.tree(runner, [key], base=boxes.world.base, over=0, seen=seen))[key]

    # this machine sees what runs in the container, too: it is shown once
    assert private.wait_until(lambda: len(look()) == 1 and len(look()[0].children) == 1)
    (root,) = look()
    assert (root.command, root.children[0].command) == ("sleep 997", "sleep 998")
    boxes.dockerd.run("pause", "nav")
    try:
        assert look() == (), "one that does not answer has no tree"
    finally:
        boxes.dockerd.run("unpause", "nav")
    boxes.dockerd.run("stop", "-t", "0", "nav")
