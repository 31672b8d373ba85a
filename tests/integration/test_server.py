"""The real server over real sockets: sessions, actions, errors, and the end."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import stat
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
from server_tools import marked, until

from remote_exec.host import procs

STUBBORN = ["sh", "-c", "trap '' TERM INT; echo up; while :; do sleep 0.1; done"]


@pytest.fixture
def server(start):
    server = start()
    yield server
    assert server.stop() == 0, server.log


@pytest.fixture
def client(server):
    return server.v2().open()


@pytest.mark.parametrize("who", ["supervisor", "front"])
def test_signals_while_it_ends_are_no_news(server, who):
    """Two kills at once, a kill that finds no pid yet, a window that is closed meanwhile."""
    until(lambda: "listening" in server.log)
    pid = server.processes()[who]
    with contextlib.suppress(ProcessLookupError):
        while server.process.poll() is None:
            os.kill(pid, signal.SIGTERM)
            time.sleep(0.001)
    assert server.wait() == 0 and "Traceback" not in server.log, server.log


def test_hello_tells_who_is_there(server):
    client = server.v2()
    reply = client.hello(lease=5)
    assert reply["ok"]
    assert reply["lease"] == 5
    assert not reply["resumed"]
    assert set(reply["server"]) == {"version", "wire", "machine", "pid", "python", "time"}
    assert reply["server"]["pid"] == server.process.pid
    assert client.hello()["resumed"]
    nobody = server.v2()
    reply = nobody.wait(nobody.send("hello", sessionless=True, client={}, seen=None))
    assert reply["ok"]
    assert reply["session"] is None


def test_run_dir_is_as_announced(server):
    client = server.v2()
    assert client.hello()["ok"]
    endpoint = json.loads((server.run_dir / "endpoint.json").read_text())
    pid, start, boot = (server.run_dir / "pid").read_text().split()
    assert int(pid) == endpoint["pid"] == server.process.pid
    assert int(start) == endpoint["start"]
    assert boot == endpoint["boot_id"]
    assert endpoint["socket"] == str(server.socket)
    client.open()
    client.make("a", "odd", {"phase": "update", "what": "sleep 0"}, label="x")
    client.execute("a")

    def running():
        sessions = json.loads((server.run_dir / "state.json").read_text())["sessions"]
        expected = [{"id": "a", "name": "odd", "plugin": "odd", "status": "running"}]
        return [session["actions"] for session in sessions] == [expected]

    until(running)
    client.ok("bye", release=True)
    until(lambda: json.loads((server.run_dir / "state.json").read_text())["sessions"] == [])
    server.process.terminate()
    assert server.wait() == 0
    assert [p.name for p in server.run_dir.iterdir()] == ["lock"]


def test_actions_run_and_report(client):
    client.make("a", "log")
    reply = client.execute("a", msg="hello from there")
    assert (reply["ok"], reply["status"]) == (True, "success")
    client.until(lambda: "hello from there" in client.logs())
    client.make("b", "run_process")
    assert client.result("b", command="false") == "failure"
    assert client.result("b", command=["sh", "-c", "echo out; echo err >&2; sleep 0.2"]) == "success"
    assert {e["run"] for e in client.events if e["ev"] == "status"} == {client.next_id}
    client.until(lambda: {"out", "err"} <= set(client.logs().split("\n")))
    client.make("c", "compare")
    assert client.execute("c", left_value="3", operator="==", right_value="3")["status"] == "success"


def test_arguments_arrive_as_locally(client):
    client.make(
        "a", "echo", {"at_init": [1, ("x", 2)]}, label="lbl", name="lbl", actor={"name": "r1", "speed": 1.5}
    )
    client.ok("execute", action="a", args={"value": {"e": ("SIGINT", 2), "l": [1, 2.5, None, True, b"x"]}})
    client.until(lambda: "init" in client.logs())
    text = client.logs()
    assert "init [1, ('x', 2)]" in text
    assert "value {'e': ('SIGINT', 2), 'l': [1, 2.5, None, True, b'x']}" in text
    assert "actor {'speed': 1.5, 'name': 'r1'}" in text
    assert "name lbl label lbl" in text
    assert "kwargs host_clock,input_dir,logger,output_dir,process_registry,tick_period" in text
    assert "ctx (7, 8, 'echo(1)', '/s/test.osc')" in text


def test_scenario_folder_is_where_actions_run(server, tmp_path):
    client = server.v2()
    client.hello()
    client.ok(
        "configure",
        scenario_file_directory=str(tmp_path),
        input_dir=None,
        output_dir=None,
        tick_period=0.1,
        clock="host",
    )
    client.make("a", "echo")
    client.execute("a", value=1)
    client.until(lambda: f"dir {tmp_path} cwd {tmp_path}" in client.logs())


def test_what_lies_in_the_folder_where_it_starts_hides_nothing(start, tmp_path):
    """A home of a robot holds what people have tried."""
    for name in ("argparse", "select", "shlex", "subprocess", "py_trees", "msgpack", "yaml"):
        (tmp_path / f"{name}.py").write_text("raise ImportError('out of the home')\n")
    (tmp_path / "stop").write_text("echo safe; touch safe")
    server = start("--on-stop-file", str(tmp_path / "stop"), cwd=tmp_path)
    client = server.v2()
    client.hello()
    client.ok("configure", tick_period=0.1, clock="host")
    client.make("a", "echo")
    assert server.stop() == 0, server.log
    assert (tmp_path / "safe").exists(), server.log


@pytest.mark.parametrize("phase", ["init", "setup", "execute", "update"])
@pytest.mark.parametrize("what", ["raise", "action_error"])
def test_exceptions_become_error_replies(client, phase, what):
    args = {"phase": phase, "what": what}
    source = ["/s/t.osc", 7, 8]
    reply = client.call("create", action="a", plugin="odd", name="odd", source=source, init_args=args)
    if reply["ok"]:
        reply = client.call("setup", action="a")
    if reply["ok"]:
        reply = client.execute("a")
    assert not reply["ok"]
    error = reply["error"]
    assert error["kind"] == "plugin_error"
    assert f"odd {phase}" in error["message"]
    assert "\n" not in error["message"]
    assert error["where"] == "/s/t.osc:7:8"
    assert "Traceback" in error["traceback"]


def test_an_exception_in_a_later_update_is_a_failure(client):
    client.make("a", "odd", {"phase": "update2", "what": "raise"})
    assert client.execute("a")["status"] == "running"
    client.until(lambda: client.status("a") == "failure")
    feedback = [e["feedback"] for e in client.events if e["ev"] == "status"][-1]
    assert feedback == "ValueError: odd update2 (/s/test.osc:7)"
    client.until(lambda: "Traceback" in client.logs())
    assert client.execute("a")["ok"]


@pytest.mark.parametrize("what", ["none", "invalid", "number"])
def test_odd_results_are_invalid_as_in_py_trees(client, what):
    client.make("a", "odd", {"phase": "update", "what": what})
    assert client.execute("a")["status"] == "invalid"
    client.until(lambda: "terminate INVALID" in client.logs())
    assert client.execute("a")["status"] == "invalid"


def test_feedback_changes_are_pushed_until_the_end(client):
    client.make("a", "odd")
    assert client.execute("a")["feedback"] == "tick 1"
    client.until(lambda: client.status("a") == "success")
    assert [e["feedback"] for e in client.events if e["ev"] == "status"] == ["tick 2", "tick 3"]


def test_cancel_escalates_and_execute_waits_for_it(client):
    client.make("a", "run_process")
    client.ok(
        "execute",
        action="a",
        args={"command": STUBBORN, "shutdown_timeout": 0.5, "shutdown_signal": ("sigterm", 15)},
    )
    client.until(lambda: "up" in client.logs())
    cancelled = client.send("cancel", action="a")
    again = client.send("execute", action="a", args={"command": ["sh", "-c", "echo again"]})
    assert client.wait(cancelled)["ok"]
    assert client.wait(again)["ok"]
    client.until(lambda: "again" in client.logs())
    assert "SIGKILL" in client.logs()


def test_a_cancel_reaches_a_busy_action_once(client):
    client.make("a", "odd", {"phase": "update2", "what": "sleep 1.5"})
    client.execute("a")
    client.until(lambda: any(e["ev"] == "busy" for e in client.events))
    busy = next(e for e in client.events if e["ev"] == "busy")
    assert (busy["action"], busy["phase"]) == ("a", "update")
    cancel = client.send("cancel", action="a")
    client.until(lambda: "cancel requested" in client.logs())
    assert client.wait(cancel)["ok"]
    client.until(lambda: "terminate INVALID" in client.logs())
    assert client.logs().count("cancel requested") == 1


def test_shutdown_of_an_action_ends_its_process(client, server):
    client.make("a", "run_process")
    client.ok(
        "execute",
        action="a",
        args={
            "command": STUBBORN,
            "wait_for_shutdown": False,
            "shutdown_timeout": 0.3,
            "shutdown_signal": ("sigterm", 15),
        },
    )
    client.until(lambda: "up" in client.logs())
    assert any("trap" in command for _, command in marked(server.marker))
    client.ok("shutdown", action="a")
    assert not any("trap" in command for _, command in marked(server.marker))
    assert client.call("setup", action="a")["error"]["kind"] == "unknown_action"


def test_what_needs_a_moment_to_end_gets_it(start, monkeypatch, tmp_path):
    """The seconds that users have: the tests' own would be too few."""
    monkeypatch.delenv(procs.ESCALATION_VARIABLE)
    script = "trap 'sleep 1.2; echo in order >ended; exit' INT; echo up; while :; do sleep 0.1; done"
    client = start("--lease", "60").v2().open()
    client.make("p", "run_process")
    client.ok("execute", action="p", args={"command": ["sh", "-c", f"cd {tmp_path}; {script}"]})
    client.until(lambda: "up" in client.logs())
    client.make("a", "odd", {"phase": "update", "what": "_exit"})
    client.execute("a")
    until((tmp_path / "ended").exists)


