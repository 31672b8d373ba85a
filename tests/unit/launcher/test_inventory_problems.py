"""Everything that can be wrong with an inventory: where, what was expected, what was meant. Never a traceback."""
# ruff: noqa: E501 (a table reads by its columns)

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from launcher import inventory
from launcher.errors import InventoryError
from launcher.inventory import yamlnodes
from launcher.inventory.keys import CONTEXT_KEYS, DOCKER_KEYS, FILE_KEYS, HOST_KEYS, PROCESS_KEYS, SSH_KEYS
from launcher.model import Problem


def problems_of(text: str) -> list[Problem]:
    with pytest.raises(InventoryError) as caught:
        inventory.read(text, "lab.yaml")
    assert caught.value.exit_code == 2
    assert all(p.file == "lab.yaml" for p in caught.value.problems)
    return list(caught.value.problems)


H = "hosts:\n  a: {machine: x}\n"
P = "processes:\n  p: {cmd: x}\n"

ONE_PROBLEM = [
    # text, line, YAML path, message, hint
    ("", 0, "", "is empty", "hosts:"),
    ("# nothing\n", 0, "", "is empty", ""),
    ("- a", 1, "", "expected a mapping with context, hosts, processes, found a list", ""),
    ("just text", 1, "", 'found "just text"', ""),
    ("a: [", 1, "", "is not YAML", ""),
    ("hosts:\n\ta: b", 2, "", "is not YAML", "spaces"),
    ("hosts:\n  a: {machine: x, server: {server} -v}", 2, "", "is not YAML", "in quotes"),
    ("hosts:\n  a:\n    setup: echo a: b", 3, "", "is not YAML", '": "'),
    ("hosts: *x", 1, "", "*x has no anchor &x before it", ""),
    ("a: &lab x\nhosts: *lap", 2, "", "*lap has no anchor", 'did you mean "lab"'),
    ("hosts: &h {a: *h}", 1, "", "stands inside of what it names", ""),
    ("hosts:\n---\nhosts:", 2, "", "a second document", ""),
    (H + "  b: !!python/object:os.system {machine: x}", 3, "hosts.b", "tags have no meaning", ""),
    (H + "  b: {machine: !secret x}", 3, "hosts.b.machine", "tags have no meaning", ""),
    (H + "  b: {<<: x, machine: x}", 3, "hosts.b", "<< takes a mapping", ""),
    (H + "  b: {[x]: y, machine: x}", 3, "hosts.b", "a key must be a word", "quotes"),
    (H + "  a: {machine: y}", 3, "hosts.a", 'the key "a" stands here twice', "first on line 2"),
    (H + "  b: {machine: y, machine: z}", 3, "hosts.b.machine", "stands here twice", "first on line 3"),
    (H + "proceses: {}", 3, "proceses", 'unknown key "proceses"', 'did you mean "processes"?'),
    ("hots: {a: {machine: x}}", 1, "hots", 'unknown key "hots"', 'did you mean "hosts"?'),
    ("hosts: [a]", 1, "hosts", "expected a mapping of host names, found a list", ""),
    ("context: x\nhosts:", 1, "context", "expected a mapping with session, params", ""),
    ("context: {sesion: x}\nhosts:", 1, "context.sesion", "unknown key", 'did you mean "session"?'),
    ("context: {session: a.b}\nhosts:", 1, "context.session", "a name for a tmux session", ""),
    ("context: {params: [x]}\nhosts:", 1, "context.params", "expected parameters", ""),
    ("context: {params: {a-b: 1}}\nhosts:", 1, "context.params.a-b", "is no name of a parameter", ""),
    ("context: {params: {a: }}\nhosts:", 1, "context.params.a", "found nothing", '""'),
    ("context: {params: {a: [1]}}\nhosts:", 1, "context.params.a", "found a list", ""),
    ("context: {params: {a: 1, b: '{a}/x'}}\nhosts:", 1, "context.params.b", "not replaced inside", ""),
    (H + "  b:", 3, "hosts.b", "is empty: at least machine", ""),
    (H + "  b: x", 3, "hosts.b", 'found "x"', ""),
    (H + "  b: {}", 3, "hosts.b", 'the key "machine" is missing', "user@host"),
    (H + "  b: {machin: x, machine: y}", 3, "hosts.b.machin", "unknown key", 'did you mean "machine"?'),
    (H + "  b: {machine: }", 3, "hosts.b.machine", "found nothing", ""),
    (H + "  b: {machine: [x]}", 3, "hosts.b.machine", "found a list", ""),
    (H + "  b: {machine: 'x@y:z'}", 3, "hosts.b.machine", '"z" is no port', ""),
    (H + "  b: {machine: '{m}'}", 3, "hosts.b.machine", "expected local", "parameters are replaced in"),
    (H + "  b: {machine: 'fe80::1'}", 3, "hosts.b.machine", "brackets: [fe80::1]", ""),
    (H + "  b c: {machine: x}", 3, "hosts.b c", "is no name of a host", "letters, digits"),
    (H + "  localhost: {machine: x}", 3, "hosts.localhost", "always an address", ""),
    (H + "  local: {machine: x}", 3, "hosts.local.machine", "the host local is this machine", ""),
    (H + "  b: {machine: x, aliases: b2}", 3, "hosts.b.aliases", "expected a list", "[b2]"),
    (H + "  b: {machine: x, aliases: [a]}", 3, "hosts.b.aliases[0]", "is the name of another host", "lab.yaml:2"),
    (H + "  b: {machine: x, aliases: [b]}", 3, "hosts.b.aliases[0]", "own name", ""),
    (H + "  b: {machine: x, aliases: [c, c]}", 3, "hosts.b.aliases[1]", "already an alias of b", ""),
    (H + "  b: {machine: x, aliases: [local]}", 3, "hosts.b.aliases[0]", "another host", ""),
    (H + "  b: {machine: x, aliases: [localhost]}", 3, "hosts.b.aliases[0]", "always an address", ""),
    (H + "  b: {machine: x, ssh: {identiy: y}}", 3, "hosts.b.ssh.identiy", "unknown key", '"identity"'),
    (H + "  b: {machine: x, ssh: key}", 3, "hosts.b.ssh", "expected a mapping", ""),
    (H + "  b: {machine: x, ssh: {jump: b}}", 3, "hosts.b.ssh.jump", "jumps in a circle: b → b", ""),
    (H + "  b: {machine: x, docker: [y]}", 3, "hosts.b.docker", "container, image, run", ""),
    (H + "  b: {machine: x, docker: {}}", 3, "hosts.b.docker", "{container: NAME} or", ""),
    (H + "  b: {machine: x, docker: {container: y, image: z}}", 3, "hosts.b.docker", "{container: NAME} or", ""),
    (H + "  b: {machine: x, docker: {container: y, run: [z]}}", 3, "hosts.b.docker.run", "need an image", ""),
    (H + "  b: {machine: x, docker: -v}", 3, "hosts.b.docker", "the name of a container", ""),
    (H + "  b: {machine: x, shell: bash -l}", 3, "hosts.b.shell", "path of a program", ""),
    (H + "  b: {machine: x, shell: /usr/bin/fish}", 3, "hosts.b.shell", "bash, sh, zsh or ksh", ""),
    (H + "  b: {machine: x, setup: [x]}", 3, "hosts.b.setup", "expected shell lines", ""),
    (H + '  b: {machine: x, setup: "a\\0b"}', 3, "hosts.b.setup", "NUL", ""),
    (H + "  b: {machine: x, setup: {world}}", 3, "hosts.b.setup", "found a mapping", "in quotes"),
    (H + "  b: {machine: x, env: [A=1]}", 3, "hosts.b.env", "expected variables", ""),
    (H + "  b: {machine: x, env: {A B: 1}}", 3, "hosts.b.env.A B", "is no name of a variable", ""),
    (H + "  b: {machine: x, env: {A: [1]}}", 3, "hosts.b.env.A", "found a list", ""),
    (H + "  b: {machine: x, push: {to: x}}", 3, "hosts.b.push", 'the key "from" is missing', ""),
    (H + "  b: {machine: x, push: {from: x, to: ../x}}", 3, "hosts.b.push.to", "without /", ""),
    (H + "  b: {machine: x, push: [x, scenario, x]}", 3, "hosts.b.push[2]", "in the list already", ""),
    (H + "  b: {machine: x, push: [{from: x, too: y}]}", 3, "hosts.b.push[0].too", 'unknown key "too"', '"to"'),
    (H + "  b: {machine: x, path_map: [/a]}", 3, "hosts.b.path_map", "expected a mapping", ""),
    (H + "  b: {machine: x, path_map: {a: /b}}", 3, "hosts.b.path_map.a", "no absolute path", "/…"),
    (H + "  b: {machine: x, path_map: {/a: b}}", 3, "hosts.b.path_map./a", "absolute path on the host", ""),
    (H + "  b: {machine: x, path_map: {/: /b}}", 3, "hosts.b.path_map./", "everything cannot", ""),
    (H + '  b: {machine: x, python: ""}', 3, "hosts.b.python", "expected a path", ""),
    (H + '  b: {machine: x, server: " "}', 3, "hosts.b.server", "expected a shell command", ""),
    (H + "  b: {machine: x, depends: [q]}", 3, "hosts.b.depends[0]", "neither a process nor a host", ""),
    (H + "  b: {machine: x, exclusive: [y]}", 3, "hosts.b.exclusive", "true, false or the name", ""),
    (H + "  b: {machine: x, exclusive: a b}", 3, "hosts.b.exclusive", "true, false or the name", ""),
    (H + "  b: {machine: x, lease: 0}", 3, "hosts.b.lease", "expected a duration", ""),
    (H + "  b: {machine: x, lease: -1}", 3, "hosts.b.lease", "expected a duration", ""),
    (H + "  b: {machine: x, lease: 5m}", 3, "hosts.b.lease", "expected a duration", "min"),
    (H + "  b: {machine: x, lease: .nan}", 3, "hosts.b.lease", "expected a duration", ""),
    (H + "  b: {machine: x, on_loss: stopp}", 3, "hosts.b.on_loss", "stop or continue", 'did you mean "stop"?'),
    (H + "  b: {machine: x, provision: always}", 3, "hosts.b.provision", "expected auto", ""),
    (H + "  b: {machine: x, provision: {auto: perhaps}}", 3, "hosts.b.provision.auto", "expected true", ""),
    (H + "  b: {machine: x, provision: {packages: [y]}}", 3, "hosts.b.provision.packages", "unknown", ""),
    (H + "  b: {machine: x, provision: [[y]]}", 3, "hosts.b.provision[0]", "expected a name", ""),
    (H + "  b: {machine: x, provisoin: auto}", 3, "hosts.b.provisoin", "unknown key", '"provision"'),
    (H + "  b: {machine: x, variants: [y]}", 3, "hosts.b.variants", "expected variants", ""),
    (H + "  b: {machine: x, variants: {y: []}}", 3, "hosts.b.variants.y", "without choices", ""),
    (H + "  b: {machine: x, variants: {y: z}}", 3, "hosts.b.variants.y", 'found "z"', ""),
    (H + "  b: {machine: x, variants: {y: {serer: z}}}", 3, "hosts.b.variants.y.serer", "unknown", '"server"'),
    (H + "  b: {machine: x, variants: {y: {aliases: [z]}}}", 3, "hosts.b.variants.y.aliases", "unknown key", ""),
    (H + "  b: {machine: x, variants: {y: [{c: , d: }]}}", 3, "hosts.b.variants.y[0]", "expected a choice", ""),
    (H + "  b: {machine: x, variants: {y: [c, c]}}", 3, "hosts.b.variants.y[1]", "stands here twice", ""),
    (H + "  b: {machine: x, variants: {y: , z: [y]}}", 3, "hosts.b.variants.z[0]", "stands here twice", ""),
    (H + "  b: {machine: x, variants: {y: [z], z: }}", 3, "hosts.b.variants.z", "stands here twice", ""),
    (H + "  b: {machine: x, variants: {y+: }}", 3, "hosts.b.variants.y+", "is no name of a variant", ""),
    (P + "  q:", 3, "processes.q", "is empty: at least cmd", ""),
    (P + "  q: {machine: x}", 3, "processes.q", 'the key "cmd" is missing', ""),
    (P + "  q: {cmd: }", 3, "processes.q.cmd", "found nothing", ""),
    (P + "  q: {cmd: {world}}", 3, "processes.q.cmd", "found a mapping", "in quotes"),
    (P + "  q: {cmd: x, depends: [pp]}", 3, "processes.q.depends[0]", "neither", 'did you mean "p"?'),
    (P + "  q: {cmd: x, depends: p}", 3, "processes.q.depends", "expected a list", "[p]"),
    (P + "  q: {cmd: x, persistent: maybe}", 3, "processes.q.persistent", "true or false", ""),
    (P + "  q: {cmd: x, host: loca}", 3, "processes.q.host", "unknown host", 'did you mean "local"?'),
    (P + "  q: {cmd: x, host: local, machine: y}", 3, "processes.q.machine", "comes from the host local", ""),
    (P + "  local: {cmd: x}", 3, "processes.local", "local is always a host", ""),
    (P + "  q: {cmd: x, depends: [q]}", 3, "processes.q.depends[0]", "depends in a circle: q → q", ""),
    (P + "  q: {cmd: x, ready_check: [x]}", 3, "processes.q.ready_check", "expected a shell command, {log", ""),
    (P + "  q: {cmd: x, ready_check: {world}}", 3, "processes.q.ready_check", "expected a shell command", "in quotes"),
    (P + "  q: {cmd: x, ready_check: {lok: x}}", 3, "processes.q.ready_check.lok", "unknown key", 'did you mean "log"?'),
    (P + "  q: {cmd: x, ready_check: {log: x, port: 1}}", 3, "processes.q.ready_check", "one of them", ""),
    (P + "  q: {cmd: x, ready_check: {log: ''}}", 3, "processes.q.ready_check.log", "expected an extended regular", ""),
    (P + "  q: {cmd: x, login: maybe}", 3, "processes.q.login", "expected true or false", ""),
    (H + "processes: {a: {cmd: x}}", 3, "processes.a", "also the name of a host", ""),
    ("a: {cmd: x}\nb: {cmd: x, dependz: [a]}", 2, "b.dependz", "unknown key", 'did you mean "depends"?'),
    ("context: {session: x}\na:", 2, "a", "is empty: at least cmd", ""),
]  # fmt: skip


