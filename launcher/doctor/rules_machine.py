"""What can be wrong with a machine: a Case → Findings, pure. One function for each check of the list.

Every check says something: a good one in a few words, a bad one with cause and cure.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Final

from launcher import plan
from launcher.doctor.facts import Case, Finding, Level, Space
from launcher.durations import time_text

_SLOW_SHELL_S: Final = 2.0
_CLOCK_S: Final = 2.0
_OLDEST_TMUX: Final = (2, 1)
"""It finds sessions by their exact name."""
_FULL_KB, _LOW_KB = 10 << 10, 200 << 10
_FEW_INODES, _LOW_INODES = 100, 5000
_NETWORK: Final = re.compile(
    r"nfs\d?|cifs|smb\w*|9p|afs|ceph|lustre|beegfs|gpfs|ocfs2|gfs2|fuse\.(sshfs|glusterfs|s3fs|rclone|ceph\w*)"
)
_SYSTEM_UID: Final = 1000
"""Of accounts below it logind removes nothing."""


def good(check: str, text: str) -> Finding:
    return Finding(check, Level.GOOD, text)


def warning(check: str, text: str, *cures: str) -> Finding:
    return Finding(check, Level.WARNING, text, cures)


def failed(check: str, text: str, *cures: str) -> Finding:
    return Finding(check, Level.FAILED, text, cures)


def shell(case: Case) -> Iterator[Finding]:
    """Login shell: it has run our script, so noise and time are all that can be wrong."""
    machine = case.machine
    if machine.refused is not None:
        yield failed("shell", *machine.refused)
    if machine.noise:
        first = machine.noise.splitlines()[0]
        yield warning(
            "shell",
            f"the login shell prints on stdout without a terminal: {first!r}; se-remote passes it over, "
            "scp and rsync do not",
            "there, before what prints in ~/.bashrc (fish: config.fish, tcsh: .tcshrc): "
            "case $- in *i*) ;; *) return ;; esac",
        )
    if machine.shell_took > _SLOW_SHELL_S:
        yield warning(
            "shell",
            f"it took {machine.shell_took:.1f} s until the login shell ran anything, for every command",
            "look what its rc file starts (conda, nvm, …), and spare it shells without a terminal",
        )
    if machine.refused is None and not machine.noise and machine.shell_took <= _SLOW_SHELL_S:
        yield good("shell", f"answers in {machine.shell_took:.2f} s as {machine.user} (uid {machine.uid})")


def tmux(case: Case) -> Iterator[Finding]:
    """tmux, and whether it is young enough."""
    said = case.machine.tmux
    version = re.search(r"(\d+)\.(\d+)", said)
    install = f"{case.machine.installer or 'install'} tmux"
    if not said:
        yield failed("tmux", f"there is no tmux on this machine (PATH={case.machine.path})", install)
    elif version is not None and (int(version.group(1)), int(version.group(2))) < _OLDEST_TMUX:
        oldest = ".".join(str(part) for part in _OLDEST_TMUX)
        yield failed(
            "tmux", f"{said} is too old: {oldest} or newer is needed", f"{install} (of a newer release)"
        )
    else:
        yield good("tmux", said)


def disk(case: Case) -> Iterator[Finding]:
    """Where run directories, logs and files are written."""
    bad = [finding for space in case.machine.spaces for finding in _space(space)]
    yield from bad
    if not bad and case.machine.spaces:
        free = [f"{s.path}: {_amount(s.free)} free" for s in case.machine.spaces if s.free is not None]
        yield good("disk", ", ".join(dict.fromkeys(free)) or "can be written to")


def _space(space: Space) -> Iterator[Finding]:
    look = f"df -h {space.path}; df -i {space.path}"
    make_room = f"du -xsh {space.path}/* | sort -h"
    if space.trouble:
        trouble = space.trouble.splitlines()[-1]
        yield failed("disk", f"{space.path} cannot be written to: {trouble}", look, make_room)
    elif space.free is not None and space.free < _FULL_KB:
        yield failed("disk", f"{space.path} is full: {_amount(space.free)} free", look, make_room)
    elif space.inodes is not None and space.inodes < _FEW_INODES:
        yield failed("disk", f"{space.path} has room for {space.inodes} more files", look)
    elif space.free is not None and space.free < _LOW_KB:
        yield warning("disk", f"{space.path} is almost full: {_amount(space.free)} free", look, make_room)
    elif space.inodes is not None and space.inodes < _LOW_INODES:
        yield warning("disk", f"{space.path} has room for {space.inodes} more files only", look)


def _amount(kilobytes: int | None) -> str:
    value = float(kilobytes or 0)
    for unit in ("kB", "MB", "GB"):
        if value < 1024:
            return f"{value:.0f} {unit}"
        value /= 1024
    return f"{value:.1f} TB"


def run_directory(case: Case) -> Iterator[Finding]:
    """Sockets, locks and fifos live in the run directory: its file system has to be this machine's own."""
    if not case.machine.spaces:
        return
    space = case.machine.spaces[0]
    if _NETWORK.fullmatch(space.kind):
        yield warning(
            "run directory",
            f"{space.path} is on a network file system ({space.kind}): sockets and locks lie there",
            "put /tmp on a disk of the machine, or in memory: sudo systemctl enable --now tmp.mount",
        )
    else:
        yield good("run directory", f"{space.path}{f' ({space.kind})' if space.kind else ''}")


