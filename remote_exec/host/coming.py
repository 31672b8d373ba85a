"""Who has found this server and is on the way: marks in the run directory. It does not end under them.

    coming.ID    written by the bring-up of client ID when it has found a server; removed when that client
                 says hello, at its own end, or here when it is too old: who came no further is not coming

Rule, on both sides: first show, then look. The bring-up writes its mark, then looks for endpoint.json again.
A server that is going to end, and a stop that asks before it acts, take endpoint.json away, then look for
marks; if there is one they put it back. So at least one of the two sees the other.
"""

from __future__ import annotations

import contextlib
import os
import re
import time
from pathlib import Path
from typing import Final

SECONDS: Final = 15.0
"""How long a mark counts: as long as a server waits for its first session."""
LOOK_AGAIN: Final = 0.5
PREFIX: Final = "coming."


def anybody(run_dir: str) -> bool:
    """Whether somebody is on the way. Removes marks that are too old."""
    found = False
    for mark in Path(run_dir).glob(f"{PREFIX}*"):
        with contextlib.suppress(OSError):
            # A clock that was stepped must not make a mark count for ever.
            if abs(time.time() - mark.stat().st_mtime) < SECONDS:
                found = True
            else:
                mark.unlink()
    return found


def arrived(run_dir: str | None, client: object) -> None:
    """That client has said hello."""
    if run_dir is not None and isinstance(client, str) and re.fullmatch(r"[0-9a-f]{1,64}", client):
        with contextlib.suppress(OSError):
            os.unlink(f"{run_dir}/{PREFIX}{client}")
