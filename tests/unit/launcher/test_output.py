"""What a person sees on a terminal: the live line and questions."""

from __future__ import annotations

import io

import pytest

from launcher.cli.output import Output


class Screen(io.StringIO):
    """A terminal that keeps what was written."""

    def isatty(self) -> bool:
        return True


@pytest.fixture
def screen():
    return Screen()


@pytest.fixture
def output(screen, monkeypatch):
    monkeypatch.setenv("COLUMNS", "40")
    return Output(Screen(), screen, {})


def test_a_live_line_is_never_wider_than_the_terminal(output, screen):
    output.show_live("x" * 100)
    assert screen.getvalue() == "x" * 38 + "…"


def test_a_short_live_line_is_shown_whole(output, screen):
    output.show_live("… lab-pc: setup 0.1 s")
    assert screen.getvalue() == "… lab-pc: setup 0.1 s"


def test_a_question_has_the_terminal_to_itself(output, screen):
    output.show_live("live")

    def ask(prompt, *, secret):
        before = screen.getvalue()
        output.show_live("live again")
        output.say("said meanwhile")
        assert screen.getvalue() == before
        return f"{prompt} {secret}"

    asked = output.asking(ask)
    assert asked is not None
    assert asked("password:", secret=True) == "password: True"
    assert screen.getvalue() == "live\r\033[Ksaid meanwhile\nlive again"


def test_nobody_to_ask_stays_nobody(output):
    assert output.asking(None) is None
