"""Messages between the processes of one server: length-prefixed frames over a socket pair.

Rules: nothing here blocks; what a full socket does not take waits in a buffer whose size the owner
reads and bounds; the end of the other side is a flag, not an exception.
"""

from __future__ import annotations

import socket
import struct
from collections import deque
from itertools import islice
from typing import Final

_HEADER: Final = struct.Struct("!I")
_CHUNK: Final = 256 * 1024
_PARTS: Final = 100
"""Messages that are written at once."""
MAX_BODY: Final = 64 * 1024 * 1024
"""A longer body is none: somebody else has written into the socket, and its end counts as closed."""


class Channel:
    """One end of a socket pair. Not thread-safe."""

    def __init__(self, sock: socket.socket) -> None:
        sock.setblocking(False)
        self._sock = sock
        self._out: deque[memoryview] = deque()
        self._in = bytearray()
        self.pending = 0
        """Bytes that wait to be written."""
        self.closed = False
        """The other side is gone; what it sent before has been returned."""

    def fileno(self) -> int:
        return self._sock.fileno()

    def send(self, body: bytes) -> None:
        """Takes one message and writes it; call `flush` later while `pending`."""
        self.queue(body)
        self.flush()

    def queue(self, body: bytes) -> None:
        """Takes one message of several; the caller calls `flush` soon."""
        if self.closed:
            return
        frame = _HEADER.pack(len(body)) + body
        self._out.append(memoryview(frame))
        self.pending += len(frame)

    def flush(self) -> None:
        """Writes what the socket takes now."""
        while self._out and not self.closed:
            try:
                sent = self._sock.sendmsg(list(islice(self._out, _PARTS)))
            except (BlockingIOError, InterruptedError):
                return
            except OSError:
                # The reader is gone; what it wrote before can still be read.
                self._out.clear()
                self.pending = 0
                return
            self.pending -= sent
            while sent:
                part = self._out.popleft()
                if sent < len(part):
                    self._out.appendleft(part[sent:])
                sent -= min(sent, len(part))

    def receive(self, chunks: int = 8) -> list[bytes]:
        """The messages that have arrived, at most `chunks` reads of them; sets `closed` at the end."""
        for _ in range(chunks):
            try:
                data = self._sock.recv(_CHUNK)
            except (BlockingIOError, InterruptedError):
                break
            except OSError:
                data = b""
            if not data:
                self.closed = True
                break
            self._in += data
        return self._take()

    @property
    def buffered(self) -> int:
        """Bytes of a message that has not arrived as a whole."""
        return len(self._in)

    def close(self) -> None:
        self.closed = True
        self._out.clear()
        self.pending = 0
        self._sock.close()

    def _take(self) -> list[bytes]:
        bodies: list[bytes] = []
        start = 0
        while len(self._in) - start >= _HEADER.size:
            (length,) = _HEADER.unpack_from(self._in, start)
            if length > MAX_BODY:
                self.closed = True
                self._in.clear()
                return bodies
            end = start + _HEADER.size + length
            if len(self._in) < end:
                break
            bodies.append(bytes(self._in[start + _HEADER.size : end]))
            start = end
        if start:
            del self._in[:start]
        return bodies


def channel_pair() -> tuple[socket.socket, socket.socket]:
    """Two connected ends, closed on exec."""
    return socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
