"""What a host says of itself, in words for whoever runs something there. Pure."""

from __future__ import annotations

from remote_exec.errors import RemoteError

EXTEND_BY = "4h"
EXCLUSIVE = "exclusive"
"""The kind of error of a host that somebody else has to himself."""


def lease_text(name: str, left: float) -> str:
    """The server of `name` was kept up by hand, and `left` seconds of that time are left; 0: it is over."""
    cure = f"To keep it up: se-remote extend {name} --for {EXTEND_BY}"
    if left <= 0:
        return f"the time for which this server was kept up is over: it ends after this run. {cure}"
    return (
        f"this server is kept up for {_words(left)} more. A run that takes longer is not cut off: "
        f"the server then ends after it. {cure}"
    )


def refusal_text(name: str, error: RemoteError) -> str:
    """A host did not begin a session."""
    return f"{name} is in use: {error}" if error.kind == EXCLUSIVE else f"{name} refused: {error}"


def _words(seconds: float) -> str:
    return f"{seconds / 60:.0f} min" if seconds >= 100 else f"{max(1.0, seconds):.0f} s"
