"""From a message to its frame, whatever a worker has put into it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from remote_exec.codec import pack
from remote_exec.errors import ValueDoesNotCross
from remote_exec.host.outbox import log_event
from remote_exec.host.replies import error_reply


def packed(message: Mapping[str, Any]) -> bytes:
    """What a worker said may have become too large by its envelope; its client still gets an answer."""
    try:
        return pack(message)
    except ValueDoesNotCross as error:
        kept = {key: message[key] for key in ("v", "re", "session", "seq") if key in message}
        if "re" in message:
            return pack({**kept, **error_reply(error)})
        return pack({**kept, **log_event("error", "se-remote", f"an event was lost: {error}")})
