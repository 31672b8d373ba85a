"""What a run comes to: order, dependants, variants, hashes; every mistake before anything starts."""

from __future__ import annotations

import sys
from dataclasses import replace

import pytest

from launcher import inventory
from launcher.errors import InventoryError, LauncherError, NotStarted
from launcher.inventory import Inventory, Settings
from launcher.model import Container, HostSpec, ProcessSpec, ReadyCheck
from launcher.processes.course import Course, Step, causes, ending_rounds
from launcher.processes.graph import Stack, build, by_variant, config_hash, ends_with, needed
from launcher.processes.recipe import Recipe, read

STACK = """
context: {session: robots, params: {hw: dummy}}
hosts:
  lab-pc: {machine: robot@lab-pc.example, aliases: [lab], depends: [sim]}
  arm: {machine: robot@arm.example, depends: [lab, roscore], exclusive: true, variants: {slow: {lease: 60s}}}
  free: {machine: x}
processes:
  roscore: {cmd: roscore, machine: robot@lab-pc.example}
  sim: {cmd: "sim {hw}", depends: [roscore], variants: {HW Type: [Base Only: {params: {hw: base}}, full]}}
  nav: {cmd: nav, depends: [sim, roscore], variants: {HW Type: [Base Only], odd: {depends: [cam]}}}
  cam: {cmd: cam, depends: [], variants: {odd: {depends: [nav]}}}
  home: {cmd: home, persistent: false, depends: [nav]}
  after: {cmd: x, depends: [home]}
  all of it: {cmd: "true", persistent: false, depends: [home, cam]}
  a+b: {cmd: plus, variants: {v: {cmd: "{cmd} -v"}}}
  needs arm: {cmd: x, depends: [arm]}
"""


@pytest.fixture(scope="module")
def inv() -> Inventory:
    return inventory.read(STACK, "lab.yaml")


def settings(*variants: str, **params: str) -> Settings:
    return inventory.read_settings({}, variants=variants, params=[f"{k}={v}" for k, v in params.items()])


def spec(stack: Stack, name: str) -> ProcessSpec:
    found = stack.items[name].process
    assert found is not None
    return found


def test_each_once_and_in_order(inv: Inventory) -> None:
    stack = build(inv, ["all of it", "nav", "all of it"])
    assert stack.levels() == [["roscore", "cam"], ["sim"], ["nav"], ["home"], ["all of it"]]
    assert list(stack.items) == ["roscore", "cam", "sim", "nav", "home", "all of it"]
    assert stack.targets == ("all of it", "nav")
    assert stack.dependants("sim") == ["nav", "home", "all of it"]
    assert stack.dependants("cam") == ["all of it"]
    key = stack.items["all of it"].key
    assert (key.session, key.name) == ("robots", "all of it")
    assert stack.behind("cam") == (key,)
    assert stack.behind("roscore") == (), "the others are on another machine"


def test_hosts_are_items_too(inv: Inventory) -> None:
    stack = build(inv, ["needs arm"], settings("arm=slow"))
    assert stack.levels() == [["roscore"], ["sim"], ["lab-pc"], ["arm+slow"], ["needs arm"]]
    assert isinstance(stack.items["arm+slow"].spec, HostSpec)
    assert stack.items["arm+slow"].depends == ("lab-pc", "roscore")
    assert build(inv, [], hosts=[inv.resolve("arm+slow")], strict=False).targets == ("arm+slow",)
    assert build(inv, ["lab"]).targets == ("lab-pc",)
    assert [str(one) for one in stack.behind("roscore")] == ["lab-pc"]


def test_variants_go_to_all_of_the_run_that_have_them(inv: Inventory) -> None:
    stack = build(inv, ["nav"], settings("Base Only"))
    assert [item.spec.name for item in stack.items.values()] == ["roscore", "sim+Base Only", "nav+Base Only"]
    assert spec(stack, "sim").cmd == "sim base"
    assert stack.items["sim"].key.name == "sim"
    assert spec(build(inv, ["nav"], settings("HW Type=full")), "sim").name == "sim+full"
    assert spec(build(inv, ["nav"], settings("nav=Base Only")), "sim").name == "sim"
    assert spec(build(inv, ["nav"], settings(hw="x")), "sim").cmd == "sim x"


