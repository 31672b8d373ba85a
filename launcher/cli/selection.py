"""What every command needs first: inventory, settings, the hosts that were named, who can be asked."""

from __future__ import annotations

import argparse
import dataclasses
import difflib
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from launcher import inventory as inventories
from launcher import terminal
from launcher.errors import InventoryError
from launcher.inventory import Inventory, Settings
from launcher.machines.runner import Asker
from launcher.model import HostSpec, Problem, ProcessSpec


@dataclass(frozen=True)
class Selection:
    """The inventory (None: there is no file) and how it is to be read."""

    path: Path | None
    inventory: Inventory | None
    settings: Settings
    environ: Mapping[str, str]

    def hosts(self, names: Sequence[str]) -> list[HostSpec]:
        """The named hosts, each once. Raises InventoryError with all that is wrong."""
        return inventories.resolve_machine_args(names, self.inventory, self.settings)

    def all_hosts(self) -> list[HostSpec]:
        """Every host of the inventory (`local` always), with the variants that the settings choose."""
        inventory = self.inventory or Inventory()
        return inventories.resolve_machine_args(inventory.hosts(), self.inventory, self.settings)

    def processes(self, names: Sequence[str] | None = None) -> dict[str, ProcessSpec]:
        """The named processes, or all that have a command, by their names in the inventory.

        They are only looked at: a parameter that a variant would have to set counts as empty.
        Raises InventoryError with all that is wrong.
        """
        inventory = self.inventory or Inventory()
        problems: list[Problem] = []
        found: dict[str, ProcessSpec] = {}
        for name in inventory.processes() if names is None else names:
            try:
                found[name] = self._process(inventory, name)
            except InventoryError as error:
                problems += [one for one in error.problems if one not in problems]
        if problems:
            raise InventoryError(problems)
        return {name: spec for name, spec in found.items() if spec.cmd or names is not None}

    def _process(self, inventory: Inventory, name: str) -> ProcessSpec:
        variants = inventories.chosen_variants(inventory, name, self.settings)
        try:
            return inventory.resolve_process(name, variants, self.settings.params)
        except InventoryError:
            unset = inventory.known_params() - set(inventory.document.params)
            return inventory.resolve_process(
                name, variants, {**dict.fromkeys(unset, ""), **self.settings.params}
            )

    def mixed(self, names: Sequence[str]) -> tuple[list[HostSpec], dict[str, ProcessSpec]]:
        """The named hosts and processes, each once. Raises InventoryError with all that is wrong."""
        known = (self.inventory or Inventory()).processes()
        processes = [name for name in names if name in known]
        hosts = [name for name in names if name not in known]
        problems: list[Problem] = []
        specs: list[HostSpec] = []
        try:
            specs = self.hosts(hosts)
        except InventoryError as error:
            if not known:
                raise
            near = [one for name in hosts for one in difflib.get_close_matches(name, known, 1)]
            hint = f"did you mean the process {json.dumps(near[0], ensure_ascii=False)}?" if near else (
                f"processes are: {', '.join(known)}")  # fmt: skip
            problems += [dataclasses.replace(one, hint=f"{one.hint}; {hint}") for one in error.problems]
        found: dict[str, ProcessSpec] = {}
        try:
            found = self.processes(processes)
        except InventoryError as error:
            problems += error.problems
        if problems:
            raise InventoryError(problems)
        return specs, found

    @property
    def ask(self) -> Asker | None:
        """Asks on the terminal; None without one, for then nothing is asked."""
        return terminal.ask if terminal.can_ask() else None


def select(args: argparse.Namespace) -> Selection:
    """Reads settings and inventory for `args`. Raises InventoryError with all that is wrong."""
    environ = dict(os.environ)
    settings = inventories.read_settings(
        environ, inventory=args.inventory, params=args.param, variants=args.variant
    )
    path = inventories.find(environ, Path.cwd(), None, args.inventory)
    inventory = inventories.load(path) if path is not None else None
    return Selection(path, inventory, settings, environ)


def need_file(selection: Selection) -> tuple[Path, Inventory]:
    """The inventory, for commands that make no sense without one."""
    if selection.path is None or selection.inventory is None:
        raise InventoryError(
            [Problem("there is no inventory")],
            "write se-remote.yaml (docs/inventory.md), or name one: se-remote inventory check -i FILE",
        )
    return selection.path, selection.inventory
