"""Who may connect, and who sees what (DESIGN 9), tried from another machine and as another account."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import sshd as private
from commandline import BIN, ENDS_WITHIN, Terminal
from namespaces import Namespace

from launcher.errors import StartFailed
from launcher.model import Stage

SECRET, CLIENT_SECRET = "hunter2-of-the-host", "hunter3-of-the-client"


@pytest.fixture
def terminal(world):
    made = Terminal(world)
    yield made
    for name in made.own_hosts():
        made.se_remote("kill", name, "--force")


# -- from another machine

SCAN = """
import selectors, socket, sys
address, limit = sys.argv[1], 500
chooser, waiting, found = selectors.DefaultSelector(), 0, []
def finish():
    global waiting
    for key, _ in chooser.select(2):
        chooser.unregister(key.fileobj)
        if key.fileobj.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) == 0:
            found.append(key.data)
        key.fileobj.close()
        waiting -= 1
for port in range(1, 65536):
    sock = socket.socket()
    sock.setblocking(False)
    if sock.connect_ex((address, port)) == 0:
        found.append(port)
        sock.close()
        continue
    chooser.register(sock, selectors.EVENT_WRITE, port)
    waiting += 1
    while waiting >= limit:
        finish()
while waiting:
    finish()
print(*found)
"""


def listening(pid: int) -> list[str]:
    """Open ports of a process's network, UDP ones too."""
    found = []
    for kind, state in (("tcp", "0A"), ("tcp6", "0A"), ("udp", "07"), ("udp6", "07"), ("raw", "07")):
        for line in Path(f"/proc/{pid}/net/{kind}").read_text().splitlines()[1:]:
            words = line.split()
            if words[3] == state:
                found.append(f"{kind} {int(words[1].rpartition(':')[2], 16)}")
    return sorted(found)


def test_no_port_is_open_while_a_server_runs_there(bed):
    """On the host and at the client; nor an abstract socket, which has no owner and no mode."""
    host = bed.hosts[0]
    inventory = bed.directory / "security.yaml"
    inventory.write_text(
        f"hosts:\n  {host.name}:\n    machine: root@{host.address}\n    python: {sys.executable}\n"
        f"    ssh: {{identity: {bed.identity}, known_hosts: {bed.known_hosts}}}\n"
    )
    environ = {"PATH": f"{BIN}:{os.environ['PATH']}", "HOME": str(bed.directory), "PYTHONUNBUFFERED": "1"}

    def se_remote(*words: str) -> subprocess.Popen[str]:
        command = [str(BIN / "se-remote"), "-i", str(inventory), *words]
        return bed.popen(command, env=environ, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)

    def scan(address: str, where: Namespace = bed.client) -> list[str]:
        return where.run(sys.executable, "-c", SCAN, address).split()

    try:
        before = listening(host.init)
        assert before == ["tcp 22"] and scan(host.address) == ["22"]
        call = se_remote("call", host.name, "run_process", "command=sleep 50")
        assert private.wait_until(lambda: any("sleep 50" in p.command for p in host.guests()), 30)
        assert listening(host.init) == before and listening(call.pid) == []
        assert scan(host.address) == ["22"] and scan("10.77.0.1", bed.hosts[1].net) == []
        for pid in (host.init, call.pid):
            names = [line.split()[-1] for line in Path(f"/proc/{pid}/net/unix").read_text().splitlines()[1:]]
            assert not [name for name in names if name.startswith("@")]
        call.send_signal(signal.SIGINT)
        call.communicate(timeout=ENDS_WITHIN)
        assert private.wait_until(lambda: host.leftovers() == [], 20), host.leftovers()
    finally:
        host.repair()


# -- as another account on the host

INTRUDER = """
import os, socket, sys
for path in sys.argv[1:]:
    for what, attempt in (
        ("lists", os.listdir), ("reads", lambda p: open(p, "rb").read(1)),
        ("writes", lambda p: open(p, "ab")),
        ("connects to", lambda p: socket.socket(socket.AF_UNIX).connect(p)),
        ("makes a file in", lambda p: open(p + "/x", "x")), ("removes", os.unlink),
        ("renames", lambda p: os.rename(p, p + ".x")),
    ):
        try:
            attempt(path)
        except OSError:
            continue
        print(what, path)
"""


UNTOLD = ("python", "stage", "lock")
"""Files that tell nothing, written with the umask that the setup lines have set."""


