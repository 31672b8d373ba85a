"""`se-remote` as a person uses it: real sshd, real tmux, real server, the command as a subprocess."""

from __future__ import annotations

import json
import os
import re
import signal

import pytest
import sshd as private
from commandline import ENDS_WITHIN, Terminal


@pytest.fixture
def terminal(world):
    made = Terminal(world)
    yield made
    made.se_remote("kill", made.name, "--force")
    assert not made.run_dir.exists()


def test_up_status_logs_kill(terminal):
    up = terminal.se_remote("up", "lab-pc")
    assert up.code == 0, up.text
    assert [word for word in ("connect", "start", "hello") if word not in up.err] == []
    assert f"se-remote kill {terminal.name}" in up.err

    again = terminal.se_remote("up", "lab-pc")
    assert again.code == 0 and "was up already" in again.err

    table = terminal.se_remote("status")
    assert table.code == 0
    row = next(line for line in table.out.splitlines() if line.startswith(terminal.name))
    assert "ready" in row

    (seen,) = json.loads(terminal.se_remote("status", "lab-pc", "--json").out)
    assert seen["host"] == terminal.name and seen["state"] == "ready" and seen["kept"] is True
    assert (
        seen["sessions"] == [] and seen["version"] and seen["started_by"].endswith("@" + os.uname().nodename)
    )
    os.kill(seen["pid"], 0)

    log = terminal.se_remote("logs", "lab-pc", "-n", "5")
    assert log.code == 0 and "listening" in log.out

    kill = terminal.se_remote("kill", "lab-pc")
    assert kill.code == 0 and "stopped" in kill.out
    assert not terminal.run_dir.exists()
    assert "was not running" in terminal.se_remote("kill", "lab-pc").out
    assert "listening" in terminal.se_remote("logs", "lab-pc").out, "the log survives the server"


def test_a_scenario_uses_a_server_that_is_up_and_leaves_it(terminal):
    terminal.se_remote("up", "lab-pc")
    pid = json.loads(terminal.se_remote("status", "lab-pc", "--json").out)[0]["pid"]
    done = terminal.scenario('log("on the other side") with:\n    remote("lab-pc")')
    assert done.code == 0, done.text
    after = json.loads(terminal.se_remote("status", "lab-pc", "--json").out)[0]
    assert (after["pid"], after["sessions"]) == (pid, [])


def test_up_of_a_scenarios_server_keeps_it(terminal):
    """A server that a scenario started ends with it, unless somebody says `up` meanwhile."""
    running = terminal.start(
        "scenario_execution", terminal.write_scenario('run_process("sleep 3") with:\n    remote("lab-pc")')
    )
    assert private.wait_until(lambda: (terminal.run_dir / "endpoint.json").exists(), 20)
    assert terminal.se_remote("up", "lab-pc").code == 0
    out, err = running.communicate(timeout=ENDS_WITHIN)
    assert running.returncode == 0, out + err
    assert json.loads(terminal.se_remote("status", "lab-pc", "--json").out)[0]["state"] == "ready"


def test_kill_refuses_while_someone_else_works_there(terminal, monkeypatch):
    running = terminal.start(
        "scenario_execution", terminal.write_scenario('run_process("sleep 30") with:\n    remote("lab-pc")')
    )

    def sessions():
        seen = json.loads(terminal.se_remote("status", "lab-pc", "--json").out)[0]
        return [action for session in seen["sessions"] for action in session["actions"]]

    assert private.wait_until(lambda: [a for a in sessions() if a["status"] == "running"], 30)
    shown = terminal.se_remote("status", "lab-pc").out
    assert "run_process (running)" in shown and "test.osc" in shown

    monkeypatch.setenv("LOGNAME", "somebody-else")  # what getpass.getuser() says first
    refused = terminal.se_remote("kill", "lab-pc")
    assert refused.code == 1
    assert "in use by" in refused.err and "--force" in refused.err
    assert running.poll() is None

    forced = terminal.se_remote("kill", "lab-pc", "--force")
    assert forced.code == 0, forced.text
    out, _ = running.communicate(timeout=ENDS_WITHIN)
    assert running.returncode == 1, "the scenario sees that its host is gone"
    assert "Traceback" not in out


