"""The replay buffer: bounded, logs dropped first and counted, last statuses never lost."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from remote_exec.host.eventlog import EventLog


def log(text: str = "x") -> dict[str, object]:
    return {"ev": "log", "text": text}


def status(action: str, value: str) -> dict[str, object]:
    return {"ev": "status", "action": action, "status": value, "feedback": ""}


def drain(events: EventLog) -> list[tuple[int, dict[str, object]]]:
    out = []
    while (item := events.next()) is not None:
        out.append(item)
        events.sent()
    return out


@given(st.lists(st.sampled_from(["log", "a", "b", "send", "seen", "cut"]), max_size=200))
def test_it_is_bounded_and_every_record_is_accounted_for(steps: list[str]) -> None:
    events = EventLog(max_events=12)
    logs = values = 0
    got: dict[int, dict[str, object]] = {}
    seen = 0
    for step in steps:
        if step == "log":
            logs += 1
            events.append(log())
        elif step in ("a", "b"):
            values += 1
            events.append(status(step, str(values)))
        elif step == "send" and (item := events.next()) is not None:
            got[item[0]] = item[1]
            events.sent()
        elif step == "seen":
            seen = max(got, default=0)
            events.trim(seen)
        elif step == "cut":
            got = {seq: event for seq, event in got.items() if seq <= seen}
            events.rewind(seen)
        assert len(events) <= 13
    events.append(log("last"))
    got.update(drain(events))
    assert list(got) == sorted(got)
    records = [event for event in got.values() if event["ev"] == "log"]
    assert sum(1 + int(str(event.get("dropped") or 0)) for event in records) == logs + 1
    last = {event["action"]: event["status"] for event in got.values() if event["ev"] == "status"}
    assert values == 0 or str(values) in last.values()


def test_a_status_that_nothing_supersedes_survives_any_flood() -> None:
    events = EventLog(max_events=10)
    for action in ("a", "b", "c"):
        events.append(status(action, "success"))
    for _ in range(1000):
        events.append(log())
    out = [event for _, event in drain(events)]
    assert [e["action"] for e in out if e["ev"] == "status"] == ["a", "b", "c"]
    assert sum(1 + int(str(e.get("dropped") or 0)) for e in out if e["ev"] == "log") == 1000


def test_texts_count_by_length() -> None:
    events = EventLog(max_chars=10_000)
    for _ in range(100):
        events.append(log("y" * 1000))
    assert len(events) < 12


def test_values_that_later_ones_supersede_go_before_the_last_ones() -> None:
    log = EventLog(max_events=8)
    for number in range(20):
        log.append({"ev": "set", "vars": {"/x": number}, "number": number})
        log.append({"ev": "set", "vars": {"/y": number}, "number": number})
    kept = []
    while (event := log.next()) is not None:
        kept.append(event[1]["vars"])
        log.sent()
    assert len(kept) <= 8 and {"/x": 19} in kept and {"/y": 19} in kept


def test_what_cannot_be_spared_is_not_looked_through_with_every_event(monkeypatch) -> None:
    looks = []
    shrink = EventLog._shrink
    monkeypatch.setattr(EventLog, "_shrink", lambda self: (looks.append(len(self)), shrink(self)))
    events = EventLog(max_events=100)
    for number in range(1000):
        events.append(status(f"a{number}", "success"))
    assert len(events) == 1000 and len(looks) < 20
    for _ in range(1000):
        events.append(log())
    events.sent()
    events.trim(1)
    events.append(log())
    assert len(events) <= 1001, "the lines went again as soon as something was seen"
