"""A stack of processes in a test's world: accounts of its sshd play the machines, a folder is the client's.

Each account has a home, a run directory and a tmux server of its own; what is left of any of them fails the
test that left it (World.leftovers).
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import signal
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import sshd as private
import yaml
from commandline import BIN, ENDS_WITHIN, Done

from launcher.errors import LauncherError
from launcher.processes import Launcher

LONG = "exec sleep 3600"


class Stack:
    """One client's folder; `machines` accounts that its processes run as."""

    def __init__(self, world: Any, machines: int = 1) -> None:
        self.world = world
        self.folder: Path = world.directory / "work"
        self.folder.mkdir()
        config = world.home / ".ssh" / "config"
        config.write_text(f"Host *\n  IdentityFile {world.sshd.client_key}\n")
        self.accounts = [world.account() for _ in range(machines)]
        self._started: list[subprocess.Popen[str]] = []
        self._file = self.folder / "se-remote.yaml"
        self._names: list[str] = []

    # -- the machines

    def machine(self, number: int = 0, port: int = 0) -> str:
        """As the inventory names it."""
        return f"{self.accounts[number].name}@127.0.0.1:{port or self.world.sshd.port}"

    def add_machine(self, shell: str = "/bin/bash") -> int:
        self.accounts.append(self.world.account(shell))
        return len(self.accounts) - 1

    def file(self, name: str, number: int = 0) -> Path:
        """In the home of a machine's account."""
        return Path(self.accounts[number].home) / name

    def lines(self, name: str, number: int = 0) -> list[str]:
        """Of a file there; none when it is not there (yet)."""
        with contextlib.suppress(FileNotFoundError):
            return self.file(name, number).read_text(errors="replace").splitlines()
        return []

    def base(self, number: int = 0) -> Path:
        return Path(f"/tmp/se-remote-{self.accounts[number].uid}")

    def tmux(self, *words: str, number: int = 0) -> str:
        """What the tmux server of a machine says."""
        command = ["tmux", "-u", "-f", "/dev/null", "-S", f"{self.base(number)}/tmux", *words]
        return subprocess.run(self.as_user(command, number), capture_output=True, text=True).stdout

    def as_user(self, words: list[str], number: int = 0) -> list[str]:
        account = self.accounts[number]
        mark = f"{self.world.mark_name}={self.world.mark}"
        return ["setpriv", f"--reuid={account.uid}", f"--regid={account.uid}", "--clear-groups", "env",
                f"HOME={account.home}", mark, *words]  # fmt: skip

    def windows(self, session: str = "se-remote", number: int = 0) -> list[str]:
        listed = self.tmux("list-windows", "-t", f"={session}", "-F", "#{window_name}", number=number)
        return sorted(listed.splitlines())

    def alive(self, text: str) -> list[int]:
        """Pids of this test's processes whose command line holds the text."""
        return [int(one.split()[0]) for one in private.marked(self.world.mark) if text in one]

    # -- the inventory

    def write(self, document: Mapping[str, Any] | str, name: str = "se-remote.yaml") -> None:
        text = document if isinstance(document, str) else yaml.safe_dump(document, sort_keys=False)
        (self.folder / name).write_text(text)
        self._file = self.folder / name
        read = yaml.safe_load(text)
        self._names = [str(one) for one in read.get("processes", read) if one != "context"]

    def processes(self, **entries: Mapping[str, Any]) -> None:
        """An inventory of ours; a process is on the first machine unless it says otherwise."""
        self.write(
            {"processes": {name: {"machine": self.machine(), **keys} for name, keys in entries.items()}}
        )

    # -- the client

    @property
    def environ(self) -> dict[str, str]:
        mine = {key: value for key, value in self.world.environ.items() if not key.startswith("SE_REMOTE_")}
        mine[self.world.mark_name] = self.world.mark
        return {**mine, "PATH": f"{BIN}:{os.environ['PATH']}", "PYTHONUNBUFFERED": "1", "TERM": "xterm"}

    def start(self, *words: str, env: Mapping[str, str] | None = None) -> subprocess.Popen[str]:
        """`se-remote WORDS…` (or another of our commands) that goes on, in a session of its own."""
        name = words[0] if words[0] == "scenario_execution" else "se-remote"
        process = subprocess.Popen(
            [str(BIN / name), *(words[1:] if name != "se-remote" else words)],
            cwd=self.folder, env={**self.environ, **(env or {})}, text=True, stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True,
        )  # fmt: skip
        self._started.append(process)
        return process

    def run(self, *words: str, env: Mapping[str, str] | None = None, within: float = ENDS_WITHIN) -> Done:
        """A command, to its end."""
        return self.ended(self.start(*words, env=env), within)

    def ended(self, process: subprocess.Popen[str], within: float = ENDS_WITHIN) -> Done:
        out, err = process.communicate(timeout=within)
        assert "Traceback" not in out + err, out + err
        return Done(process.returncode, out, err)

    def good(self, *words: str, **more: Any) -> Done:
        done = self.run(*words, **more)
        assert done.code == 0, done.text
        return done

    def status(self, *names: str) -> dict[str, dict[str, Any]]:
        """What `status --json` says of processes (and hosts), by name."""
        done = self.run("status", *names, "--json")
        assert done.out, done.text
        return {one.get("process") or one["host"]: one for one in json.loads(done.out)}

    def states(self, *names: str) -> dict[str, str]:
        return {name: one["state"] for name, one in self.status(*names).items()}

    def close(self) -> None:
        for process in self._started:
            if process.poll() is None:
                process.send_signal(signal.SIGKILL)
                process.communicate()
        if any(self.base(number).exists() for number in range(len(self.accounts))):
            asyncio.run(self._kill())

    async def _kill(self) -> None:
        """Not all of the inventory: that means this machine's `local`, too."""
        with contextlib.suppress(LauncherError):
            async with Launcher.from_file(self._file, environ=self.environ) as launcher:
                await launcher.kill(*self._names, force=True)


def slow(*values: Any) -> Any:
    """A parameter of a test that `make test` leaves out: one more of a kind."""
    return pytest.param(*values, marks=pytest.mark.slow)


def until(condition: Any, seconds: float = 20.0) -> None:
    """Poll until it holds."""
    assert private.wait_until(condition, seconds)


def order(text: str, *words: str) -> bool:
    """Whether the words stand in the text in that order."""
    return re.search(".*".join(map(re.escape, words)), text, re.S) is not None


@pytest.fixture
def stack(world: Any) -> Iterator[Stack]:
    made = Stack(world)
    yield made
    made.close()
