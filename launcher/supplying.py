"""Provisions of hosts, for those who have a way to their machines: into a container, too. Async.

Rules:
- `launcher.provision` is imported by what is provided only: a bring-up costs nothing of it;
- a container that was made for the lease lives meanwhile, and is left by who entered it.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Final

from launcher.command import quote
from launcher.errors import InventoryError
from launcher.machines.container import ContainerRunner
from launcher.machines.runner import Runner
from launcher.model import HostSpec, Problem
from launcher.provision.values import Asked, Provided, Say

NOTHING: Final = Asked()

_OPEN_S = 15.0
_EACH_S = 5.0
"""Seconds between two lines about something that goes on."""


async def supply(
    host: HostSpec,
    runner: Runner,
    environ: Mapping[str, str],
    say: Say,
    asked: Asked = NOTHING,
) -> Provided:
    """Have the server there, with the packages of the inventory and what is asked. Raises LauncherError."""
    from launcher.provision.providing import Order, Provider

    listed = host.provision.packages if host.provision is not None else ()
    words = ["--with", *asked.packages] if asked.packages else []
    words += ["--only"] if asked.only else []
    words += ["--python", asked.python] if asked.python else []
    again = quote(["se-remote", "provision", host.name, *words])
    order = Order(listed, asked.packages, asked.only, asked.python or host.interpreter, again)
    async with _alive(host, runner):
        return await Provider(environ).provide(host.name, runner, order, say)


def check(host: HostSpec) -> None:
    """Whether something can be provided for it that stays. Raises InventoryError."""
    if host.is_here:
        text = f"{host.name} is this machine: its server runs in the environment of se-remote itself"
        raise InventoryError([Problem(text)], "for more packages: python3 -m pip install PACKAGE")
    if host.docker is not None and host.docker.image:
        text = f"{host.name}: its container is made from {host.docker.image} and removed again"
        where = host.source or "the inventory"
        step = f"`provision: auto` in {where} does it each time; or put se-remote into the image"
        raise InventoryError([Problem(text)], step)


@contextlib.asynccontextmanager
async def _alive(host: HostSpec, runner: Runner) -> AsyncIterator[None]:
    """A container that was made for the lease ends when nothing of ours is in it: see docker.GUARD."""
    if not isinstance(runner, ContainerRunner) or host.docker is None or not host.docker.image:
        yield
        return
    words = ["sh", "-c", "while read -r line; do :; done", "sh", "/se-remote-provision/run."]
    stream = await runner.open(f"exec {quote(words)}", _OPEN_S)
    try:
        yield
    finally:
        await stream.close()


def throttled(line: Callable[[str], None], now: Callable[[], float]) -> Callable[[str], None]:
    """Of what goes on, a line every few seconds, and none of what is over before."""
    until = now() + _EACH_S

    def tell(text: str) -> None:
        nonlocal until
        if now() >= until:
            until = now() + _EACH_S
            line(text)

    return tell


def auto(host: HostSpec) -> bool:
    """Whether a bring-up is to do it."""
    return host.provision is not None and host.provision.auto


def auto_first(host: HostSpec) -> bool:
    """Whether a container is made anew each time, so that nothing can be there."""
    return auto(host) and host.docker is not None and bool(host.docker.image)
