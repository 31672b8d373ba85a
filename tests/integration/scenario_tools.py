"""Helpers of the tests that run the real scenario_execution against real servers.

A small action library (`osc.demo`) is written as a distribution of its own and put on PYTHONPATH, so both
ends find it the way they find any installed one.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

from remote_exec.client.hub import request
from remote_exec.errors import RemoteExecError

BIN = Path(sys.executable).parent
ENDS_WITHIN = 60.0

PLUGIN = '''
import os, time
import py_trees
from scenario_execution.actions.base_action import BaseAction, ActionError

S = py_trees.common.Status


class Show(BaseAction):
    """Logs what it was given, with types."""
    def __init__(self, point: dict):
        super().__init__()
        self.point = point
    def execute(self, names: list, colour: tuple, amount: float, flag: bool):
        self.logger.info(f"show {self.point!r} {names!r} {colour!r} {amount!r} {flag!r}")
        self.feedback_message = "shown"
    def update(self):
        return S.SUCCESS


class Count(BaseAction):
    """Runs for so many updates."""
    def execute(self, updates: int):
        self.left = updates
    def update(self):
        self.left -= 1
        self.feedback_message = f"{self.left} left"
        return S.RUNNING if self.left > 0 else S.SUCCESS
    def request_cancel(self):
        self.logger.info("count cancelled")
        self.left = 0
        return True


class Flaky(BaseAction):
    """Fails so many times, then succeeds."""
    def __init__(self):
        super().__init__()
        self.tries = 0
    def execute(self, failures: int):
        self.tries += 1
        self.logger.info(f"flaky try {self.tries}")
        self.failures = failures
    def update(self):
        self.feedback_message = f"flaky failed in try {self.tries}"
        return S.FAILURE if self.tries <= self.failures else S.SUCCESS


class Trouble(BaseAction):
    """Raises, blocks or dies where it is told to."""
    def __init__(self, where: str):
        super().__init__()
        self.where = where
        self.go("init")
    def setup(self, **kwargs):
        self.go("setup")
    def execute(self):
        self.updates = 0
        self.go("execute")
    def update(self):
        self.updates += 1
        if self.updates == 3:
            self.go("update")
        return S.RUNNING
    def go(self, phase):
        if self.where == phase:
            raise ActionError(f"trouble in {phase}", action=self)
        if self.where == "die in " + phase:
            os._exit(7)
        if self.where == "interrupt in " + phase:
            os.kill(os.getpid(), 2)
        if self.where == "block in " + phase:
            time.sleep(30)


class Actor(BaseAction):
    """Logs its acting actor."""
    def __init__(self, associated_actor: dict):
        super().__init__()
        self.actor = associated_actor
    def execute(self, associated_actor: dict, word: str):
        self.logger.info(f"actor {self.actor == associated_actor} {associated_actor!r} {word}")
    def update(self):
        return S.SUCCESS
'''

LIBRARY = """
import osc.types

enum colour: [red = 1, green = 5]

struct place:
    x: length = 1m
    y: length = 2m
    label: string = "none"

actor robot_demo:
    wheels: int = 4

actor robot_moody:
    var mood: int = 4

action demo_show:
    point: place
    names: list of string
    colour: colour
    amount: float = 1.5
    flag: bool = true

action demo_count:
    updates: int

action demo_flaky:
    failures: int

action demo_trouble:
    where: string = ""

action robot_demo.demo_actor:
    word: string

action robot_moody.demo_actor:
    word: string
"""

ENTRY_POINTS = """
[scenario_execution.actions]
demo_show = demo_actions:Show
demo_count = demo_actions:Count
demo_flaky = demo_actions:Flaky
demo_trouble = demo_actions:Trouble
robot_demo.demo_actor = demo_actions:Actor
robot_moody.demo_actor = demo_actions:Actor

