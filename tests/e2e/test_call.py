"""`se-remote call` and `se-remote actions` as a person uses them."""

from __future__ import annotations

import json
import re
import signal

import pytest
import sshd as private
from commandline import ENDS_WITHIN, Terminal


@pytest.fixture
def terminal(world):
    made = Terminal(world)
    yield made
    assert private.wait_until(lambda: not made.run_dir.exists(), 20)


def sleeping(terminal, seconds):
    found = [text.split()[1:] for text in private.marked(terminal.world.mark)]
    return [words for words in found if words == ["sleep", str(seconds)]]


def test_its_lines_and_its_result(terminal):
    good = terminal.se_remote("call", "lab-pc", "run_process", "command=echo one two")
    assert (good.code, good.out) == (0, "one two\n")
    assert f"run_process on {terminal.name}: success after" in good.err
    bad = terminal.se_remote("call", "lab-pc", "run_process", "command=false")
    assert (bad.code, bad.out) == (1, "") and "failed with 1" in bad.err
    assert not terminal.run_dir.exists()


def test_json_is_one_document_and_a_text_stays_a_text(terminal):
    assert terminal.se_remote("call", "lab-pc", "run_process", "command=true").code == 0
    done = terminal.se_remote("call", "lab-pc", "log", "msg=5", "--json")
    result = json.loads(done.out)
    assert (result["success"], result["host"], result["action"]) == (True, terminal.name, "log")
    assert [line["text"] for line in result["log"]] == ["5"]


def test_options_may_stand_between_arguments(terminal):
    done = terminal.se_remote(
        "call", "lab-pc", "run_process", "command=pwd", "--directory", "/tmp", "--timeout", "30",
        "shutdown_signal=sigint", "shutdown_timeout=200ms",
    )  # fmt: skip
    assert (done.code, done.out) == (0, "/tmp\n"), done.text


def test_it_uses_a_server_that_is_up_and_leaves_it(terminal):
    terminal.se_remote("up", "lab-pc")
    pid = json.loads(terminal.se_remote("status", "lab-pc", "--json").out)[0]["pid"]
    assert terminal.se_remote("call", "lab-pc", "log", "msg=hello").out == "hello\n"
    (after,) = json.loads(terminal.se_remote("status", "lab-pc", "--json").out)
    assert (after["pid"], after["sessions"]) == (pid, [])
    terminal.se_remote("kill", "lab-pc")


def test_json_of_a_call_that_runs_out_of_time_has_its_log_lines(terminal):
    command = "command=tail -f /proc/version"
    done = terminal.se_remote("call", "lab-pc", "run_process", command, "--timeout", "1s", "--json")
    result = json.loads(done.out)
    assert done.code == 1 and "within 1 s" in done.err
    assert (result["status"], result["success"]) == ("timeout", False)
    assert any("Linux version" in line["text"] for line in result["log"])
    assert 1 <= result["duration"] < 10 and "within 1 s" in result["feedback"]


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["lab-pc"], 2, "ACTION"),
        (["lab-pc", "run_process", "command"], 2, "expected key=value, found 'command'"),
        (["lab-pc", "run_process", "comand=x"], 2, "did you mean 'command'?"),
        (["lab-pc", "run_process", "wait_for_shutdown=yes", "command=x"], 2, "expected true or false"),
        (["lab-pc", "run_process"], 2, "missing: command: string"),
        (["lab-pc", "run_process", "command=x", "shutdown_signal=sigfoo"], 2, "sigint (2)"),
        (["lab-pc", "run_proces"], 2, "did you mean 'run_process'?"),
        (["lab-pc", "log", "msg=x", "--timeout", "0"], 2, "more than 0"),
        (["lab-pc", "log", "msg=x", "--timeout", "soon"], 2, "expected a time such as 2, 1.5s"),
        (["lab-pc", "log", "msg=x", "--nonsense"], 2, "--nonsense"),
        (["lab-pd", "log", "msg=x"], 2, 'did you mean "lab-pc"?'),
        (["nobody@127.0.0.1:1", "log", "msg=x"], 3, "connect"),
        (["lab-pc", "run_process", "command=sleep 7450", "--timeout", "500ms"], 1, "within 0.5 s"),
    ],
)
def test_what_is_wrong_ends_in_a_sentence_and_its_exit_code(terminal, words, code, said):
    done = terminal.se_remote("call", *words)
    assert done.code == code, done.text
    assert said in done.err
    assert not sleeping(terminal, 7450)


