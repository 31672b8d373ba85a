"""Processes of the inventory, as a person runs them: real sshd, real tmux, the command as a subprocess.

What must work. What goes wrong elsewhere and must not here is in test_processes_hardship.py, files of
concert_launcher are in test_processes_concert.py.
"""

from __future__ import annotations

import json
import os
import re
import signal
import time

import pytest
from stackbed import LONG, order, slow, until


def test_one_from_its_start_to_its_end(stack):
    stack.processes(talker={"cmd": f"echo hello; echo $$ >>~/pids; {LONG}"})
    started = stack.good("run", "talker")
    assert order(started.text, "talker", "ready")
    assert stack.windows() == ["talker"]
    seen = stack.status("talker")["talker"]
    assert seen["state"] == "ready"
    (pid,) = stack.lines("pids")
    os.kill(int(pid), 0)
    assert "hello" in stack.good("logs", "talker").out
    assert order(stack.good("status").out, "talker", "ready")

    stack.good("run", "talker")
    assert stack.lines("pids") == [pid], "it runs already: nothing is started"

    killed = stack.good("kill", "talker")
    assert order(killed.text, "talker", "stopped")
    assert stack.alive("sleep 3600") == [] and not stack.base().exists()
    assert stack.states("talker") == {"talker": "stopped"}
    assert "hello" in stack.good("logs", "talker").out, "the log outlives it"
    assert "not running" in stack.good("kill", "talker").text


def test_dependencies_run_side_by_side_each_once_and_in_order(stack):
    """`left` and `right` each become ready only when the other one runs."""

    def half(mine, other):
        command = f"echo {mine} >>~/ledger; touch ~/{mine}; {LONG}"
        return {"cmd": command, "depends": ["base"], "ready_check": f"test -e ~/{other}"}

    stack.processes(
        base={"cmd": "sleep 0.3; echo base >>~/ledger", "persistent": False},
        left=half("left", "right"),
        right=half("right", "left"),
        top={"cmd": f"echo top >>~/ledger; {LONG}", "depends": ["left", "right"]},
        beside={"cmd": "echo beside >>~/ledger"},
    )
    stack.good("run", "top")
    ledger = stack.lines("ledger")
    assert ledger[0] == "base" and ledger[3] == "top" and sorted(ledger[1:3]) == ["left", "right"]
    assert len(ledger) == 4
    states = stack.states()
    assert {states[one] for one in ("left", "right", "top")} == {"ready"} and states["beside"] == "stopped"

    stack.good("kill", "base")
    assert set(stack.states("left", "right", "top").values()) == {"stopped"}, (
        "dependants go with it, transitively"
    )


def test_kill_ends_dependants_first(stack):
    def entry(name, *depends):
        return {
            "cmd": f"trap 'echo {name} >>~/ended; exit 0' INT TERM; while :; do sleep 0.05; done",
            "depends": [*depends],
        }

    stack.processes(a=entry("a"), b=entry("b", "a"), c=entry("c", "b"), d=entry("d"))
    stack.good("run", "c", "d")
    stack.good("kill", "a")
    assert stack.lines("ended") == ["c", "b", "a"]
    assert stack.states("d") == {"d": "ready"}


@pytest.mark.parametrize("force", [False, slow(True)])
def test_kill_ends_what_traps_everything_and_force_does_not_wait_for_it(stack, force):
    """What left its group or its session belongs to it, too."""
    child = "(trap '' INT QUIT TERM; exec sleep 3601)"
    command = (
        f"trap '' INT QUIT TERM; setsid sh -c {child!r} & {child} & sleep 3602 & while :; do sleep 1; done"
    )
    stack.processes(
        stubborn={"cmd": command},
        polite={"cmd": "trap 'touch ~/heard; exit' INT; while :; do sleep 0.1; done"},
    )
    stack.good("run", "stubborn", "polite")
    until(lambda: len(stack.alive("sleep 3601")) >= 2)
    done = stack.good("kill", "stubborn", "polite", *(["--force"] if force else []))
    assert "KILL" in done.text
    assert stack.alive("sleep 36") == []
    assert stack.file("heard").exists() is not force
    assert not stack.base().exists()


@pytest.mark.slow
def test_kill_all_is_every_process_of_the_inventory(stack):
    if list((stack.base().parent / f"se-remote-{os.getuid()}").glob("local*")):
        pytest.skip("somebody uses the host `local` of this machine")
    stack.processes(a={"cmd": LONG}, b={"cmd": LONG, "depends": ["a"]}, c={"cmd": LONG})
    stack.good("run", "b", "c")
    assert stack.run("kill").code == 2
    stack.good("kill", "--all")
    assert not stack.base().exists()


