"""What is surely wrong with a regular expression: what a grep -E takes is never called wrong."""

from __future__ import annotations

import itertools
import subprocess

import pytest

from launcher.inventory.expressions import fault


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a(b|c", "( is not closed"),
        ("(a)(", "( is not closed"),
        ("[a", "[ is not closed"),
        ("[]", "[ is not closed"),
        ("[^]", "[ is not closed"),
        ("[[:alpha:]", "[ is not closed"),
        ("[[:alfa:]]", "[:alfa:]"),
        ("a\\", "single"),
    ],
)
def test_what_is_wrong(text, words):
    assert words in fault(text)


@pytest.mark.parametrize(
    "text",
    ["", "up (now|soon)$", r"\(", "[(]", "[]a]", "[^]a]", "a)", "{", "a{2,3}", "a{2", "[[:digit:]]{1,}",
     r"[\]", "[[.-.]a]", "[[=a=]]", "[a[]", r"\[", "(a)(b)", "[::]"],
)  # fmt: skip
def test_what_is_not(text):
    assert fault(text) == ""


def test_nothing_that_grep_takes_is_called_wrong():
    """All texts of three of these parts, that is said to be wrong: grep says so, too."""
    parts = ["(", ")", "[", "]", "[:", "digit", ":]", "\\", "a", "^"]
    texts = ["".join(some) for some in itertools.product(parts, repeat=3)]
    wrong = [text for text in texts if fault(text)]
    assert len(wrong) > 200
    for text in wrong[::9]:
        done = subprocess.run(["grep", "-aEqe", text], input=b"", capture_output=True, env={"LC_ALL": "C"})
        assert done.returncode == 2, (text, fault(text))
