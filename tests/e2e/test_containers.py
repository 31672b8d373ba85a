"""Hosts in containers: every form of `docker:`, on this machine and over SSH, with a real engine."""

from __future__ import annotations

import json
import sys
import threading

import dockerd as engines
import pytest
import sshd as private
from commandline import Terminal
from test_resume import Reader

from launcher.errors import LauncherError, StartFailed
from launcher.model import Container, State
from remote_exec.client.hub import request


@pytest.fixture(params=["local", "ssh"])
def local(request: pytest.FixtureRequest) -> bool:
    return bool(request.param == "local")


def is_answered(lease) -> bool:
    """The server there answers through the tunnel."""
    return bool(request(lease.endpoint, "describe", {}, timeout=20)["ok"])


def refused(world, host) -> LauncherError:
    with pytest.raises(LauncherError) as caught:
        world.launcher().open([host])
    return caught.value


def test_a_running_container(world, boxes, local):
    host = boxes.host(box=boxes.create("nav"), local=local)
    launcher = world.launcher()
    lease = launcher.open([host])["lab-pc"]
    assert lease.started and is_answered(lease)
    assert launcher.status([host])["lab-pc"].state is State.READY
    other = world.launcher()
    found = other.open([host])["lab-pc"]
    assert not found.started and is_answered(found)
    assert other.close() == []
    assert "lab-pc" in world.tmux("list-windows", "-a", "-F", "#{window_name}"), (
        "the window is on the machine"
    )
    # `tail -f` inside brings it to the machine, up to a second later
    assert private.wait_until(lambda: "set up" in launcher.read_log(host)[1], 10)
    assert launcher.close() == []
    again = world.launcher()
    assert "set up" in again.read_log(host)[1], "its log outlives it, on the machine"
    assert [run.ended for run in again.runs(host)] == ["stopped"]
    assert boxes.dockerd.state("nav") == "running", "it is somebody's"


def test_a_stopped_container_is_started_and_stopped_again(world, boxes, local):
    host = boxes.host(box=boxes.create("nav", start=False), local=local)
    launcher = world.launcher()
    assert is_answered(launcher.open([host])["lab-pc"])
    assert boxes.dockerd.state("nav") == "running"
    other = world.launcher()
    second = boxes.host("lab-2", box="nav", local=local)
    assert is_answered(other.open([second])["lab-2"])
    assert launcher.close() == []
    assert boxes.dockerd.state("nav") == "running", "it is used"
    assert other.close() == []
    assert private.wait_until(lambda: boxes.dockerd.state("nav") == "exited", 20)


def test_an_image_for_the_lease(world, boxes, local):
    host = boxes.host(box=boxes.image("--env", "GREETING=hello"), local=local)
    launcher = world.launcher()
    assert is_answered(launcher.open([host])["lab-pc"])
    (name, *_), *rest = (text.split() for text in boxes.dockerd.containers())
    assert rest == [] and name.endswith("-lab-pc")
    assert boxes.dockerd.exec(name, "printenv", "GREETING") == "hello\n"
    assert launcher.close() == []
    assert private.wait_until(lambda: boxes.dockerd.containers() == [], 20)


def test_two_at_once_share_one_container(world, boxes):
    host = boxes.host(box=boxes.image(), local=True)
    launchers = [world.launcher() for _ in range(3)]
    leases = []
    threads = [threading.Thread(target=lambda one=one: leases.append(one.open([host]))) for one in launchers]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(each["lab-pc"].started for each in leases) == [False, False, True]
    assert len({each["lab-pc"].server["pid"] for each in leases}) == 1
    assert len(boxes.dockerd.containers()) == 1


def test_a_leftover_is_replaced_and_what_is_foreign_is_not(world, boxes):
    name = f"se-remote-{world_uid()}-lab-pc"
    boxes.dockerd.create(name, "--label", "se-remote=old")
    launcher = world.launcher()
    host = boxes.host(box=boxes.image(), local=True)
    assert is_answered(launcher.open([host])["lab-pc"])
    assert launcher.close() == []
    assert private.wait_until(lambda: boxes.dockerd.containers() == [], 20)
    boxes.create(name)
    error = refused(world, host)
    assert "not ours" in str(error) and error.next_step == f"on the machine: docker rm -f {name}"


def world_uid() -> int:
    import os

    return os.getuid()


