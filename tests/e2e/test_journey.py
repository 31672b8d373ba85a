"""The whole journey: the real scenario_execution, an inventory, SSH, and every way in which it can end.

After each test the fixture asserts that no process, socket or directory of it is left.
"""

from __future__ import annotations

import os
import signal
import time

import pytest
import sshd as private
from commandline import ENDS_WITHIN, Terminal

LONG = 'run_process("sleep 300") with:\n    remote("lab-pc")'


@pytest.fixture
def terminal(world):
    made = Terminal(world)
    yield made
    assert private.wait_until(lambda: not made.run_dir.exists(), 20), list(made.run_dir.iterdir())


def processes(terminal: Terminal, command: str) -> list[str]:
    return [text for text in private.marked(terminal.world.mark) if command in text]


def start_and_wait_for(terminal: Terminal, body: str, command: str, *options: str):
    """A scenario that has got as far as running `command` on the host."""
    running = terminal.start("scenario_execution", *options, terminal.write_scenario(body))
    assert private.wait_until(lambda: processes(terminal, command), 30), running.communicate(timeout=5)
    return running


def test_success(terminal):
    body = """
log("here")
log("there") with:
    remote("lab-pc")
run_process("printenv SSH_CONNECTION") with:
    remote("lab-pc")
"""
    done = terminal.scenario(body, "-o", str(terminal.folder / "out"))
    assert done.code == 0, done.text
    assert f"[{terminal.name}] there" in done.out
    port = str(terminal.world.sshd.port)
    assert any(f"[{terminal.name}] " in line and port in line for line in done.out.splitlines())
    assert 'failures="0"' in (terminal.folder / "out" / "test.xml").read_text()


def test_failure_has_its_reason(terminal):
    done = terminal.scenario(
        'run_process("ls /no/such/file") with:\n    remote("lab-pc")', "-o", str(terminal.folder / "out")
    )
    assert done.code == 1
    assert f"[{terminal.name}] ls: " in done.out
    assert 'failures="1"' in (terminal.folder / "out" / "test.xml").read_text()


def test_what_is_left_running_is_ended_before_the_results(terminal):
    """Locally `wait_for_shutdown: false` outlives the scenario; on a host it must not."""
    post = terminal.folder / "post.sh"
    post.write_text("#!/bin/sh\ngrep -la 'sleep\\.321' /proc/[0-9]*/cmdline && echo STILL THERE\nexit 0\n")
    post.chmod(0o755)
    body = 'run_process("sleep 321", wait_for_shutdown: false) with:\n    remote("lab-pc")'
    done = terminal.scenario(body, "-o", str(terminal.folder / "out"), "--post-run", str(post))
    assert done.code == 0, done.text
    assert "Running post-run" in done.out and "STILL THERE" not in done.text
    assert processes(terminal, "sleep 321") == []


def test_several_hosts_come_up_side_by_side(terminal):
    names = [f"{terminal.name}-{i}" for i in range(3)]
    terminal.write_inventory(terminal.entry(terminal.name), *(terminal.entry(name) for name in names))
    calls = "".join(f'    log("on {name}") with:\n        remote("{name}")\n' for name in names)
    done = terminal.scenario(f"parallel:\n{calls}")
    assert done.code == 0, done.text
    for name in names:
        assert f"[{name}] on {name}" in done.out
        assert not terminal.run_dir.with_name(name).exists()


def test_variants_and_the_map_of_the_environment(terminal, monkeypatch):
    terminal.write_inventory(
        terminal.entry(terminal.name, env="{WHO: plain}", variants="{loud: {env: {WHO: loud}}}")
    )
    body = 'run_process("printenv WHO") with:\n    remote("robot")'
    environ = {"SE_REMOTE_MAP": "robot=lab-pc", "SE_REMOTE_VARIANTS": "lab-pc=loud"}
    monkeypatch.setattr(Terminal, "environ", property(lambda self, old=terminal.environ: {**old, **environ}))
    done = terminal.scenario(body)
    assert done.code == 0, done.text
    assert f"[{terminal.name}+loud] loud" in done.out


@pytest.mark.parametrize("sent", [[signal.SIGINT], [signal.SIGINT, signal.SIGINT], [signal.SIGTERM]])
def test_interrupted(terminal, sent):
    running = start_and_wait_for(terminal, LONG, "sleep 300", "-o", str(terminal.folder / "out"))
    for number in sent:
        running.send_signal(number)
        time.sleep(0.2)  # between two presses of Ctrl-C
    out, err = running.communicate(timeout=ENDS_WITHIN)
    assert running.returncode == 1, out + err
    assert "Traceback" not in out + err
    assert (terminal.folder / "out" / "test.xml").exists()
    assert processes(terminal, "sleep 300") == []


