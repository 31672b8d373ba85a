"""What a user may write where an endpoint or HOST is asked for, and the settings around it."""
# ruff: noqa: E501 (a table reads by its columns)

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from launcher.errors import InventoryError
from launcher.inventory import (
    Inventory,
    check_selection,
    read,
    read_settings,
    resolve_endpoint,
    resolve_endpoints,
    resolve_machine_arg,
    resolve_machine_args,
)
from launcher.inventory.settings import check_settings
from launcher.model import DirectAddress, HostSpec, Machine

INV = read(
    """
context: {params: {distro: jazzy}}
hosts:
  lab-pc:
    machine: robot@lab-pc.example
    aliases: [lab]
    setup: "source {distro}"
    variants:
      debug:
      distro: [{humble: {params: {distro: humble}}}, jazzy]
  robot1: {machine: r1, exclusive: true, variants: {sim: , slow: , real: {exclusive: false}}}
  robot2: {machine: r2}
processes:
  sim: {cmd: "gz {world}"}
""",
    "lab.yaml",
)
CWD = Path("/work/dir")

ADDRESSES = [
    ("tcp://lab-pc:7613", "tcp://lab-pc:7613"),
    ("tcp://lab-pc.example", "tcp://lab-pc.example:7613"),
    ("tcp://[2001:db8::5]:1", "tcp://[2001:db8::5]:1"),
    ("tcp://[2001:db8::5]", "tcp://[2001:db8::5]:7613"),
    ("lab-pc:1", "tcp://lab-pc:1"),
    ("nobody.example:65535", "tcp://nobody.example:65535"),
    ("localhost", "tcp://localhost:7613"),
    ("localhost:80", "tcp://localhost:80"),
    ("local:80", "tcp://local:80"),
    ("192.0.2.1", "tcp://192.0.2.1:7613"),
    ("192.0.2.1:80", "tcp://192.0.2.1:80"),
    ("::1", "tcp://[::1]:7613"),
    ("[::1]", "tcp://[::1]:7613"),
    ("[::1]:80", "tcp://[::1]:80"),
    ("ipc:///ipc/robot", "ipc:///ipc/robot"),
    ("/ipc/robot", "ipc:///ipc/robot"),
    ("/ipc/with space:1", "ipc:///ipc/with space:1"),
    ("./sock", "ipc:///work/dir/sock"),
    ("../sock", "ipc:///work/dir/../sock"),
]


@pytest.mark.parametrize("inventory", [None, Inventory(), INV], ids=["no file", "empty", "file"])
@pytest.mark.parametrize(("text", "endpoint"), ADDRESSES)
def test_addresses(text: str, endpoint: str, inventory: Inventory | None) -> None:
    assert resolve_endpoint(text, inventory, cwd=CWD) == DirectAddress(endpoint)


@pytest.mark.parametrize("inventory", [None, Inventory(), INV], ids=["no file", "empty", "file"])
@pytest.mark.parametrize(
    "text",
    ["", " ", "a:b", "a:", "a:0", "a:70000", ":80", "tcp://", "tcp://a:b", "tcp://a/b", "tcp://*:80", "ipc://", "udp://a:1",
     "ssh://a", "inproc://a", "user@host", "user@host:22", "tcp://user@host:22", "a b", "-x", "a\nb", "a\0", "[::1", "[a]:1",
     "[::1]:x", "a:1:2", "lab-pc:1+debug", "/" + "x" * 107, "é", "a:٣"],
)  # fmt: skip
def test_neither_address_nor_name(text: str, inventory: Inventory | None) -> None:
    with pytest.raises(InventoryError) as caught:
        resolve_endpoint(text, inventory, cwd=CWD)
    assert len(caught.value.problems) == 1


@pytest.mark.parametrize("text", ["lab-pc", "lab-pc.example", "lab_pc", "1st"])
def test_a_bare_hostname_without_a_file(text: str) -> None:
    assert resolve_endpoint(text, None) == DirectAddress(f"tcp://{text}:7613")


