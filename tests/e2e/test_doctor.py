"""`se-remote doctor` against hosts that are broken in the ways it claims to see: found, cured, gone."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import venv
from pathlib import Path

import py_trees
import pytest
import sshd as private
from commandline import BIN, ENDS_WITHIN, Terminal
from provisionbed import checkout, distribution

from launcher.doctor import gathering
from launcher.model import Stage

ARM = "[scenario_execution.actions]\ngrasp = arm_actions:Grasp\n"


@pytest.fixture
def terminal(world):
    made = Terminal(world)
    yield made
    made.se_remote("kill", made.name, "--force")
    assert not made.run_dir.exists()


def diagnose(terminal, *words):
    """Exit code and findings of the one host, by check."""
    done = terminal.se_remote("doctor", *(words or (terminal.name,)), "--json")
    assert done.out, done.err
    (host,) = json.loads(done.out)["hosts"]
    found = {}
    for finding in host["findings"]:
        found.setdefault(finding["check"], []).append(finding)
    assert host["runs"] is (done.code == 0)
    return done.code, found


def bad(found):
    """What is wrong: check to level."""
    return {
        check: finding["level"] for check, some in found.items() for finding in some
        if finding["level"] in ("warning", "failed")
    }  # fmt: skip


def only(found, check):
    (finding,) = [finding for finding in found[check] if finding["level"] in ("warning", "failed")]
    return finding


def of_account(terminal, account, **more):
    """The inventory's host is that account; run directories lie in its own place."""
    python, path = terminal.world.python
    env = json.dumps({"PYTHONPATH": path, **private.SOON})
    entry = terminal.entry(terminal.name, env=env, **more)
    entry = re.sub(r"machine: \S+@", f"machine: {account.name}@", entry)
    entry = re.sub(r"    python: .*\n", f"    python: {more.get('python', python)}\n", entry, count=1)
    terminal.write_inventory(entry)


def own(account, path, text, mode=0o644):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(mode)
    for one in (path, path.parent):
        os.chown(one, account.uid, -1)


def tool(folder: Path, name: str, text: str) -> None:
    (folder / name).unlink(missing_ok=True)
    (folder / name).write_text(f"#!/bin/sh\n{text}\n")
    (folder / name).chmod(0o755)


def test_nothing_is_wrong_and_nothing_is_left(terminal):
    done = terminal.se_remote("doctor", "lab-pc")
    assert done.code == 0, done.text
    assert "✗" not in done.out and "a scenario can run there" in done.out
    for check in (
        "resolve",
        "connect",
        "authenticate",
        "shell",
        "tmux",
        "python",
        "start",
        "tunnel",
        "hello",
    ):
        assert re.search(rf"^  ✓ +{check} ", done.out, re.MULTILINE), check
    assert not terminal.run_dir.exists(), "the server on trial is gone"

    terminal.se_remote("up", "lab-pc")
    pid = json.loads(terminal.se_remote("status", "lab-pc", "--json").out)[0]["pid"]
    code, found = diagnose(terminal)
    assert (code, bad(found)) == (0, {}) and "the server that is up answered" in found["start"][0]["text"]
    assert json.loads(terminal.se_remote("status", "lab-pc", "--json").out)[0]["pid"] == pid