def test_interrupted_with_a_process_that_ignores_term(terminal):
    script = terminal.folder / "stubborn"
    script.write_text("#!/bin/sh\ntrap '' INT TERM HUP\nwhile :; do sleep 1; done\n")
    script.chmod(0o755)
    body = f'run_process("{script}", shutdown_timeout: 1s) with:\n    remote("lab-pc")'
    running = start_and_wait_for(terminal, body, "stubborn")
    running.send_signal(signal.SIGINT)
    out, err = running.communicate(timeout=ENDS_WITHIN)
    assert running.returncode == 1, out + err
    assert processes(terminal, "stubborn") == []


def test_interrupted_during_the_bring_up(terminal):
    terminal.write_inventory(terminal.entry(terminal.name, server="sleep 60; {server}"))
    running = terminal.start("scenario_execution", terminal.write_scenario(LONG))
    assert private.wait_until(lambda: (terminal.run_dir / "stage").exists(), 20)
    running.send_signal(signal.SIGINT)
    began = time.monotonic()
    out, err = running.communicate(timeout=ENDS_WITHIN)
    assert running.returncode == 1, out + err
    assert time.monotonic() - began < 20
    assert "Traceback (most recent call last)" not in err


@pytest.mark.parametrize("stubborn", [False, True])
def test_killed_client_is_cleaned_up_by_the_lease(terminal, stubborn):
    terminal.write_inventory(terminal.entry(terminal.name, lease="2s"))
    command = "sleep 300"
    if stubborn:
        script = terminal.folder / "stubborn"
        script.write_text("#!/bin/sh\ntrap '' INT TERM HUP\nwhile :; do sleep 1; done\n")
        script.chmod(0o755)
        command = str(script)
    body = f'run_process("{command}", shutdown_timeout: 1s) with:\n    remote("lab-pc")'
    running = start_and_wait_for(terminal, body, command)
    running.kill()
    running.communicate(timeout=ENDS_WITHIN)
    assert private.wait_until(lambda: not terminal.run_dir.exists(), 40)
    assert processes(terminal, command) == []


def test_tunnel_gone_fails_the_action_and_the_host_cleans_up(terminal):
    terminal.write_inventory(terminal.entry(terminal.name, lease="2s"))
    running = start_and_wait_for(terminal, LONG, "sleep 300")
    terminal.world.sshd.close()
    out, err = running.communicate(timeout=ENDS_WITHIN)
    assert running.returncode == 1, out + err
    assert "nothing was heard" in out and "nothing listens on 127.0.0.1" in out
    assert "its end is not verified" in out and f"se-remote status {terminal.name}" in out
    assert private.wait_until(lambda: not terminal.run_dir.exists(), 40)


def test_ssh_down_runs_nothing_here(terminal):
    terminal.world.sshd.close()
    proof = terminal.folder / "ran-locally"
    done = terminal.scenario(f'run_process("touch {proof}") with:\n    remote("lab-pc")')
    assert done.code == 1
    assert "connect: nothing listens on 127.0.0.1" in done.out
    assert not proof.exists()


def test_an_unknown_name_is_told_before_anything_starts(terminal):
    done = terminal.scenario('log("x") with:\n    remote("lab-pd")')
    assert done.code == 1
    assert 'did you mean "lab-pc"' in done.out
    assert "Executing scenario" not in done.out


def test_no_tunnel_file_while_a_scenario_runs(terminal):
    """A client that is killed can remove nothing: so nothing may be there to be removed."""
    running = start_and_wait_for(terminal, LONG, "sleep 300")
    assert list(terminal.world.tunnels.iterdir()) == []
    running.send_signal(signal.SIGINT)
    running.communicate(timeout=ENDS_WITHIN)


def test_local_needs_no_ssh_and_no_inventory(terminal):
    if os.path.lexists(terminal.run_dir.with_name("local")):
        pytest.skip("somebody uses the host `local` of this machine")
    (terminal.folder / "se-remote.yaml").unlink()
    body = 'run_process("hostname") with:\n    remote("local")'
    done = terminal.scenario(body)
    assert done.code == 0, done.text
    assert f"[local] {os.uname().nodename}" in done.out


def test_a_second_interrupt_shortens_the_teardown(terminal):
    """A process that needs 60 s for its end is given them, unless somebody is in a hurry."""
    script = terminal.folder / "slow-to-end"
    script.write_text("#!/bin/sh\ntrap 'sleep 60; exit' INT TERM HUP\nwhile :; do sleep 0.1; done\n")
    script.chmod(0o755)
    body = f'run_process("{script}", shutdown_timeout: 60s) with:\n    remote("lab-pc")'
    running = start_and_wait_for(terminal, body, "slow-to-end")
    running.send_signal(signal.SIGINT)
    assert private.wait_until(lambda: processes(terminal, "sleep 60"), 20), "it has begun to end"
    running.send_signal(signal.SIGINT)
    out, err = running.communicate(timeout=30)
    assert running.returncode == 1, out + err
    assert processes(terminal, "slow-to-end") == []
