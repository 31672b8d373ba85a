"""A Site over this machine, in a base directory of its own; what it hears is kept."""

from __future__ import annotations

import asyncio
import itertools
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from launcher.machines.local import LocalRunner
from launcher.model import Machine, ProcessSpec, State
from launcher.processes.model import Change, Key, Launch
from launcher.processes.site import Site

WITHIN_S = 30.0


class Heard:
    """The changes that one site told of."""

    def __init__(self) -> None:
        self.changes: list[Change] = []
        self.lost: list[str] = []
        self._more = asyncio.Event()

    def change(self, change: Change) -> None:
        self.changes.append(change)
        self._more.set()

    async def until(self, name: str, *states: State) -> Change:
        """The last change of that name, as soon as it is one to one of `states`."""
        deadline = time.monotonic() + WITHIN_S
        while True:
            own = [change for change in self.changes if change.key.name == name]
            if own and own[-1].state in states:
                return own[-1]
            assert time.monotonic() < deadline, (name, states, own)
            self._more.clear()
            try:
                await asyncio.wait_for(self._more.wait(), 1.0)
            except asyncio.TimeoutError:
                continue

    def states(self, name: str) -> list[str]:
        return [change.state.value for change in self.changes if change.key.name == name]


class Bed:
    """What belongs to one test: base, home, a search path."""

    def __init__(self) -> None:
        # short: a socket's path is bounded
        self.directory = Path(tempfile.mkdtemp(prefix="sit-", dir="/tmp"))
        self.base = str(self.directory / "b")
        self.home = self.directory / "home of 'me'"
        self.home.mkdir()
        self.archive = self.home / ".local/state/se-remote/processes"
        self.environ = {**os.environ, "HOME": str(self.home), "SE_TEST_MARK": self.directory.name}
        for name in ("TMUX", "SE_REMOTE_RUN"):
            self.environ.pop(name, None)
        self._tokens = itertools.count(1)

    def launch(self, name: str, cmd: str, **more: Any) -> Launch:
        options = {
            field: more.pop(field)
            for field in ("token", "config_hash", "lease", "what", "behind")
            if field in more
        }
        options.setdefault("token", f"token{next(self._tokens)}")
        options.setdefault("config_hash", "hash")
        session = more.get("session", "se")
        return Launch(
            Key(session, name), ProcessSpec(name, cmd, Machine(), **more), started_by="me@here", **options
        )

    @asynccontextmanager
    async def site(self, *, clean: bool = True, **environ: str) -> Any:
        """A site and what it hears; afterwards whatever was started over it is killed."""
        heard = Heard()
        runner = LocalRunner({**self.environ, **environ})
        site = await Site.open(
            "local", runner, on_change=heard.change, on_lost=heard.lost.append, base=self.base
        )
        try:
            yield site, heard
            if clean:
                keys = {change.key for change in heard.changes}
                await site.stop(sorted(keys), force=True)
        finally:
            await site.close()

    def run(self, name: str, session: str = "se") -> Path:
        """The run directory of a process."""
        return Path(self.base, ".processes", session, name)

    def log(self, name: str) -> bytes:
        return (self.run(name) / "log").read_bytes()

    def archived(self, name: str, session: str = "se") -> list[Path]:
        return sorted((self.archive / session / name).glob("*.log"))

    def tmux(self, *words: str) -> str:
        command = ["tmux", "-u", "-f", "/dev/null", "-S", f"{self.base}/tmux", *words]
        environ = {key: value for key, value in self.environ.items() if key != "TMUX"}
        return subprocess.run(command, capture_output=True, text=True, check=False, env=environ).stdout

    def marked(self) -> dict[int, str]:
        """What runs with the environment of this test, or with a path of its in its command line."""
        mark, found = self.directory.name.encode(), {}
        for path in Path("/proc").glob("[0-9]*"):
            try:
                if mark in (path / "environ").read_bytes() or mark in (path / "cmdline").read_bytes():
                    found[int(path.name)] = (path / "cmdline").read_text(errors="replace").replace("\0", " ")
            except OSError:
                continue
        return found

    def leftovers(self) -> list[str]:
        found = [f"process {pid} {text}" for pid, text in self.marked().items()]
        if os.path.exists(self.base):
            # os.walk: a directory may go while it is looked into
            files = [f"file {at}/{one}" for at, dirs, names in os.walk(self.base) for one in (*dirs, *names)]
            found += files or ["the base directory"]
        return found

    def close(self) -> None:
        for pid in self.marked():
            try:
                os.kill(pid, 9)
            except ProcessLookupError:
                continue
        shutil.rmtree(self.directory, ignore_errors=True)


def until(condition: Callable[[], Any], within: float = WITHIN_S) -> Any:
    """Its value, as soon as that is true; the last one after `within` seconds."""
    deadline = time.monotonic() + within
    while not (value := condition()) and time.monotonic() < deadline:
        time.sleep(0.02)
    return value


async def soon(condition: Callable[[], Any], within: float = WITHIN_S) -> Any:
    """The same, while a loop runs."""
    deadline = time.monotonic() + within
    while not (value := condition()) and time.monotonic() < deadline:
        await asyncio.sleep(0.02)
    return value


def go(work: Coroutine[Any, Any, None]) -> None:
    asyncio.run(work)
