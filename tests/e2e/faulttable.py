"""The faults: a line each. Read with faultrun.Row."""
# ruff: noqa: E501  # a row is a line

from __future__ import annotations

import contextlib
import os
import shlex
import signal
import time
from collections.abc import Callable

from bedcase import Case
from faultrun import STOPPED, Row
from namespaces import wait_until

PASSED = 'failures="0"'
FAILED = 'failures="1"'
ALL = ("first", "long", "last")


def client(*numbers: int, pause: float = 0.3):
    """Send the client these signals, one after the other."""

    def fault(case: Case) -> None:
        for i, number in enumerate(numbers):
            if i:
                time.sleep(pause)
            case.signal(number)

    return fault


def stopped_client(seconds: float):
    def fault(case: Case) -> None:
        case.signal(signal.SIGSTOP)
        time.sleep(seconds)
        case.signal(signal.SIGCONT)

    return fault


def server(part: str, number: int = signal.SIGKILL, seconds: float = 0.0):
    """Signal one process of the host's server; SIGSTOP: for so many seconds, 0 is for good."""

    def fault(case: Case) -> None:
        pid = case.server()[part].pid
        _signal(pid, number, seconds)

    return fault


def guest(pattern: str, number: int = signal.SIGKILL, seconds: float = 0.0):
    """The same for any process on the host, by its command line."""
    return lambda case: _signal(case.find(pattern).pid, number, seconds)


def _signal(pid: int, number: int, seconds: float) -> None:
    os.kill(pid, number)
    if seconds:
        time.sleep(seconds)
        os.kill(pid, signal.SIGCONT)


def nothing(case: Case) -> None:
    """The action itself is the fault."""


def daemon_killed(case: Case) -> None:
    """sshd itself and every session of it: what a restart of the service with `killall` does."""
    for pid in [case.host.sshd(), *(p.pid for p in case.host.guests() if p.name == "sshd")]:
        with contextlib.suppress(ProcessLookupError):  # a session's child goes with it
            os.kill(pid, signal.SIGKILL)


def daemon_restarted(case: Case) -> None:
    daemon_killed(case)
    time.sleep(2)
    case.host.start_sshd()


def link_down(seconds: float = 0.0):
    def fault(case: Case) -> None:
        case.host.link(False)
        if seconds:
            time.sleep(seconds)
            case.host.link(True)

    return fault


def link_up(case: Case) -> None:
    case.host.link(True)


def lossy(case: Case) -> None:
    case.host.lose(20)


def slow(case: Case) -> None:
    case.host.slow(0.125)  # 250 ms there and back


def stepped(seconds: float):
    return lambda case: case.host.step_clock(seconds)


def disk_full(case: Case) -> None:
    case.host.fill_disk()


def disk_empty(case: Case) -> None:
    case.host.run("rm -f /tmp/ballast")


def read_only(case: Case) -> None:
    case.host.run(f"mkdir -p -m 700 {BASE}")
    case.host.read_only(BASE)


def writable(case: Case) -> None:
    case.host.run(f"umount {BASE}; rmdir {BASE} 2>/dev/null || :")


def removed(case: Case) -> None:
    writable(case)
    case.host.run(f"rm -rf {BASE}")


def killed_by_hand(case: Case) -> None:
    """As the client says, which could not reach it in time."""
    kill = case.start("se-remote", "kill", "lab")
    assert kill.wait(30) == 0, case.output


def continued(pattern: str):
    return lambda case: os.kill(case.find(pattern).pid, signal.SIGCONT)


def rebooted(case: Case) -> None:
    case.host.reboot()


def kept_up(case: Case) -> None:
    """A server kept up by hand."""
    up = case.start("se-remote", "up", "lab")
    assert up.wait(30) == 0, case.output


def rebooted_while_up(case: Case) -> None:
    kept_up(case)
    case.host.reboot()
    assert case.host.path(f"{BASE}/lab/endpoint.json").exists()


def half_open(case: Case) -> None:
    """The host has forgotten the connection, the client has not heard of it."""
    session = case.find("sshd: root")
    case.host.link(False)
    os.kill(session.pid, signal.SIGKILL)
    case.host.link(True)


