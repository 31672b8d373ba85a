"""What a client's v2 message must look like, and what is kept of who the client says it is. Pure."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from remote_exec.errors import BadMessage
from remote_exec.host.session import MAX_INFO_CHARS
from remote_exec.messages import COMMANDS, MAX_ID_CHARS, SESSIONLESS, WIRE_VERSION, check_fields


def parse(message: Mapping[str, Any]) -> tuple[int, str, str | None, dict[str, Any]]:
    """Its id, command, session and fields. Raises BadMessage."""
    msg_id, cmd, session = _envelope(message)
    fields = check_fields(message, COMMANDS[cmd])
    _check_limits(cmd, fields)
    return msg_id, cmd, session, fields


def client_text(client: Mapping[str, Any]) -> str:
    """`user@machine`, for a line in a log."""
    return f"{client.get('user') or '?'}@{client.get('machine') or '?'}"


def client_info(client: Mapping[str, Any]) -> dict[str, Any]:
    """What is kept of who a client says it is: it is logged, and written as JSON."""
    info: dict[str, Any] = {}
    for name in ("version", "user", "machine", "pid", "what", "id", "driver"):
        value = client.get(name)
        if isinstance(value, str):
            info[name] = "".join(c if c.isprintable() else "?" for c in value[:MAX_INFO_CHARS])
        elif isinstance(value, int):
            info[name] = value
    return info


def _envelope(message: Mapping[str, Any]) -> tuple[int, str, str | None]:
    if message.get("v") != WIRE_VERSION:
        raise BadMessage(f"expected {WIRE_VERSION}, got {message.get('v')!r:.40}", "v")
    msg_id, cmd, session = message.get("id"), message.get("cmd"), message.get("session")
    if type(msg_id) is not int or not 0 <= msg_id < 2**63:
        raise BadMessage("expected a number, counted up from 0", "id")
    if not isinstance(cmd, str):
        raise BadMessage("expected str", "cmd")
    if cmd not in COMMANDS:
        raise BadMessage(f"unknown command {cmd!r:.60}", "cmd", kind="unknown_command")
    if session is None:
        if cmd not in SESSIONLESS:
            raise BadMessage(f"{cmd} needs a session", "session")
    elif not isinstance(session, str) or not 0 < len(session) <= MAX_ID_CHARS or not session.isprintable():
        # It becomes part of an environment and of a command line.
        raise BadMessage(f"expected a text of 1 to {MAX_ID_CHARS} printable characters", "session")
    return msg_id, cmd, session


def _check_limits(cmd: str, fields: Mapping[str, Any]) -> None:
    action = fields.get("action")
    if isinstance(action, str) and not 0 < len(action) <= MAX_ID_CHARS:
        raise BadMessage(f"expected a text of 1 to {MAX_ID_CHARS} characters", "action")
    if cmd == "hello" and fields["on_loss"] not in (None, "stop", "continue"):
        raise BadMessage(f"expected 'stop' or 'continue', got {fields['on_loss']!r:.40}", "on_loss")
    for name in ("lease", "seconds", "t", "tick_period"):
        value = fields.get(name)
        if isinstance(value, float) and not math.isfinite(value):
            raise BadMessage("expected a finite number", name)