def test_all_that_is_broken_is_found_at_once_and_cured(terminal):
    """Noise, another clock, no tmux, one session, sudo that asks, a locked device, an open run directory."""
    account = terminal.world.account()
    tools = terminal.world.directory / "tools"
    tools.mkdir()
    for folder in ("/usr/bin", "/bin", "/usr/sbin"):
        for path in Path(folder).iterdir():
            if path.name not in ("tmux", "date", "sudo") and not (tools / path.name).exists():
                (tools / path.name).symlink_to(path)
    tool(tools, "date", f'[ "$*" = +%s ] && echo 4102444800 || exec {shutil.which("date")} "$@"')
    tool(tools, "sudo", "echo 'sudo: a password is required' >&2; exit 1")
    own(account, account.home / ".bashrc", "echo Welcome to the robot\n")
    device = Path(f"/dev/shm/{terminal.name}")
    device.touch(mode=0o600)
    base = Path(f"/tmp/se-remote-{account.uid}")
    base.mkdir(mode=0o755)
    os.chown(base, account.uid, -1)
    terminal.world.sshd.start("MaxSessions 1", path=str(tools))
    of_account(terminal, account, on_stop=f"sudo motors off {device}")
    try:
        code, found = diagnose(terminal)
        assert code == 1
        expected = {
            "shell": "failed", "tmux": "failed", "sudo": "failed", "groups": "failed", "clock": "warning",
            "sessions": "warning",
        }  # fmt: skip
        assert bad(found) == {**expected, "shell": "warning"} or bad(found) == expected
        shell = {finding["level"]: finding for finding in found["shell"]}
        assert "Welcome to the robot" in shell["warning"]["text"]
        assert shell["failed"]["cures"] == [f"chmod 700 {base}"]
        assert "there is no tmux" in only(found, "tmux")["text"]
        assert "ahead of ours" in only(found, "clock")["text"]
        assert "allows 1 sessions" in only(found, "sessions")["text"]
        assert "password" in only(found, "sudo")["text"] and "NOPASSWD" in only(found, "sudo")["cures"][0]
        assert str(device) in only(found, "groups")["text"]
        unseen = [check for check, some in found.items() if some[0]["level"] == "not looked at"]
        assert unseen == ["start, tunnel, hello"], "no server is tried where it could not run"

        base.chmod(0o700)
        device.chmod(0o666)
        own(
            account,
            account.home / ".bashrc",
            "case $- in *i*) ;; *) return ;; esac\necho Welcome to the robot\n",
        )
        tool(tools, "sudo", "exit 0")
        (tools / "date").unlink()
        (tools / "date").symlink_to(shutil.which("date"))
        (tools / "tmux").symlink_to(shutil.which("tmux"))
        terminal.world.sshd.start(path=str(tools))
        code, found = diagnose(terminal)
        assert (code, bad(found)) == (0, {}), found
    finally:
        device.unlink()


@pytest.mark.parametrize("shell", ["fish", pytest.param("tcsh", marks=pytest.mark.slow)])
def test_other_login_shells(terminal, shell):
    path = shutil.which(shell)
    assert path is not None
    account = terminal.world.account(path)
    rc = {"fish": ".config/fish/config.fish", "tcsh": ".tcshrc"}[shell]
    own(account, account.home / rc, "echo ahoy\n")
    if shell == "fish":
        os.chown(account.home / ".config", account.uid, -1)
    of_account(terminal, account)
    code, found = diagnose(terminal, terminal.name, "--no-start")
    assert (code, bad(found)) == (0, {"shell": "warning"})
    assert "'ahoy'" in only(found, "shell")["text"]
    own(account, account.home / rc, "")
    code, found = diagnose(terminal, terminal.name, "--no-start")
    assert (code, bad(found)) == (0, {})
    assert found["start, tunnel, hello"][0]["text"] == "not tried: --no-start"


def test_what_hangs_is_said_while_it_does(terminal, monkeypatch):
    """`setup` goes on as soon as it is named; an rc file is not waited for as long as for an answer."""
    monkeypatch.setattr(gathering, "SHELL_S", 2.0)
    world = terminal.world
    account, waits = world.account(), world.directory / "waits"
    hang = f"while [ -e {waits} ]; do sleep 0.05; done\n"
    host = world.host(user=account.name, setup=hang)
    noted = []

    async def examine(group, runner):
        def note(what, seconds):
            noted.append(what)
            if what == "`setup` of lab-pc":
                waits.unlink(missing_ok=True)

        return await gathering.examine(group, {}, runner, base=world.base, note=note)

    def diagnosis():
        waits.touch()
        ((_, found),) = world.launcher().on_each_machine([host], examine)
        return found

    found = diagnosis()
    assert found.hosts["lab-pc"].setup_code == 0 and "`setup` of lab-pc" in noted
    own(account, account.home / ".bashrc", f"echo Welcome\n{hang}")
    noted.clear()
    error = diagnosis()
    assert (error.stage, error.tail, set(noted)) == (Stage.SHELL, ("Welcome",), {"the login shell"}), error
    assert "has not come to run our script within 2 s" in error.cause and ".bashrc" in error.next_step
    waits.unlink()


