"""Labelled processes of other machines in the scenario's own registry.

A `process_log_check` that runs here asks the registry's entry for lines and whether there will be more.
For a process that runs on a host the entry is a RemoteProcess, fed by the host's events (host/outputs.py).
Everything in the tree's thread.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from scenario_execution.actions.base_action import BaseAction
from scenario_execution.actions.process_log_check import ProcessLogCheck


class RemoteProcess:
    """What a process on a host has printed so far."""

    def __init__(self) -> None:
        self._lines: list[str] = []
        self._complete = False

    def get_output_snapshot(self) -> list[str]:
        return list(self._lines)

    def is_output_complete(self) -> bool:
        return self._complete

    def took(self, lines: list[Any], complete: bool) -> None:
        self._lines += [str(line) for line in lines]
        self._complete = complete

    def lost(self) -> None:
        self._complete = True


class RemoteProcesses:
    """Those of one session. registry: the scenario's, or None."""

    def __init__(self, registry: Any) -> None:
        self._registry = registry
        self._processes: dict[int, RemoteProcess] = {}

    def took(self, event: str, fields: Mapping[str, Any]) -> None:
        """An event `process` or `output`."""
        number = fields["process"]
        if event == "process":
            process = self._processes[number] = RemoteProcess()
            if self._registry is not None:
                self._registry.register(fields["name"], process)
        elif number in self._processes:
            self._processes[number].took(fields["lines"], fields["complete"])

    def lost(self) -> None:
        """Nothing comes any more."""
        for process in self._processes.values():
            process.lost()


def somebody_looks(root: Any) -> bool:
    """Whether an action of the tree that runs here may look for a process's output: one that does so by its
    trade, or one of which nobody here knows what it does."""
    return any(
        isinstance(node, ProcessLogCheck)
        or (isinstance(node, BaseAction) and not type(node).__module__.startswith("scenario_execution."))
        for node in root.iterate()
    )
