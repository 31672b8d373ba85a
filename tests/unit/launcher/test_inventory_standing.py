"""What of an inventory with mistakes stands all the same: for kill, status, logs, attach."""

from __future__ import annotations

from dataclasses import replace

import pytest

from launcher import inventory
from launcher.errors import InventoryError
from launcher.inventory import read_standing
from launcher.model import Machine

GOOD = """
context: {session: lab, params: {word: hello}}
hosts:
  gate: {machine: me@gate.example}
  lab-pc:
    machine: robot@lab-pc.example
    aliases: [lab]
    ssh: {jump: gate}
    variants: {debug: {server: "{server} -v"}, moved: {machine: robot@other.example}}
  arm: {machine: robot@arm.example, docker: arm_driver}
processes:
  core: {cmd: core, host: lab-pc}
  nav: {cmd: nav, host: arm, depends: [core]}
  here: {cmd: here}
"""
NAMES = {"local", "gate", "lab-pc", "arm", "core", "nav", "here"}


def wrong(old: str, new: str) -> inventory.Inventory:
    text = GOOD.replace(old, new)
    assert text != GOOD
    with pytest.raises(InventoryError):
        inventory.read(text, "se-remote.yaml")
    found = read_standing(text, "se-remote.yaml")
    assert found.problems
    return found


def names(found: inventory.Inventory) -> set[str]:
    return {*found.hosts(), *found.processes()}


def test_a_right_file_is_as_ever():
    found = read_standing(GOOD, "se-remote.yaml")
    assert found == inventory.read(GOOD, "se-remote.yaml")
    assert (found.problems, found.document.left_out, names(found)) == ((), (), NAMES)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("cmd: nav,", "cmd: {world},"),
        ("cmd: nav,", "cmd: nav, cmd: other,"),
        ("depends: [core]", "depends: [cora]"),
        ("depends: [core]", "depends: [core], ready_check: {prot: 1}"),
        ("docker: arm_driver", "docker: arm_driver, env: [A]"),
        ("docker: arm_driver", "docker: arm_driver, lease: soon"),
        ("word: hello", "word: [a]"),
        ("cmd: core,", "cmd: core, depends: [nav],"),
    ],
)
def test_a_mistake_in_what_runs_leaves_nothing_out(old, new):
    found = wrong(old, new)
    assert (names(found), found.document.left_out) == (NAMES, ())


@pytest.mark.parametrize(
    ("old", "new", "left_out"),
    [
        ("robot@arm.example", "robot@@arm", {"arm", "nav"}),
        ("machine: robot@arm.example, ", "", {"arm", "nav", "lab-pc", "core"}),
        ("docker: arm_driver", "dokcer: arm_driver", {"arm", "nav"}),
        ("docker: arm_driver", "docker: {container: arm, image: x}", {"arm", "nav"}),
        ("docker: arm_driver", "docker: arm_driver, machine: robot@b.example", {"arm", "nav", "here"}),
        ("{machine: robot@arm.example, docker: arm_driver}", "", {"arm", "nav"}),
        ("{machine: robot@arm.example, docker: arm_driver}", "robot@arm.example", {"arm", "nav"}),
        ("{machine: me@gate.example}", "{machine: [7]}", {"gate", "lab-pc", "core"}),
        ("{machine: me@gate.example}", "", {"gate", "lab-pc", "core"}),
        ("cmd: core, host: lab-pc", "cmd: core, host: lab-cp", {"core"}),
        ("cmd: core, host: lab-pc}", "cmd: core}\n  a host: lab-pc", {"core", "a host"}),
        ("cmd: here", "cmd: here, session: a.b", {"here"}),
        ("  here: {cmd: here}", "  lab: {cmd: here}", {"lab"}),
        ("  here: {cmd: here}", "  gate: {cmd: here}", {"gate", "lab-pc", "core"}),
        ("  here: {cmd: here}", "  here: {cmd: here}\n  here: {cmd: there}", {"here"}),
        ("  here: {cmd: here}", "  here: {machine: local}", {"here", "nav"}),
    ],
)
def test_a_mistake_in_where_it_is_leaves_out_what_it_concerns(old, new, left_out):
    found = wrong(old, new)
    assert set(found.document.left_out) == left_out
    assert names(found) == NAMES - left_out - ({"here"} if "here:" in old and "here:" not in new else set())


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("session: lab", "session: a.b"),
        ("session: lab", "sesion: lab"),
        ("context: {", "context: [{"),
        ("hosts:", "hosts: 7\nothers:"),
        ("processes:", "hosts:"),
        ("  here: {cmd: here}", "  here: {cmd: &x here, cmd: there}\n  more: {cmd: *x}"),
        ("cmd: here", "cmd: [here"),
        ("context:", "contxt:"),
        ("context:", "con.text:"),
        ("  here: {cmd: here}", "robots: {}"),
    ],
)
def test_a_mistake_that_may_concern_each_leaves_out_all(old, new):
    found = wrong(old, new)
    assert names(found) == {"local"}
    assert found.document.left_out


def test_what_cannot_be_read_never_becomes_this_machine():
    found = wrong("robot@arm.example", "robot@@arm")
    assert all(found.resolve(name).machine != Machine() for name in found.hosts() if name != "local")
    with pytest.raises(InventoryError, match='not clear where "arm" is'):
        inventory.resolve_machine_arg("arm", found)
    assert found.place_of_process("core").machine == Machine("lab-pc.example", "robot")


def test_an_entry_for_this_machine_that_is_unclear_is_not_this_machine():
    assert "local" not in read_standing("hosts: {local: {dokcer: box}}").hosts()
    assert "local" in read_standing("hosts: {arm: {}}").hosts()