@pytest.mark.parametrize(
    ("what", "reason"),
    [
        ("exit", "exit code 3"),
        ("_exit", "exit code 4"),
        ("segfault", "signal SIGSEGV"),
    ],
)
def test_a_crash_ends_its_session_only(server, client, what, reason):
    other = server.v2().open()
    other.make("a", "odd", {"phase": "update", "what": "sleep 0"})
    other.execute("a")
    client.make("p", "run_process")
    client.ok("execute", action="p", args={"command": STUBBORN})
    client.make("a", "odd", {"phase": "update", "what": what})
    error = client.execute("a")["error"]
    assert error["kind"] == "crashed"
    assert reason in error["message"]
    client.until(lambda: [e["reason"] for e in client.events if e["ev"] == "lost"] == [reason])
    assert client.call("setup", action="p")["error"]["kind"] == "crashed"
    until(lambda: not any("trap" in command for _, command in marked(server.marker)))
    assert other.call("setup", action="zzz")["error"]["kind"] == "unknown_action"
    # configure starts over
    client.open()
    client.make("a", "log")
    assert client.execute("a", msg="again")["status"] == "success"


def test_what_the_worker_and_its_children_print_becomes_log_events(client, server):
    client.make("a", "odd", {"phase": "execute", "what": "print"})
    client.execute("a")
    wanted = {"printed by an action", "printed by a child", "error of a child"}
    client.until(lambda: wanted <= set(client.logs().split("\n")))
    until(lambda: all(text in server.log for text in wanted))


