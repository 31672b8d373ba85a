"""The way back of a run, machine by machine: what it has started is stopped, or left to who needs it, too.

Rules:
- only what still runs by the run's own token is stopped;
- what cannot be verified is said, with who ends it then and how to look;
- who is in a hurry does not wait for a gentle stop that is under way.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import Protocol

from launcher.command import quote
from launcher.errors import StageError
from launcher.model import State
from launcher.processes.entry import Entry, Wants
from launcher.processes.model import Change, Key
from launcher.processes.places import Place
from launcher.processes.wrapping import BEHIND_S, ENDS_S

GRACE_S = 5.0
"""Seconds between the signals of a stop."""
HURRY_S = 1.0
ANSWERS_S = 5.0
"""A machine that has said nothing for so long, whatever it is asked, is not waited for."""
_NO_ANSWER = "no answer in time"
_SENT_S = 15.0
"""Seconds that a machine gets to take a delivery that is under way when the run is given up."""
_VERIFIED_S = 20.0
"""Seconds, over those of the signals, that a machine gets to stop a round of processes."""


class Tell(Protocol):
    def __call__(self, name: str, state: State, reason: str, level: str = "info") -> None: ...


class Unwinding:
    """Of one run."""

    def __init__(
        self,
        run: Wants,
        lease: tuple[str, float] | None,
        tell: Tell,
        changed: Callable[[Place, Change], None],
    ) -> None:
        """tell: of an event. changed: hears what became of a process."""
        self._run = run
        self._lease = lease
        self._tell = tell
        self._changed = changed
        self._hurried = asyncio.Event()
        self._silent: set[Place] = set()
        """Machines that have not answered: nobody waits for them again."""

    def hurry(self) -> None:
        """What is left is killed at once."""
        self._hurried.set()

    async def group(self, place: Place, entries: Sequence[Entry]) -> list[str]:
        """Those of one round on one machine."""
        stopped: list[Entry] = []
        for entry in entries:
            others = [run for run in entry.runs if run is not self._run]
            if others:
                entry.owner = others[0]  # who has joined goes on with it
            else:
                stopped.append(entry)
                self._tell(entry.name, State.STOPPING, "")
        if not stopped:
            return []
        before = {entry.name: entry.state for entry in stopped}
        if place.away or place in self._silent:
            reason = "its connection is lost" if place.away else _NO_ANSWER
            return [self._unverified(entry, reason) for entry in stopped]
        try:
            done = await self._in_time(place, stopped)
        except (StageError, asyncio.TimeoutError) as error:
            reason = error.cause if isinstance(error, StageError) else _NO_ANSWER
            return [self._unverified(entry, reason) for entry in stopped]
        texts: list[str] = []
        for entry in stopped:
            change = done.get(entry.launch.key)
            left = change.left if change is not None else ()
            texts += [f"{entry.name}: still there: {line}" for line in left]
            if change is None:
                continue
            if change.state is State.READY:
                change = replace(change, state=before[entry.name])
                self._tell(entry.name, change.state, change.reason, "warning")
            else:
                self._tell(entry.name, State.STOPPED, "by KILL" if change.forced else "")
            self._changed(place, change)
        return texts

    async def give_back(self, entries: Iterable[Entry]) -> None:
        """What ran already and was used: who started it may stop it again."""
        groups: dict[Place, list[Entry]] = {}
        for entry in entries:
            if entry.owner is self._run and entry.sent and entry.alive and entry.runs == [self._run]:
                groups.setdefault(entry.place, []).append(entry)
        for place, used in groups.items():
            if not place.away and place not in self._silent:
                with contextlib.suppress(StageError, asyncio.TimeoutError):
                    await self._in_time(place, used)

    async def delivered(self, place: Place, name: str, sending: asyncio.Future[None]) -> None:
        """What is on its way there has come, or will not: else it would come behind what is stopped."""
        silence = asyncio.ensure_future(self._silence(place, name))
        await asyncio.wait([sending, silence], timeout=_SENT_S, return_when=asyncio.FIRST_COMPLETED)
        silence.cancel()

    async def _silence(self, place: Place, name: str) -> None:
        """Returns when the machine does not answer any more. Says so in the name of a process."""
        while True:
            asking = asyncio.ensure_future(place.answers(ANSWERS_S))
            try:
                await asyncio.wait([asking], timeout=1.0)
                if not asking.done():
                    text = f"{place.name} does not answer; waiting for it, {ANSWERS_S:g} s at most"
                    self._tell(name, State.STOPPING, text, "warning")
                if not await asking:
                    self._silent.add(place)
                    return
            finally:
                asking.cancel()
            await asyncio.sleep(1.0)

    async def _in_time(self, place: Place, entries: Sequence[Entry]) -> dict[Key, Change]:
        """Raises TimeoutError as soon as the machine does not answer any more."""
        work = asyncio.ensure_future(self._stop(place, entries))
        silence = asyncio.ensure_future(self._silence(place, entries[0].name))
        try:
            await asyncio.wait([work, silence], return_when=asyncio.FIRST_COMPLETED)
            if not work.done():
                raise asyncio.TimeoutError
            return work.result()
        finally:
            work.cancel()
            silence.cancel()

    async def _stop(self, place: Place, entries: Sequence[Entry]) -> dict[Key, Change]:
        keys = [entry.launch.key for entry in entries]
        tokens = {entry.launch.key: entry.launch.token for entry in entries}
        quits = [entry.launch.key for entry in entries if entry.launch.spec.force_sigquit]

        async def stop(force: bool) -> dict[Key, Change]:
            grace = HURRY_S if self._hurried.is_set() else GRACE_S
            work = place.stop(keys, force=force, quit=quits, grace=grace, tokens=tokens)
            return await asyncio.wait_for(work, 3 * grace + _VERIFIED_S)

        first = asyncio.ensure_future(stop(self._hurried.is_set()))
        hurry = asyncio.ensure_future(self._hurried.wait())
        try:
            await asyncio.wait([first, hurry], return_when=asyncio.FIRST_COMPLETED)
            if not first.done():
                with contextlib.suppress(StageError, asyncio.TimeoutError):
                    await stop(True)
            return await first
        finally:
            hurry.cancel()
            first.cancel()

    def _unverified(self, entry: Entry, reason: str) -> str:
        self._tell(entry.name, State.UNREACHABLE, reason, "warning")
        by_itself = ""
        if self._lease is not None:
            behind = BEHIND_S if entry.launch.behind else 0
            by_itself = f"; its machine ends it by itself within {self._lease[1] + behind + ENDS_S:g} s"
        word = quote([entry.name])
        return (
            f"{entry.name}: its end is not verified ({reason}){by_itself}. "
            f"To check: se-remote status {word}; to end it: se-remote kill {word}"
        )