[scenario_execution.osc_libraries]
demo = demo_actions:library
"""


def write_plugin(folder: Path) -> Path:
    """A distribution `demo-actions`; the folder belongs on PYTHONPATH."""
    package = folder / "demo_actions"
    (package / "lib_osc").mkdir(parents=True)
    library = '\n\ndef library():\n    return "demo_actions", "demo.osc"\n'
    (package / "__init__.py").write_text(PLUGIN + library)
    (package / "lib_osc" / "demo.osc").write_text(LIBRARY)
    info = folder / "demo_actions-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: demo-actions\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(ENTRY_POINTS)
    return folder


def environment(plugin: Path) -> dict[str, str]:
    path = os.pathsep.join(p for p in (str(plugin), os.environ.get("PYTHONPATH", "")) if p)
    return {**os.environ, "PYTHONPATH": path, "PYTHONUNBUFFERED": "1"}


class Running:
    """A process whose output is read as it comes."""

    def __init__(self, argv: list[str], cwd: Path, env: dict[str, str]) -> None:
        self.process = subprocess.Popen(
            argv, cwd=cwd, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        self.lines: list[str] = []
        self._new = threading.Condition()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            with self._new:
                self.lines.append(line.rstrip("\n"))
                self._new.notify_all()

    @property
    def output(self) -> str:
        return "\n".join(self.lines)

    def wait_for(self, text: str) -> None:
        """Until a line with `text` was printed."""
        with self._new:
            if not self._new.wait_for(lambda: text in self.output, ENDS_WITHIN):
                raise AssertionError(f"{text!r} was not printed in:\n{self.output}")

    def signal(self, number: int) -> None:
        self.process.send_signal(number)

    def result(self) -> int:
        """The exit code, when it has ended and everything was read."""
        code = self.process.wait(ENDS_WITHIN)
        self._reader.join(ENDS_WITHIN)
        return code

    def stop(self) -> None:
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(15)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        self._reader.join(5)
        assert self.process.stdout is not None
        self.process.stdout.close()


class Server(Running):
    """A real server at a unix socket; `kind`: ours, or v1 (the fake)."""

    def __init__(
        self,
        folder: Path,
        plugin: Path,
        kind: str = "ours",
        name: str = "sock",
        env: dict[str, str] | None = None,
        options: tuple[str, ...] = (),
    ) -> None:
        self.path = folder / name
        self.endpoint = f"ipc://{self.path}"
        if kind == "ours":
            argv = [str(BIN / "scenario_execution_server"), "--socket", str(self.path), "-c", "0", *options]
        else:
            argv = [sys.executable, str(Path(__file__).parent / "v1_server_fake.py"), self.endpoint]
        super().__init__(argv, folder, {**environment(plugin), **(env or {})})
        if kind == "ours":
            self._wait_until_it_answers()
        else:
            self.wait_for("ready")

    def _wait_until_it_answers(self) -> None:
        deadline = time.monotonic() + ENDS_WITHIN
        while True:
            try:
                hello = {"client": {"what": "test"}, "seen": None}
                self.pid = request(self.endpoint, "hello", hello, timeout=0.5)["server"]["pid"]
                return
            except RemoteExecError:
                if self.process.poll() is not None or time.monotonic() > deadline:
                    raise AssertionError(f"the server does not answer:\n{self.output}") from None


def run_scenario(
    folder: Path, plugin: Path, text: str, *options: str, env: dict[str, str] | None = None
) -> Running:
    """Start the real command on a scenario file with this text."""
    (folder / "test.osc").write_text(text)
    argv = [str(BIN / "scenario_execution"), "test.osc", *options]
    return Running(argv, folder, {**environment(plugin), **(env or {})})


def children_of(pid: int) -> list[int]:
    """All living descendants (zombies do not count)."""
    parents: dict[int, int] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                state, parent = (entry / "stat").read_text().rpartition(")")[2].split()[:2]
            except OSError:
                continue
            if state != "Z":
                parents[int(entry.name)] = int(parent)
    found, todo = [], [pid]
    while todo:
        current = todo.pop()
        below = [child for child, parent in parents.items() if parent == current]
        found += below
        todo += below
    return found


def commands_running(marker: str) -> list[int]:
    """Pids of living processes whose command line contains `marker`."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            try:
                if marker.encode() in (entry / "cmdline").read_bytes():
                    found.append(int(entry.name))
            except OSError:
                continue
    return found


def eventually(condition, what: str) -> None:
    deadline = time.monotonic() + ENDS_WITHIN
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(0.02)


SIGINT, SIGTERM, SIGKILL = signal.SIGINT, signal.SIGTERM, signal.SIGKILL
