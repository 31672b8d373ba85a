"""Commands: words survive any shell, secrets survive no rendering."""

from __future__ import annotations

import subprocess

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from launcher.command import Command, exports, quote

NASTY = [
    "",
    " ",
    "a b",
    "it's",
    '"',
    "$HOME",
    "`id`",
    "; rm",
    "a\nb",
    "{x}",
    "*",
    "~",
    "-n",
    "é✓",
    "\\",
    "!",
    "#",
]


@pytest.mark.parametrize("shell", ["sh", "bash"])
def test_words_arrive_as_they_are(shell: str) -> None:
    line = quote(["printf", "%s\\0", *NASTY])
    done = subprocess.run([shell, "-c", line], capture_output=True, check=True, timeout=20)
    assert done.stdout.decode().split("\0")[:-1] == NASTY


@settings(max_examples=30, deadline=None)
@given(
    st.lists(
        st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0")), min_size=1, max_size=5
    )
)
def test_any_text_survives_sh(words: list[str]) -> None:
    done = subprocess.run(["sh", "-c", quote(["printf", "%s\\0", *words])], capture_output=True, timeout=20)
    assert done.stdout == b"".join(word.encode() + b"\0" for word in words)


def test_a_nul_is_refused() -> None:
    with pytest.raises(ValueError, match="NUL"):
        quote(["a\0b"])


def test_exports_reach_a_child() -> None:
    script = exports({"A": "it's $HOME", "B": "x\ny"}) + 'printf \'%s|%s\' "$A" "$B"'
    assert subprocess.run(["sh", "-c", script], capture_output=True, timeout=20).stdout == b"it's $HOME|x\ny"


@pytest.mark.parametrize("name", ["", "a b", "A;id", "1A", "A=B", "é"])
def test_a_name_that_no_shell_takes_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="no name"):
        exports({name: "x"})


def test_secrets_are_masked_where_a_command_is_shown() -> None:
    command = Command.of("curl", "--user=me:hunter2", "hunter", secrets=["hunter", "hunter2", ""])
    assert "hunter" not in f"{command} {command!r} {[command]}"
    assert "hunter2" in command.line


def test_a_command_inside_of_another_keeps_words_and_secrets() -> None:
    outer = Command.of("printf", "%s", "a 'b' $c", secrets=["$c"]).inside("sh", "-c")
    done = subprocess.run(list(outer.argv), capture_output=True, timeout=20)
    assert done.stdout == b"a 'b' $c"
    assert "$c" not in str(outer)