def test_user_workdir_login_and_environment(world, boxes):
    """All of it expands inside: the values of this machine are others."""
    rc = world.directory / "bashrc"
    rc.write_text("case $- in *i*) ;; *) return;; esac\nexport FROM_RC=$USER_DIR/rc\necho noise >&2\n")
    rc.chmod(0o644)
    box = boxes.image(
        "-e",
        "USER_DIR=/in/there",
        "-v",
        f"{rc}:/home/robot/.bashrc:ro",
        user="robot",
        workdir="/opt",
        login=True,
    )
    setup = 'echo "setup: $FROM_RC $(id -un) $PWD $HOME $PLAIN" >&2'
    host = boxes.host(box=box, local=True, setup=setup, env={"PLAIN": "$HOME/x"})
    launcher = world.launcher()
    assert is_answered(launcher.open([host])["lab-pc"])
    assert private.wait_until(lambda: "setup: " in launcher.read_log(host)[1], 10)
    log = launcher.read_log(host)[1]
    assert "setup: /in/there/rc robot /opt /home/robot $HOME/x" in log
    assert "noise" in log and "terminal process group" not in log and "job control" not in log
    (name, *_) = boxes.dockerd.containers()[0].split()
    pid = launcher.status([host])["lab-pc"].endpoint["pid"]
    done = boxes.dockerd.run("exec", "--user", "robot", name, "readlink", f"/proc/{pid}/cwd")
    assert done.stdout == "/opt\n"
    assert launcher.close() == []


@pytest.mark.parametrize(
    ("box", "stage", "cause", "step"),
    [
        (Container("nva"), "container", "no container called nva", "did you mean nav?"),
        (Container(image="no.such.example/image:1"), "container", "cannot be pulled", "docker pull no.such"),
        (Container("nav", engine="podman-x"), "container", "no podman-x on this machine", "install podman-x"),
        (Container("nav", user="nobody-x"), "container", "has no user nobody-x", "set `user`"),
        (Container("nav", workdir="/no/such"), "container", "no /no/such in the", "`docker.workdir`"),
        (Container("stops"), "container", "exited at once (exit code 3)", "machine: docker logs stops"),
        (Container("sleeps"), "container", "is paused", "on the machine: docker unpause sleeps"),
    ],
    ids=["unknown", "image", "engine", "user", "workdir", "exits", "paused"],
)  # fmt: skip
def test_what_is_wrong_is_said(world, boxes, box, stage, cause, step):
    boxes.create("nav")
    if box.name == "stops":
        boxes.dockerd.run(
            "create", "--name", "stops", *engines.options(), engines.IMAGE, "sh", "-c", "exit 3"
        )
        boxes._mine.append("stops")
    if box.name == "sleeps":
        boxes.dockerd.run("pause", boxes.create("sleeps"))
    error = refused(world, boxes.host(box=box, local=True))
    assert isinstance(error, StartFailed) and error.stage.value == stage
    assert cause in error.cause and step in error.next_step, (error.cause, error.next_step)
    if box.name == "sleeps":
        boxes.dockerd.run("unpause", "sleeps")


def test_no_python_and_no_daemon(world, boxes):
    boxes.create("nav")
    error = refused(world, boxes.host(box="nav", local=True, python="/no/python"))
    assert "there is no /no/python" in str(error)
    world.more_environ["DOCKER_HOST"] = "unix:///no/such/socket"
    error = refused(world, boxes.host(box="nav", local=True))
    assert "daemon does not answer" in str(error) and "start docker" in error.next_step


def test_exclusive_needs_the_network_of_the_machine(world, boxes):
    boxes.create("nav")
    error = refused(world, boxes.host(box="nav", local=True, exclusive=True))
    assert "network of its own" in str(error) and "--network host" in error.next_step


def inventory(terminal: Terminal, boxes, docker: dict, *, local: bool = False, **more: str) -> None:
    text = terminal.entry(
        terminal.name,
        docker=json.dumps(docker),
        env=boxes.env_text(),
        python=sys.executable,
        setup="echo set up >&2",
        **more,
    )
    lines = text.splitlines()
    if local:
        lines = [line for line in lines if "ssh:" not in line]
        lines = ["    machine: local" if "machine:" in line else line for line in lines]
    terminal.write_inventory("\n".join(dict.fromkeys(lines)) + "\n")


