"""scenario_execution's runner object, found among our callers, and what it has seen before us."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any, Final
from xml.sax.saxutils import escape

ABORTED: Final = "Aborted"
"""The failure message that its signal handler records."""


def find_execution() -> Any:
    """The ScenarioExecution object that calls us, or None. By name: run as a module it is of `__main__`."""
    frame = sys._getframe(1)
    while frame is not None:
        candidate = frame.f_locals.get("self")
        names = {cls.__name__ for cls in type(candidate).__mro__}
        if "ScenarioExecution" in names and hasattr(candidate, "process_results"):
            return candidate
        frame = frame.f_back  # type: ignore[assignment]
    return None


def was_aborted(execution: Any) -> bool:
    """Whether a signal was recorded already.

    Its handlers stand from its construction on, ours from the first setup(). It would go on: setup() resets
    the flag that they set.
    """
    results = getattr(execution, "results", None) or ()
    return any(getattr(result, "failure_message", "") == ABORTED for result in results)


def fail_last(execution: Any, left: Sequence[str], message: str = "") -> None:
    """The scenario that was run last has left `left` behind: it has failed, whatever it says.

    message: why, in test.xml; "": what `left` says. The runner writes it as it is, so it is escaped here.
    """
    results = getattr(execution, "results", None)
    if not left or not results:
        return
    result, text = results[-1], "\n".join(left)
    if result.result:
        message = escape(message or "; ".join(left), {'"': "&quot;"})
        result.result, result.failure_message = False, message
    result.failure_output = "\n\n".join(filter(None, (result.failure_output, text)))