def test_restart_is_another_process_and_its_dependencies_stay(stack):
    stack.processes(
        base={"cmd": f"echo $$ >>~/base; {LONG}"},
        top={"cmd": f"echo $$ >>~/top; {LONG}", "depends": ["base"]},
    )
    stack.good("run", "top")
    stack.good("restart", "top")
    assert (len(stack.lines("base")), len(stack.lines("top"))) == (1, 2)
    assert stack.states() | {"local": ""} == {"base": "ready", "top": "ready", "local": ""}


def test_the_plan_is_the_order_and_the_commands_and_touches_nothing(stack):
    stack.write(
        {
            "context": {"params": {"rate": "10"}},
            "processes": {
                "driver": {"cmd": "drive --rate {rate} 'a b'", "machine": stack.machine(port=1)},
                "planner": {
                    "cmd": "plan $HOME",
                    "machine": stack.machine(port=1),
                    "depends": ["driver"],
                    "variants": {"slow": {"cmd": "{cmd} --slow", "params": {"rate": "1"}}},
                },
            },
        }
    )
    plan = stack.good("run", "planner", "--plan")
    assert order(plan.out, "driver", "drive --rate 10", "a b", "planner", "plan $HOME")
    assert "plan $HOME --slow" in stack.good("run", "planner", "--plan", "--variant", "slow").out
    assert "drive --rate 99" in stack.good("run", "planner", "--plan", "--param", "rate=99").out
    assert stack.run("run", "planner").code == 3, "without --plan the machine is asked for"


@pytest.mark.parametrize(
    ("command", "code"),
    [
        slow("exit 0", 0),
        slow("exit 7", 7),
        ("false; true", 0),
        ("true; exit 3", 3),
        ("kill -TERM $$", 143),
        slow("kill -9 $$", 137),
        slow("no_such_command_at_all", 127),
    ],
)
def test_wait_ends_with_the_exit_code_of_the_process(stack, command, code):
    stack.processes(job={"cmd": f"echo out; echo err >&2; {command}", "persistent": False})
    done = stack.run("run", "job", "--wait")
    assert done.code == code, done.text
    if code:
        assert order(done.text, "job", f"exit code {code}" if code < 128 else f"signal {code - 128}")
        assert "err" in stack.good("logs", "job").out
        stack.good("kill", "job")


def test_follow_shows_what_it_says_until_it_ends(stack):
    """…and dependencies' lines are not lost in between; the exit code is the process's with --wait."""
    stack.processes(
        job={
            "cmd": "for i in 1 2 3; do echo line $i; sleep 0.1; done; printf 'no newline'; exit 5",
            "persistent": False,
        }
    )
    done = stack.run("run", "job", "--follow", "--wait")
    assert order(done.out, "line 1", "line 2", "line 3", "no newline"), done.text
    assert done.code == 5


def test_status_shows_the_tree_of_each_with_processor_and_memory(stack):
    spin = "sh -c 'while :; do :; done'"
    stack.processes(worker={"cmd": f"{spin} & sleep 3600 & setsid sleep 3601 & wait"})
    stack.good("run", "worker")
    until(lambda: stack.alive("sleep 3601"))
    shown = stack.good("status", "worker", "--tree").out
    assert [text for text in ("sleep 3600", "sleep 3601", "while :") if text not in shown] == []
    busy = [float(line.split()[0]) for line in shown.splitlines() if "while :" in line]
    assert max(busy) > 5, "percent of a core"
    assert "CPU %" in shown and "MEMORY" in shown


def test_logs_of_several_with_prefixes_grep_and_since(stack):
    count = "for i in 1 2 3; do echo {0} $i; done; " + LONG
    stack.processes(one={"cmd": count.format("red")}, two={"cmd": count.format("blue")})
    stack.good("run", "one", "two")
    both = stack.good("logs", "one", "two").out
    assert re.search(r"one\W.*red 2", both) and re.search(r"two\W.*blue 3", both)
    assert stack.good("logs", "one", "--grep", "2$").out.splitlines() == ["red 2"]
    assert stack.good("logs", "one", "-n", "1").out.splitlines() == ["red 3"]
    assert "red 1" in stack.good("logs", "one", "--since", "10m").out


