"""`python -m remote_exec.host.on_stop RECIPE REASON [SESSION…]`: brings the machine into its safe state.

    claim the recipe → end what these sessions left → the command, bounded → its processes ended → done

What the command prints goes to stdout, each line as `on_stop: …`; what went wrong to stderr. Exit code: 0 the
command succeeded, or somebody else has run it; 1 it failed, which has been said.

Rules: the command's processes stay below this one (a child subreaper) and none outlives it; signals for the
server's family do not end it: whoever sends them wants the robot to stop.
"""

from __future__ import annotations

if __name__ == "__main__":
    from remote_exec import imports

    imports.working_folder_last()

import contextlib
import os
import select
import signal
import subprocess
import sys
import time
from functools import partial
from typing import Final

from remote_exec.host import procs, safe_state

MAX_LINES: Final = 200
"""Of the command's output; the rest is counted."""
LINE_BYTES: Final = 4096


class _Output:
    """The command's output as lines, bounded."""

    def __init__(self) -> None:
        self._rest = b""
        self._lines = 0

    def feed(self, data: bytes) -> None:
        *whole, self._rest = (self._rest + data).split(b"\n")
        if len(self._rest) > LINE_BYTES or (not data and self._rest):
            whole.append(self._rest)
            self._rest = b""
        for line in whole:
            self._lines += 1
            if self._lines <= MAX_LINES:
                say(line[:LINE_BYTES].decode("utf-8", "replace").rstrip("\r"))

    def close(self) -> None:
        self.feed(b"")
        if self._lines > MAX_LINES:
            say(f"({self._lines - MAX_LINES} more lines)")


def say(text: str) -> None:
    with contextlib.suppress(OSError, ValueError):
        print(f"on_stop: {text}", flush=True)


def complain(text: str) -> bool:
    """Whether somebody could be told."""
    try:
        print(f"on_stop: {text}", file=sys.stderr, flush=True)
    except (OSError, ValueError):
        return False
    return True


def main(arguments: list[str]) -> int:
    recipe, reason, *sessions = arguments
    claimed = safe_state.claim(recipe)
    if claimed is None:
        return 0
    for signum in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGPIPE):
        signal.signal(signum, signal.SIG_IGN)
    procs.become_subreaper()
    run_dir = os.path.dirname(claimed)
    for text in safe_state.end_carriers(run_dir, sessions)[1]:
        complain(f"still running, and cannot be ended: {text}")
    began = time.monotonic()
    say(f"runs, because {reason}")
    failure = run(f"{run_dir}/{safe_state.COMMAND}", safe_state.RUN_SECONDS)
    if failure:
        # Who should have heard of it is gone: then it stays due, for whoever takes over.
        if complain(f"{failure}: {safe_state.UNSAFE}"):
            safe_state.done(claimed)
        return 1
    safe_state.done(claimed)
    say(f"done in {time.monotonic() - began:.1f} s")
    return 0


def run(command_file: str, seconds: float) -> str:
    """Run the command to its end; what went wrong, "" for nothing."""
    try:
        process = subprocess.Popen(
            ["sh", command_file],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            preexec_fn=procs.default_signals,
        )
    except OSError as error:
        return f"the command cannot be started ({error})"
    assert process.stdout is not None
    fd, output = process.stdout.fileno(), _Output()
    deadline = time.monotonic() + seconds
    open_ = True
    while process.poll() is None and time.monotonic() < deadline:
        open_ = _read(fd, output, 0.05) if open_ else _pause()
    late = process.poll() is None
    _, left = procs.end_all(lambda: _below(process), partial(time.sleep, 0.05))
    while open_ and _read(fd, output, 0.0):
        pass
    output.close()
    if left:
        complain(f"still running, and cannot be ended: {'; '.join(left)}")
    if late:
        return f"the command did not end within {seconds:g} s and was ended"
    code = process.returncode
    return "" if code == 0 else f"the command failed ({_how(code)})"


def _read(fd: int, output: _Output, timeout: float) -> bool:
    """Whether there may be more; waits for it at most `timeout` seconds."""
    if not select.select([fd], [], [], timeout)[0]:
        return timeout > 0
    data = os.read(fd, 65536)
    output.feed(data)
    return bool(data)


def _pause() -> bool:
    time.sleep(0.05)
    return False


def _below(process: subprocess.Popen[bytes]) -> list[procs.Proc]:
    """What still runs of it; reaps."""
    process.poll()
    with contextlib.suppress(ChildProcessError):
        while process.returncode is not None and os.waitpid(-1, os.WNOHANG)[0]:
            pass
    return procs.descendants(os.getpid(), procs.all_procs())


def _how(code: int) -> str:
    return f"signal {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