def test_with_a_file_an_unknown_name_is_never_an_address() -> None:
    with pytest.raises(InventoryError) as caught:
        resolve_endpoint("lab-cp", INV)
    (problem,) = caught.value.problems
    assert problem.file == "lab.yaml"
    assert problem.hint == 'did you mean "lab-pc"?; known: lab-pc, robot1, robot2, local, lab'


def test_variants_without_a_file() -> None:
    with pytest.raises(InventoryError, match="no inventory"):
        resolve_endpoint("lab-pc+debug", None)


@pytest.mark.parametrize("inventory", [None, Inventory(), INV], ids=["no file", "empty", "file"])
def test_local_is_a_host(inventory: Inventory | None) -> None:
    assert resolve_endpoint("local", inventory) == HostSpec("local", Machine())


@pytest.mark.parametrize("text", ["lab-pc+debug+humble", "lab+humble+debug"])
def test_hosts(text: str) -> None:
    spec = resolve_endpoint(text, INV)
    assert isinstance(spec, HostSpec)
    assert (spec.name, spec.setup) == ("lab-pc+debug+humble", "source humble")


def host(text: str, environ: Mapping[str, str], inventory: Inventory | None = INV) -> HostSpec:
    spec = resolve_endpoint(text, inventory, environ)
    assert isinstance(spec, HostSpec)
    return spec


class TestEnvironment:
    @pytest.mark.parametrize("key", ["lab-pc", "lab"])
    def test_variants(self, key: str) -> None:
        environ = {"SE_REMOTE_VARIANTS": f"{key}=debug+humble, robot1=sim"}
        assert host("lab", environ).name == "lab-pc+debug+humble"
        assert host("lab-pc+debug", environ).name == "lab-pc+debug+humble"
        assert host("robot2", environ).name == "robot2"

    def test_params(self) -> None:
        assert host("lab", {"SE_REMOTE_PARAMS": r"distro=a\,b"}).setup == "source a,b"
        assert host("lab+humble", {"SE_REMOTE_PARAMS": "distro=x"}).setup == "source humble"

    def test_map(self) -> None:
        environ = {
            "SE_REMOTE_MAP": "robot=robot2,lab-pc=robot1+sim,robot1=robot2,gone=tcp://x:1,here=local,tcp://y:1=lab"
        }
        assert host("robot", environ).name == "robot2"
        assert host("lab", environ).name == "robot1+sim"
        assert host("lab+slow", environ).name == "robot1+sim+slow"
        assert host("robot1", environ).name == "robot2"
        assert host("tcp://y:1", environ).name == "lab-pc"
        assert host("here", environ).machine.is_local
        assert resolve_endpoint("gone", INV, environ) == DirectAddress("tcp://x:1")
        assert resolve_endpoint("robot", None, {"SE_REMOTE_MAP": "robot=r3"}) == DirectAddress(
            "tcp://r3:7613"
        )

    @pytest.mark.parametrize(
        ("environ", "message"),
        [
            ({"SE_REMOTE_VARIANTS": "lab-pc"}, "SE_REMOTE_VARIANTS: expected name=value"),
            ({"SE_REMOTE_VARIANTS": "lab-pc=debug+"}, "SE_REMOTE_VARIANTS: lab-pc: expected variants"),
            ({"SE_REMOTE_VARIANTS": "lab-pc="}, "SE_REMOTE_VARIANTS: lab-pc: expected variants"),
            ({"SE_REMOTE_VARIANTS": "lap=debug"}, 'unknown host "lap" (did you mean "lab'),
            ({"SE_REMOTE_VARIANTS": "lab=debugg"}, 'no variant "debugg" (did you mean "debug"'),
            ({"SE_REMOTE_VARIANTS": "lab=humble+jazzy"}, "two variants of the group distro"),
            ({"SE_REMOTE_PARAMS": "distro"}, "SE_REMOTE_PARAMS: expected name=value"),
            ({"SE_REMOTE_PARAMS": "a b=1"}, 'SE_REMOTE_PARAMS: "a b" is no name of a parameter'),
            ({"SE_REMOTE_PARAMS": "distr=1"}, 'unknown parameter "distr" (did you mean "distro"?; known: distro, world)'),
            ({"SE_REMOTE_PARAMS": "distro=1,distro=2"}, '"distro" is set twice'),
            ({"SE_REMOTE_MAP": "lab"}, "SE_REMOTE_MAP: expected name=value"),
            ({"SE_REMOTE_MAP": "lab="}, "SE_REMOTE_MAP: expected name=name"),
            ({"SE_REMOTE_MAP": "lab=robot3"}, 'unknown host "robot3" (SE_REMOTE_MAP puts it in the place of "lab"; did you mean "robot'),
        ],
    )  # fmt: skip
    def test_mistakes(self, environ: dict[str, str], message: str) -> None:
        with pytest.raises(InventoryError) as caught:
            host("lab", environ)
        assert message in str(caught.value)

    def test_a_parameter_that_nobody_knows_is_told_with_where_it_was_given(self) -> None:
        settings = read_settings({"SE_REMOTE_PARAMS": "distr=1"}, params=["wrld=2"])
        told = {p.file: p.message for p in check_settings(INV, settings)}
        assert told == {
            "SE_REMOTE_PARAMS": 'unknown parameter "distr"',
            "--param": 'unknown parameter "wrld"',
        }

    def test_all_mistakes_at_once(self) -> None:
        with pytest.raises(InventoryError) as caught:
            read_settings(
                {"SE_REMOTE_PARAMS": "a", "SE_REMOTE_VARIANTS": "b", "SE_REMOTE_MAP": "c"}, params=["d"]
            )
        assert {p.file for p in caught.value.problems} == {
            "SE_REMOTE_PARAMS",
            "SE_REMOTE_VARIANTS",
            "SE_REMOTE_MAP",
            "--param",
        }

    def test_an_address_needs_no_inventory_to_be_right(self) -> None:
        environ = {"SE_REMOTE_PARAMS": "other=1", "SE_REMOTE_VARIANTS": "other=x"}
        assert resolve_endpoint("tcp://x:1", INV, environ) == DirectAddress("tcp://x:1")


