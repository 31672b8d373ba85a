"""What wheels need on another machine: conditions are asked of that machine, not of this one."""

from __future__ import annotations

import pytest

from launcher.provision.needs import About, missing, project, read_about, replaced, there, unmet, why_no_name
from launcher.provision.values import Python

OLD = Python("/usr/bin/python3.10", (3, 10, 12), "aarch64", glibc=(2, 35))
NEW = Python("/usr/bin/python3.13", (3, 13, 1), "x86_64", glibc=(2, 39))
ABOUT = """\
Metadata-Version: 2.1
Name: Some.Thing
Version: 1.2
Requires-Dist: backport>=1; python_version < "3.11"
Requires-Dist: fast; platform_machine == "x86_64"
Requires-Dist: tool; extra == "all"

Requires-Dist: this is text
"""
THING = read_about(ABOUT)


def test_a_wheel_is_read() -> None:
    assert (THING.name, THING.version, len(THING.requires)) == ("some-thing", "1.2", 3)


def test_conditions_of_what_is_asked_for() -> None:
    asked = ['a; python_version < "3.11"', 'b[c]>=1; sys_platform == "linux"', "d"]
    assert there(asked, OLD) == ["a", "b[c]>=1", "d"]
    assert there(asked, NEW) == ["b[c]>=1", "d"]


def test_conditions_of_what_is_found() -> None:
    assert unmet(["some_thing"], [THING], OLD) == ["backport>=1"]
    assert unmet(["some_thing"], [THING], NEW) == ["fast"]
    assert unmet(["some_thing[all]"], [THING], NEW) == ["fast", "tool"]
    assert unmet(["some_thing"], [THING, About("fast", "2")], NEW) == []


def test_another_version_than_is_needed_there() -> None:
    user = About("user", "1", ('numpy>=2; python_version >= "3.13"', 'numpy<2; python_version < "3.11"'))
    found = [user, About("numpy", "1.26")]
    assert unmet(["user"], found, OLD) == []
    assert unmet(["user"], found, NEW) == ["numpy>=2"]


def test_a_circle_ends() -> None:
    found = [About("a", "1", ("b",)), About("b", "1", ("a", "c"))]
    assert unmet(["a"], found, OLD) == ["c"]


def test_what_no_index_can_be_asked_for() -> None:
    assert why_no_name("my-actions[all]==1.4") == ""
    for word in ("", "-rfoo", "numpy[bad", "a b"):
        assert why_no_name(word), word


@pytest.mark.parametrize("text", ["foo (>=1.0.*)", "???"])
def test_an_old_package_says_nonsense(text: str) -> None:
    assert unmet(["a"], [About("a", "1", (text,))], OLD) == []


@pytest.mark.parametrize(
    "word",
    ["our-actions", "Our_Actions==1.4", "our.actions[all]>=1", "/ws/our_actions/", "./our_actions-2-x.whl"],
)
def test_names_folders_and_wheels_of_one_project_replace_each_other(word: str) -> None:
    assert project(word) == "our-actions"
    assert missing(["numpy==2.0", word], ["our-actions"]) == ("numpy==2.0",)


def test_what_is_replaced_is_told() -> None:
    before = ["numpy", "/ws/arm/python", "/ws/same", "gone"]
    now = ["/ws/same", "numpy==2.0", "/ws/nav/python"]
    assert replaced(before, now) == (("numpy", "numpy==2.0"), ("/ws/arm/python", "/ws/nav/python"))