def lock_held(env: str = ""):
    """By `sleep 604`; with SE_REMOTE_RUN in its environment it is what an earlier server has left."""

    def fault(case: Case) -> None:
        case.foreign = "" if env else "sleep 604"
        held = f"exec 9>{BASE}/lab/lock; flock 9; {env} exec sleep 604"
        case.host.run(f"{MAKE_RUN}; setsid sh -c {shlex.quote(held)} >/dev/null 2>&1 &")
        wait_until(lambda: any("sleep 604" in p.command for p in case.host.guests()), 20)

    return fault


def lock_of_the_dead(case: Case) -> None:
    case.host.run(f"{MAKE_RUN}; flock {BASE}/lab/lock true; echo '999999 1 x' >{BASE}/lab/pid")


def pid_of_a_stranger(case: Case) -> None:
    """All files of a server are there, and its pid is now somebody else's."""
    kept_up(case)
    case.host.reboot()
    case.foreign = "sleep 605"
    case.host.run(
        f"setsid sh -c 'exec sleep 605' >/dev/null 2>&1 & pid=$!; cd {BASE}/lab; set -- $(cat pid); "
        'echo "$pid $2 $(cat /proc/sys/kernel/random/boot_id)" >pid'
    )


def stranger_lives(case: Case) -> None:
    assert any(case.foreign in p.command for p in case.host.guests()), "it has ended somebody else's process"


def both(*faults: Callable[[Case], None]):
    def fault(case: Case) -> None:
        for one in faults:
            one(case)

    return fault


BASE = "/tmp/se-remote-0"
MAKE_RUN = f"mkdir -m 700 {BASE} {BASE}/lab"
INT, TERM, KILL, STOP = signal.SIGINT, signal.SIGTERM, signal.SIGKILL, signal.SIGSTOP

CLIENT = [
    Row("client SIGKILL", "bring-up", client(KILL), -KILL, executed=(), slow=True),
    Row("client SIGKILL", "setup", client(KILL), -KILL, executed=(), trouble="setup-slow"),
    Row("client SIGKILL", "running", client(KILL), -KILL),
    Row("client SIGKILL", "teardown", client(KILL), -KILL, trouble="shutdown-slow", seconds=0.1, executed=ALL, on_stop=False),
    Row("client SIGTERM", "running", client(TERM), 1, xml=FAILED),
    Row("client Ctrl-C", "bring-up", client(INT), 1, executed=()),
    Row("client Ctrl-C", "setup", client(INT), 1, executed=(), trouble="setup-slow"),
    Row("client Ctrl-C", "running", client(INT), 1, xml=FAILED),
    Row("client Ctrl-C twice", "running", client(INT, INT), 1, xml=FAILED),
    Row("client TERM, KILL 1 s later", "running", client(TERM, KILL, pause=1.0), -KILL, trouble="shutdown-slow"),
    Row("client SIGSTOP 5 s", "running", stopped_client(5), 1, xml=FAILED, sees=("2 s of silence",)),
]  # fmt: skip

LONG_LEASE = {"lease": "10s"}
SURVIVES = {"code": 0, "xml": PASSED, "executed": ALL, "host": LONG_LEASE}
"""The scenario goes on as if nothing had been."""
LOST = {"code": 1, "xml": "lab"}
"""The action fails, and says which host it was."""

CLIENT += [
    Row("client SIGKILL", "cancel", client(KILL), -KILL, trouble="cancel-slow", modifiers=("timeout(1s)",)),
    Row("client SIGTERM", "bring-up", client(TERM), 1, executed=(), slow=True),
    Row("client SIGTERM", "teardown", client(TERM), 0, trouble="shutdown-slow", seconds=0.1, executed=ALL, slow=True),
    Row("client Ctrl-C", "cancel", client(INT), 1, trouble="cancel-slow", modifiers=("timeout(1s)",), slow=True),
    Row("client Ctrl-C", "teardown", client(INT), 0, trouble="shutdown-slow", seconds=0.1, executed=ALL),
    Row("client Ctrl-C twice", "teardown", client(INT, INT), 0, trouble="shutdown-slow", seconds=0.1, executed=ALL),
    Row("client SIGSTOP 5 s", "running", stopped_client(5), **SURVIVES, seconds=6),
]  # fmt: skip