@pytest.fixture
def terminal(world, boxes):
    made = Terminal(world)
    yield made
    assert private.wait_until(lambda: not made.run_dir.exists(), 20), list(made.run_dir.iterdir())


BODY = """
log("here")
run_process("cat /proc/1/comm") with:
    remote("lab-pc")
run_process("pwd") with:
    remote("lab-pc")
"""


def test_a_scenario_in_a_container(terminal, boxes, local):
    """Files go into it and come back, too; it has no network and shares no folder."""
    docker = {"image": engines.IMAGE, "run": engines.options(), "workdir": "/opt"}
    inventory(terminal, boxes, docker, local=local, push="scenario")
    (terminal.folder / "params.yaml").write_text("speed: 1\n")
    out = terminal.folder / "out"
    copy = f'run_process("cp {terminal.folder}/params.yaml {out}/seen") with:\n    remote("lab-pc")\n'
    done = terminal.scenario(BODY + copy, "-o", str(out))
    assert (out / "seen").exists(), done.text
    assert (out / "seen").read_text() == "speed: 1\n"
    assert done.code == 0, done.text
    assert "docker-init" in done.out, done.out
    assert "/push/" in done.out and "not verified" not in done.out, done.out
    assert 'failures="0"' in (terminal.folder / "out" / "test.xml").read_text()
    logs = list((terminal.folder / "out").rglob(f"{terminal.name}*.log"))
    assert logs and "set up" in logs[0].read_text(), "the log is in the output"
    assert private.wait_until(lambda: boxes.dockerd.containers() == [], 20)


def test_what_is_sent_into_a_container_that_stays_goes_with_its_server(terminal, boxes):
    """It lies in the run directory of that server, in no other: the fixture finds what is left in `nav`."""
    boxes.create("nav")
    inventory(terminal, boxes, {"container": "nav"}, local=True, push="scenario")
    box = boxes.dockerd.run("inspect", "-f", "{{.Id}}", "nav").stdout[:12]
    (terminal.folder / "params.yaml").write_text("speed: 1\n")
    out = terminal.folder / "out"
    body = f'run_process("cp {terminal.folder}/params.yaml {out}/seen") with:\n    remote("lab-pc")\n'
    body += 'run_process("pwd") with:\n    remote("lab-pc")\n'
    done = terminal.scenario(body, "-o", str(out))
    assert done.code == 0, done.text
    assert (out / "seen").read_text() == "speed: 1\n"
    assert f"/tmp/se-remote-{world_uid()}-{box}-{world_uid()}/{terminal.name}/push/" in done.out, done.out
    assert boxes.dockerd.exec("nav", "sh", "-c", "ls -d /tmp/se-remote-*/* 2>/dev/null") == ""
    assert boxes.dockerd.exec("nav", "sh", "-c", "ls -d ~/.local/state/se-remote/* /outputs") == ""


UNREADABLE = """
run_process("install -m 000 {folder}/params.yaml {out}/seen") with:
    remote("lab-pc")
"""


def without_reading(terminal: Terminal, boxes, docker: dict, *, local: bool) -> str:
    """A scenario that leaves an output file which its user cannot read, so that it cannot be fetched."""
    inventory(terminal, boxes, {**docker, "user": "robot"}, local=local, push="scenario")
    (terminal.folder / "params.yaml").write_text("speed: 1\n")
    (terminal.folder / "params.yaml").chmod(0o644)
    out = terminal.folder / "out"
    done = terminal.scenario(UNREADABLE.format(folder=terminal.folder, out=out), "-o", str(out))
    assert "seen was not fetched" in done.text, done.text
    assert not (out / "seen").exists()
    return done.text


@pytest.mark.parametrize("local", [True, pytest.param(False, marks=pytest.mark.slow)], ids=["local", "ssh"])
def test_what_could_not_be_fetched_outlives_a_container_that_was_made(terminal, boxes, local):
    text = without_reading(terminal, boxes, {"image": engines.IMAGE, "run": engines.options()}, local=local)
    assert f"later: se-remote pull {terminal.name}" in text
    assert private.wait_until(lambda: boxes.dockerd.containers() == [], 20)
    home = terminal.world.home if local else terminal.world.server_home
    kept = home / ".local/state/se-remote/outputs"
    (session,) = kept.glob(f"{terminal.name}/*")
    assert [path.stat().st_mode & 0o777 for path in (kept, session.parent, session)] == [0o700] * 3
    assert sorted(path.name for path in kept.iterdir()) == [terminal.name], "nothing half copied"
    pulled = terminal.se_remote("pull", terminal.name)
    assert pulled.code == 0, pulled.text
    assert (terminal.folder / session.name / "seen").read_text() == "speed: 1\n"
    assert not kept.exists()


