"""`se-remote with`: hosts up for the length of a command. Real sshd, real server, real terminal."""

from __future__ import annotations

import json
import os
import pty
import shutil
import signal
import sys
import time

import pytest
import sshd as private
from commandline import BIN, ENDS_WITHIN, Terminal

LOG = 'log("there") with:\n    remote("lab-pc")'


@pytest.fixture
def terminal(world):
    made = Terminal(world, "with")
    yield made
    made.se_remote("kill", made.name, "--force")
    assert not made.run_dir.exists()


KILLED = "import os; os.kill(os.getpid(), 9)"


SLOW = "echo up; sleep 4; echo went on"


def python(code):
    return [sys.executable, "-c", code]


def started_by(terminal):
    return json.loads(terminal.se_remote("status", "lab-pc", "--json").out)[0]["what"]


def test_runs_inside_find_the_server_up_and_nothing_is_left(terminal):
    script = terminal.folder / "campaign.sh"
    line = "cat /tmp/se-remote-$(id -u)/$1/pid; scenario_execution test.osc || exit 9\n"
    script.write_text(line * 2 + "echo done; exit 7\n")
    terminal.write_scenario(LOG)
    done = terminal.se_remote("with", "lab-pc", "--", "sh", "campaign.sh", terminal.name)
    assert done.code == 7, done.text
    assert done.out.count("using the server that runs on") == 2, done.text
    assert done.out.count("there") >= 2 and done.out.rstrip().endswith("done")
    pids = [text for text in done.out.splitlines() if text.count("-") == 4]
    assert len(pids) == 2 and len(set(pids)) == 1, "one server all the time"
    assert not terminal.run_dir.exists()


def test_a_server_that_was_up_stays_up(terminal):
    terminal.se_remote("up", "lab-pc")
    done = terminal.se_remote("with", "lab-pc", "--", "true")
    assert done.code == 0 and "was up already" in done.err
    assert started_by(terminal) == "se-remote up"


def test_exit_codes(terminal):
    assert terminal.se_remote("with", "lab-pc", "--", *python(KILLED)).code == 137
    missing = terminal.se_remote("with", "lab-pc", "--", "no-such-command")
    assert missing.code == 127 and "no command no-such-command" in missing.err
    assert "connect" not in missing.err, "no machine was touched"
    (terminal.folder / "data").write_text("text")
    assert terminal.se_remote("with", "lab-pc", "--", "./data").code == 126
    (terminal.folder / "bad").write_text("#!/no/such/interpreter\n")
    (terminal.folder / "bad").chmod(0o755)
    bad = terminal.se_remote("with", "lab-pc", "--", "./bad")
    assert bad.code == 127 and "cannot be started" in bad.err
    assert not terminal.run_dir.exists()
    unclear = terminal.se_remote("with", "lab-pc")
    assert unclear.code == 2 and "-- COMMAND" in unclear.err


def test_a_host_that_does_not_come_up_and_the_command_is_not_started(terminal):
    terminal.write_inventory(terminal.entry(terminal.name), terminal.entry("broken", server="exit 5"))
    done = terminal.se_remote("with", "lab-pc", "broken", "--", "touch", "started")
    assert done.code == 1 and "broken: start" in done.err
    assert not (terminal.folder / "started").exists() and not terminal.run_dir.exists()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_from_elsewhere_is_passed_on(terminal, number):
    code = f"import signal, sys, time; signal.signal({int(number)}, lambda *_: sys.exit(42)); "
    code += "print('up', flush=True); time.sleep(60)"
    running = terminal.start("se-remote", "with", "lab-pc", "--", *python(code))
    assert running.stdout.readline() == "up\n"
    running.send_signal(number)
    out, err = running.communicate(timeout=ENDS_WITHIN)
    assert running.returncode == 42, out + err
    assert not terminal.run_dir.exists()


def test_ctrl_c_at_the_terminal_reaches_the_command_once(terminal):
    """The kernel gives it to the whole group; it must not get a second one from us."""
    code = (
        "import signal, time; n = []\n"
        "signal.signal(2, lambda *_: n.append(1))\n"
        "print('up', flush=True)\n"
        "until = time.time() + 30\n"
        "while not n and time.time() < until: time.sleep(0.05)\n"
        "time.sleep(0.5); print('got', len(n), flush=True); raise SystemExit(5)\n"
    )
    pid, master = pty.fork()
    if pid == 0:
        os.chdir(terminal.folder)
        words = [str(BIN / "se-remote"), "with", "lab-pc", "--", *python(code)]
        os.execve(words[0], words, terminal.environ)
    seen = b""

    def read_until(text):
        nonlocal seen
        until = time.monotonic() + ENDS_WITHIN
        while text not in seen and time.monotonic() < until:
            try:
                seen += os.read(master, 4096)
            except OSError:
                break
        assert text in seen, seen

    read_until(b"up\r\n")
    os.write(master, b"\x03")
    read_until(b"got 1")
    _, status = os.waitpid(pid, 0)
    os.close(master)
    assert os.waitstatus_to_exitcode(status) == 5
    assert not terminal.run_dir.exists()


def test_one_that_is_killed_leaves_nothing_behind_its_lease(terminal):
    terminal.write_inventory(terminal.entry(terminal.name, lease="2s"))
    running = terminal.start("se-remote", "with", "lab-pc", "--", "sh", "-c", "echo up; read line; exit")
    assert running.stdout.readline() == "up\n"
    running.send_signal(signal.SIGKILL)
    assert private.wait_until(lambda: not terminal.run_dir.exists(), 20)
    running.communicate(timeout=ENDS_WITHIN)


def test_a_server_that_dies_meanwhile_is_said_and_the_command_goes_on(terminal):
    running = terminal.start("se-remote", "with", "lab-pc", "--", "sh", "-c", SLOW)
    assert running.stdout.readline() == "up\n"
    assert terminal.se_remote("kill", "lab-pc", "--force").code == 0
    out, err = running.communicate(timeout=ENDS_WITHIN)
    assert running.returncode == 0 and "went on" in out
    assert f"[{terminal.name}]" in err and "not held any more" in err


def test_the_command_reads_the_inventory_that_was_named(terminal):
    elsewhere = terminal.folder / "other.yaml"
    shutil.move(terminal.folder / "se-remote.yaml", elsewhere)
    terminal.write_scenario(LOG)
    done = terminal.se_remote("with", "-i", "other.yaml", "lab-pc", "--", "scenario_execution", "test.osc")
    shutil.move(elsewhere, terminal.folder / "se-remote.yaml")
    assert done.code == 0 and "using the server that runs on" in done.out, done.text
