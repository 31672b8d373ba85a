"""The doctor's pure core: each finding from the facts that show it, and gone when they are cured."""

from __future__ import annotations

from dataclasses import replace

import pytest

from launcher.doctor import checklist, reading, script
from launcher.doctor.facts import (
    Box,
    Case,
    ClientFacts,
    Device,
    HostFacts,
    Interpreter,
    Left,
    Level,
    Logind,
    MachineFacts,
    Shadow,
    Space,
    Sudo,
)
from launcher.errors import Conflict, NotTrusted, StartFailed, Unreachable
from launcher.model import Container, HostSpec, Machine, ProcessSpec, Provision, Stage
from launcher.plan import Reply

PLUGINS = {"log": ("scenario_execution", "1.8.0"), "dock": ("lab-actions", "2.0")}
CLIENT = ClientFacts("0.1.0", 2, "1.8.0", PLUGINS)
PYTHON = Interpreter(
    (3, 11, 2), "/usr/bin/python3", {"se-remote": "0.1.0", "scenario_execution": "1.8.0", "pyzmq": "27"}, {},
    PLUGINS, ("se-remote",), 2,
)  # fmt: skip
SPEC = HostSpec(
    "lab-pc", Machine("lab-pc.example", "robot"), setup="source x", source="se-remote.yaml:3",
    on_stop="sudo systemctl stop motors",
)  # fmt: skip
MACHINE = MachineFacts(
    user="robot", uid=1000, groups=("robot",), path="/usr/bin", shell_took=0.1, ahead=0.0, tmux="tmux 3.3a",
    installer="sudo apt-get install",
    spaces=(Space("/tmp", 9 << 20, 10**6, kind="tmpfs"), Space("/home/robot", 9 << 20)),
    logind=Logind(False, False, False), sessions=10, sessions_tried=10,
)  # fmt: skip
HOST = HostFacts(
    "lab-pc", asked=True, shell="bash", python=PYTHON, sudo=Sudo(True, True),
    devices=(Device("/dev/ttyUSB0", "dialout", True),),
)  # fmt: skip
GOOD = Case(SPEC, CLIENT, MACHINE, HOST, checklist.commands_of(SPEC, ()))


def machine(**change) -> Case:
    return replace(GOOD, machine=replace(MACHINE, **change))


def host(**change) -> Case:
    return replace(GOOD, host=replace(HOST, **change))


def python(**change) -> Case:
    return host(python=replace(PYTHON, **change))


def boxed(box: Box, container: Container | None = None) -> Case:
    container = container or Container(name="nav")
    return replace(host(box=box), spec=replace(SPEC, docker=container))


def locked(*devices: Device, on_stop: str = "") -> Case:
    spec = replace(SPEC, on_stop=on_stop)
    changed = replace(HOST, devices=devices, sudo=None)
    return Case(spec, CLIENT, MACHINE, changed, checklist.commands_of(spec, ()))


NEWER = {**PYTHON.packages, "se-remote": "0.2"}
LS_ONLY = "(root) NOPASSWD: /bin/ls"
FULL = "sh: No space left"
OLD_DOCK = {**PLUGINS, "dock": ("lab-actions", "1.9")}
OPEN = ("/tmp/x has mode drwxrwxrwx", "chmod 700 /tmp/x")
DENIED = "permission denied while trying to connect to the Docker daemon socket"
NO_DAEMON = "Cannot connect to the Docker daemon at unix:///x. Is the docker daemon running?"
ASKS = "sudo: a password is required"
NO_ZMQ = {"zmq": "ModuleNotFoundError: No module named 'zmq'", "remote_exec.server": "…"}
BAD_ZMQ = {"zmq": "ImportError: libzmq.so.5: wrong ELF class"}
USB = Device("/dev/ttyUSB0", "dialout", False)
ROS = (Shadow("py_trees", "2.2.3", "/opt/ros/humble/lib", "2.4.0"),)
IMAGE = Container(image="lab/sim:jazzy")
ORPHANS = {"lab-pc": ("4711 ros2 launch", "4712 python3")}

