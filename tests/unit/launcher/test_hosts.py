"""The hosts of one launcher: what is ended when one of them fails or is given up."""

from __future__ import annotations

import asyncio

import pytest

from launcher import hosts as module
from launcher.bootstrap import Starting, Up
from launcher.errors import LauncherError, StageError, StartFailed, Unreachable
from launcher.hosts import Hosts
from launcher.model import HostSpec, Machine, Stage
from launcher.plan import Found, Stopped

FAR, SLOW = HostSpec("far", Machine("far")), HostSpec("slow", Machine("slow"))


class Runner:
    """A machine to which no tunnel can be made."""

    login_took = 0.0

    async def forward(self, remote_socket: str) -> str:
        raise StartFailed("slow", Stage.TUNNEL, "cannot make a socket on this machine")


async def reach(host: HostSpec) -> Runner:
    if host is FAR:
        raise Unreachable("far", Stage.CONNECT, "nothing listens there")
    return Runner()


@pytest.fixture
def stopped(monkeypatch) -> list[str]:
    """The hosts of which a stop came to its end."""
    ended: list[str] = []

    async def stop(name: str, runner: object, **_: object) -> Stopped:
        await asyncio.sleep(0.3)
        ended.append(name)
        return Stopped("graceful")

    monkeypatch.setattr(module.bootstrap, "stop", stop)
    return ended


def opened(specs: list[HostSpec], *, keep: bool = False) -> dict[str, object]:
    async def trial() -> dict[str, object]:
        hosts = Hosts(Starting("me"), reach, None, None, keep=keep)
        return await hosts.open_all(specs, together=True)

    return asyncio.run(trial())


def test_the_clean_up_of_a_failed_bring_up_is_not_cut_when_another_host_has_failed(monkeypatch, stopped):
    async def bring_up(*_: object, **__: object) -> Up:
        raise StartFailed("slow", Stage.SETUP, "`setup` failed (exit code 3)")

    monkeypatch.setattr(module.bootstrap, "bring_up", bring_up)
    monkeypatch.setattr(module, "LAST_ERRORS", 0.05)
    outcome = opened([FAR, SLOW])
    assert isinstance(outcome["far"], Unreachable)
    assert isinstance(outcome["slow"], StageError) and "exit code 3" in str(outcome["slow"])
    assert stopped == ["slow"]


@pytest.mark.parametrize(("started", "keep", "ended"), [(True, False, 1), (False, False, 0), (True, True, 0)])
def test_a_server_to_which_no_tunnel_can_be_made_is_ended_again(monkeypatch, stopped, started, keep, ended):
    async def bring_up(*_: object, **__: object) -> Up:
        return Up(Found("/run", started, {"socket": "/run/sock"}, {}), "token")

    monkeypatch.setattr(module.bootstrap, "bring_up", bring_up)
    outcome = opened([SLOW], keep=keep)
    assert isinstance(outcome["slow"], LauncherError) and len(stopped) == ended
