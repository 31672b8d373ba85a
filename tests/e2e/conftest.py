"""One world per test: a private sshd, a home for the client, and a check that nothing is left of it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parent))

import sshd as private
from boxbed import boxes as boxes
from dockerd import dockerd as dockerd
from faultbed import bed as bed
from stackbed import stack as stack

from launcher import command
from launcher.lease import Launcher
from launcher.model import Event, HostSpec, Machine, SshOptions

SERVER_STANDIN = Path(__file__).parent / "standin_server.py"
IS_ROOT = os.getuid() == 0


class World:
    """Launchers, hosts and accounts of one test; `check` asserts that nothing of it is left."""

    def __init__(self, directory: Path, sshd: private.Sshd, python: tuple[str, str]) -> None:
        self.directory = directory
        self.sshd = sshd
        self.mark = sshd.mark
        self.mark_name = private.MARK
        self.base = str(directory / "b")
        self.home = directory / "client"
        (self.home / ".ssh").mkdir(parents=True)
        self.known_hosts = self.home / ".ssh" / "known_hosts"
        self.known_hosts.write_text(sshd.known_hosts_line())
        self.server_home = sshd.home
        self.python = python
        self.events: list[Event] = []
        self.accounts: list[private.Account] = []
        self._launchers: list[Launcher] = []
        self.more_environ: dict[str, str] = {}
        self.more_leftovers: list[Callable[[], list[str]]] = []
        self.tunnels = directory / "t"
        self.tunnels.mkdir(mode=0o700)

    @property
    def environ(self) -> dict[str, str]:
        mine = {key: value for key, value in os.environ.items() if not key.startswith(("SSH_", "TMUX"))}
        return {**mine, **self.more_environ, "HOME": str(self.home), private.MARK: self.mark}

    def launcher(self, **options: Any) -> Launcher:
        options.setdefault("base", self.base)
        made = Launcher(None, environ=self.environ, on_event=self.events.append, what="a test", **options)
        self._launchers.append(made)
        return made

    def account(self, shell: str = "/bin/bash", home: str = "") -> private.Account:
        if not IS_ROOT:
            pytest.skip("only root can make accounts")
        made = private.add_account(shell, self.directory / (home or f"home{len(self.accounts)}"))
        self.accounts.append(made)
        return made

    def host(
        self, name: str = "lab-pc", *, user: str | None = None, local: bool = False, **more: Any
    ) -> HostSpec:
        """A host over SSH (as root or ourselves without `user`), or this machine."""
        python, path = self.python
        env = {"PYTHONPATH": path, "PYTHONDONTWRITEBYTECODE": "", **private.SOON, **more.pop("env", {})}
        who = user or private.pwd.getpwuid(os.getuid()).pw_name
        machine = Machine() if local else Machine("127.0.0.1", who, self.sshd.port)
        more.setdefault("ssh", SshOptions(str(self.sshd.client_key), None, str(self.known_hosts)))
        more.setdefault("python", python)
        more.setdefault("ready_timeout", 20.0)
        return HostSpec(name, machine, env=env, **more)

    def standin(self, mood: str = "", *, name: str = "lab-pc", **more: Any) -> HostSpec:
        """A host whose server is the stand-in, in that mood."""
        python = command.quote([self.python[0], str(SERVER_STANDIN), *mood.split()])
        return self.host(name, server=f'set -- {{server}}; shift 3; exec {python} "$@"', **more)

    def tmux(self, *words: str) -> str:
        """What tmux says, at the server of this world's run directories."""
        command = ["tmux", "-u", "-f", "/dev/null", "-S", f"{self.base}/tmux", *words]
        return subprocess.run(command, capture_output=True, text=True, check=False).stdout

    def close(self) -> None:
        for launcher in self._launchers:
            launcher.abort()
            launcher.close(hurry=True)

    def leftovers(self) -> list[str]:
        """Whatever of this test is still there, as texts."""
        found = [f"process {text}" for text in private.marked(self.mark)]
        bases = [Path(self.base), *(Path(f"/tmp/se-remote-{account.uid}") for account in self.accounts)]
        found += [f"directory {base}: {sorted(base.rglob('*'))}" for base in bases if base.exists()]
        found += [f"tunnel {path}" for path in self.tunnels.iterdir()]
        found += [text for look in self.more_leftovers for text in look()]
        return found


@pytest.fixture(scope="session")
def other_python() -> Iterator[tuple[str, str]]:
    """An interpreter that every account can run, and its PYTHONPATH."""
    directory = Path(tempfile.mkdtemp(prefix="serp-", dir="/tmp"))
    directory.chmod(0o755)
    yield private.python_for_others(directory)
    shutil.rmtree(directory, ignore_errors=True)


@pytest.fixture
def world(other_python: tuple[str, str], monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    # not tmp_path: a socket's path must stay under 100 bytes
    directory = Path(tempfile.mkdtemp(prefix="ser-", dir="/tmp"))
    directory.chmod(0o755)
    (directory / "server home").mkdir()
    sshd = private.Sshd(directory, directory.name, directory / "server home")
    made = World(directory, sshd, other_python)
    monkeypatch.setattr(tempfile, "tempdir", str(made.tunnels))
    monkeypatch.setenv("HOME", str(made.home))
    monkeypatch.delenv("SSH_AUTH_SOCK", raising=False)
    monkeypatch.delenv("TMUX", raising=False)
    try:
        yield made
        made.close()
        private.wait_until(lambda: not made.leftovers(), 30)
        left = made.leftovers()
    finally:
        sshd.close()
        _end(made)
    assert left == []


def _end(world: World) -> None:
    """After a failed test: nothing may disturb the next one."""
    for text in private.marked(world.mark):
        try:
            os.kill(int(text.split()[0]), 9)
        except ProcessLookupError:
            continue
    for account in world.accounts:
        private.remove_account(account)
        shutil.rmtree(f"/tmp/se-remote-{account.uid}", ignore_errors=True)
    shutil.rmtree(world.directory, ignore_errors=True)
