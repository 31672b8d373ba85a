"""Who may stop a server, as a table; and the fifos, as the front has them."""

import json
import os

import pytest

from remote_exec.host.asked import MAX_WAIT_S, STOPPING, USED, Asked, Question, parse, verdict

MINE, THEIRS = {"id": "a1", "user": "ann"}, {"id": "b2", "user": "bob"}


@pytest.mark.parametrize(
    ("clients", "kept", "before", "at_last"),
    [
        ([], False, STOPPING, STOPPING),
        ([], True, USED, USED),
        ([MINE], False, None, STOPPING),
        ([MINE, MINE], False, None, STOPPING),
        ([MINE], True, USED, USED),
        ([THEIRS], False, None, USED),
        ([MINE, THEIRS], False, None, USED),
        ([{}], False, None, USED),
    ],
)
def test_verdict(clients, kept, before, at_last):
    question = Question("n", 10.0, {"id": "a1"}, True, "")
    assert verdict(question, clients, kept, 9.9) == before
    assert verdict(question, clients, kept, 10.0) == at_last


def test_who_does_not_mind_that_it_is_kept():
    question = Question("n", 0.0, {"user": "ann"}, False, "")
    assert verdict(question, [], True, 1.0) == verdict(question, [MINE], True, 1.0) == STOPPING
    assert verdict(question, [THEIRS], True, 1.0) == USED


def test_nobody_is_excepted_by_nothing():
    assert verdict(Question("n", 0.0, {}, True, ""), [{}], False, 1.0) == USED


def line(**changes):
    return json.dumps({"answer": "n", "wait": 0, "but": {}, "kept": True, "why": "w", **changes}).encode()


def test_what_is_no_question():
    bad = [
        b"", b"{", b"[]", b"\xff", line(answer="../x"), line(answer=None), line(wait="1"),
        line(wait=float("nan")), line(but=[]),
    ]  # fmt: skip
    assert [parse(one, 0.0) for one in bad] == [None] * len(bad)
    found = parse(line(wait=1e9), 5.0)
    assert found is not None and found.until == 5.0 + MAX_WAIT_S


class Bench:
    def __init__(self, directory):
        self.directory = directory
        self.asked = Asked(str(directory))
        self.asked.open()
        self.clients = []
        self.comes = False
        self.done = []

    def ask(self, name, **changes):
        os.mkfifo(self.directory / f"answer.{name}")
        reader = os.open(self.directory / f"answer.{name}", os.O_RDWR | os.O_NONBLOCK)
        self.write(line(answer=name, **changes) + b"\n")
        return reader

    def write(self, data):
        with open(self.directory / "ask", "wb") as fifo:
            fifo.write(data)

    def act(self, *said):
        self.done.append(said)
        return {"sessions": len(self.clients)}

    def turn(self, now=0.0):
        self.asked.readable(now)
        self.asked.decide(now, lambda: (self.clients, False), lambda: self.comes, self.act)


@pytest.fixture
def bench(tmp_path):
    return Bench(tmp_path)


def test_an_answer(bench):
    reader = bench.ask("n", why="because")
    bench.turn()
    assert bench.done == [(STOPPING, "because")] and os.read(reader, 100) == b'stopping\n{"sessions": 0}\n'
    bench.turn()
    assert len(bench.done) == 1 and bench.asked.next_deadline() is None


def test_two_at_once_and_a_line_in_two_pieces(bench):
    first, second = bench.ask("a"), bench.ask("b")
    bench.clients = [THEIRS]
    bench.turn()
    assert os.read(first, 100) == os.read(second, 100) == b'used\n{"sessions": 1}\n'
    os.mkfifo(bench.directory / "answer.c")
    third = os.open(bench.directory / "answer.c", os.O_RDWR | os.O_NONBLOCK)
    bench.write(b"nonsense\n" + line(answer="c")[:10])
    bench.turn()
    bench.write(line(answer="c")[10:] + b"\n")
    bench.turn()
    assert os.read(third, 100).startswith(b"used\n") and len(bench.done) == 3


def test_it_waits_and_says_when(bench):
    bench.clients = [MINE]
    reader = bench.ask("n", wait=3, but={"id": "a1"})
    bench.turn(1.0)
    assert bench.done == [] and bench.asked.next_deadline() == 4.0
    bench.turn(4.0)
    assert os.read(reader, 100).startswith(b"stopping\n")


@pytest.mark.parametrize("wait", [0, 3])
def test_who_has_given_up_stops_nothing(bench, wait):
    """A server that was frozen finds the question later."""
    bench.clients = [MINE] if wait else []
    reader = bench.ask("n", wait=wait)
    if wait:
        bench.turn()
    os.close(reader)
    bench.clients = []
    bench.turn(10.0)
    assert bench.done == [] and bench.asked.next_deadline() is None


def test_somebody_who_is_on_the_way_counts_unless_it_is_mine_to_kill(bench):
    bench.comes = True
    reader = bench.ask("n", wait=3)
    bench.turn()
    assert bench.done == []
    bench.turn(3.0)
    assert os.read(reader, 100).startswith(b"used\n")
    mine = bench.ask("m", kept=False)
    bench.turn()
    assert os.read(mine, 100).startswith(b"stopping\n")


def test_a_directory_that_takes_no_fifo(tmp_path):
    asked = Asked(str(tmp_path / "gone"))
    asked.open()
    assert not asked.owns(3)