def test_so_it_does_one_that_was_killed(terminal, boxes):
    """As far as its engine still has it. Nothing can be run in it then."""
    docker = {"image": engines.IMAGE, "run": [*engines.options(), "--rm=false"], "user": "robot"}
    inventory(terminal, boxes, docker, local=True, lease="5s")
    out = terminal.folder / "out"
    body = f'run_process("cp /etc/passwd {out}/seen") with:\n    remote("lab-pc")\n'
    body += 'run_process("sleep 300") with:\n    remote("lab-pc")'
    reader = Reader(terminal.start("scenario_execution", "-o", str(out), terminal.write_scenario(body)))
    assert private.wait_until(lambda: any("sleep 300" in t for t in private.marked(terminal.world.mark)), 40)
    boxes.dockerd.run("kill", boxes.dockerd.containers()[0].split()[0])
    assert reader.end() != 0, reader.text
    assert private.wait_until(lambda: boxes.dockerd.containers() == [], 30)
    pulled = terminal.se_remote("pull", terminal.name)
    assert pulled.code == 0, pulled.text
    (seen,) = terminal.folder.glob("2*/seen")
    assert "robot" in seen.read_text()


def test_what_stays_in_a_container_that_is_somebodys_comes_while_it_is_up(terminal, boxes):
    """Each hint that is given works as it is typed."""
    boxes.create("nav", start=False)
    text = without_reading(terminal, boxes, {"container": "nav"}, local=True)
    hint = f"se-remote up {terminal.name} && se-remote pull {terminal.name}"
    assert f"later: {hint}" in text
    assert private.wait_until(lambda: boxes.dockerd.state("nav") == "exited", 20)
    refused = terminal.se_remote("pull", terminal.name)
    assert refused.code != 0 and f"try: {hint}" in refused.text, refused.text
    assert terminal.se_remote("up", terminal.name).code == 0
    boxes.dockerd.run("exec", "nav", "sh", "-c", "chmod 644 /home/robot/.local/state/se-remote/outputs/*/*/*")
    pulled = terminal.se_remote("pull", terminal.name)
    assert pulled.code == 0, pulled.text
    assert terminal.se_remote("kill", terminal.name).code == 0
    (seen,) = terminal.folder.glob("2*/seen")
    assert seen.read_text() == "speed: 1\n"


def test_commands_about_one_that_is_kept_up(terminal, boxes):
    boxes.create("nav")
    inventory(terminal, boxes, {"container": "nav"})
    assert terminal.se_remote("up", "lab-pc").code == 0
    status = terminal.se_remote("status", "lab-pc")
    assert "ready" in status.out, status.text
    # what a container says is on its machine up to a second later
    assert private.wait_until(lambda: "set up" in terminal.se_remote("logs", "lab-pc").out, 20)
    called = terminal.se_remote("call", "lab-pc", "log", "msg=hi")
    assert called.code == 0, called.text
    boxes.dockerd.run("pause", "nav")
    status = terminal.se_remote("status", "lab-pc")
    assert "container nav is paused" in status.out and "docker unpause nav" in status.out
    killed = terminal.se_remote("kill", "lab-pc")
    assert killed.code != 0 and "nav is paused" in killed.text and "docker unpause nav" in killed.text
    boxes.dockerd.run("unpause", "nav")
    killed = terminal.se_remote("kill", "lab-pc")
    assert killed.code == 0 and "stopped" in killed.out, killed.text
    assert "stopped" in terminal.se_remote("status", "lab-pc").out


@pytest.mark.slow
def test_many_containers_over_one_connection(world, boxes):
    """More relays than an sshd takes sessions."""
    boxes.create("nav")
    hosts = [boxes.host(f"lab-{n}", box="nav") for n in range(6)]
    launcher = world.launcher()
    leases = launcher.open(hosts)
    answers = []
    threads = [
        threading.Thread(target=lambda lease=lease: answers.append(is_answered(lease)))
        for lease in leases.values() for _ in range(2)
    ]  # fmt: skip
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert answers == [True] * 12
    assert launcher.close() == []
