"""A relay that delivers everything later, in both directions: what a long way does to a connection.

    python benchmarks/delay.py LISTEN CONNECT SECONDS

LISTEN and CONNECT: `ipc:///path` or `tcp://host:port`. Prints `ready` once it listens. Order is kept, nothing
is lost, and a side that closes is closed on the other one when everything before has arrived.
"""

from __future__ import annotations

import asyncio
import sys
from collections import deque

EARLY = 0.0005
"""The event loop's timers come up to a millisecond late; this centres them."""


class Side(asyncio.Protocol):
    """One end of a relayed connection."""

    def __init__(self, relay: Relay, peer: Side | None = None) -> None:
        self.relay = relay
        self.peer = peer
        self.transport: asyncio.Transport | None = None
        self._waiting: deque[bytes | None] = deque()
        """What arrived here and has not been passed on; None: the end."""
        self._early: list[bytes | None] = []
        """What came for this side before it was connected."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        if self.peer is None:
            self.peer = Side(self.relay, self)
            self.relay.connecting.add(asyncio.ensure_future(self.relay.connect(self.peer)))
        for data in self._early:
            self.put(data)

    def data_received(self, data: bytes) -> None:
        self._later(data)

    def connection_lost(self, exc: Exception | None) -> None:
        self._later(None)

    def _later(self, data: bytes | None) -> None:
        self._waiting.append(data)
        asyncio.get_running_loop().call_later(self.relay.delay, self._pass_on)

    def _pass_on(self) -> None:
        assert self.peer is not None
        self.peer.put(self._waiting.popleft())

    def put(self, data: bytes | None) -> None:
        if self.transport is None:
            self._early.append(data)
        elif data is None:
            self.transport.close()
        elif not self.transport.is_closing():
            self.transport.write(data)


class Relay:
    def __init__(self, target: str, delay: float) -> None:
        self.target = target
        self.delay = max(0.0, delay - EARLY)
        self.connecting: set[asyncio.Future[None]] = set()

    async def connect(self, side: Side) -> None:
        loop = asyncio.get_running_loop()
        kind, rest = split(self.target)
        if kind == "ipc":
            await loop.create_unix_connection(lambda: side, rest)
        else:
            host, _, port = rest.rpartition(":")
            await loop.create_connection(lambda: side, host, int(port))

    async def listen(self, address: str) -> asyncio.Server:
        loop = asyncio.get_running_loop()
        kind, rest = split(address)
        if kind == "ipc":
            return await loop.create_unix_server(lambda: Side(self), rest)
        host, _, port = rest.rpartition(":")
        return await loop.create_server(lambda: Side(self), host, int(port))


def split(address: str) -> tuple[str, str]:
    kind, _, rest = address.partition("://")
    return kind, rest


async def main() -> None:
    listen, connect, seconds = sys.argv[1:4]
    server = await Relay(connect, float(seconds)).listen(listen)
    print("ready", flush=True)
    async with server:
        await server.serve_forever()


if __name__ == "__main__":
    try:
        asyncio.run(main())
    except KeyboardInterrupt:
        pass
