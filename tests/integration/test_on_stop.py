"""`on_stop` by real servers: when it runs and when not, whoever is killed; and that nothing is left."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import uuid
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
from server_tools import Server, kill, marked, until

from remote_exec.host import procs, rundir, safe_state

DEAF = "trap '' INT TERM"
LONG = ["sh", "-c", "setsid sleep 700.25 & sleep 700.25"]
LOOK = 'echo "stopped, asleep: $(pgrep -fc "^sleep 700.25")" >>"$TRACE"'


class Robot:
    """A server whose `on_stop` appends to a file, and what that file says."""

    def __init__(self, plugins: Path, folder: Path, command: str, *options: str) -> None:
        self.trace = folder / "trace"
        self.file = folder / "on_stop.sh"
        self.file.write_text(f"TRACE='{self.trace}'\n{command}\n")
        self.server = Server(plugins, "--on-stop-file", str(self.file), *options)
        self.run_dir = self.server.run_dir

    @property
    def stops(self) -> int:
        return len(self.trace.read_text().splitlines()) if self.trace.exists() else 0

    def session(self, lease: float = 10.0, sleeps: bool = True):
        client = self.server.v2().open(lease=lease)
        if sleeps:
            client.make("a", "run_process")
            client.execute("a", command=LONG)
        return client

    def files(self) -> list[str]:
        return sorted(path.name for path in self.run_dir.glob("safe.*"))

    def own(self) -> list[procs.Proc]:
        return procs.carriers(f"{rundir.MARKER}={self.run_dir}".encode())


@pytest.fixture
def robot(plugins, tmp_path):
    made: list[Robot] = []

    def make(command: str = LOOK, *options: str):
        made.append(Robot(plugins, tmp_path, command, *options))
        return made[-1]

    yield make
    for one in made:
        one.server.stop()


def test_not_after_a_bye(robot):
    robot = robot()
    client = robot.session()
    assert robot.files() == [safe_state.ARMED, safe_state.COMMAND]
    client.ok("bye", release=True)
    assert robot.files() == [safe_state.COMMAND, safe_state.IDLE]
    assert robot.server.stop() == 0
    assert robot.stops == 0


def test_after_an_abort_once_its_processes_are_gone(robot):
    robot = robot()
    client = robot.session()
    client.ok("bye", release=False, abort=True)
    assert robot.stops == 1 and "asleep: 0" in robot.trace.read_text()
    assert "on_stop: done" in client.logs(), "its output reached the client, before the answer"
    assert "gave up" in client.logs()
    assert "on_stop: done" in robot.server.log
    assert robot.server.stop() == 0
    assert robot.stops == 1


def test_when_the_lease_is_over(robot):
    robot = robot()
    robot.session(lease=2)
    until(lambda: robot.stops == 1)
    assert robot.server.stop() == 0
    assert robot.stops == 1


@pytest.mark.parametrize("who", ["keeper", "worker"])
def test_who_is_stopped_by_a_signal_ends_in_order(robot, who):
    robot = robot()
    client = robot.session()
    os.kill(robot.server.processes()[who], signal.SIGSTOP)
    assert client.call("bye", timeout=30, release=False)["left"] == []
    assert robot.stops == 0, "it was not ended by force"


def test_a_front_that_is_stopped_by_a_signal_holds_it_up_for_twice_the_lease(robot):
    robot = robot(LOOK, "--lease", "1")
    robot.session(lease=1)
    os.kill(robot.server.processes()["front"], signal.SIGSTOP)
    until(lambda: robot.stops == 1)
    assert "it has to go on" in robot.server.log
    assert robot.server.stop() == 0 and robot.stops == 1


def test_when_the_server_is_told_to_stop(robot):
    robot = robot()
    robot.session()
    robot.session(sleeps=False)
    robot.server.process.terminate()
    assert robot.server.wait() == 0
    assert robot.stops == 1, "one end, though of two sessions"
    assert robot.files() == []


def test_not_while_another_session_uses_the_robot(robot):
    robot = robot()
    other = robot.session(sleeps=False)
    client = robot.session()
    client.ok("bye", release=False, abort=True)
    assert "waits for 1 other session" in client.logs()
    other.make("b", "log")
    assert robot.stops == 0
    other.ok("bye", release=False)
    assert robot.stops == 1


def test_who_comes_while_it_runs_waits(robot):
    robot = robot('sleep 1; echo stopped >>"$TRACE"')
    client = robot.session()
    bye = client.send("bye", release=False, abort=True)
    until(lambda: any(name.startswith(safe_state.CLAIMED) for name in robot.files()))
    next_one = robot.session(sleeps=False)
    assert robot.stops == 1, "its worker was not started before"
    assert client.wait(bye)["ok"]
    next_one.ok("bye", release=True)
    assert robot.stops == 1


def claims(robot: Robot) -> list[int]:
    words = [name.removeprefix(safe_state.CLAIMED) for name in robot.files()]
    return [int(word) for word in words if word.isdigit()]


def test_one_that_was_killed_is_still_due(robot):
    robot = robot(
        '[ -e "$TRACE.go" ] || { true >"$TRACE.began"; exec sleep 700.25; }; echo stopped >>"$TRACE"'
    )
    bye = (client := robot.session(sleeps=False)).send("bye", release=False, abort=True)
    until(lambda: claims(robot) and Path(f"{robot.trace}.began").exists())
    os.kill(claims(robot)[0], signal.SIGKILL)
    assert client.wait(bye)["ok"] and safe_state.UNSAFE in client.logs()
    Path(f"{robot.trace}.go").touch()
    robot.session(sleeps=False).ok("bye", release=False)
    assert robot.stops == 1, "in order, but the last bad end has not been answered"
    assert safe_state.IDLE in robot.files()


def test_it_goes_on_when_the_front_is_killed_meanwhile(robot):
    robot = robot('echo begun >>"$TRACE.b"; sleep 2; echo stopped >>"$TRACE"')
    client, front = robot.session(sleeps=False), robot.server.processes()["front"]
    client.send("bye", release=False, abort=True)
    until(lambda: Path(f"{robot.trace}.b").exists())
    os.kill(front, signal.SIGKILL)
    robot.server.wait()
    assert robot.stops == 1 and robot.files() == []


def test_what_it_cannot_tell_anybody_stays_due(robot):
    robot = robot('echo begun >>"$TRACE"; sleep 1; exit 3')
    client, front = robot.session(sleeps=False), robot.server.processes()["front"]
    client.send("bye", release=False, abort=True)
    until(lambda: robot.stops == 1)
    os.kill(front, signal.SIGKILL)
    robot.server.wait()
    assert robot.stops == 2 and f"exit code 3): {safe_state.UNSAFE}" in robot.server.log


def test_the_next_server_waits_for_one_that_runs(robot):
    robot = robot('echo begun >>"$TRACE.b"; sleep 2; echo stopped >>"$TRACE"')
    client, found = robot.session(sleeps=False), robot.server.processes()
    client.send("bye", release=False, abort=True)
    until(lambda: Path(f"{robot.trace}.b").exists())
    kill(found["supervisor"], found["front"], found["forkserver"])
    robot.server.wait()
    (robot.run_dir / "endpoint.json").unlink()
    again = subprocess.Popen(
        [sys.executable, "-m", "remote_exec.server", "--run-dir", str(robot.run_dir)],
        env={**os.environ, "SE_REMOTE_TEST": robot.server.marker},
        start_new_session=True,
    )
    try:
        until(lambda: (robot.run_dir / "endpoint.json").exists())
        assert robot.stops == 1
    finally:
        again.terminate()
        assert again.wait(20) == 0


def test_a_bye_after_a_crash_waits_for_it(robot):
    robot = robot('sleep 1; echo stopped >>"$TRACE"')
    client = robot.session(sleeps=False)
    client.make("x", "odd", {"phase": "execute", "what": "_exit"})
    client.execute("x")
    client.ok("bye", release=False)
    assert robot.stops == 1 and "on_stop: done" in client.logs() and "worker process died" in client.logs()


@pytest.mark.parametrize(
    ("command", "says"),
    [
        ("echo no map; exit 3", "the command failed (exit code 3)"),
        ("nothing-of-that-name", "exit code 127"),
        (
            "trap '' INT TERM; (trap '' INT TERM; exec setsid sleep 700.5) & wait; wait; sleep 700.5",
            "within 0.3 s",
        ),
    ],
)
def test_its_failure_is_an_error_that_says_what_that_means(tmp_path, command, says):
    (tmp_path / "safe.command").write_text(command)
    code = (
        "import sys; from remote_exec.host import on_stop, procs; procs.become_subreaper();"
        "print(on_stop.run(sys.argv[1], 0.3))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "safe.command")],
        capture_output=True,
        text=True,
        timeout=30,
    )
    assert says in done.stdout, done
    assert not [text for _, text in marked_commands("700.5")]


def marked_commands(word: str) -> list[tuple[int, str]]:
    found = [(proc.pid, procs.describe(proc)) for proc in procs.all_procs().values() if proc.alive]
    return [(pid, text) for pid, text in found if f"sleep {word}" in text]


def test_a_failure_reaches_client_and_log(robot):
    robot = robot("echo no map; exit 3")
    client = robot.session()
    client.ok("bye", release=False, abort=True)
    assert "on_stop: no map" in client.logs() and safe_state.UNSAFE in client.logs()
    assert {e["level"] for e in client.events if e["ev"] == "log" and safe_state.UNSAFE in e["text"]} == {
        "error"
    }
    assert f"exit code 3): {safe_state.UNSAFE}" in robot.server.log


@pytest.mark.parametrize(
    "victims", ["worker", "keeper", pytest.param("worker keeper", marks=pytest.mark.slow)]
)
def test_a_killed_worker(robot, victims):
    robot = robot()
    robot.session()
    found = robot.server.processes()
    kill(*(found[victim] for victim in victims.split()))
    until(lambda: robot.stops == 1, what=robot.server.log)
    assert "asleep: 0" in robot.trace.read_text()
    assert robot.server.stop() == 0
    assert robot.stops == 1


@pytest.mark.parametrize(
    "victims",
    [
        "front",
        "forkserver",
        "supervisor",
        pytest.param("front forkserver", marks=pytest.mark.slow),
        pytest.param("front keeper worker", marks=pytest.mark.slow),
    ],
)
def test_a_killed_server(robot, victims):
    robot = robot()
    robot.session()
    found = robot.server.processes()
    kill(*(found[victim] for victim in victims.split()))
    robot.server.wait()
    until(lambda: robot.stops == 1, what=robot.server.log)
    assert "asleep: 0" in robot.trace.read_text()
    until(lambda: not robot.own())
    assert robot.stops == 1


@pytest.mark.parametrize("victims", ["supervisor front", "supervisor keeper front forkserver worker"])
def test_a_server_of_which_nobody_is_left_to_do_it(robot, plugins, victims):
    """What the next server on that run directory does: the wrapper and `kill` do it before, see e2e."""
    robot = robot()
    robot.session()
    found = robot.server.processes()
    kill(*(found[victim] for victim in victims.split()))
    robot.server.wait()
    until(lambda: not [text for _, text in marked(robot.server.marker) if "remote_exec.server" in text], 30)
    assert robot.stops == 0
    (robot.run_dir / "endpoint.json").unlink()
    again = subprocess.Popen(
        [sys.executable, "-m", "remote_exec.server", "--run-dir", str(robot.run_dir)],
        env={**os.environ, "SE_REMOTE_TEST": robot.server.marker},
        start_new_session=True,
    )
    try:
        until(lambda: (robot.run_dir / "endpoint.json").exists())
        assert robot.stops == 1 and "asleep: 0" in robot.trace.read_text()
        assert robot.files() == []
    finally:
        again.terminate()
        assert again.wait(20) == 0


def test_a_claim_counts_while_its_process_lives(tmp_path):
    mine, dead = f"safe.claimed.{os.getpid()}", "safe.claimed.999999999"
    for name in (safe_state.IDLE, mine, dead, safe_state.COMMAND):
        (tmp_path / name).write_text("")
    # That pid runs, but is something else.
    assert safe_state.due(str(tmp_path)) == sorted(str(tmp_path / name) for name in (mine, dead))


def test_after_a_reboot_it_only_warns(tmp_path):
    recipe = tmp_path / safe_state.ARMED
    recipe.write_text(safe_state._recipe({"A B": "1", "C": "it's"}, "/", str(uuid.uuid4())))
    done = subprocess.run(["sh", str(recipe), "a crash"], capture_output=True, text=True, timeout=20)
    assert done.returncode == 0 and "rebooted" in done.stdout and "a crash" in done.stdout
    assert not recipe.exists()


def test_v1_clients(robot):
    robot = robot('echo stopped >>"$TRACE"', "--watchdog", "1")
    client = robot.server.v1()
    client.call("init", action_id="a", plugin_key="log", init_args={})
    assert safe_state.ARMED in robot.files()
    client.call("reset", action_id="a")
    assert safe_state.IDLE in robot.files()
    client.call("init", action_id="b", plugin_key="log", init_args={})
    assert safe_state.ARMED in robot.files()
    assert robot.server.wait() == 0, "the watchdog fires"
    assert robot.stops == 1


def test_v1_quit(robot):
    robot = robot()
    client = robot.server.v1()
    client.call("init", action_id="a", plugin_key="log", init_args={})
    client.call("quit")
    assert robot.server.wait() == 0
    assert robot.stops == 0


def test_needs_a_run_directory():
    from remote_exec.server import UsageError, settings_from

    with pytest.raises(UsageError, match="--run-dir"):
        settings_from(["--on-stop-file", "x"])
