"""The session core: exactly once, in order, bounded; checked by a simulated client on bad connections."""

from __future__ import annotations

from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from remote_exec.host.liveness import Lease
from remote_exec.host.session import (
    MAX_REPLIES,
    EndWorker,
    Phase,
    Session,
    StartWorker,
    ToWorker,
    WorkerState,
)
from remote_exec.messages import COMMANDS, check_fields

SERVER = {"server": {}, "session": "s", "resumed": False, "lease": 10.0}
CONFIGURE = {
    "scenario_file_directory": None,
    "input_dir": None,
    "output_dir": None,
    "tick_period": 0.1,
    "clock": "host",
    "debug": None,
}


def make(on_loss: str = "stop", lease: float = 10.0) -> Session:
    return Session("s", {"user": "u"}, Lease(lease, 0.0), on_loss, 1000.0)


def hello(
    session: Session, msg_id: int = 0, seen: int | None = None, now: float = 0.0, route: bytes = b"r"
) -> None:
    fields = check_fields({"client": {"user": "u"}, "seen": seen}, COMMANDS["hello"])
    session.hello(route, msg_id, fields, SERVER, now)


def drain(session: Session) -> list[dict[str, Any]]:
    out = []
    while (message := session.next_out()) is not None:
        out.append(message)
        session.out_sent()
    return out


def started(on_loss: str = "stop") -> Session:
    session = make(on_loss)
    hello(session)
    effects = session.command(b"r", 1, "configure", CONFIGURE, 0.0)
    assert effects == [StartWorker(), ToWorker({"id": 1, "cmd": "configure", **CONFIGURE})]
    session.worker_reply({"re": 1, "ok": True})
    drain(session)
    return session


def execute(session: Session, msg_id: int, route: bytes = b"r", now: float = 0.0) -> list[Any]:
    fields = {"action": "a", "args": {}, "actor": None, "vars": None}
    return session.command(route, msg_id, "execute", fields, now)


def test_a_repeated_command_is_forwarded_once_and_answered_from_memory() -> None:
    session = started()
    assert len(execute(session, 2)) == 1
    hello(session, 3, seen=0, route=b"other")
    drain(session)
    assert execute(session, 2, b"other") == []
    session.worker_reply({"re": 2, "ok": True, "status": "running", "feedback": ""})
    assert session.route == b"other"
    assert [m["re"] for m in drain(session)] == [2]
    assert execute(session, 2) == []
    assert [m["status"] for m in drain(session)] == ["running"]


def test_what_comes_late_over_an_older_connection_draws_nothing_there() -> None:
    """A half-open connection's data may arrive after the client has come back over another one."""
    session = started()
    hello(session, 9, seen=0, route=b"new")
    drain(session)
    session.command(b"r", 2, "ping", {"seen": 0}, 0.0)
    assert session.route == b"new"
    hello(session, 5, seen=0, route=b"r")
    assert session.route == b"new"
    assert [m["re"] for m in drain(session)] == [2]


def test_after_a_connection_that_is_known_to_be_dead_the_next_message_names_one() -> None:
    session = started()
    session.route = None
    session.command(b"other", 2, "ping", {"seen": 0}, 0.0)
    assert session.route == b"other"


def test_who_comes_back_is_told_how_much_of_the_log_is_missing() -> None:
    session = started()
    for number in range(6000):
        session.worker_event({"ev": "log", "level": "info", "name": "n", "text": str(number), "time": 0.0})
    hello(session, 3, seen=0)
    answer = drain(session)[0]
    assert answer["re"] == 3 and answer["dropped"] > 900


def test_the_end_by_the_lease_is_told_in_words() -> None:
    session = started()
    session.check_lease(1000.0)
    session.ended([])
    (event,) = [m for m in drain(session) if "ev" in m]
    assert event["reason"] == "the session was ended at the host after 10 s of silence" and event["ended"]


