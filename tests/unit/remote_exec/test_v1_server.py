"""The v1 core: who is answered when, without sockets or a worker."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from remote_exec.codec import pack_v1
from remote_exec.errors import BadMessage
from remote_exec.host.v1_server import SOON, Forward, Quit, Reply, Start, V1Server

OK = {"status": "ok"}


def ask(server: V1Server, cmd: str, now: float = 0.0, **payload: Any) -> list[Any]:
    return server.message(b"r", pack_v1({"cmd": cmd, "payload": payload}), now)


def forwarded(effects: list[Any]) -> Any:
    (forward,) = [e for e in effects if isinstance(e, Forward) and e.message["cmd"] != "configure"]
    return forward.message


def with_action() -> V1Server:
    server = V1Server()
    effects = ask(server, "init", action_id="a", plugin_key="log")
    assert isinstance(effects[0], Start)
    server.worker_said({"re": 1, "ok": True})
    assert server.worker_said({"re": 2, "ok": True}) == [Reply(b"r", OK)]
    return server


def test_what_is_answered_at_once() -> None:
    server = with_action()
    assert ask(server, "heartbeat") == [Reply(b"r", OK)]
    assert ask(server, "hello") == [Reply(b"r", {"status": "ok", "wire": 2})]
    assert ask(server, "update", action_id="a") == [Reply(b"r", {"status": "ok", "action_status": "invalid"})]
    assert ask(server, "quit") == [Reply(b"r", OK), Quit()]
    assert ask(server, "reset", action_id="unknown") == [Reply(b"r", OK)]


def test_execute_is_answered_by_the_worker_or_soon() -> None:
    server = with_action()
    run = forwarded(ask(server, "execute", action_id="a", exec_args={"msg": "x"}, now=1.0))
    assert run["args"] == {"msg": "x"}
    assert server.next_deadline() == 1.0 + SOON
    assert server.check(1.0 + SOON) == [Reply(b"r", OK)]
    assert server.check(9.0) == []
    assert server.worker_said({"re": run["id"], "ok": False, "error": {"message": "odd"}}) == []
    assert ask(server, "update", action_id="a")[0].body["action_status"] == "failure"


def test_a_status_of_an_earlier_execution_does_not_count() -> None:
    server = with_action()
    first = forwarded(ask(server, "execute", action_id="a"))["id"]
    server.worker_said({"re": first, "ok": True, "status": "running"})
    ask(server, "terminate", action_id="a", new_status="nonsense")
    second = forwarded(ask(server, "execute", action_id="a"))["id"]
    server.worker_said({"ev": "status", "action": "a", "status": "success", "run": first})
    assert ask(server, "update", action_id="a")[0].body["action_status"] == "running"
    server.worker_said({"ev": "status", "action": "a", "status": "success", "run": second})
    assert ask(server, "update", action_id="a")[0].body["action_status"] == "success"
    assert ask(server, "terminate", action_id="a", new_status="SUCCESS") == [Reply(b"r", OK)]


def test_a_known_id_is_replaced() -> None:
    server = with_action()
    commands = [e.message["cmd"] for e in ask(server, "init", action_id="a", plugin_key="log")]
    assert commands == ["shutdown", "create"]


def test_a_lost_worker_fails_everything_and_init_starts_another() -> None:
    server = with_action()
    ask(server, "setup", action_id="a")
    (reply,) = server.worker_lost("exit code 3")
    assert isinstance(reply, Reply)
    assert "exit code 3" in reply.body["message"]
    assert ask(server, "update", action_id="a")[0].body["action_status"] == "failure"
    assert isinstance(ask(server, "init", action_id="b", plugin_key="log")[0], Start)


def test_what_a_lost_worker_ran_is_known_until_it_is_reset() -> None:
    server = with_action()
    server.worker_lost("exit code 3")
    for cmd in ("setup", "execute"):
        (reply,) = ask(server, cmd, action_id="a")
        assert "exit code 3" in reply.body["message"]
    assert ask(server, "terminate", action_id="a") == [Reply(b"r", OK)]
    assert server.next_deadline() is None
    assert ask(server, "reset") == [Reply(b"r", OK)]
    assert "unknown action_id" in ask(server, "update", action_id="a")[0].body["message"]


@given(
    st.dictionaries(
        st.sampled_from(["cmd", "payload"]),
        st.sampled_from(["init", "setup", "update", "reset", "terminate", "execute"])
        | st.none()
        | st.just(7)
        | st.dictionaries(
            st.sampled_from(
                ["action_id", "plugin_key", "init_args", "new_status", "exec_args", "tick_period"]
            ),
            st.none() | st.just(7) | st.text(max_size=3) | st.just({}) | st.booleans(),
        ),
    )
)
@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_any_map_is_answered_or_a_bad_message(message: dict[str, Any]) -> None:
    server = with_action()
    try:
        assert server.message(b"r", pack_v1(message), 0.0)
    except BadMessage:
        pass


def test_fields_are_named() -> None:
    server = V1Server()
    with pytest.raises(BadMessage, match=r"payload\.plugin_key"):
        ask(server, "init", action_id="a")
    with pytest.raises(BadMessage, match="unknown command 'fly'"):
        ask(server, "fly")
