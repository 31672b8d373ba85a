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

from launcher import carried, docker, keeping, plan, scripts
from launcher.docker import BoxState
from launcher.errors import LauncherError, NobodyListens, StageError, StartFailed
from launcher.frames import Note, framed
from launcher.machines.container import ContainerRunner
from launcher.machines.runner import Runner
from launcher.model import HostSpec, Stage, State
from launcher.plan import Found, HostStatus, Reply, Stopped

_SLACK = 15.0
"""Seconds that a script may take beyond the time it was given itself: a slow link, a busy machine."""
_SAFE = 35.0
"""Seconds that a host's `on_stop` may take, with what has to be ended before it."""
_SLOW_ENGINE = 12.0
"""Seconds that an engine may take to stop or remove a container."""
_REPLACE_ROUNDS = 3


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
    runner: Runner | None = None
    """Where it runs: the machine's, or one in a container on it. None: as for who asked."""

    @property
    def started(self) -> bool:
        return self.found.started


def new_token() -> str:
    """A name for one bring-up, to tell its files from another's."""
    return secrets.token_hex(6)


async def bring_up(
    spec: HostSpec, runner: Runner, starting: Starting, *, token: str, note: Note = lambda stage, text: None
) -> Up:
    """The server of `spec`, running: found or started. Raises StageError or Conflict.

    `runner`: where the server is to run: the machine, or the container that was entered with this `token`.
    """
    for _ in range(_REPLACE_ROUNDS):
        note(Stage.SHELL, "")
        found = await _ask_for_server(spec, runner, starting, token, note)
        if plan.fits(spec, found):
            return Up(found, token, runner)
        if found.started and found.endpoint.get("wire") != plan.WIRE:
            await stop(spec.name, runner, token=token, grace=2.0, patience=0.0, base=starting.base)
            raise plan.other_wire(spec, found)
        note(Stage.STOP, "replacing a server that was started with another configuration")
        stopped = await stop(spec.name, runner, mode="unused", base=starting.base, client=starting.client_id)
        if stopped.how == "used":
            state = {"sessions": stopped.sessions, "ephemeral": not stopped.kept}
            raise plan.conflict(spec, dataclasses.replace(found, state=state))
        if isinstance(runner, ContainerRunner):
            await carried.leave(spec.name, runner, token=token, base=starting.base)
            runner = await carried.enter(spec, runner.outer, token=token, base=starting.base, note=note)
    raise plan.conflict(spec, found)


async def _ask_for_server(
    spec: HostSpec, runner: Runner, starting: Starting, token: str, note: Note
) -> Found:
    nonce = secrets.token_hex(12)
    boxed = runner if isinstance(runner, ContainerRunner) else None
    script = scripts.bring_up(
        spec, plan.slug(spec.name), base=carried.base_at(runner, starting.base), nonce=nonce, token=token,
        keep=starting.keep, client=starting.client_id, started_by=starting.started_by, what=starting.what,
    )  # fmt: skip
    limit = spec.ready_timeout + scripts.ON_STOP_TAKES_S + _SLACK
    if boxed is not None:
        return await _ask_in_container(spec, boxed, script, nonce, limit, starting.base, token, note)
    return plan.read_bring_up(spec, await framed(spec.name, runner, script, nonce, limit, note=note))


async def _ask_in_container(
    spec: HostSpec, inner: ContainerRunner, script: bytes, nonce: str, limit: float, base: str, token: str,
    note: Note,
) -> Found:  # fmt: skip
    """The script inside cannot open a window: it asks for one, and waits for what that starts."""
    holding: list[asyncio.Task[None]] = []

    async def hold(inside: str) -> None:
        try:
            await carried.hold(spec, inner, token=token, base=base, inside=inside)
        except LauncherError:  # what waits for it gives up
            with contextlib.suppress(LauncherError):
                await _stop_at(spec.name, inner, inner.box.base, _Wish("unused", {}, token, "", 2.0, 0.0))
            raise

    def open_window(inside: str) -> None:
        holding.append(asyncio.ensure_future(hold(inside)))

    reply, trouble = None, None
    try:
        reply = await framed(spec.name, inner, script, nonce, limit, note=note, on_window=open_window)
    except StageError as error:
        trouble = error
    finally:
        if trouble is None and reply is None and holding:
            holding[0].cancel()
    for task in holding:
        await task
    kept = await carried.leave(spec.name, inner, token=token, base=base)
    try:
        if trouble is not None or reply is None:
            raise trouble or LauncherError("no answer")
        found = plan.read_bring_up(spec, reply)
    except StageError as error:
        error.began = kept.began
        raise
    return dataclasses.replace(found, began=kept.began, written=0 if found.started else kept.written)


@dataclass(frozen=True)
class _Wish:
    """What a stop is to do; see scripts.stop."""

    mode: str
    but: Mapping[str, str]
    token: str
    client: str
    grace: float
    patience: float


