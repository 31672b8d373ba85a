"""Servers on machines that were reached: bring up, stop, status, logs. Async; `launcher.lease` is the facade.

Each is one exec of one script (`launcher.scripts`) and one reply, read by `launcher.plan`. Rules:
- a running server that fits is used; one that does not fit is replaced when nobody uses it, else it is
  a Conflict that names who does;
- a bring-up that is cancelled ends what it has started: `stop` with the same token finds exactly that;
- nothing here knows what SSH is, and nothing runs anywhere but through the Runner it is given.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import secrets
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

from launcher import keeping, plan, scripts
from launcher.errors import LauncherError, StageError, StartFailed, Unreachable
from launcher.machines.runner import Runner
from launcher.model import Completed, HostSpec, Stage
from launcher.plan import Found, HostStatus, Reply, Stopped

_SLACK = 15.0
"""Seconds that a script may take beyond the time it was given itself: a slow link, a busy machine."""
_SAFE = 35.0
"""Seconds that a host's `on_stop` may take, with what has to be ended before it."""
_REPLACE_ROUNDS = 3

Note = Callable[[Stage, str], None]
"""Hears what a bring-up is at: the stage it enters, and a remark."""


@dataclass(frozen=True)
class Starting:
    """Who brings up, and how. `base` "" is the machine's /tmp/se-remote-UID; only tests say otherwise.

    `keep`: the server stays up for so many seconds, 0: until it is killed; None: it ends with
    its last session.
    """

    started_by: str
    what: str = ""
    keep: float | None = None
    client_id: str = ""
    """Names the mark that tells a server that is about to end of somebody who comes."""
    base: str = ""


@dataclass(frozen=True)
class Up:
    """A server that listens. `token` names the instance that this bring-up started."""

    found: Found
    token: str

    @property
    def started(self) -> bool:
        return self.found.started


def new_token() -> str:
    """A name for one bring-up, to tell its files from another's."""
    return secrets.token_hex(6)


async def bring_up(
    spec: HostSpec, runner: Runner, starting: Starting, *, token: str, note: Note = lambda stage, text: None
) -> Up:
    """The server of `spec`, running: found or started. Raises StageError or Conflict."""
    for _ in range(_REPLACE_ROUNDS):
        note(Stage.SHELL, "")
        found = await _ask_for_server(spec, runner, starting, token, note)
        if plan.fits(spec, found):
            return Up(found, token)
        note(Stage.STOP, "replacing a server that was started with another configuration")
        stopped = await stop(spec.name, runner, mode="unused", base=starting.base, client=starting.client_id)
        if stopped.how == "used":
            state = {"sessions": stopped.sessions, "ephemeral": not stopped.kept}
            raise plan.conflict(spec, dataclasses.replace(found, state=state))
    raise plan.conflict(spec, found)


async def _ask_for_server(
    spec: HostSpec, runner: Runner, starting: Starting, token: str, note: Note
) -> Found:
    nonce = secrets.token_hex(12)
    script = scripts.bring_up(
        spec, plan.slug(spec.name), base=starting.base, nonce=nonce, token=token,
        keep=starting.keep, client=starting.client_id, started_by=starting.started_by, what=starting.what,
    )  # fmt: skip
    limit = spec.ready_timeout + scripts.ON_STOP_TAKES_S + _SLACK
    return plan.read_bring_up(spec, await framed(spec.name, runner, script, nonce, limit, note=note))


async def stop(
    name: str, runner: Runner, *, mode: str = "force", but: Mapping[str, str] = MappingProxyType({}),
    token: str = "", grace: float = 10.0, patience: float = 3.0, base: str = "", client: str = "",
) -> Stopped:  # fmt: skip
    """Stop the server of host `name` and verify it. See scripts.stop for mode, `but`, client and times."""

    async def once(mode: str, patience: float) -> Stopped:
        nonce = secrets.token_hex(12)
        script = scripts.stop(plan.slug(name), base=base, nonce=nonce, mode=mode, but=but, token=token,
                              client=client, grace=grace, patience=patience)  # fmt: skip
        limit = grace + 2 * patience + _SAFE + _SLACK
        return plan.read_stop(name, await framed(name, runner, script, nonce, limit, urgent=True), but)

    done = await once(mode, patience)
    if done.how != "used" or not done.silent or mode == "unused":
        return done
    # It does not say itself whose sessions count: what it wrote last has to do.
    theirs = plan.others(done.sessions, but)
    if theirs or (mode == "release" and (done.kept or not done.sessions)):
        return done
    return dataclasses.replace(await once("force", 0), silent=True)


async def leave(name: str, runner: Runner, *, client: str, base: str = "") -> None:
    """This client has found the server of host `name`, and will not say hello to it."""
    nonce = secrets.token_hex(12)
    await framed(
        name, runner, scripts.leave(plan.slug(name), base=base, nonce=nonce, client=client), nonce, 5.0
    )


