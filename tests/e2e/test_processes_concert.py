"""Files of concert_launcher, as they are: found, read and run without a change."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from stackbed import LONG, Stack, order, until

PLAIN = """
context:
  session: robot
  params: {{hw: dummy, rate: 100}}
  .defines:
    - &embedded {0}

roscore:
  cmd: ros1; core $MASTER; echo roscore >>~/ledger; exec sleep 3600
  machine: *embedded
  ready_check: ros1; core check

control:
  cmd: ros1; echo "control {{hw}} {{rate}}" >>~/ledger; exec sleep 3600
  machine: *embedded
  depends: [roscore]
  ready_check: grep -q control ~/ledger
  force_sigquit: true
  variants:
    verbose:
      cmd: echo verbose >>~/ledger; {{cmd}}
    HW Type:
      - Base Only:
          params: {{hw: base}}
      - Full:
          cmd: "echo full >>~/ledger; {{cmd}}"
          params: {{hw: full}}

homing:
  cmd: echo homing >>~/ledger
  machine: *embedded
  persistent: false
  depends: [control]
  show_ui: false

everything:
  cmd: echo all up
  persistent: false
  depends: [homing]
"""
RC = """
case $- in *i*) ;; *) return ;; esac
echo counted >>~/rc-was-read
sleep 0.3
alias ros1='export MASTER=http://localhost:11311'
core() { echo "core $*" >>~/core; }
"""


def give_rc(stack: Stack, number: int = 0, text: str = RC) -> None:
    stack.file(".bashrc", number).write_text(text)


@pytest.fixture
def plain(stack):
    give_rc(stack)
    stack.write(PLAIN.format(stack.machine()), "launcher.yaml")
    return stack


def test_it_is_found_and_runs_as_it_is(plain):
    """`everything` has no machine: it runs here, where the user's own session is."""
    plain.good("run", "homing")
    assert plain.lines("ledger") == ["roscore", "control dummy 100", "homing"]
    assert "core http://localhost:11311" in plain.lines("core"), "an alias and a function of ~/.bashrc"
    assert "core check" in plain.lines("core"), "the check has them too"
    states = plain.states("roscore", "control", "homing")
    assert states == {"roscore": "ready", "control": "ready", "homing": "stopped"}
    assert plain.windows("robot") == ["control", "roscore"]
    plain.good("kill", "homing")
    states = plain.states("roscore", "control")
    assert states == {"roscore": "ready", "control": "stopped"}, "of a group that is its members"
    plain.good("kill", "roscore")
    assert plain.alive("sleep 3600") == []


def test_a_slow_rc_file_is_read_once_and_not_per_command(plain):
    plain.good("run", "homing")
    assert plain.lines("rc-was-read") == ["counted"]


def test_variants_are_flags_and_groups_and_reach_dependencies(plain):
    plain.good("run", "homing", "--variant", "Base Only", "--variant", "verbose")
    assert plain.lines("ledger") == ["roscore", "verbose", "control base 100", "homing"]
    plain.good("kill", "roscore")
    plain.good("run", "homing", "--variant", "Full", "--param", "rate=7")
    assert plain.lines("ledger")[4:] == ["roscore", "full", "control full 7", "homing"]
    both = plain.run("run", "control", "--variant", "Full", "--variant", "Base Only")
    assert both.code == 2 and "HW Type" in both.text


def test_it_is_found_by_the_variable_of_concert_launcher(plain):
    place = plain.folder / "elsewhere"
    place.mkdir()
    (plain.folder / "launcher.yaml").rename(place / "stack.yaml")
    assert plain.run("run", "roscore", "--plan").code == 2
    env = {"CONCERT_LAUNCHER_DEFAULT_CONFIG": str(place / "stack.yaml")}
    plan = plain.good("run", "everything", "--plan", env=env)
    assert order(plan.out, "roscore", "control", "homing", "everything")
    plain.write({"processes": {"ours": {"cmd": "true"}}})
    done = plain.run("run", "roscore", "--plan", env=env)
    assert done.code == 2, "an inventory of ours comes first"


def test_local_localhost_and_no_machine_are_this_one(stack):
    """With the rc file of who runs it."""
    session = f"s{stack.world.mark[-6:].replace('_', 'x')}"
    give_rc(stack)
    (stack.world.home / ".bashrc").write_text(RC)
    entry = "\n  cmd: 'ros1; echo {0} $MASTER >>\"{1}\"'\n  persistent: false\n"
    out = stack.folder / "out"
    text = f"context: {{session: {session}}}\n"
    for name, machine in (("a", "  machine: local\n"), ("b", "  machine: localhost\n"), ("c", "")):
        text += f"{name}:{entry.format(name, out)}{machine}"
    stack.write(text, "launcher.yaml")
    stack.good("run", "a", "b", "c")
    assert sorted(out.read_text().split()[::2]) == ["a", "b", "c"]
    assert "http://localhost:11311" in out.read_text()
    assert not (Path(f"/tmp/se-remote-{os.getuid()}") / ".processes" / session).exists()


