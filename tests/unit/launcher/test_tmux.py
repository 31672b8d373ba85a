"""Parsing what tmux says."""

import pytest

from launcher import tmux


def test_windows_are_parsed_and_noise_is_not():
    text = "@0 1 se-remote lab-pc|lab-pc\n@12 0 se-remote |my notes | x\nno server running\n@x 0 a b|c\n"
    assert tmux.parse_windows(text) == (
        tmux.Window("@0", True, "se-remote", "lab-pc", "lab-pc"),
        tmux.Window("@12", False, "se-remote", "", "my notes | x"),
    )


@pytest.mark.parametrize(
    ("name", "expected"),
    [("se-remote", "se-remote"), ("my lab:1.2", "my_lab_1_2"), ("-x", "x"), ("", "se-remote")],
)
def test_session_names(name, expected):
    assert tmux.session_name(name) == expected