BROKEN = [
    # check, level, case, part of the text, part of a cure
    ("shell", "failed", machine(refused=OPEN), "mode", "chmod 700"),
    ("shell", "warning", machine(noise="Welcome!\nmore"), "'Welcome!'", "return"),
    ("shell", "warning", machine(shell_took=3.2), "3.2 s", "rc file"),
    ("tmux", "failed", machine(tmux=""), "no tmux", "sudo apt-get install tmux"),
    ("tmux", "failed", machine(tmux="tmux 1.8"), "too old", "tmux"),
    ("run directory", "warning", machine(spaces=(Space("/tmp", kind="nfs4"),)), "nfs4", "tmp.mount"),
    ("run directory", "warning", machine(spaces=(Space("/tmp", kind="fuse.sshfs"),)), "network", "tmp.mount"),
    ("disk", "failed", machine(spaces=(Space("/tmp", 9 << 20, trouble=FULL),)), "No space", "df -h"),
    ("disk", "failed", machine(spaces=(Space("/tmp", 300),)), "is full: 300 kB", "du "),
    ("disk", "failed", machine(spaces=(Space("/tmp", 9 << 20, 5),)), "5 more files", "df -i"),
    ("disk", "warning", machine(spaces=(Space("/tmp", 100 << 10),)), "almost full: 100 MB", "du "),
    ("disk", "warning", machine(spaces=(Space("/tmp", 9 << 20, 3000),)), "3000 more files", "df -i"),
    ("clock", "warning", machine(ahead=37.0), "37 s ahead", "set-ntp"),
    ("clock", "warning", machine(ahead=-7200.0), "2 h behind", "set-ntp"),
    ("clock", "warning", machine(ahead=None), "date", "date"),
    ("logout", "warning", machine(logind=Logind(True, False)), "KillUserProcesses", "enable-linger robot"),
    ("logout", "warning", machine(logind=Logind(None, True)), "RemoveIPC", "enable-linger robot"),
    ("sessions", "warning", machine(sessions=1), "allows 1 sessions", "MaxSessions 10"),
    ("leftovers", "warning", machine(left=Left(dead=("lab-pc",))), "dead servers", "se-remote clean lab-pc"),
    ("leftovers", "warning", machine(left=Left(dead=("lab-pc+a",))), "lab-pc+a", "se-remote logs lab-pc"),
    ("leftovers", "warning", machine(left=Left(dead=("lab-pc",), orphans=ORPHANS)), "4711 ros2", "--force"),
    ("leftovers", "warning", machine(left=Left(dead=("lab-pc",), unsafe=("lab-pc",))), "on_stop", "--force"),
    ("leftovers", "warning", machine(left=Left(outputs=("lab-pc",))), "nobody has fetched", "pull lab-pc"),
    ("container", "failed", boxed(Box(there=False)), "no docker", "podman"),
    ("container", "failed", boxed(Box(trouble=DENIED)), "may not talk to docker", "usermod -aG docker robot"),
    ("container", "failed", boxed(Box(trouble=DENIED, member=True)), "older than", "sessions"),
    ("container", "failed", boxed(Box(trouble=NO_DAEMON)), "daemon does not answer", "systemctl enable"),
    ("container", "failed", boxed(Box()), "no answer within 8 s", "docker info"),
    ("container", "failed", boxed(Box(trouble="boom")), "boom", "docker info"),
    ("container", "failed", boxed(Box("24", names=("navi", "x"))), "no container", "did you mean navi"),
    ("container", "failed", boxed(Box("24", status="paused")), "paused", "unpause nav"),
    ("container", "failed", boxed(Box("24", status="silent")), "8 s", "restart docker"),
    ("container", "warning", boxed(Box("24"), IMAGE), "not there", "docker pull lab/sim:jazzy"),
    ("setup", "failed", host(shell=""), "there is no", "`shell`"),
    ("setup", "failed", host(setup_code=3, setup_said=("no such file",)), "code 3): no such file", "`setup`"),
    ("setup", "failed", host(setup_code=None), "ended the shell", "`setup`"),
    ("python", "failed", host(python=None), "there is no python3", "se-remote provision lab-pc"),
    ("python", "failed", host(python=Interpreter(said="Segmentation fault")), "Segmentation", "`python`"),
    ("python", "failed", python(version=(3, 8, 10)), "3.8.10", "`python`"),
    ("packages", "failed", python(broken=NO_ZMQ), "pyzmq, se-remote cannot be imported", "provision lab-pc"),
    ("packages", "failed", python(broken=BAD_ZMQ), "is broken there: ImportError", "provision lab-pc"),
    ("packages", "warning", python(shadowed=ROS), "py_trees 2.2.3 is taken from /opt/ros", "provision lab"),
    ("packages", "failed", python(wire=3), "wire version 3", "provision lab-pc"),
    ("packages", "warning", python(packages=NEWER), "0.2 there", "provision"),
    ("packages", "warning", python(packages={"se-remote": "0.1.0"}), "scenario_execution is", "provision"),
    ("packages", "warning", python(modifiers=("peer", "se-remote")), "peer registers", "pip uninstall peer"),
    ("plugins", "warning", python(plugins={"log": PLUGINS["log"]}), "lab-actions 2.0", "--with lab-actions"),
    ("plugins", "warning", python(plugins=OLD_DOCK), "1.9 there", "lab-actions==2.0"),
    ("plugins", "warning", python(plugins={**PLUGINS, "x": ("more", "1")}), "only there", "pip install more"),
    ("sudo", "failed", host(sudo=Sudo()), "there is none", "install sudo"),
    ("sudo", "failed", host(sudo=Sudo(True, False, "", ASKS)), "password", "NOPASSWD: $(command"),
    ("sudo", "failed", host(sudo=Sudo(True, False, LS_ONLY, ASKS)), "(systemctl)", "sudoers.d"),
    ("groups", "warning", locked(USB), "group is dialout", "usermod -aG dialout robot"),
    ("groups", "failed", locked(USB, on_stop="stty -F /dev/ttyUSB0 0"), "/dev/ttyUSB0", "dialout"),
    ("groups", "warning", locked(replace(USB, group="robot")), "its mode", "udev"),
]  # fmt: skip


