"""What a session is told before its first action: the fields of `configure`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from scenario_execution.scenario_execution_base import ScenarioExecutionConfig

from remote_exec.tree.lockstep import simulated_clock
from remote_exec.tree.outputs import somebody_looks


def configuration(root: Any, kwargs: Mapping[str, Any], period: float) -> dict[str, Any]:
    """What a local action would find in setup() (`kwargs`) and in the configuration. period: seconds."""

    def path(value: Any) -> str | None:
        return str(Path(value).absolute()) if value is not None else None

    return {
        "scenario_file_directory": path(ScenarioExecutionConfig().scenario_file_directory),
        # For a scenario file in the working directory the runner gives "": Path makes "." of it.
        "input_dir": path(kwargs.get("input_dir")),
        "output_dir": path(kwargs.get("output_dir")),
        "tick_period": period,
        "clock": "host" if simulated_clock(kwargs) is None else "sim",
        "debug": bool(getattr(kwargs.get("logger"), "log_debug", False)),
        "outputs": somebody_looks(root),
    }


def run_output_dir(execution: Any, kwargs: Mapping[str, Any]) -> str | None:
    """The output folder of the whole run, whose scenarios share their hosts; `kwargs`: those of setup()."""
    found = getattr(execution, "output_dir", None) or kwargs.get("output_dir")
    return str(Path(found).absolute()) if found else None
