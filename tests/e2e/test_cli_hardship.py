"""`se-remote` where things are not as they should be: hung machines, readers that go away, signals."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest
import sshd as private
from commandline import BIN, ENDS_WITHIN, Terminal


@pytest.fixture
def terminal(world):
    made = Terminal(world)
    yield made
    made.se_remote("kill", *made.own_hosts(), "--force")
    assert not made.run_dir.exists()


@pytest.fixture
def hung(terminal):
    """A machine that accepts connections and never says a word."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        listening.settimeout(20)
        yield listening


def entry_of(terminal, listening) -> str:
    port = listening.getsockname()[1]
    return terminal.entry("hung").replace(f":{terminal.world.sshd.port}", f":{port}")


def test_help_imports_nothing_heavy():
    code = (
        "import sys\nsys.argv = ['se-remote', '--help']\nfrom launcher.cli import main\n"
        "try:\n    main.main()\nexcept SystemExit:\n    pass\n"
        "heavy = {'yaml', 'asyncssh', 'zmq', 'msgpack', 'asyncio', 'py_trees', 'scenario_execution',"
        " 'remote_exec', 'launcher.inventory'}\n"
        "print(sorted(heavy & set(sys.modules)), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stderr == "[]\n"
    assert "COMMAND" in done.stdout


@pytest.mark.slow
def test_twenty_at_once_share_one_server(terminal):
    with ThreadPoolExecutor(20) as pool:
        done = list(pool.map(lambda _: terminal.se_remote("up", "lab-pc"), range(20)))
    assert {one.code for one in done} == {0}, [one.err for one in done if one.code]
    assert sum("was up already" not in one.err for one in done) == 1
    assert terminal.se_remote("kill", "lab-pc").out == f"{terminal.name}: stopped\n"


@pytest.mark.slow
def test_ups_and_kills_at_once_end_in_one_state_or_the_other(terminal):
    """Whoever loses is told; nothing is left between up and down."""

    def one(number: int):
        return terminal.se_remote(("up", "kill")[number % 2], "lab-pc")

    with ThreadPoolExecutor(8) as pool:
        done = list(pool.map(one, range(16)))
    assert {each.code for each in done} <= {0, 1, 4}, [each.text for each in done if each.code]
    assert terminal.se_remote("kill", "lab-pc").code == 0
    assert not terminal.run_dir.exists()


@pytest.mark.slow
def test_a_hung_machine_is_told_and_holds_nobody_up(terminal, hung):
    terminal.needs_local_for_itself()
    terminal.write_inventory(entry_of(terminal, hung), terminal.entry(terminal.name))
    assert terminal.se_remote("up", "lab-pc").code == 0
    seen = terminal.se_remote("status", "--json")
    assert seen.code == 3
    states = {one["host"]: (one["state"], one["reason"]) for one in json.loads(seen.out)}
    assert states[terminal.name][0] == "ready"
    assert states["hung"][0] == "unreachable" and "did not log us in" in states["hung"][1]
    killed = terminal.se_remote("kill", "--all")
    assert killed.code == 3 and f"{terminal.name}: stopped" in killed.out and "hung: connect" in killed.err


@pytest.mark.parametrize("words", [["status"], ["up", "hung"], ["kill", "--all"], ["logs", "hung", "-f"]])
def test_an_interrupt_ends_every_command_at_once(terminal, hung, words):
    terminal.write_inventory(entry_of(terminal, hung))
    running = terminal.start("se-remote", *words)
    connection, _ = hung.accept()
    running.send_signal(signal.SIGINT)
    _, err = running.communicate(timeout=ENDS_WITHIN)
    connection.close()
    assert (running.returncode, err.splitlines()[-1]) == (130, "interrupted")
    assert "Traceback" not in err


@pytest.mark.parametrize(("sent", "code"), [(signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_terminating_up_leaves_nothing_half_started(terminal, sent, code):
    terminal.write_inventory(terminal.entry(terminal.name, server="sleep 60; {server}"))
    running = terminal.start("se-remote", "up", "lab-pc")
    assert private.wait_until(lambda: (terminal.run_dir / "stage").exists(), 20)
    running.send_signal(sent)
    _, err = running.communicate(timeout=ENDS_WITHIN)
    assert running.returncode == code, err
    assert private.wait_until(lambda: not terminal.run_dir.exists(), 15)


def test_following_ends_with_its_reader(terminal):
    """The log is quiet after its first line: no write would tell that nobody reads any more."""
    terminal.se_remote("up", "lab-pc")
    follower = terminal.start("se-remote", "logs", "lab-pc", "-f")
    assert "listening" in follower.stdout.readline()
    follower.stdout.close()
    assert follower.wait(ENDS_WITHIN) == 1
    assert follower.stderr.read() == ""
    follower.stderr.close()


def test_following_a_busy_log_ends_with_its_reader(terminal):
    noisy = '"{server} & while sleep 0.01; do echo tick; done"'
    terminal.write_inventory(terminal.entry(terminal.name, server=noisy))
    assert terminal.se_remote("up", "lab-pc").code == 0
    shell = f"{BIN}/se-remote logs lab-pc -f 2>err | head -n 3"
    done = subprocess.run(
        shell, shell=True, cwd=terminal.folder, env=terminal.environ, capture_output=True, timeout=ENDS_WITHIN
    )
    assert len(done.stdout.splitlines()) == 3
    assert (terminal.folder / "err").read_text() == ""


def test_how_many_lines_of_a_log(terminal):
    terminal.se_remote("up", "lab-pc")
    assert terminal.se_remote("logs", "lab-pc", "-n", "0").text == ""
    assert "listening" in terminal.se_remote("logs", "lab-pc", "-n", "all").out
    assert terminal.se_remote("logs", "lab-pc", "-n", "some").code == 2


def test_variants_are_shown_and_killed_with_all(terminal):
    terminal.needs_local_for_itself()
    variants = "{debug: {env: {A: b}}, slow: {env: {A: c}}}"
    terminal.write_inventory(terminal.entry(terminal.name, variants=variants))
    debug = f"{terminal.name}+debug"
    assert terminal.se_remote("up", debug).code == 0
    states = {one["host"]: one["state"] for one in json.loads(terminal.se_remote("status", "--json").out)}
    assert states[debug] == "ready" and states[terminal.name] == "stopped"
    assert "was not running" in terminal.se_remote("kill", terminal.name).out
    assert f"{debug}: stopped" in terminal.se_remote("kill", "--all").out


def test_a_machine_by_itself_means_all_that_is_there(terminal):
    account = terminal.world.account()
    python, path = terminal.world.python
    entry = terminal.entry(terminal.name, env=f"{{PYTHONPATH: '{path}'}}")
    owner = terminal.world.home.owner()
    entry = entry.replace(f"{owner}@", f"{account.name}@").replace(sys.executable, python)
    terminal.write_inventory(entry)
    assert (up := terminal.se_remote("up", "lab-pc")).code == 0, up.text
    (terminal.folder / "se-remote.yaml").unlink()
    (terminal.world.home / ".ssh" / "config").write_text(
        f"Host *\n  IdentityFile {terminal.world.sshd.client_key}\n"
    )
    machine = f"{account.name}@127.0.0.1:{terminal.world.sshd.port}"
    (seen,) = json.loads(terminal.se_remote("status", machine, "--json").out)
    assert (seen["host"], seen["machine"], seen["state"]) == (terminal.name, machine, "ready")
    assert terminal.se_remote("kill", machine).out == f"{terminal.name}: stopped\n"
    assert "stopped" in terminal.se_remote("status", machine).out


def test_stopping_the_servers_of_a_machine_names_the_processes_that_go_on(terminal):
    """So that nobody whose inventory is broken takes them for stopped."""
    account = terminal.world.account()
    machine = f"{account.name}@127.0.0.1:{terminal.world.sshd.port}"
    ssh = f"{{identity: {terminal.world.sshd.client_key}}}"
    inventory = terminal.folder / "se-remote.yaml"
    right = f"processes:\n  sim:\n    machine: {machine}\n    ssh: {ssh}\n    cmd: exec sleep 60\n"
    inventory.write_text(right)
    (terminal.world.home / ".ssh" / "config").write_text(
        f"Host *\n  IdentityFile {terminal.world.sshd.client_key}\n"
    )
    assert (run := terminal.se_remote("run", "sim")).code == 0, run.text
    inventory.write_text(f"{right}  broken: [\n")
    refused = terminal.se_remote("kill", "sim")
    assert refused.code == 2, refused.text
    assert "cure that and repeat this; servers, not processes, also go by their machine" in refused.err
    servers = terminal.se_remote("kill", machine)
    assert (servers.code, servers.out) == (0, f"{machine}: was not running\n"), servers.text
    assert f"{machine}: processes go on there: sim\n  try: se-remote kill PROCESS" in servers.err
    inventory.write_text(right)
    assert terminal.se_remote("kill", "sim").out == "sim: stopped\n"
    assert "go on there" not in terminal.se_remote("kill", machine).err


def test_what_was_not_running_is_not_called_stopped(terminal):
    """Also while another server runs on that machine."""
    terminal.write_inventory(terminal.entry(terminal.name), terminal.entry(f"{terminal.name}-2"))
    terminal.se_remote("up", f"{terminal.name}-2")
    assert terminal.se_remote("kill", "lab-pc").out == f"{terminal.name}: was not running\n"


def test_a_terminal_that_cannot_show_everything(terminal):
    terminal.write_inventory(terminal.entry(terminal.name, server="echo 世界; exit 5"))
    failed = subprocess.run(
        [BIN / "se-remote", "up", "lab-pc"], cwd=terminal.folder, capture_output=True, timeout=ENDS_WITHIN,
        env={**terminal.environ, "PYTHONIOENCODING": "ascii"},
    )  # fmt: skip
    assert failed.returncode == 1 and b"\\u4e16" in failed.stderr and b"Traceback" not in failed.stderr


def test_without_a_terminal_nothing_counts_as_typed_in(terminal):
    terminal.world.sshd.start("PasswordAuthentication yes")
    refused = terminal.se_remote("status", f"nobody@127.0.0.1:{terminal.world.sshd.port}")
    assert refused.code == 3
    assert "no key to try" in refused.out and "typed in" not in refused.out


@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_demo_leaves_nothing(terminal, sent):
    """Its SSH server stays until the scenario has torn down through it."""
    from launcher.cli.demo import host_name, leftovers

    running = terminal.start("se-remote", "demo", start_new_session=True)
    lines = iter(running.stdout.readline, "")
    assert any("this line is printed on lab-pc" in line and "[INFO]" in line for line in lines)
    os.killpg(running.pid, sent)
    out, err = running.communicate(timeout=ENDS_WITHIN)
    assert running.returncode == 128 + sent, out + err
    assert "not verified" not in out + err and "Traceback" not in out + err
    assert leftovers(host_name(running.pid)) == []
