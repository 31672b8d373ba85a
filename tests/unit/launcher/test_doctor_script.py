"""The doctor's script, run by the shells that machines have, on this machine: what it really finds."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
import venv
from pathlib import Path

import pytest

from launcher import plan
from launcher.doctor import reading, script
from launcher.doctor.facts import Case, ClientFacts, Device, HostFacts, Level, Logind
from launcher.doctor.rules_machine import disk
from launcher.model import Container, HostSpec, Machine

SHELLS = [shell for shell in ("dash", "bash", "zsh", "busybox") if shutil.which(shell)]
NASTY = "'; echo '$(id)`id`\n\"$HOME\" \\ ü"


IN_CI = [pytest.param(shell, marks=pytest.mark.slow if shell == "bash" else ()) for shell in SHELLS]
"""bash is the one that the others are like; two tests run under it, too."""


@pytest.fixture(params=IN_CI)
def shell(request, tmp_path):
    """A folder in which `sh` is that shell: for the script, and for what it starts itself."""
    (tmp_path / "as sh").mkdir()
    (tmp_path / "as sh" / "sh").symlink_to(shutil.which(request.param))
    return tmp_path / "as sh"


@pytest.fixture
def home(tmp_path):
    folder = tmp_path / "home of robot"
    folder.mkdir()
    return folder


def examine(shell, home, *hosts, root="", path="", commands=None, environ=None, within=()):
    """Machine and hosts, as this shell sees them; run directories would be below `home`."""
    text = script.examine(hosts, commands or {}, base=f"{home}/runs", nonce="n0nce", root=str(root))
    env = {"PATH": f"{shell}:{path or os.environ['PATH']}", "HOME": str(home), **(environ or {})}
    words = [*within, shell / "sh"]
    done = subprocess.run(words, input=text, capture_output=True, env=env, timeout=60, cwd="/")
    reply = plan.parse_reply(done.stdout, "n0nce")
    assert reply is not None, done
    return reading.read_machine(reply), reading.read_hosts(reply)


def local(name="lab-pc", **more):
    more.setdefault("python", sys.executable)
    return HostSpec(name, Machine(), **more)


def test_what_lies_in_the_home_hides_nothing_from_python(shell, home):
    """As for the server, which is started there."""
    (home / "py_trees.py").write_text("raise ImportError('out of the home')\n")
    (home / "json.py").write_text("raise ImportError('out of the home')\n")
    _, hosts = examine(shell, home, local())
    found = hosts["lab-pc"].python
    assert (found.said, found.broken, found.shadowed) == ("", {}, ())
    assert found.wire is not None


@pytest.mark.parametrize("shell", SHELLS, indirect=True)
def test_every_shell_parses_it(shell):
    hosts = [
        local(setup=NASTY, env={"A": NASTY}, shell="zsh", server=NASTY),
        local("b", docker=Container(name=NASTY, user=NASTY, workdir=NASTY, login=True)),
    ]
    text = script.examine(hosts, {"lab-pc": [("setup", NASTY)]}, base=NASTY, nonce="n")
    done = subprocess.run([shell / "sh", "-n"], input=text, capture_output=True)
    assert (done.returncode, done.stderr) == (0, b"")


@pytest.mark.parametrize("shell", SHELLS, indirect=True)
def test_a_machine_as_it_is(shell, home):
    machine, hosts = examine(shell, home, local(setup="export FROM_SETUP=yes"))
    assert machine.uid == os.getuid() and machine.user and machine.groups and machine.tmux.startswith("tmux ")
    assert [space.trouble for space in machine.spaces] == ["", ""]
    assert all(space.free and space.kind for space in machine.spaces)
    assert list(home.iterdir()) == [], "it leaves nothing"
    found = hosts["lab-pc"]
    assert (found.asked, found.setup_code) == (True, 0)
    assert found.python is not None and found.python.version == tuple(sys.version_info[:3])
    assert (found.python.broken, found.python.wire) == ({}, plan.WIRE)
    assert "log" in found.python.plugins and "se-remote" in found.python.packages


def test_setup_decides_what_the_interpreter_is(shell, home, tmp_path):
    stub = tmp_path / "bin with blanks"
    stub.mkdir()
    (stub / "robot-python").write_text("#!/bin/sh\necho noise\necho '{\"version\": [3, 8, 1]}'\n")
    (stub / "robot-python").chmod(0o755)
    setup = f'echo setting up\nPATH="{stub}:$PATH"; export PATH'
    _, hosts = examine(
        shell, home, local(setup=setup, python="robot-python"), local("b", python="robot-python")
    )
    assert hosts["lab-pc"].python is not None and hosts["lab-pc"].python.version == (3, 8, 1)
    assert hosts["b"].python is None, "without setup there is none"


@pytest.mark.parametrize(
    ("setup", "code", "said"),
    [
        ("echo no such robot >&2; exit 3", None, "no such robot"),
        ("echo oh; (exit 4)", 4, "oh"),
        ("if then", None, "syntax"),
    ],
)
def test_a_setup_that_fails(shell, home, setup, code, said):
    _, hosts = examine(shell, home, local(setup=setup))
    found = hosts["lab-pc"]
    assert found.setup_code == code or (code is None and found.setup_code)  # bash goes on behind bad syntax
    assert found.python is None
    assert said in " ".join(found.setup_said) or (said == "syntax" and "parse error" in found.setup_said[-1])


def test_what_setup_leaves_in_the_background_holds_nobody_up(shell, home):
    """`subprocess.run` waits for everybody who has our output."""
    mark = f"600.{os.getpid()}"
    _, hosts = examine(shell, home, local(setup=f"sleep {mark} & echo begun"))
    found = hosts["lab-pc"]
    assert (found.setup_code, found.setup_said) == (0, ("begun",)) and found.python is not None
    until = time.monotonic() + 10
    while f"sleep {mark}" in subprocess.check_output(["ps", "-eo", "args"], text=True).splitlines():
        assert time.monotonic() < until, "it still runs"


@pytest.fixture(scope="module")
def bare(tmp_path_factory):
    """An interpreter that has nothing but its standard library."""
    folder = tmp_path_factory.mktemp("bare")
    venv.create(folder, with_pip=False)
    return str(folder / "bin" / "python")


def test_an_interpreter_without_packages(shell, home, bare):
    _, hosts = examine(shell, home, local(python=bare, env={"PYTHONPATH": ""}))
    found = hosts["lab-pc"].python
    assert found is not None and "No module named" in found.broken["zmq"] and found.wire is None


def test_a_shell_that_is_not_there(shell, home):
    _, hosts = examine(shell, home, local(shell="no-such-shell"))
    assert (hosts["lab-pc"].shell, hosts["lab-pc"].asked) == ("", True)


def test_no_tmux_and_another_clock(shell, home, tmp_path):
    few = tmp_path / "few"
    few.mkdir()
    for tool in ("id", "df", "head", "ls", "cat", "rm", "tail", "sed", "grep", "find", "wc", "timeout"):
        (few / tool).symlink_to(shutil.which(tool))
    (few / "date").write_text("#!/bin/sh\necho 4102444800\n")
    (few / "date").chmod(0o755)
    machine, _ = examine(shell, home, path=str(few))
    assert (machine.tmux, machine.installer, machine.path) == ("", "", f"{shell}:{few}")


def test_where_nothing_can_be_written(shell, home):
    machine, _ = examine(shell, "/proc")  # HOME, and what the run directory would be made in
    assert all(space.trouble and "ok" not in space.trouble for space in machine.spaces)
    found = list(disk(Case(local(), ClientFacts(), machine, HostFacts("lab-pc"))))
    assert [finding.level for finding in found] == [Level.FAILED] * len(machine.spaces)


@pytest.mark.skipif(os.getuid() != 0, reason="only root can mount")
@pytest.mark.parametrize(
    ("options", "fill", "level", "text"),
    [
        ("size=300m", "", Level.GOOD, "MB free"),
        ("size=100m", "", Level.WARNING, "is almost full: 100 MB free"),
        ("size=1m", "", Level.FAILED, "is full: 1 MB free"),
        ("size=1m", "head -c 2000000 /dev/zero >fill", Level.FAILED, "cannot be written to: "),
        ("size=300m,nr_inodes=1000", "", Level.WARNING, "more files only"),
        ("size=300m,nr_inodes=50", "", Level.FAILED, "has room for 4"),
        ("size=300m,nr_inodes=2", "touch fill", Level.FAILED, "cannot be written to: "),
    ],
)
def test_a_disk_that_is_full(shell, home, options, fill, level, text):
    """A small file system that only the script sees; and what it is told of it is what there is."""
    mount = (
        f'mount -t tmpfs -o {options} tmpfs "$HOME" && cd "$HOME" && {{ {fill or ":"}; }} 2>/dev/null; cd /; '
    )
    within = ["unshare", "--mount", "sh", "-c", f'{mount} exec "$0"']
    machine, _ = examine(shell, home, within=within)
    assert {space.path for space in machine.spaces} == {str(home)}
    (found, *_) = disk(Case(local(), ClientFacts(), machine, HostFacts("lab-pc")))
    assert (found.level, machine.spaces[0].kind) == (level, "tmpfs") and text in found.text, found


@pytest.mark.parametrize("lingers", [True, False])
def test_logind(shell, home, tmp_path, lingers):
    assert examine(shell, home, root=tmp_path)[0].logind is None
    (tmp_path / "run/systemd/system").mkdir(parents=True)
    (tmp_path / "etc/systemd/logind.conf.d").mkdir(parents=True)
    (tmp_path / "etc/systemd/logind.conf").write_text("[Login]\nKillUserProcesses=no\n#RemoveIPC=yes\n")
    (tmp_path / "etc/systemd/logind.conf.d/robot.conf").write_text("[Login]\nKillUserProcesses=yes\n")
    if lingers:
        linger = tmp_path / "var/lib/systemd/linger"
        linger.mkdir(parents=True)
        (linger / subprocess.check_output(["id", "-un"], text=True).strip()).touch()
    machine, _ = examine(shell, home, root=tmp_path)
    assert machine.logind == Logind(True, None, lingers)


def test_leftovers(shell, home):
    logs = home / ".local/state/se-remote"
    (logs / "lab-pc").mkdir(parents=True)
    (logs / "lab-pc/20260101T000000Z-1-stopped.log").write_text("x" * 1000)
    (logs / "outputs/arm/session").mkdir(parents=True)
    runs = home / "runs"
    (runs / "lab-pc").mkdir(parents=True)
    runs.chmod(0o700)
    (runs / "arm").mkdir()
    (runs / "arm/safe.armed").write_text("true\n")
    orphan = subprocess.Popen(["sleep", "60"], env={**os.environ, "SE_REMOTE_RUN": str(runs / "arm")})
    try:
        left = examine(shell, home)[0].left
    finally:
        orphan.kill()
        orphan.wait()
    assert (left.logs, left.outputs) == ((("lab-pc", 1000),), ("arm",))
    assert (left.dead, left.unsafe) == (("arm", "lab-pc"), ("arm",))
    assert left.orphans == {"arm": (f"{orphan.pid} sleep 60",)}
    assert (logs / "lab-pc/20260101T000000Z-1-stopped.log").exists(), "it only looks"


def test_a_run_directory_that_others_could_enter(shell, home):
    (home / "runs/lab-pc").mkdir(parents=True)
    (home / "runs").chmod(0o755)
    machine, _ = examine(shell, home)
    assert machine.refused is not None
    assert "mode drwxr-xr-x" in machine.refused[0] and machine.refused[1].startswith("chmod 700")
    assert machine.left.dead == ()


def test_devices_and_sudo(shell, home, tmp_path):
    tools = tmp_path / "tools"
    tools.mkdir()
    (tools / "sudo").write_text(
        '#!/bin/sh\n[ "$2" = -l ] && echo "(root) NOPASSWD: /bin/ls" && exit\necho asks >&2\nexit 1\n'
    )
    (tools / "sudo").chmod(0o755)
    device = Path(f"/dev/shm/se-remote-{os.getpid()}")
    device.touch()
    commands = {"lab-pc": [("on_stop", f"sudo reset {device}")]}
    try:
        _, hosts = examine(shell, home, local(), path=f"{tools}:{os.environ['PATH']}", commands=commands)
    finally:
        device.unlink()
    found = hosts["lab-pc"]
    assert found.sudo is not None and (found.sudo.there, found.sudo.free) == (True, False)
    assert "NOPASSWD: /bin/ls" in found.sudo.listed and found.sudo.said == "asks"
    assert Device(str(device), device.parent.group(), True) in found.devices or found.devices[0].usable


ENGINE = """#!/bin/sh
case $1 in
  version) %s ;;
  inspect) %s ;;
  image) exit 1 ;;
  ps) printf 'navi\\nother\\n' ;;
  exec) shift 3; exec "$@" ;;
