"""What installed extensions add to setup() of a session's actions (entry-point group `se_remote.context`).

An entry point's object is called with a SessionInfo and returns a context manager; what that yields are
further keyword arguments, by name. A ROS node is the first (ros.py). Rules:

- Opened before the first setup() of the session, in the actions' own process and thread; closed after the
  last shutdown(), in reverse order. A session without actions opens nothing.
- An error in one is the error of every setup() of the session, and names the extension. It is not tried
  again, and what the others had opened is closed.
- A name has one owner: one of our own keyword arguments, or one that two extensions bring, is an error.
- An extension that has nothing to give here (what it needs is not installed) yields an empty mapping.
"""

from __future__ import annotations

import importlib.metadata
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Final, Protocol

from remote_exec.codec import clean_text
from remote_exec.errors import RemoteError

GROUP: Final = "se_remote.context"
CLOSE_SECONDS: Final = 6.0
"""How long closing all of them may hold up the end of a session."""
OWN_NAMES: Final = frozenset(
    {
        "logger",
        "output_dir",
        "input_dir",
        "tick_period",
        "clock",
        "host_clock",
        "process_registry",
        "simulation",
    }
)
"""Keyword arguments of setup() that come from the scenario; `simulation` stays at the client."""


@dataclass(frozen=True)
class SessionInfo:
    """The session that an extension is opened for. Paths are those of the client's `configure`."""

    logger: Any
    """Writes to the scenario's log: debug, info, warning, error."""
    tick_period: float
    """Seconds."""
    output_dir: str | None
    input_dir: str | None
    clock: Any
    """The simulated clock; None when time is real."""


class Extension(Protocol):
    """What an entry point of the group names."""

    def __call__(self, session: SessionInfo, /) -> AbstractContextManager[Mapping[str, Any]]: ...


@dataclass(frozen=True)
class Point:
    """One installed extension; `load` gives its Extension."""

    name: str
    value: str
    load: Callable[[], Any]

    @property
    def title(self) -> str:
        return f"the context extension {self.name!r} ({self.value})"


def installed() -> list[Point]:
    """All extensions of this Python, by name."""
    found = importlib.metadata.entry_points(group=GROUP)
    unique = {(point.name, point.value): Point(point.name, point.value, point.load) for point in found}
    return [unique[key] for key in sorted(unique)]


class SessionContext:
    """The extensions of one session. Not thread-safe; `close` may come from another thread at the end."""

    def __init__(self, points: Callable[[], list[Point]] = installed) -> None:
        self._points = points
        self._opened: list[tuple[Point, AbstractContextManager[Any]]] = []
        self._kwargs: dict[str, Any] | None = None
        self._error: RemoteError | None = None

    def kwargs(self, session: Callable[[], SessionInfo]) -> Mapping[str, Any]:
        """What they provide; the first call opens them. Raises RemoteError."""
        if self._error is not None:
            raise self._error
        if self._kwargs is None:
            try:
                self._kwargs = self._open(session())
            except RemoteError as error:
                self._error = error
                self.close()
                raise
        return self._kwargs

    def close(self) -> str:
        """Closes what was opened, once. What went wrong, "" when nothing did."""
        problems = []
        while self._opened:
            point, manager = self._opened.pop()
            try:
                manager.__exit__(None, None, None)
            except (Exception, SystemExit) as error:  # foreign code; what it did is no business of the others
                problems.append(f"{point.title} failed while it was closed: {_text(error)}")
        return "\n".join(problems)

    def _open(self, session: SessionInfo) -> dict[str, Any]:
        provided: dict[str, Any] = {}
        owners: dict[str, str] = {}
        for point in self._points():
            try:
                manager: AbstractContextManager[Mapping[str, Any]] = point.load()(session)
                given = manager.__enter__()
                self._opened.append((point, manager))
                given = dict(given)
            except (Exception, SystemExit) as error:  # foreign code
                raise RemoteError("plugin_error", f"{point.title} failed: {_text(error)}") from error
            for name in given:
                if name in OWN_NAMES:
                    text = f"{point.title} provides {name!r}, which setup() gets from the scenario"
                    raise RemoteError("plugin_error", text)
                if name in owners:
                    raise RemoteError(
                        "plugin_error", f"{point.title} and {owners[name]} both provide {name!r}"
                    )
                owners[name] = point.title
            provided.update(given)
        return provided


def _text(error: BaseException) -> str:
    return f"{type(error).__name__}: {clean_text(error, 2048)}"