@pytest.mark.parametrize(
    ("text", "line", "path", "message", "hint"), ONE_PROBLEM, ids=[c[0][-60:] for c in ONE_PROBLEM]
)
def test_one_problem(text: str, line: int, path: str, message: str, hint: str) -> None:
    (problem,) = problems_of(text)
    assert message in str(problem)
    assert (problem.line, problem.path) == (line, path)
    assert hint in problem.hint + problem.message


@pytest.mark.parametrize(
    ("section", "key"), [("hosts", key) for key in HOST_KEYS] + [("processes", key) for key in PROCESS_KEYS]
)
def test_every_key_refuses_a_wrong_type(section: str, key: str) -> None:
    needed = {"hosts": {"machine": "x"}, "processes": {"cmd": "x"}}[section]
    entry = {**needed, key: {"x": {"y": ["z"]}}}
    assert any(
        p.path.startswith(f"{section}.e.{key}") for p in problems_of(yaml.safe_dump({section: {"e": entry}}))
    )


ALL_AT_ONCE = """
context: {sesion: x}
hosts:
  lab: {machin: x, lease: 5m}
  arm: {machine: y@z:0, aliases: [lab], depends: [sim]}
processes:
  sim: {cmd: x, depends: [sim2], host: labb}
  sim2: {cmd: x, depends: [sim]}
other: 1
"""


