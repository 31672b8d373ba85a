"""What a plugin raises, as it goes over the wire."""

from __future__ import annotations

import traceback

from remote_exec.codec import clean_text
from remote_exec.errors import RemoteError
from remote_exec.host.simulated import explain
from remote_exec.host.standins import ModelStandIn


def translate(error: BaseException, model: ModelStandIn) -> RemoteError:
    """A plugin's exception as it goes over the wire."""
    message = getattr(error, "msg", None)
    said = message if isinstance(message, str) and message else error
    text = clean_text(explain(error) or said, 4096)
    where = model.where
    ctx = getattr(error, "osc_ctx", None)
    if isinstance(ctx, tuple) and len(ctx) == 4 and ctx[3]:
        where = f"{ctx[3]}:{ctx[0]}:{ctx[1]}"
    trace = clean_text("".join(traceback.format_exception(type(error), error, error.__traceback__)), 32768)
    return RemoteError("plugin_error", f"{type(error).__name__}: {text}", where, trace)