def of(findings, check):
    return [finding for finding in findings if finding.check == check]


def test_nothing_is_wrong_with_what_is_right():
    findings = checklist.examined(GOOD)
    assert [finding for finding in findings if finding.level is not Level.GOOD] == []
    seen = {finding.check for finding in findings} | {"container"}
    assert seen == set(checklist.THERE), "every check says something"
    assert checklist.runs(findings) and checklist.may_try(findings, GOOD)


@pytest.mark.parametrize(("check", "level", "case", "text", "cure"), BROKEN)
def test_what_is_broken_is_found(check, level, case, text, cure):
    findings = checklist.examined(case)
    bad = [finding for finding in findings if finding.level is not Level.GOOD]
    assert {finding.check for finding in bad} == {check}, "that, and nothing else"
    (found,) = bad
    assert found.level.value == level
    assert text in found.text
    assert any(cure in one for one in found.cures), found.cures
    assert checklist.runs(findings) is (level != "failed")


def test_every_check_has_been_seen_to_fail():
    assert {check for check, *_ in BROKEN} == set(checklist.THERE)


@pytest.mark.parametrize(
    "case",
    [
        host(sudo=Sudo(True, False, "    (root) NOPASSWD: /usr/bin/systemctl stop motors, /bin/ls", ASKS)),
        machine(logind=Logind(True, True, lingers=True)),
        machine(uid=0, logind=Logind(True, True)),
        machine(uid=900, logind=Logind(False, True)),
        machine(logind=None),
        machine(sessions=None, sessions_tried=0),
        machine(left=Left(logs=(("lab-pc", 5000), ("arm", 3)))),
        machine(left=Left(dead=("arm",), orphans={"x": ("1 y",)}, outputs=("arm",), unsafe=("x",))),
        boxed(Box("24", status="running")),
        boxed(Box("24", status="exited")),
        boxed(Box("24", image=True), IMAGE),
        replace(GOOD, client=replace(CLIENT, plugins=PLUGINS)),
    ],
)
def test_what_only_looks_broken_is_good(case):
    assert [f for f in checklist.examined(case) if f.level is not Level.GOOD] == []


