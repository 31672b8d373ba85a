"""The process that a server is started as: parent of the front and of the fork server, reaper of all.

    start: (lock) → subreaper → front forked → fork server forked → wait
    end:   front gone → fork server and keepers end themselves → whatever is left: INT, TERM, KILL
           → `on_stop`, if it is due and the front did not → the run directory's files removed → exit code

Rules: no thread, no zmq, no foreign code; SIGTERM, SIGHUP and SIGINT go on to the front; what it adopts
(it is a child subreaper) comes from a keeper that died and is ended at once.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import socket
import sys
import time
from collections.abc import Callable
from typing import Final

from remote_exec.host import procs
from remote_exec.host.console import Console
from remote_exec.host.settings import Settings

END_SECONDS: Final = 330.0
"""After the front: the longest that keepers may take; a bit over the longest budget of a worker."""
STOP_SIGNALS: Final = (signal.SIGTERM, signal.SIGHUP, signal.SIGINT)


class Supervisor:
    """See the module's text."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._front = 0
        self._forkserver = 0
        self._statuses: dict[int, int] = {}
        self._told = False
        """To stop, and who may sleep has not been woken yet."""
        self._stopped_since: float | None = None
        """The front, by a SIGSTOP; monotonic."""
        self._console = Console(2)
        """Not print: on a full disk that would raise, and make the exit code another."""

    def run(self) -> int:
        """The server's exit code."""
        procs.become_subreaper()
        wake_r, wake_w = os.pipe()
        reaped_r, reaped_w = os.pipe()
        for fd in (wake_w, reaped_r, reaped_w):
            os.set_blocking(fd, False)
        front_end, fork_end = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        me = os.getpid()
        # Somebody who looks at its window must not stop it with Ctrl-Z.
        signal.signal(signal.SIGTSTP, signal.SIG_IGN)
        # Until the handlers stand: a signal that comes this early must end the server in order, too.
        signal.pthread_sigmask(signal.SIG_BLOCK, STOP_SIGNALS)
        # The front first: it is what a user waits for, and the other's preload takes a core for a while.
        self._front = self._fork(lambda: self._be_front(front_end, fork_end, me))
        self._forkserver = self._fork(lambda: self._be_forkserver(front_end, fork_end, reaped_w))
        front_end.close()
        fork_end.close()
        os.close(reaped_w)
        signal.set_wakeup_fd(wake_w, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        for signum in STOP_SIGNALS:
            signal.signal(signum, self._stop)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, STOP_SIGNALS)
        self._wait(wake_r, reaped_r, lambda: self._front in self._statuses)
        self._wake()
        until = time.monotonic() + END_SECONDS
        self._wait(wake_r, reaped_r, lambda: self._forkserver in self._statuses or time.monotonic() > until)
        self._end_rest(wake_r, reaped_r)
        self._make_safe()
        self._remove_files()
        # While the interpreter ends, one that has a handler would kill us, and be taken for how we ended.
        for signum in STOP_SIGNALS:
            signal.signal(signum, signal.SIG_IGN)
        return self._exit_code()

    # -- children

    @staticmethod
    def _fork(child: Callable[[], int]) -> int:
        sys.stdout.flush()
        sys.stderr.flush()
        pid = os.fork()
        if pid:
            return pid
        code = 1
        try:
            code = child()
        except BaseException:
            import traceback

            traceback.print_exc()
        finally:
            for stream in (sys.stdout, sys.stderr):
                with contextlib.suppress(Exception):
                    stream.flush()
            os._exit(code)

    @staticmethod
    def _be_forkserver(front_end: socket.socket, fork_end: socket.socket, reaped: int) -> int:
        from remote_exec.host import forkserver

        front_end.close()
        forkserver.serve(fork_end, reaped)
        return 0

    def _be_front(self, front_end: socket.socket, fork_end: socket.socket, supervisor: int) -> int:
        # When the supervisor is killed the front still ends the sessions in order.
        from remote_exec.host import front

        fork_end.close()
        return front.run(self._settings, front_end, supervisor)

    # -- waiting

    def _stop(self, signum: int, _: object) -> None:
        """No more than that: signals may come one upon the other, and in the middle of what `_reap` notes."""
        self._told = True
        if self._front not in self._statuses:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self._front, signal.SIGTERM)

    def _wake(self) -> None:
        self._told = False
        # The pid of who was reaped may be another's by now.
        ours = {self._front, self._forkserver} - self._statuses.keys()
        for proc in procs.all_procs().values():
            # Who is stopped, or about to be (its state would not tell yet), could not end.
            if proc.pid in ours or proc.ppid in ours - {self._front}:
                procs.send_signal(proc, signal.SIGCONT)

    def _wait(self, wake: int, reaped: int, over: Callable[[], bool]) -> None:
        while not over():
            # The fallback looks after orphans whose keeper's end was not told (it died with the fork server).
            pause = 5.0 if self._stopped_since is None else 0.5
            ready, _, _ = select.select([wake, reaped], [], [], pause)
            for fd in ready:
                # The end of the fork server reads as an endless end of file; it is waited for anyway.
                if not os.read(fd, 4096) and fd == reaped:
                    time.sleep(0.01)
            self._reap()
            self._look_after_front()
            if self._forkserver in self._statuses and self._front not in self._statuses:
                self._stop(signal.SIGTERM, None)
            if self._told:
                self._wake()
            if reaped in ready or not ready:
                self._end_orphans()

    def _look_after_front(self) -> None:
        """While it is stopped no lease ends and no `on_stop` runs: not for longer than its clients wait."""
        front = procs.read_proc(self._front) if self._front not in self._statuses else None
        if front is None or front.state != "T":
            self._stopped_since = None
            return
        now = time.monotonic()
        if self._stopped_since is None:
            self._stopped_since = now
        if now > self._stopped_since + 2 * self._settings.lease:
            self._console.error("the front was stopped (SIGSTOP) for twice the lease: it has to go on")
            procs.send_signal(front, signal.SIGCONT)
            self._stopped_since = None

    def _reap(self) -> None:
        with contextlib.suppress(ChildProcessError):
            while True:
                pid, status = os.waitpid(-1, os.WNOHANG)
                if pid == 0:
                    return
                if pid in (self._front, self._forkserver):
                    self._statuses[pid] = status

    def _end_orphans(self) -> None:
        """What a dead keeper left; keepers whose fork server died are let alone, they end themselves."""
        if self._forkserver in self._statuses:
            return
        self._end(self._front, self._forkserver)

    def _end_rest(self, wake: int, keepers: int) -> None:
        """Everything that is still below, at the end of the server."""
        if self._front not in self._statuses:
            with contextlib.suppress(OSError):
                os.kill(self._front, signal.SIGKILL)
        if self._statuses.get(self._forkserver, 0) != 0:
            # Its keepers were told by the end of the front and end by themselves; give them that time.
            until = time.monotonic() + END_SECONDS
            while not _at_end(keepers) and time.monotonic() < until:
                select.select([wake, keepers], [], [], 0.1)
                self._reap()
        self._end()

    def _end(self, *spare: int) -> None:
        """All below but what is spared, and what runs `on_stop` for a front that has died meanwhile."""

        def look() -> list[procs.Proc]:
            self._reap()
            return procs.descendants(os.getpid(), procs.all_procs(), (*spare, *self._making_safe()))

        for text in procs.end_all(look, lambda: time.sleep(0.05))[1]:
            self._console.error(f"could not end {text}")

    # -- the end

    def _making_safe(self) -> list[int]:
        if self._settings.run_dir is None or self._settings.on_stop_file is None:
            return []
        from remote_exec.host import safe_state

        return safe_state.at_work(self._settings.run_dir)

    def _make_safe(self) -> None:
        """The front does it, if it can: what it has left to do is done here, after all its processes."""
        if self._settings.run_dir is not None and self._settings.on_stop_file is not None:
            from remote_exec.host import safe_state

            run_dir = self._settings.run_dir
            safe_state.recover(run_dir, "the server's front process died")
            if not safe_state.due(run_dir):
                safe_state.remove(run_dir)

    def _remove_files(self) -> None:
        if self._settings.run_dir is not None:
            from remote_exec.host import rundir

            rundir.remove_files(self._settings.run_dir)
        if self._settings.socket is not None and os.WIFSIGNALED(self._statuses.get(self._front, 0)):
            from remote_exec.host import binding

            # Only if nobody answers there: it may be another server's by now.
            with contextlib.suppress(binding.BindError):
                binding.remove_stale_socket(self._settings.socket)

    def _exit_code(self) -> int:
        for pid, name in ((self._forkserver, "fork server"), (self._front, "front")):
            status = self._statuses.get(pid, 0)
            if os.WIFSIGNALED(status):
                reason = procs.exit_reason(status)
                self._console.error(f"the server's {name} process died: {reason}")
                return 1
        return os.waitstatus_to_exitcode(self._statuses.get(self._front, 256))


def _at_end(pipe: int) -> bool:
    """Whether nobody can write any more: the fork server and every keeper hold its other end for life."""
    try:
        return not os.read(pipe, 4096)
    except BlockingIOError:
        return False