SERVER = [
    Row("worker SIGKILL", "running", server("worker"), 1, xml="SIGKILL"),
    Row("worker SIGKILL", "setup", server("worker"), 1, trouble="setup-slow", executed=()),
    Row("worker SIGKILL", "teardown", server("worker"), 0, trouble="shutdown-slow", seconds=0.1, executed=ALL, on_stop=True),
    Row("worker SIGSTOP 5 s", "running", server("worker", STOP, 5), **SURVIVES, seconds=6),
    Row("worker SIGSTOP, then Ctrl-C", "running", both(server("worker", STOP), client(INT)), 1, xml=FAILED),
    Row("supervisor SIGKILL", "running", server("supervisor"), **LOST),
    Row("supervisor SIGKILL, on_stop takes 2 s", "running", server("supervisor"), **LOST,
        host={"on_stop": f'"sleep 2; echo stopped >>{STOPPED}"'}),
    Row("supervisor SIGSTOP 5 s", "running", server("supervisor", STOP, 5), **SURVIVES, seconds=6),
    Row("supervisor SIGSTOP", "running", server("supervisor", STOP), 0, xml=PASSED, executed=ALL, seconds=2),
    Row("front SIGKILL", "running", server("front"), **LOST),
    Row("front SIGSTOP 5 s", "running", server("front", STOP, 5), **SURVIVES, seconds=6),
    Row("front SIGSTOP", "running", server("front", STOP), **LOST),
    Row("fork server SIGKILL", "running", server("fork server"), **LOST),
    Row("fork server SIGSTOP", "running", server("fork server", STOP), 0, xml=PASSED, executed=ALL, seconds=2, slow=True),
    Row("keeper SIGKILL", "running", server("keeper"), **LOST),
    Row("keeper SIGSTOP", "running", server("keeper", STOP), 0, xml=PASSED, executed=ALL, seconds=2),
    Row("tmux server SIGKILL", "running", guest("^tmux"), 0, xml=PASSED, seconds=3, executed=ALL),
    Row("tmux server SIGSTOP", "running", guest("^tmux", STOP), 0, xml=PASSED, seconds=3, executed=ALL, within=60, clean=60),
    Row("host's clock an hour ahead", "running", stepped(3600), **SURVIVES, seconds=3),
    Row("host's clock an hour back", "running", stepped(-3600), **SURVIVES, seconds=3),
    Row("host's clock an hour ahead", "bring-up", stepped(3600), 0, xml=PASSED, executed=ALL, seconds=0.1,
        sees=("its clock is 3[56]..\\.. s ahead",)),
]  # fmt: skip

NETWORK = [
    Row("sshd session SIGSTOP 5 s", "running", guest("sshd: root", STOP, 5), **SURVIVES, seconds=6),
    Row("sshd session SIGSTOP", "running", guest("sshd: root", STOP), **SURVIVES, seconds=6, before_check=continued("sshd: root")),
    Row("sshd SIGKILL, all of it", "running", daemon_killed, **LOST),
    Row("sshd SIGSTOP, its sessions go on", "running", lambda case: os.kill(case.host.sshd(), STOP), **SURVIVES,
        seconds=2, slow=True),
    Row("link down for good", "running", link_down(), **LOST, before_check=link_up),
    Row("link down for good", "bring-up", link_down(), 1, executed=(), before_check=link_up, within=40, clean=40, slow=True),
    Row("link down for good", "teardown", link_down(), 1, on_stop=False, trouble="shutdown-slow", seconds=0.1, executed=ALL,
        before_check=link_up, within=40, clean=40),
    Row("link down 3 s", "running", link_down(3), **SURVIVES, seconds=5),
    Row("link down 3 s", "bring-up", link_down(3), **SURVIVES, seconds=0.1),
    Row("20 % of packets lost", "before", lossy, **SURVIVES, seconds=5, within=90, clean=90),
    Row("20 % of packets lost", "running", lossy, **SURVIVES, seconds=8, within=60, clean=60),
    Row("250 ms latency", "before", slow, **SURVIVES, seconds=3, within=60),
    Row("half-open tunnel", "running", half_open, **SURVIVES, seconds=6),
    Row("sshd session SIGKILL", "running", guest("sshd: root"), **SURVIVES, seconds=6),
    Row("sshd SIGKILL, back after 2 s", "running", daemon_restarted, **SURVIVES, seconds=6),
]  # fmt: skip

