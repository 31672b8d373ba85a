"""Processes of this machine, read from /proc (Linux).

Rules: a pid alone names nothing (pids wrap), so whoever signals compares the start time first; a
zombie counts as gone; nothing here waits by itself.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterable
from typing import Final, NamedTuple

ESCALATION: Final = "3,2"
"""Seconds for which the effect of INT, then of TERM, is waited for."""
ESCALATION_VARIABLE: Final = "SE_REMOTE_ESCALATION"
"""Other seconds, for tests. In the environment because the processes of a server, and what ends their
leftovers when they are gone (host/on_stop.py), have that in common and nothing else."""
KILL_SECONDS: Final = 5.0

_PR_SET_PDEATHSIG: Final = 1
_PR_SET_CHILD_SUBREAPER: Final = 36


class Proc(NamedTuple):
    """One process as /proc/PID/stat shows it."""

    pid: int
    ppid: int
    state: str
    start: int
    """Start time in clock ticks since boot (field 22)."""
    name: str

    @property
    def alive(self) -> bool:
        return self.state not in "ZXx"


def parse_stat(text: str) -> Proc:
    """A line of /proc/PID/stat. The name may hold blanks and parentheses; the last `)` ends it."""
    head, _, tail = text.rpartition(")")
    pid, _, name = head.partition(" (")
    fields = tail.split()
    return Proc(int(pid), int(fields[1]), fields[0], int(fields[19]), name)


def read_proc(pid: int) -> Proc | None:
    """The process, None when there is none."""
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as stat:
            return parse_stat(stat.read())
    except (OSError, ValueError, IndexError):
        return None


def all_procs() -> dict[int, Proc]:
    """Every process that can be seen, by pid."""
    found = {}
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            proc = read_proc(int(entry))
            if proc is not None:
                found[proc.pid] = proc
    return found


def descendants(root: int, procs: dict[int, Proc], spare: Iterable[int] = ()) -> list[Proc]:
    """The living processes below `root`, parents first; those in `spare` and all below them left out."""
    below: dict[int, list[Proc]] = {}
    for proc in procs.values():
        below.setdefault(proc.ppid, []).append(proc)
    spared = set(spare)
    found: list[Proc] = []
    level = [root]
    while level:
        children = [p for pid in level for p in below.get(pid, []) if p.pid not in spared]
        found.extend(p for p in children if p.alive)
        level = [p.pid for p in children]
    return found


def send_signal(proc: Proc, signum: int) -> bool:
    """Signals exactly that process. False: it is gone, or not ours to signal."""
    now = read_proc(proc.pid)
    if now is None or now.start != proc.start or not now.alive:
        return False
    try:
        os.kill(proc.pid, signum)
    except OSError:
        return False
    return True


def escalation(text: str) -> list[tuple[int, float]]:
    """Each signal, and the seconds for which its effect is waited for, from `3,2`. Raises ValueError."""
    seconds = [float(word) for word in text.split(",")]
    if len(seconds) != 2 or not all(0 <= one < 3600 for one in seconds):
        raise ValueError(f"expected the seconds after INT and after TERM, such as {ESCALATION}, got {text!r}")
    return list(zip((signal.SIGINT, signal.SIGTERM, signal.SIGKILL), (*seconds, KILL_SECONDS), strict=True))


def end_all(find: Callable[[], list[Proc]], pause: Callable[[], None]) -> tuple[list[str], list[str]]:
    """INT, TERM, KILL to what `find` finds, until it finds nothing: what was signalled, and what is left.

    `pause` is called between two looks: it waits a little, and reaps what is the caller's to reap.
    """
    touched: dict[tuple[int, int], str] = {}
    for signum, seconds in escalation(os.environ.get(ESCALATION_VARIABLE, ESCALATION)):
        signalled: set[tuple[int, int]] = set()
        until = time.monotonic() + seconds
        while True:
            alive = find()
            if not alive:
                return list(touched.values()), []
            for proc in alive:
                key = (proc.pid, proc.start)
                if key not in signalled:
                    signalled.add(key)
                    touched.setdefault(key, describe(proc))
                    send_signal(proc, signum)
            if time.monotonic() >= until:
                break
            pause()
    return list(touched.values()), [describe(proc) for proc in find()]


def carriers(*wanted: bytes) -> list[Proc]:
    """The living processes that were started with all these ``NAME=value`` in their environment.

    A ``NAME=`` without a value stands for any. What cannot be read is another user's.
    """
    found = []
    for proc in all_procs().values():
        try:
            with open(f"/proc/{proc.pid}/environ", "rb") as file:
                environ = file.read().split(b"\0")
        except OSError:
            continue
        if proc.alive and all(_carries(environ, entry) for entry in wanted):
            found.append(proc)
    return found


def _carries(environ: list[bytes], entry: bytes) -> bool:
    if entry.endswith(b"="):
        return any(one.startswith(entry) for one in environ)
    return entry in environ


def describe(proc: Proc) -> str:
    """`pid 12 (sleep): sleep 100` for messages."""
    try:
        with open(f"/proc/{proc.pid}/cmdline", "rb") as file:
            line = file.read(300).replace(b"\0", b" ").decode("utf-8", "replace").strip()
    except OSError:
        line = ""
    return f"pid {proc.pid} ({proc.name})" + (f": {line}" if line else "")


def exit_reason(status: int) -> str:
    """What a wait status says: `exit code 3`, `signal SIGSEGV`."""
    if os.WIFSIGNALED(status):
        number = os.WTERMSIG(status)
        try:
            return f"signal {signal.Signals(number).name}"
        except ValueError:
            return f"signal {number}"
    return f"exit code {os.waitstatus_to_exitcode(status)}"


def start_time(pid: int) -> int:
    """Field 22 of /proc/PID/stat; 0 when the process is gone."""
    proc = read_proc(pid)
    return proc.start if proc is not None else 0


def boot_id() -> str:
    """Tells this boot from all others."""
    try:
        with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:
            return file.read().strip()
    except OSError:
        return ""


def become_subreaper() -> None:
    """From now on orphaned descendants become children of this process."""
    _prctl(_PR_SET_CHILD_SUBREAPER, 1)


def die_with_parent(signum: int, parent: int) -> None:
    """Asks the kernel for `signum` when `parent`, who forked this process, dies."""
    _prctl(_PR_SET_PDEATHSIG, signum)
    if os.getppid() != parent:
        os.kill(os.getpid(), signum)


def default_signals() -> None:
    """Undoes in a forked child what the server did to signals, and what it inherited as ignored."""
    for signum in (
        signal.SIGINT,
        signal.SIGQUIT,
        signal.SIGTERM,
        signal.SIGHUP,
        signal.SIGTSTP,
        signal.SIGCHLD,
    ):
        signal.signal(signum, signal.SIG_DFL)
    signal.set_wakeup_fd(-1)
    signal.pthread_sigmask(signal.SIG_SETMASK, [])


def _prctl(option: int, value: int) -> None:
    import ctypes

    ctypes.CDLL(None, use_errno=True).prctl(option, value, 0, 0, 0)
