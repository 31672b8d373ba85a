"""The processes of one machine, over one command that stays open there.

Rules:
- one stream (Runner.open) carries all: commands there, changes back; nothing is executed per process;
- what is told is delivered in the order in which it was told; a death waits until its last lines have come;
- `close` and a lost connection end nothing that runs; leases do.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType
from typing import Final

from launcher.errors import StageError, StartFailed, Unreachable
from launcher.machines.runner import Runner, Stream
from launcher.model import Stage, State
from launcher.processes import boxing, wire
from launcher.processes.agent import HELLO
from launcher.processes.model import Change, Key, Launch

_OPEN_S: Final = 20.0
_START_S: Final = 60.0
_STOP_S: Final = 60.0
_ANSWER_S: Final = 20.0
_TAIL_LINES: Final = 20


class Site:
    """The processes of one machine. Lives on one event loop; made by `open`."""

    def __init__(
        self,
        name: str,
        runner: Runner,
        base: str,
        stream: Stream,
        on_change: Callable[[Change], None],
        on_lost: Callable[[str], None],
    ) -> None:
        self._name = name
        self._runner, self._base = runner, base
        self._stream = stream
        self._on_change, self._on_lost = on_change, on_lost
        self._heard = b""
        self._ids = itertools.count(1)
        self._answers: dict[str, wire.Answer] = {}
        self._waiting: dict[str, asyncio.Future[None]] = {}
        self._followed: dict[str, tuple[Key, dict[str, str]]] = {}
        self._conflicts: dict[str, dict[str, str]] = {}
        self._asking: dict[str, tuple[str, list[wire.Told]]] = {}
        """By path: the token of a launch that has not been answered yet, and what was told of another's
        meanwhile: whether that is what is wanted is not known before the answer."""
        self._leases: dict[str, float] = {}
        self._told: asyncio.Queue[Change | wire.Told] = asyncio.Queue()
        self._writing = asyncio.Lock()
        self._tasks: list[asyncio.Task[None]] = []
        self._beating: asyncio.Task[None] | None = None
        self._over = ""

    @classmethod
    async def open(
        cls,
        name: str,
        runner: Runner,
        *,
        on_change: Callable[[Change], None],
        on_lost: Callable[[str], None],
        base: str = "",
    ) -> Site:
        """Begin to speak with the machine behind `runner`, which `name` calls in errors. Raises StageError.

        `on_change` hears what becomes of what was started here, `on_lost(reason)` once when the machine is
        not heard any more; both on the loop. `base` "" is /tmp/se-remote-UID there.
        """
        try:
            stream = await runner.open(wire.agent(base), _OPEN_S)
        except asyncio.TimeoutError as error:
            cause = f"the machine did not answer within {_OPEN_S:g} s"
            raise Unreachable(name, Stage.SHELL, cause) from error
        site = cls(name, runner, base, stream, on_change, on_lost)
        try:
            await asyncio.wait_for(site._greeted(), _OPEN_S)
        except BaseException as error:
            await stream.close()
            if isinstance(error, asyncio.TimeoutError):
                cause = f"the machine did not answer within {_OPEN_S:g} s"
                raise Unreachable(name, Stage.SHELL, cause) from error
            raise
        site._tasks = [asyncio.ensure_future(site._listen()), asyncio.ensure_future(site._deliver())]
        return site

    async def start(self, launches: Sequence[Launch]) -> None:
        """Have all of these run; what becomes of them, `on_change` hears. Raises StageError.

        One that runs already with the same configuration tells its state, with another it is a CONFLICT, as
        a tmux window of its name that is not ours is. One that already ran with the same token is not started
        again. Of each, changes go on coming while the site is open; one that ends by itself is DEAD, or
        STOPPED if it is a one-shot that ended with 0.
        """
        if not launches:
            return
        for launch in launches:
            if launch.lease and launch.lease not in self._leases:
                raise ValueError(f"{launch.key}: Site.lease({launch.lease!r}, ...) comes first")
        wire.start(launches)  # what cannot be is refused before anything is done
        text = wire.start(launches, await boxing.enter(self._name, self._runner, launches, base=self._base))
        for launch in launches:
            _, tokens = self._followed.setdefault(wire.path_of(launch.key), (launch.key, {}))
            tokens[wire.word(launch.token)] = launch.token
            self._asking[wire.path_of(launch.key)] = (wire.word(launch.token), [])
        try:
            await self._ask("do", text, _START_S)
        finally:
            for launch in launches:
                token, _ = self._asking.get(wire.path_of(launch.key), ("", []))
                if token == wire.word(launch.token):
                    del self._asking[wire.path_of(launch.key)]

    async def stop(
        self,
        keys: Sequence[Key],
        *,
        force: bool = False,
        quit: Collection[Key] = (),
        grace: float = 5.0,
        tokens: Mapping[Key, str] = MappingProxyType({}),
    ) -> dict[Key, Change]:
        """End these, all at once, with everything that belongs to them. Raises StageError.

        INT (QUIT for `quit`), after `grace` seconds TERM, after half of that again KILL; with `force` KILL at
        once. With a token: only if that is the one that runs. See Change for what is said of each.
        """
        if not keys:
            return {}
        text = wire.stop(keys, force=force, quits=quit, grace=grace, tokens=tokens)
        answer = await self._ask("do", text, _STOP_S + 3 * grace)
        return {key: wire.stopped(key, answer) for key in keys}

    async def lease(self, name: str, seconds: float) -> None:
        """From now on this site says that `name` lives; what was started with it ends when nothing is heard
        for `seconds`. A later site takes the same name over. Raises StageError."""
        self._leases[name] = seconds
        await self._ask("here", f"lease {wire.word(name)} {max(2, round(seconds))}\n", _ANSWER_S)
        if self._beating is None:
            self._beating = asyncio.ensure_future(self._beat())
            self._tasks.append(self._beating)

    async def release(self, name: str) -> None:
        """The lease is given up: what still lives by it ends now. Raises StageError."""
        if self._leases.pop(name, None) is not None:
            await self._ask("here", f"release {wire.word(name)}\n", _ANSWER_S)

    async def ping(self) -> None:
        """Returns when the machine has answered: at once, whatever it is at. Raises StageError."""
        await self._ask("here", ":\n", _ANSWER_S)

    async def close(self) -> None:
        """Speak no more with the machine. Ends nothing that runs; never raises."""
        self._lose("closed", tell=False)
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._stream.write_eof()
        with contextlib.suppress(asyncio.TimeoutError):
            await asyncio.wait_for(self._drain(), 2.0)
        await self._stream.close()

    async def _drain(self) -> None:
        """Until the agent has gone, so that nothing of it stays behind."""
        while await self._stream.read():
            continue

    async def _greeted(self) -> None:
        lines: list[str] = []
        while True:
            chunk = await self._stream.read()
            self._heard += chunk
            *whole, self._heard = self._heard.split(b"\n")
            lines += [text.decode("utf-8", "replace") for text in whole]
            if HELLO in lines:
                return
            refused = next((i for i, text in enumerate(lines) if text.startswith("refused ")), None)
            if refused is not None and len(lines) >= refused + 3:
                stage = Stage(lines[refused].partition(" ")[2])
                raise StartFailed(self._name, stage, lines[refused + 1], lines[refused + 2])
            if not chunk:
                said = (await self._stream.close()).stderr.decode("utf-8", "replace").splitlines()[-5:]
                cause = "the shell there ended before it answered"
                raise StartFailed(self._name, Stage.SHELL, cause, "ssh HOST 'exec sh -c id'", said)

    async def _ask(self, verb: str, text: str, timeout: float) -> wire.Answer:
        if self._over:
            raise Unreachable(self._name, Stage.CONNECT, self._over)
        number = str(next(self._ids))
        answer = self._answers[number] = wire.Answer()
        done = self._waiting[number] = asyncio.get_running_loop().create_future()
        data = text.encode("utf-8", "surrogateescape")
        try:
            await self._write(f"{verb} {number} {len(data)}\n".encode() + data)
            await asyncio.wait_for(asyncio.shield(done), timeout)
        except asyncio.TimeoutError as error:
            cause = f"the machine did not answer within {timeout:g} s"
            raise Unreachable(self._name, Stage.CONNECT, cause) from error
        finally:
            self._waiting.pop(number, None)
            self._answers.pop(number, None)
            if done.done() and not done.cancelled():
                done.exception()
        if answer.failed is not None:
            stage, cause, step = answer.failed
            raise StartFailed(self._name, Stage(stage), cause, step)
        return answer

    async def _write(self, data: bytes) -> None:
        async with self._writing:
            await self._stream.write(data)

    async def _beat(self) -> None:
        with contextlib.suppress(StageError):
            while True:
                await asyncio.sleep(min([*self._leases.values(), 10.0]) / 4)
                if self._leases:
                    await self._write(b"beat\n")

    async def _listen(self) -> None:
        while chunk := await self._stream.read():
            *lines, self._heard = (self._heard + chunk).split(b"\n")
            for line in lines:
                self._hear(line.decode("utf-8", "replace"))
        self._lose("the connection was cut")

    def _lose(self, reason: str, tell: bool = True) -> None:
        if self._over:
            return
        self._over = reason
        for done in self._waiting.values():
            if not done.done():
                done.set_exception(Unreachable(self._name, Stage.CONNECT, reason))
        if tell:
            self._on_lost(reason)

    def _hear(self, line: str) -> None:
        kind, _, rest = line.partition(" ")
        first, _, more = rest.partition(" ")
        if kind == "c":
            told = wire.read_change(rest)
            if told is not None and told.path in self._followed:
                self._take(told)
        elif kind == "x":
            self._hear_conflict(first, more)
        elif kind == "k":
            done = self._waiting.get(first)
            if done is not None and not done.done():
                done.set_result(None)
        elif kind in ("f", "fc", "fn", "t"):
            self._hear_answer(kind, first, more)
        elif kind in ("s", "l"):
            answer = self._answers.get(first)
            if answer is not None:
                wire.read_stop(answer, kind, more)

    def _take(self, told: wire.Told) -> None:
        token, early = self._asking.get(told.path, ("", []))
        if not token or told.token == token or told.answer:
            self._asking.pop(told.path, None)
            for one in [told, *(one for one in early if one.token == told.token)]:
                self._told.put_nowait(one)
        elif told.token in self._followed[told.path][1]:
            self._told.put_nowait(told)
        else:
            early.append(told)

    def _hear_conflict(self, path: str, more: str) -> None:
        what, _, text = more.partition(" ")
        said = self._conflicts.setdefault(path, {})
        said[what] = text
        if what in ("end", "foreign") and path in self._followed:
            key, tokens = self._followed[path]
            conflict = wire.conflict(key, self._conflicts.pop(path))
            self._told.put_nowait(replace(conflict, token=tokens.get(text, "")))

    def _hear_answer(self, kind: str, number: str, text: str) -> None:
        answer = self._answers.get(number)
        if answer is None:
            return
        if kind == "t":
            answer.lines.append(text)
            return
        stage, cause, step = answer.failed or ("shell", "", "")
        if kind == "f":
            stage = text
        elif kind == "fc":
            cause = text
        else:
            step = text
        answer.failed = (stage, cause, step)

    async def _deliver(self) -> None:
        while True:
            told = await self._told.get()
            if isinstance(told, Change):
                self._on_change(told)
                continue
            followed = self._followed.get(told.path)
            if followed is None:
                continue
            key, tokens = followed
            mine = told.token in tokens
            change = Change(
                key, told.state, told.reason, ours=mine, token=tokens.get(told.token, ""), code=told.code,
                signal=told.signal,
            )  # fmt: skip
            if told.state is State.DEAD:
                with contextlib.suppress(StageError):
                    text = wire.last_lines(told.path, told.token, _TAIL_LINES)
                    change = replace(change, tail=tuple((await self._ask("do", text, _ANSWER_S)).lines))
            self._on_change(change)
