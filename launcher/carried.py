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

_ANSWER_S = 40.0
"""An engine may be slow to stop or remove a container."""


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
    return runner_in(spec.name, outer, docker.read_enter(spec, reply), spec.python)


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
    with contextlib.suppress(LauncherError, asyncio.TimeoutError):
        reply = await framed(name, inner.outer, script, nonce, _ANSWER_S, urgent=True)
        written = reply.get("written")
        return Kept(reply.get("began").strip(), int(written) if written.isdecimal() else 0)
    return Kept("", 0)


def inside(name: str, outer: Runner, box: Box) -> ContainerRunner:
    """A runner in a container that somebody holds, for the scripts; the interpreter is that of its server."""
    return runner_in(name, outer, box, "")
