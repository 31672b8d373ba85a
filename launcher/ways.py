"""The way to one server's socket on another machine: an SSH connection and what is forwarded over it, mended
when it breaks.

| what happens                                  | what is done                                               |
|-----------------------------------------------|------------------------------------------------------------|
| the SSH connection is lost                    | the owner hears `cut`; a new one, again and again          |
| the owner doubts it: its tunnel was closed    | is somebody there? then a new tunnel, over the same one    |
| the owner doubts it: nothing is heard         | a new one beside it; the old one stays until that works    |
| the owner hears something after all           | what was begun because of the silence is given up          |
| a new tunnel stands, somebody listens there   | the owner hears `mended` with that; the old one ends       |
| nobody listens; we are not let in any more    | the owner hears `gone`, at once                            |
| no success for the host's lease, and no owner | `gone`: the session there has ended                        |

Rules:
- Everything but what says otherwise happens on the launcher's loop; who watches is called there and must not
  block.
- One attempt at a time, with short limits: a connection that is begun while nothing goes through would wait
  for the kernel's repeats, seconds after the network is back.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any, Final, Protocol

from launcher.errors import LauncherError, NobodyListens, NotTrusted, StageError
from launcher.machines.runner import Limits, Runner, remove_path
from launcher.model import HostSpec, Stage

PAUSE_S, PAUSE_MAX_S = 0.1, 1.0
CHECK_S: Final = 2.0
"""How long an answer may take over a connection that stands."""

Renew = Callable[[HostSpec, Runner, bool, Limits], Awaitable[Runner]]
"""A runner of the host other than this one; True: what it jumps through is doubted, too."""


class Watcher(Protocol):
    """Who is told what becomes of a way, on the launcher's loop; must not block."""

    def cut(self, reason: str) -> None: ...
    def mended(self, endpoint: str) -> None: ...
    def gone(self, reason: str) -> None: ...