@pytest.mark.parametrize("logind", [Logind(None, None), Logind(False, None), Logind(None, False)])
def test_what_logind_does_not_say_is_not_called_good(logind):
    (found,) = of(checklist.examined(machine(logind=logind)), "logout")
    assert found.level is Level.UNSEEN and "does not say" in found.text


def test_an_image_that_would_be_pulled_is_not_tried():
    case = boxed(Box("24"), IMAGE)
    assert not checklist.may_try([], case)
    assert checklist.may_try([], boxed(Box("24", image=True), IMAGE))


def test_a_changed_host_key_says_what_to_do_after_a_reflash():
    step = "find out why (reinstalled? attacked?); then: ssh-keygen -f /h/known_hosts -R lab-pc.example"
    error = NotTrusted("lab-pc", Stage.CONNECT, "the host key of x has CHANGED: ssh-ed25519 SHA256:y", step)
    found, *rest = checklist.not_reached(SPEC, CLIENT, error)
    cures = " ".join(found.cures)
    assert (found.check, found.level) == ("connect", Level.FAILED)
    assert "reflashed" in cures and "ssh-keygen -f /h/known_hosts -R lab-pc.example;" in cures
    assert "ssh_host_" in cures and "do not accept" in cures
    assert rest[-1].level is Level.UNSEEN and "hello" in rest[-1].check


@pytest.mark.parametrize(
    ("error", "checks"),
    [
        (Unreachable("lab-pc", Stage.CONNECT, "nothing listens", "is sshd running"), ["connect"]),
        (Unreachable("lab-pc", Stage.AUTHENTICATE, "denied", "ssh-copy-id"), ["connect", "authenticate"]),
        (StartFailed("lab-pc", Stage.SHELL, "no sh", "try: ssh"), ["connect", "authenticate", "shell"]),
    ],
)
def test_a_machine_that_is_not_reached(error, checks):
    findings = checklist.not_reached(SPEC, CLIENT, error)
    assert [f.check for f in findings[:-1]] == checks
    assert [f.level for f in findings[:-1]] == [Level.GOOD] * (len(checks) - 1) + [Level.FAILED]
    assert findings[-2].cures == (error.next_step,)
    assert not any(check in findings[-1].check.split(", ") for check in checks)


def test_options_that_are_not_honoured_count_only_when_the_machine_is_not_reached():
    client = replace(CLIENT, ignored={"lab-pc": ("StrictHostKeyChecking no (~/.ssh/config:3)",)})
    assert [f.level for f in checklist.reached(SPEC, client, 0.1)] == [Level.GOOD] * 2
    assert "not honoured, and not needed" in checklist.reached(SPEC, client, 0.1)[0].text
    error = Unreachable("lab-pc", Stage.CONNECT, "unknown key", "x")
    (found,) = [f for f in checklist.not_reached(SPEC, client, error) if f.level is Level.WARNING]
    assert "StrictHostKeyChecking no" in found.text and "never accepted unseen" in found.cures[0]


def test_a_trial_that_fails_keeps_stage_cause_and_tail():
    error = StartFailed("lab-pc", Stage.START, "it ended at once", "se-remote logs lab-pc", ["last words"])
    found = checklist.trial_failed(error)
    assert (found.check, found.level, found.cures) == ("start", Level.FAILED, ("se-remote logs lab-pc",))
    assert "it ended at once" in found.text and "| last words" in found.text
    assert checklist.trial_failed(Conflict("in use by ann", "wait")).check == "start"


@pytest.mark.parametrize(
    ("facts", "check", "text"),
    [
        (replace(CLIENT, modifiers=("a-peer", "se-remote")), "modifier", "a-peer"),
        (replace(CLIENT, modifiers=()), "modifier", "no package registers"),
        (replace(CLIENT, framework=""), "packages", "not installed"),
    ],
)  # fmt: skip
def test_what_is_wrong_here(facts, check, text):
    assert checklist.runs(checklist.client(CLIENT))
    (found,) = [f for f in checklist.client(facts) if f.level is Level.FAILED]
    assert found.check == check and text in found.text and found.cures


