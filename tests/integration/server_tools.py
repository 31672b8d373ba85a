"""A real server as a subprocess, a plugin package for it, and the check that nothing is left of it."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import zmq
from v2client import V1Client, V2Client

MARKER = "SE_REMOTE_TEST"

PLUGIN = '''
import ctypes, os, signal, subprocess, sys, threading, time
import py_trees
from py_trees.common import Status
from scenario_execution.actions.base_action import ActionError, BaseAction


class Mute(Exception):
    def __str__(self):
        raise RuntimeError("no text")


class Odd(BaseAction):
    """Does what `what` says, in `phase` (several: `update2 cancel`)."""

    def __init__(self, phase: str = "", what: str = ""):
        super().__init__()
        self.phase, self.what, self.ticks = phase, what, 0
        self.do("init")

    def do(self, phase):
        if phase not in self.phase.split():
            return None
        if self.what == "raise":
            raise ValueError("odd " + phase)
        if self.what == "action_error":
            raise ActionError("odd " + phase, action=self)
        if self.what == "exit":
            sys.exit(3)
        if self.what == "_exit":
            os._exit(4)
        if self.what == "segfault":
            os.kill(os.getpid(), signal.SIGSEGV)
        if self.what == "none":
            return None
        if self.what == "invalid":
            return Status.INVALID
        if self.what == "number":
            return 7
        if self.what.startswith("sleep"):
            time.sleep(float(self.what.partition(" ")[2]))
        if self.what == "print":
            print("printed by an action", flush=True)
            os.system("echo printed by a child; echo error of a child >&2")
        if self.what == "daemon":
            stubborn = "setsid sh -c 'trap : INT TERM; while :; do sleep 0.1; done' &"
            subprocess.Popen(["sh", "-c", stubborn])
            time.sleep(0.3)
        if self.what == "mute":
            raise Mute()
        if self.what == "mute feedback":
            self.feedback_message = Mute()
        if self.what == "interrupt":
            raise KeyboardInterrupt
        if self.what == "recursion":
            self.do(phase)
        if self.what == "memory":
            raise MemoryError()
        if self.what == "close":
            os.closerange(3, 1024)
        if self.what == "close all":
            os.closerange(0, 1024)
        if self.what == "garbage":
            for fd in range(3, 64):
                try:
                    os.write(fd, bytes([255]) * 4096)
                except OSError:
                    pass
        if self.what == "deaf":
            for signum in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
                signal.signal(signum, signal.SIG_IGN)
            os.chdir("/")
            threading.Thread(target=time.sleep, args=(1000,)).start()
        if self.what == "binary":
            os.write(1, bytes(range(256)) + b"x" * 5_000_000)
        if self.what == "flood":
            for number in range(30000):
                self.logger.info(f"flood {number}")
        return Status.RUNNING

    def setup(self, **kwargs):
        self.kwargs = kwargs
        self.do("setup")

    def execute(self):
        self.ticks = 0
        self.do("execute")

    def update(self):
        self.ticks += 1
        self.feedback_message = f"tick {self.ticks}"
        if self.phase == "update":
            return self.do("update")
        if self.phase.startswith("update2"):
            return self.do("update2") if self.ticks >= 2 else Status.RUNNING
        return Status.RUNNING if self.ticks < 3 or self.phase == "cancel" else Status.SUCCESS

    def request_cancel(self):
        self.logger.info("cancel requested")
        self.do("cancel")
        return False

    def terminate(self, new_status):
        self.logger.info(f"terminate {new_status.name}")
        super().terminate(new_status)

    def shutdown(self):
        self.logger.info("shut down")
        self.do("shutdown")


class Parked(BaseAction):
    """Succeeds at once; would take a cancel."""

    def update(self):
        self.logger.info("parked update")
        return Status.SUCCESS

    def request_cancel(self):
        self.logger.info("parked cancel")
        return True


class Echo(BaseAction):
    """Says what it was given."""

    def __init__(self, at_init=None, associated_actor=None):
        super().__init__()
        self.at_init, self.actor = at_init, associated_actor

    def setup(self, **kwargs):
        self.names = ",".join(sorted(kwargs))

    def execute(self, value, associated_actor=None):
        from scenario_execution.scenario_execution_base import ScenarioExecutionConfig
        self.logger.info(f"init {self.at_init!r} value {value!r} actor {associated_actor!r} name {self.name}"
                         f" label {self._model.name} kwargs {self.names} ctx {self._model.get_ctx()}"
                         f" dir {ScenarioExecutionConfig().scenario_file_directory} cwd {os.getcwd()}")

    def update(self):
        return Status.SUCCESS


class Subtree(py_trees.composites.Sequence):
    pass
'''


def write_plugins(folder: Path) -> Path:
    """A distribution `odd-actions` with its entry points, importable from `folder`."""
    (folder / "odd_actions.py").write_text(PLUGIN)
    info = folder / "odd_actions-1.2.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: odd-actions\nVersion: 1.2\n")
    (info / "entry_points.txt").write_text(
        "[scenario_execution.actions]\nodd = odd_actions:Odd\necho = odd_actions:Echo\n"
        "parked = odd_actions:Parked\n"
        "broken = odd_actions:Missing\nno_action = odd_actions:Subtree\n"
    )
    return folder


def marked(marker: str) -> list[tuple[int, str]]:
    """Living processes whose environment carries the marker."""
    wanted = f"{MARKER}={marker}".encode()
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            if wanted not in (entry / "environ").read_bytes().split(b"\0"):
                continue
            state = (entry / "stat").read_text().rpartition(")")[2].split()[0]
            command = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode()
        except OSError:
            continue
        if state not in "ZX":
            found.append((int(entry.name), command))
    return found


class Server:
    """A server with a run directory of its own, in a directory with a short path."""

    def __init__(
        self, plugins: Path | None = None, *options: str, run_dir: bool = True, cwd: Path | None = None
    ) -> None:
        self.marker = str(uuid.uuid4())
        self._temporary = tempfile.TemporaryDirectory(prefix="se", ignore_cleanup_errors=True)
        self.dir = Path(self._temporary.name)
        self.run_dir = self.dir / "run"
        self.run_dir.mkdir(mode=0o700)
        self.socket = self.run_dir / "sock" if run_dir else self.dir / "own.sock"
        self.endpoint = f"ipc://{self.socket}"
        self.log_path = self.dir / "server.log"
        self.context = zmq.Context()
        self.clients: list[Any] = []
        self._last_log = ""
        environ = {**os.environ, MARKER: self.marker}
        if plugins is not None:
            environ["PYTHONPATH"] = str(plugins)
        where = ["--run-dir", str(self.run_dir)] if run_dir else ["--socket", str(self.socket)]
        with self.log_path.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "remote_exec.server", *where, *options],
                env=environ,
                cwd=cwd,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    @property
    def log(self) -> str:
        """After the end, too."""
        return self._last_log or self.log_path.read_text()

    def v2(self, session: str | None = None) -> V2Client:
        client = V2Client(self.context, self.endpoint, session)
        self.clients.append(client)
        return client

    def v1(self) -> V1Client:
        client = V1Client(self.context, self.endpoint)
        self.clients.append(client)
        return client

    def processes(self) -> dict[str, int]:
        """The server's own processes, by what they are: supervisor, front, forkserver."""
        children = {}
        for pid, _ in marked(self.marker):
            with contextlib.suppress(OSError):  # gone since it was listed
                ppid = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
                children.setdefault(ppid, []).append(pid)
        front, forkserver = sorted(children[self.process.pid])[:2]
        found = {"supervisor": self.process.pid, "front": front, "forkserver": forkserver}
        if children.get(forkserver):
            found["keeper"] = children[forkserver][0]
            if children.get(found["keeper"]):  # else it is ending
                found["worker"] = children[found["keeper"]][0]
        return found

    def wait(self, seconds: float = 30.0) -> int:
        return self.process.wait(seconds)

    def stop(self) -> int:
        """Gracefully; whatever is left is an error of the test. Once; then just the exit code."""
        if self.context.closed:
            return self.wait()
        for client in self.clients:
            client.close()
        self.context.destroy(0)
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        code = self.wait()
        try:
            until(lambda: not marked(self.marker), 20, f"left: {marked(self.marker)}\n{self.log}")
        finally:
            kill(*(pid for pid, _ in marked(self.marker)))
            self._last_log = self.log
            self._temporary.cleanup()
        return code


def kill(*pids: int) -> None:
    """SIGKILL to each; some die with one of the others before it is their turn."""
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def until(condition: Callable[[], Any], seconds: float = 20.0, what: str = "") -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"not within {seconds} s: {what}"
        time.sleep(0.02)
