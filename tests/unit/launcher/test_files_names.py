"""Names of files that are sent: which are acceptable, where links may lead, what stands beside what."""

from __future__ import annotations

import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from launcher.files import names, wire

PARTS = st.binary(min_size=1, max_size=40).filter(
    lambda part: b"/" not in part and b"\0" not in part and part not in (b".", b"..")
)
NAMES = st.lists(PARTS, min_size=1, max_size=4).map(lambda parts: wire.text(b"/".join(parts)))


@given(NAMES)
def test_any_bytes_make_a_name(name):
    assert names.acceptable(name)
    assert wire.text(wire.raw(name)) == name


@given(NAMES, st.sampled_from(["", ".", ".."]), st.integers(0, 4))
def test_a_part_that_leads_elsewhere_spoils_it(name, part, at):
    parts = name.split("/")
    parts.insert(min(at, len(parts)), part)
    assert not names.acceptable("/".join(parts))


@pytest.mark.parametrize(
    "name", ["/etc/passwd", "../x", "a/../../x", "a\0b", "", "a//b", "a/", 7, None, "\ud800"]
)
def test_what_is_no_name_in_a_folder(name):
    assert not names.acceptable(name)


@pytest.mark.parametrize(
    ("name", "target", "inside"),
    [
        ("a", "b", True),
        ("a/b", "../c", True),
        ("a/b", "..", True),
        ("a/b/c", "./../../d/e", True),
        ("a", "..", False),
        ("a/b", "../../c", False),
        ("a", "/etc", False),
        ("a", "", False),
        ("a", "b/../../c", False),
        ("a/b", "c/../d", False),  # c may be a link itself
    ],
)
def test_where_a_link_leads(name, target, inside):
    assert names.stays_inside(name, target) == inside


@given(
    st.lists(st.sampled_from("abc"), min_size=1, max_size=3),
    st.lists(st.sampled_from(["..", ".", "a", "b"]), min_size=1, max_size=6),
)
def test_what_stays_inside_does_so_for_the_file_system_too(parts, target):
    name = "/".join(parts)
    if names.stays_inside(name, "/".join(target)):
        where = os.path.normpath("/top/" + os.path.dirname(name) + "/" + "/".join(target))
        assert where == "/top" or where.startswith("/top/")


def test_names_beside_a_name():
    assert [names.beside("a/log.txt", "lab-pc", number) for number in range(4)] == [
        "a/log.txt",
        "a/log.txt.lab-pc",
        "a/log.txt.lab-pc.2",
        "a/log.txt.lab-pc.3",
    ]


@given(NAMES, st.text("abc-", min_size=1, max_size=30), st.integers(1, 999))
def test_a_name_beside_is_a_name_in_the_same_folder(name, host, number):
    made = names.beside(name, host, number)
    assert names.acceptable(made)
    assert os.path.dirname(made) == os.path.dirname(name)
    assert made != name


@given(st.text("aä€😀", min_size=60, max_size=255))
def test_a_long_one_stays_short_enough_and_whole_characters(base):
    made = names.beside(base, "lab-pc", 1)
    assert len(wire.raw(made)) <= max(255, len(wire.raw(base)))
    if len(wire.raw(base)) > 248:
        assert len(wire.raw(made)) <= 255
    wire.raw(made).decode("utf-8")  # strictly
    assert made.endswith(".lab-pc")


def test_our_own_files_are_known_by_their_names():
    assert names.is_own(names.PUSHED)
    assert names.is_own(names.part_name("lab-pc" * 50, "0" * 16))
    assert len(names.part_name("lab-pc" * 50, "0" * 16)) < 255
    assert not names.is_own(".se-remote.yaml")