def test_a_forgotten_answer_is_an_error_not_a_second_execution() -> None:
    session = started()
    for msg_id in range(2, MAX_REPLIES + 10):
        execute(session, msg_id)
        session.worker_reply({"re": msg_id, "ok": True, "status": "success", "feedback": ""})
    drain(session)
    assert execute(session, 2) == []
    (reply,) = drain(session)
    assert not reply["ok"]


def test_a_crash_answers_everything_in_flight() -> None:
    session = started()
    execute(session, 2)
    execute(session, 3)
    session.worker_lost("signal SIGSEGV")
    out = drain(session)
    assert [m["error"]["kind"] for m in out if "re" in m] == ["crashed", "crashed"]
    assert [m["reason"] for m in out if "ev" in m] == ["signal SIGSEGV"]
    assert execute(session, 4) == []
    assert drain(session)[0]["error"]["kind"] == "crashed"
    assert isinstance(session.command(b"r", 5, "configure", CONFIGURE, 0.0)[0], StartWorker)


def test_events_come_before_the_answer_that_followed_them() -> None:
    session = started()
    execute(session, 2)
    session.worker_event({"ev": "set", "vars": {}})
    session.worker_reply({"re": 2, "ok": True, "status": "success", "feedback": ""})
    session.worker_event({"ev": "log", "text": "x"})
    assert [m.get("ev") or m["re"] for m in drain(session)] == ["set", 2, "log"]


def test_after_a_reconnect_nothing_is_missed() -> None:
    session = started()
    for number in range(5):
        session.worker_event({"ev": "log", "text": str(number)})
    assert [m["seq"] for m in drain(session)] == [1, 2, 3, 4, 5]
    hello(session, 7, seen=3)
    out = drain(session)
    assert out[0]["re"] == 7
    assert [m["seq"] for m in out[1:]] == [4, 5]


def test_the_lease() -> None:
    session = started()
    session.command(b"r", 9, "ping", {"seen": 0}, 8.0)
    assert session.next_deadline() == 18.0
    assert session.check_lease(17.9) == []
    assert isinstance(session.check_lease(18.0)[0], EndWorker)
    assert session.phase is Phase.ENDING
    session.ended([])
    assert session.phase is Phase.ENDED
    idle = make()
    assert idle.check_lease(10.0) == []
    assert idle.phase is Phase.ENDED


def test_on_loss_continue_finishes_and_can_come_back() -> None:
    session = started("continue")
    assert session.check_lease(10.0) == [ToWorker({"cmd": "finish", "on": True})]
    assert session.phase is Phase.FINISHING
    assert session.command(b"r", 3, "ping", {"seen": 0}, 11.0) == [ToWorker({"cmd": "finish", "on": False})]
    assert session.phase is Phase.OPEN


def test_bye_is_answered_after_the_end_and_again() -> None:
    session = started()
    execute(session, 2)
    assert isinstance(session.command(b"r", 3, "bye", {"release": True}, 0.0)[0], EndWorker)
    assert session.command(b"r", 3, "bye", {"release": True}, 0.0) == []
    execute(session, 4)
    assert [m["error"]["kind"] for m in drain(session)] == ["stopping"]
    session.ended(["pid 7 (x)"])
    replies = {m["re"]: m for m in drain(session)}
    assert replies[3]["left"] == ["pid 7 (x)"]
    assert replies[2]["error"]["kind"] == "stopping"
    assert list(session.bye_replies()) == [3]


def test_actions_states_are_kept_for_others_to_see() -> None:
    session = started()
    session.command(b"r", 2, "create", {"action": "a", "name": "n", "plugin": "p"}, 0.0)
    session.worker_reply({"re": 2, "ok": True})
    execute(session, 3)
    session.worker_reply({"re": 3, "ok": True, "status": "running", "feedback": ""})
    assert session.actions["a"].as_map() == {"id": "a", "name": "n", "plugin": "p", "status": "running"}
    session.worker_event({"ev": "status", "action": "a", "status": "success", "feedback": ""})
    assert session.actions["a"].status == "success"
    session.command(b"r", 4, "shutdown", {"action": "a"}, 0.0)
    session.worker_reply({"re": 4, "ok": True})
    assert session.actions == {}


