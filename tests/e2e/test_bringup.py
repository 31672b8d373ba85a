"""Bring-up, status, logs and stop over real sshd, real tmux and on this machine."""

from __future__ import annotations

import os
import shutil
import threading
from dataclasses import replace
from pathlib import Path

import pytest
import sshd as private
from relay import Relay

from launcher.errors import Conflict, LauncherError, NotReady, StartFailed, Unreachable
from launcher.model import HostSpec, Machine, SshOptions, Stage, State
from launcher.remains import Remains

FINDS = ["local", "ssh"]


@pytest.fixture(params=FINDS)
def local(request: pytest.FixtureRequest) -> bool:
    return bool(request.param == "local")


def _failure(world, host, kind=StartFailed):
    with pytest.raises(kind) as caught:
        world.launcher().open([host])
    return caught.value


def test_starts_is_found_and_stops(world, local):
    host = world.standin(local=local)
    launcher = world.launcher()
    lease = launcher.open([host])["lab-pc"]
    assert lease.started and lease.server["name"] == "lab-pc"
    assert Path(lease.endpoint.removeprefix("ipc://")).is_socket()
    other = world.launcher()
    assert not other.open([host])["lab-pc"].started
    assert other.status([host])["lab-pc"].state is State.READY
    assert other.close() == []
    assert launcher.status([host])["lab-pc"].state is State.READY, "it was up before: left running"
    assert "up in" in launcher.read_log(host)[1]
    assert launcher.close() == []
    assert launcher.close() == []
    again = world.launcher()
    assert again.status([host])["lab-pc"].state is State.STOPPED
    assert "up in" in again.read_log(host)[1], "its log outlives it"


def test_many_hosts_side_by_side(world):
    hosts = [world.standin(name=f"lab-{n}") for n in range(12)]  # more than sshd's MaxSessions
    launcher = world.launcher()
    assert set(launcher.open(hosts)) == {host.name for host in hosts}
    assert {one.state for one in launcher.status(hosts).values()} == {State.READY}
    assert launcher.close() == []


NASTY = {
    "X_QUOTES": """it's "q" `id` $(id) $HOME \\ \\\\""",
    "X_LINES": "one\ntwo\n",
    "X_UMLAUT": "Grüße, 世界",
    "X_TILDE": "~/models",
}


def test_values_arrive_as_written(world, local):
    setup = "export X_SETUP='it'\"'\"'s'\nexport X_FROM=\"$X_UMLAUT!\""
    host = world.standin(local=local, env=NASTY, setup=setup)
    launcher = world.launcher()
    launcher.open([host])
    log = launcher.read_log(host)[1]
    home = world.home if local else world.server_home
    import json

    seen = json.loads(log[log.index("{") :])
    assert seen == {**NASTY, "X_TILDE": f"{home}/models", "X_SETUP": "it's", "X_FROM": "Grüße, 世界!"}
    assert f"up in {home}" in log
    assert launcher.close() == []


@pytest.mark.parametrize("shell", ["bash", "dash", "fish", "zsh"])
def test_login_shells_and_a_noisy_rc_file(world, shell):
    import shutil

    path = shutil.which(shell)
    if path is None:
        pytest.skip(f"no {shell} here")
    account = world.account(path, home="a home")
    for name in (".bashrc", ".profile", ".bash_profile", ".zshrc", ".zshenv", ".config/fish/config.fish"):
        (account.home / name).parent.mkdir(parents=True, exist_ok=True)
        (account.home / name).write_text("echo welcome aboard\necho again >&2\n")
    os.system(f"chown -R {account.uid} '{account.home}'")
    launcher = world.launcher(base="")
    host = world.standin(user=account.name)
    lease = launcher.open([host])["lab-pc"]
    assert lease.server["socket"].startswith(f"/tmp/se-remote-{account.uid}/")
    assert launcher.close() == []