def test_all_problems_at_once_in_the_order_of_the_file() -> None:
    problems = problems_of(ALL_AT_ONCE)
    assert [(p.line, p.path) for p in problems] == [
        (2, "context.sesion"),
        (4, "hosts.lab.machin"),
        (4, "hosts.lab.lease"),
        (4, "hosts.lab"),
        (5, "hosts.arm.machine"),
        (5, "hosts.arm.aliases[0]"),
        (7, "processes.sim.host"),
        (8, "processes.sim2.depends[0]"),
        (9, "other"),
    ]
    assert "sim → sim2 → sim" in problems[7].message


@pytest.mark.parametrize(
    "text",
    [
        "processes: {a: {cmd: x, depends: [b]}, b: {cmd: x, depends: [c]}, c: {cmd: x, depends: [a]}}",
        "hosts: {a: {machine: x, depends: [b]}, b: {machine: x, aliases: [bb], depends: [a]}}",
        "hosts: {a: {machine: x, depends: [p]}}\nprocesses: {p: {cmd: x, depends: [a]}}",
        "processes: {a: {cmd: x, variants: {v: {depends: [b]}}}, b: {cmd: x, depends: [a]}}",
        "hosts: {a: {machine: x, ssh: {jump: b}}, b: {machine: y, ssh: {jump: 'c, a'}}}",
    ],
)
def test_circles(text: str) -> None:
    (problem,) = problems_of(text)
    assert "in a circle: a" in problem.message
    assert problem.message.endswith("→ a") or "b → a → b" in problem.message