def test_a_server_that_does_not_get_ready_is_exit_code_4(terminal):
    terminal.write_inventory(terminal.entry(terminal.name, server="sleep 60; {server}", ready_timeout="1s"))
    done = terminal.se_remote("call", "lab-pc", "log", "msg=x")
    assert done.code == 4, done.text
    terminal.se_remote("kill", "lab-pc")


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_cancels_it_on_the_host_and_waits_for_that(terminal, number, code):
    running = terminal.start("se-remote", "call", "lab-pc", "run_process", "command=sleep 7451")
    assert private.wait_until(lambda: sleeping(terminal, 7451), 30)
    running.send_signal(number)
    out, err = running.communicate(timeout=ENDS_WITHIN)
    assert running.returncode == code, out + err
    assert not sleeping(terminal, 7451)
    assert "Cancel requested, sending SIGTERM" in out, "its last words are shown"
    assert "Traceback" not in err and "interrupted" in err


def test_a_second_interrupt_does_not_wait_for_a_stubborn_action(terminal):
    script = terminal.folder / "stubborn.sh"
    script.write_text("trap '' TERM INT\necho up\nwhile :; do sleep 0.1; done\n")
    running = terminal.start(
        "se-remote", "call", "lab-pc", "run_process", f"command=sh {script}", "shutdown_timeout=30"
    )
    assert running.stdout.readline() == "up\n"
    for _ in range(3):
        running.send_signal(signal.SIGINT)
        private.wait_until(lambda: False, 0.5)
    _, err = running.communicate(timeout=25)
    assert running.returncode in (1, 130), err
    terminal.se_remote("kill", "lab-pc", "--force")
    assert private.wait_until(
        lambda: not [t for t in private.marked(terminal.world.mark) if str(script) in t], 20
    )


def test_a_reader_that_goes_away_ends_it(terminal):
    script = terminal.folder / "talk.sh"
    script.write_text("while :; do echo more; sleep 0.05; done\n")
    running = terminal.start("se-remote", "call", "lab-pc", "run_process", f"command=sh {script}")
    assert running.stdout.readline() == "more\n"
    running.stdout.close()
    assert running.wait(ENDS_WITHIN) == 1
    assert "Traceback" not in running.stderr.read()
    running.stderr.close()
    assert not [text for text in private.marked(terminal.world.mark) if str(script) in text]


def test_the_plugins_are_listed(terminal):
    shown = terminal.se_remote("actions", "lab-pc")
    assert shown.code == 0, shown.text
    row = next(line for line in shown.out.splitlines() if line.startswith("run_process"))
    assert re.search(r"scenario_execution +\S+ +command: string, wait_for_shutdown: bool = True", row)
    listed = {
        entry["name"]: entry for entry in json.loads(terminal.se_remote("actions", "lab-pc", "--json").out)
    }
    command = next(p for p in listed["run_process"]["parameters"] if p["name"] == "command")
    assert command["required"] and command["type"] == "string"
    assert terminal.se_remote("actions", "lab-pd").code == 2


def test_an_address_works_too(terminal):
    path = terminal.folder / "sock"
    server = terminal.start("scenario_execution_server", "--socket", str(path), "-c", "0")
    try:
        assert private.wait_until(path.exists, 20)
        done = terminal.se_remote("call", str(path), "log", "msg=there")
        assert (done.code, done.out) == (0, "there\n"), done.text
        assert terminal.se_remote("call", "./sock", "log", "msg=here").code == 0
        assert server.poll() is None
    finally:
        server.terminate()
        server.communicate(timeout=ENDS_WITHIN)