def test_commands_of_a_host_are_those_of_its_processes_too():
    there = ProcessSpec("sim", "sudo gz sim /dev/video0", SPEC.machine)
    elsewhere = ProcessSpec("other", "sudo x", Machine())
    found = dict(checklist.commands_of(SPEC, [there, elsewhere]))
    assert set(found) == {"setup", "on_stop", "cmd of sim"}
    assert script.devices_named(list(found.items())) == ["/dev/video0"]


@pytest.mark.parametrize(
    ("text", "asks"),
    [("sudo x", True), ("a; sudo -E x", True), ("/usr/bin/sudoku", False), ("a-sudo", False)],
)  # fmt: skip
def test_what_uses_sudo(text, asks):
    assert script.asks_sudo([("setup", text)]) is asks


def test_devices_that_are_no_hardware_are_passed_over():
    text = "x </dev/null >/dev/stdout 2>/dev/ttyS0; cat /dev/urandom /opt/dev/x /dev/serial/by-id/a-1"
    assert script.devices_named([("setup", text)]) == ["/dev/ttyS0", "/dev/serial/by-id/a-1"]


def test_an_entry_that_cannot_work_is_seen_before_the_machine_is():
    (found,) = checklist.resolved(replace(SPEC, shell="/usr/bin/fish"))
    assert (found.check, found.level) == ("resolve", Level.FAILED)
    assert [f.level for f in checklist.resolved(SPEC)] == [Level.GOOD]


@pytest.mark.parametrize(
    ("remote", "before", "after", "ahead"),
    [
        ("100", 100.2, 100.4, 0.0),
        ("100", 99.9, 100.1, 0.0),
        ("137", 100.0, 100.5, 36.5),
        ("63", 100.0, 100.5, -36.0),
        ("", 1.0, 2.0, None),
    ],
)
def test_the_clock(remote, before, after, ahead):
    assert reading.ahead(remote, before, after) == ahead


DF = "Filesystem     1024-blocks     Used Available Capacity Mounted on\n"
MOUNTS = "rootfs / ext4 rw 0 0\nnas:/x /home nfs4 rw 0 0\ntmpfs /home/a\\040b tmpfs rw 0 0\n"


def reply(*sections: tuple[str, str]) -> Reply:
    return Reply(sections)


def test_spaces_are_read():
    found = reading.read_machine(
        reply(
            ("mounts", MOUNTS),
            ("space", "/tmp"), ("real", "/tmp"), ("df", DF + "/dev/my disk 1000 100 900 10% /\n"),
            ("df_inodes", DF + "/dev/x 50 20 30 40% /\n"), ("written", "ok"),
            ("space", "/home/a b"), ("real", "/home/a b"), ("df", ""), ("written", "sh: No space left"),
            ("space", "/home/c"), ("real", "/home/c"), ("df_inodes", DF + "x 0 0 0 - /\n"), ("written", "ok"),
            ("logs", "log 10 lab-pc\nlog 32 arm"), ("outputs", "lab-pc\nlab-pc\n"),
        )
    )  # fmt: skip
    assert found.spaces == (
        Space("/tmp", 900, 30, "", "ext4"),
        Space("/home/a b", None, None, "sh: No space left", "tmpfs"),
        Space("/home/c", None, None, "", "nfs4"),
    )
    assert found.left == Left((("lab-pc", 10), ("arm", 32)), outputs=("lab-pc",))


def test_what_is_not_there_is_not_made_up():
    found = reading.read_machine(reply())
    assert (found.tmux, found.uid, found.refused, found.logind, found.spaces) == ("", -1, None, None, ())


@pytest.mark.parametrize(
    ("bus", "conf", "expected"),
    [
        ("b true\nb false\n", "KillUserProcesses=no\n", Logind(True, False)),
        ("", "[Login]\n#KillUserProcesses=yes\nRemoveIPC=no\n", Logind(None, False)),
        ("", "KillUserProcesses=no\nKillUserProcesses = yes\n", Logind(True, None)),
    ],
)
def test_logind_is_asked_else_read(bus, conf, expected):
    found = reading.read_machine(reply(("logind_bus", bus), ("logind_conf", conf)))
    assert found.logind == expected