def test_one_is_wanted_as_it_ran(inv: Inventory) -> None:
    ran = build(inv, ["nav"], settings("Base Only", hw="odd")).items["sim"].recipe
    assert ran == Recipe(("Base Only",), {"hw": "odd"}, ("roscore",))
    assert read(ran.text()) == ran and ran.text().isascii() and "\n" not in ran.text()
    with pytest.raises(InventoryError):
        build(inv, ["sim"], recipes={"sim": Recipe(("gone",))})
    stack = build(inv, ["nav"], recipes={"sim": ran})
    assert [item.spec.name for item in stack.items.values()] == ["roscore", "sim+Base Only", "nav"]
    assert spec(stack, "sim").cmd == "sim base"
    assert read("") is None and read("[]") is None and read('{"variants": 1}') is None


def test_variants_behind_the_name(inv: Inventory) -> None:
    stack = build(inv, ["sim+Base Only", "a+b", "nav+odd"])
    assert spec(stack, "sim").cmd == "sim base"
    assert stack.items["nav"].depends == ("cam",)
    assert spec(stack, "a+b").cmd == "plus"
    assert spec(build(inv, ["a+b+v"]), "a+b").cmd == "plus -v"


@pytest.mark.parametrize(
    ("names", "given", "texts"),
    [
        (["simm"], (), ['unknown process "simm" (did you mean "sim"?']),
        (["nav", "rosscore"], ("Bass Only", "x=y"), ['"rosscore"', 'unknown host "x"']),
        (
            ["nav"],
            ("Bass Only",),
            ['nothing of this run has a variant "Bass Only" (did you mean "Base Only"?'],
        ),
        (["cam"], ("Base Only",), ['nothing of this run has a variant "Base Only"']),
        (["sim+slow"], (), ['sim has no variant "slow"']),
        (["sim"], ("sim=Base Only+full",), ["two variants of the group HW Type"]),
        (["sim", "sim+full"], (), ["sim is asked for with different variants"]),
        (["nav"], ("odd",), ["depends in a circle"]),
        (["arm", "arm+slow"], (), ["is exclusive, and arm and arm+slow"]),
    ],
)
def test_what_is_wrong_is_said_at_once(
    inv: Inventory, names: list[str], given: tuple[str, ...], texts: list[str]
) -> None:
    with pytest.raises(InventoryError) as caught:
        build(inv, names, settings(*given))
    said = str(caught.value)
    assert all(text in said for text in texts), said


def test_a_circle_by_two_variants_is_named() -> None:
    inv = inventory.read(
        "a: {cmd: x, variants: {v: {depends: [b]}}}\nb: {cmd: x, variants: {v: {depends: [c]}}}\n"
        "c: {cmd: x, depends: [a]}"
    )
    assert list(build(inv, ["c"]).items) == ["a", "c"]
    with pytest.raises(InventoryError, match=r"se-remote\.yaml:.*in a circle with these variants: .* → "):
        build(inv, ["c"], settings("v"))


def test_without_an_inventory() -> None:
    with pytest.raises(InventoryError, match='unknown process "x"'):
        build(None, ["x"])
    host = HostSpec("h", inventory.Inventory().resolve("local").machine, depends=("sim",))
    with pytest.raises(InventoryError, match='depends on "sim", which is neither'):
        build(None, [], hosts=[host], strict=False)
    assert build(None, [], hosts=[replace(host, depends=())]).targets == ("h",)


def test_long_chains() -> None:
    many = 2 * sys.getrecursionlimit()
    text = "p0: {cmd: x}\n" + "".join(f"p{i}: {{cmd: x, depends: [p{i - 1}]}}\n" for i in range(1, many))
    stack = build(inventory.read(text), [f"p{many - 1}"])
    assert len(stack.levels()) == many
    assert len(stack.dependants("p0")) == many - 1


def test_the_hash_is_of_what_runs(inv: Inventory) -> None:
    one = inv.resolve_process("sim")
    assert config_hash(one) == config_hash(inv.resolve_process("sim"))
    same = replace(one, name="other", ready_timeout=1.0, depends=(), session="s", source="", show_ui=False)
    assert config_hash(same) == config_hash(one)
    changes: list[dict[str, object]] = [
        {"cmd": "x"},
        {"env": {"A": "b"}},
        {"setup": "x"},
        {"shell": "sh"},
        {"login": True},
        {"persistent": False},
        {"docker": Container("c")},
        {"docker": Container("c", user="u")},
        {"ready_check": ReadyCheck(command="x")},
        {"ready_check": ReadyCheck(log="x")},
        {"ready_check": ReadyCheck(port=1)},
        {"ready_check": ReadyCheck(file="x")},
    ]
    hashes = {config_hash(replace(one, **change)) for change in changes}  # type: ignore[arg-type]
    assert len(hashes) == len(changes)
    assert config_hash(one) not in hashes


