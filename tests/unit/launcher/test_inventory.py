"""What a right inventory comes to."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from launcher import inventory
from launcher.errors import InventoryError
from launcher.inventory import describe, read
from launcher.inventory.kinds import parse_duration, parse_machine
from launcher.model import Container, HostSpec, Machine, Push, ReadyCheck, SshOptions

LAB = """
context:
  session: robots
  params: {distro: jazzy, domain: 7, ws: "~/ws"}
  .defines:
    - &lab robot@lab-pc.example:22
    - &common {env: {A: "1", B: "2"}, lease: 30s}
hosts:
  lab-pc:
    machine: *lab
    aliases: [lab, pc1]
    ssh: {identity: "{ws}/key", known_hosts: ~/.ssh/known_hosts, jump: "gate, me@outer:2222"}
    shell: bash
    setup: |
      source /opt/ros/{distro}/setup.bash
      cd "${HOME}"
    env: {ROS_DOMAIN_ID: "{domain}", X: "{{raw}}"}
    python: "{ws}/bin/python"
    server: "nice {server}"
    ready_timeout: 500ms
    variants:
      debug: {server: "{server} --verbose", env: {X: x, Y: y}}
      distro:
        - humble: {params: {distro: humble}, ready_timeout: 2min}
        - jazzy
      late: {ready_timeout: 8h, ssh: {identity: other}}
  gate: {machine: gate.example}
  merged:
    <<: *common
    machine: local
    env: {A: "9"}
  full:
    machine: "[2001:db8::5]:2222"
    docker: {image: "a/b:c", run: [--gpus, all]}
    depends: [sim, lab, sim]
    exclusive: gpu0
    on_loss: continue
    on_stop: stop {distro}
processes:
  sim:
    cmd: "gz sim {distro}"
    host: lab
    env: {Z: z}
    ready_check: "check {domain}"
    variants:
      v: {cmd: "{cmd} -v", params: {distro: x}}
      HW Type:
        - Base Only: {cmd: "sudo {cmd}"}
  one shot: {cmd: "true", persistent: no, depends: [sim], machine: local, ready_timeout: 0}
"""


@pytest.fixture(scope="module")
def lab() -> inventory.Inventory:
    return read(LAB, "lab.yaml")


def test_a_host_with_everything(lab: inventory.Inventory) -> None:
    assert lab.resolve("lab-pc") == HostSpec(
        name="lab-pc",
        machine=Machine("lab-pc.example", "robot", 22),
        aliases=("lab", "pc1"),
        ssh=SshOptions("~/ws/key", "gate,me@outer:2222", "~/.ssh/known_hosts"),
        shell="bash",
        setup='source /opt/ros/jazzy/setup.bash\ncd "${HOME}"\n',
        env={"ROS_DOMAIN_ID": "7", "X": "{raw}"},
        python="~/ws/bin/python",
        server="nice {server}",
        ready_timeout=0.5,
        session="robots",
        source="lab.yaml:9",
    )


def test_defaults() -> None:
    assert read("hosts: {a: {machine: x}}").resolve("a") == HostSpec(
        "a", Machine("x"), source="se-remote.yaml:1"
    )


def test_keys_of_later_issues_are_parsed(lab: inventory.Inventory) -> None:
    spec = lab.resolve("full")
    assert spec.docker == Container(image="a/b:c", run=("--gpus", "all"))
    assert (spec.depends, spec.exclusive, spec.on_loss, spec.on_stop) == (
        ("sim", "lab-pc"),
        "gpu0",
        "continue",
        "stop jazzy",
    )
    assert inventory.unsupported(spec) == []


def test_merge_keys(lab: inventory.Inventory) -> None:
    spec = lab.resolve("merged")
    assert (spec.env, spec.lease) == ({"A": "9"}, 30.0)


@pytest.mark.parametrize("name", ["lab-pc+debug+humble", "lab+humble+debug", "pc1+debug+humble+debug"])
def test_variants_name_a_host_in_sorted_order(lab: inventory.Inventory, name: str) -> None:
    spec = lab.resolve(name)
    assert spec.name == "lab-pc+debug+humble"
    assert spec.server == "{server} --verbose"
    assert spec.env == {"ROS_DOMAIN_ID": "7", "X": "x", "Y": "y"}
    assert "humble" in spec.setup
    assert spec.ready_timeout == 120.0


def test_the_variant_further_down_wins(lab: inventory.Inventory) -> None:
    spec = lab.resolve("lab", ["late", "humble"])
    assert spec.ready_timeout == 8 * 3600
    assert spec.ssh.identity == "other"
    assert spec.ssh.known_hosts == "~/.ssh/known_hosts"


def test_parameters_context_below_given_below_variant(lab: inventory.Inventory) -> None:
    assert "/jazzy/" in lab.resolve("lab").setup
    assert "/rolling/" in lab.resolve("lab", params={"distro": "rolling"}).setup
    assert "/humble/" in lab.resolve("lab+humble", params={"distro": "rolling"}).setup


def test_variants_are_other_hosts_for_a_running_server(lab: inventory.Inventory) -> None:
    assert lab.resolve("lab").config_hash == lab.resolve("pc1").config_hash
    assert lab.resolve("lab").config_hash != lab.resolve("lab+debug").config_hash


def test_a_process_inherits_from_its_host(lab: inventory.Inventory) -> None:
    spec = lab.resolve_process("sim", ["v", "Base Only"])
    assert spec.name == "sim+Base Only+v"
    assert spec.cmd == "sudo gz sim x -v"
    assert spec.host == "lab-pc"
    assert spec.machine == Machine("lab-pc.example", "robot", 22)
    assert spec.ssh == lab.resolve("lab").ssh
    assert spec.env == {"ROS_DOMAIN_ID": "7", "X": "{raw}", "Z": "z"}
    assert spec.ready_check == ReadyCheck(command="check 7")
    assert "source" in spec.setup


READY = """
context: {params: {number: 11311, place: ~/run}}
processes:
  a: {cmd: x, ready_check: {log: 'up after {number}|^[0-9]{{2}} ms$'}}
  b: {cmd: x, ready_check: {port: 7613}}
  c: {cmd: x, ready_check: {port: "{number}"}}
  d: {cmd: x, ready_check: {file: "{place}/up"}, variants: {v: {ready_check: ls, params: {place: q}}}}
