"""key=value words as arguments: by declared type, literals only."""

from __future__ import annotations

import re
from typing import Any

import pytest

from launcher.cli import literals
from remote_exec.client.signature import Action, Parameter, bind
from remote_exec.errors import BadArguments

SIGNALS = {"sigint": 2, "sigterm": 15}


def value(kind: str, text: str) -> Any:
    return literals.value_of(Parameter("x", type=kind), text)


@pytest.mark.parametrize(
    ("kind", "text", "expected"),
    [
        ("string", "true", "true"),
        ("string", "5", "5"),
        ("string", "", ""),
        ("string", "a=b", "a=b"),
        ("bool", "true", True),
        ("bool", "False", False),
        ("int", "-3", -3),
        ("uint", "7", 7),
        ("float", "1e-3", 0.001),
        ("time", "2", 2.0),
        ("time", "1.5s", 1.5),
        ("time", "200ms", 0.2),
        ("time", "3 min", 180.0),
        ("list of string", '["a", "b"]', ["a", "b"]),
        ("place", '{"x": 1}', {"x": 1}),
        ("", "5", 5),
        ("", "true", True),
        ("", "null", None),
        ("", '"5"', "5"),
        ("", "[1, [2]]", [1, [2]]),
        ("", "ls -l", "ls -l"),
        ("", "(1, 2)", "(1, 2)"),
        ("", "__import__('os')", "__import__('os')"),
    ],
)
def test_values(kind: str, text: str, expected: Any) -> None:
    found = value(kind, text)
    assert (found, type(found)) == (expected, type(expected))


@pytest.mark.parametrize(
    ("kind", "text", "said"),
    [
        ("bool", "yes", "true or false"),
        ("int", "1.5", "whole number"),
        ("float", "fast", "a number"),
        ("time", "soon", "such as"),
        ("time", "1.2.3s", "such as"),
        ("list of string", "a", "JSON"),
        ("list of string", "5", "a JSON list"),
        ("", "[1, 2", "JSON"),
        ("place", "{x: 1}", "JSON (place)"),
    ],
)
def test_what_is_no_value_says_what_was_expected(kind: str, text: str, said: str) -> None:
    with pytest.raises(ValueError, match=re.escape(text)) as caught:
        value(kind, text)
    assert said in str(caught.value)


@pytest.mark.parametrize("text", ["sigint", "signal!sigint", "(sigint, 2)", "('sigint', 2)", "sigint,2"])
def test_enums_by_name_or_as_a_pair(text: str) -> None:
    action = Action("run", parameters=(Parameter("s", type="signal", choices=SIGNALS),))
    assert bind(action, literals.read(action, {"s": text})).args == {"s": ("sigint", 2)}


@pytest.mark.parametrize("text", ["sigfoo", "(sigint, 3)", ""])
def test_no_member_of_the_enum(text: str) -> None:
    action = Action("run", parameters=(Parameter("s", type="signal", choices=SIGNALS),))
    with pytest.raises(BadArguments, match=r"sigint \(2\)"):
        bind(action, literals.read(action, {"s": text}))


def test_words_that_are_no_pairs() -> None:
    with pytest.raises(BadArguments) as caught:
        literals.split("run", ["a=1", "b", "=2", "a=3", "x y=1"])
    assert len(caught.value.problems) == 4
    assert literals.split("run", ["a=b=c"]) == {"a": "b=c"}


def test_all_mistakes_in_one_report() -> None:
    action = Action(
        "run", parameters=(Parameter("command", required=True, type="string"), Parameter("n", type="int"))
    )
    with pytest.raises(BadArguments) as caught:
        literals.read(action, {"comand": "x", "n": "many"})
    text = str(caught.value)
    assert (
        "did you mean 'command'?" in text
        and "n: expected a whole number" in text
        and "missing: command" in text
    )