def test_what_looks_like_a_circle_but_is_none() -> None:
    text = """
hosts: {robot: {machine: x, depends: [sim]}}
processes:
  sim: {cmd: x, host: robot}
  a: {cmd: x, depends: [sim, b]}
  b: {cmd: x, depends: [sim]}
  c: {cmd: x, variants: {v: {depends: [d]}}}
  d: {cmd: x, variants: {v: {depends: [e]}}}
  e: {cmd: x}
"""
    assert inventory.read(text).check() == []


def test_a_long_chain_is_no_recursion() -> None:
    chain = "".join(
        f"  p{i}: {{cmd: x, depends: [p{i - 1}]}}\n" for i in range(1, 2 * sys.getrecursionlimit())
    )
    assert len(inventory.read("processes:\n  p0: {cmd: x}\n" + chain).processes()) > 1000


BOMB = "a: &a [x,x,x,x,x,x,x,x]\n" + "".join(
    f"{chr(98 + i)}: &{chr(98 + i)} [{','.join(['*' + chr(97 + i)] * 8)}]\n" for i in range(20)
)


@pytest.mark.parametrize(
    "text",
    [
        BOMB,
        "[" * 100_000,
        "{a: " * 50_000,
        "- " * 10_000 + "x",
        "a0: &a0 [x]\n" + "".join(f"a{i}: &a{i} [*a{i - 1}]\n" for i in range(1, 500)),
        "a: &a {"
        + ",".join(f"k{i}: 1" for i in range(1000))
        + "}\n"
        + "".join(f"b{i}: {{<<: *a}}\n" for i in range(9000)),
        "x" * (1 << 20) + "x",
        "é" * (1 << 19) + "x",
        "hosts:\n" + "  h: {machine: x}\n" * 30_000,
        "processes:\n" + "".join(f"  p{i}: {{cmd: x, depends: [q{i}]}}\n" for i in range(9_000)),
    ],
    ids=[
        "alias bomb",
        "[",
        "{",
        "-",
        "alias depth",
        "merge bomb",
        "huge",
        "huge UTF-8",
        "many",
        "many names",
    ],
)
@pytest.mark.timeout(30)
def test_hostile_texts_end_soon_and_in_few_lines(text: str) -> None:
    problems = problems_of(text) if "h: {" not in text else None
    if problems is None:
        with pytest.raises(InventoryError) as caught:
            inventory.read(text)
        problems = list(caught.value.problems)
        assert str(problems[-1]).startswith("and ")
    assert len(problems) <= 101


