"""`se-remote doctor` and hosts in containers, with a real engine: in every state, and not allowed."""

from __future__ import annotations

import asyncio
import os
import secrets

import pytest

from launcher.doctor import checklist, gathering
from launcher.doctor.facts import Case, ClientFacts, Level
from launcher.machines.local import LocalRunner
from launcher.model import Container

TRIED = ("setup", "python", "packages")


def findings(world, host, *, account=None):
    """What is wrong, seen by this account over SSH or on this machine: check to finding."""
    if host.machine.is_local:
        seen = asyncio.run(gathering.examine([host], {}, LocalRunner(world.environ), base=world.base))
    else:
        launcher = world.launcher()
        ((_, seen),) = launcher.on_each_machine(
            [host], lambda group, runner: gathering.examine(group, {}, runner)
        )
        assert isinstance(seen, gathering.Examined), seen
    case = Case(host, ClientFacts("0.1.0", 2), seen.machine, seen.hosts[host.name])
    found = checklist.examined(case)
    return {f.check: f for f in found if f.level is Level.FAILED}, {f.check: f for f in found}


def test_a_container_in_each_state(world, boxes):
    boxes.create("nav", start=False)
    host = boxes.host(box="nav", local=True)
    bad, found = findings(world, host)
    assert bad == {} and "is created: it is started for a scenario" in found["container"].text
    assert not set(TRIED) & set(found), "nothing was started to look"

    boxes.dockerd.run("start", "nav")
    bad, found = findings(world, host)
    assert bad == {} and "nav runs" in found["container"].text
    assert set(TRIED) <= set(found) and found["packages"].level is Level.GOOD, "inside"
    assert findings(world, boxes.host(box="nav", local=True, setup="exit 3"))[0].keys() == {"setup"}
    absent = findings(world, boxes.host(box="nav", local=True, python="/no/python"))[0]
    assert absent["python"].cures[0].startswith("take `python` out of lab-pc")
    assert absent["python"].cures[0].endswith(" and: se-remote provision lab-pc")

    boxes.dockerd.run("pause", "nav")
    bad, _ = findings(world, host)
    assert "paused" in bad["container"].text and bad["container"].cures == ("there: docker unpause nav",)
    boxes.dockerd.run("unpause", "nav")
    bad, _ = findings(world, boxes.host(box="nva", local=True))
    assert (
        "no container called nva" in bad["container"].text
        and "did you mean nav?" in bad["container"].cures[0]
    )
    _, found = findings(world, boxes.host(box=Container(image=f"lab/{secrets.token_hex(4)}"), local=True))
    assert found["container"].level is Level.WARNING and "docker pull lab/" in found["container"].cures[0]
    _, found = findings(world, boxes.host(box=boxes.image(), local=True))
    assert found["container"].level is Level.GOOD


def test_an_account_without_the_right(world, boxes):
    socket = boxes.dockerd.host.removeprefix("unix://")
    account = world.account()
    os.chmod(socket, 0o660)
    host = boxes.host(box=boxes.create("nav"), user=account.name)
    folder, parents = os.path.dirname(socket), []
    while folder != "/":
        parents.append((folder, os.stat(folder).st_mode))
        os.chmod(folder, os.stat(folder).st_mode | 0o711)
        folder = os.path.dirname(folder)
    try:
        bad, _ = findings(world, host)
        assert "may not talk to docker" in bad["container"].text
        assert f"usermod -aG docker {account.name}" in bad["container"].cures[0]
        os.chown(socket, account.uid, -1)
        bad, found = findings(world, host)
        assert bad == {} and "nav runs" in found["container"].text
    finally:
        os.chown(socket, 0, -1)
        for folder, mode in parents:
            os.chmod(folder, mode)


@pytest.mark.parametrize("host", ["unix:///no/such.sock"])
def test_an_engine_that_is_not_there_or_not_running(world, boxes, host):
    world.more_environ["DOCKER_HOST"] = host
    bad, _ = findings(world, boxes.host(box="nav", local=True))
    assert "daemon does not answer" in bad["container"].text and "systemctl" in bad["container"].cures[0]
    bad, _ = findings(world, boxes.host(box=Container(name="nav", engine="no-engine"), local=True))
    assert bad["container"].text == "there is no no-engine on this machine"
