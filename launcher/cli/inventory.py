"""`se-remote inventory`: check, list, show, schema. Touches no machine."""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from launcher import inventory as inventories
from launcher.cli.init import name_schema, write_schema
from launcher.cli.output import Output, table
from launcher.cli.selection import Selection, need_file, select
from launcher.crossing import crosses
from launcher.errors import InventoryError
from launcher.inventory import Inventory
from launcher.inventory.provision import is_path
from launcher.model import Container, HostSpec, Problem


def run(args: argparse.Namespace) -> int:
    """Runs one of the actions; raises InventoryError with everything that is wrong."""
    output = Output(inventory=args.inventory)
    if args.action == "schema" and args.write:
        return _write_schema(select(args), output)
    if args.action == "schema":
        output.result(json.dumps(inventories.schema(), indent=2))
        return 0
    actions: dict[str, Callable[[argparse.Namespace, Selection, Output], None]] = {
        "check": _check,
        "list": _list,
        "show": _show,
    }
    actions[args.action](args, select(args), output)
    return 0


def _write_schema(selection: Selection, output: Output) -> int:
    """Beside the inventory, and named in its first line: there editors look for it."""
    path, _ = need_file(selection)
    schema = write_schema(path)
    named = name_schema(path.resolve())
    output.result(f"{schema}: written" + (f"; {path} names it now" if named else ""))
    return 0


def _check(args: argparse.Namespace, selection: Selection, output: Output) -> None:
    path, inventory = need_file(selection)
    problems = [
        *inventory.check(selection.settings.params),
        *inventories.check_settings(inventory, selection.settings),
    ]
    if problems:
        raise InventoryError(problems)
    for problem in dict.fromkeys(_notes(inventory, selection.settings.params)):
        output.say(f"note: {problem}", "warning")
    hosts, processes = set(inventory.hosts()) - {"local"}, inventory.processes()
    count = f"{_count(len(hosts), 'host')} and local, {_count(len(processes), 'process', 'es')}"
    output.result(f"{path}: good: {count}")
    output.say("next: se-remote doctor")


def _notes(inventory: Inventory, params: Mapping[str, str]) -> Iterable[Problem]:
    """What is right by itself, but not in this version, or not on this machine: of each host and variant."""
    for name in inventory.hosts():
        for variant in ("", *inventory.variants(name)):
            try:
                spec = inventory.resolve(name, [variant] if variant else [], params)
            except InventoryError:
                continue  # a host whose parameters come with a variant: `show` says what it needs
            if not variant:
                yield from inventories.unsupported(spec)
            yield from (_missing(inventory, name, *one) for one in _not_here(spec))


def _not_here(spec: HostSpec) -> Iterable[tuple[str, str]]:
    """What keys name on this machine, and is not there."""
    if crosses(spec):
        for push in spec.push:
            if push.folder and not os.path.isdir(os.path.expanduser(push.folder)):
                yield "push", f"there is no folder {push.folder} on this machine"
    for word in spec.provision.packages if spec.provision is not None else ():
        if is_path(word) and not os.path.exists(os.path.expanduser(word)):
            yield "provision", f"there is no {word} on this machine"
    identity = spec.ssh.identity
    if identity is not None and not os.path.isfile(os.path.expanduser(identity)):
        yield "ssh.identity", f"there is no file {identity} on this machine"


def _missing(inventory: Inventory, name: str, key: str, text: str) -> Problem:
    entry = inventory.document.hosts[name]
    field = entry.fields.get(key.partition(".")[0])
    place = field.place if field is not None else entry.place
    return Problem(text, place.file, place.line, f"{entry.place.path}.{key}")


def _list(args: argparse.Namespace, selection: Selection, output: Output) -> None:
    inventory = selection.inventory or Inventory()
    aliases: dict[str, list[str]] = {}
    for alias, name in inventory.aliases().items():
        aliases.setdefault(name, []).append(alias)
    entries = [
        {
            "host": name,
            "machine": str(inventory.document.hosts[name].value("machine") or "local"),
            "aliases": sorted(aliases.get(name, [])),
            "variants": sorted(inventory.variants(name)),
        }
        for name in inventory.hosts()
    ]
    if args.json:
        output.result(json.dumps({"hosts": entries, "processes": inventory.processes()}, indent=2))
        return
    rows = [[_cell(entry[key]) for key in ("host", "machine", "aliases", "variants")] for entry in entries]
    output.result(table(("HOST", "MACHINE", "ALIASES", "VARIANTS"), rows))
    if inventory.processes():
        header = ("PROCESS", "RUNS ON", "DEPENDS ON", "VARIANTS")
        output.result("\n" + table(header, [_process(inventory, name) for name in inventory.processes()]))


def _process(inventory: Inventory, name: str) -> list[str]:
    entry = inventory.document.processes[name]
    where = entry.value("host") or str(entry.value("machine") or "local")
    depends = [item.value for item in entry.value("depends", ())]
    return [name, where, _cell(depends), _cell(sorted(inventory.variants(name)))]


def _show(args: argparse.Namespace, selection: Selection, output: Output) -> None:
    (spec,) = selection.hosts([args.host])
    values = inventories.describe(spec)
    if args.json:
        output.result(json.dumps(values, indent=2))
    else:
        output.result("\n".join(_lines(spec, values)))
        for problem in inventories.unsupported(spec):
            output.say(f"note: {problem}", "warning")


def _lines(spec: HostSpec, values: dict[str, Any]) -> Iterable[str]:
    width = max(len(key) for key in values)
    for key, value in values.items():
        text = _cell(value)
        first, *rest = text.splitlines() or [""]
        yield f"{key:<{width}}  {first}".rstrip()
        yield from (f"{'':<{width}}  {line}" for line in rest)


def _cell(value: object) -> str:
    if value is None or value == "" or value == [] or value == {}:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, dict):
        return "\n".join(f"{key}={item}" for key, item in value.items())
    if isinstance(value, list) and value and isinstance(value[0], dict):
        return "\n".join(item["from"] + (f" as {item['to']}" if "to" in item else "") for item in value)
    if isinstance(value, (list, tuple)):
        return ", ".join(str(item) for item in value)
    if isinstance(value, Container):
        return value.name or f"image {value.image}"
    return f"{value:g} s" if isinstance(value, float) else str(value)


def _count(number: int, word: str, plural: str = "s") -> str:
    return f"{number} {word}{'' if number == 1 else plural}"