STACK = """
context:
  session: robot
  params: {{hw: dummy}}
  .defines:
    - &one {0}
    - &two {1}
    - &three {2}

{processes}
"""
CHOICES = ["Base Only", "Arm", "Arm and Hand", "Full", "Simulated", "None"]


def normal_size(machines: list[str]) -> str:
    """16 processes on 3 machines and in 3 containers, with a group of 6."""
    anchors = ["*one", "*two", "*three"]
    parts = []
    for number in range(15):
        lines = [
            f"p{number}:",
            f"  cmd: mark p{number} {{hw}}; exec sleep 3600",
            f"  machine: {anchors[number % 3]}",
            f"  depends: [{', '.join(f'p{d}' for d in (number - 3, number - 4) if d >= 0)}]",
            f"  ready_check: test -e /tmp/up.p{number}",
        ]
        if number >= 12:
            lines.append(f"  docker: box{number - 12}")
        if number == 7:
            lines.append("  variants:\n    HW Type:")
            lines += [f"      - {choice}: {{params: {{hw: '{choice}'}}}}" for choice in CHOICES]
        parts.append("\n".join(lines))
    parts.append("all:\n  cmd: 'true'\n  machine: *one\n  persistent: false\n  depends: [p12, p13, p14]")
    return STACK.format(*machines, processes="\n\n".join(parts))


@pytest.mark.slow
def test_a_stack_of_normal_size(world, boxes):
    """Three accounts as machines, each with a container."""
    stack = Stack(world, 3)
    folder = Path(boxes.dockerd.folder)
    folder.chmod(0o755)
    (folder / "docker.sock").chmod(0o666)
    mark = 'mark() { touch /tmp/up.$1; echo "$*" >>~/ledger; }\n'
    for number in range(3):
        give_rc(stack, number, RC + mark)
        boxes.create(f"box{number}")
        boxes.dockerd.run("exec", "-i", f"box{number}", "sh", "-c", f"echo '{mark}' >/root/.bashrc")
    try:
        stack.write(normal_size([stack.machine(number) for number in range(3)]), "launcher.yaml")
        stack.good("run", "all", "--variant", "Arm and Hand")
        states = stack.states()
        assert {states[f"p{number}"] for number in range(15)} == {"ready"}
        lines = [line for number in range(3) for line in stack.lines("ledger", number)]
        assert len(lines) == 12 and "p7 Arm and Hand" in lines
        for number in range(3):
            assert stack.lines("rc-was-read", number) == ["counted"]
            assert boxes.dockerd.exec(f"box{number}", "cat", "/root/ledger") == f"p{number + 12} dummy\n"
        stack.good("kill", "p0", "p1", "p2")
        until(lambda: stack.alive("sleep 3600") == [])
        for number in range(3):
            assert "sleep 3600" not in boxes.dockerd.run("top", f"box{number}").stdout
            assert not stack.base(number).exists()
    finally:
        stack.close()
        for number in range(15):
            Path(f"/tmp/up.p{number}").unlink(missing_ok=True)


@pytest.mark.slow
def test_in_a_container_as_docker_exec_does(world, boxes):
    """An alias of the container's own rc file; ended inside, also what ignores INT."""
    boxes.create("nav")
    stack = Stack(world)
    folder = Path(boxes.dockerd.folder)
    folder.chmod(0o755)
    (folder / "docker.sock").chmod(0o666)
    rc = "echo read >>/root/rc-was-read; alias ros1='export MASTER=inside'"
    boxes.dockerd.run("exec", "nav", "sh", "-c", f'echo "{rc}" >/root/.bashrc')
    entry = (
        "{0}:\n  cmd: ros1; echo {0} $MASTER >>/root/ledger; {2}\n  machine: {1}\n  docker: nav\n"
        "  ready_check: grep {0} /root/ledger\n"
    )
    machine = stack.machine()
    try:
        stubborn = "trap '' INT; setsid sleep 3611 & while :; do sleep 1; done"
        stack.write(entry.format("a", machine, LONG) + entry.format("b", machine, stubborn), "launcher.yaml")
        stack.good("run", "a", "b")
        ledger = boxes.dockerd.exec("nav", "cat", "/root/ledger").splitlines()
        assert sorted(ledger) == ["a inside", "b inside"]
        assert boxes.dockerd.exec("nav", "cat", "/root/rc-was-read") == "read\n"
        shown = stack.good("status", "b", "--tree").out
        assert "sleep 3611" in shown, shown
        stack.good("kill", "a", "b")
        assert "sleep 36" not in boxes.dockerd.run("top", "nav").stdout
        assert boxes.dockerd.state("nav") == "running"
    finally:
        stack.close()