def test_a_flood_is_bounded_and_says_so(client):
    client.make("a", "odd", {"phase": "execute", "what": "flood"})
    assert client.execute("a")["ok"]
    client.until(lambda: client.status("a") == "success")
    # 30000 of the flood and the one of terminate()
    client.until(
        lambda: sum(1 + (e.get("dropped") or 0) for e in client.events if e["ev"] == "log") >= 30001, 30
    )
    assert sum(e["ev"] == "log" for e in client.events) < 20000


def test_plugins_that_are_none(client):
    for plugin, text in (("lgo", "did you mean 'log'"), ("no_action", "BaseAction"), ("broken", "Missing")):
        reply = client.call("create", action="a", plugin=plugin, name="x", init_args={})
        assert not reply["ok"]
        assert text in reply["error"]["message"]


def test_wrong_order_is_wrong_state(client, server):
    assert client.call("setup", action="nope")["error"]["kind"] == "unknown_action"
    client.ok("create", action="a", plugin="log", name="log", init_args={})
    assert client.execute("a", msg="x")["error"]["kind"] == "wrong_state"
    other = server.v2()
    assert other.call("setup", action="a")["error"]["kind"] == "unknown_session"
    other.hello()
    assert other.call("setup", action="a")["error"]["kind"] == "wrong_state"