def test_logs_follow_through_a_restart(terminal):
    terminal.se_remote("up", "lab-pc")
    follower = terminal.start("se-remote", "logs", "lab-pc", "-f", "-n", "all")
    try:
        assert "listening" in follower.stdout.readline()
        terminal.se_remote("kill", "lab-pc")
        terminal.se_remote("up", "lab-pc")
        lines = iter(follower.stdout.readline, "")
        assert any("listening" in line for line in lines)
    finally:
        follower.send_signal(signal.SIGINT)
        follower.communicate(timeout=ENDS_WITHIN)


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        ([], 2, "COMMAND"),
        (["up"], 2, "HOST"),
        (["up", "lab-pd"], 2, 'did you mean "lab-pc"?'),
        (["kill"], 2, "--all"),
        (["up", "lab-pc", "-i", "missing.yaml"], 2, "missing.yaml"),
        (["inventory", "show", "nobody"], 2, "known"),
        (["up", "lab-pc", "--param", "x"], 2, "name=value"),
        (["up", "lab-pc", "--variant", "fast"], 2, "fast"),
        (["logs", "lab-pc", "-n", "-3"], 2, "0 or more"),
        (["up", "nobody@127.0.0.1:1"], 3, "connect"),
        (["status", "nobody@127.0.0.1:1"], 3, "unreachable"),
        (["kill", "nobody@127.0.0.1:1"], 3, "connect"),
        (["logs", "nobody@127.0.0.1:1"], 3, "connect"),
    ],
)
def test_what_is_wrong_ends_in_a_sentence_and_its_exit_code(terminal, words, code, said):
    done = terminal.se_remote(*words)
    assert done.code == code, done.text
    assert said in done.text


def test_a_server_that_dies_says_so_with_its_last_lines(terminal):
    terminal.write_inventory(terminal.entry(terminal.name, server="echo the driver is missing; exit 5"))
    done = terminal.se_remote("up", "lab-pc")
    assert done.code == 1
    assert "start" in done.err and "the driver is missing" in done.err and "5" in done.err
    assert "what is left of it stays to be looked at" in done.err
    seen = json.loads(terminal.se_remote("status", "lab-pc", "--json").out)[0]
    assert seen["state"] == "dead"
    assert "the driver is missing" in terminal.se_remote("logs", "lab-pc").out


def test_a_server_that_does_not_get_ready_is_exit_code_4(terminal):
    terminal.write_inventory(terminal.entry(terminal.name, server="sleep 60; {server}", ready_timeout="1s"))
    done = terminal.se_remote("up", "lab-pc")
    assert done.code == 4 and "stays to be looked at" in done.err, done.text


def test_unreachable_hosts_do_not_keep_the_others_down(terminal):
    closed = terminal.entry("gone").replace(f":{terminal.world.sshd.port}", ":1")
    terminal.write_inventory(terminal.entry(terminal.name), closed)
    done = terminal.se_remote("up", "lab-pc", "gone")
    assert done.code == 3
    assert "gone: connect" in done.err
    states = {one["host"]: one["state"] for one in json.loads(terminal.se_remote("status", "--json").out)}
    assert states["gone"] == "unreachable" and states[terminal.name] == "ready"


def test_interrupting_up_leaves_nothing_half_started(terminal):
    terminal.write_inventory(terminal.entry(terminal.name, server="sleep 60; {server}"))
    running = terminal.start("se-remote", "up", "lab-pc")
    assert private.wait_until(lambda: (terminal.run_dir / "stage").exists(), 20)
    running.send_signal(signal.SIGINT)
    _, err = running.communicate(timeout=ENDS_WITHIN)
    assert running.returncode == 130, err
    assert "Traceback" not in err
    assert private.wait_until(lambda: not terminal.run_dir.exists(), 15)


def test_machines_without_an_inventory(terminal):
    (terminal.folder / "se-remote.yaml").unlink()
    config = terminal.world.home / ".ssh" / "config"
    config.write_text(
        f"Host bare\n  HostName 127.0.0.1\n  Port {terminal.world.sshd.port}\n"
        f"  IdentityFile {terminal.world.sshd.client_key}\n"
    )
    user = terminal.world.home.owner()
    done = terminal.se_remote("status", f"{user}@bare")
    assert done.code == 0, done.text
    assert f"{user}@bare" in done.out  # stopped, or whatever this account has up here