def test_the_command_line_wins_over_the_environment() -> None:
    environ = {
        "SE_REMOTE_INVENTORY": "e",
        "SE_REMOTE_PARAMS": "a=e,b=e",
        "SE_REMOTE_VARIANTS": "lab=humble,x=y",
    }
    got = read_settings(
        environ, inventory="c", params=["b=c", "d=x=,y"], variants=["lab=jazzy+debug", "sim", "sim"]
    )
    assert got.inventory == "c"
    assert got.params == {"a": "e", "b": "c", "d": "x=,y"}
    assert got.variants == {"lab": ("jazzy", "debug"), "x": ("y",)}
    assert got.for_all == ("sim",)
    assert read_settings({"SE_REMOTE_INVENTORY": ""}).inventory is None


def test_all_endpoints_of_a_scenario_in_one_report() -> None:
    got = resolve_endpoints(["lab", "robot1", "lab", "tcp://x:1"], INV)
    assert list(got) == ["lab", "robot1", "tcp://x:1"]
    with pytest.raises(InventoryError) as caught:
        resolve_endpoints(["lab+x", "nope", "a:b", "robot1+sim", "robot1+slow"], INV)
    assert len(caught.value.problems) == 4


def test_two_variants_of_one_exclusive_host() -> None:
    robots = [INV.resolve(name) for name in ("robot1+sim", "robot1+slow", "robot1+real", "robot2")]
    check_selection([robots[0], robots[0], robots[3]])
    check_selection([INV.resolve("lab"), INV.resolve("lab+debug")])
    with pytest.raises(InventoryError, match=r"robot1\+sim and robot1\+slow"):
        check_selection(robots[:2])
    with pytest.raises(InventoryError, match=r"robot1\+real and robot1\+sim"):
        check_selection([robots[0], robots[2]])


