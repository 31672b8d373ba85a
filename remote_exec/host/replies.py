"""Replies as maps: how an error of this package goes over the wire."""

from __future__ import annotations

from typing import Any

from remote_exec.errors import BadMessage, IllegalTransition, RemoteError, RemoteExecError


def error_map(kind: str, message: str, where: str = "", traceback: str = "") -> dict[str, str]:
    """The `error` of a reply; `kind` is one of `messages.ERROR_KINDS`."""
    return {"kind": kind, "message": message, "where": where, "traceback": traceback}


def error_reply(error: RemoteExecError) -> dict[str, Any]:
    """The reply that carries `error`."""
    if isinstance(error, RemoteError):
        return {"ok": False, "error": error_map(error.kind, str(error), error.where, error.traceback)}
    if isinstance(error, BadMessage):
        return {"ok": False, "error": error_map(error.kind, str(error), error.field)}
    kind = "wrong_state" if isinstance(error, IllegalTransition) else "internal"
    return {"ok": False, "error": error_map(kind, str(error))}