def test_inventory_commands(terminal):
    check = terminal.se_remote("inventory", "check")
    assert check.code == 0 and "good" in check.out
    listed = json.loads(terminal.se_remote("inventory", "list", "--json").out)
    assert terminal.name in [host["host"] for host in listed["hosts"]]
    shown = json.loads(terminal.se_remote("inventory", "show", "lab-pc", "--json").out)
    assert shown["name"] == terminal.name
    assert json.loads(terminal.se_remote("inventory", "schema").out)["type"] == "object"


def test_the_demo_runs_and_leaves_nothing(terminal):
    done = terminal.se_remote("demo")
    assert done.code == 0, done.text
    assert re.search(r"\[demo-lab-pc-\d+\] this line is printed on lab-pc", done.out)
    assert "no process, tmux window, socket, log or directory of the demo is left" in done.err


BROKEN = "  broken:\n    machine: me@@nowhere\n  typo: {machine: me@127.0.0.1:1, pyton: x}\n"


def test_a_mistake_in_the_inventory_keeps_nobody_from_stopping_what_is_right(terminal):
    assert terminal.se_remote("up", "lab-pc").code == 0
    now_wrong = terminal.entry(terminal.name, lease="soon", setup="'echo {unset}'")
    terminal.write_inventory(now_wrong, BROKEN)

    for words in (["up", "lab-pc"], ["call", "lab-pc", "log"]):
        refused = terminal.se_remote(*words)
        assert refused.code == 2 and "hosts.broken.machine" in refused.err, refused.text

    seen = terminal.se_remote("status", "lab-pc", "--json")
    assert (seen.code, json.loads(seen.out)[0]["state"]) == (0, "ready"), seen.text
    left_out = "warning: the inventory has mistakes; left out, since they are unclear: broken, typo"
    assert left_out in seen.err and "hosts.broken.machine" in seen.err
    assert terminal.se_remote("status").code == 2
    assert "listening" in terminal.se_remote("logs", "lab-pc").out

    both = terminal.se_remote("kill", "lab-pc", "typo")
    assert both.code == 2 and 'not clear where "typo" is' in both.err
    assert terminal.run_dir.exists(), "it is done for all that are named, or for none"
    done = terminal.se_remote("kill", "lab-pc")
    assert (done.code, done.out) == (0, f"{terminal.name}: stopped\n"), done.text
    assert left_out in done.err


def test_kill_all_stops_what_it_can_and_says_what_it_could_not(terminal):
    terminal.needs_local_for_itself()
    assert terminal.se_remote("up", "lab-pc").code == 0
    terminal.write_inventory(terminal.entry(terminal.name), BROKEN)
    done = terminal.se_remote("kill", "--all")
    assert done.code == 2 and f"{terminal.name}: stopped" in done.out
    assert "not looked for, since it is unclear where they are: broken, typo" in done.err
    assert not terminal.run_dir.exists()


def test_a_file_that_is_no_yaml_leaves_machines_by_themselves(terminal):
    terminal.needs_local_for_itself()
    (terminal.folder / "se-remote.yaml").write_text("hosts: {lab-pc: [\n")
    refused = terminal.se_remote("kill", "lab-pc")
    assert refused.code == 2 and "is not YAML" in refused.err and 'not clear where "lab-pc" is' in refused.err
    unreachable = terminal.se_remote("kill", "nobody@127.0.0.1:1")
    assert unreachable.code == 3 and "is not YAML" in unreachable.err
    assert terminal.se_remote("kill", "--all").code == 2


def test_hints_name_the_inventory_that_was_given(terminal):
    (terminal.folder / "se-remote.yaml").rename(terminal.folder / "my lab.yaml")
    none = terminal.se_remote("-i", "my lab.yaml", "logs", "lab-pc", "--run", "3")
    assert f"se-remote -i 'my lab.yaml' logs {terminal.name} --runs" in none.err
    broken = terminal.entry(terminal.name, server="exit 5")
    (terminal.folder / "my lab.yaml").write_text(f"hosts:\n{broken}")
    died = terminal.se_remote("up", "lab-pc", "-i", "my lab.yaml")
    assert f"try: se-remote -i 'my lab.yaml' logs {terminal.name}\n" in died.err
    assert f"until: se-remote -i 'my lab.yaml' kill {terminal.name}\n" in died.err
    assert terminal.se_remote("kill", terminal.name, "-i", "my lab.yaml").code == 0