def test_describe_and_keep(server, client):
    client.make("a", "log", label="l", name="l")
    reply = client.ok("describe")
    plugins = {p["name"]: p for p in reply["plugins"]}
    assert plugins["log"]["package"] == "scenario_execution"
    assert plugins["run_process"]["parameters"][0]["name"] == "command"
    assert plugins["odd"]["version"] == "1.2"
    assert "Missing" in plugins["broken"]["parameters"][0]["error"]
    (session,) = reply["sessions"]
    assert session["id"] == client.session
    assert session["actions"] == [{"id": "a", "name": "l", "plugin": "log", "status": "ready"}]
    assert client.ok("keep", seconds=100)["until"] > 0
    assert 90 < client.ok("keep", seconds=10)["left"] <= 100, "it is never shortened"
    assert client.ok("keep", seconds=None)["until"] is None
    assert client.ok("keep", seconds=100)["left"] is None


def test_a_repeated_command_is_not_executed_twice(client):
    client.make("a", "odd", {"phase": "execute", "what": "sleep 0.3"})
    first = client.send("execute", action="a", args={})
    for _ in range(3):
        client.send("execute", msg_id=first, action="a", args={})
    assert client.wait(first)["ok"]
    client.send("execute", msg_id=first, action="a", args={})
    assert client.wait(first)["ok"]
    client.until(lambda: client.status("a") == "success")
    client.ok("ping", seen=0)
    assert client.logs().count("terminate") == 1


def test_a_session_survives_its_connection(server, client):
    client.make("a", "run_process")
    script = "for i in 1 2 3 4; do echo n$i; sleep 0.1; done"
    client.ok("execute", action="a", args={"command": ["sh", "-c", script]})
    client.until(lambda: "n1" in client.logs())
    client.close()
    seen = client.events[-1]["seq"]
    client.connect()
    reply = client.hello(seen=seen)
    assert reply["resumed"]
    client.until(lambda: client.status("a") == "success")
    sequence = [e["seq"] for e in client.events]
    assert sequence == list(range(1, len(sequence) + 1))
    assert client.logs().split("\n") == ["n1", "n2", "n3", "n4"]


def test_bye_ends_the_session_and_says_what_is_left(server, client):
    client.make("a", "run_process")
    client.ok(
        "execute",
        action="a",
        args={"command": STUBBORN, "shutdown_timeout": 0.3, "shutdown_signal": ("sigterm", 15)},
    )
    client.make("b", "odd", {"phase": "execute", "what": "daemon"})
    client.execute("b")
    client.until(lambda: "up" in client.logs())
    bye = client.send("bye", release=False)
    reply = client.wait(bye, 30)
    assert reply["ok"]
    assert reply["left"] == []
    assert "shut down" in client.logs()
    assert not any("trap" in command for _, command in marked(server.marker))
    client.send("bye", msg_id=bye, release=False)
    assert client.wait(bye)["left"] == []
    assert client.call("ping", seen=0)["error"]["kind"] == "unknown_session"