class TestFiles:
    @pytest.mark.parametrize(
        ("data", "line", "message"),
        [
            (b"", 0, "is empty"),
            (b"\xff\xfe\x00", 1, "is not text in UTF-8"),
            (b"hosts:\n  a: {machine: \xe9}\n", 2, "is not text in UTF-8"),
            (b"\x7fELF\x02\x01\x01\x00\x00", 0, "is not text in YAML"),
            (b"\0" * 100, 0, "is not text in YAML"),
            (b"#" * ((1 << 20) + 1), 0, "is larger than 1 MiB"),
        ],
    )
    def test_bad_files(self, tmp_path: Path, data: bytes, line: int, message: str) -> None:
        path = tmp_path / "inv.yaml"
        path.write_bytes(data)
        with pytest.raises(InventoryError) as caught:
            inventory.load(path)
        (problem,) = caught.value.problems
        assert (problem.file, problem.line) == (str(path), line)
        assert message in problem.message

    def test_no_file(self, tmp_path: Path) -> None:
        with pytest.raises(InventoryError, match="no such file"):
            inventory.load(tmp_path / "nope")
        with pytest.raises(InventoryError, match="is a folder"):
            inventory.load(tmp_path)
        with pytest.raises(InventoryError, match="cannot be read"):
            inventory.load(Path("a\0b"))

    def test_an_endless_file(self) -> None:
        with pytest.raises(InventoryError, match="1 MiB"):
            inventory.load(Path("/dev/zero"))

    def test_a_byte_order_mark_is_fine(self, tmp_path: Path) -> None:
        path = tmp_path / "inv.yaml"
        path.write_bytes(b"\xef\xbb\xbfhosts: {a: {machine: x}}")
        assert inventory.load(path).hosts() == ["a", "local"]

    def test_reading_is_an_argument(self) -> None:
        def refused(path: Path) -> bytes:
            raise PermissionError(13, "Permission denied")

        with pytest.raises(InventoryError, match="cannot be read: Permission denied"):
            inventory.load(Path("x"), refused)


