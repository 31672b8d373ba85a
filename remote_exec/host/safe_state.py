"""The host's `on_stop` command as files of the run directory, so that it runs whoever of the server is left.

    safe.command         the command: a POSIX sh script
    safe.idle            the recipe `sh FILE REASON`: the server's environment, then host/on_stop.py
    safe.armed           the same file, renamed: a session has actions that may have moved something
    safe.claimed.PID     the same file: that process is running it now

Who may run it, in this order: the front; the supervisor, when the front has died; the wrapper in the
window, when the supervisor has; `se-remote kill`; the next server of the host.

Rules:
- arming, claiming and disarming are renames: atomic, and possible on a full disk; who loses a race to a
  rename has nothing to do;
- a claim whose process died before it was done counts as armed: better once too often than not at all;
- after a reboot the recipe only says that it did not run: what it would act on has started anew.
"""

from __future__ import annotations

import contextlib
import os
import re
import shlex
import subprocess
import sys
import time
from pathlib import Path
from typing import Final

from remote_exec.host import procs, rundir

COMMAND: Final = "safe.command"
IDLE: Final = "safe.idle"
ARMED: Final = "safe.armed"
CLAIMED: Final = "safe.claimed."
UNCLEAN: Final = "unclean"
"""The bring-up's note: a server that died has left its files here, so look for its processes, too."""
UNSAFE: Final = "THE ROBOT MAY NOT BE IN A SAFE STATE"
RUN_SECONDS: Final = 10.0
"""The longest that the command may take; then INT, TERM, KILL."""
RECOVER_SECONDS: Final = RUN_SECONDS + 30.0
"""The longest that host/on_stop.py may take as a whole: leftovers ended, the command, its end."""


def prepare(run_dir: str, command_file: str) -> None:
    """Put the command and its recipe there, for this process's environment. Raises OSError."""
    with open(command_file, encoding="utf-8", errors="surrogateescape") as file:
        command = file.read()
    _write(f"{run_dir}/{COMMAND}", command)
    _write(f"{run_dir}/{IDLE}", _recipe(dict(os.environ), os.getcwd(), procs.boot_id()))


def arm(run_dir: str) -> None:
    """From now on the command is due when the server ends in any other way than in order. Raises OSError."""
    for recipe in (f"{run_dir}/{IDLE}", *due(run_dir)):  # or what is due since whoever had it was killed
        with contextlib.suppress(FileNotFoundError):
            os.rename(recipe, f"{run_dir}/{ARMED}")
            return


def disarm(run_dir: str) -> None:
    """Everything ended in order. Raises OSError."""
    with contextlib.suppress(FileNotFoundError):
        os.rename(f"{run_dir}/{ARMED}", f"{run_dir}/{IDLE}")


def due(run_dir: str) -> list[str]:
    """The recipes that nobody has run to the end and nobody is running."""
    found = []
    for path in Path(run_dir).glob("safe.*"):
        owner = path.name.removeprefix(CLAIMED)
        if path.name == ARMED or (owner.isdigit() and not _runs(int(owner))):
            found.append(str(path))
    return sorted(found)


def at_work(run_dir: str) -> list[int]:
    """The processes that are running it now."""
    owners = [path.name.removeprefix(CLAIMED) for path in Path(run_dir).glob(f"{CLAIMED}*")]
    return [int(owner) for owner in owners if owner.isdigit() and _runs(int(owner))]


def claim(recipe: str) -> str | None:
    """Take a recipe: its new path, None when somebody else has it. Raises OSError."""
    if recipe not in due(os.path.dirname(recipe)):
        return None
    claimed = f"{os.path.dirname(recipe)}/{CLAIMED}{os.getpid()}"
    try:
        os.rename(recipe, claimed)
    except FileNotFoundError:
        return None
    return claimed


def done(claimed: str) -> None:
    """The command has run, however that went."""
    with contextlib.suppress(OSError):
        os.rename(claimed, f"{os.path.dirname(claimed)}/{IDLE}")