def test_two_at_once_end_with_one_server(world, local):
    for _ in range(3):
        launchers = [world.launcher() for _ in range(3)]
        leases = []
        threads = [
            threading.Thread(
                target=lambda one=one, leases=leases: leases.append(
                    one.open([world.standin(local=local)])["lab-pc"]
                )
            )
            for one in launchers
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(30)
        assert len(leases) == 3
        assert len({lease.server["pid"] for lease in leases}) == 1
        assert [lease.started for lease in leases].count(True) == 1
        # One that has found the server holds it until it says that it does not come.
        starter = next(lease.client_id for lease in leases if lease.started)
        launchers.sort(key=lambda one, starter=starter: one.client_id == starter)
        assert [launcher.close() for launcher in launchers] == [[], [], []]


def test_a_server_that_dies_is_reported_at_once(world, local):
    error = _failure(world, world.standin("die", local=local))
    assert error.stage is Stage.START
    assert "cannot find the robot" in error.tail[-1] and "exit code 3" in str(error)


def test_kept_failure_stays_to_be_looked_at(world, local):
    host = world.standin("die", local=local)
    launcher = world.launcher(keep=True)
    with pytest.raises(StartFailed):
        launcher.open([host])
    seen = launcher.status([host])["lab-pc"]
    assert seen.state is State.DEAD and "code 3" in seen.reason
    assert "cannot find the robot" in launcher.read_log(host)[1]
    assert launcher.stop(host).how == "dead"
    assert "cannot find the robot" in launcher.read_log(host)[1]


@pytest.mark.parametrize(
    "setup", ["echo no map; false", "echo 'open quote", "exit 0", "cd /nowhere || return 4"]
)
def test_setup_fails(world, local, setup):
    error = _failure(world, world.standin(local=local, setup=setup))
    assert error.stage is Stage.SETUP


def test_a_huge_line_before_the_end_is_cut(world, local):
    """What is shown of a log is bounded: it must not take the bring-up its time."""
    host = world.standin(local=local, setup="head -c 30000000 /dev/zero | tr '\\0' x; exit 3")
    error = _failure(world, host)
    assert error.stage is Stage.SETUP and "exit code 3" in str(error)
    assert len(str(error)) < 20000


def test_a_long_log_is_read_whole(world, local):
    host = world.standin(local=local, setup="seq 1 1000000")
    launcher = world.launcher()
    launcher.open([host])
    lines = launcher.read_log(host, 1_000_000_000)[1].splitlines()
    assert lines[:2] == ["1", "2"] and "1000000" in lines
    assert launcher.close() == []


def test_hanging_server_is_a_timeout(world, local):
    error = _failure(world, world.standin("hang", local=local, ready_timeout=1.0), NotReady)
    assert "hanging" in error.tail


def test_no_python(world, local):
    error = _failure(world, world.host(local=local, python="~/nowhere/python"))
    assert error.stage is Stage.PYTHON and "~/nowhere/python" in str(error)


def test_python_without_our_package(world, local):
    error = _failure(
        world, world.host(local=local, python="/usr/bin/python3", env={"PYTHONPATH": "/nowhere"})
    )
    assert error.stage is Stage.PYTHON and "cannot import" in str(error)


def _path_without(world, tool: str) -> str:
    import shutil

    directory = world.directory / "bin"
    directory.mkdir()
    for name in [
        "sh",
        "id",
        "ls",
        "mkdir",
        "mkfifo",
        "rm",
        "mv",
        "rmdir",
        "sleep",
        "date",
        "tail",
        "head",
        "grep",
        "tr",
        "env",
        "cat",
    ]:
        (directory / name).symlink_to(shutil.which(name))
    assert not (directory / tool).exists()
    return str(directory)


def test_no_tmux(world):
    world.sshd.start(path=_path_without(world, "tmux"))
    error = _failure(world, world.standin())
    assert error.stage is Stage.TMUX and "tmux" in error.next_step


def test_how_a_server_ended_is_its_own_whatever_another_start_has_written(world):
    """The file `stage` is of whoever came last: a bring-up that meets the end of an earlier server."""
    lease = world.launcher().open([world.standin(local=True)])["lab-pc"]
    run = Path(world.base) / "lab-pc"
    (run / "stage").write_text("setup\n")
    os.kill(lease.server["pid"], 15)
    assert private.wait_until(lambda: not run.exists(), 20), sorted(os.listdir(run))


def test_stale_run_dir_after_a_reboot(world, local):
    run = Path(world.base) / "lab-pc"
    run.mkdir(parents=True, mode=0o700)
    Path(world.base).chmod(0o700)
    start = Path("/proc/self/stat").read_text().rsplit(") ", 1)[1].split()[19]
    (run / "pid").write_text(f"{os.getpid()} {start} 00000000-boot-before\n")
    (run / "endpoint.json").write_text('{"socket": "/nowhere", "wire": 2}')
    (run / "server.log").write_text("from before\n")
    (run / "sock").write_text("")
    launcher = world.launcher()
    assert launcher.open([world.standin(local=local)])["lab-pc"].started
    assert launcher.close() == []


def test_base_of_another_is_refused(world, local):
    if os.getuid() != 0:
        pytest.skip("only root can make a directory of another's")
    base = Path(world.base)
    base.mkdir(mode=0o700)
    os.chown(base, 65534, 65534)
    error = _failure(world, world.standin(local=local))
    assert error.stage is Stage.SHELL and "65534" in str(error) and base.exists()
    base.rmdir()


@pytest.mark.parametrize("kind", ["symlink", "open", "file"])
def test_base_that_is_not_safe_is_refused(world, local, kind):
    base = Path(world.base)
    if kind == "symlink":
        (world.directory / "elsewhere").mkdir(mode=0o700)
        base.symlink_to(world.directory / "elsewhere")
    elif kind == "open":
        base.mkdir(mode=0o755)
    else:
        base.write_text("")
    error = _failure(world, world.standin(local=local))
    assert error.stage is Stage.SHELL and str(base) in str(error) and error.next_step
    for look in (world.launcher().read_log, lambda host: world.launcher().follow_log(host, print, print)):
        with pytest.raises(StartFailed) as refused:
            look(world.standin(local=local))
        assert str(base) in str(refused.value) and refused.value.next_step
    base.rmdir() if kind == "open" else base.unlink()


def _dead_run(world) -> Path:
    """As a server leaves it that was killed whole."""
    run = Path(world.base) / "lab-pc"
    run.mkdir(parents=True)
    Path(world.base).chmod(0o700)
    (run / "server.log").write_text("its last words\n")
    (run / "pid").write_text("1 1 an-earlier-boot\n")
    return run


def _tool(world, monkeypatch, name: str, code: str) -> None:
    """A command that scripts find before the real one, which it is to call as `$real`."""
    folder = world.directory / "tools"
    folder.mkdir()
    (folder / name).write_text(f"#!/bin/sh\nreal={shutil.which(name)}\n{code}\n")
    (folder / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")


def test_a_dead_run_that_is_cleaned_away_under_a_bring_up(world, monkeypatch):
    """Between the bring-up's look at it and its first file there: it begins again."""
    run = _dead_run(world)
    gone, once = f"{world.base}/.gone.1", world.directory / "once"
    _tool(
        world, monkeypatch, "mv",
        f'"$real" "$@"; [ -d {run} ] && [ ! -e {once} ] || exit 0; mkdir {once}\n'
        f'"$real" {run} {gone}; for fifo in {gone}/ready.*; do echo gone 1<>"$fifo"; done; rm -r {gone}',
    )  # fmt: skip
    assert world.launcher().open([world.standin(local=True)])["lab-pc"].started


def test_clean_lets_a_run_alone_that_a_bring_up_has_entered_meanwhile(world, monkeypatch):
    run = _dead_run(world)
    _tool(world, monkeypatch, "find", f'mkfifo {run}/ready.x; "$real" "$@"')  # it counts the bytes
    ((_, remains),) = world.launcher().clean([world.standin(local=True)], dry=False)
    assert isinstance(remains, Remains) and not [item for item in remains.items if item[0] == "run"]
    assert (run / "ready.x").is_fifo() and (run / "pid").exists()
    shutil.rmtree(world.base)


def test_other_configuration_replaces_an_unused_server_only(world, local):
    first, second = world.standin(local=local), world.standin(local=local, env={"X_B": "1"})
    launcher, other = world.launcher(), world.launcher()
    pid = launcher.open([first])["lab-pc"].server["pid"]
    lease = other.open([second])["lab-pc"]
    assert lease.started and lease.server["pid"] != pid
    assert launcher.close() == [] and other.status([second])["lab-pc"].state is State.READY
    assert other.close() == []


def test_conflict_names_who_uses_it(world, local):
    launcher = world.launcher()
    launcher.open([world.standin("busy", local=local)])
    with pytest.raises(Conflict, match=r"ann@laptop.*her\.osc"):
        world.launcher().open([world.standin(local=local)])
    assert launcher.close() == [], "in use by another: left running"
    assert launcher.close() == []
    fresh = world.launcher()
    assert fresh.status([world.standin(local=local)])["lab-pc"].state is State.READY
    assert fresh.stop(world.standin(local=local)).how == "graceful"


def test_kept_counts_as_used(world, local):
    keeper = world.launcher(keep=True)
    host = world.standin(local=local)
    keeper.open([host])
    assert keeper.close() == []
    with pytest.raises(Conflict, match="kept up by"):
        world.launcher().open([world.standin(local=local, env={"X_B": "1"})])
    again = world.launcher()
    assert not again.open([host])["lab-pc"].started
    assert again.stop(host).how == "graceful"


def test_kill_ends_what_ignores_term(world, local):
    launcher = world.launcher()
    host = world.standin("stubborn", local=local)
    launcher.open([host])
    done = launcher.stop(host, hurry=True)
    assert done.how == "killed" and done.left == ()


def test_server_killed_leaves_a_dead_state(world, local):
    launcher = world.launcher()
    host = world.standin(local=local)
    lease = launcher.open([host])["lab-pc"]
    os.kill(lease.server["pid"], 9)
    import sshd as private

    assert private.wait_until(lambda: launcher.status([host])["lab-pc"].state is State.DEAD)
    assert launcher.close() == []


def test_unknown_host_key_shows_fingerprint_and_command(world):
    known = world.directory / "no ssh yet" / "known_hosts"
    host = world.standin(ssh=SshOptions(str(world.sshd.client_key), None, str(known)))
    error = _failure(world, host, Unreachable)
    assert error.stage is Stage.CONNECT and "SHA256:" in str(error) and "ssh-keyscan -p" in error.next_step
    # the command really accepts it
    assert os.system(error.next_step.split(": ", 1)[1] + " 2>/dev/null") == 0
    assert known.parent.stat().st_mode & 0o777 == 0o700
    launcher = world.launcher()
    launcher.open([host])
    assert launcher.close() == []


def test_changed_host_key(world):
    other = world.sshd.client_key.with_suffix(".pub").read_text().split()
    world.known_hosts.write_text(f"[127.0.0.1]:{world.sshd.port} {other[0]} {other[1]}\n")
    error = _failure(world, world.standin(), Unreachable)
    assert "CHANGED" in str(error) and "ssh-keygen -f" in error.next_step


def test_wrong_key(world):
    options = SshOptions(str(world.sshd.host_key), None, str(world.known_hosts))
    error = _failure(world, world.standin(ssh=options), Unreachable)
    assert error.stage is Stage.AUTHENTICATE and "host_key" in str(error) and "ssh-copy-id" in error.next_step


@pytest.mark.parametrize("machine", [Machine("no-such-host.invalid"), Machine("127.0.0.1", None, 1)])
def test_not_there_runs_nothing_here(world, machine):
    import dataclasses

    host = dataclasses.replace(world.standin(), machine=machine)
    error = _failure(world, host, Unreachable)
    assert error.stage is Stage.CONNECT and error.exit_code == 3
    assert not Path(world.base).exists()


def test_sshd_down_runs_nothing_here(world):
    world.sshd.close()
    error = _failure(world, world.standin(), Unreachable)
    assert "nothing listens" in str(error) and not Path(world.base).exists()


def test_one_unreachable_takes_the_others_down(world):
    import dataclasses

    bad = dataclasses.replace(world.standin(name="gone"), machine=Machine("127.0.0.1", None, 1))
    with pytest.raises(LauncherError, match="gone: connect"):
        world.launcher().open([world.standin(), bad])


def test_abort_during_bring_up_leaves_nothing(world, local):
    import time

    launcher = world.launcher()
    timer = threading.Timer(0.4, launcher.abort)
    timer.start()
    begun = time.monotonic()
    with pytest.raises(LauncherError):
        launcher.open([world.standin("hang", local=local, ready_timeout=90.0)])
    assert time.monotonic() - begun < 30
    assert launcher.close() == []


def test_lost_connection_is_told(world):
    launcher = world.launcher()
    lease = launcher.open([world.standin(lease=1.5)])["lab-pc"]
    assert not lease.lost.is_set()
    world.sshd.close()
    assert lease.lost.wait(20) and "not reached again within 1.5 s" in lease.reasons[0]
    world.sshd.start()
    assert launcher.close() == []


def test_ssh_config_is_honoured_and_ignored_options_named(world):
    import dataclasses

    config = world.home / ".ssh" / "config"
    me = world.standin().machine.user
    config.write_text(
        f"Host lab\n  HostName 127.0.0.1\n  Port {world.sshd.port}\n  User {me}\n"
        f"  IdentityFile {world.sshd.client_key}\n  StrictHostKeyChecking no\n"
        f"Host far\n  HostName 127.0.0.1\n  Port {world.sshd.port}\n  User {me}\n"
        f"  IdentityFile {world.sshd.client_key}\n  ProxyJump lab\n"
    )
    for name in ("lab", "far"):
        host = dataclasses.replace(world.standin(), machine=Machine(name), ssh=SshOptions())
        launcher = world.launcher()
        launcher.open([host])
        assert launcher.close() == []
    world.known_hosts.write_text("")
    host = dataclasses.replace(world.standin(), machine=Machine("lab"), ssh=SshOptions())
    assert f"StrictHostKeyChecking no ({config}:6)" in str(_failure(world, host, Unreachable))


class _Way(list):
    """A way to the sshd that breaks as `begin` says, until it is said that the login is tried again."""

    def __init__(self, world, begin):
        super().__init__()
        self.relay = Relay(world.sshd.port)
        line = world.sshd.known_hosts_line().replace(str(world.sshd.port), str(self.relay.port))
        world.known_hosts.write_text(world.known_hosts.read_text() + line)
        self.host = world.standin()
        self.host = replace(self.host, machine=replace(self.host.machine, port=self.relay.port))
        world.events = self
        begin(self.relay)

    def append(self, event):
        super().append(event)
        if "logging in once more" in event.reason:
            self.relay.restore(forget=True)


def test_a_first_login_that_breaks_on_its_way_is_tried_once_more(world):
    way = _Way(world, Relay.cut)
    launcher = world.launcher()
    assert launcher.open([way.host])["lab-pc"].started
    assert sum("logging in once more" in event.reason for event in way) == 1
    assert launcher.close() == []
    way.relay.close()


@pytest.mark.parametrize("what", ["host key", "our key"])
def test_a_login_that_is_refused_is_not_tried_again(world, what):
    way = _Way(world, lambda relay: None)
    if what == "host key":
        world.known_hosts.write_text("")
    else:
        world.sshd.directory.joinpath("authorized_keys").write_text("")
    error = _failure(world, way.host, Unreachable)
    assert error.stage is (Stage.CONNECT if what == "host key" else Stage.AUTHENTICATE)
    assert way.relay.accepted == 1
    way.relay.close()


def test_jumps_that_go_round_in_a_circle_are_refused(world):
    config = world.home / ".ssh" / "config"
    config.write_text(
        "Host self\n  ProxyJump self\nHost ping\n  ProxyJump pong\nHost pong\n  ProxyJump ping\n"
    )
    hosts = [
        HostSpec(name, Machine(name), ssh=SshOptions(str(world.sshd.client_key)))
        for name in ("self", "ping", "pong")
    ]
    launcher = world.launcher()
    seen = launcher.status(hosts)
    assert {one.state for one in seen.values()} == {State.UNREACHABLE}
    assert ["circle" in one.reason for one in seen.values()] == [True, True, True]
    assert launcher.close() == []


def test_a_key_with_a_passphrase(world):
    import shutil
    import subprocess

    key = world.directory / "locked"
    shutil.copy(world.sshd.client_key, key)
    shutil.copy(world.sshd.client_key.with_suffix(".pub"), f"{key}.pub")
    subprocess.run(["ssh-keygen", "-q", "-p", "-P", "", "-N", "open it", "-f", str(key)], check=True)
    host = world.host(ssh=SshOptions(str(key), None, str(world.known_hosts)))
    locked = world.launcher().status([host])["lab-pc"]
    assert locked.state is State.UNREACHABLE and f"needs a passphrase: {key}" in locked.reason
    prompts = []

    def ask(prompt: str, *, secret: bool) -> str:
        prompts.append((prompt, secret))
        return "open it"

    assert world.launcher(ask=ask).status([host])["lab-pc"].state is State.STOPPED
    assert prompts == [(f"passphrase of {key}: ", True)]


def test_follow_outlives_restart_and_lost_connection(world, local):
    import sshd as private

    host = world.standin(local=local)
    launcher, follower = world.launcher(), world.launcher()
    launcher.open([host])
    lines, troubles = [], []
    thread = threading.Thread(target=_follow, args=(follower, host, lines, troubles))
    thread.start()
    log = Path(world.base) / "lab-pc" / "server.log"

    def say(text: str) -> bool:
        with log.open("a") as file:
            file.write(f"{text}\n")
        return private.wait_until(lambda: text in lines, 15)

    assert private.wait_until(lambda: lines)
    assert say("one")
    assert launcher.stop(host).how == "graceful"
    launcher.open([host])
    assert say("two")
    if not local:
        world.sshd.close()
        assert private.wait_until(lambda: troubles)
        with log.open("a") as file:
            file.write("meanwhile\n")
        world.sshd.start()
        assert private.wait_until(lambda: "meanwhile" in lines, 20) and say("three")
        assert lines.count("two") == 1
    follower.abort()
    thread.join(5)
    assert not thread.is_alive()
    assert launcher.stop(host).how == "graceful"


def _follow(launcher, host, lines, troubles):
    try:
        launcher.follow_log(host, lines.append, troubles.append)
    except LauncherError:
        pass


CLIENT = """
import os, sys, time, json, uuid
import zmq, msgpack
from launcher.lease import Launcher
from launcher.model import HostSpec, Machine, SshOptions
args = json.loads(sys.argv[1])
machine, ssh = Machine(*args.pop("machine")), SshOptions(*args.pop("ssh"))
base = args.pop("base")
launcher = Launcher(None, environ=os.environ, base=base)
lease = launcher.open([HostSpec(machine=machine, ssh=ssh, **args)])["lab-pc"]
socket = zmq.Context().socket(zmq.DEALER)
socket.connect(lease.endpoint)
hello = {"v": 2, "id": 1, "session": str(uuid.uuid4()), "cmd": "hello", "client": {},
         "seen": None, "lease": 1.0}
socket.send(msgpack.packb(hello))
socket.poll(10000)
lease.connected()
print("ok", msgpack.unpackb(socket.recv())["ok"], flush=True)
time.sleep(1000)
"""


def test_real_server_starts_and_stops(world, local):
    launcher = world.launcher()
    host = world.host(local=local)
    lease = launcher.open([host])["lab-pc"]
    assert lease.server["wire"] == 2 and lease.server["config"] == host.config_hash
    assert launcher.close() == []


def test_lease_cleans_up_behind_a_killed_client(world, local):
    import json
    import subprocess
    import sys

    host = world.host(local=local, lease=1.0)
    machine, ssh = host.machine, host.ssh
    args = {
        "machine": [machine.host, machine.user, machine.port],
        "ssh": [ssh.identity, ssh.jump, ssh.known_hosts],
        "base": world.base, "name": host.name, "env": dict(host.env), "python": host.python, "lease": 1.0,
    }  # fmt: skip
    client = subprocess.Popen(
        [sys.executable, "-c", CLIENT, json.dumps(args)],
        env={**world.environ, "TMPDIR": str(world.tunnels)}, stdout=subprocess.PIPE,
        cwd=Path(__file__).parents[2],
    )  # fmt: skip
    assert client.stdout.readline() == b"ok True\n"
    assert Path(world.base, "lab-pc", "sock").exists()
    client.kill()
    client.wait()
    client.stdout.close()
    # the world's check waits until all of it is gone


@pytest.mark.parametrize("interactive", ["yes", "no"])
def test_password_is_asked_for_on_a_terminal_only(world, interactive):
    import subprocess

    account = world.account()
    hashed = subprocess.run(
        ["openssl", "passwd", "-6", "s3cret pw"], capture_output=True, text=True, check=True
    )
    subprocess.run(["usermod", "-p", hashed.stdout.strip(), account.name], check=True)
    world.sshd.start("PasswordAuthentication yes", f"KbdInteractiveAuthentication {interactive}")
    host = world.standin(user=account.name, ssh=SshOptions(None, None, str(world.known_hosts)))
    error = _failure(world, host, Unreachable)
    assert error.stage is Stage.AUTHENTICATE and "password" in str(error) and "no key to try" in str(error)
    prompts = []

    def ask(prompt: str, *, secret: bool) -> str:
        prompts.append((prompt, secret))
        return "s3cret pw"

    launcher = world.launcher(ask=ask, base="")
    launcher.open([host, world.standin(name="two", user=account.name, ssh=host.ssh)])
    assert len(prompts) == 1 and prompts[0][1] and account.name in prompts[0][0]
    assert launcher.close() == []


def test_forwarding_refused_is_told(world):
    world.sshd.start("AllowStreamLocalForwarding no")
    launcher = world.launcher()
    lease = launcher.open([world.standin()])["lab-pc"]
    assert lease.lost.wait(10) and "AllowStreamLocalForwarding" in lease.reasons[0]
    assert launcher.close() == []


def test_status_of_many_hosts_is_one_exec(world):
    hosts = [world.standin(name=f"lab-{n}") for n in range(10)]
    launcher = world.launcher()
    before = (world.sshd.directory / "sshd.log").read_text().count("Starting session")
    world.sshd.start("LogLevel VERBOSE")
    assert {one.state for one in launcher.status(hosts).values()} == {State.STOPPED}
    log = (world.sshd.directory / "sshd.log").read_text()
    assert log.count("Starting session") - before == 1


AT_EXIT = """
import atexit, json, os, sys
from launcher.lease import Launcher
from launcher.model import HostSpec, Machine, SshOptions
args = json.loads(sys.argv[1])
machine, ssh = Machine(*args.pop("machine")), SshOptions(*args.pop("ssh"))
launcher = Launcher(None, environ=os.environ, base=args.pop("base"))
launcher.open([HostSpec(machine=machine, ssh=ssh, **args)])
atexit.register(lambda: print("left", launcher.close()))
"""


def test_close_works_at_interpreter_exit(world, local):
    import json
    import subprocess
    import sys

    host = world.standin(local=local)
    args = {
        "machine": [host.machine.host, host.machine.user, host.machine.port],
        "ssh": [host.ssh.identity, host.ssh.jump, host.ssh.known_hosts],
        "base": world.base, "name": host.name, "env": dict(host.env), "python": host.python,
        "server": host.server,
    }  # fmt: skip
    done = subprocess.run(
        [sys.executable, "-c", AT_EXIT, json.dumps(args)], capture_output=True, text=True, timeout=30,
        env={**world.environ, "TMPDIR": str(world.tunnels)}, cwd=Path(__file__).parents[2],
    )  # fmt: skip
    assert done.stdout == "left []\n" and done.stderr == ""
    assert world.leftovers() == []
