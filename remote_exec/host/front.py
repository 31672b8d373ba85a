"""The front: the server's only process with sockets. It routes and nothing else, so it always answers.

One loop over everything that can happen: messages at the ROUTER, workers' and keepers' channels, the fork
server's end, signals, and the next deadline. Rules: nothing blocks in it, and no foreign code runs in it;
a client that does not read is retried for a while by a timer and costs bounded memory.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import sys
import time
from collections.abc import Mapping
from functools import partial
from typing import Any, Final

import zmq

from remote_exec import __version__
from remote_exec.codec import pack_v1, split_frames
from remote_exec.errors import BadMessage, ValueDoesNotCross
from remote_exec.host import admission, binding, coming, procs, rundir
from remote_exec.host.asked import STOPPING, Asked
from remote_exec.host.console import Console
from remote_exec.host.exclusive import Exclusive
from remote_exec.host.forkserver import say_listening
from remote_exec.host.liveness import UNNEEDED, LifeRules, ServerLife
from remote_exec.host.logfile import LogFile
from remote_exec.host.probe import Probe
from remote_exec.host.router import Router
from remote_exec.host.safety import Safety
from remote_exec.host.sessions import Sessions
from remote_exec.host.settings import Settings
from remote_exec.host.state import StateFile
from remote_exec.host.v1_host import V1Host
from remote_exec.host.v1_server import SESSION as V1_SESSION
from remote_exec.host.workers import WorkerLink
from remote_exec.messages import WIRE_VERSION

STOP_SIGNALS: Final = (signal.SIGTERM, signal.SIGHUP, signal.SIGINT)


class Front:
    """See the module's text."""

    def __init__(self, settings: Settings, control: socket.socket, supervisor: int, router: Router) -> None:
        self._settings = settings
        self._router = router
        self._control = control
        self._console = Console(verbose=settings.verbose)
        self._log = LogFile(settings.run_dir, self._console, settings.log_limit)
        now = time.monotonic()
        self._life = ServerLife(
            LifeRules(
                settings.ephemeral, settings.lease, settings.watchdog, settings.connect_timeout, settings.keep
            ),
            now,
        )
        # A fork server that hangs must not hold up who only asks it for a worker.
        control.setblocking(False)
        start = procs.start_time(supervisor)
        self._identity = (supervisor, start, procs.boot_id())
        self._server = {
            "version": __version__,
            "wire": WIRE_VERSION,
            "machine": socket.gethostname(),
            "pid": supervisor,
            "python": sys.version.split()[0],
            "time": time.time(),
        }
        self._links: dict[int, WorkerLink] = {}
        """By descriptor, two each."""
        self._probe = Probe(lambda: self._start_worker("describe", acts=False), time.monotonic)
        self._sessions = Sessions(
            self._life, self._server, settings.lease, self._start_worker, self._probe.ask, self._console
        )
        self._exclusive = Exclusive(settings.exclusive, settings.name)
        self._safety = Safety(settings.run_dir, settings.on_stop_file is not None, self._console)
        self._sessions.safety = self._safety
        self._sessions.exclusive = self._exclusive
        self._sessions.arrived = partial(coming.arrived, settings.run_dir)
        self._v1 = V1Host(
            self._start_worker, self._send_v1, self.stop, self._console, settings.verbose, self._safety
        )
        self._v1.exclusive, self._v1.lease = self._exclusive, settings.lease
        self._sessions.other_sessions = self._v1.described
        self._state = StateFile(settings.run_dir)
        self._asked = Asked(settings.run_dir)
        self._stop_reason: str | None = None
        self._signals = 0
        self._code = 0

    def listen(self) -> None:
        """Binds and announces. Raises binding.BindError."""
        endpoints = binding.bind(self._router.socket, self._settings)
        self._state.update(self._snapshot(), time.monotonic())
        self._asked.open()
        rundir.announce(self._settings, self._server, self._identity)
        with contextlib.suppress(OSError):
            say_listening(self._control)
        self._console.info(f"listening on {', '.join(endpoints)}")

    def loop(self) -> int:
        """Until the server has stopped; its exit code."""
        wake_r, wake_w = socket.socketpair()
        for end in (wake_r, wake_w):
            end.setblocking(False)
        signal.set_wakeup_fd(wake_w.fileno(), warn_on_full_buffer=False)
        for signum in STOP_SIGNALS:
            signal.signal(signum, self._on_signal)
        # The supervisor blocked them until somebody here would listen.
        signal.pthread_sigmask(signal.SIG_UNBLOCK, STOP_SIGNALS)
        procs.die_with_parent(signal.SIGTERM, self._identity[0])
        self._poller = self._safety.poller = self._exclusive.poller = zmq.Poller()
        self._asked.watch(self._poller)
        for source in (self._router.socket, wake_r, self._control):
            self._poller.register(source, zmq.POLLIN)
        while not self._over():
            for source, _ in self._poller.poll(self._timeout_ms()):
                if source is self._router.socket:
                    self._from_clients()
                elif source == wake_r.fileno():
                    self._read_wakeup(wake_r)
                elif source == self._control.fileno():
                    self._fork_server_gone()
                elif source in self._links:
                    self._from_link(source)
                elif self._asked.owns(source):
                    self._asked.readable(time.monotonic())
                elif self._safety.owns(source):
                    self._safety.readable(source)
                elif self._exclusive.owns(source):
                    self._exclusive.readable(source, time.monotonic())
            self._turn(time.monotonic())
        signal.set_wakeup_fd(-1)  # a further signal would find its socket closed, and say so with a traceback
        self._close()
        return self._code

    def stop(self, reason: str) -> None:
        """Ends all sessions, then the server."""
        if self._stop_reason is None:
            self._stop_reason = reason
            self._console.info(f"stopping: {reason}")
            self._sessions.stop(reason)
            self._v1.stop(reason)
            self._probe.end()

    # -- one turn of the loop

    def _turn(self, now: float) -> None:
        if self._signals and self._stop_reason is None:
            told = os.getppid() == self._identity[0]
            died = "the server's supervisor process died"
            self.stop("the server was told to stop (SIGTERM)" if told else died)
        self._sessions.check(now)
        self._v1.check(now)
        self._exclusive.check(now)
        self._probe.check(now)
        self._flush_links()
        self._router.pump(self._sessions, now)
        self._sessions.forget_ended(now)
        if not (self._sessions.sessions or self._v1.in_use or self._safety.running):
            self._exclusive.release()
        self._asked.decide(now, self._use, self._somebody_comes, self._asked_to)
        reason = self._life.reason_to_end(now, len(self._sessions.sessions))
        if reason == UNNEEDED and self._somebody_comes():
            self._life.wait(coming.LOOK_AGAIN, now)
        elif reason is not None:
            self.stop(reason)
        self._state.update(self._snapshot(), now)
        self._log.turn(now)

    def _somebody_comes(self) -> bool:
        """See `coming`. When nobody does, nobody finds this server any more."""
        run_dir = self._settings.run_dir
        if run_dir is None or self._stop_reason is not None:
            return False
        if coming.anybody(run_dir):
            return True
        rundir.withdraw(run_dir)
        if not coming.anybody(run_dir):
            return False
        try:
            rundir.announce(self._settings, self._server, self._identity)
        except OSError:  # a full disk, say: who comes finds no server, waits for our end and starts one
            return False
        return True

    def _over(self) -> bool:
        return not (
            self._stop_reason is None or self._links or self._sessions.sessions or self._safety.running
        )

    def _timeout_ms(self) -> int:
        now = time.monotonic()
        deadlines = [
            self._sessions.next_deadline(),
            self._v1.next_deadline(),
            self._exclusive.next_deadline(),
            self._state.next_deadline(),
            self._log.next_deadline(),
            self._life.next_deadline(len(self._sessions.sessions)) if self._stop_reason is None else None,
            self._life.kept.next_news(),
            self._probe.next_deadline(),
            self._asked.next_deadline(),
            self._router.next_retry(),
        ]
        known = [deadline for deadline in deadlines if deadline is not None]
        if not known:
            return 60_000
        return int(max(0.0, min(60.0, min(known) - now)) * 1000) + 1

    # -- clients

    def _from_clients(self) -> None:
        now = time.monotonic()
        for frames in self._router.receive(now):
            try:
                incoming = split_frames(frames)
            except BadMessage as error:
                self._console.complain(f"a client sent a message that cannot be used: {error}", now)
                self._sessions.refuse(frames[0], {}, error)
                continue
            if incoming.wire == 2:
                self._sessions.message(incoming.route, incoming.body, now)
            elif self._v1.message(incoming.route, incoming.body, now):
                self._life.heard(now)

    def _send_v1(self, route: bytes, body: Mapping[str, Any]) -> None:
        # A v1 client that does not take its answer has none to expect.
        with contextlib.suppress(ValueDoesNotCross):
            self._router.send([route, b"", pack_v1(body)])

    # -- workers

    def _start_worker(self, session: str, *, acts: bool = True) -> WorkerLink:
        """acts: it may move something, as opposed to one that lists the plugins."""
        # The worker that all v1 clients share stays when they have reset everything.
        held = self._exclusive.descriptors if acts and session != V1_SESSION else list
        link = WorkerLink(self._control, session, held)
        if acts:
            self._safety.comes(link, link.launch)
        else:
            link.launch()
        for channel in (link.worker, link.keeper):
            self._links[channel.fileno()] = link
            self._poller.register(channel.fileno(), zmq.POLLIN)
        return link

    def _from_link(self, fd: int) -> None:
        link = self._links[fd]
        if fd == link.worker.fileno():
            self._said(link, link.from_worker())
            if link.worker.closed:
                # How it ended is told by its keeper.
                self._unregister(fd)
                link.cut()
            return
        already = link.exited
        last_words, logs = link.from_keeper()
        self._said(link, last_words)
        self._said(link, logs)
        if link.exited is not None and already is None:
            self._sessions.worker_exited(link.session, link)
            self._v1.worker_exited(link)
        if link.over:
            for channel in (link.worker, link.keeper):
                self._unregister(channel.fileno())
            if not self._v1.link_over(link):
                self._sessions.link_over(link.session, link)
            if self._probe.owns(link):
                self._probe.gone(link)
            link.close()

    def _said(self, link: WorkerLink, messages: list[dict[str, Any]]) -> None:
        if not messages:
            return
        if self._probe.owns(link):
            self._probe.said(messages)
        elif self._v1.owns(link):
            self._v1.worker_said(messages, self._sessions.log)
        else:
            self._sessions.worker_said(link.session, messages)

    def _unregister(self, fd: int) -> None:
        if self._links.pop(fd, None) is not None:
            with contextlib.suppress(KeyError):
                self._poller.unregister(fd)

    def _flush_links(self) -> None:
        for fd, link in self._links.items():
            channel = link.worker if fd == link.worker.fileno() else link.keeper
            if channel.pending:
                channel.flush()
            self._poller.register(fd, zmq.POLLIN | zmq.POLLOUT if channel.pending else zmq.POLLIN)
        if self._links_failed():
            self._from_link(self._links_failed())

    def _links_failed(self) -> int:
        """A link that never came to be; 0 when there is none."""
        return next((fd for fd, link in self._links.items() if link.over and fd == link.keeper.fileno()), 0)

    def _fork_server_gone(self) -> None:
        self._poller.unregister(self._control.fileno())
        if self._stop_reason is None:
            self._console.error("the fork server has died")
            self._code = 1
            self.stop("the fork server has died")

    # -- state, signals, end

    def _snapshot(self) -> dict[str, Any]:
        if self._settings.run_dir is None:
            return {}
        now = time.monotonic()
        left = self._life.kept_left(now)
        until = None if left is None or left == float("inf") else round(time.time() + left)
        return {
            "ephemeral": self._life.ephemeral(now),
            "kept_until": until,
            "sessions": self._sessions.described(),
            **({"exclusive": self._exclusive.described()} if self._exclusive.resource else {}),
        }

    def _use(self) -> tuple[list[dict[str, Any]], bool]:
        """The clients of all sessions, and whether it stays without any."""
        if self._stop_reason is not None:
            return [], False
        kept = not self._life.ephemeral(time.monotonic())
        return [session["client"] for session in self._sessions.described()], kept

    def _asked_to(self, verdict: str, why: str) -> dict[str, Any]:
        state = self._snapshot()
        self._state.write(state, time.monotonic())
        if verdict == STOPPING:
            self.stop(why)
        return state

    def _on_signal(self, signum: int, _: object) -> None:
        self._signals += 1

    @staticmethod
    def _read_wakeup(wake: socket.socket) -> None:
        with contextlib.suppress(BlockingIOError):
            wake.recv(4096)

    def _close(self) -> None:
        self._router.pump(self._sessions, time.monotonic())
        self._router.close()
        if self._settings.run_dir is not None:
            rundir.remove_files(self._settings.run_dir)
        if self._settings.socket is not None:
            with contextlib.suppress(OSError):
                os.unlink(self._settings.socket)
        supervisor = self._identity[0]
        if os.getppid() == supervisor:  # what is left is its part: one that is stopped (SIGSTOP) has to go on
            os.kill(supervisor, signal.SIGCONT)


def run(settings: Settings, control: socket.socket, supervisor: int) -> int:
    """The front's whole life, in its process. Returns the server's exit code."""
    admission.raise_file_limit()
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    front = Front(settings, control, supervisor, Router(context))
    try:
        front.listen()
    except (binding.BindError, OSError) as error:
        print(f"scenario_execution_server: {error}", file=sys.stderr, flush=True)
        return 1
    code = front.loop()
    context.term()
    return code