async def stop(
    name: str, runner: Runner, *, mode: str = "force", but: Mapping[str, str] = MappingProxyType({}),
    token: str = "", grace: float = 10.0, patience: float = 3.0, base: str = "", client: str = "",
) -> Stopped:  # fmt: skip
    """Stop the server of host `name` and verify it. See scripts.stop for mode, `but`, client and times.

    One in a container is ended inside, and what holds it on the machine after it. Raises StageError.
    """
    wish = _Wish(mode, but, token, client, grace, patience)
    if isinstance(runner, ContainerRunner):
        return await _stop_both(name, runner, BoxState("running"), base, wish)
    done = await _stop_at(name, runner, base, wish)
    if not isinstance(done, Reply):
        return done
    box = docker.read_box(done.get("container"))
    if box is None:
        raise StartFailed(name, Stage.CONTAINER, "its run directory does not say in which container it is")
    inner, token = carried.inside(name, runner, box), token or box.token
    wish = dataclasses.replace(wish, token=token)
    return await _stop_both(name, inner, docker.read_state(done), base, wish, done.get("box_mark"))


async def _stop_both(
    name: str, inner: ContainerRunner, seen: BoxState, base: str, wish: _Wish, mark: str = ""
) -> Stopped:
    """In the container as on a machine; then its holder, which ends by itself. `mark`: ours there."""
    cause, step = docker.why(inner.box, seen)
    done = Stopped("dead")
    try:
        if seen.mute:
            raise StartFailed(name, Stage.CONTAINER, f"{cause}, so what runs in it cannot be ended", step)
        if not cause:
            answer = await _stop_at(name, inner, inner.box.base, wish)
            assert isinstance(answer, Stopped)
            done = answer
    except NobodyListens:
        pass  # the container has ended meanwhile
    finally:
        if mark:
            await carried.leave(name, inner, token=mark, base=base)
    if done.how == "used":
        return done
    rest = _Wish("force", {}, wish.token or inner.box.token, "", wish.grace + _SLOW_ENGINE, 0.0)
    outside = await _stop_at(name, inner.outer, base, rest, boxes=False)
    assert isinstance(outside, Stopped)
    how = outside.how if done.how == "none" else done.how
    return dataclasses.replace(done, how=how, left=(*done.left, *outside.left))


async def _stop_at(
    name: str, runner: Runner, base: str, wish: _Wish, *, boxes: bool = True
) -> Stopped | Reply:
    """One place; the reply itself when it says that the server is in a container."""

    async def once(mode: str, patience: float) -> Stopped | Reply:
        nonce = secrets.token_hex(12)
        script = scripts.stop(plan.slug(name), base=base, nonce=nonce, mode=mode, but=wish.but,
                              token=wish.token, client=wish.client, grace=wish.grace, patience=patience,
                              boxes=boxes)  # fmt: skip
        limit = wish.grace + 2 * patience + _SAFE + _SLACK
        reply = await framed(name, runner, script, nonce, limit, urgent=True)
        return reply if reply.verb == "carried" else plan.read_stop(name, reply, wish.but)

    done = await once(wish.mode, wish.patience)
    if isinstance(done, Reply) or done.how != "used" or not done.silent or wish.mode == "unused":
        return done
    # It does not say itself whose sessions count: what it wrote last has to do.
    theirs = plan.others(done.sessions, wish.but)
    if theirs or (wish.mode == "release" and (done.kept or not done.sessions)):
        return done
    again = await once("force", 0)
    return again if isinstance(again, Reply) else dataclasses.replace(again, silent=True)


async def leave(name: str, runner: Runner, *, client: str, base: str = "") -> None:
    """This client has found the server of host `name`, and will not say hello to it."""
    nonce = secrets.token_hex(12)
    base = carried.base_at(runner, base)
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
    found = tuple(await asyncio.gather(*(_look_inside(one, runner) for one in found)))
    return tuple(dataclasses.replace(seen, name=wanted.get(seen.name, seen.name)) for seen in found)


async def _look_inside(seen: HostStatus, runner: Runner) -> HostStatus:
    """Of a server in a container, what is seen there; the container itself may be the reason."""
    box = docker.read_box(seen.container)
    if box is None:
        return seen
    state = docker.read_state(Reply((("box_state", seen.container_state),)))
    cause, step = docker.why(box, state)
    if state.status == "paused":
        return dataclasses.replace(seen, state=State.RUNNING, reason=f"{cause}\ntry: {step}")
    if state.mute:
        return dataclasses.replace(seen, state=State.UNREACHABLE, reason=f"{cause}\ntry: {step}")
    if seen.exit:  # the holder has told its end
        return seen
    if cause:
        return dataclasses.replace(seen, state=State.DEAD, reason=cause)
    nonce = secrets.token_hex(12)
    inner = carried.inside(seen.name, runner, box)
    try:
        reply = await framed(seen.name, inner, scripts.status(base=box.base, nonce=nonce), nonce, _SLACK)
    except StageError as error:
        return dataclasses.replace(seen, reason=error.cause)
    there = next(one for one in plan.read_status([seen.name], reply) if one.name == seen.name)
    if there.state is State.STOPPED:
        return seen
    return dataclasses.replace(there, container=seen.container, container_state=seen.container_state)


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