def test_a_shutdown_that_hangs_does_not_hold_up_the_others(server, client):
    client.make("a", "odd", {"phase": "shutdown", "what": "sleep 100"})
    client.make("b", "odd")
    reply = client.call("bye", timeout=60)
    assert reply["ok"]
    client.until(lambda: client.logs().count("shut down") == 2)


def test_the_end_comes_though_an_update_hangs(server, client):
    client.make("p", "run_process")
    client.ok(
        "execute",
        action="p",
        args={"command": STUBBORN, "shutdown_timeout": 0.3, "shutdown_signal": ("sigterm", 15)},
    )
    client.make("a", "odd", {"phase": "update2", "what": "sleep 1000"})
    client.execute("a")
    client.until(lambda: any(e["ev"] == "busy" for e in client.events))
    assert client.call("bye", timeout=60)["left"] == []
    assert client.logs().count("shut down") == 1


def test_the_end_comes_though_a_cancel_hangs(server, client):
    for action in ("a", "b"):
        client.make(action, "odd", {"phase": "cancel", "what": "sleep 1000"} if action == "a" else None)
    client.execute("a")
    client.send("cancel", action="a")
    client.until(lambda: any(e["ev"] == "busy" for e in client.events))
    assert client.call("bye", timeout=60)["left"] == []
    assert client.logs().count("shut down") == 2, "nobody waited for the one that hangs"


def test_the_end_comes_though_an_update_and_its_cancel_hang(server, client):
    client.make("a", "odd", {"phase": "update2 cancel", "what": "sleep 1000"})
    client.make("b", "odd")
    client.execute("a")
    client.until(lambda: any(e["ev"] == "busy" for e in client.events))
    assert client.call("bye", timeout=60)["left"] == []
    assert client.logs().count("shut down") == 2, "nobody waited for the one that hangs"


def test_the_lease_ends_a_session_and_its_processes(start):
    server = start("--ephemeral", "--lease", "1")
    client = server.v2().open(lease=2)
    client.make("a", "run_process")
    client.ok(
        "execute",
        action="a",
        args={"command": STUBBORN, "shutdown_timeout": 0.3, "shutdown_signal": ("sigterm", 15)},
    )
    client.make("b", "odd", {"phase": "execute", "what": "daemon"})
    client.execute("b")
    client.close()
    assert server.wait(60) == 0
    assert marked(server.marker) == []


def test_on_loss_continue_lets_actions_finish(start, tmp_path):
    server = start("--ephemeral")
    client = server.v2().open(lease=1.5, on_loss="continue")
    client.make("a", "run_process")
    client.ok("execute", action="a", args={"command": ["sh", "-c", f"sleep 3; echo done >{tmp_path}/out"]})
    client.close()
    assert server.wait(30) == 0
    assert (tmp_path / "out").read_text() == "done\n"


def test_on_loss_continue_can_be_resumed(server):
    client = server.v2().open(lease=1.5, on_loss="continue")
    client.make("a", "run_process")
    client.ok("execute", action="a", args={"command": ["sleep", "4"]})
    client.close()
    client.connect()
    threading.Event().wait(2)
    assert client.hello(seen=0)["resumed"]
    client.until(lambda: client.status("a") == "success")


def test_an_ephemeral_server_waits_for_its_first_session_and_ends_with_the_last(start):
    server = start("--ephemeral")
    holder, client = server.v2(), server.v2()
    assert holder.hello()["ok"]
    client.open()
    client.ok("bye", release=False)
    holder.ok("bye", release=True)
    assert server.wait() == 0


def test_keep_outlives_the_sessions(start):
    server = start("--ephemeral", "--lease", "2")
    client = server.v2()
    assert client.hello()["ok"]
    client.ok("keep", seconds=None)
    client.ok("bye", release=True)

    def kept():
        state = json.loads((server.run_dir / "state.json").read_text())
        return (state["ephemeral"], state["kept_until"], state["sessions"]) == (False, None, [])

    until(kept)
    assert server.v2().hello()["ok"]


