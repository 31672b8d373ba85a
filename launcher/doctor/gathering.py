"""The facts of a machine, gathered: one exec, and a try how many sessions one connection may have. Async."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

from launcher import plan
from launcher.doctor import reading, script
from launcher.doctor.facts import HostFacts, MachineFacts
from launcher.errors import StageError, Unreachable
from launcher.machines.runner import Runner
from launcher.model import Completed, HostSpec, Stage

ANSWER_S: Final = 180.0
"""What an answer may take, a slow `setup` included."""
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
    hosts: Sequence[HostSpec], commands: Mapping[str, script.Commands], runner: Runner, *, base: str = ""
) -> Examined:
    """The facts of the machine that `runner` leads to, and of `hosts`, which are on it.

    commands: of the inventory, by host. Raises StageError.
    """
    name, nonce = hosts[0].name, secrets.token_hex(12)
    heard = _Heard(nonce)
    try:
        done = await runner.run(script.examine(hosts, commands, base=base, nonce=nonce), ANSWER_S, heard.take)
    except asyncio.TimeoutError as error:
        cause = f"the machine did not answer within {ANSWER_S:g} s"
        raise Unreachable(name, Stage.SHELL, cause, f"se-remote doctor {name}") from error
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


class _Heard:
    """What comes, and when the script was heard first."""

    def __init__(self, nonce: str) -> None:
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


async def count_sessions(runner: Runner, wanted: int = SESSIONS) -> int:
    """How many of `wanted` execs a connection runs at once."""

    async def opens(number: int) -> bool:
        with contextlib.suppress(StageError, asyncio.TimeoutError):
            done = await runner.run(_HOLD, _OPEN_S, urgent=number < _URGENT)
            return b"here" in done.stdout
        return False

    return sum(await asyncio.gather(*(opens(number) for number in range(wanted))))
