"""The machines of an engine: a site for each, opened when it is first needed and again when it was lost.

Rules:
- what runs is never started twice: after a loss each launch that counts as alive is given to the new site
  with the token it had, and the machine only tells what became of it;
- a machine that cannot be reached the first time is an error at once; one that was lost is tried for
  `patience` seconds, and longer never: who waits for it is told why;
- leases go on at the new site; who is away for longer than one finds the processes ended, by their machine.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from typing import Protocol

from launcher.errors import LauncherError, NotTrusted, Unreachable
from launcher.machines.runner import Runner
from launcher.processes.model import Change, Key, Launch

PATIENCE_S = 20.0
"""Seconds for which a lost machine without leases is tried again."""
_RELEASE_S = 5.0
_PAUSES = (0.1, 0.3, 1.0, 2.0)
"""Seconds between tries; the last one goes on."""


class SitePort(Protocol):
    """What is needed of launcher.processes.site.Site."""

    async def start(self, launches: Sequence[Launch]) -> None: ...

    async def stop(
        self,
        keys: Sequence[Key],
        *,
        force: bool = False,
        quit: Collection[Key] = (),
        grace: float = 5.0,
        tokens: Mapping[Key, str] = ...,
    ) -> dict[Key, Change]: ...

    async def lease(self, name: str, seconds: float) -> None: ...

    async def release(self, name: str) -> None: ...

    async def ping(self) -> None: ...

    async def close(self) -> None: ...


class OpenSite(Protocol):
    async def __call__(
        self,
        name: str,
        runner: Runner,
        *,
        on_change: Callable[[Change], None],
        on_lost: Callable[[str], None],
        base: str = "",
    ) -> SitePort: ...


class Hears(Protocol):
    """Who is told of what happens at a place; on the loop."""

    def changed(self, place: Place, change: Change) -> None: ...

    def lost(self, place: Place, reason: str) -> None:
        """The connection is gone; it is tried again."""

    def back(self, place: Place) -> None: ...

    def gave_up(self, place: Place, error: LauncherError) -> None: ...


class Place:
    """One machine with its processes."""

    def __init__(
        self,
        name: str,
        reach: Callable[[], Awaitable[Runner]],
        open_site: OpenSite,
        hears: Hears,
        base: str,
        patience: float = PATIENCE_S,
    ) -> None:
        """name: as errors call the machine."""
        self.name = name
        self._reach = reach
        self._open_site = open_site
        self._hears = hears
        self._base = base
        self._patience = patience
        self._site: asyncio.Task[SitePort] | None = None
        self._back: asyncio.Task[None] | None = None
        self._generation = 0
        self._leases: dict[str, float] = {}
        self._alive: dict[Key, Launch] = {}
        self._closed = False

    @property
    def away(self) -> bool:
        """It was reached, and is not just now."""
        return self._back is not None

    async def reached(self) -> None:
        """Raises StageError when it cannot be."""
        await self._ready()

    async def start(self, launches: Sequence[Launch]) -> None:
        """Have them run; what becomes of them is heard. Raises StageError when the machine is not reached."""
        site = await self._ready()
        generation = self._generation
        for launch in launches:
            self._alive[launch.key] = launch
        try:
            await site.start(launches)
        except Unreachable as error:
            self._lost(generation, error.cause)  # what comes back begins with them again
        except BaseException:
            for launch in launches:
                self.over(launch.key)
            raise

    def over(self, key: Key) -> None:
        """It has ended, or is not ours to know about: a new site need not ask for it."""
        self._alive.pop(key, None)

    async def stop(
        self,
        keys: Sequence[Key],
        *,
        force: bool = False,
        quit: Collection[Key] = (),
        grace: float = 5.0,
        tokens: Mapping[Key, str] | None = None,
    ) -> dict[Key, Change]:
        """See Site.stop; once more at a new site when the first was lost meanwhile. Raises StageError."""
        for key in keys:
            self.over(key)
        for last in (False, True):
            site = await self._ready()
            generation = self._generation
            try:
                return await site.stop(keys, force=force, quit=quit, grace=grace, tokens=tokens or {})
            except Unreachable as error:
                if last:
                    raise
                self._lost(generation, error.cause, needed=True)
        raise AssertionError

    async def lease(self, name: str, seconds: float) -> None:
        """From now on what runs by this lease lives. Raises StageError."""
        if self._leases.get(name) == seconds:
            return
        site = await self._ready()
        self._leases[name] = seconds
        await site.lease(name, seconds)

    async def release(self, name: str) -> None:
        """Never raises: where it cannot be told, the lease runs out."""
        if self._leases.pop(name, None) is None or self._site is None or self._back is not None:
            return
        with contextlib.suppress(LauncherError, asyncio.TimeoutError):
            await asyncio.wait_for((await self._site).release(name), _RELEASE_S)

    async def answers(self, seconds: float) -> bool:
        """Whether the machine says something within so many seconds, also one that was lost."""
        try:
            await asyncio.wait_for(self._answered(), seconds)
        except (LauncherError, asyncio.TimeoutError):
            return False
        return True

    async def _answered(self) -> None:
        await (await self._ready()).ping()

    async def close(self) -> None:
        """Ends nothing that runs. Never raises."""
        self._closed = True
        self._generation += 1
        for task in (self._back, self._site):
            if task is not None and not task.done():
                task.cancel()
                await asyncio.wait([task])
        if self._site is not None and not self._site.cancelled() and self._site.exception() is None:
            with contextlib.suppress(LauncherError, asyncio.TimeoutError):
                await self._site.result().close()
        self._site = None

    async def _ready(self) -> SitePort:
        """The site, opened or on its way back. Raises StageError."""
        if self._back is not None:
            await asyncio.shield(self._back)
        site = self._site
        if site is None or (site.done() and (site.cancelled() or site.exception() is not None)):
            self._generation += 1
            site = self._site = asyncio.ensure_future(self._open(self._generation))
        return await asyncio.shield(site)

    async def _open(self, generation: int) -> SitePort:
        runner = await self._reach()

        def changed(change: Change) -> None:
            if generation == self._generation:
                self._hears.changed(self, change)

        return await self._open_site(
            self.name,
            runner,
            on_change=changed,
            on_lost=lambda why: self._lost(generation, why),
            base=self._base,
        )

    def _lost(self, generation: int, reason: str, *, needed: bool = False) -> None:
        if self._closed or generation != self._generation or self._back is not None:
            return
        site, self._site = self._site, None
        self._generation += 1
        if site is not None and site.done() and not site.cancelled() and site.exception() is None:
            asyncio.ensure_future(_closed(site.result()))  # noqa: RUF006 (it ends by itself)
        if self._alive or self._leases or needed:
            if self._alive:
                self._hears.lost(self, reason)
            self._back = asyncio.ensure_future(self._come_back(reason))

    async def _come_back(self, reason: str) -> None:
        """Never raises StageError: who waits finds the site gone, and asks for a new one."""
        loop = asyncio.get_running_loop()
        until = loop.time() + max([self._patience, *self._leases.values()])
        pauses = list(_PAUSES)
        try:
            while True:
                try:
                    left = max(0.1, until - loop.time())
                    await asyncio.wait_for(self._again(), left)
                    break
                except (LauncherError, asyncio.TimeoutError) as error:
                    why = (
                        error if isinstance(error, LauncherError) else LauncherError(f"{self.name}: {reason}")
                    )
                    if isinstance(error, NotTrusted) or loop.time() >= until:
                        self._give_up(why)
                        return
                await asyncio.sleep(
                    min(pauses.pop(0) if len(pauses) > 1 else pauses[0], max(0.0, until - loop.time()))
                )
        finally:
            self._back = None
        if self._alive:
            self._hears.back(self)

    async def _again(self) -> None:
        self._generation += 1
        site = await self._open(self._generation)
        try:
            for name, seconds in self._leases.items():
                await site.lease(name, seconds)
            if self._alive:
                await site.start(list(self._alive.values()))
        except BaseException:
            await _closed(site)
            raise
        self._site = asyncio.ensure_future(_given(site))

    def _give_up(self, error: LauncherError) -> None:
        self._alive.clear()
        self._leases.clear()
        self._hears.gave_up(self, error)


async def _closed(site: SitePort) -> None:
    with contextlib.suppress(LauncherError, asyncio.TimeoutError):
        await site.close()


async def _given(site: SitePort) -> SitePort:
    return site