@pytest.mark.parametrize("victim", ["supervisor", "front", "forkserver", "keeper", "worker"])
def test_sigkill_of_any_process_leaves_nothing(start, victim):
    server = start()
    client = server.v2().open()
    client.make("a", "run_process")
    client.ok(
        "execute",
        action="a",
        args={"command": STUBBORN, "shutdown_timeout": 0.3, "shutdown_signal": ("sigterm", 15)},
    )
    client.make("b", "odd", {"phase": "execute", "what": "daemon"})
    client.execute("b")
    os.kill(server.processes()[victim], signal.SIGKILL)
    if victim in ("keeper", "worker"):
        client.until(lambda: any(e["ev"] == "lost" for e in client.events))
        assert client.hello()["ok"]
        until(lambda: not any("trap" in command for _, command in marked(server.marker)), 30)
        assert server.stop() == 0, server.log
    else:
        code = server.wait(60)
        assert code == (-9 if victim == "supervisor" else 1)
        until(lambda: marked(server.marker) == [], 60, str(marked(server.marker)))
        assert [p.name for p in server.run_dir.iterdir()] == ["lock"]


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
def test_signals_stop_it_gracefully(start, signum):
    server = start()
    client = server.v2().open()
    client.make("a", "run_process")
    client.ok(
        "execute",
        action="a",
        args={"command": STUBBORN, "shutdown_timeout": 0.3, "shutdown_signal": ("sigterm", 15)},
    )
    os.killpg(server.process.pid, signum)
    client.until(lambda: any(e["ev"] == "lost" for e in client.events), 30)
    assert server.wait() == 0
    assert marked(server.marker) == []


def test_workers_have_default_signals_and_their_session_in_the_environment(client):
    client.make("a", "run_process")
    script = "grep SigIgn /proc/self/status; echo session $SE_REMOTE_SESSION"
    client.ok("execute", action="a", args={"command": ["sh", "-c", script]})
    client.until(lambda: f"session {client.session}" in client.logs())
    ignored = int(next(line for line in client.logs().split("\n") if "SigIgn" in line).split()[1], 16)
    assert not ignored & (1 << (signal.SIGINT - 1) | 1 << (signal.SIGQUIT - 1))


def test_a_missing_framework_is_said_at_configure(start, tmp_path):
    broken = tmp_path / "scenario_execution"
    broken.mkdir()
    (broken / "__init__.py").write_text("raise ImportError('no such framework')\n")
    server = start(plugins=tmp_path)
    client = server.v2()
    assert client.hello()["ok"]
    reply = client.call("configure", tick_period=0.1, clock="host")
    assert reply["error"]["kind"] == "internal"
    assert "no such framework" in reply["error"]["message"]
    assert sys.executable in reply["error"]["message"]
    assert "no such framework" in server.log
    assert server.stop() == 0, server.log


def test_a_second_server_goes_quietly(server):
    assert server.v2().hello()["ok"]
    assert stat.S_IMODE(server.socket.stat().st_mode) == 0o600
    second = subprocess.run(
        [sys.executable, "-m", "remote_exec.server", "--run-dir", str(server.run_dir)],
        capture_output=True,
        timeout=20,
    )
    assert (second.returncode, second.stdout, second.stderr) == (75, b"", b"")


def test_a_signal_at_any_moment_of_the_start_ends_it_in_order(start):
    for delay in (0.04, 0.06, 0.08, 0.1, 0.15):
        server = start()
        threading.Event().wait(delay)
        server.process.send_signal(signal.SIGTERM)
        # Before the first line of ours ran, python itself dies of it.
        assert server.wait() in (0, -signal.SIGTERM)
        until(lambda server=server: marked(server.marker) == [])
        assert {p.name for p in server.run_dir.iterdir()} <= {"lock"}
