"""The process that keeps one worker: its parent, and the reaper of everything that comes from it.

    running ──(front says `end`, or is gone)──> ending: the worker has its budget to end by itself
       │                                          │
       └──(worker dies)──> `exit` to the front <──┘ (or its budget is over)
                               │
                 INT → TERM → KILL to whatever is left below ──> `gone` to the front, exit

Rules: it is a child subreaper, so double-forked and setsid children stay below it; it runs no foreign
code, has no thread and never blocks; what the worker prints goes through it, so that a crash's last
words arrive.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import socket
import sys
import time
from typing import Any, Final

from remote_exec.codec import pack
from remote_exec.host import procs, rundir
from remote_exec.host.channel import Channel
from remote_exec.host.outbox import MAX_PENDING_BYTES, LogGate, log_event

DEFAULT_BUDGET: Final = 10.0
"""Seconds that a worker which says nothing has to end."""
DONE_BUDGET: Final = 3.0
"""Seconds from `done` to the worker's exit."""
LINE_BYTES: Final = 64 * 1024


class Lines:
    """Turns what was read from a pipe into lines; a line without end is cut."""

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, data: bytes) -> list[str]:
        *whole, self._rest = (self._rest + data).split(b"\n")
        if len(self._rest) > LINE_BYTES or (not data and self._rest):
            whole.append(self._rest)
            self._rest = b""
        return [line.decode("utf-8", "replace").rstrip("\r") for line in whole]


class Keeper:
    """Keeps one worker; see the module's text."""

    def __init__(self, channel: Channel, worker: int, pipes: dict[int, str], notes: int) -> None:
        self._channel = channel
        self._worker = worker
        self._pipes = {fd: (name, Lines()) for fd, name in pipes.items()}
        self._notes = notes
        self._note_lines = Lines()
        self._status: int | None = None
        self._end_asked = False
        self._deadline: float | None = None
        self._gate = LogGate(time.monotonic())
        self._wake_r, wake_w = os.pipe()
        os.set_blocking(wake_w, False)
        signal.set_wakeup_fd(wake_w, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda *_: None)

    def run(self) -> None:
        """Returns when the worker and all that came from it are gone, or cannot be ended."""
        self._send({"pid": os.getpid()})
        self._reap()
        while self._status is None:
            if self._deadline is not None and time.monotonic() >= self._deadline:
                break
            self._serve(None if self._deadline is None else self._deadline - time.monotonic())
        if self._status is not None:
            self._tell_exit()
        touched, left = self._end_tree()
        if self._status is not None and self._worker:
            self._tell_exit()
        for fd in list(self._pipes):
            self._read_pipe(fd)
        if touched:
            self._log("warning", "se-remote", "ended what was left running: " + "; ".join(touched))
        self._send({"gone": True, "left": left})
        deadline = time.monotonic() + 2.0
        while self._channel.pending and not self._channel.closed and time.monotonic() < deadline:
            select.select([], [self._channel], [], 0.1)
            self._channel.flush()

    def _tell_exit(self) -> None:
        """Says once how the worker ended, after everything that it printed."""
        if self._status is None or not self._worker:
            return
        self._worker = 0
        for fd in list(self._pipes):
            self._read_pipe(fd)
        self._send({"exit": procs.exit_reason(self._status)})

    def _end_tree(self) -> tuple[list[str], list[str]]:
        """What had to be signalled, and what is left nevertheless."""

        def find() -> list[procs.Proc]:
            self._reap()
            return procs.descendants(os.getpid(), procs.all_procs())

        return procs.end_all(find, lambda: self._serve(0.05))

    def _serve(self, timeout: float | None) -> None:
        """Waits for one thing to happen and takes note of it."""
        readers: list[Any] = [self._wake_r, *self._pipes]
        if self._notes >= 0:
            readers.append(self._notes)
        if not self._channel.closed:
            readers.append(self._channel)
        writers = [self._channel] if self._channel.pending and not self._channel.closed else []
        ready, _, _ = select.select(readers, writers, [], None if timeout is None else max(0.0, timeout))
        self._channel.flush()
        for source in ready:
            if source is self._channel:
                if self._channel.receive() or self._channel.closed:
                    self._ask_end()
            elif source == self._wake_r:
                os.read(self._wake_r, 4096)
                self._reap()
            elif source == self._notes:
                self._read_notes()
            else:
                self._read_pipe(source)

    def _ask_end(self) -> None:
        if not self._end_asked:
            self._end_asked = True
            if self._status is None:  # not reaped: the pid is its own; who is stopped could not end
                os.kill(self._worker, signal.SIGCONT)
            if self._deadline is None:
                self._deadline = time.monotonic() + DEFAULT_BUDGET

    def _read_notes(self) -> None:
        data = os.read(self._notes, 4096)
        if not data:
            os.close(self._notes)
            self._notes = -1
        for line in self._note_lines.feed(data):
            word, _, value = line.partition(" ")
            with contextlib.suppress(ValueError):
                self._deadline = time.monotonic() + (float(value) if word == "budget" else DONE_BUDGET)

    def _read_pipe(self, fd: int) -> None:
        """At most a few blocks: a flood must not keep this from the rest of its work."""
        name, lines = self._pipes[fd]
        for _ in range(16):
            try:
                data = os.read(fd, 65536)
            except BlockingIOError:
                return
            for line in lines.feed(data):
                self._log("info" if name == "stdout" else "warning", name, line)
            if not data:
                del self._pipes[fd]
                os.close(fd)
                return

    def _reap(self) -> None:
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            if pid == self._worker:
                self._status = status

    def _log(self, level: str, name: str, text: str) -> None:
        if text and self._gate.admit(time.monotonic(), room=self._channel.pending < MAX_PENDING_BYTES):
            self._send(log_event(level, name, text, self._gate.take_dropped()))

    def _send(self, message: dict[str, Any]) -> None:
        self._channel.send(pack(message))