def test_logs_follow_through_a_restart_and_keep_the_runs(stack):
    stack.processes(talker={"cmd": f"echo run $(cat ~/n | wc -l); echo . >>~/n; {LONG}"})
    stack.file("n").write_text("")
    os.chown(stack.file("n"), stack.accounts[0].uid, -1)
    stack.good("run", "talker")
    follower = stack.start("logs", "talker", "-f")
    assert "run 0" in follower.stdout.readline()
    stack.good("restart", "talker")
    assert any("run 1" in line for line in iter(follower.stdout.readline, ""))
    follower.send_signal(signal.SIGINT)
    stack.ended(follower)
    assert "run 0" in stack.good("logs", "talker", "--run", "1").out
    assert "stopped" in stack.good("logs", "talker", "--runs").out


READY = {
    "command": ("test -e ~/go", "touch ~/go"),
    "log": ({"log": r"^state: (up|on)$"}, "echo 'state: up'"),
    "file": ({"file": "~/go"}, "touch ~/go"),
}


@pytest.mark.parametrize("form", [slow("command"), "log", slow("file")])
def test_ready_is_what_the_check_says(stack, form):
    check, action = READY[form]
    command = f"echo state: unknown; while [ ! -e ~/now ]; do sleep 0.05; done; {action}; {LONG}"
    stack.processes(slow={"cmd": command, "ready_check": check})
    run = stack.start("run", "slow")
    until(lambda: stack.states("slow")["slow"] in ("starting", "running"))
    assert run.poll() is None
    stack.file("now").touch()
    assert stack.ended(run).code == 0
    assert stack.states("slow") == {"slow": "ready"}


SERVER = """
import socket, sys, time
server = socket.create_server(("127.0.0.1", int(sys.argv[1])))
print(server.getsockname()[1], flush=True)
time.sleep(3600)
"""


@pytest.mark.slow
def test_ready_when_a_port_is_open(stack):
    stack.file("server.py").write_text(SERVER)
    serve = f"exec {stack.world.python[0]} ~/server.py"
    stack.processes(first={"cmd": f"{serve} 0", "ready_check": {"log": "^[0-9]+$"}})
    stack.good("run", "first")
    port = stack.good("logs", "first").out.strip()
    stack.good("kill", "first")
    stack.processes(
        server={"cmd": f"sleep 0.5; {serve} {port}", "ready_check": {"port": int(port)}},
        never={"cmd": LONG, "ready_check": {"port": 1}, "ready_timeout": "1s"},
    )
    stack.good("run", "server")
    late = stack.run("run", "never")
    assert late.code == 4 and order(late.text, "never", "1 s"), late.text
    stack.good("kill", "server", "never")


def test_the_check_has_setup_env_and_parameters_of_its_process(stack):
    stack.write(
        {
            "context": {"params": {"place": "here"}},
            "hosts": {
                "lab": {
                    "machine": stack.machine(),
                    "setup": "export FROM_SETUP=1",
                    "env": {"BOTH": "{place}"},
                }
            },
            "processes": {
                "p": {
                    "cmd": LONG,
                    "host": "lab",
                    "env": {"OWN": "it's"},
                    "ready_check": '[ "$FROM_SETUP$BOTH${OWN}{place}" = "1hereit\'shere" ]',
                    "ready_timeout": "15s",
                }
            },
        }
    )
    stack.good("run", "p")
    stack.good("kill", "p")


def test_a_check_that_hangs_is_ended_and_the_time_is_over(stack):
    stack.processes(p={"cmd": LONG, "ready_check": "sleep 3603 & exec sleep 3604", "ready_timeout": "1.5s"})
    late = stack.run("run", "p")
    assert late.code == 4 and "se-remote" in late.text, late.text
    stack.good("kill", "p")
    assert stack.alive("sleep 360") == []


def test_one_that_dies_while_waited_for_fails_at_once_with_its_last_lines(stack):
    stack.processes(
        p={"cmd": "echo the driver is missing; exit 5", "ready_check": "false", "ready_timeout": "0"},
        after={"cmd": "touch ~/started", "depends": ["p"]},
    )
    began = time.monotonic()
    done = stack.run("run", "after")
    assert done.code == 1 and time.monotonic() - began < 30
    assert "the driver is missing" in done.text and "5" in done.text and "after" in done.text
    assert not stack.file("started").exists()
    seen = stack.status("p")["p"]
    assert (seen["state"], seen["code"]) == ("dead", 5)