def recover(run_dir: str, reason: str) -> None:
    """Run what is due, now, its output to our own. Bounded; what fails is said.

    Who runs it already, though its server's front is gone, is waited for: the robot is not free before.
    """
    if at_work(run_dir):
        print(f"on_stop: runs already; waiting for it ({reason})", file=sys.stderr, flush=True)
        _outwait(run_dir)
    for recipe in due(run_dir):
        command = ["env", "-i", "sh", recipe, reason]
        try:
            code = subprocess.run(command, stdin=subprocess.DEVNULL, timeout=RECOVER_SECONDS).returncode
            failure = f"exit code {code}" if code not in (0, 1) else ""  # of 1 it has told itself
        except (OSError, subprocess.TimeoutExpired) as error:
            failure = str(error)
        if failure:
            print(f"on_stop could not be run ({failure}): {UNSAFE}", file=sys.stderr, flush=True)


def clear_up(run_dir: str) -> None:
    """At the start of a server that holds the lock: end what one that died here has left, then `on_stop`.

    Only what sessions had started is looked for: everything else of that server held the lock, and what
    carries the marker without a session may be another bring-up that is about to lose the race.
    """
    recipes = due(run_dir) or at_work(run_dir)
    if recipes or os.path.exists(f"{run_dir}/{UNCLEAN}"):
        if recipes:
            rundir.tell(run_dir, "on_stop")  # who waits for us waits longer
        for text in end_carriers(run_dir, [""])[1]:
            print(f"left by the server that was here before, and cannot be ended: {text}", file=sys.stderr)
        recover(run_dir, "the server that was here before died, and nobody has run it since")
        if recipes:
            rundir.tell(run_dir, "start")
        with contextlib.suppress(OSError):
            os.unlink(f"{run_dir}/{UNCLEAN}")
    remove(run_dir)


def remove(run_dir: str) -> None:
    """Nothing is to be done any more."""
    for path in Path(run_dir).glob("safe.*"):
        with contextlib.suppress(OSError):
            path.unlink()


def end_carriers(run_dir: str, sessions: list[str]) -> tuple[list[str], list[str]]:
    """INT, TERM, KILL to whatever these sessions ("": any) started: what was signalled, what is left."""
    run = f"{rundir.MARKER}={run_dir}".encode()

    def find() -> list[procs.Proc]:
        wanted = [f"{rundir.SESSION_MARKER}={session}".encode() for session in sessions]
        found = {proc.pid: proc for one in wanted for proc in procs.carriers(run, one)}
        return [proc for pid, proc in found.items() if pid != os.getpid()]

    return procs.end_all(find, lambda: time.sleep(0.05)) if sessions else ([], [])


def _outwait(run_dir: str) -> None:
    until = time.monotonic() + RECOVER_SECONDS
    while at_work(run_dir) and time.monotonic() < until:
        time.sleep(0.05)

    def find() -> list[procs.Proc]:
        return [proc for proc in map(procs.read_proc, at_work(run_dir)) if proc is not None]

    procs.end_all(find, lambda: time.sleep(0.05))


def _runs(pid: int) -> bool:
    """Whether that process is host/on_stop.py at work: a pid alone may be anybody's by now."""
    proc = procs.read_proc(pid)
    return proc is not None and proc.alive and "remote_exec.host.on_stop" in procs.describe(proc)


def _recipe(environ: dict[str, str], cwd: str, boot_id: str) -> str:
    exports = [
        f"export {name}={shlex.quote(value)}"
        for name, value in environ.items()
        if re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name)  # others are for nobody but the shell that made them
    ]
    lines = [
        "IFS= read -r boot </proc/sys/kernel/random/boot_id",
        f'[ "$boot" = {shlex.quote(boot_id)} ] || {{',
        '  echo "on_stop: warning: not run: the machine was rebooted since ($1)"; rm -f "$0"; exit 0; }',
        *exports,
        f"cd {shlex.quote(cwd)} || cd /",
        f'exec {shlex.quote(sys.executable)} -m remote_exec.host.on_stop "$0" "$@"',
        "",
    ]
    return "\n".join(lines)


def _write(path: str, text: str) -> None:
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    with open(fd, "w", encoding="utf-8", errors="surrogateescape") as file:
        file.write(text)