def intrude(account: private.Account, paths: list[Path]) -> str:
    """What that account can do to these paths."""
    assert all(os.path.lexists(path) for path in paths)
    done = subprocess.run(
        ["/usr/bin/python3", "-c", INTRUDER, *map(str, paths)],
        user=account.uid, group=account.uid, extra_groups=[], cwd="/", capture_output=True, text=True,
        timeout=30,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_another_account_can_neither_connect_nor_read_nor_write(world):
    owner, other = world.account(), world.account()
    owner.home.chmod(0o755)
    launcher = world.launcher(base="", keep=True)
    host = world.host(user=owner.name, env={"API_TOKEN": SECRET}, setup="umask 000", on_stop="true")
    launcher.open([host])
    launcher.stop(host)
    lease = launcher.open([host])["lab-pc"]
    base = Path(f"/tmp/se-remote-{owner.uid}")
    state = owner.home / ".local/state"
    inside = [base, *base.rglob("*")]
    assert {"sock", "server.log", "tmux", "endpoint.json", "state.json"} <= {p.name for p in inside}
    assert [p for p in inside if p.name.startswith("env.")] and [p for p in inside if "safe" in p.name]
    logs = list((state / "se-remote").rglob("*.log"))
    assert logs
    assert lease.tunnel_path is not None
    tunnel = [Path(lease.tunnel_path), Path(lease.tunnel_path).parent]
    assert intrude(other, [*inside, state / "se-remote", *logs, *tunnel]) == ""
    # Each by itself, not only by the directory around it; the world's folder is open to all.
    for path in (*inside, state / "se-remote", *(state / "se-remote").rglob("*"), tunnel[1]):
        if path.name not in UNTOLD and not (path.is_socket() and path.parent == base):
            assert path.lstat().st_mode & 0o077 == 0, f"{path} {path.lstat().st_mode:o}"
    assert base.stat().st_uid == owner.uid and base.stat().st_mode & 0o777 == 0o700
    assert (base / "lab-pc" / "sock").stat().st_mode & 0o777 == 0o600
    assert tunnel[1].stat().st_mode & 0o777 == 0o700
    assert str(owner.uid) == str(int(re.findall(r"\d+$", str(base))[0]))
    # The intruder's means work where there is something to take.
    world.directory.joinpath("open").write_text("x")
    world.directory.joinpath("open").chmod(0o666)
    assert "reads" in intrude(other, [world.directory / "open"])
    assert launcher.stop(host).how == "graceful"


@pytest.mark.parametrize("trap", ["link", "link to nothing", "directory", "open directory", "file"])
def test_a_trap_that_another_account_has_laid_is_refused(world, trap):
    owner, other = world.account(), world.account()
    base = Path(f"/tmp/se-remote-{owner.uid}")
    target = world.directory / "target"
    target.mkdir(mode=0o700)
    os.chown(target, owner.uid, owner.uid)  # even one that is ours: a link is not
    lay = {
        "link": lambda: base.symlink_to(target),
        "link to nothing": lambda: base.symlink_to("/tmp/nowhere-at-all"),
        "directory": lambda: base.mkdir(mode=0o700),
        "open directory": lambda: (base.mkdir(), base.chmod(0o777)),
        "file": lambda: base.write_text(""),
    }
    lay[trap]()
    os.chown(base, other.uid, other.uid, follow_symlinks=False)
    try:
        launcher = world.launcher(base="")
        with pytest.raises(StartFailed) as caught:
            launcher.open([world.standin(user=owner.name)])
        assert caught.value.stage is Stage.SHELL and str(base) in str(caught.value)
        assert caught.value.next_step
        assert not list(target.iterdir()) and not os.path.exists("/tmp/nowhere-at-all")
        assert private.marked(world.mark) == []
    finally:
        base.rmdir() if trap.endswith("directory") else base.unlink()


def test_the_mode_of_a_socket_is_what_decides(world):
    """The line of the field, as a sidecar starts it."""
    other = world.account()
    folder = world.directory / "ipc"
    folder.mkdir()
    folder.chmod(0o755)
    for mode, reachable in (("", False), ("660", False), ("666", True)):
        path = folder / f"robot{mode}"
        command = [str(BIN / "scenario_execution_server"), "--watchdog", "30", "--connect-timeout", "30"]
        command += ["--socket", str(path), *(["--socket-mode", mode] if mode else [])]
        process = subprocess.Popen(command, env=world.environ, stdout=subprocess.PIPE, text=True)
        try:
            assert process.stdout is not None and "listening" in process.stdout.readline()
            assert path.stat().st_mode & 0o777 == int(mode or "600", 8)
            assert ("connects to" in intrude(other, [path])) == reachable
        finally:
            process.terminate()
            process.communicate(timeout=ENDS_WITHIN)


def test_a_port_beyond_loopback_needs_the_word_insecure(world):
    server = str(BIN / "scenario_execution_server")
    for address in ("0.0.0.0", "::", "10.1.2.3"):
        done = subprocess.run([server, "--port", "0", "--bind", address], capture_output=True, text=True)
        assert done.returncode == 2 and "--insecure" in done.stderr and "run commands as" in done.stderr
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [server, "--port", str(port), "--bind", "0.0.0.0", "--insecure"]
    process = subprocess.Popen(
        command, env=world.environ, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    try:
        assert process.stdout is not None
        said = process.stdout.readline()
        assert "warning" in said and "everybody who reaches 0.0.0.0" in said
        assert "listening" in process.stdout.readline()
    finally:
        process.terminate()
        process.communicate(timeout=ENDS_WITHIN)


# -- secrets


class Watch:
    """Looks at every command line of this machine, all the time."""

    def __init__(self, *secrets: str) -> None:
        self._needles = [secret.encode() for secret in secrets]
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)
        self.found: set[bytes] = set()
        self.rounds = 0

    def __enter__(self) -> Watch:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _look(self) -> None:
        while not self._over.is_set():
            self.rounds += 1
            for entry in os.listdir("/proc"):
                if entry.isdigit():
                    try:
                        line = Path(f"/proc/{entry}/cmdline").read_bytes()
                    except OSError:
                        continue
                    if any(needle in line for needle in self._needles):
                        self.found.add(line)


def test_secrets_are_in_no_command_line_log_or_window(terminal, monkeypatch):
    monkeypatch.setenv("CLIENT_TOKEN", CLIENT_SECRET)
    check = terminal.folder / "check"
    check.write_text(f"test ${{#API_TOKEN}} = {len(SECRET)} && test ${{#COPY}} = {len(SECRET)}")
    entry = terminal.entry(
        terminal.name, env=f"{{API_TOKEN: {SECRET}}}", setup="export COPY=$API_TOKEN", on_stop="'true'"
    )
    terminal.write_inventory(entry)
    tmux = ["tmux", "-S", f"{terminal.run_dir.parent}/tmux"]
    seen = []
    with Watch(SECRET, CLIENT_SECRET) as watch:
        up = terminal.se_remote("up", terminal.name)
        assert up.code == 0, up.text
        call = terminal.se_remote("call", terminal.name, "run_process", f"command=sh {check}")
        assert call.code == 0, call.text
        bad = terminal.se_remote("call", terminal.name, "run_process", "command=no-such-command-here")
        assert bad.code != 0
        scenario = terminal.scenario('log("x") with:\n    remote("lab-pc")\n')
        assert scenario.code == 0, scenario.text
        status = terminal.se_remote("status", terminal.name, "--json")
        windows = terminal.run(*_env(tmux), "list-windows", "-aF", "#{window_id} #{@se_remote_name}").out
        (window,) = [line.split()[0] for line in windows.splitlines() if line.endswith(terminal.name)]
        pane = terminal.run(*_env(tmux), "capture-pane", "-p", "-S-", "-t", window).out
        options = terminal.run(*_env(tmux), "show-environment", "-g").out
        running = terminal.se_remote("logs", terminal.name, "-n", "all")
        kill = terminal.se_remote("kill", terminal.name)
        archived = terminal.se_remote("logs", terminal.name, "-n", "all")
        seen += [done.text for done in (up, call, bad, scenario, status, running, kill, archived)]
    assert watch.rounds > 20 and watch.found == set()
    assert "listening" in pane and "listening" in running.out and "stopping" in archived.out
    for text in (*seen, pane):
        assert SECRET not in text and CLIENT_SECRET not in text
    assert SECRET not in options
    assert json.loads(status.out)


def _env(tmux: list[str]) -> list[str]:
    return ["/usr/bin/env", *tmux]