def test_an_alias_of_two_is_nobodys():
    found = wrong("docker: arm_driver", "docker: arm_driver, aliases: [lab]")
    assert names(found) == NAMES
    with pytest.raises(InventoryError, match='unknown host "lab"'):
        inventory.resolve_machine_arg("lab", found)
    assert inventory.resolve_machine_arg("lab-pc", found).name == "lab-pc"


@pytest.mark.parametrize(
    ("old", "new", "user"),
    [
        ("docker: arm_driver", "docker: arm_driver, aliases: [lab]", "core: {cmd: core, host: lab}"),
        ("here: {cmd: here}", "lab: {cmd: here}", "core: {cmd: core, host: lab}"),
    ],
)
def test_what_is_reached_by_a_name_of_two_is_not_on_this_machine(old, new, user):
    text = GOOD.replace("core: {cmd: core, host: lab-pc}", user)
    text = text.replace("hosts:", "hosts:\n  far: {machine: me@far.example, ssh: {jump: lab}}")
    assert user in text and inventory.read(text).place_of_process("core").machine.host == "lab-pc.example"
    found = read_standing(text.replace(old, new))
    assert {"core", "far"} <= set(found.document.left_out)
    assert names(found).isdisjoint({"core", "far"})


def test_a_variant_that_is_unclear_cannot_be_chosen():
    found = wrong("robot@other.example", "robot@@other")
    assert found.variants("lab-pc") == {"debug": None}
    assert found.document.left_out == ()


def test_a_place_needs_no_values_of_what_runs():
    text = GOOD.replace("cmd: core", 'cmd: "core {unset}"').replace(
        "aliases:", 'env: {A: "{b}"}\n    aliases:'
    )
    found = inventory.read(text)
    with pytest.raises(InventoryError, match="has no value"):
        found.resolve("lab-pc")
    (place,) = inventory.resolve_machine_args(["lab"], found, places=True)
    assert (place.name, str(place.machine), place.ssh.jump) == ("lab-pc", "robot@lab-pc.example", "gate")
    assert found.place_of_process("core").machine == place.machine


def test_settings_for_what_was_left_out_do_not_stand_in_the_way():
    found = wrong("robot@arm.example", "robot@@arm")
    settings = inventory.read_settings({"SE_REMOTE_VARIANTS": "arm=sim"})
    (place,) = inventory.resolve_machine_args(["lab-pc"], found, settings, places=True)
    assert place.name == "lab-pc"


def test_in_the_form_of_concert_launcher():
    found = read_standing("a: {cmd: x, machine: me@a}\nb: {cmd: y, machine: me@@b}\nc: {cmd: z, host: 3}\n")
    assert found.processes() == ["a"]
    assert set(found.document.left_out) == {"b", "c"}


def test_what_a_line_may_have_cut_off_is_left_out_in_any_form_and_with_any_name():
    found = read_standing("a:\n  cmd: x\ndocker:\n  container: box\nb: {cmd: y}\n")
    assert found.processes() == ["b"]
    found = read_standing("processes:\n  a:\n    cmd: x\n  b.c:\n    machine: me@a\n  d: {cmd: y}\n")
    assert found.processes() == ["d"]


def test_more_mistakes_than_are_listed_leave_out_all():
    many = "".join(f"  h{number}: {{machine: robot@m, leese: 1}}\n" for number in range(150))
    found = read_standing(f"hosts:\n{many}  good: {{machine: robot@good}}\n")
    assert found.hosts() == ["local"]


LONG = """context:
  session: lab
hosts:
  gate:
    machine: me@gate.example
    aliases: [door]
  lab-pc:
    machine: robot@lab-pc.example
    aliases: [lab]
    ssh: {jump: me@gate.example}
    variants:
      moved: {machine: robot@other.example}
  arm:
    machine: robot@arm.example
    docker: arm_driver
    setup: source x
processes:
  core:
    cmd: core
    host: lab
  nav:
    cmd: nav
    machine: you@there.example
    force_sigquit: true
""".splitlines()


def test_a_line_that_slipped_puts_nothing_elsewhere():
    """Whatever line is lost, indented, or stands in another place, too: what stands is where it was."""

    def places(found: inventory.Inventory) -> dict[str, object]:
        hosts = {name: replace(found.place_of_host(name), source="") for name in found.hosts()}
        processes = {name: replace(found.place_of_process(name), source="") for name in found.processes()}
        return {**hosts, **processes}

    good = inventory.read("\n".join(LONG))
    right, aliases = places(good), good.document.aliases
    slipped = [[*LONG[:at], *LONG[at + 1 :]] for at in range(len(LONG))]
    slipped += [
        [*LONG[:at], new, *LONG[at + 1 :]] for at, line in enumerate(LONG) for new in (f"  {line}", line[2:])
    ]
    slipped += [[*LONG[:at], line, *LONG[at:]] for at in range(len(LONG)) for line in LONG]
    for at, line in enumerate(LONG):
        rest = [*LONG[:at], *LONG[at + 1 :]]
        slipped += [[*rest[:to], line, *rest[to:]] for to in range(len(LONG))]
    wrong = 0
    for lines in slipped:
        found = read_standing("\n".join(lines))
        if found.problems:
            wrong += 1
            there = {name: spec for name, spec in places(found).items() if name != "local"}
            assert there == {name: right.get(name) for name in there}, "\n".join(lines)
            assert found.document.aliases.items() <= aliases.items(), "\n".join(lines)
    assert wrong > 700