MACHINE = [
    Row("disk full", "before", disk_full, 1, executed=(), sees=("No space left|cannot",), before_check=disk_empty),
    Row("disk full", "running", disk_full, 0, xml=PASSED, executed=ALL, seconds=2, before_check=disk_empty),
    Row("run directory read-only", "before", read_only, 1, executed=(), before_check=writable,
        sees=("cannot create /tmp/se-remote-0",)),
    Row("run directory read-only", "running", read_only, 1, on_stop=False, executed=ALL, seconds=2,
        before_check=removed, sees=("still there: directory",)),
    Row("reboot", "running", rebooted, **LOST, on_stop=False, before_check=killed_by_hand),
    Row("reboot", "setup", rebooted, 1, on_stop=False, before_check=killed_by_hand, trouble="setup-slow", executed=(), slow=True),
    Row("reboot, run directory kept", "before", rebooted_while_up, 0, xml=PASSED, executed=ALL, seconds=0.1),
    Row("lock held by a stranger", "before", lock_held(), 1, executed=(), within=40, host={"ready_timeout": "3s"},
        sees=("no answer within 3 s",), before_check=both(stranger_lives, killed_by_hand, stranger_lives)),
    Row("lock held by an earlier server's child", "before", lock_held(f"SE_REMOTE_RUN={BASE}/lab"), 1, executed=(),
        within=40, host={"ready_timeout": "3s"}, sees=("no answer within 3 s",), before_check=killed_by_hand),
    Row("lock of a dead process", "before", lock_of_the_dead, 0, xml=PASSED, executed=ALL, seconds=0.1),
    Row("pid of a server is now a stranger's", "before", pid_of_a_stranger, 0, xml=PASSED, executed=ALL, seconds=0.1,
        before_check=stranger_lives),
]  # fmt: skip

TIMEOUT = ("timeout(1s)",)
ACTION = [
    Row("action ignores INT and TERM", "running", client(INT), 1, trouble="stubborn", xml=FAILED, within=40, clean=40),
    Row("action ignores INT and TERM, client SIGKILL", "running", client(KILL), -KILL, trouble="stubborn", clean=40),
    Row("action has forked twice", "running", client(INT), 1, trouble="fork", xml=FAILED),
    Row("action has forked twice", "setup", nothing, 0, trouble="fork", xml=PASSED, executed=ALL, seconds=0.1, slow=True),
    Row("action has forked twice, client SIGKILL", "running", client(KILL), -KILL, trouble="fork"),
    Row("action has forked twice, worker SIGKILL", "running", server("worker"), 1, trouble="fork", xml="SIGKILL"),
    Row("action blocks in setup", "setup", nothing, 1, trouble="setup-block", executed=(), remote=", setup_timeout: 2s",
        sees=("its setup took longer than 2 s",), within=40, clean=40),
    Row("action blocks in setup, Ctrl-C", "setup", client(INT), 1, trouble="setup-block", executed=(), within=40,
        clean=40, slow=True),
    Row("action blocks in execute", "running", nothing, 1, trouble="execute-block", modifiers=TIMEOUT, on_stop=True, within=40,
        clean=40),
    Row("action blocks in update", "running", nothing, 1, trouble="update-block", modifiers=TIMEOUT, on_stop=True, within=40,
        clean=40),
    Row("action blocks in update, Ctrl-C", "running", client(INT), 1, trouble="update-block", within=40, clean=40, slow=True),
    Row("action blocks in cancel", "cancel", nothing, 1, trouble="cancel-block", modifiers=TIMEOUT, on_stop=True),
    Row("action blocks in shutdown", "teardown", nothing, 0, trouble="shutdown-block", executed=ALL, seconds=0.1, on_stop=True,
        within=60, clean=60),
    Row("action kills its process", "running", nothing, 1, trouble="execute-die", xml="SIGKILL"),
]  # fmt: skip

ROWS = CLIENT + SERVER + NETWORK + MACHINE + ACTION
