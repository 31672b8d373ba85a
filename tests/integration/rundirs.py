"""Run directories of processes as the wrapper leaves them, for what only looks at them.

about, wrapper, pid, state, exit, log, log.index, with real processes behind them.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import stat
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from launcher.machines.local import LocalRunner
from launcher.plan import slug
from launcher.processes.model import Key
from launcher.tmux import session_name

SHELLS = {"dash": ["dash"], "bash": ["bash", "--posix"], "busybox": ["busybox", "ash"],
          "zsh": ["zsh", "--emulate", "sh"]}  # fmt: skip
BOOT = Path("/proc/sys/kernel/random/boot_id").read_text().strip()


class RunDirs:
    """Under a base of its own, with the archive in a home of its own; `close` ends everything."""

    def __init__(self, directory: Path) -> None:
        self.base = directory / "b"
        self.base.mkdir(mode=0o700)
        self.home = directory / "home"
        self.home.mkdir(exist_ok=True)
        self._processes: list[subprocess.Popen[bytes]] = []
        self._count = 0

    def run(self, key: Key) -> Path:
        return self.base / ".processes" / session_name(key.session) / slug(key.name)

    def archive(self, key: Key) -> Path:
        state = self.home / ".local/state/se-remote/processes"
        return state / session_name(key.session) / slug(key.name)

    def add(
        self, key: Key, state: str = "ready", *, container: str = "", log: bytes = b"", exit: str = "",
        wrapper: bool = True, pid: bool = True, command: tuple[str, ...] = ("sleep", "1000"),
        long: bool = False, began: float | None = None,
    ) -> Path:  # fmt: skip
        """`long`: its state says who it is, too (then no `wrapper` and `pid` need be read)."""
        run = self.run(key)
        run.mkdir(parents=True)
        self._count += 1
        when = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(began))
        about = ["token1", "hash1", "robot@client", "se-remote run x", "", container, key.name, "yes",
                 f"{when}-{self._count:07d}"]  # fmt: skip
        (run / "about").write_text("\n".join(about) + "\n")
        (run / "log").write_bytes(log)
        own = self.start(run, "sleep", "1000", marked=False)
        real = self.start(run, *command)
        (run / "wrapper").write_text(identity(own.pid) + "\n")
        (run / "pid").write_text(identity(real.pid) + "\n")
        more = f" {identity(own.pid)} {real.pid}" if long else ""
        (run / "state").write_text(f"{state} {int(time.time())}{more}\n")
        if exit:
            (run / "exit").write_text(exit + "\n")
        for process, lives in ((own, wrapper), (real, pid)):
            if not lives:
                process.kill()
                process.wait()
        return run

    def start(self, run: Path, *command: str, marked: bool = True) -> subprocess.Popen[bytes]:
        mine = {**os.environ, "SE_REMOTE_RUN": str(run)} if marked else None
        process = subprocess.Popen(command, env=mine, stdin=subprocess.DEVNULL, start_new_session=True)
        self._processes.append(process)
        return process

    def pid(self, key: Key) -> int:
        return int((self.run(key) / "pid").read_text().split()[0])

    def restart(self, key: Key, log: bytes, how: str = "stopped") -> None:
        """It ended in order, and runs again: the log went into the archive as a whole."""
        run, kept = self.run(key), self.archive(key)
        kept.mkdir(parents=True, exist_ok=True)
        began = (run / "about").read_text().splitlines()[-1]
        (run / "log").rename(kept / f"{began}-{how}.log")
        if (run / "log.index").exists():
            (run / "log.index").rename(kept / f"{began}-{how}.index")
        shutil.rmtree(run)
        self.add(key, log=log)

    def close(self) -> None:
        """End everything, what the processes have started themselves, too."""
        for process in self._processes:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        mark = f"SE_REMOTE_RUN={self.base}/".encode()
        for environ in Path("/proc").glob("[0-9]*/environ"):
            with contextlib.suppress(OSError):
                if mark in environ.read_bytes():
                    os.kill(int(environ.parent.name), signal.SIGKILL)


def identity(pid: int) -> str:
    """PID START BOOT, as the wrapper notes it."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].split()
    return f"{pid} {fields[19]} {BOOT}"


@pytest.fixture
def dirs() -> Iterator[RunDirs]:
    directory = Path(tempfile.mkdtemp(prefix="ser-", dir="/tmp"))
    made = RunDirs(directory)
    yield made
    made.close()
    shutil.rmtree(directory)


@pytest.fixture
def runner(dirs: RunDirs, request: pytest.FixtureRequest, tmp_path: Path) -> LocalRunner:
    """This machine, with `sh` as the shell of the parameter; with busybox its other tools, too."""
    environ = {**os.environ, "HOME": str(dirs.home)}
    name = getattr(request, "param", "")
    if not name:
        return LocalRunner(environ)
    if shutil.which(SHELLS[name][0]) is None:
        pytest.skip(f"no {name}")
    runner = LocalRunner(environ)
    tools = tmp_path / "tools"
    tools.mkdir()
    words = [shutil.which(SHELLS[name][0]), *SHELLS[name][1:]]
    script(tools / "sh", f'exec {" ".join(words)} "$@"')
    if name == "busybox":
        for tool in (
            "awk",
            "grep",
            "tail",
            "head",
            "wc",
            "sed",
            "sort",
            "tr",
            "cat",
            "readlink",
            "date",
            "ls",
        ):
            script(tools / tool, f'exec busybox {tool} "$@"')
    runner._environ["PATH"] = f"{tools}:{runner._environ['PATH']}"
    return runner


def script(path: Path, text: str) -> None:
    path.write_text(f"#!/bin/dash\n{text}\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
