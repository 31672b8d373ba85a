"""Containers of processes, entered before they are started: by the same script as for servers."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Sequence

from launcher import docker, plan
from launcher.docker import Box
from launcher.frames import framed
from launcher.machines.runner import Runner
from launcher.model import Container, HostSpec
from launcher.processes.model import Launch
from launcher.processes.wire import Entered


async def enter(name: str, runner: Runner, launches: Sequence[Launch], *, base: str) -> tuple[Entered, ...]:
    """Have the containers of these running, all at once, each with a mark for the time of the start.

    One made from an image is named after the inventory's host that the process is of, or after the process.
    Raises StageError with what is wrong; marks that were left by then run out by themselves.
    """
    groups: dict[tuple[Container, str], list[Launch]] = {}
    for launch in launches:
        box = launch.spec.docker
        if box is not None:
            whose = "" if box.name else launch.spec.host or launch.key.name
            groups.setdefault((box, whose), []).append(launch)
    if not groups:
        return ()
    work = [_enter(name, runner, box, whose, some, base) for (box, whose), some in groups.items()]
    done = await asyncio.gather(*work, return_exceptions=True)
    for result in done:
        if isinstance(result, BaseException):
            raise result
    return tuple(result for result in done if isinstance(result, Entered))


async def _enter(
    name: str, runner: Runner, box: Container, whose: str, launches: Sequence[Launch], base: str
) -> Entered:
    nonce, mark = secrets.token_hex(12), secrets.token_hex(8)
    called = whose or launches[0].key.name
    spec = HostSpec(called, launches[0].spec.machine, docker=box)
    script = docker.enter(spec, plan.slug(called), base=base, nonce=nonce, token=mark)
    limit = docker.PULL_S if box.image else docker.ENTER_S
    entered: Box = docker.read_enter(spec, await framed(name, runner, script, nonce, limit))
    return Entered(entered, mark, frozenset(launch.key for launch in launches))
