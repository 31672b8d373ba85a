"""Sockets of the client: how they are opened, and whether somebody still listens. Hub's thread only.

All limits are set here, none is left to a default.
"""

from __future__ import annotations

import errno
import select
import socket
from collections.abc import Iterator
from typing import Any

import zmq
from zmq.utils.monitor import recv_monitor_message

from remote_exec.messages import MAX_MESSAGE_BYTES

HIGH_WATER_MARK = 100_000
RECONNECT_MS, RECONNECT_MAX_MS = 10, 1000
HANDSHAKE_MS = 10_000
KEEPALIVE_IDLE_S, KEEPALIVE_INTERVAL_S, KEEPALIVE_COUNT = 10, 5, 3


def connect(context: zmq.Context[zmq.Socket[bytes]], endpoint: str) -> zmq.Socket[bytes]:
    """A DEALER towards `endpoint`. Connecting goes on in the background until somebody is there."""
    dealer = context.socket(zmq.DEALER)
    _limit(dealer)
    dealer.connect(endpoint)
    return dealer


def _limit(dealer: zmq.Socket[bytes]) -> None:
    dealer.setsockopt(zmq.LINGER, 0)
    dealer.setsockopt(zmq.SNDHWM, HIGH_WATER_MARK)
    dealer.setsockopt(zmq.RCVHWM, HIGH_WATER_MARK)
    dealer.setsockopt(zmq.MAXMSGSIZE, MAX_MESSAGE_BYTES)
    dealer.setsockopt(zmq.RECONNECT_IVL, RECONNECT_MS)
    dealer.setsockopt(zmq.RECONNECT_IVL_MAX, RECONNECT_MAX_MS)
    dealer.setsockopt(zmq.HANDSHAKE_IVL, HANDSHAKE_MS)
    dealer.setsockopt(zmq.IPV6, 1)
    dealer.setsockopt(zmq.TCP_KEEPALIVE, 1)
    dealer.setsockopt(zmq.TCP_KEEPALIVE_IDLE, KEEPALIVE_IDLE_S)
    dealer.setsockopt(zmq.TCP_KEEPALIVE_INTVL, KEEPALIVE_INTERVAL_S)
    dealer.setsockopt(zmq.TCP_KEEPALIVE_CNT, KEEPALIVE_COUNT)


class Connection:
    """One connection that says when it has broken."""

    def __init__(
        self, context: zmq.Context[zmq.Socket[bytes]], endpoint: str, *, again: bool = False
    ) -> None:
        """`again`: there was one that worked, so one that is refused is broken too. (A server that dies may
        still take a connection between the cut and the end of its listening.)"""
        self.socket = context.socket(zmq.DEALER)
        _limit(self.socket)
        self._breaks = zmq.EVENT_DISCONNECTED | (zmq.EVENT_CONNECT_RETRIED if again else 0)
        self._monitor = self.socket.get_monitor_socket(self._breaks)
        self.socket.connect(endpoint)

    def pollables(self) -> list[Any]:
        return [self.socket, self._monitor]

    def send(self, frames: list[bytes]) -> None:
        """Queue a message. One that does not fit is lost, like one on a dead connection: it is repeated."""
        try:
            self.socket.send_multipart(frames, zmq.NOBLOCK)
        except zmq.Again:
            pass

    def receive(self) -> Iterator[list[bytes]]:
        """The messages that are here."""
        while True:
            try:
                yield self.socket.recv_multipart(zmq.NOBLOCK)
            except (zmq.Again, zmq.ZMQError):
                return

    def broken(self) -> bool:
        """The connection was cut since the last question."""
        cut = False
        while self._monitor.poll(0):
            cut = bool(recv_monitor_message(self._monitor)["event"] & self._breaks) or cut
        return cut

    def close(self) -> None:
        self.socket.disable_monitor()
        self._monitor.close(linger=0)
        self.socket.close(linger=0)


class Probe:
    """Does anybody listen at the endpoint? Asked after a cut, without waiting.

    True when nobody can tell: only a refusal, or a socket that is not there, is a no.
    """

    def __init__(self, endpoint: str) -> None:
        self._socket: socket.socket | None = None
        self._answer: bool | None = None
        transport, _, rest = endpoint.partition("://")
        if transport == "ipc":
            self._start(socket.AF_UNIX, rest)
        elif transport == "tcp":
            host, _, port = rest.rpartition(":")
            self._start(socket.AF_INET, ("127.0.0.1" if host == "localhost" else host, int(port)))
        else:
            self._answer = True

    def _start(self, family: int, address: Any) -> None:
        if family == socket.AF_INET and not _is_ipv4(address[0]):
            self._answer = True  # looking a name up may take long
            return
        self._socket = socket.socket(family, socket.SOCK_STREAM)
        self._socket.setblocking(False)
        self._settle(self._socket.connect_ex(address))

    def _settle(self, code: int) -> None:
        if code in (errno.EINPROGRESS, errno.EALREADY):
            return
        self._answer = code not in (errno.ECONNREFUSED, errno.ENOENT)
        self.close()

    def answer(self) -> bool | None:
        """None: not known yet."""
        if self._answer is None and self._socket is not None:
            _, writable, _ = select.select([], [self._socket], [], 0)
            if writable:
                self._settle(self._socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR))
        return self._answer

    def close(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None


def _is_ipv4(host: str) -> bool:
    try:
        socket.inet_aton(host)
    except OSError:
        return False
    return True
