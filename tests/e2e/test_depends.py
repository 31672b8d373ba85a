"""What a host depends on: started before its server, stopped after it, whatever way it ends."""

from __future__ import annotations

import json
import signal

import pytest
import sshd as private
from commandline import ENDS_WITHIN, Terminal

HELLO = 'log("there") with:\n    remote("lab-pc")'
LONG = 'run_process("sleep 300") with:\n    remote("lab-pc")'


class Depending(Terminal):
    """A host that depends on `nav`, which depends on `core`, in a tmux session of the test's own."""

    def __init__(self, world) -> None:
        super().__init__(world, "dep")
        self.stays = f"exec sleep 3{world.sshd.port}"
        self.write(core=self.stays)

    def write(self, core: str, user: bool = False, **more: str) -> None:
        more.setdefault("depends", "[nav]")
        more.setdefault("lease", "2s")
        processes = {
            "core": {"cmd": f"echo core is up; {core}", "host": self.name, "ready_timeout": 10},
            "nav": {"cmd": self.stays, "host": self.name, "depends": ["core"]},
        }
        if user:
            processes["user"] = {"cmd": self.stays, "host": self.name, "depends": ["lab-pc"]}
        (self.folder / "se-remote.yaml").write_text(
            f"context: {{session: {self.name}}}\nhosts:\n{self.entry(self.name, **more)}"
            f"processes: {json.dumps(processes)}\n"
        )

    def running(self) -> list[str]:
        """The processes core and nav themselves."""
        command = self.stays.removeprefix("exec ")
        return [text for text in private.marked(self.world.mark) if text.partition(" ")[2].strip() == command]

    def status(self) -> dict[str, str]:
        """By name; of this inventory."""
        done = self.se_remote("status", "core", "nav", "--json")
        return {one["process"]: one["state"] for one in json.loads(done.out) if "process" in one}


@pytest.fixture
def terminal(world):
    made = Depending(world)
    yield made
    if private.marked(world.mark) or made.run_dir.exists():
        made.se_remote("kill", "core", made.name, "--force")
    assert not made.run_dir.exists()
    assert made.running() == []


def order(text, *parts):
    places = [text.find(part) for part in parts]
    assert -1 not in places and places == sorted(places), (parts, places, text)


def test_a_scenario_starts_them_first_and_stops_them_last(terminal):
    command = f"pgrep -x -f {terminal.stays.removeprefix('exec ').replace(' ', '.')}"
    done = terminal.scenario(f'run_process("{command}") with:\n    remote("lab-pc")\n{HELLO}')
    assert done.code == 0, done.text
    host = terminal.name
    order(done.out, "[core] ready", "[nav] ready", f"[{host}] server started", "] there",
          f"[{host}] server stopped", "[nav] stopped", "[core] stopped")  # fmt: skip
    assert terminal.running() == []


def test_what_runs_already_stays(terminal):
    up = terminal.se_remote("run", "core")
    assert up.code == 0, up.text
    done = terminal.scenario(HELLO)
    assert done.code == 0, done.text
    assert "[core] ready (was running)" in done.out and "[nav] stopped" in done.out
    assert len(terminal.running()) == 1
    assert "[core] stopped" not in done.out


def test_one_that_fails_is_named_and_the_host_is_not_started(terminal):
    terminal.write(core="echo no map >&2; exit 7")
    done = terminal.scenario(HELLO)
    assert done.code == 1
    assert "core: start: it ended before it was ready (exit code 7)" in done.out, done.text
    assert "| no map" in done.out and "se-remote logs core" in done.out
    assert "server started" not in done.out
    assert terminal.running() == []
    assert not terminal.run_dir.exists()


def test_one_of_another_configuration_is_a_conflict(terminal):
    assert terminal.se_remote("run", "core").code == 0
    terminal.write(core=f"echo other; {terminal.stays}")
    done = terminal.scenario(HELLO)
    assert done.code == 1
    assert "core: " in done.out and "se-remote restart core" in done.out, done.text
    assert len(terminal.running()) == 1


def test_ctrl_c_ends_all_that_was_started(terminal):
    running = terminal.start("scenario_execution", terminal.write_scenario(LONG))
    assert private.wait_until(lambda: len(terminal.running()) == 2 and _acts(terminal), 30)
    running.send_signal(signal.SIGINT)
    out, err = running.communicate(timeout=ENDS_WITHIN)
    assert "[core] stopped" in out, out + err
    assert terminal.running() == []
    assert not terminal.run_dir.exists()


def test_a_signal_while_they_are_waited_for(terminal):
    terminal.write(core=f"sleep 1; {terminal.stays}")
    text = (terminal.folder / "se-remote.yaml").read_text()
    text = text.replace('"ready_timeout": 10', '"ready_timeout": 0, "ready_check": "false"')
    (terminal.folder / "se-remote.yaml").write_text(text)
    running = terminal.start("scenario_execution", terminal.write_scenario(HELLO))
    assert private.wait_until(lambda: terminal.running(), 30)
    running.send_signal(signal.SIGINT)
    out, err = running.communicate(timeout=ENDS_WITHIN)
    assert "aborted by SIGINT" in out + err, out + err
    assert private.wait_until(lambda: not terminal.running(), 10)


