"""Network namespaces and the processes in them, as this machine's root sees them; for netbed.py."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

SSHD = shutil.which("sshd") or "/usr/sbin/sshd"
TOOLS = ("ip", "nft", "unshare", "nsenter", "mount", "tmux")
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def why_not() -> str:
    """Why there can be no bed here; "" when there can."""
    if sys.platform != "linux" or os.getuid() != 0:
        return "needs root on Linux"
    missing = [tool for tool in TOOLS if shutil.which(tool, path=PATH) is None]
    missing += [] if os.access(SSHD, os.X_OK) else ["sshd"]
    missing += [] if os.path.exists("/dev/net/tun") else ["/dev/net/tun"]
    if missing:
        return f"needs {', '.join(missing)}"
    command = ["unshare", "--net", "--mount", "--pid", "--uts", "--fork", "--mount-proc", "true"]
    done = subprocess.run(command, capture_output=True, text=True)
    return f"no namespaces here: {done.stderr.strip()}" if done.returncode else ""


class Process(NamedTuple):
    """One that lives; pids are this machine's."""

    pid: int
    ppid: int
    name: str
    command: str

    def environ(self) -> bytes:
        with contextlib.suppress(OSError):
            return Path(f"/proc/{self.pid}/environ").read_bytes()
        return b""


def processes(netns: int) -> list[Process]:
    """The living processes in a network namespace (its inode), by pid."""
    found = []
    for entry in os.listdir("/proc"):
        if not entry.isdigit():
            continue
        with contextlib.suppress(OSError, ValueError, IndexError):
            if os.stat(f"/proc/{entry}/ns/net").st_ino != netns:
                continue
            stat = Path(f"/proc/{entry}/stat").read_text(errors="replace")
            state, ppid = stat.rpartition(")")[2].split()[:2]
            if state in "ZX":
                continue
            line = Path(f"/proc/{entry}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            name = stat.partition("(")[2].rpartition(")")[0]
            found.append(Process(int(entry), int(ppid), name, line.strip()))
    return sorted(found)


def wait_until(done: Callable[[], object], seconds: float) -> bool:
    """Poll until it is true; False when `seconds` are over."""
    deadline = time.monotonic() + seconds
    while not done():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


class Namespace:
    """A network namespace held by a descriptor."""

    def __init__(self, holder: int) -> None:
        """Takes that of a process."""
        self.fd = os.open(f"/proc/{holder}/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        self.inode = os.fstat(self.fd).st_ino

    def words(self, *command: str) -> list[str]:
        """The command inside; the process needs `pass_fds=[fd]`."""
        return ["nsenter", f"--net=/proc/self/fd/{self.fd}", "--", *command]

    def run(self, *command: str, stdin: str = "") -> str:
        """A command inside, to its end; raises when it fails."""
        done = subprocess.run(
            self.words(*command), pass_fds=[self.fd], input=stdin, capture_output=True, text=True
        )
        if done.returncode:
            raise RuntimeError(f"{' '.join(command)} {stdin}: {done.stderr}")
        return done.stdout

    def ip(self, *lines: str) -> None:
        self.run("ip", "-batch", "-", stdin="\n".join(lines) + "\n")

    def close(self) -> None:
        os.close(self.fd)
