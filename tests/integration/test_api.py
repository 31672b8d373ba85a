"""launcher.api at a real server whose address is given: calls, log lines, cancels, errors, the end."""

from __future__ import annotations

import asyncio
import sys
import threading
import time
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from distributions import write_distribution
from scenario_tools import ENDS_WITHIN, Server, commands_running, eventually, write_plugin

from launcher.api import Host
from launcher.blocking import BlockingHost
from launcher.errors import InventoryError, Unreachable
from remote_exec.errors import BadArguments, CallTimeout, HostLost, RemoteError


@pytest.fixture
def plugin(tmp_path):
    return write_plugin(tmp_path / "plugin")


@pytest.fixture
def server(tmp_path, plugin):
    made = Server(tmp_path, plugin)
    yield made
    made.stop()


def run(work):
    """`work(host)` on a loop, bounded."""
    return asyncio.run(asyncio.wait_for(work, ENDS_WITHIN))


def at(server, body, **options):
    """Runs `body(host)` with the server at its path."""

    async def main():
        async with Host.open(str(server.path), **options) as host:
            return await body(host)

    return run(main())


def test_a_call_gives_status_feedback_log_and_duration(server):
    async def body(host):
        assert not host.started
        return await host.call("run_process", command="echo one two")

    result = at(server, body)
    assert (result.status, result.success) == ("success", True)
    assert "echo" in result.feedback and 0 <= result.duration < ENDS_WITHIN
    (line,) = result.log
    assert (line.text, line.level, line.action) == ("one two", "info", "run_process")
    assert abs(line.time - time.time()) < ENDS_WITHIN


def test_the_last_line_of_a_short_process_is_never_missed(server):
    async def body(host):
        return [await host.call("run_process", command=f"echo {n}") for n in range(30)]

    assert [[line.text for line in result.log] for result in at(server, body)] == [
        [str(n)] for n in range(30)
    ]


def test_failures_are_results(server):
    async def body(host):
        failed = await host.call("run_process", command=["sh", "-c", "echo why >&2; exit 3"])
        raised = await host.call("demo_trouble", where="execute")
        later = await host.call("demo_trouble", where="update")
        return failed, raised, later

    failed, raised, later = at(server, body)
    assert failed.status == "failure" and "3" in failed.feedback
    assert [(line.level, line.text) for line in failed.log] == [("error", "why")]
    for result in (raised, later):
        assert result.status == "failure" and "ActionError: trouble in" in result.feedback
        assert any("Traceback" in line.text for line in result.log)


def test_arguments_go_to_constructor_and_execute_as_in_a_scenario(server):
    async def body(host):
        point = {"x": 1.0, "y": 2.0, "label": "here"}
        return await host.call("demo_show", point=point, names=["a"], colour="green", amount=2.5, flag=False)

    (line,) = at(server, body).log
    assert line.text == "show {'x': 1.0, 'y': 2.0, 'label': 'here'} ['a'] ('green', 5) 2.5 False"


def test_several_calls_at_once_have_their_own_lines(server):
    async def body(host):
        commands = [["sh", "-c", f"for i in 1 2 3; do echo {n}; sleep 0.05; done"] for n in range(8)]
        calls = [host.call("run_process", command=command) for command in commands]
        began = time.monotonic()
        results = await asyncio.gather(*calls)
        assert time.monotonic() - began < sum(result.duration for result in results), "side by side"
        return results

    for number, result in enumerate(at(server, body)):
        assert [line.text for line in result.log] == [str(number)] * 3


def test_log_lines_can_be_iterated_while_calls_run(server):
    async def main():
        seen = asyncio.Event()
        lines = []

        async def read(stream):
            async for line in stream:
                lines.append(line.text)
                seen.set()

        async with Host.open(str(server.path)) as host:
            reader = asyncio.create_task(read(host.logs()))
            call = asyncio.create_task(
                host.call("run_process", command=["sh", "-c", "echo first; sleep 600"])
            )
            await seen.wait()
            assert not call.done()
            call.cancel()
            with pytest.raises(asyncio.CancelledError):
                await call
        await reader  # ends with the context
        return lines

    lines = run(main())
    assert lines[0] == "first" and any("SIGTERM" in line for line in lines)


