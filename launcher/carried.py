"""Containers on machines that were reached: entered, held, left. Async; `launcher.bootstrap` calls it.

Rules:
- each is one exec of one script of `launcher.docker` on the machine;
- who enters leaves: a bring-up leaves a mark for its time only, the holder in the window has one of its own.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
from dataclasses import dataclass

from launcher import docker, plan
from launcher.docker import Box
from launcher.errors import LauncherError, StartFailed
from launcher.frames import Note, framed
from launcher.machines.container import ContainerRunner, runner_in
from launcher.machines.runner import Runner
from launcher.model import HostSpec, Stage
from launcher.plan import Reply

_ANSWER_S = 40.0
"""An engine may be slow to stop or remove a container."""
_COPY_S = 1800.0
"""What may be copied out of it before that may be large."""


@dataclass(frozen=True)
class Kept:
    """Which log of the machine belongs to a server in a container; see plan.Found."""

    began: str
    written: int


async def enter(spec: HostSpec, outer: Runner, *, token: str, base: str, note: Note) -> ContainerRunner:
    """A runner in the container of `spec`, started or made if need be. Raises StageError."""
    nonce = secrets.token_hex(12)
    slug = plan.slug(spec.name)
    script = docker.enter(spec, slug, base=base, nonce=nonce, token=token)
    limit = docker.PULL_S if spec.docker is not None and spec.docker.image else docker.ENTER_S
    reply = await framed(spec.name, outer, script, nonce, limit, note=note)
    return runner_in(spec.name, outer, docker.read_enter(spec, reply), spec.interpreter)


async def hold(spec: HostSpec, inner: ContainerRunner, *, token: str, base: str, inside: str) -> None:
    """Open the window on the machine in which the server that was delivered is started. Raises StageError."""
    nonce = secrets.token_hex(12)
    script = docker.hold(
        spec, plan.slug(spec.name), inner.box, base=base, nonce=nonce, token=token, inside=inside
    )
    reply = await framed(spec.name, inner.outer, script, nonce, _ANSWER_S, urgent=True)
    if reply.verb != "held":
        stage = Stage(reply.get("stage") or "tmux")
        raise StartFailed(spec.name, stage, reply.get("cause") or "no answer", reply.get("next"))


async def leave(name: str, inner: ContainerRunner, *, token: str, base: str) -> Kept:
    """This bring-up uses the container no longer. Never raises; without an answer nothing is known."""
    nonce = secrets.token_hex(12)
    script = docker.leave(plan.slug(name), inner.box, base=base, nonce=nonce, token=token)
    copying = asyncio.Event()

    def note(stage: Stage, text: str) -> None:
        if text:
            copying.set()

    with contextlib.suppress(LauncherError, asyncio.TimeoutError):
        work = framed(name, inner.outer, script, nonce, _COPY_S, urgent=True, note=note)
        reply = await _in_time(asyncio.ensure_future(work), copying)
        written = reply.get("written")
        return Kept(reply.get("began").strip(), int(written) if written.isdecimal() else 0)
    return Kept("", 0)


async def _in_time(work: asyncio.Task[Reply], longer: asyncio.Event) -> Reply:
    """What `work` gives; it is cut after a while, unless it has said by then that it takes `longer`."""
    try:
        await asyncio.wait([work], timeout=_ANSWER_S)
        if not work.done() and not longer.is_set():
            raise asyncio.TimeoutError
        return await work
    finally:
        work.cancel()


def inside(name: str, outer: Runner, box: Box) -> ContainerRunner:
    """A runner in a container that somebody holds, for the scripts; the interpreter is that of its server."""
    return runner_in(name, outer, box, "")


def base_at(runner: Runner, base: str) -> str:
    """Where the run directories are that `runner` leads to: in a container under a base of its own."""
    return runner.box.base if isinstance(runner, ContainerRunner) else base
