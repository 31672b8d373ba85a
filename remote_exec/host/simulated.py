"""A simulation that runs at the client, as a worker's actions see it: its time, and nothing else of it.

Time stands still until the client says what time it is. The simulation object itself cannot cross; an
action that asks for it is told so.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from scenario_execution.actions.base_action import ActionError
from scenario_execution.simulation import SimulationClock

NO_SIMULATION: Final = (
    "asks for the simulation object: that runs at the client and cannot be reached from a remote action. "
    "Run the action without remote(); of the simulation, only the time crosses (setup's `clock`)"
)


class ClientClock(SimulationClock):  # type: ignore[misc]
    """The simulation's clock at the client, as of the last `tick` or `execute`.

    Of the same type as the clock that a local action gets, so `dt` and isinstance() hold.
    """

    def set(self, seconds: float) -> None:
        self._time = seconds


def no_simulation(action: Any, kwargs: Mapping[str, Any]) -> Any:
    """In place of BaseAction.get_simulation, which would advise to pass --simulation."""
    raise ActionError(f"'{type(action).__name__}' {NO_SIMULATION}", action=action)


def explain(error: BaseException) -> str:
    """What setup's `kwargs['simulation']` raises, as a sentence; "" for anything else."""
    missed = isinstance(error, KeyError) and error.args == ("simulation",)
    return f"'simulation': the action {NO_SIMULATION}" if missed else ""
