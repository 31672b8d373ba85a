"""Who holds what is exclusive: what is said, what is heard, and what a user reads of it."""

from __future__ import annotations

import json

from launcher.model import HostSpec, Machine
from launcher.wrapper import exclusive_resource
from remote_exec.host import exclusive
from remote_exec.host.exclusive import MACHINE, Holder, Refusal, Request, answer, read_answer, refusal

ANN = Holder("ann", "laptop", 11, "a.osc: test", 1000.0, "lab-pc", "robot", 99)


def test_the_whole_machine_has_a_name_that_no_inventory_can_give() -> None:
    assert exclusive_resource(HostSpec("h", Machine(), exclusive=True)) == MACHINE
    assert exclusive_resource(HostSpec("h", Machine(), exclusive="gpu0")) == "gpu0"
    assert exclusive_resource(HostSpec("h", Machine())) == ""


def test_addresses_are_short_enough_and_their_own() -> None:
    names = [MACHINE, "gpu0", "x" * 64, "x" * 65, "x" * 66]
    addresses = [exclusive.address(name) for name in names]
    assert len(set(addresses)) == len(names)
    assert all(len(address) <= 107 and address.startswith("\0se-remote/exclusive/") for address in addresses)


def test_an_answer_goes_there_and_back() -> None:
    got = read_answer(answer(ANN).rstrip(), "robot", 99)
    assert got == ANN
    wide = Holder("u" * 200, "m" * 200, 1, "w" * 200, 1.0, "h" * 200)
    assert len(answer(wide)) < exclusive.MAX_ANSWER


def test_answers_that_are_none_leave_what_the_kernel_says() -> None:
    for data in (b"", b"{", b"[]", b'"x"', b'{"user": 5}', b"\xff\xfe", json.dumps({"pid": "x"}).encode()):
        holder = read_answer(data, "robot", 99)
        assert (holder.client, holder.account, holder.process) == ("", "robot", 99)
    assert read_answer(b'{"user": "a\\u001b[31m\\n"}', "", 0).user == "a?[31m?"


def test_what_the_user_reads() -> None:
    ours = refusal(MACHINE, "lab-pc", ANN, "robot", 1720.0)
    client = "ann@laptop (pid 11) for a.osc: test"
    text = f"this machine is exclusive and held by {client}, since 00:16:40 UTC (12 min)"
    assert ours == Refusal(text, "wait, or: se-remote kill lab-pc --force")
    other = refusal("gpu0", "arm", ANN, "robot", 1010.0)
    assert other.text.startswith("gpu0 of this machine") and other.text.endswith("through the host lab-pc")
    theirs = refusal(MACHINE, "lab-pc", ANN, "somebody", 1010.0)
    assert theirs.text.endswith("through account robot")
    assert theirs.next_step == "wait, or have robot run: se-remote kill lab-pc --force"
    silent = refusal(MACHINE, "lab-pc", Holder(account="robot", process=99), "robot", 0.0)
    assert "process 99 of account robot" in silent.text and "99" in silent.next_step


def test_who_counts_as_one_client() -> None:
    assert exclusive.driver_of({"driver": "x", "pid": 1}) == exclusive.driver_of({"driver": "x", "pid": 2})
    old = {"user": "ann", "machine": "laptop", "pid": 1}
    assert exclusive.driver_of(old) != exclusive.driver_of({**old, "pid": 2})
    assert exclusive.driver_of({"driver": 5, **old}) == exclusive.driver_of(old)
    assert exclusive.driver_of({}) == "?@?:?"


def test_without_a_resource_everybody_is_admitted() -> None:
    heard: list[object] = []
    nothing = exclusive.Exclusive("", "h")
    nothing.admit(Request("a", {}, heard.append, heard.append), 5.0)
    nothing.admit(Request("b", {}, heard.append, heard.append), 6.0)
    assert heard == [5.0, 6.0]
    assert nothing.next_deadline() is None and nothing.descriptors() == [] and nothing.described() is None
    assert nothing.is_held_by("anybody")
    nothing.release()