def test_stopping_with_quit_where_it_is_asked_for(stack):
    trap = "trap 'echo INT >>~/got' INT; trap 'echo QUIT >>~/got; exit' QUIT; while :; do sleep 0.05; done"
    stack.processes(a={"cmd": trap, "force_sigquit": True})
    stack.good("run", "a")
    stack.good("kill", "a")
    assert stack.lines("got") == ["QUIT"]


def test_a_process_of_another_session_is_in_another_tmux_session(stack):
    stack.processes(a={"cmd": LONG}, b={"cmd": LONG, "session": "vision"})
    stack.good("run", "a", "b")
    assert (stack.windows(), stack.windows("vision")) == (["a"], ["b"])
    stack.good("kill", "a", "b")
    assert not stack.base().exists()


def host_entry(stack, *depends):
    python, path = stack.world.python
    return {
        "machine": stack.machine(),
        "python": python,
        "depends": list(depends),
        "env": {"PYTHONPATH": path, "SE_REMOTE_ESCALATION": "0.4,0.4"},
    }


def traced(name, *depends):
    trap = f"trap 'echo -{name} >>~/ledger; exit' INT TERM"
    return {
        "cmd": f"{trap}; echo +{name} >>~/ledger; while :; do sleep 0.05; done",
        "host": "lab-pc",
        "depends": [*depends],
    }


SCENARIO = """import osc.helpers
import osc.remote

scenario test:
    do serial:
        run_process("sh {0}") with:
            remote("lab-pc")
"""


def write_scenario(stack, seconds):
    script = stack.file("scenario.sh")
    script.write_text(f"echo scenario >>~/ledger; exec sleep {seconds}")
    (stack.folder / "test.osc").write_text(SCENARIO.format(script))


def test_a_scenario_starts_what_its_host_depends_on_and_stops_it_in_reverse_order(stack):
    stack.write(
        {
            "hosts": {"lab-pc": host_entry(stack, "map")},
            "processes": {"driver": traced("driver"), "map": traced("map", "driver"), "mine": traced("mine")},
        }
    )
    stack.good("run", "mine")
    write_scenario(stack, 0)
    done = stack.ended(stack.start("scenario_execution", "test.osc"))
    assert done.code == 0, done.text
    assert stack.lines("ledger") == ["+mine", "+driver", "+map", "scenario", "-map", "-driver"]
    assert stack.states("mine") == {"mine": "ready"}


def test_what_a_killed_scenario_started_ends_with_its_lease(stack):
    """What `run` started has none."""
    entry = {**host_entry(stack, "driver"), "lease": "2s"}
    stack.write(
        {"hosts": {"lab-pc": entry}, "processes": {"driver": traced("driver"), "mine": traced("mine")}}
    )
    stack.good("run", "mine")
    write_scenario(stack, 3600)
    running = stack.start("scenario_execution", "test.osc")
    until(lambda: "scenario" in stack.lines("ledger"), 30)
    running.kill()
    running.communicate()
    until(lambda: "-driver" in stack.lines("ledger"), 30)
    assert "-mine" not in stack.lines("ledger")
    assert stack.states("mine") == {"mine": "ready"}


def test_up_of_a_host_starts_its_depends_and_hosts_are_dependencies(stack):
    stack.write(
        {
            "hosts": {"lab-pc": host_entry(stack, "driver")},
            "processes": {"driver": traced("driver"), "user": {**traced("user"), "depends": ["lab-pc"]}},
        }
    )
    stack.good("run", "user")
    assert stack.lines("ledger") == ["+driver", "+user"]
    assert stack.states("lab-pc", "user") == {"lab-pc": "ready", "user": "ready"}
    stack.good("kill", "user", "lab-pc", "driver")
    stack.good("up", "lab-pc")
    assert stack.states("driver") == {"driver": "ready"}
    stack.good("kill", "driver")
    assert stack.states("lab-pc") == {"lab-pc": "stopped"}, "a dependant goes first"


def test_names_are_shared_and_an_unknown_one_says_what_is_meant(stack):
    stack.processes(planner={"cmd": LONG})
    for command in ("run", "kill", "restart", "logs", "status"):
        done = stack.run(command, "planer")
        assert done.code == 2 and re.search(r'did you mean .*"planner"\?', done.text), (command, done.text)


def test_json_of_status_is_complete(stack):
    stack.processes(p={"cmd": "exit 3"})
    stack.run("run", "p")
    (seen,) = json.loads(stack.run("status", "p", "--json").out)
    assert (seen["state"], seen["code"], seen["signal"]) == ("dead", 3, None)
    assert seen["started_by"].endswith("@" + os.uname().nodename)
