"""A TCP relay between a client and an sshd, whose way a test cuts, silences and restores."""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
import time
from collections.abc import Callable

_RESET = struct.pack("ii", 1, 0)


class _Pair:
    """A relayed connection. What cannot be passed on waits; `dead` ones never pass anything on again."""

    def __init__(self, near: socket.socket, far: socket.socket, relay: Relay) -> None:
        self.ends = (near, far)
        self.dead = False
        self._relay = relay
        for source, sink in ((near, far), (far, near)):
            threading.Thread(target=self._pump, args=(source, sink), daemon=True).start()

    def _pump(self, source: socket.socket, sink: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                self._relay.open.wait()
                if self._relay.pace:
                    time.sleep(len(data) / self._relay.pace)
                if self.dead:
                    return
                sink.sendall(data)
        if not self.dead:
            for end in self.ends:
                with contextlib.suppress(OSError):
                    end.shutdown(socket.SHUT_RDWR)

    def reset(self) -> None:
        self.dead = True
        for end in self.ends:
            with contextlib.suppress(OSError):
                end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
                end.shutdown(socket.SHUT_RDWR)
            end.close()


class Relay:
    """Listens on `port` of 127.0.0.1 until `close`."""

    def __init__(self, target: int) -> None:
        self.target = target
        self.accepted = 0
        """Connections so far."""
        self.pace = 0.0
        """Bytes a second and connection; 0: as fast as it goes."""
        self._pairs: list[_Pair] = []
        self.open = threading.Event()
        self.open.set()
        self._refusing = False
        self._lock = threading.Lock()
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=64)
        self.port = int(self._listener.getsockname()[1])
        threading.Thread(target=self._accept, daemon=True).start()

    def cut(self) -> None:
        """Reset every connection, and each new one."""
        with self._lock:
            self._refusing = True
            pairs, self._pairs = self._pairs, []
        for pair in pairs:
            pair.reset()

    def silence(self) -> None:
        """Pass nothing on; connections stay, and new ones are taken and hear nothing."""
        self.open.clear()

    def restore(self, *, forget: bool = False) -> None:
        """As before. forget: what was connected stays silent for ever, as behind a NAT that forgot it."""
        with self._lock:
            self._refusing = False
            if forget:
                for pair in self._pairs:
                    pair.dead = True
        self.open.set()

    def close(self) -> None:
        self.restore()
        self._listener.close()
        self.cut()

    def _accept(self) -> None:
        while True:
            try:
                near, _ = self._listener.accept()
            except OSError:
                return
            with self._lock:
                if self._refusing:
                    near.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
                    near.close()
                    continue
                self.accepted += 1
                try:
                    far = socket.create_connection(("127.0.0.1", self.target), 5)
                except OSError:
                    near.close()
                    continue
                far.settimeout(None)
                self._pairs.append(_Pair(near, far, self))


Break = Callable[[Relay], None]