"""


def test_when_a_process_is_ready() -> None:
    inv = read(READY)
    assert inv.check() == []
    found = [inv.resolve_process(name).ready_check for name in "abcd"]
    log = ReadyCheck(log="up after 11311|^[0-9]{2} ms$")
    assert found == [log, ReadyCheck(port=7613), ReadyCheck(port=11311), ReadyCheck(file="~/run/up")]
    assert inv.resolve_process("d", ["v"]).ready_check == ReadyCheck(command="ls")
    assert describe(inv.resolve_process("c"))["ready_check"] == {"port": 11311}
    assert describe(inv.resolve_process("d", ["v"]))["ready_check"] == "ls"
    assert inv.known_params() == {"number", "place"}


@pytest.mark.parametrize("port", ["0", "65536", "x", "1.5", "-1"])
def test_no_port(port: str) -> None:
    inv = read('processes: {a: {cmd: x, ready_check: {port: "{p}"}}}')
    with pytest.raises(InventoryError, match=f'"{port}" is no port'):
        inv.resolve_process("a", params={"p": port})


def test_a_regular_expression_that_is_none_is_said_before_anything_starts() -> None:
    inv = read("processes:\n  a: {cmd: x, ready_check: {log: 'up ({p}'}}")
    (problem,) = inv.check({"p": "now"})
    assert (problem.line, problem.path) == (2, "processes.a.ready_check.log")
    assert problem.message == '"up (now" is no extended regular expression: a ( is not closed'
    assert "\\" in problem.hint
    assert inv.resolve_process("a", params={"p": ")"}).ready_check == ReadyCheck(log="up ()")


def test_which_processes_read_the_rc_file() -> None:
    inv = read(
        "hosts: {h: {machine: x, docker: {container: c, login: true}}, g: {machine: x}}\n"
        "processes: {a: {cmd: x, host: h}, b: {cmd: x, host: g}, c: {cmd: x, host: g, login: true}, "
        "d: {cmd: x, host: h, login: false}, e: {cmd: x, machine: y, docker: {container: c, login: true}}}"
    )
    assert [inv.resolve_process(name).login for name in "abcde"] == [True, False, True, False, True]
    concert = read("a: {cmd: x}\nb: {cmd: x, login: false}")
    assert [concert.resolve_process(name).login for name in "ab"] == [True, False]


def test_a_one_shot_takes_as_long_as_it_takes() -> None:
    inv = read("a: {cmd: x, persistent: false}\nb: {cmd: x}\nc: {cmd: x, persistent: no, ready_timeout: 9}")
    assert [inv.resolve_process(name).ready_timeout for name in "abc"] == [0.0, 60.0, 9.0]


def test_a_one_shot(lab: inventory.Inventory) -> None:
    spec = lab.resolve_process("one shot")
    assert (spec.cmd, spec.persistent, spec.ready_timeout, spec.depends) == ("true", False, 0.0, ("sim",))
    assert spec.machine.is_local


def test_names(lab: inventory.Inventory) -> None:
    assert lab.hosts() == ["lab-pc", "gate", "merged", "full", "local"]
    assert lab.aliases() == {"lab": "lab-pc", "pc1": "lab-pc"}
    assert lab.processes() == ["sim", "one shot"]
    assert lab.variants("lab") == {"debug": None, "humble": "distro", "jazzy": "distro", "late": None}
    assert inventory.known_names(lab) == ["lab-pc", "gate", "merged", "full", "local", "lab", "pc1"]
    assert inventory.known_names(None) == ["local"]
    assert lab.check() == []


def test_local_always_exists(lab: inventory.Inventory) -> None:
    assert lab.resolve("local") == HostSpec("local", Machine(), session="robots")
    assert inventory.Inventory().resolve("local") == HostSpec("local", Machine())
    assert read("processes:").resolve("local").machine.is_local
    assert read("hosts: {local: {env: {A: b}}}").resolve("local").env == {"A": "b"}


def test_scalars_mean_what_is_written() -> None:
    spec = read(
        "hosts: {a: {machine: x, env: {A: 010, B: yes, C: 1.50, D: 0x1F, E: 12:30, F: '', G: null_}}}"
    ).resolve("a")
    assert spec.env == {"A": "010", "B": "yes", "C": "1.50", "D": "0x1F", "E": "12:30", "F": "", "G": "null_"}


def test_concert_launchers_form() -> None:
    inv = read(
        "context:\n  session: s\n  params: {hw: ~dummy}\n  .defines: [&m u@h:2222]\n"
        "a: {cmd: 'run {hw}', machine: *m, docker: d, ready_check: null, force_sigquit: true, "
        "show_ui: false}\n"
        "b c: {cmd: x, depends: [a], persistent: false, session: t, machine: localhost}\n"
        ".hidden: [whatever]\n",
    )
    a, b = inv.resolve_process("a"), inv.resolve_process("b c")
    assert (a.cmd, a.machine, a.docker, a.session) == (
        "run ~dummy",
        Machine("h", "u", 2222),
        Container("d"),
        "s",
    )
    assert (a.force_sigquit, a.show_ui, a.ready_check) == (True, False, None)
    assert (b.session, b.persistent, b.depends) == ("t", False, ("a",))
    assert b.machine.is_local
    assert inv.hosts() == ["local"]


@pytest.mark.parametrize(
    ("text", "machine"),
    [
        ("local", Machine()),
        ("localhost", Machine()),
        ("lab-pc", Machine("lab-pc")),
        ("lab-pc:2222", Machine("lab-pc", None, 2222)),
        ("robot@lab-pc.example:22", Machine("lab-pc.example", "robot", 22)),
        ("robot@localhost", Machine("localhost", "robot")),
        ("[::1]", Machine("::1")),
        ("u@[fe80::1%eth0]:22", Machine("fe80::1%eth0", "u", 22)),
        ("10.0.0.7", Machine("10.0.0.7")),
        ("u_1.x@H_1", Machine("H_1", "u_1.x")),
    ],
)
def test_machines(text: str, machine: Machine) -> None:
    assert parse_machine(text) == machine


@pytest.mark.parametrize(
    "text",
    ["", " ", "@", "a@", "@a", "a b", "-oProxyCommand=id", "u@-x", "-u@x", "a:0", "a:65536", "a:x", "a:",
     "::1", "[::1", "[x]:1", "[::1]x", "ssh://a", "local:22", "u@local", "a/b", "a;b", "$(id)", "a\n", ".a",
     "a:٣"],
)  # fmt: skip
def test_no_machines(text: str) -> None:
    assert isinstance(parse_machine(text), str)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("10", 10),
        ("0.5", 0.5),
        (".5", 0.5),
        ("10s", 10),
        ("500ms", 0.5),
        ("2min", 120),
        ("8h", 28800),
        ("1.5 h", 5400),
        ("0", 0),
    ],
)
def test_durations(text: str, seconds: float) -> None:
    assert parse_duration(text) == seconds


@pytest.mark.parametrize(
    "text", ["", "s", "-1", "1m", "1e3", "nan", "inf", "1:30", "10 days", "1_0", "9999999h", "٣"]
)
def test_no_durations(text: str) -> None:
    assert parse_duration(text) is None


def test_describe_is_json(lab: inventory.Inventory) -> None:
    text = json.loads(json.dumps(describe(lab.resolve("full"))))
    assert text["machine"] == "[2001:db8::5]:2222"
    assert text["docker"] == {"image": "a/b:c", "run": ["--gpus", "all"], "engine": "docker"}
    assert json.loads(json.dumps(describe(lab.resolve_process("sim"))))["host"] == "lab-pc"


def test_importing_costs_no_yaml() -> None:
    code = "import sys, launcher.inventory; sys.exit('yaml' in sys.modules or 'difflib' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], timeout=60).returncode == 0


class TestFind:
    """The search order, on a real disk; the home is an argument through the environment."""

    @pytest.fixture
    def tree(self, tmp_path: Path) -> Path:
        for folder in ("scenario", "work/deep/deeper", "home/.config/se-remote"):
            (tmp_path / folder).mkdir(parents=True)
        return tmp_path

    def find(
        self, tree: Path, scenario: bool = True, explicit: str | None = None, **environ: str
    ) -> Path | None:
        return inventory.find(
            {"HOME": str(tree / "home"), **environ},
            tree / "work/deep/deeper",
            tree / "scenario" if scenario else None,
            explicit,
        )

    def test_nothing_found(self, tree: Path) -> None:
        assert self.find(tree) is None

    def test_the_order(self, tree: Path) -> None:
        places = [
            "home/.config/se-remote/inventory.yaml",
            "work/se-remote.yaml",
            "work/deep/se-remote.yaml",
            "work/deep/deeper/se-remote.yaml",
            "scenario/se-remote.yaml",
        ]
        for place in places:
            (tree / place).write_text("hosts:")
            assert self.find(tree) == tree / place
        assert self.find(tree, scenario=False) == tree / places[3]
        (tree / "env.yaml").touch()
        assert self.find(tree, SE_REMOTE_INVENTORY=str(tree / "env.yaml")) == tree / "env.yaml"
        (tree / "work/deep/deeper/arg.yaml").touch()
        found = self.find(tree, explicit="arg.yaml", SE_REMOTE_INVENTORY=str(tree / "env.yaml"))
        assert found == tree / "work/deep/deeper/arg.yaml"

    def test_home_in_the_variable(self, tree: Path) -> None:
        (tree / "home/x.yaml").touch()
        assert self.find(tree, SE_REMOTE_INVENTORY="~/x.yaml") == tree / "home/x.yaml"

    def test_an_empty_variable_is_unset(self, tree: Path) -> None:
        assert self.find(tree, SE_REMOTE_INVENTORY="") is None

    @pytest.mark.parametrize("explicit", ["nope.yaml", "", ".", "a\0b"])
    def test_a_named_one_must_be_there(self, tree: Path, explicit: str) -> None:
        with pytest.raises(InventoryError, match="--inventory names"):
            self.find(tree, explicit=explicit)

    def test_a_named_one_in_the_environment_must_be_there(self, tree: Path) -> None:
        with pytest.raises(InventoryError, match="SE_REMOTE_INVENTORY names"):
            self.find(tree, SE_REMOTE_INVENTORY="nope.yaml")

    def test_a_strangers_file_above_is_not_picked_up(self, tree: Path) -> None:
        (tree / "work/se-remote.yaml").touch()
        (tree / "work").chmod(0o1777)
        assert self.find(tree) is None

    def test_the_disk_is_an_argument(self) -> None:
        asked: list[Path] = []
        found = inventory.find(
            {"HOME": "/h"},
            Path("/a/b"),
            Path("s"),
            is_file=lambda path: bool(asked.append(path)),
            is_private=lambda folder: True,
        )
        assert found is None
        assert [str(p) for p in asked] == [
            "/a/b/s/se-remote.yaml",
            "/a/b/se-remote.yaml",
            "/a/se-remote.yaml",
            "/se-remote.yaml",
            "/h/.config/se-remote/inventory.yaml",
            "/a/b/launcher.yaml",
        ]

    def test_concert_launchers_file_is_the_last_resort(self, tree: Path) -> None:
        here = tree / "work/deep/deeper/launcher.yaml"
        here.write_text("a: {cmd: x}")
        assert self.find(tree) == here
        (tree / "home/theirs.yaml").touch()
        theirs = {"CONCERT_LAUNCHER_DEFAULT_CONFIG": "~/theirs.yaml"}
        assert self.find(tree, **theirs) == tree / "home/theirs.yaml"
        ours = tree / "home/.config/se-remote/inventory.yaml"
        ours.write_text("hosts:")
        assert self.find(tree, **theirs) == ours

    def test_concert_launchers_file_that_is_named_must_be_there(self, tree: Path) -> None:
        with pytest.raises(InventoryError, match="CONCERT_LAUNCHER_DEFAULT_CONFIG names"):
            self.find(tree, CONCERT_LAUNCHER_DEFAULT_CONFIG="nope.yaml")


CARRIED = """
context: {params: {site: north, there: /opt/maps}}
hosts:
  a: {machine: x, push: scenario}
  b:
    machine: x
    push: [scenario, maps, ../params, "{site}/map", ~/ws, /abs, {from: x/y, to: site}]
    path_map: {/ws/: /home/robot/ws, ~/maps: "{there}"}
    variants:
      more: {path_map: {~/maps: ~/other, /more: /m}, push: []}