class TestEnds:
    def test_dependants_come_first(self, inv: Inventory) -> None:
        rounds = ends_with(inv, ["roscore"])
        at = {name: index for index, names in enumerate(rounds) for name in names}
        assert at["nav"] < at["sim"] < at["roscore"]
        assert at["home"] < at["nav"]
        assert at["after"] < at["home"]
        assert at["needs arm"] < at["arm"] < at["lab-pc"] < at["sim"]
        assert "free" not in at

    def test_what_runs_needs_what_it_needs_as_it_runs(self, inv: Inventory) -> None:
        assert by_variant(inv, "nav") and not by_variant(inv, "home") and not by_variant(inv, "arm")
        assert {name for names in ends_with(inv, ["cam"]) for name in names} >= {"cam", "nav", "home"}
        running = {"nav": ("sim", "roscore"), "all of it": ()}
        assert ends_with(inv, ["cam"], running) == [["cam"]]
        assert needed(inv, ["home"]) == ["home", "nav", "cam", "roscore", "sim"]

    def test_nobody_else(self, inv: Inventory) -> None:
        assert ends_with(inv, ["a+b", "free"]) == [["a+b", "free"]]
        assert ends_with(inv, ["after"]) == [["after"]]

    def test_a_group_takes_along_what_it_is_of(self) -> None:
        inv = inventory.read(
            "core: {cmd: x}\na: {cmd: x, depends: [core]}\nb: {cmd: x}\nuser: {cmd: x, depends: [b]}\n"
            "inner: {cmd: x, persistent: false, depends: [b]}\n"
            "group: {cmd: x, persistent: false, depends: [a, inner]}"
        )
        names = {name for names in ends_with(inv, ["group"]) for name in names}
        assert names == {"group", "a", "inner", "b", "user"}
        assert {name for names in ends_with(inv, ["a"]) for name in names} == {"a", "group"}

    def test_variants_that_go_round_together(self) -> None:
        inv = inventory.read(
            "a: {cmd: x, variants: {v: {depends: [b]}}}\nb: {cmd: x, variants: {w: {depends: [a]}}}\n"
            "c: {cmd: x, depends: [a]}\nd: {cmd: x}"
        )
        assert ends_with(inv, ["a"]) == [["c"], ["a", "b"]]


class TestCourse:
    @pytest.fixture
    def course(self, inv: Inventory) -> Course:
        return Course(build(inv, ["all of it"]))

    def test_what_may_begin(self, course: Course) -> None:
        assert course.take() == ["roscore", "cam"]
        assert course.take() == []
        course.good("cam")
        assert course.take() == []
        course.good("roscore")
        assert course.take() == ["sim"]
        assert not course.settled
        for name in ("sim", "nav", "home", "all of it"):
            course.good(name)
            course.take()
        assert course.settled
        assert course.errors == {}

    def test_a_failure_takes_its_dependants_with_it_and_no_others(self, course: Course) -> None:
        course.take()
        course.good("roscore")
        course.take()
        assert course.bad("sim", LauncherError("sim: broken")) == ["nav", "home", "all of it"]
        assert not course.settled
        course.good("cam")
        assert course.settled
        assert course.take() == []
        because = {name: e.because for name, e in course.errors.items() if isinstance(e, NotStarted)}
        assert because == {"nav": "sim", "home": "nav", "all of it": "home"}
        assert [str(error) for error in causes(course.errors)] == ["sim: broken"]

    def test_one_that_was_ready_and_dies_holds_back_who_has_not_begun(self, course: Course) -> None:
        course.take()
        course.good("roscore")
        course.take()
        assert course.bad("roscore", LauncherError("x")) == ["nav", "home", "all of it"]
        assert course.step("sim") is Step.BEGUN
        course.good("sim")
        assert course.take() == []

    def test_illegal_steps_change_nothing(self, course: Course) -> None:
        with pytest.raises(ValueError, match="sim cannot be good: it is waiting"):
            course.good("sim")
        course.take()
        course.good("cam")
        with pytest.raises(ValueError, match="cam cannot be good"):
            course.good("cam")
        assert course.step("cam") is Step.GOOD

    def test_the_way_back(self, inv: Inventory) -> None:
        stack = build(inv, ["all of it"])
        assert ending_rounds(stack, ["roscore", "nav", "cam"]) == [["nav"], ["roscore", "cam"]]