def test_dead_runs_are_read():
    found = reading.read_machine(
        reply(("dead", "a"), ("orphans", "1 x\n2 y\n"), ("dead", "b"), ("unsafe", "yes"), ("host", "c"))
    )
    assert found.left == Left(dead=("a", "b"), orphans={"a": ("1 x", "2 y")}, unsafe=("b",))


def test_an_interpreter_that_says_something_else():
    rows = reading.read_hosts(
        reply(
            ("host", "a"), ("asked", "yes"), ("setup_code", "0"), ("python", "noise\n{not json\nboom"),
            ("host", "b"), ("asked", "yes"), ("setup_code", "0"), ("python", ""),
            ("host", "c"), ("asked", "yes"), ("python", 'x\n{"version": [2, 7, 18]}'),
        )
    )  # fmt: skip
    assert rows["a"].python is not None and rows["a"].python.said.endswith("boom")
    assert rows["b"].python is None and rows["b"].setup_code == 0
    assert rows["c"].python is not None and rows["c"].python.version == (2, 7, 18)
    assert rows["c"].setup_code is None


def test_noise_is_what_comes_before_the_script():
    assert reading.noise_before(b"Welcome\n\nn0nce now\n1\nn0nce end\n", "n0nce") == "Welcome"
    assert reading.noise_before(b"\nn0nce now\n", "n0nce") == ""


@pytest.mark.parametrize(
    "change", [{"broken": {"remote_exec.server": "No module named remote_exec"}, "wire": None}, {"wire": 1}]
)
def test_what_a_bring_up_provisions_by_itself_is_no_failure(change):
    case = python(**change)
    assert not checklist.runs(checklist.examined(case))
    auto = replace(case, spec=replace(SPEC, provision=Provision(auto=True)))
    findings = checklist.examined(auto)
    assert checklist.runs(findings) and not checklist.may_try(findings, auto)
    (packages,) = [finding for finding in findings if finding.check == "packages"]
    assert packages.level is Level.WARNING and packages.cures == ("se-remote provision lab-pc",)
    cured = replace(GOOD, spec=auto.spec)
    assert checklist.may_try(checklist.examined(cured), cured)
    old = replace(auto, host=replace(HOST, python=replace(PYTHON, version=(3, 8, 1), **change)))
    assert not checklist.runs(checklist.examined(old)), "no bring-up helps that"


def test_no_cure_installs_se_remote_from_an_index_that_does_not_have_it():
    for broken in (NO_ZMQ, BAD_ZMQ):
        (finding,) = [one for one in checklist.examined(python(broken=broken)) if one.check == "packages"]
        first, own = finding.cures
        assert first == "se-remote provision lab-pc" and "pip install" not in own and "`python:`" in own


@pytest.mark.parametrize("facts", [{"python": None}, {"python": replace(PYTHON, broken=NO_ZMQ, wire=None)}])
def test_what_is_provisioned_is_used_once_python_is_taken_out(facts):
    named = replace(host(**facts), spec=replace(SPEC, python="~/venvs/se/bin/python"))
    (finding,) = [
        one for one in checklist.examined(named) if one.check in ("python", "packages") and one.cures
    ]
    take_out = "take `python` out of lab-pc in se-remote.yaml:3 and: se-remote provision lab-pc"
    assert finding.cures[0] == take_out


def test_on_this_machine_nothing_is_to_be_provisioned():
    spec = replace(SPEC, machine=Machine(), python="~/venvs/se/bin/python")
    cures = [cure for one in checklist.examined(replace(host(python=None), spec=spec)) for cure in one.cures]
    assert any(cure.startswith("take `python` out") for cure in cures)
    assert not any("provision" in cure for cure in cures)


def test_where_only_processes_run_nothing_of_ours_is_missed():
    missing = replace(host(python=None), serves=False)
    assert checklist.runs(checklist.examined(missing))
    assert not checklist.runs(checklist.examined(replace(missing, serves=True)))
    failing = replace(missing, host=replace(HOST, setup_code=3, python=None))
    assert not checklist.runs(checklist.examined(failing))