class Way:
    """See the module's text. Made on the loop's thread."""

    def __init__(
        self, host: HostSpec, remote: str, runner: Runner, path: str, renew: Renew, watcher: Watcher
    ) -> None:
        """`path`: what `runner` forwards to `remote`. `watcher`: the launcher's own, beside the owner's."""
        self.endpoint = f"ipc://{path}"
        self.trouble = ""
        """Why it is not mended yet. For any thread to read."""
        self.broken = False
        self._host = host
        self._remote = remote
        self._runner = runner
        self._path = path
        self._renew = renew
        self._own = watcher
        self._owner: Watcher | None = None
        self._first = self.endpoint
        self._failed: Runner | None = None
        """What does not work, as far as is known."""
        self._silent = False
        """It is only being mended because nothing was heard."""
        self._over = ""
        self._stopped = False
        self._loop = asyncio.get_running_loop()
        self._mending: asyncio.Task[None] | None = None
        self._settled = asyncio.Event()
        self._settled.set()
        runner.on_lost(partial(self._lost, runner))
        self._checking = asyncio.ensure_future(self._check())

    # --- the owner's side: any thread

    def watch(self, watcher: Watcher) -> None:
        """Tell `watcher` from now on, and at once what has happened so far. It decides when to give up."""
        self._call(partial(self._watch, watcher))

    def doubt(self, silent: bool) -> None:
        """It does not work as seen from here. silent: nothing is heard; else the tunnel was closed."""
        self._call(partial(self._doubt, silent))

    def fine(self) -> None:
        """Something was heard after all."""
        self._call(self._fine)

    def connected(self, endpoint: str) -> None:
        """Somebody is connected there: a path is needed no longer, and who is killed leaves no file."""
        remove_path(endpoint.removeprefix("ipc://"))

    def stop(self) -> None:
        """Mend it no longer."""
        self._call(self._stop)

    def _call(self, function: Callable[[], None]) -> None:
        with contextlib.suppress(RuntimeError):  # the loop is closed: the launcher is
            self._loop.call_soon_threadsafe(function)

    # --- on the loop

    async def settled(self, seconds: float) -> bool:
        """Wait until it is mended, also one that was given up; whether it is usable then."""
        if self.broken and self._mending is None:
            self._stopped = False
            self._mend()
        with contextlib.suppress(asyncio.TimeoutError):
            await asyncio.wait_for(self._settled.wait(), seconds)
        return not self.broken

    @property
    def runner(self) -> Runner:
        """What it leads through now."""
        return self._runner

    def _watch(self, watcher: Watcher) -> None:
        self._owner = watcher
        if self._over:
            watcher.gone(self._over)
        elif self.broken and not self._silent:
            watcher.cut(self.trouble)
        elif self.endpoint != self._first:
            watcher.mended(self.endpoint)

    def _doubt(self, silent: bool) -> None:
        if silent and self._mending is None:
            self._failed, self._silent = self._runner, True
        self._mend()

    def _fine(self) -> None:
        if self._silent and self._mending is not None:
            self._mending.cancel()
            self._done()

    def _stop(self) -> None:
        self._stopped = True
        self._checking.cancel()
        if self._mending is not None:
            self._mending.cancel()
            self._mending = None

    def _lost(self, runner: Runner, reason: str) -> None:
        if runner is not self._runner or self._stopped or self._over:
            return
        self._failed, self._silent, self.trouble = runner, False, reason
        self.broken = True
        self._tell("cut", reason)
        self._mend()

    async def _check(self) -> None:
        """A local listener accepts whatever happens behind it: find out what happens behind it."""
        try:
            await self._runner.check(self._remote)
        except NobodyListens as error:
            why = "has the server ended, or is AllowStreamLocalForwarding off in its sshd_config?"
            self._end(f"{error.cause} ({why})")
        except LauncherError:
            pass  # the connection is gone: _lost says so

    def _mend(self) -> None:
        if self._mending is None and not self._stopped and not self._over:
            self.broken = True
            self._settled.clear()
            self._mending = asyncio.ensure_future(self._attempts())

    async def _attempts(self) -> None:
        began, pause, number = self._loop.time(), PAUSE_S, 0
        while self._current():
            try:
                await self._attempt(number)
                return
            except asyncio.TimeoutError:
                self.trouble = f"no answer from {self._host.machine}"
            except LauncherError as error:
                self.trouble = error.cause if isinstance(error, StageError) else str(error)
                if _final(error):
                    self._end(_told(error, self.trouble))
                    return
            if self._owner is None and self._loop.time() - began > self._host.lease:
                self._end(f"not reached again within {self._host.lease:g} s: {self.trouble}")
                return
            await asyncio.sleep(pause)
            pause, number = min(2 * pause, PAUSE_MAX_S), number + 1

    def _current(self) -> bool:
        """Whether this task is still to mend it. (A cancel may be swallowed by asyncio.wait_for.)"""
        return asyncio.current_task() is self._mending

    async def _attempt(self, number: int) -> None:
        runner, limits = self._runner, limits_of(number, self._runner.login_took)
        if self._failed is not None:
            deep = self._silent or number > 0
            both = limits.dial + limits.login
            runner = await asyncio.wait_for(self._renew(self._host, self._failed, deep, limits), both)
        try:
            await asyncio.wait_for(runner.check(self._remote), CHECK_S)
            path = await runner.forward(self._remote)
        except (LauncherError, asyncio.TimeoutError):
            self._failed = runner
            raise
        if self._current():
            self._take(runner, path)
        else:
            runner.drop(path)

    def _take(self, runner: Runner, path: str) -> None:
        old, old_path = self._runner, self._path
        self._runner, self._path, self.endpoint = runner, path, f"ipc://{path}"
        self._done()
        self._tell("mended", self.endpoint)
        old.drop(old_path)
        if old is not runner:
            old.retire()
            runner.on_lost(partial(self._lost, runner))

    def _done(self) -> None:
        self._mending = self._failed = None
        self.broken = self._silent = False
        self.trouble = ""
        self._settled.set()

    def _end(self, reason: str) -> None:
        if not self._over:
            self._over, self._mending, self.broken = reason, None, False
            self._settled.set()
            self._tell("gone", reason)

    def _tell(self, what: str, value: Any) -> None:
        for watcher in (self._own, self._owner):
            if watcher is not None:
                getattr(watcher, what)(value)


def limits_of(number: int, took: float) -> Limits:
    """Of the attempt with that number, from 0: short, then longer. took: to log in, last time. Seconds."""
    login = min(max(1.0, 3 * took) * 1.25**number, 10.0)
    return Limits(dial=min(1.0 + 0.5 * number, 3.0), login=login, asking=login)


def _told(error: LauncherError, trouble: str) -> str:
    if isinstance(error, NobodyListens):
        return f"the server has ended, nobody listens there any more: {trouble}"
    return f"the connection was lost and cannot be made again: {trouble}"


def _final(error: LauncherError) -> bool:
    """Whether trying again is of no use: nobody is there, or we are not let in."""
    denied = isinstance(error, StageError) and error.stage is Stage.AUTHENTICATE
    return denied or isinstance(error, NobodyListens | NotTrusted)