def test_cancelling_a_task_ends_the_action_on_the_host(server):
    async def body(host):
        call = asyncio.create_task(host.call("run_process", command="sleep 7431"))
        while not commands_running("7431"):
            await asyncio.sleep(0.02)
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        assert commands_running("7431") == [], "the cancel has waited for the end"
        return await host.call("run_process", command="true")

    assert at(server, body).success, "the host is as good as before"


def test_a_cancelled_task_ends_a_stubborn_process_too(server):
    stubborn = ["sh", "-c", "trap '' TERM; echo up; while :; do sleep 0.1; done; echo 7432"]

    async def body(host):
        call = asyncio.create_task(host.call("run_process", command=stubborn, shutdown_timeout=0.3))
        async for line in host.logs():
            if line.text == "up":
                break
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        assert commands_running("7432") == []

    at(server, body)


def test_a_call_that_takes_too_long_is_cancelled(server):
    async def body(host):
        with pytest.raises(CallTimeout, match=r"within 0\.3 s") as caught:
            await host.call("run_process", command="sleep 7433", timeout=0.3)
        assert isinstance(caught.value, TimeoutError)
        assert commands_running("7433") == []

    at(server, body)


def test_what_a_call_leaves_running_ends_with_the_context(server):
    async def body(host):
        result = await host.call("run_process", command="sleep 7434", wait_for_shutdown=False)
        assert result.success and commands_running("7434")

    at(server, body)
    assert commands_running("7434") == []


def test_calls_of_one_context_see_each_other_as_in_a_scenario(server):
    async def body(host):
        await host.call("run_process", command="echo needle", label="printer")
        return await host.call("process_log_check", process_name="printer", values=["needle"], timeout=10)

    assert at(server, body).success


def test_mistakes_are_told_before_anything_is_sent(server):
    async def body(host):
        with pytest.raises(BadArguments, match="did you mean 'command'") as wrong:
            await host.call("run_process", comand="true", shutdown_signal="sigfoo")
        assert len(wrong.value.problems) == 3
        with pytest.raises(RemoteError, match="did you mean 'run_process'") as missing:
            await host.call("run_proces", command="true")
        assert missing.value.kind == "no_plugin"
        with pytest.raises(RemoteError, match="trouble in setup") as raised:
            await host.call("demo_trouble", where="setup")
        assert raised.value.kind == "plugin_error" and "Traceback" in raised.value.traceback

    at(server, body)


def test_the_plugins_are_listed(server):
    async def body(host):
        one = await host.action("demo_show")
        return one, await host.actions()

    one, listed = at(server, body)
    assert one in listed and (one.package, one.version) == ("demo-actions", "1.0")
    assert [(p.name, p.of) for p in one.parameters][:2] == [("point", "__init__"), ("names", "execute")]


def test_a_worker_that_dies_fails_the_calls_with_the_reason(server):
    async def body(host):
        other = asyncio.create_task(host.call("run_process", command="sleep 7435"))
        with pytest.raises(HostLost):
            await host.call("demo_trouble", where="die in update")
        with pytest.raises(HostLost):
            await other
        with pytest.raises(HostLost):
            await host.call("log", msg="too late")

    at(server, body)
    eventually(lambda: not commands_running("7435"), "the process of the dead worker")


def test_a_server_that_dies_fails_the_calls(server):
    async def body(host):
        call = asyncio.create_task(host.call("run_process", command="sleep 7436"))
        while not commands_running("7436"):
            await asyncio.sleep(0.02)
        await asyncio.to_thread(server.stop)
        with pytest.raises((HostLost, RemoteError)):
            await call

    at(server, body)


def test_the_callers_loop_turns_while_the_host_is_busy(server, monkeypatch):
    monkeypatch.setattr("remote_exec.client.calls.CANCEL_S", 1.0)

    async def main():
        turns = 0

        async def watch():
            nonlocal turns
            while True:
                await asyncio.sleep(0.01)
                turns += 1

        watcher = asyncio.create_task(watch())
        async with Host.open(str(server.path)) as host:
            with pytest.raises(CallTimeout):
                await host.call("demo_trouble", where="block in update", timeout=1)
        watcher.cancel()
        return turns

    assert run(main()) > 20


