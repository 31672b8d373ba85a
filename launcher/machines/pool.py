"""The machines of one client: a connection per machine and SSH options, made once and shared.

Rules:
- many hosts on one machine connect once; a connection that died is made again when it is asked for;
- one that somebody doubts is replaced by a new one for all; it is closed when nothing uses it any more;
- what was typed once is remembered for this run, in memory; to come back nothing is asked again;
- a machine that cannot be reached is an error for each host on it; nothing runs on this one instead;
- jumps go through the same pool: an inventory host's name means its machine, else it is `user@host:port`.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from launcher.errors import StageError, Unreachable
from launcher.machines.local import LocalRunner
from launcher.machines.runner import Asker, Limits, Runner
from launcher.model import Machine, SshOptions, Stage

if TYPE_CHECKING:
    from launcher.machines.ssh import SshRunner

_Key = tuple[Machine, SshOptions]
_Slot = tuple[Machine, SshOptions, int]
"""A connection to a machine, and which of several."""

FindMachine = Callable[[str], "tuple[Machine, SshOptions] | None"]
"""An inventory host's machine by its name; None when there is no such host."""


@dataclass(frozen=True)
class _Instead:
    """What a connection is to take the place of, and how long that may take."""

    than: Runner | None
    deep: bool
    limits: Limits

    def gate(self) -> _Instead:
        """The same of what is jumped through."""
        through = getattr(self.than, "through", None)
        return _Instead(through if self.deep else None, self.deep, self.limits)