# --- resolving


INV = """
context: {params: {distro: jazzy}}
hosts:
  lab-pc:
    machine: local
    aliases: [lab]
    setup: source /opt/{distroo}/setup.bash {hidden}
    env: {A: "{later}"}
    variants:
      debug:
      group: [{one: {params: {later: x}}}, two]
processes:
  sim: {cmd: "gz {world}"}
"""


def resolving(name: str, *variants: str, **params: str) -> list[Problem]:
    with pytest.raises(InventoryError) as caught:
        inventory.read(INV, "lab.yaml").resolve(name, variants, params)
    return list(caught.value.problems)


def test_missing_parameters_show_the_ways_out() -> None:
    problems = resolving("lab")
    assert [(p.line, p.path) for p in problems] == [
        (7, "hosts.lab-pc.setup"),
        (7, "hosts.lab-pc.setup"),
        (8, "hosts.lab-pc.env.A"),
    ]
    first = problems[0].hint
    for way in (
        'did you mean "distro"',
        "context.params",
        "--param distroo=",
        "SE_REMOTE_PARAMS",
        "{{distroo}}",
    ):
        assert way in first
    assert "choose a variant that sets it: one" in problems[2].hint


@pytest.mark.parametrize(
    ("name", "variants", "message", "hint"),
    [
        ("labpc", (), 'unknown host "labpc"', 'did you mean "lab-pc"?; known: lab-pc, local, lab'),
        ("", (), 'unknown host ""', "known"),
        ("sim", (), '"sim" is a process, not a host', "hosts: lab-pc"),
        ("lab.example", (), "unknown host", "tcp://lab.example:7613"),
        ("lab+debugg", (), 'lab-pc has no variant "debugg"', 'did you mean "debug"?'),
        ("lab", ("debugg",), 'lab-pc has no variant "debugg"', 'did you mean "debug"?'),
        ("lab+", (), 'lab-pc has no variant ""', "known: debug, one, two"),
        ("lab+group", (), '"group" is a group of variants of lab-pc', "choose one of one, two"),
        ("lab+one", ("two",), "one and two are two variants of the group group", ""),
        ("local+debug", (), 'local has no variant "debug"', "no variants at all"),
    ],
)
def test_unknown_names(name: str, variants: tuple[str, ...], message: str, hint: str) -> None:
    problem = resolving(name, *variants, distroo="x", hidden="y", later="z")[0]
    assert message in problem.message
    assert hint in problem.hint


def test_check_resolves_everything_but_what_a_variant_will_set() -> None:
    problems = inventory.read(INV).check()
    assert [p.path for p in problems] == ["hosts.lab-pc.setup", "hosts.lab-pc.setup", "processes.sim.cmd"]
    assert inventory.read(INV).check({"distroo": "x", "hidden": "y", "world": "z"}) == []


def test_unknown_process() -> None:
    with pytest.raises(InventoryError, match=r'unknown process "simm".*did you mean "sim"'):
        inventory.read(INV).resolve_process("simm")