class BadConnection(RuleBasedStateMachine):
    """A client that loses its connection at any point, and repeats what it has no answer to."""

    def __init__(self) -> None:
        super().__init__()
        self.session = started()
        self.next_id = 2
        self.waiting: set[int] = set()
        self.answered: dict[int, int] = {}
        self.at_worker: list[int] = []
        self.executed: list[int] = []
        self.emitted = 0
        self.received: list[int] = []
        self.seen = 0
        self.connected = True

    def _forward(self, effects: list[Any]) -> None:
        for effect in effects:
            assert isinstance(effect, ToWorker)
            self.at_worker.append(effect.message["id"])

    @rule(lost=st.booleans())
    def command(self, lost: bool) -> None:
        self.next_id += 1
        self.waiting.add(self.next_id)
        if self.connected and not lost:
            self._forward(execute(self.session, self.next_id))

    @precondition(lambda self: self.at_worker)
    @rule()
    def work(self) -> None:
        msg_id = self.at_worker.pop(0)
        assert msg_id not in self.executed
        self.executed.append(msg_id)
        self.session.worker_reply({"re": msg_id, "ok": True, "status": "success", "feedback": str(msg_id)})

    @rule()
    def emit(self) -> None:
        self.emitted += 1
        self.session.worker_event({"ev": "status", "action": "a", "status": "running", "feedback": ""})

    @rule(count=st.integers(1, 5), arrives=st.booleans())
    def deliver(self, count: int, arrives: bool) -> None:
        for _ in range(count):
            message = self.session.next_out()
            if message is None or not self.connected:
                return
            self.session.out_sent()
            if not arrives:
                # What is lost is lost to the end of the connection.
                self.connected = False
                return
            self._take(message)

    def _take(self, message: dict[str, Any]) -> None:
        if "ev" in message:
            assert message["seq"] == self.seen + 1
            self.seen = message["seq"]
        elif message["re"] in self.waiting:
            assert message.get("feedback", str(message["re"])) == str(message["re"])
            self.waiting.discard(message["re"])
            self.answered[message["re"]] = 1

    @rule()
    def cut(self) -> None:
        self.connected = False

    @rule()
    def reconnect(self) -> None:
        self.connected = True
        hello(self.session, 0, seen=self.seen)
        for msg_id in sorted(self.waiting):
            self._forward(execute(self.session, msg_id))

    @invariant()
    def nothing_is_executed_twice(self) -> None:
        assert len(self.executed) == len(set(self.executed))

    def teardown(self) -> None:
        self.reconnect()
        while self.at_worker:
            self.work()
        for message in drain(self.session):
            self._take(message)
        assert not self.waiting
        assert self.seen == self.emitted


BadConnection.TestCase.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)
TestBadConnection = BadConnection.TestCase


def test_worker_state_is_known() -> None:
    session = started()
    assert session.worker is WorkerState.ALIVE
    session.worker_lost("exit code 0")
    assert session.worker is WorkerState.LOST


def test_of_ticks_only_the_last_answer_is_remembered_and_none_is_executed_twice() -> None:
    session = started()
    for msg_id in range(2, 2000):
        assert len(session.command(b"r", msg_id, "tick", {"t": 0.1}, 0.0)) == 1
        session.worker_reply({"re": msg_id, "ok": True, "statuses": {"a": ["running", ""]}})
    drain(session)
    assert session.command(b"r", 1999, "tick", {"t": 0.1}, 0.0) == []
    assert session.command(b"r", 1998, "tick", {"t": 0.1}, 0.0) == []
    assert [m["ok"] for m in drain(session)] == [True, False]
    assert len(session._replies) < 10