def test_a_server_of_the_older_protocol(tmp_path, plugin):
    old = Server(tmp_path, plugin, kind="v1")
    try:

        async def body(host):
            good = await host.call("run_process", command="true")
            bad = await host.call("run_process", command="false")
            with pytest.raises(RemoteError, match="older protocol"):
                await host.actions()
            with pytest.raises(BadArguments):
                await host.call("run_process", comand="true")
            return good, bad

        good, bad = at(old, body)
        assert good.success and bad.status == "failure"
    finally:
        old.stop()


def test_nobody_there_and_no_such_name(tmp_path, monkeypatch):
    monkeypatch.setattr("launcher.servers.HELLO_S", 0.3)
    environ = {"HOME": str(tmp_path)}

    async def enter(name):
        async with Host.open(name, environ=environ):
            raise AssertionError("nobody is there")

    with pytest.raises(Unreachable, match="no answer") as caught:
        run(enter(str(tmp_path / "nobody")))
    assert caught.value.exit_code == 3
    with pytest.raises(InventoryError):
        run(enter("nobody"))


def test_a_host_outside_its_context(server):
    async def main():
        host = Host.open(str(server.path))
        with pytest.raises(RuntimeError, match="async with"):
            await host.call("log", msg="x")
        async with host:
            pass
        with pytest.raises(RuntimeError, match="async with"):
            await host.call("log", msg="x")
        with pytest.raises(RuntimeError, match="once"):
            async with host:
                pass
        assert [line async for line in host.logs()] == []

    run(main())


def test_an_exception_in_the_block_ends_everything_and_passes(server):
    async def body(host):
        await host.call("run_process", command="sleep 7437", wait_for_shutdown=False)
        raise ValueError("of the test")

    with pytest.raises(ValueError, match="of the test"):
        at(server, body)
    assert commands_running("7437") == []


SUBTREE = """
from scenario_execution.actions.base_action_subtree import BaseActionSubtree
from scenario_execution.actions.run_process import RunProcess

class Twice(BaseActionSubtree):
    def __init__(self, word, times=2):
        super().__init__()
        self.word, self.times = word, times
    def create_subtree(self):
        for number in range(self.times):
            child = RunProcess()
            child._set_base_properities(f"inside {number}", self._model, self.logger)
            self.add_child(child)
    def get_execution_args(self, child):
        args = self._model.get_resolved_value(child.get_blackboard_client())
        return {"command": f"echo {self.word} {args['word']}"}
"""


def test_an_action_that_is_a_subtree(tmp_path):
    points = {"scenario_execution.actions": {"twice": "Twice"}}
    plugin = write_distribution(tmp_path / "subtree", "subtrees", SUBTREE, points)
    server = Server(tmp_path, plugin)

    async def body(host):
        assert [p.text for p in (await host.action("twice")).parameters] == ["word", "times = 2"]
        return await host.call("twice", word="x", timeout=20)

    try:
        result = at(server, body)
    finally:
        server.stop()
    assert result.success and [line.text for line in result.log] == ["x x", "x x"]


def test_a_listener_that_raises_disturbs_nobody(server):
    async def body(host):
        troubles = []
        asyncio.get_running_loop().set_exception_handler(lambda loop, context: troubles.append(context))

        def broken(line):
            raise OSError("no more room")

        host.on_line(broken)
        result = await host.call("run_process", command="echo one", timeout=20)
        return result, troubles

    result, troubles = at(server, body)
    assert result.success and isinstance(troubles[0]["exception"], OSError)


def test_no_thread_is_left(server):
    before = set(threading.enumerate())

    async def body(host):
        await host.call("log", msg="x")

    at(server, body)
    eventually(
        lambda: not [t for t in threading.enumerate() if t not in before and "se-remote" in t.name], "threads"
    )


def test_the_blocking_form(server):
    lines = []
    with BlockingHost.open(str(server.path), on_line=lambda line: lines.append(line.text)) as host:
        assert host.call("run_process", command="echo blocked").success
        assert [line.text for line in host.log] == lines == ["blocked"]
        assert "log" in [action.name for action in host.actions()]
        with pytest.raises(CallTimeout):
            host.call("run_process", command="sleep 7438", timeout=0.2)
        results = []

        def call(number):
            results.append(host.call("log", msg=str(number)).success)

        threads = [threading.Thread(target=call, args=(number,)) for number in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(ENDS_WITHIN)
        assert results == [True] * 4
    host.close()
    with pytest.raises(RuntimeError, match="closed"):
        host.call("log", msg="x")
    assert commands_running("7438") == []