@pytest.mark.parametrize(
    ("jump", "message"),
    [
        ("local", "this machine"),
        ("localhost", "this machine"),
        ("a b", "expected local, host"),
        ("x,,y", "expected local"),
    ],
)
def test_bad_jumps(jump: str, message: str) -> None:
    with pytest.raises(InventoryError, match=message):
        inventory.read(f"hosts: {{a: {{machine: x, ssh: {{jump: '{jump}'}}}}}}").resolve("a")


# --- whatever comes


def reads_or_reports(text: str) -> None:
    try:
        inv = inventory.read(text)
    except InventoryError as error:
        assert error.problems
        assert all(p.message and "\n" not in p.message for p in error.problems)
    else:
        inv.check()
        for host in inv.hosts():
            for variant in [None, *inv.variants(host)]:
                try:
                    inventory.describe(inv.resolve(host, [variant] if variant else []))
                except InventoryError as error:
                    assert error.problems


@settings(max_examples=300, deadline=None)
@given(st.text())
def test_any_text(text: str) -> None:
    reads_or_reports(text)


@settings(max_examples=300, deadline=None)
@given(st.text(alphabet=":-{}[]&*<!|>%@`'\"#,? \n\tahosts\0\x85\ufeff\ud800"))
def test_any_text_of_yaml_signs(text: str) -> None:
    reads_or_reports(text)


@settings(max_examples=200, deadline=None)
@given(st.binary())
def test_any_bytes(data: bytes) -> None:
    try:
        inventory.load(Path("x"), lambda path: data)
    except InventoryError as error:
        assert error.problems


_KEYS = [
    *FILE_KEYS,
    *CONTEXT_KEYS,
    *HOST_KEYS,
    *PROCESS_KEYS,
    *SSH_KEYS,
    *DOCKER_KEYS,
    "local",
    "a",
    "b c",
    ".x",
    "",
    "<<",
]
_LEAVES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(max_size=5),
    st.sampled_from(["a", "local", "{a}", "u@h:1"]),
)
_VALUES = st.recursive(
    _LEAVES,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(_KEYS), inner, max_size=4),
    max_leaves=15,
)
_ENTRY = st.dictionaries(st.sampled_from([*HOST_KEYS, *PROCESS_KEYS]), _VALUES, max_size=6)
_FILE = st.fixed_dictionaries(
    {},
    optional={
        "context": _VALUES,
        "hosts": _VALUES | st.dictionaries(st.sampled_from(["a", "b", "local"]), _ENTRY, max_size=3),
        "processes": _VALUES | st.dictionaries(st.sampled_from(["p", "q r"]), _ENTRY, max_size=3),
    },
)


@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(_VALUES | _FILE)
def test_any_structure(value: object) -> None:
    reads_or_reports(yaml.safe_dump(value, allow_unicode=True, sort_keys=False))


def test_both_yaml_readers_say_where(monkeypatch: pytest.MonkeyPatch) -> None:
    """libyaml is not everywhere: without it lines and hints are the same."""
    texts = [case[0] for case in ONE_PROBLEM]
    fast = [[(p.line, p.path, p.message.split(":")[0]) for p in problems_of(text)] for text in texts]
    monkeypatch.delattr(yaml, "CSafeLoader", raising=False)
    slow = [[(p.line, p.path, p.message.split(":")[0]) for p in problems_of(text)] for text in texts]
    assert fast == slow


def test_lines_are_those_of_the_file() -> None:
    node, _ = yamlnodes.parse("a:\n  b: |\n    x\n  c:\n    - d\n", "f")
    assert isinstance(node, yamlnodes.Mapping)
    inner = node.items["a"][1]
    assert isinstance(inner, yamlnodes.Mapping)
    assert {key: line for key, (line, _) in inner.items.items()} == {"b": 2, "c": 4}


def test_a_problem_is_one_readable_line() -> None:
    (problem,) = problems_of(H + "  b: {machin: x, machine: y}")
    assert re.match(
        r'lab\.yaml:3: hosts\.b\.machin: unknown key "machin" \(did you mean "machine"\?; known: ',
        str(problem),
    )


def test_a_file_cannot_steer_the_terminal() -> None:
    (problem,) = problems_of('hosts: {"\\e[2Jx\\n": {machine: x}}')
    assert str(problem).isprintable()
    assert r"\x1b[2Jx\n" in str(problem)