class TestCommandLine:
    @pytest.mark.parametrize("inventory", [None, INV], ids=["no file", "file"])
    @pytest.mark.parametrize(
        ("text", "machine"),
        [
            ("robot@lab-pc", Machine("lab-pc", "robot")),
            ("robot@lab-pc.example:2222", Machine("lab-pc.example", "robot", 2222)),
            ("u@[::1]:22", Machine("::1", "u", 22)),
            ("local", Machine()),
            ("localhost", Machine()),
        ],
    )
    def test_machines(self, text: str, machine: Machine, inventory: Inventory | None) -> None:
        spec = resolve_machine_arg(text, inventory)
        assert (spec.machine, spec.name) == (machine, str(machine))

    def test_names(self) -> None:
        assert resolve_machine_arg("lab+debug", INV).name == "lab-pc+debug"

    @pytest.mark.parametrize(
        ("text", "inventory", "message"),
        [
            ("lab-pc", None, "lab-pc: there is no inventory (looked for se-remote.yaml here and above, and"),
            ("lab-pc+debug", None, "there is no inventory"),
            ("lab-cp", INV, 'did you mean "lab-pc"'),
            ("tcp://x:1", INV, "user@machine"),
            ("x:1", None, "user@machine"),
            ("/sock", INV, "user@machine"),
            ("u@x:y", None, "no port"),
            ("u@-oProxyCommand=id", None, "expected local"),
            ("@x", None, "no user name"),
            ("", INV, "unknown host"),
            ("sim", INV, "is a process"),
        ],
    )
    def test_mistakes(self, text: str, inventory: Inventory | None, message: str) -> None:
        with pytest.raises(InventoryError) as caught:
            resolve_machine_arg(text, inventory)
        assert message in str(caught.value)

    def test_without_an_inventory_the_next_step_is_said(self) -> None:
        with pytest.raises(InventoryError) as caught:
            resolve_machine_arg("lab-pc+debug", None)
        step = "write user@lab-pc, or name an inventory: --inventory FILE, or SE_REMOTE_INVENTORY=FILE"
        assert caught.value.next_step == step

    @pytest.mark.parametrize(
        ("text", "inventory", "bare"),
        [
            ("lab-pc", None, True),
            ("lab-pc:7613", None, False),
            ("tcp://lab-pc", None, False),
            ("10.0.0.1", None, False),
            ("localhost", None, False),
            ("10.0.0.1", INV, False),
        ],
    )
    def test_a_name_that_is_an_address_for_want_of_an_inventory(
        self, text: str, inventory: Inventory | None, bare: bool
    ) -> None:
        found = resolve_endpoint(text, inventory)
        assert isinstance(found, DirectAddress) and found.bare is bare

    def test_a_plain_variant_is_for_those_that_have_it(self) -> None:
        settings = read_settings({}, variants=["debug"])
        specs = resolve_machine_args(["lab", "robot2", "lab-pc", "u@x"], INV, settings)
        assert [spec.name for spec in specs] == ["lab-pc+debug", "robot2", "u@x"]

    def test_a_plain_variant_that_nobody_has(self) -> None:
        with pytest.raises(InventoryError, match='--variant: none of robot2 has a variant "debug"'):
            resolve_machine_args(["robot2"], INV, read_settings({}, variants=["debug"]))

    def test_all_mistakes_at_once(self) -> None:
        with pytest.raises(InventoryError) as caught:
            resolve_machine_args(["nope", "lab+x", "u@"], INV, read_settings({}, params=["distr=1"]))
        assert len(caught.value.problems) == 4


@hypothesis_settings(max_examples=300, deadline=None)
@given(st.text() | st.text(alphabet="lab-pc+@:/.[]1%\0\n"), st.sampled_from([None, INV]))
def test_any_text_is_understood_or_reported(text: str, inventory: Inventory | None) -> None:
    for resolve in (resolve_endpoint, resolve_machine_arg):
        try:
            assert isinstance(resolve(text, inventory), DirectAddress | HostSpec)
        except InventoryError as error:
            assert all(str(p).isprintable() for p in error.problems)


@hypothesis_settings(max_examples=200, deadline=None)
@given(st.text(), st.text(), st.text(), st.lists(st.text()), st.lists(st.text()))
def test_any_settings(
    params: str, variants: str, names: str, given_params: list[str], given_variants: list[str]
) -> None:
    environ = {"SE_REMOTE_PARAMS": params, "SE_REMOTE_VARIANTS": variants, "SE_REMOTE_MAP": names}
    try:
        resolve_endpoint("lab", INV, read_settings(environ, params=given_params, variants=given_variants))
    except InventoryError as error:
        assert error.problems
