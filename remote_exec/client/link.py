"""What a link to a host says and is asked, whichever vocabulary it speaks. Values and protocols only."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from remote_exec.client.session import Event, Reply
from remote_exec.errors import RemoteError

DEFAULT_LEASE = 10.0


class WayWatcher(Protocol):
    """Who is told what becomes of a way. From another thread."""

    def cut(self, reason: str) -> None:
        """It is broken, and being mended."""

    def mended(self, endpoint: str) -> None:
        """The host is to be reached there from now on; what was connected before is of no use."""

    def gone(self, reason: str) -> None:
        """It cannot be mended: nobody is there any more, or lets us in."""


class Way(Protocol):
    """The way to a host, which somebody mends when it breaks (launcher.ways). Any thread; never blocks."""

    @property
    def trouble(self) -> str:
        """Why it is not mended yet; "" when nothing is known."""

    def watch(self, watcher: WayWatcher) -> None: ...
    def doubt(self, silent: bool) -> None:
        """It does not work. silent: nothing is heard over it; else what was connected has been closed."""

    def fine(self) -> None:
        """Something is heard again over it: a fresh one is not needed."""

    def connected(self, endpoint: str) -> None:
        """The host has answered there."""

    def stop(self) -> None:
        """It is not needed any more."""


@dataclass(frozen=True)
class LinkSpec:
    """Where a host is and how it is to be spoken to. Times in seconds."""

    name: str
    endpoint: str
    ours: bool = False
    """This client's bring-up announced the server: it speaks our wire."""
    client: Mapping[str, Any] = field(default_factory=dict)
    """Who we are: version, user, machine, pid, what."""
    lease: float | None = None
    """None: the server's default."""
    patience: float | None = None
    """Silence after which the host is lost; None: the lease."""
    connect_timeout: float = DEFAULT_LEASE
    """How long the first answer may take."""
    on_loss: str | None = None
    way: Way | None = None
    """None: the endpoint is all there is, and nobody mends anything."""


@dataclass(frozen=True)
class LinkUp:
    """The host answered `hello`."""

    server: Mapping[str, Any]
    wire: int


@dataclass(frozen=True)
class Gone:
    """The session, or the whole link, is over."""

    reason: str
    refusal: RemoteError | None = None
    """The host is there, and refused: `exclusive` with what to do next, say."""

    @property
    def text(self) -> str:
        """The reason, and what to do."""
        step = self.refusal.next_step if self.refusal is not None else ""
        return f"{self.reason}\n    try: {step}" if step else self.reason


@dataclass(frozen=True)
class Note:
    """Something the user should read."""

    level: str
    text: str


Delivery = LinkUp | Gone | Note | Reply | Event
Deliver = Callable[[Delivery], None]
"""Called in the hub's thread, in order; must not block."""


class RemoteSession(Protocol):
    """One session, from the tree's side; the same for both vocabularies."""

    id: str

    def send(self, cmd: str, fields: Mapping[str, Any]) -> int:
        """Hand a command over; its Reply carries the returned id. Raises ValueDoesNotCross."""


class Driver(Protocol):
    """What the hub asks of a link that speaks one vocabulary. In the hub's thread, but for open_session."""

    def start(self) -> None: ...
    def open_session(self, session_id: str, deliver: Deliver) -> RemoteSession: ...
    def pollables(self) -> list[Any]: ...
    def readable(self) -> None: ...
    def next_due(self) -> float: ...
    def on_time(self, now: float) -> None: ...
    def leave(self, release: bool) -> None:
        """Say goodbye; then Gone is delivered. release: the server need not wait for more of this client."""

    def fail(self, reason: str) -> None: ...
    def close(self) -> None: ...


class Context(Protocol):
    """What a driver needs of the hub and of the link it belongs to."""

    spec: LinkSpec
    deliver: Deliver
    away: bool
    """Nothing is heard now; it may come back. For any thread to read."""

    def now(self) -> float: ...
    def call(self, function: Callable[[], None]) -> None:
        """Run in the hub's thread, in order."""

    def socket_context(self) -> Any: ...
    def measured(self, round_trip: float, server_time: object = None) -> None: ...
    def become(self, driver: Driver) -> None: ...