class Machines:
    """Makes, shares and closes runners. Lives on one event loop."""

    def __init__(
        self,
        environ: Mapping[str, str],
        *,
        ask: Asker | None,
        keepalive: float,
        find: FindMachine,
        again: Callable[[str, str], None] = lambda name, text: None,
    ) -> None:
        """`again`: hears of a host, by its name, why a first login there is tried once more."""
        self._environ = environ
        self._ask = ask
        self._answers: dict[tuple[_Key, str], str] = {}
        """What was typed, by machine and question: two behind different gates may ask the same."""
        self._reached: set[_Key] = set()
        self._keepalive = keepalive
        self._find = find
        self._again = again
        self._lock = asyncio.Lock()
        self._connecting: dict[_Slot, asyncio.Task[SshRunner]] = {}
        self._jumping: dict[_Key, _Key] = {}
        """Which connection waits for which one, to jump through it."""
        self._made: list[asyncio.Task[SshRunner]] = []
        """All that were ever made, dead ones too: to close them."""

    async def runner(self, name: str, machine: Machine, options: SshOptions, lane: int = 0) -> Runner:
        """A runner for `machine`; errors call the host `name`.

        `lane`: of several connections to it, for whoever needs more commands at once than one carries.
        """
        if machine.is_local:
            return LocalRunner(self._environ)
        return await self._ssh(name, machine, options, lane=lane)

    async def with_room(self, name: str, machine: Machine, options: SshOptions) -> Runner:
        """As `runner`, with room for the tunnel of a server in a container there."""
        if machine.is_local:
            return LocalRunner(self._environ)
        runner = await self._ssh(name, machine, options)
        while not runner.book():
            runner = await self._ssh(name, machine, options, _Instead(runner, False, Limits()))
        return runner

    async def another(
        self, name: str, machine: Machine, options: SshOptions, *, than: Runner, deep: bool, limits: Limits
    ) -> Runner:
        """A runner that is not `than`, which does not work: what has taken its place meanwhile, or a new one.

        deep: what it jumps through is doubted, too. Raises as `runner` does.
        """
        if machine.is_local:
            return than
        found = await self._ssh(name, machine, options, _Instead(than, deep, limits))
        gate: Runner | None = getattr(than, "through", None)
        if deep and gate is not None and gate is not found.through:
            gate.retire()
        return found

    async def close(self) -> None:
        """Close all connections; those that are being made are given up."""
        tasks, self._made = self._made, []
        self._connecting.clear()
        await asyncio.gather(*(self._close_one(task) for task in tasks))

    @staticmethod
    async def _close_one(task: asyncio.Task[SshRunner]) -> None:
        while not task.done():
            task.cancel()  # again and again: before Python 3.12 asyncio.wait_for may swallow it
            await asyncio.wait([task], timeout=0.2)
        with contextlib.suppress(asyncio.CancelledError, Exception):
            await task.result().close()

    async def _ssh(
        self,
        name: str,
        machine: Machine,
        options: SshOptions,
        instead: _Instead | None = None,
        lane: int = 0,
    ) -> SshRunner:
        key = (machine, options, lane)
        task = self._connecting.get(key)
        if task is None or (task.done() and not self._usable(task, instead)):
            task = asyncio.ensure_future(self._connect(name, machine, options, instead))
            self._connecting[key] = task
            self._made = [*filter(_worth_closing, self._made), task]
        try:
            # shielded: one host that gives up must not take the connection from the others
            return await asyncio.shield(task)
        except StageError as error:
            if error.host == name:
                raise
            raise type(error)(name, error.stage, error.cause, error.next_step, error.tail) from error

    @staticmethod
    def _usable(task: asyncio.Task[SshRunner], instead: _Instead | None) -> bool:
        if task.cancelled() or task.exception() is not None:
            return False
        return task.result().alive and (instead is None or task.result() is not instead.than)

    async def _connect(
        self, name: str, machine: Machine, options: SshOptions, instead: _Instead | None
    ) -> SshRunner:
        from launcher.machines import ssh  # costs 0.2 s

        async def jump(text: str) -> SshRunner:
            return await self._jump(name, text, (machine, options), instead)

        asking = partial(
            self._recall if (machine, options) in self._reached else self._ask_once, (machine, options)
        )
        runner = await ssh.connect(
            ssh.Target(name, machine, options),
            environ=self._environ, ask=asking if self._ask is not None else None, lock=self._lock,
            keepalive=self._keepalive, jump=jump, limits=instead.limits if instead else Limits(),
            again=partial(self._again, name) if instead is None else None,
        )  # fmt: skip
        self._reached.add((machine, options))
        return runner

    def _ask_once(self, key: _Key, prompt: str, *, secret: bool) -> str | None:
        """In a thread of its own."""
        assert self._ask is not None
        answer = self._ask(prompt, secret=secret)
        if answer is not None:
            self._answers[key, prompt] = answer
        return answer

    def _recall(self, key: _Key, prompt: str, *, secret: bool) -> str | None:
        return self._answers.get((key, prompt))

    async def _jump(self, name: str, text: str, waiting: _Key, instead: _Instead | None) -> SshRunner:
        """The connection to jump through. ProxyJump may list several: the last one is next to the target."""
        *before, last = [part.strip() for part in text.split(",")]
        found = self._find(last)
        machine, options = found if found is not None else (parse_machine(last), SshOptions())
        if before:
            options = SshOptions(options.identity, ",".join(before), options.known_hosts)
        if machine.is_local:
            raise Unreachable(name, Stage.CONNECT, f"cannot jump through {last}: it is this machine")
        self._jumping[waiting] = (machine, options)
        try:
            self._refuse_circle(name, waiting)
            return await self._ssh(name, machine, options, instead.gate() if instead is not None else None)
        finally:
            del self._jumping[waiting]

    def _refuse_circle(self, name: str, waiting: _Key) -> None:
        """Connections that wait for each other would do so for ever."""
        step = self._jumping.get(waiting)
        through = []
        while step is not None:
            through.append(str(step[0]))
            if step == waiting:
                cause = f"its jumps go round in a circle: {', '.join(through)}"
                raise Unreachable(name, Stage.CONNECT, cause, "look at `ssh.jump` and at ProxyJump")
            step = self._jumping.get(step)


def _worth_closing(task: asyncio.Task[SshRunner]) -> bool:
    return not task.done() or not (task.cancelled() or task.exception())


def parse_machine(text: str) -> Machine:
    """``[user@]host[:port]``, an IPv6 address in brackets when a port follows."""
    user, at, rest = text.rpartition("@")
    match = re.fullmatch(r"\[([^]]+)\](?::(\d+))?|([^:]+)(?::(\d+))?", rest)
    if match is None:
        return Machine(rest, user if at else None)
    port = match.group(2) or match.group(4)
    return Machine(match.group(1) or match.group(3), user if at else None, int(port) if port else None)