def test_a_login_shell_that_runs_nothing(terminal):
    account = terminal.world.account(shutil.which("nologin") or "/bin/false")
    of_account(terminal, account)
    code, found = diagnose(terminal)
    assert (code, bad(found)) == (1, {"shell": "failed"})
    assert "did not run `sh`" in only(found, "shell")["text"]


def test_a_machine_that_was_reflashed(terminal):
    """Its key is another one: the cures, followed as they stand, make it known again."""
    sshd, known = terminal.world.sshd, terminal.world.known_hosts
    sshd.host_key.unlink()
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(sshd.host_key)], check=True)
    sshd.start()
    code, found = diagnose(terminal)
    changed = only(found, "connect")
    assert code == 3 and "has CHANGED" in changed["text"] and "reflashed" in changed["cures"][0]
    command = re.search(r"ssh-keygen -f .*?(?=; then again)", changed["cures"][1]).group(0)
    subprocess.run(["sh", "-c", command], check=True, capture_output=True)
    assert "ssh-ed25519" not in known.read_text()

    code, found = diagnose(terminal)
    unknown = only(found, "connect")
    assert code == 3 and "is not known" in unknown["text"]
    command = unknown["cures"][0].removeprefix("if that is its key: ")
    subprocess.run(["sh", "-c", command], check=True, capture_output=True)
    code, found = diagnose(terminal, terminal.name, "--no-start")
    assert (code, bad(found)) == (0, {})


def test_a_machine_that_lets_nobody_in(terminal):
    config = terminal.world.home / ".ssh" / "config"
    (config.parent / "lab").mkdir()
    (config.parent / "lab" / "keys.conf").write_text(
        "Host 127.*\n  AddKeysToAgent yes\nHost other\n  UseKeychain yes\n"
    )
    config.write_text("Host 127.*\n  Include lab/*.conf missing\nHost other\n  NumberOfPasswordPrompts 1\n")
    keys = terminal.world.sshd.directory / "authorized_keys"
    text = keys.read_text()
    keys.write_text("")
    code, found = diagnose(terminal)
    assert code == 3 and set(bad(found)) == {"authenticate"}
    levels = {finding["level"]: finding for finding in found["authenticate"]}
    assert "ssh-copy-id" in levels["failed"]["cures"][0]
    assert f"AddKeysToAgent yes ({config.parent}/lab/keys.conf:2)" in levels["warning"]["text"]
    assert "UseKeychain" not in json.dumps(found) and "NumberOfPasswordPrompts" not in json.dumps(found)
    keys.write_text(text)
    code, found = diagnose(terminal, terminal.name, "--no-start")
    assert (code, bad(found)) == (0, {}) and "not needed: AddKeysToAgent" in found["connect"][0]["text"]


def test_what_only_a_trial_shows(terminal):
    terminal.world.sshd.start("AllowStreamLocalForwarding no")
    code, found = diagnose(terminal)
    assert (code, bad(found)) == (1, {"tunnel": "failed"})
    assert "AllowStreamLocalForwarding" in json.dumps(found["tunnel"])
    terminal.world.sshd.start()
    terminal.write_inventory(terminal.entry(terminal.name, server="echo I give up; exit 3; {server}"))
    code, found = diagnose(terminal)
    assert (code, bad(found)) == (1, {"start": "failed"})
    assert (
        "I give up" in only(found, "start")["text"] and "se-remote logs" in only(found, "start")["cures"][0]
    )


