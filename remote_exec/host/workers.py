"""The front's end of one worker: its two channels, and how its end is told from its crash.

worker channel: commands and answers (the worker reads and writes them itself)
keeper channel: `pid` (its own), `exit` (how the worker ended), `log` (what it printed), `gone` (all below is
ended)
"""

from __future__ import annotations

import contextlib
import signal
import socket
from collections.abc import Callable, Mapping
from typing import Any, Final

from remote_exec.codec import INTERNAL_BYTES, pack, unpack
from remote_exec.errors import BadMessage
from remote_exec.host import procs
from remote_exec.host.channel import Channel, channel_pair
from remote_exec.host.forkserver import request_worker

MAX_PENDING_BYTES: Final = 64 * 1024 * 1024
"""Bytes of commands that may wait for a worker that does not read."""


class WorkerLink:
    """Asks the fork server for a worker and talks to it and to its keeper. Raises OSError: no descriptors."""

    def __init__(self, control: socket.socket, session: str, hold: Callable[[], list[int]] = list) -> None:
        """hold: descriptors that the keeper is to hold as long as it lives; asked at the launch."""
        self._hold = hold
        self.session = session
        self.ending = False
        """Somebody asked it to end, so its exit is no crash."""
        self.exited: str | None = None
        """How the worker process ended."""
        self.left: list[str] | None = None
        """Set at the very end: what could not be ended."""
        self._process: procs.Proc | None = None
        """The keeper's."""
        self._control = control
        front_worker, worker_end = channel_pair()
        try:
            front_keeper, keeper_end = channel_pair()
        except OSError:
            front_worker.close()
            worker_end.close()
            raise
        self._ends = (worker_end, keeper_end)
        self.worker = Channel(front_worker)
        self.keeper = Channel(front_keeper)

    def launch(self) -> None:
        """Ask for the worker; what was sent to it before has waited."""
        worker_end, keeper_end = self._ends
        with worker_end, keeper_end:
            try:
                request_worker(self._control, self.session, keeper_end, worker_end, self._hold())
            except OSError as error:
                self.exited = f"the fork server does not answer ({error.strerror})"
                self.left = []

    @property
    def over(self) -> bool:
        """The worker, its keeper and all that came from them are gone."""
        return self.left is not None

    @property
    def congested(self) -> bool:
        return self.worker.pending > MAX_PENDING_BYTES

    def send(self, message: Mapping[str, Any]) -> None:
        """Goes out with the next flush, together with what else one turn of the front has for the worker."""
        self.worker.queue(pack(message, INTERNAL_BYTES))

    def end(self) -> None:
        """Asks the worker to end, and the keeper to see to it."""
        if not self.ending:
            self.ending = True
            self.send({"cmd": "end"})
            self.worker.flush()
            self._end_keeper()

    def cut(self) -> None:
        """The worker's channel is of no use any more: nobody reaches it, so it must end if it has not."""
        self.worker.close()
        self._end_keeper()

    def _end_keeper(self) -> None:
        """One that is stopped (SIGSTOP) has to go on."""
        self.keeper.send(pack({"end": True}))
        if self._process is not None:
            procs.send_signal(self._process, signal.SIGCONT)

    def from_worker(self) -> list[dict[str, Any]]:
        return self._decode(self.worker.receive())

    def from_keeper(self) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
        """What the worker said before it ended, if it has, and the log records of what it printed."""
        logs, last_words = [], []
        for message in self._decode(self.keeper.receive()):
            if "pid" in message:
                self._process = procs.read_proc(message["pid"])
            elif "exit" in message:
                self.exited = str(message["exit"])
                last_words = self._drain_worker()
            elif "gone" in message:
                self.left = [str(text) for text in message.get("left") or []]
            elif message.get("ev") == "log":
                logs.append(message)
        if self.keeper.closed and self.left is None:
            last_words += self._drain_worker()
            self.exited = self.exited or "its keeper process died"
            self.left = []
        return last_words, logs

    def close(self) -> None:
        for channel in (self.worker, self.keeper):
            with contextlib.suppress(OSError):
                channel.close()

    def _drain_worker(self) -> list[dict[str, Any]]:
        messages = []
        while not self.worker.closed:
            before = self.worker.buffered
            bodies = self.worker.receive()
            if not bodies and self.worker.buffered == before:
                break
            messages += self._decode(bodies)
        return messages

    @staticmethod
    def _decode(bodies: list[bytes]) -> list[dict[str, Any]]:
        messages = []
        for body in bodies:
            with contextlib.suppress(BadMessage):
                messages.append(unpack(body))
        return messages
