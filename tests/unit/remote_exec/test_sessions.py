"""Whatever map arrives, it is answered or dropped, and what the server keeps of it is bounded."""

from __future__ import annotations

from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from remote_exec.codec import pack, unpack
from remote_exec.host.liveness import LifeRules, ServerLife
from remote_exec.host.sessions import DELIVER_SECONDS, MAX_DIRECT, Sessions
from remote_exec.messages import COMMANDS, WIRE_VERSION


class Link:
    """A worker that answers nothing."""

    congested = False
    exited = None
    left = None

    def send(self, message: Mapping[str, Any]) -> None:
        pack(message)

    def end(self) -> None:
        pass


def make(link: Any = None) -> Sessions:
    console: Any = SimpleNamespace(**dict.fromkeys(("info", "debug", "error", "complain"), lambda *_: None))
    life = ServerLife(LifeRules(), 0.0)
    link = link or Link()
    return Sessions(life, {"wire": 2}, 10.0, lambda _: link, lambda answer: answer([], ""), console)


SCALARS = (
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63)
    | st.floats()
    | st.sampled_from(["", "a", "s", "host", "sim", "stop", "x" * 200])
    | st.binary(max_size=3)
)
ANYTHING = (
    SCALARS | st.lists(SCALARS, max_size=2) | st.dictionaries(st.sampled_from("ab"), SCALARS, max_size=2)
)
FIELDS = sorted({field for fields in COMMANDS.values() for field in fields})
LIKELY = {
    "client": st.just({}),
    "action": st.sampled_from(["a", "b"]),
    "plugin": st.just("log"),
    "name": st.just("n"),
    "init_args": st.just({}),
    "args": st.just({}),
    "vars": st.just({}),
    "clock": st.sampled_from(["host", "sim"]),
    "tick_period": st.just(0.1),
    "t": st.just(1.0),
}


@st.composite
def messages(draw: st.DrawFn) -> dict[str, Any]:
    """Mostly right, so that it gets far."""
    message = {
        "v": WIRE_VERSION,
        "id": draw(st.integers(0, 6)),
        "session": draw(st.sampled_from(["s", "s", "other", None])),
        "cmd": draw(st.sampled_from(sorted(COMMANDS))),
        **{name: draw(value) for name, value in LIKELY.items()},
    }
    if draw(st.booleans()):
        name = draw(st.sampled_from([*FIELDS, "v", "id", "session", "cmd"]))
        message[name] = draw(ANYTHING)
    return message


@given(st.lists(messages(), max_size=25))
@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_any_order_of_any_commands_is_survived(arriving: list[dict[str, Any]]) -> None:
    sessions = make()
    for number, message in enumerate(arriving):
        sessions.message(b"route", pack(message), float(number))
        sessions.check(float(number))
        for session in sessions.sessions.values():
            while (out := session.next_out()) is not None:
                assert unpack(pack(out))["v"] == WIRE_VERSION
                session.out_sent()
        sessions.forget_ended(float(number))
    assert all(len(waiting) <= MAX_DIRECT for waiting in sessions.direct.values())
    pack({"described": sessions.described()})
    sessions.stop("the test is over")


@given(st.binary(max_size=60))
def test_any_bytes_are_survived(body: bytes) -> None:
    sessions = make()
    sessions.message(b"route", body, 0.0)
    assert sum(map(len, sessions.direct.values())) == 1


def test_who_asks_without_a_session_and_never_reads_is_bounded() -> None:
    sessions = make()
    for number in range(3 * MAX_DIRECT):
        message = {"v": WIRE_VERSION, "id": number, "session": None, "cmd": "hello", "client": {}}
        sessions.message(b"route", pack(message), 0.0)
    assert len(sessions.direct[b"route"]) == MAX_DIRECT


def say(sessions: Sessions, number: int, cmd: str, session: str = "s", **fields: Any) -> None:
    message = {"v": WIRE_VERSION, "id": number, "session": session, "cmd": cmd, **fields}
    sessions.message(b"route", pack(message), 0.0)


def configured(link: Any) -> Sessions:
    sessions = make(link)
    say(sessions, 1, "hello", client={})
    say(sessions, 2, "configure", tick_period=0.1, clock="host")
    return sessions


def out(sessions: Sessions) -> list[dict[str, Any]]:
    found = []
    session = sessions.sessions["s"]
    while (message := session.next_out()) is not None:
        found.append(message)
        session.out_sent()
    return found


def test_a_worker_that_could_not_be_launched_fails_its_session_and_holds_up_no_end() -> None:
    link: Any = Link()
    link.exited, link.left = "the fork server does not answer", []
    sessions = configured(link)
    sessions.link_over("s", link)
    assert [m["error"]["kind"] for m in out(sessions) if m.get("re") == 2] == ["crashed"]
    sessions.stop("the test is over")
    sessions.forget_ended(0.0)
    assert not sessions.sessions


def test_a_bye_is_answered_when_what_a_dead_worker_left_is_gone() -> None:
    link: Any = Link()
    sessions = configured(link)
    link.exited = "signal SIGSEGV"
    sessions.worker_exited("s", link)
    say(sessions, 3, "bye")
    assert not [m for m in out(sessions) if m.get("re") == 3]
    link.left = ["pid 7 (deaf)"]
    sessions.link_over("s", link)
    assert [m["left"] for m in out(sessions) if m.get("re") == 3] == [["pid 7 (deaf)"]]


def test_the_answer_to_a_bye_waits_for_a_connection_that_takes_no_more_for_a_while() -> None:
    sessions = make()
    say(sessions, 1, "hello", client={})
    say(sessions, 2, "bye")
    sessions.forget_ended(0.0)
    assert [m["re"] for m in out(sessions)] == [1, 2]
    sessions.forget_ended(0.1)
    assert not sessions.sessions
    say(sessions, 1, "hello", session="t", client={})
    say(sessions, 2, "bye", session="t")
    sessions.forget_ended(1.0)
    assert sessions.sessions
    sessions.forget_ended(1.0 + DELIVER_SECONDS)
    assert not sessions.sessions, "but not for ever"


def test_a_session_s_name_must_be_one_for_an_environment() -> None:
    sessions = make()
    for name in ("a\0b", "a\nb"):
        say(sessions, 1, "hello", session=name, client={})
    assert not sessions.sessions
    assert {answer["error"]["where"] for answer in sessions.direct[b"route"]} == {"session"}


def test_a_greeting_that_arrives_after_the_goodbye_opens_nothing() -> None:
    sessions = make()
    say(sessions, 1, "hello", client={})
    say(sessions, 2, "bye")
    sessions.forget_ended(0.0)
    sessions.forget_ended(DELIVER_SECONDS)
    assert not sessions.sessions
    say(sessions, 1, "hello", client={})
    assert not sessions.sessions
    assert sessions.direct[b"route"][-1]["error"]["kind"] == "unknown_session"
