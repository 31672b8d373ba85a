"""What hosts depend on: the runs of their stacks, on the launcher's event loop.

Rules:
- a host's own task waits until what it depends on is ready (`Run.before`), and the run waits for that task;
- what a run has started lives by a lease named after the client, unless it is to stay;
- at the end a run is unwound: dependants first, hosts when it is their turn.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from launcher.errors import Aborted
from launcher.model import HostSpec
from launcher.processes.engine import Engine
from launcher.processes.graph import Stack
from launcher.processes.run import Run

CloseHost = Callable[[str], Awaitable[list[str]]]
"""Ends the server of a host, if it is ours to end; texts of what is left."""


def hosts_of(stack: Stack | None) -> list[HostSpec]:
    items = stack.items.values() if stack is not None else ()
    return [item.spec for item in items if isinstance(item.spec, HostSpec)]


class Depends:
    """The runs of one launcher."""

    def __init__(self, engine: Callable[[], Engine] | None, client_id: str, *, keep: bool) -> None:
        """`keep`: what is started stays up."""
        self._engine = engine
        self._client_id = client_id
        self._keep = keep
        self._runs: list[Run] = []
        self._ending: list[Run] = []
        self._turns: dict[str, asyncio.Task[Any]] = {}
        """By name: the hosts whose turn comes when what they depend on is ready."""

    def begin(self, stack: Stack) -> Run:
        """`take_turns` must follow before anything else happens on the loop."""
        assert self._engine is not None
        seconds = min((host.lease for host in hosts_of(stack)), default=10.0)
        lease = None if self._keep else (self._client_id, seconds)
        run = self._engine().begin(stack, lease=lease, open_host=self._in_its_turn)
        self._runs.append(run)
        return run

    def take_turns(self, tasks: Mapping[str, asyncio.Task[Any]]) -> None:
        """The tasks that bring hosts up, by name."""
        self._turns.update(tasks)

    async def _in_its_turn(self, host: HostSpec) -> None:
        task = self._turns[host.name]
        try:
            await asyncio.shield(task)
        except asyncio.CancelledError:
            if task.cancelled():
                raise Aborted(f"{host.name}: given up") from None
            raise

    async def unwind(self, run: Run, close_host: CloseHost) -> list[str]:
        """End what a run has started; texts of what is left."""
        if run in self._runs:
            self._runs.remove(run)
        return await run.unwind(close_host=close_host)

    async def end(self, close_host: CloseHost, *, hurried: bool) -> list[str]:
        """Of the launcher: texts of what is left of all runs."""
        left: list[str] = []
        for run in self._runs[::-1]:
            if self._keep:
                run.leave()
                continue
            self._ending.append(run)
            if hurried:
                run.hurry()
            left += await self.unwind(run, close_host)
        return left

    def hurry(self) -> None:
        """What is being ended is killed at once."""
        for run in self._ending:
            run.hurry()
