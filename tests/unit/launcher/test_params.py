"""Parameters in texts, and the lists that set them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from launcher.inventory.params import names_in, split_pairs, substitute, wrap
from launcher.inventory.report import Place, Report

VALUES = {"a": "1", "b_2": "two", "nested": "{a}", "print": "p"}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", ""),
        ("{a}", "1"),
        ("x{a}y{b_2}{a}", "x1ytwo1"),
        ("${a}", "${a}"),
        ("$ {a}", "$ 1"),
        ("{{a}}", "{a}"),
        ("{{{a}}}", "{1}"),
        ("{{{{a}}}}", "{{a}}"),
        ("${{a}}", "${a}"),
        ("{print $2}", "{print $2}"),
        ("awk '{{print}}'", "awk '{print}'"),
        ("{print}", "p"),
        ("{}", "{}"),
        ("{ a }", "{ a }"),
        ("{1}", "{1}"),
        ("{a-b}", "{a-b}"),
        ('{"a": {"b": 1}}', '{"a": {"b": 1}}'),
        ("${A:-${B}}", "${A:-${B}}"),
        ("${A:-{a}}", "${A:-1}"),
        ("{nested}", "{a}"),
        ("a}}b", "a}}b"),
        ("{a", "{a"),
        ("ä{a}ö", "ä1ö"),
    ],
)
def test_substitute(text: str, expected: str) -> None:
    assert substitute(text, VALUES) == (expected, [])


def test_what_has_no_value_is_named_once_and_stays() -> None:
    assert substitute("{x} {a} {y} {x}", VALUES) == ("{x} 1 {y} {x}", ["x", "y"])


def test_what_is_kept_is_neither_replaced_nor_missing() -> None:
    assert substitute("{server} {a}", {**VALUES, "server": "no"}, ("server",)) == ("{server} 1", [])


def test_wrap_leaves_everything_else() -> None:
    assert wrap("{{cmd}} {cmd} ${cmd} {a}", "cmd", "x {b}") == "{{cmd}} x {b} ${cmd} {a}"


@given(st.text(alphabet="{}$ab\\ '"))
def test_never_raises_and_names_agree(text: str) -> None:
    result, missing = substitute(text, {})
    assert missing == names_in(text)
    assert isinstance(result, str)


@given(st.text())
def test_text_without_braces_is_itself(text: str) -> None:
    plain = text.replace("{", "").replace("}", "")
    assert substitute(plain, VALUES) == (plain, [])


@pytest.mark.parametrize(
    ("text", "pairs"),
    [
        ("", {}),
        ("a=1", {"a": "1"}),
        ("a=1,b=2,", {"a": "1", "b": "2"}),
        (" a = 1 , b=x y ", {"a": "1", "b": "x y"}),
        (r"a=1\,2,b=", {"a": "1,2", "b": ""}),
        ("a=b=c", {"a": "b=c"}),
    ],
)
def test_pairs(text: str, pairs: dict[str, str]) -> None:
    report = Report()
    assert split_pairs(text, Place("X"), report) == pairs
    assert not report.problems()


@pytest.mark.parametrize("text", ["a", "=1", "a=1,a=2", "a=1,b"])
def test_bad_pairs_are_reported(text: str) -> None:
    report = Report()
    split_pairs(text, Place("SE_REMOTE_PARAMS"), report)
    assert [p.file for p in report.problems()] == ["SE_REMOTE_PARAMS"]