def test_a_client_that_is_killed_leaves_nothing_behind_its_lease(terminal):
    running = terminal.start("scenario_execution", terminal.write_scenario(LONG))
    assert private.wait_until(lambda: len(terminal.running()) == 2 and _acts(terminal), 30)
    running.kill()
    running.communicate(timeout=ENDS_WITHIN)
    assert private.wait_until(lambda: not terminal.running(), 20)
    assert private.wait_until(lambda: not terminal.run_dir.exists(), 20)
    kept = terminal.world.directory / "server home/.local/state/se-remote"
    rooms = [kept / "processes" / terminal.name / name / ".ended" for name in ("nav", "core")]
    assert private.wait_until(lambda: all(room.exists() for room in rooms), 20)
    (server,) = (kept / terminal.name).glob("*.log")
    ends = [path.stat().st_mtime_ns for path in (server, *rooms)]
    assert ends == sorted(ends), "in reverse order, also without a client"


def test_with_and_up(terminal):
    done = terminal.se_remote("with", "lab-pc", "--", "sh", "-c", "se-remote status core nav")
    assert done.code == 0, done.text
    assert done.out.count("ready") == 2, done.text
    assert terminal.running() == []
    up = terminal.se_remote("up", "lab-pc")
    assert up.code == 0, up.text
    order(up.err, "core", "nav", "ready after")
    assert len(terminal.running()) == 2
    killed = terminal.se_remote("kill", "core")
    assert killed.code == 0, killed.text
    order(killed.out, f"{terminal.name}: stopped", "nav: stopped", "core: stopped")
    assert terminal.running() == []


def test_up_that_fails_names_what_it_has_left_running(terminal):
    text = (terminal.folder / "se-remote.yaml").read_text()
    nav = json.dumps({"cmd": "exit 7", "host": terminal.name, "depends": ["core"]})
    (terminal.folder / "se-remote.yaml").write_text(text.replace('"nav": {', f'"nav": {nav}, "old": {{'))
    done = terminal.se_remote("up", "lab-pc")
    assert done.code == 1 and "exit code 7" in done.err, done.text
    order(done.err, "left running: core", "se-remote kill core")
    assert len(terminal.running()) == 1


def test_a_host_that_others_depend_on_is_held_up_meanwhile(terminal):
    """Its server has no session of an action: without one it would end by itself."""
    first = f"{terminal.name}-x"
    here, there = terminal.entry(terminal.name, depends=f"[{first}]"), terminal.entry(first, depends="[core]")
    stack = json.dumps({"core": {"cmd": terminal.stays, "host": first}})
    (terminal.folder / "se-remote.yaml").write_text(
        f"context: {{session: {terminal.name}}}\nhosts:\n{here}{there}processes: {stack}\n"
    )
    running = terminal.start("scenario_execution", terminal.write_scenario(LONG))
    assert private.wait_until(lambda: len(terminal.running()) == 1 and _acts(terminal), 40)
    (seen,) = json.loads(terminal.se_remote("status", first, "--json").out)
    assert seen["state"] == "ready" and seen["sessions"], seen
    running.send_signal(signal.SIGINT)
    out, err = running.communicate(timeout=ENDS_WITHIN)
    order(out, f"[{terminal.name}] server stopped", f"[{first}] server stopped", "[core] stopped")
    assert not (terminal.run_dir.parent / first).exists(), out + err


def test_a_process_may_depend_on_a_host(terminal):
    terminal.write(core=terminal.stays, user=True)
    done = terminal.se_remote("run", "user")
    assert done.code == 0, done.text
    order(done.err, "core", "nav", "start ", "user")
    assert len(terminal.running()) == 3
    status = json.loads(terminal.se_remote("status", terminal.name, "--json").out)
    assert status[0]["state"] == "ready", "and stays up"
    killed = terminal.se_remote("kill", "core")
    order(killed.out, "user: stopped", f"{terminal.name}: stopped", "nav: stopped", "core: stopped")


def _acts(terminal):
    return [text for text in private.marked(terminal.world.mark) if text.endswith("sleep 300 ")]


def test_who_ends_first_stops_nothing_that_another_still_needs(terminal):
    """Two clients at once; then the second is killed: what both used ends with the last lease."""
    flag = "until [ -e {} ]; do sleep 0.1; done"
    first = terminal.start(
        "se-remote", "with", "lab-pc", "--", "sh", "-c", f"touch one; {flag.format('two')}"
    )
    assert private.wait_until(lambda: (terminal.folder / "one").exists(), 30)
    second = terminal.start(
        "se-remote", "with", "lab-pc", "--", "sh", "-c", f"touch two; {flag.format('end')}"
    )
    out, err = first.communicate(timeout=ENDS_WITHIN)
    assert first.returncode == 0, out + err
    assert "another client still needs it" in out + err
    assert len(terminal.running()) == 2 and set(terminal.status().values()) == {"ready"}
    second.kill()
    (terminal.folder / "end").touch()
    second.communicate(timeout=ENDS_WITHIN)
    assert private.wait_until(lambda: not terminal.running(), 20)