def test_setup_python_and_packages_and_a_name_that_is_wrong(terminal):
    venv.create(terminal.world.directory / "bare", with_pip=False)
    bare = str(terminal.world.directory / "bare" / "bin" / "python")
    entries = {
        "setup": {"setup": "source /no/such/setup.bash"},
        "python": {"python": "/no/such/python"},
        "packages": {"python": bare, "env": "{PYTHONPATH: ''}"},
    }
    names = {check: f"{terminal.name}-{check}" for check in entries}
    texts = []
    for check, more in entries.items():
        text = terminal.entry(names[check], **{k: v for k, v in more.items() if k != "python"})
        texts.append(re.sub(r"python: .*", f"python: {more['python']}", text) if "python" in more else text)
    terminal.write_inventory(*texts)
    done = terminal.se_remote("doctor", *names.values(), f"{terminal.name}-pythn", "--json", "--no-start")
    assert done.code == 1
    *hosts, unknown = json.loads(done.out)["hosts"]
    assert f'did you mean "{names["python"]}"?' in unknown["findings"][0]["text"] and not unknown["runs"]
    for check, host in zip(entries, hosts, strict=True):
        wrong = [finding for finding in host["findings"] if finding["level"] == "failed"]
        assert [finding["check"] for finding in wrong] == [check], host["findings"]
        cure = f"se-remote provision {names[check]}"
        assert check == "setup" or wrong[0]["cures"][0].endswith(cure)


def test_another_version_of_something_there(terminal, monkeypatch):
    """In front of what is installed, as ROS or a workspace has it: py_trees, an action, another wire."""
    top = terminal.world.directory
    module = distribution(top / "ros", "py_trees", version="2.2.3")
    module.with_suffix("").symlink_to(Path(py_trees.__file__).parent)
    distribution(top / "here", "arm_actions", version="2.0", entry_points=ARM).write_text("")
    distribution(top / "there", "arm_actions", version="1.9", entry_points=ARM).write_text("")
    checkout(top / "other", "0.9.0", wire=1)
    distribution(top / "other", "se_remote", version="0.9.0")
    monkeypatch.setenv("PYTHONPATH", str(top / "here"))  # of the client
    folders = {"shadow": top / "ros", "action": top / "there", "wire": top / "other", "same": top / "here"}
    names = {what: f"{terminal.name}-{what}" for what in folders}
    entries = [terminal.entry(names[what], setup=f"export PYTHONPATH={folders[what]}") for what in folders]
    terminal.write_inventory(*entries)
    done = terminal.se_remote("doctor", *names.values(), "--json", "--no-start")
    assert done.code == 1
    shadow, action, wire, same = (
        {f["check"]: f for f in host["findings"] if f["level"] in ("warning", "failed")}
        for host in json.loads(done.out)["hosts"]
    )
    assert shadow.keys() == {"packages", "plugins"} and "plugins" in wire and same == {}
    assert f"py_trees 2.2.3 is taken from {top}/ros" in shadow["packages"]["text"]
    assert "not 2.4" in shadow["packages"]["text"], shadow
    assert f"se-remote provision {names['shadow']}, and take `python` out" in shadow["packages"]["cures"][0]
    assert "arm-actions 2.0 is not there" in shadow["plugins"]["text"].replace("_", "-")
    assert action.keys() == {"plugins"} and "is 1.9 there and arm_actions 2.0" in action["plugins"]["text"]
    assert wire["packages"]["level"] == "failed"
    assert "se-remote 0.9.0 there speaks wire version 1" in wire["packages"]["text"]

    (top / "ros" / "py_trees").unlink()  # one that does not do at all
    (top / "ros" / "py_trees.py").write_text("raise ImportError('too old')\n")
    done = terminal.se_remote("doctor", names["shadow"], "--json", "--no-start")
    texts = [f["text"] for f in json.loads(done.out)["hosts"][0]["findings"] if f["check"] == "packages"]
    assert done.code == 1 and len(texts) == 2
    assert "py_trees 2.2.3 is taken from" in texts[0] and "too old" in texts[1]