def main(session: str, keeper_sock: socket.socket, worker_sock: socket.socket, alive: int) -> None:
    """The whole life of a keeper, in the child that the fork server forked. `alive`: held open for life."""
    procs.default_signals()
    os.setsid()
    procs.become_subreaper()
    out_r, out_w = os.pipe()
    err_r, err_w = os.pipe()
    note_r, note_w = os.pipe()
    keeper = os.getpid()
    worker = os.fork()
    if worker == 0:
        for fd in (out_r, err_r, note_r, alive):
            os.close(fd)
        keeper_sock.close()
        os._exit(_be_worker(session, keeper, worker_sock, (out_w, err_w), note_w))
    worker_sock.close()
    for fd in (out_w, err_w, note_w):
        os.close(fd)
    for fd in (out_r, err_r):
        os.set_blocking(fd, False)
    Keeper(Channel(keeper_sock), worker, {out_r: "stdout", err_r: "stderr"}, note_r).run()


def _be_worker(session: str, keeper: int, sock: socket.socket, outputs: tuple[int, int], notes: int) -> int:
    """In the worker's process: makes it an ordinary one, then runs it. Returns the exit code."""
    code = 1
    try:
        procs.die_with_parent(signal.SIGKILL, keeper)
        os.setsid()
        for target, fd in zip((1, 2), outputs, strict=True):
            os.dup2(fd, target)
            os.close(fd)
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(Exception):
                stream.reconfigure(line_buffering=True, errors="backslashreplace")  # type: ignore[union-attr]
        os.environ[rundir.SESSION_MARKER] = session.replace("\0", "")
        import faulthandler

        faulthandler.enable(sys.__stderr__ or 2)
        from remote_exec.host import worker

        code = worker.main(Channel(sock), notes)
        _finalize()
    except BaseException:
        import traceback

        traceback.print_exc()
    return code


def _finalize() -> None:
    """What the interpreter does at its end; a forked child ends by `_exit`, which skips it."""
    import atexit
    import threading

    with contextlib.suppress(Exception):
        threading._shutdown()  # type: ignore[attr-defined]
    with contextlib.suppress(Exception):
        atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(Exception):
            stream.flush()
