"""Whose a container is, whoever is killed; and an engine that hangs."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time

import pytest
import sshd as private
from commandline import Terminal
from test_container_faults import _all_pids, _command, _kill
from test_containers import inventory

from launcher import docker, plan
from launcher.model import State


@pytest.fixture
def terminal(world, boxes):
    made = Terminal(world)
    yield made
    assert private.wait_until(lambda: not made.run_dir.exists(), 20), list(made.run_dir.iterdir())


def test_a_client_is_killed_after_it_has_started_a_container(world, boxes, monkeypatch):
    """It can take its mark back no longer, and nobody else comes."""
    monkeypatch.setattr(docker, "STAY_S", 2.0)
    host = boxes.host(box=boxes.create("nav", start=False), local=True, ready_timeout=1.0)
    script = docker.enter(host, plan.slug(host.name), base=str(world.base), nonce="n", token="t")
    done = subprocess.run(["sh"], input=script, env=world.environ, capture_output=True, check=True)
    assert b"entered" in done.stdout, done
    assert boxes.dockerd.state("nav") == "running"
    assert private.wait_until(lambda: boxes.dockerd.state("nav") == "exited", 25)


def test_one_that_was_made_anew_meanwhile_is_not_stopped(world, boxes):
    launcher = world.launcher()
    launcher.open([boxes.host(box=boxes.create("nav", start=False), local=True)])
    boxes.dockerd.run("rename", "nav", "old")
    boxes.create("nav")
    boxes.mine("old")
    launcher.close()
    assert private.wait_until(lambda: not os.path.exists(world.base), 20)
    assert (boxes.dockerd.state("nav"), boxes.dockerd.state("old")) == ("running", "exited")


def test_accounts_that_are_the_same_one_inside_have_a_server_each(world, boxes):
    """Each has its own server, and whoever has started the container leaves it to who still uses it."""
    host = boxes.host(box=boxes.create("nav", start=False), local=True)
    mine, theirs = world.launcher(), world.launcher(base=f"{world.base}2")
    ours = mine.open([host])["lab-pc"], theirs.open([host])["lab-pc"]
    assert all(lease.started for lease in ours)
    assert ours[0].server["socket"] != ours[1].server["socket"]
    assert mine.close() == []
    assert theirs.status([host])["lab-pc"].state is State.READY
    assert theirs.close() == []
    assert private.wait_until(lambda: not os.path.exists(f"{world.base}2"), 20)
    assert boxes.dockerd.state("nav") == "running"


def test_a_server_that_an_older_version_keeps_up_is_found(world, boxes):
    """Its place inside did not say whose it is; a second server beside it would be a second robot driver."""
    host = boxes.host(box=boxes.create("nav"), local=True)
    with pytest.MonkeyPatch.context() as older:
        older.setattr(docker.Box, "base", property(lambda box: f"@{box.id[:12]}"))
        before = world.launcher(keep=True, keep_for=600)
        socket = before.open([host])["lab-pc"].server["socket"]
        before.close()
    launcher = world.launcher()
    found = launcher.open([host])["lab-pc"]
    assert (found.started, found.server["socket"]) == (False, socket)
    assert launcher.close() == []
    assert world.launcher().stop(host).how == "graceful"
    again = world.launcher().open([host])["lab-pc"]
    assert again.started and again.server["socket"] != socket


def test_one_that_its_owner_has_started_since_is_not_stopped(world, boxes):
    host = boxes.host(box=boxes.create("nav", start=False), local=True)
    crashed = world.launcher(keep=True, keep_for=600)
    crashed.open([host])
    for pid in [*_all_pids(f"{world.base}/tmux"), *_all_pids(f"{world.base}/lab-pc/run.")]:
        if "docker exec" not in _command(pid):
            _kill(pid)
    crashed.close()
    boxes.dockerd.run("stop", "-t", "0", "nav")
    boxes.dockerd.run("start", "nav")
    launcher = world.launcher()
    launcher.open([host])
    launcher.close()
    assert private.wait_until(lambda: not os.path.exists(world.base), 20)
    assert boxes.dockerd.state("nav") == "running"


@pytest.mark.slow
def test_an_engine_that_hangs_is_named(terminal, boxes):
    boxes.create("nav")
    inventory(terminal, boxes, {"container": "nav"}, local=True)
    assert terminal.se_remote("up", "lab-pc").code == 0
    with _hanging(boxes):
        for words in (("status", "lab-pc"), ("kill", "lab-pc"), ("up", "lab-pc")):
            begun = time.monotonic()
            done = terminal.se_remote(*words)
            assert "docker does not answer" in done.text, (words, done.text)
            assert done.code != 0 and time.monotonic() - begun < 30, (words, done.text)
    killed = terminal.se_remote("kill", "lab-pc")
    assert killed.code == 0 and "stopped" in killed.out, killed.text


@pytest.mark.slow
def test_an_engine_hangs_at_the_end(world, boxes):
    launcher = world.launcher()
    launcher.open([boxes.host(box=boxes.create("nav", start=False), local=True)])
    with _hanging(boxes):
        begun = time.monotonic()
        left = launcher.close()
        assert time.monotonic() - begun < 40
        assert "docker does not answer" in str(left), left
    assert private.wait_until(lambda: boxes.dockerd.state("nav") == "exited", 60)


@contextlib.contextmanager
def _hanging(boxes):
    process = boxes.dockerd._process
    process.send_signal(signal.SIGSTOP)
    try:
        yield
    finally:
        process.send_signal(signal.SIGCONT)