async def abandon(
    name: str, runner: Runner, bringing: asyncio.Future[Up], token: str, base: str = "", client: str = ""
) -> None:
    """End a bring-up that is under way, and what it has started by then. Returns when that is so."""
    for _ in range(2):
        with contextlib.suppress(LauncherError, TimeoutError, asyncio.TimeoutError):
            await stop(
                name, runner, mode="unused", token=token, grace=5.0, patience=0.0, base=base, client=client
            )
        if bringing.done():
            return
        await asyncio.wait([bringing], timeout=3)


async def status(names: Iterable[str], runner: Runner, *, base: str = "") -> tuple[HostStatus, ...]:
    """The state of each host of `names` on that machine, and of all others found there: one exec."""
    nonce = secrets.token_hex(12)
    wanted = {plan.slug(name): name for name in names}
    reply = await framed("status", runner, scripts.status(base=base, nonce=nonce), nonce, _SLACK)
    found = plan.read_status(wanted, reply)
    return tuple(dataclasses.replace(seen, name=wanted.get(seen.name, seen.name)) for seen in found)


async def follow_log(
    name: str,
    reach: Callable[[], Awaitable[Runner]],
    on_line: Callable[[str], None],
    on_trouble: Callable[[str], None],
    *,
    lines: int = 10,
    base: str = "",
    backoff: tuple[float, float] = (0.5, 15.0),
) -> None:
    """Call `on_line` for each line of the log, for ever; ends by being cancelled.

    `reach()` is awaited for a Runner, again after each loss of the connection, with growing pauses
    (`backoff`: first and longest, seconds). After a loss the last 1000 lines are read again and joined
    to what was seen; `on_trouble` hears of losses and of a gap. Raises Unreachable only the first time,
    StartFailed when the machine refuses.
    """
    follower = _Follower(on_line, on_trouble)
    pause, first = backoff[0], True
    while True:
        try:
            runner = await reach()
            script = scripts.follow(plan.slug(name), base=base, lines=lines if first else 1000)
            follower.begin(again=not first)
            first, pause = False, backoff[0]
            done = await runner.run(script, None, follower.feed, hold=True)
            refused = done.exit_code == keeping.REFUSED
            reason = "the connection ended"
        except StageError as error:
            if first:
                raise
            refused, reason = False, error.cause
        if refused:
            cause, step = ["", "", *done.stderr.decode("utf-8", "replace").splitlines()][-2:]
            raise StartFailed(name, Stage.SHELL, cause, step)
        on_trouble(f"{name}: {reason}; trying again in {pause:g} s")
        await asyncio.sleep(pause)
        pause = min(pause * 2, backoff[1])


class _Follower:
    """Cuts chunks into lines, and joins what comes after a reconnect to what came before."""

    _REMEMBERED = 40
    _SETTLE = 0.5

    def __init__(self, on_line: Callable[[str], None], on_trouble: Callable[[str], None]) -> None:
        self._on_line = on_line
        self._on_trouble = on_trouble
        self._rest = b""
        self._seen: list[str] = []
        self._held: list[str] | None = None

    def begin(self, *, again: bool) -> None:
        self._rest = b""
        self._held = [] if again else None
        if again:
            asyncio.get_running_loop().call_later(self._SETTLE, self._join)

    def feed(self, chunk: bytes) -> None:
        *whole, self._rest = (self._rest + chunk).split(b"\n")
        for line in whole:
            text = line.decode("utf-8", "replace")
            if self._held is None:
                self._emit(text)
            else:
                self._held.append(text)

    def _join(self) -> None:
        if self._held is None:
            return
        new, joined = plan.after_overlap(self._seen, self._held)
        self._held = None
        if not joined:
            self._on_trouble("lines may be missing here")
        for text in new:
            self._emit(text)

    def _emit(self, text: str) -> None:
        self._seen = [*self._seen[-self._REMEMBERED :], text]
        self._on_line(text)


async def framed(
    name: str,
    runner: Runner,
    script: bytes,
    nonce: str,
    timeout: float,
    *,
    urgent: bool = False,
    note: Note | None = None,
) -> Reply:
    """One exec of a script, and its reply. `timeout`: seconds. Raises StageError."""
    stdout = bytearray()
    told = 0

    def hear(chunk: bytes) -> None:
        nonlocal told
        stdout.extend(chunk)
        if note is None:
            return
        entered = plan.stages(bytes(stdout), nonce)
        for stage in entered[told:]:
            note(stage, "")
        told = len(entered)

    try:
        done = await runner.run(script, timeout, hear, urgent=urgent)
    except asyncio.TimeoutError as error:
        cause = f"the machine did not answer within {timeout:g} s"
        raise Unreachable(name, Stage.CONNECT, cause) from error
    reply = plan.parse_reply(bytes(stdout), nonce)
    if reply is None:
        raise plan.no_frame(name, Completed(done.exit_code, bytes(stdout), done.stderr))
    return reply