@pytest.mark.slow  # what is left is also found in test_doctor_script.py
def test_what_a_dead_server_has_left(terminal):
    osc = terminal.write_scenario('run_process("setsid sleep 600") with:\n    remote("lab-pc")')
    running = terminal.start("scenario_execution", osc)
    assert private.wait_until(lambda: any("sleep 600" in p for p in private.marked(terminal.world.mark)), 30)
    everyone = [text.split()[0] for text in private.marked(terminal.world.mark)]
    family = [
        pid for pid in everyone
        if f"SE_REMOTE_RUN={terminal.run_dir}".encode() in Path(f"/proc/{pid}/environ").read_bytes()
        and b"sleep" not in Path(f"/proc/{pid}/cmdline").read_bytes()
    ]  # fmt: skip
    tmux = [
        "tmux",
        "-S",
        str(terminal.run_dir.parent / "tmux"),
        "list-panes",
        "-a",
        "-F",
        "#{pane_pid} #{window_name}",
    ]
    panes = subprocess.run(tmux, capture_output=True, text=True, check=True).stdout.splitlines()
    for pid in family:
        os.kill(int(pid), signal.SIGSTOP)  # nobody ends anything because another has ended
    for pid in [*(pane.split()[0] for pane in panes if pane.endswith(f" {terminal.name}")), *family]:
        with contextlib.suppress(ProcessLookupError):  # one may have ended with another
            os.kill(int(pid), signal.SIGKILL)  # the wrapper first: nobody is left to clean up
    running.kill()
    running.communicate()
    code, found = diagnose(terminal, terminal.name, "--no-start")
    assert (code, bad(found)) == (0, {"leftovers": "warning"})
    left = only(found, "leftovers")
    assert "sleep 600" in left["text"] and left["cures"] == [f"se-remote kill {terminal.name} --force"]
    assert terminal.run(*left["cures"][0].split()).code == 0
    code, found = diagnose(terminal, terminal.name, "--no-start")
    assert (code, bad(found)) == (0, {})


def test_without_utf8_it_is_ascii_and_the_peers_package_is_named(terminal):
    """Two packages register `remote` here: a scenario gets either."""
    info = terminal.world.directory / "site" / "a_peer-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: a-peer\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[scenario_execution.modifiers]\nremote = json:loads\n")
    ascii_only = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    environ = {**terminal.environ, **ascii_only, "PYTHONPATH": str(info.parent)}
    command = [str(BIN / "se-remote"), "doctor", "nobody@127.0.0.1:1"]
    done = subprocess.run(command, env=environ, cwd=terminal.folder, capture_output=True, timeout=ENDS_WITHIN)
    assert done.returncode == 3
    text = done.stdout.decode("ascii")
    for line in (r"X +connect +nothing listens", r"ok +resolve ", r"X +modifier +a-peer registers `remote`"):
        assert re.search(f"^  {line}", text, re.MULTILINE), text
    assert "try: python3 -m pip uninstall a-peer" in text


def test_processes_are_looked_at_where_they_run(terminal):
    """No host stands for their machine; a host that needs one is looked at with it."""
    machine = re.search(r"machine: (\S+)", terminal.entry("x")).group(1)
    ssh = re.search(r"ssh: (.*)", terminal.entry("x")).group(1)
    (terminal.folder / "se-remote.yaml").write_text(
        f"hosts:\n  lab: {{machine: local, depends: [bridge], python: {BIN}/python}}\n"
        "processes:\n"
        f"  the world: {{cmd: sleep 1, machine: {machine}, ssh: {ssh}, setup: 'echo no maps; false'}}\n"
        "  bridge: {cmd: sleep 1, machine: nobody@127.0.0.1:1, depends: [the world]}\n"
        "  other: {cmd: sleep 1, machine: nobody@127.0.0.1:2}\n"
    )
    done = terminal.se_remote("doctor", "lab", "--no-start", "--json")
    assert done.code == 3, done.text
    lab, bridge, world = json.loads(done.out)["hosts"]
    assert (lab["runs"], lab["processes"]) == (True, [])
    assert (bridge["host"], bridge["runs"], bridge["processes"]) == ("bridge", False, ["bridge"])
    failed = [finding for finding in world["findings"] if finding["level"] == "failed"]
    assert [finding["check"] for finding in failed] == ["setup"] and "no maps" in failed[0]["text"]

    text = (terminal.folder / "se-remote.yaml").read_text()
    (terminal.folder / "se-remote.yaml").write_text(text.replace("; false", ""))
    done = terminal.se_remote("doctor", "--no-start", "--json")
    assert done.code == 3, done.text
    found = {host["host"]: host for host in json.loads(done.out)["hosts"]}
    assert set(found) == {"bridge", "lab", "local", "other", "the world"}
    world = found["the world"]
    assert world["runs"] and world["findings"][-1]["text"] == "not tried: only processes run there"
    assert "python" not in {finding["check"] for finding in world["findings"]}
