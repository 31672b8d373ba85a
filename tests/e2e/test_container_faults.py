"""What befalls a host in a container during a scenario: it goes on or says why not, and nothing is left."""

from __future__ import annotations

import contextlib
import os
import signal
import sys

import dockerd as engines
import pytest
import sshd as private
from commandline import Terminal
from test_containers import inventory
from test_resume import Reader

LEASE = "5s"
LONG = 'run_process("sleep 300") with:\n    remote("lab-pc")'


@pytest.fixture
def terminal(world, boxes):
    made = Terminal(world)
    yield made
    assert private.wait_until(lambda: not made.run_dir.exists(), 20), list(made.run_dir.iterdir())


def marked(terminal: Terminal, command: str) -> list[int]:
    """Pids, as this machine sees them, of what runs that command in a container of this test."""
    return [int(text.split()[0]) for text in private.marked(terminal.world.mark) if command in text]


def running(terminal: Terminal, boxes, docker: dict, body: str = LONG, *, local: bool = True) -> Reader:
    """A scenario that has got as far as running its process in the container."""
    inventory(terminal, boxes, docker, local=local, lease=LEASE)
    reader = Reader(terminal.start("scenario_execution", terminal.write_scenario(body)))
    assert private.wait_until(lambda: marked(terminal, "sleep 300") or marked(terminal, "sleep 5"), 40), (
        reader.text
    )
    return reader


def image(*more: str) -> dict:
    return {"image": engines.IMAGE, "run": [*engines.options(), *more]}


def name_of(boxes) -> str:
    return str(boxes.dockerd.containers()[0].split()[0])


@pytest.mark.parametrize("local", [True, pytest.param(False, marks=pytest.mark.slow)], ids=["local", "ssh"])
def test_paused_for_a_while(terminal, boxes, local):
    name = boxes.create("nav")
    body = 'run_process("sleep 9") with:\n    remote("lab-pc")'
    inventory(terminal, boxes, {"container": name}, local=local, lease="20s")
    reader = Reader(terminal.start("scenario_execution", terminal.write_scenario(body)))
    assert private.wait_until(lambda: marked(terminal, "sleep 9"), 40), reader.text
    boxes.dockerd.run("pause", name)
    with pytest.raises(AssertionError):
        reader.wait_for("no such line", 5)
    boxes.dockerd.run("unpause", name)
    assert reader.end() == 0, reader.text


@pytest.mark.parametrize("local", [True, pytest.param(False, marks=pytest.mark.slow)], ids=["local", "ssh"])
def test_paused_for_good(terminal, boxes, local):
    name = boxes.create("nav")
    reader = running(terminal, boxes, {"container": name}, local=local)
    boxes.dockerd.run("pause", name)
    reader.wait_for("is paused", 30)
    assert reader.end(30) != 0, reader.text
    assert "container nav is paused" in reader.text
    assert "not verified" in reader.text, reader.text
    boxes.dockerd.run("unpause", name)
    assert private.wait_until(lambda: not marked(terminal, "sleep 300"), 40)


@pytest.mark.parametrize("local", [True, pytest.param(False, marks=pytest.mark.slow)], ids=["local", "ssh"])
@pytest.mark.parametrize(
    ("words", "reason"),
    [
        ("kill", "container nav is exited (exit code 137)"),
        pytest.param("restart -t 0", "", marks=pytest.mark.slow),
        ("rm -f", "container nav was removed"),
    ],
)
def test_the_container_ends(terminal, boxes, words, reason, local):
    name = boxes.create("nav")
    reader = running(terminal, boxes, {"container": name}, local=local)
    boxes.dockerd.run(*words.split(), name)
    assert reader.end() != 0
    assert reason in reader.text, reader.text
    if "rm" not in words:
        boxes.dockerd.run("start", name)  # what lies in it is cleared away by the next one
        body = 'log("again") with:\n    remote("lab-pc")'
        done = terminal.scenario(body)
        assert done.code == 0, done.text


