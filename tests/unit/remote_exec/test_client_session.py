"""The client's protocol core: correlation, repeats, order of events, liveness."""

from __future__ import annotations

import pytest

from remote_exec.client.outage import Outage
from remote_exec.client.session import ClientSession, Due, Event, Liveness, Reply, remote_error
from remote_exec.codec import unpack
from remote_exec.errors import BadMessage, ValueDoesNotCross

CLIENT = {"what": "test"}


def opened() -> ClientSession:
    session = ClientSession("s1")
    hello = session.prepare("hello", {"client": CLIENT, "seen": None})
    session.sent(hello, 0.0)
    session.receive({"re": hello.id, "ok": True, "lease": 10}, 0.1)
    return session


def status(seq: int, name: str = "running") -> dict:
    return {"ev": "status", "seq": seq, "action": "a", "status": name, "feedback": "", "run": 3}


def test_a_command_has_version_session_and_a_rising_id():
    session = ClientSession("s1")
    first, second = (unpack(session.prepare("setup", {"action": "a"}).frame) for _ in range(2))
    assert first == {"v": 2, "id": 1, "session": "s1", "cmd": "setup", "action": "a"}
    assert second["id"] == 2


def test_a_reply_is_matched_with_its_command_and_told_without_its_envelope():
    session = opened()
    command = session.prepare("execute", {"action": "a", "args": {}})
    session.sent(command, 5.0)
    message = {"v": 2, "re": command.id, "session": "s1", "ok": True, "status": "running", "feedback": "x"}
    (reply,) = session.receive(message, 5.5).items
    assert reply == Reply(command.id, "execute", {"status": "running", "feedback": "x"}, None, 0.5)


def test_a_refusal_becomes_an_error_with_kind_place_and_traceback():
    session = opened()
    command = session.prepare("setup", {"action": "a"})
    session.sent(command, 0)
    error = {"kind": "plugin_error", "message": "no", "where": "t.osc:3:4", "traceback": "Traceback …"}
    (reply,) = session.receive({"re": command.id, "ok": False, "error": error}, 0).items
    assert isinstance(reply, Reply) and reply.error is not None
    assert (reply.error.kind, str(reply.error), reply.error.where) == ("plugin_error", "no", "t.osc:3:4")
    assert reply.error.traceback == "Traceback …"


@pytest.mark.parametrize("value", [None, 3, "x", {}, {"kind": 1, "message": []}])
def test_whatever_comes_as_an_error_is_an_error(value):
    assert remote_error(value).kind


def test_a_reply_that_nobody_waits_for_is_dropped():
    assert opened().receive({"re": 99, "ok": True}, 0).items == []


def test_each_event_is_told_once_and_a_gap_is_no_trouble():
    session = opened()
    seqs = [1, 2, 2, 1, 5, 4, 6]
    told = [bool(session.receive(status(seq), 0).items) for seq in seqs]
    assert told == [True, True, False, False, True, False, True]
    assert session.seen == 6


def test_an_event_of_a_newer_server_is_counted_and_not_told():
    session = opened()
    assert session.receive({"ev": "weather", "seq": 1}, 0).items == []
    assert session.seen == 1


@pytest.mark.parametrize("message", [{}, {"ev": "status"}, {"ev": "status", "seq": "1"}, {"re": "x"}])
def test_nonsense_is_a_bad_message(message):
    with pytest.raises(BadMessage):
        opened().receive(message, 0)


def test_a_wrong_field_of_an_event_is_named():
    with pytest.raises(BadMessage, match=r"status\.status"):
        opened().receive({"ev": "status", "seq": 1, "action": "a", "status": 3, "feedback": ""}, 0)


def test_after_a_reconnect_the_session_is_resumed_and_what_is_unanswered_repeated_in_order():
    session = opened()
    session.receive(status(1), 0)
    commands = [session.prepare("setup", {"action": name}) for name in "abc"]
    for command in commands:
        session.sent(command, 1.0)
    session.receive({"re": commands[1].id, "ok": True}, 1.1)
    hello, *repeated = [unpack(frame) for frame in session.resume(CLIENT, 2.0)]
    assert (hello["cmd"], hello["seen"], hello["session"]) == ("hello", 1, "s1")
    assert [m["id"] for m in repeated] == [commands[0].id, commands[2].id]


def test_the_reply_to_a_repeated_command_tells_no_round_trip():
    session = opened()
    command = session.prepare("setup", {"action": "a"})
    session.sent(command, 1.0)
    session.resume(CLIENT, 2.0)
    (reply,) = session.receive({"re": command.id, "ok": True}, 3.0).items
    assert reply.round_trip is None


def test_a_session_that_was_never_opened_repeats_its_first_hello():
    session = ClientSession("s1")
    hello = session.prepare("hello", {"client": CLIENT, "seen": None})
    session.sent(hello, 0.0)
    (again,) = [unpack(frame) for frame in session.resume(CLIENT, 1.0)]
    assert again == {**unpack(hello.frame), "id": hello.id + 1}
    (reply,) = session.receive({"re": again["id"], "ok": True, "lease": 4}, 1.5).items
    assert isinstance(reply, Reply) and reply.cmd == "hello" and session.opened


def test_pings_are_not_repeated_and_the_resuming_hello_is_not_told():
    session = opened()
    session.ping(1.0)
    (hello,) = [unpack(frame) for frame in session.resume(CLIENT, 2.0)]
    received = session.receive({"re": hello["id"], "ok": True, "dropped": 3}, 2.5)
    assert received.resumed and received.dropped == 3
    assert received.items == [] and received.round_trip == 0.5
    assert session.unanswered == 0