"""


def test_what_is_pushed_and_mapped() -> None:
    inv = inventory.read(CARRIED, "/lab/inv/se-remote.yaml")
    assert inv.check() == []
    assert inv.resolve("a").push == (Push(),)
    spec = inv.resolve("b")
    folders = ["", "/lab/inv/maps", "/lab/params", "/lab/inv/north/map", "~/ws", "/abs"]
    assert spec.push == (*(Push(folder) for folder in folders), Push("/lab/inv/x/y", "site"))
    assert spec.path_map == {"/ws": "/home/robot/ws", "~/maps": "/opt/maps"}
    more = inv.resolve("b+more")
    assert more.push == ()
    assert more.path_map == {"/ws": "/home/robot/ws", "~/maps": "~/other", "/more": "/m"}
    assert spec.config_hash == inv.resolve("a").config_hash  # the server runs the same with and without
    assert inventory.describe(spec)["push"][-1] == {"from": "/lab/inv/x/y", "to": "site"}
    assert {"site", "there"} <= inv.known_params()


CHOICES = """
hosts:
  lab: {machine: x, aliases: [l], variants: {HW: [base, full], debug: {env: {A: b}}}}
processes:
  sim: {cmd: x, variants: {HW: [base, {none: {cmd: "{cmd} -n"}}], fast: {cmd: "{cmd} -f"}}}
  plain: {cmd: x}
