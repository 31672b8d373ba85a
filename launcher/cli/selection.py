"""What every command needs first: inventory, settings, the hosts that were named, who can be asked."""

from __future__ import annotations

import argparse
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from launcher import inventory as inventories
from launcher import terminal
from launcher.errors import InventoryError
from launcher.inventory import Inventory, Settings
from launcher.machines.runner import Asker
from launcher.model import HostSpec, Problem


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