def test_out_of_memory(terminal, boxes):
    eater = terminal.world.directory / "eat.py"
    eater.write_text("eaten = bytearray(1 << 30)\n")
    body = LONG.replace("sleep 300", f"{sys.executable} -S {eater}")
    inventory(
        terminal,
        boxes,
        image("--memory", "300m", "--memory-swap", "300m", "-v", f"{eater}:{eater}:ro"),
        local=True,
        lease=LEASE,
    )
    reader = Reader(terminal.start("scenario_execution", terminal.write_scenario(body)))
    assert reader.end() != 0
    assert "-9" in reader.text or "137" in reader.text or "SIGKILL" in reader.text, reader.text


@pytest.mark.parametrize("local", [True, pytest.param(False, marks=pytest.mark.slow)], ids=["local", "ssh"])
def test_the_client_is_killed(terminal, boxes, local):
    reader = running(terminal, boxes, image(), local=local)
    reader.process.kill()
    assert private.wait_until(lambda: boxes.dockerd.containers() == [], 40), boxes.dockerd.containers()
    reader.process.wait()


@pytest.mark.parametrize("local", [True, pytest.param(False, marks=pytest.mark.slow)], ids=["local", "ssh"])
def test_the_relay_is_killed(terminal, boxes, local):
    body = 'run_process("sleep 5") with:\n    remote("lab-pc")'
    reader = running(terminal, boxes, {"container": boxes.create("nav")}, body, local=local)
    relays = _all_pids("usage: scenario_execution_server relay")
    assert relays
    for pid in relays:
        _kill(pid)
    assert reader.end() == 0, reader.text


def test_the_server_is_killed(terminal, boxes):
    reader = running(terminal, boxes, image())
    for pid in marked(terminal, "remote_exec.server"):
        _kill(pid)
    assert reader.end() != 0
    assert private.wait_until(lambda: boxes.dockerd.containers() == [], 40), boxes.dockerd.containers()


@pytest.mark.parametrize("how", ["window", "tmux"])
def test_the_window_is_closed(world, boxes, how):
    """The holder hears of it, so does the server inside."""
    launcher = world.launcher(keep=True, keep_for=600)  # nothing else would end it
    launcher.open([boxes.host(box=boxes.image(), local=True)])
    if how == "window":
        (window,) = world.tmux("list-windows", "-a", "-F", "#{window_id}").split()
        world.tmux("kill-window", "-t", window)
    else:  # of this test alone: its base is its own
        for pid in _all_pids(f"{world.base}/tmux"):
            if "new-session" in _command(pid):
                _kill(pid)
    assert private.wait_until(lambda: boxes.dockerd.containers() == [], 25), boxes.dockerd.containers()
    launcher.close()


def test_docker_exec_is_killed(terminal, boxes):
    """Its engine closes the standard input inside, which is the server's life line."""
    reader = running(terminal, boxes, {"container": boxes.create("nav")})
    for pid in _all_pids(f"run.{_token(terminal)}"):
        if _command(pid).startswith("docker exec"):
            _kill(pid)
    assert reader.end() != 0


@pytest.mark.slow
@pytest.mark.timeout(200)
def test_all_that_could_clean_up_is_killed(world, boxes):
    """tmux and holder at once, and nobody comes back: the container ends by itself."""
    launcher = world.launcher(keep=True, keep_for=5)
    host = boxes.host(box=boxes.image(), local=True)
    launcher.open([host])
    for pid in [*_all_pids(f"{world.base}/tmux"), *_all_pids(f"{world.base}/lab-pc/run.")]:
        if "docker exec" not in _command(pid):
            _kill(pid)
    launcher.close()
    assert private.wait_until(lambda: boxes.dockerd.containers() == [], 100), boxes.dockerd.containers()
    world.launcher().stop(host)


def _kill(pid: int) -> None:
    with contextlib.suppress(ProcessLookupError):  # one of them may end the others
        os.kill(pid, signal.SIGKILL)


def _token(terminal: Terminal) -> str:
    return next(path.suffix[1:] for path in terminal.run_dir.glob("container.*"))


def _command(pid: int) -> str:
    try:
        with open(f"/proc/{pid}/cmdline", "rb") as file:
            return file.read().replace(b"\0", b" ").decode(errors="replace")
    except OSError:
        return ""


def _all_pids(text: str) -> list[int]:
    return [pid for pid in map(int, filter(str.isdigit, os.listdir("/proc"))) if text in _command(pid)]
