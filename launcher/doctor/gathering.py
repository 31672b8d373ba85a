"""The facts of a machine, gathered: one exec, and a try how many sessions one connection may have. Async."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

from launcher import plan
from launcher.doctor import reading, script
from launcher.doctor.facts import HostFacts, MachineFacts
from launcher.errors import StageError, StartFailed, Unreachable
from launcher.machines.runner import Runner
from launcher.model import Completed, HostSpec, Stage

ANSWER_S: Final = 180.0
"""What an answer may take, a slow `setup` included."""
SHELL_S: Final = 20.0
"""What the login shell may take until it runs our script: its rc file, that is."""
_LOOK_S: Final = 1.0

Note = Callable[[str, float], None]
"""Hears once a second what a machine is at, and for how many seconds."""
SESSIONS: Final = 10
"""What a connection of ours may use at once: sshd's own limit, unless its configuration says less."""
_URGENT: Final = 3
"""So many of them are of the runner's urgent kind."""
_OPEN_S: Final = 10.0
_HOLD: Final = b"se_remote() { printf 'here\\n'; sleep 0.3 || sleep 1; }\nse_remote </dev/null 2>/dev/null\n"
"""They are all asked for at once, so the first still lives when the last is. They end by themselves: what is
cut off counts at the machine for a moment longer."""


@dataclass(frozen=True)
class Examined:
    """What was found on one machine."""

    machine: MachineFacts
    hosts: Mapping[str, HostFacts]


async def examine(
    hosts: Sequence[HostSpec],
    commands: Mapping[str, script.Commands],
    runner: Runner,
    *,
    base: str = "",
    note: Note = lambda what, seconds: None,
) -> Examined:
    """The facts of the machine that `runner` leads to, and of `hosts`, which are on it.

    commands: of the inventory, by host. Raises StageError.
    """
    name, nonce = hosts[0].name, secrets.token_hex(12)
    heard = _Heard(nonce)
    text = script.examine(hosts, commands, base=base, nonce=nonce)
    running = asyncio.ensure_future(runner.run(text, ANSWER_S, heard.take))
    try:
        await _watched(running, heard, note)
        done = await running
    except asyncio.TimeoutError as error:
        raise _silent(hosts[0], heard) from error
    finally:
        running.cancel()
        await asyncio.wait([running], timeout=_LOOK_S)
    reply = plan.parse_reply(heard.all, nonce)
    if reply is None:
        raise plan.no_frame(name, Completed(done.exit_code, heard.all, done.stderr))
    facts = replace(
        reading.read_machine(reply),
        noise=reading.noise_before(heard.all, nonce),
        shell_took=heard.first - heard.began,
        ahead=reading.ahead(reply.get("now"), heard.began_wall, heard.first_wall),
    )
    if not hosts[0].machine.is_local:
        facts = replace(facts, sessions=await count_sessions(runner), sessions_tried=SESSIONS)
    return Examined(facts, reading.read_hosts(reply))


async def _watched(running: asyncio.Future[Completed], heard: _Heard, note: Note) -> None:
    """Until it has ended. Raises asyncio.TimeoutError when the login shell does not come to our script."""
    what, since = reading.LOGIN_SHELL, heard.began
    while not running.done():
        await asyncio.wait([running], timeout=_LOOK_S)
        if heard.what != what:
            what, since = heard.what, time.monotonic()
        elif not running.done():
            note(what, time.monotonic() - since)
        if what == reading.LOGIN_SHELL and time.monotonic() - since > SHELL_S:
            raise asyncio.TimeoutError


def _silent(host: HostSpec, heard: _Heard) -> StageError:
    what = heard.what
    if what == reading.LOGIN_SHELL:
        said = heard.all.decode("utf-8", "replace").strip().splitlines()[-3:]
        cause = f"the login shell has not come to run our script within {SHELL_S:g} s: its rc file waits"
        step = (
            "there: case $- in *i*) ;; *) return ;; esac at the beginning of ~/.bashrc (of its own rc file)"
        )
        return StartFailed(host.name, Stage.SHELL, cause, step, said)
    cause = f"the machine did not come to an end within {ANSWER_S:g} s; it was at: {what}"
    return Unreachable(host.name, Stage.SHELL, cause, f"se-remote doctor {host.name}")


class _Heard:
    """What comes, and when the script was heard first."""

    def __init__(self, nonce: str) -> None:
        self._nonce = nonce
        self.all = b""
        self.began, self.began_wall = time.monotonic(), time.time()
        self.first, self.first_wall = self.began, self.began_wall
        self._mark = f"\n{nonce} path\n".encode()  # it stands behind the time
        self._waiting = True

    def take(self, chunk: bytes) -> None:
        self.all += chunk
        if self._waiting:
            self.first, self.first_wall = time.monotonic(), time.time()
            self._waiting = self._mark not in self.all

    @property
    def what(self) -> str:
        """It is at."""
        return reading.doing(self.all, self._nonce)


async def count_sessions(runner: Runner, wanted: int = SESSIONS) -> int:
    """How many of `wanted` execs a connection runs at once."""

    async def opens(number: int) -> bool:
        with contextlib.suppress(StageError, asyncio.TimeoutError):
            done = await runner.run(_HOLD, _OPEN_S, urgent=number < _URGENT)
            return b"here" in done.stdout
        return False

    return sum(await asyncio.gather(*(opens(number) for number in range(wanted))))