esac
"""


@pytest.mark.parametrize(
    ("version", "inspect", "expected"),
    [
        ("echo 24.0", "echo abc running 0 false host '<no value>'", {"engine": "24.0", "status": "running"}),
        ("echo 24.0", "echo abc paused 0 false host '<no value>'", {"status": "paused"}),
        ("echo 24.0", "echo No such container >&2; exit 1", {"status": "", "names": ("navi", "other")}),
        ("echo permission denied >&2; exit 1", "exit 1", {"engine": "", "trouble": "permission denied"}),
    ],
)
def test_an_engine(shell, home, tmp_path, version, inspect, expected):
    tools = tmp_path / "tools"
    tools.mkdir()
    (tools / "docker").write_text(ENGINE % (version, inspect))
    (tools / "docker").chmod(0o755)
    host = local(docker=Container(name="nav"), setup="true")
    _, hosts = examine(shell, home, host, path=f"{tools}:{os.environ['PATH']}")
    found = hosts["lab-pc"]
    assert found.box is not None and found.box.there
    assert {key: getattr(found.box, key) for key in expected} == expected
    assert found.asked is (expected.get("status") == "running")
    assert (found.python is not None) is found.asked


def test_no_engine(shell, home):
    _, hosts = examine(shell, home, local(docker=Container(name="nav", engine="no-such-engine")))
    assert hosts["lab-pc"].box is not None and not hosts["lab-pc"].box.there


def test_what_crosses_is_json():
    """The interpreter's answer is one line whatever a package is called."""
    assert reading.read_plugins(json.loads('{"a\\n": ["b", "1"], "c": 3}')) == {"a\n": ("b", "1")}
