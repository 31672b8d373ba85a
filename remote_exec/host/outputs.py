"""The registry of labelled processes in a worker, and their output on its way to the client.

A `process_log_check` on this host asks the registry as it would locally. One that runs at the client finds
an entry there too (see tree/outputs.py), which lives from the events of this module:

    process: one is registered      output: the lines since the last time, and whether there will be more

Rules: only what the registry's users see is read (`get_output_snapshot`, `is_output_complete`). Lines go in
portions, once per tick period, and before the status of the update in which they were seen.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from scenario_execution.actions.process_registry import ProcessRegistry

from remote_exec.codec import clean_text

PORTION: Final = 2000
"""Lines a process and period; more of them wait where they are."""
LINE_CHARS: Final = 4096


@dataclass
class _Watched:
    number: int
    process: Any
    sent: int = 0
    complete: bool = False


class StreamedRegistry(ProcessRegistry):  # type: ignore[misc]
    """emit: takes events; None: nobody at the client looks. period: seconds. Times are monotonic."""

    def __init__(self, emit: Callable[[Mapping[str, Any]], None] | None, period: float) -> None:
        super().__init__()
        self._emit = emit
        self._period = period
        self._next = 0.0
        self._watched: list[_Watched] = []

    def register(self, name: str, process: Any) -> None:
        super().register(name, process)
        if self._emit is not None and hasattr(process, "get_output_snapshot"):
            self._watched.append(_Watched(len(self._watched) + 1, process))
            self._emit({"ev": "process", "process": len(self._watched), "name": clean_text(name)})

    def next_due(self) -> float | None:
        """When `send_due` next has something to do."""
        return self._next if self._watched else None

    def send_due(self, now: float) -> None:
        """Send what is new, once per period."""
        if self._watched and now >= self._next:
            self._next = now + self._period
            for watched in self._watched:
                self._send(watched)

    def send_of(self, process: object) -> None:
        """Send what is new of one process, now."""
        for watched in self._watched:
            if watched.process is process:
                self._send(watched)

    def _send(self, watched: _Watched) -> None:
        assert self._emit is not None
        try:
            # In this order: what comes in between is in the lines, or makes it not complete yet.
            complete = bool(watched.process.is_output_complete())
            lines = watched.process.get_output_snapshot()
        except Exception:  # foreign code; the action itself will say what is wrong with it
            return
        new = [clean_text(line, LINE_CHARS) for line in lines[watched.sent : watched.sent + PORTION]]
        complete = complete and watched.sent + len(new) == len(lines)
        if new or complete != watched.complete:
            watched.sent += len(new)
            watched.complete = complete
            self._emit(
                {"ev": "output", "process": watched.number, "lines": new, "complete": complete},
            )
