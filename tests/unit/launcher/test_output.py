"""What a person sees on a terminal: the live line and questions."""

from __future__ import annotations

import io

import pytest

from launcher.cli.output import Output, StageProgress, fitted, table
from launcher.errors import LauncherError
from launcher.model import Event, State


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


def test_processes_have_a_line_when_they_are_ready_or_over():
    err = io.StringIO()
    progress = StageProgress(Output(io.StringIO(), err, {}), ["core", "nav", "once"])
    waiting, starting, running, ready = State.WAITING, State.STARTING, State.RUNNING, State.READY
    told = [
        (0.0, "nav", waiting, "for core", "info"),
        (0.0, "core", starting, "", "info"),
        (0.5, "core", running, "", "info"),
        (1.0, "core", ready, "", "info"),
        (1.0, "nav", ready, "was running", "info"),
        (1.0, "once", starting, "", "info"),
        (3.0, "once", State.STOPPED, "done", "info"),
        (4.0, "core", State.DEAD, "it ended (signal 9)", "warning"),
        (5.0, "nav", State.STOPPING, "", "info"),
        (5.5, "nav", State.STOPPED, "", "info"),
        (6.0, "core", starting, "", "info"),
        (7.0, "core", State.DEAD, "it ended before it was ready", "error"),
    ]
    for time, name, state, reason, level in told:
        progress.on_event(Event(time, name, None, State.STOPPED, state, reason, level))
    assert err.getvalue().splitlines() == [
        "core  ready          1.00 s",
        "nav   ready          0.00 s  was running",
        "once  done           2.00 s",
        "core  it ended (signal 9)",
        "nav   stopped        0.50 s",
        "core  failed         1.00 s",
    ]


@pytest.mark.parametrize(
    ("said", "shown"),
    [
        ("se-remote logs lab-pc", "se-remote -i 'my lab.yaml' logs lab-pc"),
        ("wait, or: se-remote kill lab-pc", "wait, or: se-remote -i 'my lab.yaml' kill lab-pc"),
        ("se-remote up a && se-remote push a .", "{0} up a && {0} push a ."),
        ("one line\nits output: se-remote logs sim", "one line\nits output: {0} logs sim"),
        ("in 3 logs (se-remote clean lab-pc)", "in 3 logs ({0} clean lab-pc)"),
        ("se-remote 1.0 is there", "se-remote 1.0 is there"),
        ("in use by ann@laptop (pid 1) for se-remote with: make", None),
        ("se-remote -i other.yaml logs lab-pc", None),
    ],
)
def test_hints_name_the_inventory_that_was_given(said, shown):
    expected = (shown or said).format("se-remote -i 'my lab.yaml'")
    err, plain = io.StringIO(), io.StringIO()
    output = Output(io.StringIO(), err, {}, inventory="my lab.yaml")
    output.say(said)
    output.error(LauncherError("it failed", said))
    tried = "".join(f"  try: {line}\n" for line in expected.splitlines())
    assert err.getvalue() == f"{expected}\nerror: it failed\n{tried}"
    assert output.typed(said) == expected
    Output(io.StringIO(), plain, {}).say(said)
    assert plain.getvalue() == f"{said}\n"


HEADER = ("HOST", "MACHINE", "STATE", "PID", "STARTED BY")
ROWS = [["lab-pc", "robot@lab-pc.example", "ready", "4711", "ann@laptop: se-remote up"]]


@pytest.mark.parametrize(
    ("width", "header", "by"),
    [
        (None, HEADER, "ann@laptop: se-remote up"),
        (67, HEADER, "ann@laptop: se-remote up"),
        (66, ("HOST", "MACHINE", "STATE", "STARTED BY"), "ann@laptop: se-remote up"),
        (60, ("HOST", "STATE", "STARTED BY"), "ann@laptop: se-remote up"),
        (38, ("HOST", "STATE", "STARTED BY"), "ann@laptop: se-remote …"),
        (10, ("HOST", "STATE", "STARTED BY"), "ann@lapto…"),
    ],
)
def test_a_table_fits_the_terminal(width, header, by):
    names, rows = fitted(HEADER, ROWS, width, ("PID", "MACHINE"))
    assert (tuple(names), rows[0][-1]) == (header, by)
    lines = table(names, rows).splitlines()
    assert width is None or width < 30 or max(len(line) for line in lines) <= width


def test_a_short_last_column_is_no_reason_to_drop_another():
    names, _ = fitted(("A", "B"), [["x" * 10, "-"]], 13, ("A",))
    assert names == ["A", "B"]


def test_an_error_is_broken_between_words_and_its_commands_are_not(output, screen):
    tail = "    | a line of its log that is longer than that"
    text = f"lab-pc: start: the server ended at once, and nobody knows why\n{tail}"
    output.error(LauncherError(text, "se-remote logs a-host-with-a-name-that-is-long"))
    assert screen.getvalue().replace("\033[31m", "").replace("\033[0m", "").splitlines() == [
        "error: lab-pc: start: the server ended",
        "  at once, and nobody knows why",
        tail,
        "  try: se-remote logs a-host-with-a-name-that-is-long",
    ]
