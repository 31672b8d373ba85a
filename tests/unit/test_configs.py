"""The examples are right: every inventory is resolved, every scenario parsed, every key documented."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from launcher import inventory
from launcher.errors import InventoryError
from launcher.inventory.keys import (
    CONTEXT_KEYS,
    DOCKER_KEYS,
    FILE_KEYS,
    HOST_KEYS,
    HOST_VARIANT_KEYS,
    PROCESS_KEYS,
    PROCESS_VARIANT_KEYS,
    SSH_KEYS,
)
from launcher.model import HostSpec

ROOT = Path(__file__).resolve().parents[2]
INVENTORIES = sorted((ROOT / "configs").glob("*.yaml"))
SCENARIOS = sorted((ROOT / "configs").glob("*.osc"))
REFERENCE = (ROOT / "docs" / "inventory.md").read_text()


def test_there_are_examples() -> None:
    assert len(INVENTORIES) >= 3
    assert len(SCENARIOS) >= 3


@pytest.mark.parametrize("path", INVENTORIES, ids=lambda path: path.name)
def test_every_inventory_is_resolved(path: Path) -> None:
    inv = inventory.load(path)
    assert inv.check() == []
    for name in [*inv.hosts(), *inv.aliases()]:
        for variant in [None, *inv.variants(name)]:
            json.dumps(inventory.describe(inv.resolve(name, [variant] if variant else [])))
    for name in inv.processes():
        for variant in [None, *inv.variants(name)]:
            json.dumps(inventory.describe(inv.resolve_process(name, [variant] if variant else [])))


def test_the_first_example_can_be_used_as_it_is() -> None:
    inv = inventory.load(ROOT / "configs/se-remote.yaml")
    assert [p for name in inv.hosts() for p in inventory.unsupported(inv.resolve(name))] == []
    assert inv.resolve("lab+humble+debug").setup == "source /opt/ros/humble/setup.bash"


@pytest.mark.parametrize("path", SCENARIOS, ids=lambda path: path.name)
def test_every_host_in_a_scenario_is_in_the_inventory(path: Path) -> None:
    inv = inventory.load(ROOT / "configs/se-remote.yaml")
    names = re.findall(r'remote\("([^"]*)"\)', path.read_text())
    assert names
    assert all(isinstance(spec, HostSpec) for spec in inventory.resolve_endpoints(names, inv).values())


@pytest.mark.parametrize("path", SCENARIOS, ids=lambda path: path.name)
def test_every_scenario_is_parsed(path: Path) -> None:
    """As a dry run of the real command, which finds the inventory beside the scenario."""
    command = Path(sys.executable).parent / "scenario_execution"
    environ = {k: v for k, v in os.environ.items() if not k.startswith("SE_REMOTE_")}
    done = subprocess.run(
        [str(command), "--dry-run", str(path)],
        capture_output=True,
        text=True,
        timeout=60,
        env=environ,
        cwd=ROOT / "configs",
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "ERROR" not in done.stdout + done.stderr


@pytest.mark.parametrize("path", INVENTORIES, ids=lambda path: path.name)
def test_every_inventory_agrees_with_the_schema(path: Path) -> None:
    jsonschema.validate(yaml.safe_load(path.read_text()), inventory.schema())


BAD: list[dict[str, Any]] = [
    {"hosts": {"a": {}}},
    {"hosts": {"a b": {"machine": "x"}}},
    {"hosts": {"a": {"machine": "x", "lease": "5m"}}},
    {"hosts": {"a": {"machine": "x", "lease": 0}}},
    {"hosts": {"a": {"machine": "x", "serer": "x"}}},
    {"hosts": {"a": {"machine": "x", "on_loss": "x"}}},
    {"hosts": {"a": {"machine": "x", "env": {"a b": "x"}}}},
    {"hosts": {"a": {"machine": "x", "ssh": {"key": "x"}}}},
    {"hosts": {"a": {"machine": "x", "push": [{"to": "x"}]}}},
    {"hosts": {"a": {"machine": "x", "push": [["x"]]}}},
    {"hosts": {"a": {"machine": "x", "path_map": {"maps": "/maps"}}}},
    {"hosts": {"a": {"machine": "x", "path_map": {"/maps": "maps"}}}},
    {"hosts": {"a": {"machine": "x", "variants": {"v": {"aliases": []}}}}},
    {"hosts": {"a": {"machine": "x", "variants": {"v": [{"a": None, "b": None}]}}}},
    {"hosts": {}, "procs": {}},
    {"processes": {"a": {"machine": "x"}}},
    {"a": {"machine": "x"}},
    {"context": {"sesion": "x"}},
]


@pytest.mark.parametrize("value", BAD, ids=str)
def test_schema_and_reader_refuse_the_same(value: dict[str, Any]) -> None:
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(value, inventory.schema())
    with pytest.raises(InventoryError):
        inventory.read(yaml.safe_dump(value))


def test_the_schema_is_one_and_describes_every_key() -> None:
    schema = inventory.schema()
    jsonschema.Draft202012Validator.check_schema(schema)
    hosts = schema["then"]["properties"]["hosts"]["additionalProperties"]
    assert set(hosts["properties"]) == set(HOST_KEYS)
    assert all(value["description"] for value in hosts["properties"].values())
    assert hosts["required"] == ["machine"]
    processes = schema["then"]["properties"]["processes"]["additionalProperties"]
    assert set(processes["properties"]) == set(PROCESS_KEYS)
    json.dumps(schema)


def section(title: str) -> str:
    """A part of the reference, up to the next title of its rank or above."""
    rest = REFERENCE.partition(f"\n{title}\n")[2]
    return re.split(rf"\n#{{1,{len(title.split()[0])}}} ", rest)[0]


@pytest.mark.parametrize(
    ("title", "keys"),
    [
        ("## The file", FILE_KEYS),
        ("### context", CONTEXT_KEYS),
        ("### hosts", HOST_KEYS),
        ("### hosts", SSH_KEYS),
        ("### hosts", DOCKER_KEYS),
        ("### processes", PROCESS_KEYS),
        ("### processes", PROCESS_VARIANT_KEYS),
    ],
)
def test_every_key_is_in_the_reference(title: str, keys: dict[str, Any]) -> None:
    rows = [line for line in section(title).splitlines() if line.startswith("| `")]
    first = {name for row in rows for name in re.findall(r"`([^`]+)`", row.split("|")[1])}
    if keys is PROCESS_VARIANT_KEYS:
        first |= set(re.findall(r"`([^`]+)`", next(row for row in rows if row.startswith("| `variants`"))))
    assert set(keys) <= first


@pytest.mark.parametrize("title", ["### context", "### hosts", "### processes"])
def test_every_key_in_the_reference_exists(title: str) -> None:
    known = {*CONTEXT_KEYS, *HOST_KEYS, *SSH_KEYS, *DOCKER_KEYS, *PROCESS_KEYS}
    for row in section(title).splitlines():
        if row.startswith("| `"):
            assert set(re.findall(r"`([^`]+)`", row.split("|")[1])) <= known


def test_variants_hold_what_the_reference_says() -> None:
    assert set(HOST_VARIANT_KEYS) == {*HOST_KEYS, "params"} - {"aliases", "variants"}


def test_the_keys_of_the_design_are_there() -> None:
    names = (
        "machine aliases ssh docker shell setup env push path_map python server depends exclusive lease "
        "on_loss on_stop ready_timeout variants provision"
    )
    assert set(HOST_KEYS) == set(names.split())


@pytest.mark.parametrize("text", re.findall(r"```yaml\n(.*?)```", REFERENCE, re.S))
def test_yaml_in_the_reference_is_right(text: str) -> None:
    if "hosts:" not in text:
        text = "hosts:\n  a:\n    machine: x\n" + "".join(f"    {line}\n" for line in text.splitlines())
        text += "context: {params: {distro: jazzy}}\n"
    assert inventory.read(text).check() == []