def test_an_unknown_session_is_gone():
    session = opened()
    (hello,) = [unpack(frame) for frame in session.resume(CLIENT, 2.0)]
    error = {"kind": "unknown_session", "message": "no such session"}
    assert session.receive({"re": hello["id"], "ok": False, "error": error}, 2.0).gone == "no such session"


def test_a_session_that_has_ended_by_its_bye_is_not_gone_before_that_is_answered():
    session = opened()
    cancel = session.prepare("cancel", {"action": "a"})
    bye = session.prepare("bye", {"release": False})
    for command in (cancel, bye):
        session.sent(command, 1.0)
    hello, *_ = (unpack(frame) for frame in session.resume(CLIENT, 2.0))
    error = {"kind": "unknown_session", "message": "no such session"}
    for number in (hello["id"], cancel.id):
        assert not session.receive({"re": number, "ok": False, "error": error}, 2.0).gone
    (reply,) = session.receive({"re": bye.id, "ok": True, "left": []}, 2.0).items
    assert isinstance(reply, Reply) and reply.error is None


def test_a_value_that_cannot_cross_is_refused_with_its_place():
    with pytest.raises(ValueDoesNotCross, match=r"args\.thing"):
        opened().prepare("execute", {"args": {"thing": object()}})


def test_events_carry_their_checked_fields():
    (event,) = opened().receive(status(1, "success"), 0).items
    assert isinstance(event, Event) and event.fields["status"] == "success" and event.fields["run"] == 3


def ask(live: Liveness, until: float, step: float = 0.05) -> list[Due]:
    """What is due in the time until then, for who looks often; answers to nothing."""
    now, found = live._asked_at, []
    while now < until - step / 2:
        now += step
        due = live.due(now)
        if due is not Due.NOTHING:
            found.append(due)
        if due is Due.PING:
            live.pinged(now)
        if due is Due.DOUBT:
            live.doubted(now)
    return found


class TestLiveness:
    def test_a_ping_is_due_every_quarter_of_the_lease_heard_or_not(self):
        live = Liveness(2.0, 2.0, now=0.0)
        live.heard(0.4)
        assert [live.due(t) for t in (0.4, 0.5)] == [Due.NOTHING, Due.PING]
        live.pinged(0.5)
        assert live.due(0.6) is Due.NOTHING and live.next_due() == 1.0

    def test_a_long_lease_is_pinged_each_second(self):
        assert Liveness(300.0, 300.0, now=0.0).period == 1.0

    def test_silence_first_asks_for_a_fresh_connection_then_gives_up(self):
        live = Liveness(4.0, 4.0, now=0.0)
        found = ask(live, 3.9)
        assert found.count(Due.DOUBT) == 1 and Due.LOST not in found
        assert Due.LOST in ask(live, 4.1)

    def test_patience_may_be_shorter_than_the_lease(self):
        live = Liveness(10.0, 2.0, now=0.0)
        assert live.due(0.5) is Due.PING
        assert ask(live, 2.1)[-1] is Due.LOST

    def test_who_did_not_run_asks_before_it_gives_up(self):
        """SIGSTOP, a laptop that slept: the answer may be on its way."""
        live = Liveness(4.0, 4.0, now=0.0)
        assert live.due(60.0) is Due.PING
        live.pinged(60.0)
        live.heard(60.1)
        assert Due.DOUBT not in ask(live, 61.9) and live.next_due() < 63

    def test_who_did_not_run_and_hears_nothing_doubts_after_a_period_and_gives_up_after_four_seconds(self):
        live = Liveness(4.0, 4.0, now=0.0)
        live.due(60.0)
        live.pinged(60.0)
        assert Due.DOUBT not in ask(live, 60.9) and Due.DOUBT in ask(live, 61.1)
        assert Due.LOST not in ask(live, 63.9) and Due.LOST in ask(live, 64.1)

    @pytest.mark.parametrize("lease", [0.1, 1.0, 10.0, 30.0])
    def test_whoever_asks_at_next_due_is_told_to_do_something(self, lease):
        live = Liveness(lease, lease, now=0.0)
        for _ in range(100):
            now = live.next_due()
            due = live.due(now)
            assert due is not Due.NOTHING
            if due is Due.LOST:
                return
            live.doubted(now) if due is Due.DOUBT else live.pinged(now)
        raise AssertionError("never lost")


class TestOutage:
    def test_a_short_one_is_not_told(self):
        outage = Outage()
        outage.begins(10.0, "cut")
        assert outage.warning(11.9, 10) is None
        assert outage.over(11.9, 0) is None and outage.warning(15, 10) is None

    def test_a_longer_one_is_told_once_with_the_best_reason(self):
        outage = Outage()
        outage.begins(10.0, "nothing heard for 1.0 s")
        outage.begins(11.5, "Connection reset by peer")
        assert outage.due() == 12.0
        text = outage.warning(12.0, 10)
        assert text == (
            "connection lost (Connection reset by peer): the actions there go on; trying for up to 10 s"
        )
        assert outage.warning(13.0, 10) is None and outage.due() == float("inf")
        assert outage.over(13.25, 0) == "resumed after 3.2 s, nothing was lost"
        outage.begins(20.0, "again")
        assert outage.warning(22.0, 10)

    def test_what_was_dropped_is_told_also_after_a_short_one(self):
        outage = Outage()
        outage.begins(10.0, "cut")
        assert "has dropped 7 log lines" in (outage.over(11.0, 7) or "")
