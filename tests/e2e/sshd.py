"""A private sshd and accounts for tests: a config file, a host key, a high loopback port; nothing else.

As root it lets other accounts log in; otherwise only our own. Nothing is written into the real ~/.ssh.
"""

from __future__ import annotations

import contextlib
import os
import pwd
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import sysconfig
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

SSHD = shutil.which("sshd") or "/usr/sbin/sshd"
MARK = "SE_REMOTE_TEST"
SOON = {"SE_REMOTE_ESCALATION": "0.4,0.4"}
"""In the environment of a host's server: whatever is stubborn there is killed soon."""
"""Environment variable that every process of a test carries, to find it again."""


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


@dataclass(frozen=True)
class Account:
    """A login. `uid` is unique to it."""

    name: str
    uid: int
    home: Path


class Sshd:
    """Runs in `directory` until `close`."""

    def __init__(self, directory: Path, mark: str, home: Path) -> None:
        """`home` is the HOME of our own account's sessions."""
        self.directory = directory
        self.home = home
        self.mark = mark
        self.environ: dict[str, str] = {}
        """Further variables of its sessions, from the next `start` on."""
        self.port = free_port()
        self.host_key = directory / "host_key"
        self.client_key = directory / "client_key"
        for key in (self.host_key, self.client_key):
            subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(key)], check=True)
        (directory / "authorized_keys").write_text(self.client_key.with_suffix(".pub").read_text())
        (directory / "authorized_keys").chmod(0o644)
        self._process: subprocess.Popen[bytes] | None = None
        self.start()

    def start(self, *options: str, path: str = "") -> None:
        """(Re)start it, with further lines of configuration; `path` is the PATH of its sessions."""
        self.close()
        env = [f"{MARK}={self.mark}", *([f'"PATH={path}"'] if path else [])]
        env += [f"{name}={value}" for name, value in self.environ.items()]
        me = pwd.getpwuid(os.getuid()).pw_name
        lines = [
            f"Port {self.port}", "ListenAddress 127.0.0.1", f"HostKey {self.host_key}", "UsePAM no",
            f"AuthorizedKeysFile {self.directory}/authorized_keys", "StrictModes no", "PidFile none",
            "PermitRootLogin prohibit-password", f"SetEnv {' '.join(env)}", "PrintMotd no", "MaxStartups 100",
            f"Match User {me}", f'SetEnv {" ".join(env)} "HOME={self.home}"',
        ]  # fmt: skip
        config = self.directory / "sshd_config"
        config.write_text("\n".join([*options, *lines]) + "\n")
        if os.getuid() == 0:
            Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)
        log = (self.directory / "sshd.log").open("ab")
        self._process = subprocess.Popen([SSHD, "-D", "-e", "-f", str(config)], stdout=log, stderr=log)
        log.close()
        deadline = time.monotonic() + 10
        while True:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), 1):
                return
            if time.monotonic() > deadline or self._process.poll() is not None:
                raise RuntimeError((self.directory / "sshd.log").read_text())
            time.sleep(0.02)

    def close(self) -> None:
        """Stop listening and drop all its connections."""
        if self._process is None:
            return
        # stopped first: a child that it forked meanwhile would go on listening for a moment
        self._process.send_signal(signal.SIGSTOP)
        for pid in children(self._process.pid):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self._process.kill()
        self._process.wait()
        self._process = None

    def known_hosts_line(self) -> str:
        kind, key, *_ = self.host_key.with_suffix(".pub").read_text().split()
        return f"[127.0.0.1]:{self.port} {kind} {key}\n"


def children(pid: int) -> list[int]:
    """The descendants of a process, the youngest last."""
    parents: dict[int, int] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            parents[int(stat.parent.name)] = int(stat.read_text().rsplit(") ", 1)[1].split()[1])
    found = [pid]
    for known in found:
        found += [child for child, parent in parents.items() if parent == known]
    return found[1:]


def marked(mark: str) -> list[str]:
    """All processes that carry the mark, as text."""
    needle = f"{MARK}={mark}".encode()
    texts = []
    for environ in Path("/proc").glob("[0-9]*/environ"):
        with contextlib.suppress(OSError):
            if needle in environ.read_bytes().split(b"\0"):
                command = (
                    (environ.parent / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
                )
                texts.append(f"{environ.parent.name} {command}")
    return texts


def add_account(shell: str, home: Path) -> Account:
    """A new account, without password. Only root can; removed by `remove_account`."""
    name = f"se{secrets.token_hex(4)}"
    subprocess.run(["useradd", "-m", "-p", "*", "-s", shell, "-d", str(home), name], check=True)
    return Account(name, pwd.getpwnam(name).pw_uid, home)


def remove_account(account: Account) -> None:
    subprocess.run(["userdel", "-f", account.name], check=False, capture_output=True)
    shutil.rmtree(account.home, ignore_errors=True)


def python_for_others(directory: Path) -> tuple[str, str]:
    """An interpreter that any account can run, and the PYTHONPATH that makes it ours.

    Ours, if others can read it; else the system's of the same version; else a copy of ours.
    """
    version = f"{sys.version_info[0]}.{sys.version_info[1]}"
    paths = [
        str(Path(__file__).parents[2]),
        sysconfig.get_paths()["purelib"],
        sysconfig.get_paths()["platlib"],
    ]
    path = ":".join(dict.fromkeys(paths))
    for candidate in (sys.executable, f"/usr/bin/python{version}"):
        if _works_for_others(candidate, path):
            return candidate, path
    copy = directory / "python"
    source = Path(sys.base_prefix)
    skip = shutil.ignore_patterns(
        "site-packages", "test", "__pycache__", "idlelib", "tkinter", "ensurepip", "*.a"
    )
    library = f"lib/python{version}"
    shutil.copytree(source / library, copy / library, ignore=skip, symlinks=True)
    for shared in source.glob("lib/libpython*"):
        shutil.copy2(shared, copy / "lib", follow_symlinks=True)
    (copy / "bin").mkdir()
    binary = shutil.copy2(Path(sys.executable).resolve(), copy / "bin" / f"python{version}")
    starter = copy / "python"  # its own libraries are found by an absolute path that others cannot read
    starter.write_text(f'#!/bin/sh\nLD_LIBRARY_PATH={copy}/lib exec {binary} "$@"\n')
    starter.chmod(0o755)
    return str(starter), path


def _works_for_others(python: str, path: str) -> bool:
    try:
        done = subprocess.run(
            [python, "-c", "import zmq, msgpack, py_trees, remote_exec"],
            env={"PYTHONPATH": path, "PATH": "/usr/bin:/bin"}, cwd="/", capture_output=True, timeout=30,
            **({"user": 65534, "group": 65534, "extra_groups": []} if os.getuid() == 0 else {}),
        )  # fmt: skip
    except OSError:
        return False
    return done.returncode == 0


def wait_until(done: Sequence[object] | object, seconds: float = 30.0) -> bool:
    """Poll a callable until it is true; False when `seconds` are over."""
    deadline = time.monotonic() + seconds
    while not done():  # type: ignore[operator]
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True
