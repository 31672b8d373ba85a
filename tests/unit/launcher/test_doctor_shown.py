"""The checklist on a terminal: text keeps to its columns and its width, cures can be copied."""

from __future__ import annotations

import io

import pytest

from launcher.cli import doctor
from launcher.cli.output import Output
from launcher.doctor.facts import Finding, Level

CURE = "ssh-keyscan -t ed25519 a.machine.with.a.long.name.example >> /home/somebody/.ssh/known_hosts"
FINDINGS = [
    Finding("shell", Level.WARNING, "the login shell prints on stdout " * 5, (CURE,)),
    Finding("packages", Level.FAILED, "one line\n| " + "x" * 120 + "\n| another line of it", ()),
    Finding("authenticate, shell, tmux, container, setup, python, packages, plugins", Level.UNSEEN, "no", ()),
]


class Stream(io.StringIO):
    encoding = "utf-8"
    terminal = True

    def isatty(self) -> bool:
        return self.terminal


def shown(stream: Stream) -> list[str]:
    output = Output(stream, Stream(), {"TERM": "dumb"})
    return [line for finding in FINDINGS for line in doctor._shown(finding, doctor._SIGNS, output)]


@pytest.mark.parametrize("columns", [80, 60])
def test_text_is_broken_between_words_and_cures_are_not(columns, monkeypatch):
    monkeypatch.setenv("COLUMNS", str(columns))
    lines = shown(Stream())
    assert f"                    try: {CURE}" in lines
    long = [line for line in lines if len(line) > columns]
    assert [line for line in long if CURE not in line and "x" * 120 not in line] == []
    assert all(line.startswith(("  ! ", "  ✗ ", "  · ", "     ")) for line in lines)
    assert " ".join(" ".join(lines).split()).count("login shell prints") == 5


@pytest.mark.parametrize("columns", ["10", "0"])
def test_a_terminal_that_is_too_narrow_to_help(columns, monkeypatch):
    monkeypatch.setenv("COLUMNS", columns)
    assert shown(Stream())


def test_in_a_pipe_a_finding_is_a_line(monkeypatch):
    monkeypatch.setenv("COLUMNS", "40")
    stream = Stream()
    stream.terminal = False
    lines = shown(stream)
    assert len(lines) == 6 and any(len(line) > 160 for line in lines)


def test_what_takes_long_is_said_once():
    heard = io.StringIO()
    waiting = doctor._Waiting(Output(io.StringIO(), heard, {}))
    for seconds in (1.0, 9.0, 10.0):
        waiting.on_note("lab-pc", "`setup` of lab-pc", seconds)
    assert heard.getvalue() == "lab-pc: `setup` of lab-pc takes long, 9 s so far\n"
