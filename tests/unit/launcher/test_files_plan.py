"""What a push decides, and how far a transfer says that it is."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from launcher.files import tree
from launcher.files.plan import amount, push_plan, rounded
from launcher.files.progress import Meter, clock, shown
from launcher.files.tree import Entry
from launcher.files.values import Step


def file(name, size=10, mtime=1, mode=0o644):
    return Entry(name, tree.FILE, mode, size, mtime, "")


def folder(name, mode=0o755):
    return Entry(name, tree.FOLDER, mode, 0, 0, "")


def link(name, target="x"):
    return Entry(name, tree.LINK, 0, 0, 0, target)


def test_only_what_changed_is_sent():
    here = [file("a"), file("b", mtime=2), file("c", size=11), file("d", mode=0o755), file("new")]
    there = [file("a"), file("b"), file("c"), file("d")]
    plan = push_plan(here, there, [])
    assert [entry.name for entry in plan.send] == ["b", "c", "new"]
    assert plan.unchanged == 2
    assert plan.modes == (("d", 0o755),)
    assert plan.remove == ()


def test_what_cannot_be_looked_at_here_is_not_gone():
    there = [folder("d"), folder("d/closed"), file("d/closed/f"), file("d/gone")]
    plan = push_plan([], there, ["d", "d/closed", "d/closed/f", "d/gone"], ["d/closed"])
    assert plan.remove == ("d/gone",)
    assert set(plan.everything) >= {"d/closed", "d/closed/f"}, "a later push may remove them"


def test_what_a_push_has_put_there_goes_and_what_others_have_put_there_stays():
    there = [folder("old"), file("old/f"), file("theirs"), folder("keep")]
    plan = push_plan([folder("keep")], there, ["old", "old/f", "keep", "never"])
    assert plan.remove == ("old/f", "old")


def test_folders_come_before_what_is_in_them_and_links_are_made_anew():
    here = [folder("a"), folder("a/b"), file("a/b/c"), link("l", "a"), link("m", "a")]
    there = [link("l", "b"), link("m", "a")]
    plan = push_plan(here, there, ["l"])
    assert plan.folders == (("a", 0o755), ("a/b", 0o755))
    assert plan.links == (("l", "a"),)
    assert plan.remove == ("l",)


@pytest.mark.parametrize(
    ("here", "there", "mine", "skipped", "removed"),
    [
        ([file("a")], [folder("a")], ["a"], [], ["a"]),
        ([file("a")], [folder("a")], [], ["a"], []),
        ([file("a")], [folder("a"), file("a/theirs")], ["a"], ["a"], []),
        ([file("a")], [link("a")], [], [], []),  # a rename takes its place
        ([folder("a"), file("a/b")], [link("a")], [], ["a"], []),
        ([folder("a"), file("a/b")], [link("a")], ["a"], [], ["a"]),
        ([link("a")], [file("a")], [], ["a"], []),
    ],
)
def test_something_else_of_that_name_goes_only_if_a_push_has_put_it_there(
    here, there, mine, skipped, removed
):
    plan = push_plan(here, there, mine)
    assert [name for name, _ in plan.skipped] == skipped
    assert list(plan.remove) == removed
    if skipped:
        assert plan.send == plan.folders == plan.links == ()


def test_space_that_is_needed_there():
    assert push_plan([file("a", 5000), file("b", 1)], [], []).needed == 8192 + 4096
    # the new one stands beside the old one for a moment
    there = [file("a", 1_000_000)]
    assert push_plan([file("a", 1_000_000, mtime=2)], there, []).needed == rounded(1_000_000)
    many = [file(f"f{i}", 4096) for i in range(10)]
    assert push_plan([e._replace(mtime=2) for e in many], many, []).needed == 4096


ENTRIES = st.dictionaries(
    st.sampled_from(["a", "b", "c", "d"]),
    st.tuples(st.sampled_from("fdl"), st.integers(0, 2), st.integers(0, 2)),
).map(
    lambda found: [
        {"f": file(name, size, mtime), "d": folder(name), "l": link(name, "x" * (1 + size))}[kind]
        for name, (kind, size, mtime) in sorted(found.items())
    ]
)


@given(ENTRIES, ENTRIES)
def test_done_as_planned_the_folder_there_is_what_the_one_here_is(here, there):
    plan = push_plan(here, there, [entry.name for entry in there])
    result = {entry.name: entry for entry in there if entry.name not in plan.remove}
    wanted = {entry.name: entry for entry in here}
    for entry in plan.send:
        result[entry.name] = entry
    for name, _ in (*plan.folders, *plan.links, *plan.modes):
        result[name] = wanted[name]
    assert result == wanted
    assert plan.unchanged + len(plan.send) == sum(entry.kind == tree.FILE for entry in here)


@pytest.mark.parametrize(
    "row",
    [
        ["../x", "f", 0o644, 1, 1, ""],
        ["/x", "f", 0o644, 1, 1, ""],
        ["x", "f", 0o4755, 1, 1, ""],
        ["x", "f", 0o644, -1, 1, ""],
        ["x", "f", 0o644, True, 1, ""],
        ["x", "b", 0o644, 1, 1, ""],
        ["x", "l", 0, 0, 0, "../y"],
        ["x", "l", 0, 0, 0, None],
        [".se-remote-pushed", "f", 0o644, 1, 1, ""],
        ["x", "f"],
        "x",
        None,
    ],
)
def test_what_the_other_end_must_not_say(row):
    with pytest.raises(ValueError):
        tree.entry_of(row)


def test_amounts_and_times_as_a_person_says_them():
    assert [amount(n) for n in (0, 999, 1000, 34_500, 1_234_567, 260_000_000, 1_100_000_000)] == [
        "0 B", "999 B", "1.0 kB", "34 kB", "1.2 MB", "260 MB", "1.1 GB",
    ]  # fmt: skip
    assert [clock(s) for s in (0, 6.6, 760, 11100)] == ["0:00", "0:07", "12:40", "3:05:00"]


def test_a_line_of_progress():
    meter = Meter("lab-pc", "pull")
    assert "looking" in meter.line(0.0)
    for second in range(4):
        meter.take(Step("lab-pc", second * 10_000_000, 100_000_000, "bag\n0"), float(second))
    line = meter.line(3.0)
    assert line == "lab-pc: pull [######--------------]  30 %  30 MB of 100 MB  10 MB/s  0:07 left  bag\\n0"
    assert "left" in meter.line(60.0)
    assert meter.line(60.0) != line  # it stalls, and shows it


def test_nothing_to_send_is_all_of_it():
    meter = Meter("lab-pc", "push")
    meter.take(Step("lab-pc", 0, 0, ""), 0.0)
    assert "100 %" in meter.line(0.0)


def test_names_on_one_line():
    assert shown("a b ä") == "a b ä"
    assert shown("a\nb\udcff\x1b[2J") == "a\\nb\\udcff\\x1b[2J"