def clock(case: Case) -> Iterator[Finding]:
    """Times of logs, of files and of leases are compared by people, and by actions."""
    ahead = case.machine.ahead
    if ahead is None:
        yield warning("clock", "`date +%s` did not answer with a number", "look at `date` there")
    elif abs(ahead) <= _CLOCK_S:
        yield good("clock", "as here")
    else:
        which = "ahead of" if ahead > 0 else "behind"
        yield warning(
            "clock",
            f"its clock is at least {time_text(round(abs(ahead)))} {which} ours: times of logs and files do "
            "not fit together, and what compares them fails (tf, make, certificates)",
            "sudo timedatectl set-ntp true; timedatectl status",
            "without a network: sudo date -u -s @NUMBER, where NUMBER is what `date +%s` says here",
        )


def logind(case: Case) -> Iterator[Finding]:
    """What an account that logs out loses."""
    seen, machine = case.machine.logind, case.machine
    if seen is None or machine.uid == 0:
        yield good("logout", "nothing is ended there when we log out")
        return
    linger = f"sudo loginctl enable-linger {machine.user}"
    bad = []
    if seen.kill_processes and not seen.lingers:
        bad.append(
            warning(
                "logout",
                "logind ends all processes of an account that logs out (KillUserProcesses=yes): no server "
                "outlives a lost connection, and `se-remote up` keeps nothing up",
                linger,
            )
        )
    if seen.remove_ipc and not seen.lingers and machine.uid >= _SYSTEM_UID:
        bad.append(
            warning(
                "logout",
                "logind removes an account's shared memory when it logs out (RemoveIPC=yes): what uses it "
                "(ROS 2 middlewares do) breaks while our server goes on",
                linger,
                "or RemoveIPC=no in /etc/systemd/logind.conf, then: sudo systemctl restart systemd-logind",
            )
        )
    yield from bad
    if not bad and not seen.lingers and None in (seen.kill_processes, seen.remove_ipc):
        text = "logind does not say whether it ends or removes something (KillUserProcesses, RemoveIPC)"
        yield Finding("logout", Level.UNSEEN, text)
    elif not bad:
        why = "it lingers" if seen.lingers else "KillUserProcesses and RemoveIPC are not on"
        yield good("logout", f"nothing is ended there when we log out: {why}")


def sessions(case: Case) -> Iterator[Finding]:
    """sshd's MaxSessions."""
    count, tried = case.machine.sessions, case.machine.sessions_tried
    if count is None:
        return
    if count >= tried:
        yield good("sessions", f"{count} at once on one connection")
        return
    text = (
        f"sshd allows {count} sessions at once on a connection (MaxSessions), se-remote uses up to {tried}: "
    )
    text += "several hosts on this machine, and stopping one while it starts, may fail"
    cure = "there: MaxSessions 10 in /etc/ssh/sshd_config, then: sudo systemctl reload ssh"
    yield warning("sessions", text, cure)


def leftovers(case: Case) -> Iterator[Finding]:
    """What is left there of the host and its variants; of a machine without an inventory, of the account."""
    left, name = case.machine.left, case.spec.name
    found = []
    for host, lines in left.orphans.items():
        if _is_theirs(host, case):
            text = f"the server of {host} is dead, and this still runs: {'; '.join(lines[:3])}"
            text += f" and {len(lines) - 3} more" if len(lines) > 3 else ""
            found.append(warning("leftovers", text, f"se-remote kill {name} --force"))
    for host in left.unsafe:
        if _is_theirs(host, case):
            text = (
                f"on_stop of {host} has not run since its server died: the robot may not be in a safe state"
            )
            found.append(warning("leftovers", text, f"se-remote kill {name} --force"))
    dead = [host for host in left.dead if host not in left.orphans and host not in left.unsafe]
    dead = [host for host in dead if _is_theirs(host, case)]
    if dead:
        text = f"dead servers that nobody has looked at: {', '.join(dead)}"
        found.append(warning("leftovers", text, f"se-remote logs {name}", f"se-remote clean {name}"))
    outputs = [host for host in left.outputs if _is_theirs(host, case)]
    if outputs:
        text = f"files that actions wrote and nobody has fetched: of {', '.join(outputs)}"
        found.append(warning("leftovers", text, f"se-remote pull {name}"))
    yield from found
    if not found:
        sizes = [size for host, size in left.logs if _is_theirs(host, case)]
        logs = f"{_amount(sum(sizes) // 1024)} in {len(sizes)} logs (se-remote clean {name})"
        yield good("leftovers", logs if sizes else "nothing")


def _is_theirs(host: str, case: Case) -> bool:
    """Whether what is called so there is the host's, or a variant's of it."""
    mine = plan.slug(case.spec.name).split("+")[0]
    return plan.is_machine(case.spec) or host.split("+")[0] == mine


def all_of(case: Case) -> Iterable[Finding]:
    """The checks of the machine itself, but for those of stages."""
    for check in (run_directory, disk, clock, logind, sessions, leftovers):
        yield from check(case)
