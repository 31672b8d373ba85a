"""Times as they are typed, and as they are said."""

from __future__ import annotations

import pytest

from launcher.cli.extend import stays_text
from launcher.durations import parse_time, time_text
from launcher.servers import seconds_of


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("90s", 90), ("30m", 1800), ("30min", 1800), ("8h", 28800), ("1h30m", 5400), ("1h 30min", 5400),
        ("2d", 172800), ("0", 0), ("45", 45), ("1.5h", 5400), ("500ms", 0.5), (" 8h ", 28800),
    ],
)  # fmt: skip
def test_times(text: str, seconds: float) -> None:
    assert parse_time(text) == seconds


@pytest.mark.parametrize(
    "text", ["", "h", "8x", "-1h", "1h30", "8h foo", "1..5h", "inf", "nan", "99999h", "٣h"]
)
def test_no_times(text: str) -> None:
    with pytest.raises(ValueError, match="1h30m"):
        parse_time(text)


def test_seconds_of_the_python_api() -> None:
    assert (seconds_of("8h"), seconds_of(5), seconds_of(0)) == (28800, 5, 0)
    for wrong in (-1, float("inf"), float("nan"), "x"):
        with pytest.raises(ValueError):
            seconds_of(wrong)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0 s"), (45.4, "45 s"), (720, "12 min"), (28799.6, "8 h"), (28740, "7 h 59 min"),
        (5400, "90 min"), (9000, "2 h 30 min"), (172800, "2 d"), (183600, "2 d 3 h"),
    ],
)  # fmt: skip
def test_words(seconds: float, text: str) -> None:
    assert time_text(seconds) == text


def test_how_long_a_server_stays() -> None:
    assert stays_text("lab", 28800, 28799.9) == "for 8 h, or until: se-remote kill lab"
    assert "for 8 h (it was kept for longer than 60 min before)" in stays_text("lab", 3600, 28800)
    assert stays_text("lab", 0, None) == "until: se-remote kill lab"
    assert "before" in stays_text("lab", 3600, None)