"""


@pytest.mark.parametrize(
    ("given", "lab", "sim"),
    [
        ([], [], []),
        (["base"], ["base"], ["base"]),
        (["HW=base"], ["base"], ["base"]),
        (["HW=none"], [], ["none"]),
        (["l=debug", "sim=fast"], ["debug"], ["fast"]),
        (["debug", "fast"], ["debug"], ["fast"]),
    ],
)
def test_who_gets_which_variants(given: list[str], lab: list[str], sim: list[str]) -> None:
    inv = read(CHOICES)
    settings = inventory.read_settings({}, variants=given)
    assert inventory.check_settings(inv, settings) == []
    assert inventory.chosen_variants(inv, "lab", settings) == lab
    assert inventory.chosen_variants(inv, "sim", settings) == sim
    assert inventory.chosen_variants(inv, "plain", settings) == []


def test_variants_of_nothing_and_choices_of_no_group_are_named() -> None:
    settings = inventory.read_settings({}, variants=["HV=base", "HW=bass", "sim=fast"])
    texts = [str(problem) for problem in inventory.check_settings(read(CHOICES), settings)]
    assert len(texts) == 2
    assert 'unknown host "HV"' in texts[0]
    assert 'the group HW has no variant "bass" (did you mean "base"?; it has base, full, none)' in texts[1]
