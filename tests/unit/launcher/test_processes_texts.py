"""The shell texts of processes, and what is said to the agent and by it: pure."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from launcher import wrapper
from launcher.cli.output import Output
from launcher.command import quote
from launcher.docker import Box
from launcher.errors import InventoryError
from launcher.model import Machine, ProcessSpec, ReadyCheck, State
from launcher.processes import wire
from launcher.processes.model import Key, Launch
from launcher.processes.surveying import SURVEY
from launcher.processes.wrapping import SERVE, boxed_text, tools_text, wrapper_text

NASTY = "'; touch /tmp/pwned; echo '$(id)`id`\n\"$HOME\" \\ ü"
SHELLS = [words for words in (["dash"], ["bash"], ["busybox", "sh"], ["zsh"]) if shutil.which(words[0])]


def nasty(**more) -> Launch:
    spec = ProcessSpec(
        NASTY, NASTY, Machine(), setup=NASTY, env={"A": NASTY}, ready_check=ReadyCheck(command=NASTY), **more
    )
    return Launch(Key(NASTY, NASTY), spec, NASTY, NASTY, NASTY, NASTY, NASTY)


def texts() -> dict[str, str]:
    box = wire.Entered(Box("docker", "0" * 64, "nav", "robot"), "mark", frozenset([Key(NASTY, NASTY)]))
    return {
        "agent": wire.agent(NASTY),
        "start": wire.start([nasty(), nasty()]),
        "start in a container": wire.start([nasty()], [box]),
        "stop": wire.stop(
            [Key(NASTY, NASTY)], force=False, quits=[], grace=1, tokens={Key(NASTY, NASTY): NASTY}
        ),
        "wrapper": wrapper_text(),
        "wrapper in a container": boxed_text() + wrapper_text(),
        "tools": tools_text(),
        "serve": SERVE,
    }


@pytest.mark.parametrize("shell", SHELLS, ids=lambda words: words[0])
@pytest.mark.parametrize("name", list(texts()))
def test_every_shell_parses_it(shell, name):
    done = subprocess.run([*shell, "-n"], input=texts()[name].encode(), capture_output=True)
    assert done.returncode == 0 and done.stderr == b""


def test_no_special_builtin_writes_files():
    for name, text in texts().items():
        assert not re.search(r"(^|[;&|{] *):( +[0-9]*>|>)", text, re.MULTILINE), name


@pytest.mark.parametrize("shell", SHELLS, ids=lambda words: words[0])
def test_values_arrive_as_they_are(shell):
    text = wire.start([nasty()]).replace("start_all 1\n", "")
    text += (
        'item_1; printf \'%s\\0\' "$cmd" "$setup" "$check" "$shown" "$by"; eval "$env"; printf \'%s\' "$A"'
    )
    done = subprocess.run([*shell, "-c", text], capture_output=True, check=True)
    line = " ".join(NASTY.split())
    assert done.stdout.decode().split("\0") == [NASTY, NASTY.strip(), NASTY, line, line, NASTY]


def test_who_still_needs_it_is_named_as_he_is_and_what_is_to_be_tried_names_the_inventory():
    key, answer = Key("se", "x y"), wire.Answer()
    wire.read_stop(answer, "s", f"{wire.path_of(key)} used - 0 me@here for se-remote run x")
    said = Output(inventory="lab.yaml").typed(wire.stopped(key, answer).reason)
    assert "still needs it: me@here for se-remote run x; " in said
    assert said.endswith(": se-remote -i lab.yaml kill 'x y'")


@pytest.mark.parametrize("shell", SHELLS, ids=lambda words: words[0])
def test_who_lives_is_known_whatever_it_calls_itself(shell, tmp_path):
    named = tmp_path / "a) Z 1 (b) c"
    named.write_text("#!/bin/sh\nread line\n")
    named.chmod(0o700)
    with subprocess.Popen([named], stdin=subprocess.PIPE) as process:
        stat = Path(f"/proc/{process.pid}/stat").read_text()
        assert f"({named.name})" in stat
        start = stat.rpartition(") ")[2].split()[19]
        code = f"{wrapper.COMMON}\nboot=here; alive {process.pid} {start} here && echo lives\n"
        code += f"alive {process.pid} 1{start} here || echo another\n"
        code += f"alive {process.pid} {start} there || echo old\n"
        as_sh = ["--emulate", "sh"] if shell == ["zsh"] else []
        done = subprocess.run([*shell, *as_sh, "-c", code], capture_output=True, check=True)
        process.communicate(b"end\n")
    assert done.stdout.split() == [b"lives", b"another", b"old"] and not done.stderr


@pytest.mark.parametrize("change", [{"shell": "/usr/bin/fish"}, {"env": {"A-B": "x"}}, {"cmd": "a\0"}])
def test_what_cannot_work_is_refused(change):
    spec = ProcessSpec("x", change.pop("cmd", "true"), Machine(), **change)
    with pytest.raises(InventoryError):
        wire.start([Launch(Key("se", "x"), spec, "t", "h", "me")])


def test_checks_as_commands():
    assert wire.probe(ReadyCheck(port=8080)).startswith("grep -qs ':1F90 ")
    assert wire.probe(ReadyCheck(file="~/a b")) == "[ -e \"$HOME\"'/a b' ]"
    assert wire.probe(ReadyCheck(log="it's")) == "log_has 'it'\"'\"'s'"
    assert wire.probe(ReadyCheck(command="x; y")) == "run_check"


def test_lines_of_the_agent():
    told = wire.read_change("se/x tok dead 137 9 1700000000 its window was closed")
    assert told == wire.Told("se/x", "tok", State.DEAD, None, 9, "its window was closed")
    assert wire.read_change("se/x tok stopped 0 0 1") == wire.Told("se/x", "tok", State.STOPPED, 0, None)
    assert wire.read_change("se/x tok napping 0 0 1") is None and wire.read_change("what") is None


def test_what_became_of_a_stop():
    key, answer = Key("se", "x"), wire.Answer()
    assert wire.stopped(key, answer).reason == "was not running"
    wire.read_stop(answer, "l", "se/x 12 sleep 1000")
    wire.read_stop(answer, "s", "se/x forced - 0")
    change = wire.stopped(key, answer)
    assert (change.state, change.forced, change.left) == (State.STOPPED, True, ("12 sleep 1000",))
    wire.read_stop(answer, "s", "se/x dead 3 0")
    assert wire.stopped(key, answer).code == 3


def test_a_conflict_names_who_and_why():
    said = {"token": "t", "by": "me@here", "what": "a test", "began": "20260102T030405Z-1"}
    change = wire.conflict(Key("se", "a b"), said)
    assert change.state is State.CONFLICT
    assert change.reason.endswith("started by me@here for a test at 2026-01-02 03:04:05 UTC")


@pytest.mark.parametrize("awk", ["awk", "mawk", "gawk", "busybox awk"])
@pytest.mark.parametrize("shell", SHELLS, ids=lambda words: words[0])
def test_what_runs_say_is_read_as_it_is(shell, awk, tmp_path):
    if shutil.which(awk.split()[0]) is None:
        pytest.skip(f"no {awk} here")
    boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    start = Path("/proc/self/stat").read_text().rpartition(") ")[2].split()[19]
    one, two, three = (tmp_path / "a b" / name for name in ("one", "two", "three"))
    by = NASTY.replace("\n", " ")
    for run in (one, two):
        run.mkdir(parents=True)
        (run / "about").write_text(f"t\nh\n{by}\nwhat\n\n\nshown\\n\nyes\n2026\n")
        (run / "wrapper").write_text(f"{os.getpid()} {start} {boot}\nrest\n")
    (two / "exit").write_text("137 9 1700 why\n")
    code = f"{SURVEY}\nnewline='\n'; root={quote([str(tmp_path / 'a b')])}; boot={boot}; awk='{awk}'\n"
    code += "keys='one two three'; survey; n=0\n"
    code += (
        'for key in $keys; do n=$((n + 1)); "seen_$n"; '
        'printf "%s\\0" "$htoken" "$hby" "$hname" "$hbegan" "$wpid" "$hcode" "$hsig" "$plain"; done'
    )
    as_sh = ["--emulate", "sh"] if shell == ["zsh"] else []
    done = subprocess.run([*shell, *as_sh, "-c", code], capture_output=True, check=True)
    said = done.stdout.decode().split("\0")[:-1]
    pid = str(os.getpid())
    assert said[:8] == ["t", by, "shown\\n", "2026", pid, "-", "0", "yes"]
    assert said[8:16] == ["t", by, "shown\\n", "2026", pid, "137", "9", ""]
    assert said[16:] == ["", "", "", "", "", "-", "0", ""] and not done.stderr
    assert not three.exists()
