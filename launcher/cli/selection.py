"""What every command needs first: inventory, settings, the hosts that were named, who can be asked."""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import difflib
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from launcher import inventory as inventories
from launcher import terminal
from launcher.cli.output import Output
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

    @property
    def left_out(self) -> tuple[str, ...]:
        """Of the inventory, since what it says of them is wrong."""
        return self.inventory.document.left_out if self.inventory is not None else ()

    def hosts(self, names: Sequence[str]) -> list[HostSpec]:
        """The named hosts, each once. Raises InventoryError with all that is wrong."""
        return inventories.resolve_machine_args(names, self.inventory, self.settings)

    def everything(self) -> tuple[list[HostSpec], dict[str, ProcessSpec], list[Problem]]:
        """Where all hosts (`local` always) and processes with a command are; what is wrong with others."""
        inventory = self.inventory or Inventory()
        hosts: list[HostSpec] = []
        processes: dict[str, ProcessSpec] = {}
        problems: list[Problem] = []
        for name in inventory.hosts():
            with _collecting(problems):
                settings = dataclasses.replace(self.settings, for_all=self._of(inventory, name))
                hosts += inventories.resolve_machine_args([name], self.inventory, settings, places=True)
        for name in inventory.processes():
            if not _is_group(inventory, name):
                with _collecting(problems):
                    processes[name] = self._place(inventory, name)
        names = [*inventory.hosts(), *inventory.processes()]
        for variant in self.settings.for_all:
            if not any(variant in inventory.variants(name) for name in names):
                problems.append(Problem(f'--variant: nothing has a variant "{variant}"'))
        return hosts, processes, problems

    def all(self) -> tuple[list[HostSpec], dict[str, ProcessSpec]]:
        """As `everything`; what is wrong is an InventoryError."""
        hosts, processes, problems = self.everything()
        if problems:
            raise InventoryError(problems)
        return hosts, processes

    def _of(self, inventory: Inventory, name: str) -> tuple[str, ...]:
        """Those of the variants that are chosen for all that this one has."""
        return tuple(variant for variant in self.settings.for_all if variant in inventory.variants(name))

    def processes(self, names: Sequence[str]) -> dict[str, ProcessSpec]:
        """Where the named processes are. Raises InventoryError with all that is wrong."""
        inventory = self.inventory or Inventory()
        problems: list[Problem] = []
        found: dict[str, ProcessSpec] = {}
        for name in names:
            with _collecting(problems):
                found[name] = self._place(inventory, name)
        if problems:
            raise InventoryError(problems)
        return found

    def _place(self, inventory: Inventory, name: str) -> ProcessSpec:
        variants = inventories.chosen_variants(inventory, name, self.settings)
        return inventory.place_of_process(name, variants, params=self.settings.params)

    def mixed(self, names: Sequence[str]) -> tuple[list[HostSpec], dict[str, ProcessSpec]]:
        """Where the named hosts and processes are, each once. Raises InventoryError."""
        known = (self.inventory or Inventory()).processes()
        hosts = [name for name in names if name not in known]
        problems: list[Problem] = []
        specs: list[HostSpec] = []
        found: dict[str, ProcessSpec] = {}
        try:
            specs = inventories.resolve_machine_args(hosts, self.inventory, self.settings, places=True)
        except InventoryError as error:
            if not known or self.left_out:
                raise
            near = [one for name in hosts for one in difflib.get_close_matches(name, known, 1)]
            hint = f"did you mean the process {json.dumps(near[0], ensure_ascii=False)}?" if near else (
                f"processes are: {', '.join(known)}")  # fmt: skip
            problems += [dataclasses.replace(one, hint=f"{one.hint}; {hint}") for one in error.problems]
        with _collecting(problems):
            found = self.processes([name for name in names if name in known])
        if problems:
            raise InventoryError(problems)
        return specs, found

    @property
    def ask(self) -> Asker | None:
        """Asks on the terminal; None without one, for then nothing is asked."""
        return terminal.ask if terminal.can_ask() else None


def select(args: argparse.Namespace) -> Selection:
    """Reads settings and inventory for `args`. Raises InventoryError with all that is wrong."""
    return _select(args, mistaken=False)


def _select(args: argparse.Namespace, *, mistaken: bool) -> Selection:
    environ = dict(os.environ)
    settings = inventories.read_settings(
        environ, inventory=args.inventory, params=args.param, variants=args.variant
    )
    path = inventories.find(environ, Path.cwd(), None, args.inventory)
    inventory = inventories.load(path, mistaken=mistaken) if path is not None else None
    return Selection(path, inventory, settings, environ)


def select_standing(args: argparse.Namespace, output: Output) -> Selection:
    """As `select`, for who starts nothing: a file with mistakes is warned of, and what stands is there."""
    selection = _select(args, mistaken=True)
    if selection.inventory is not None and selection.inventory.problems:
        left = (
            f"; left out, since they are unclear: {', '.join(selection.left_out)}"
            if selection.left_out
            else ""
        )
        output.say(output.folded(f"warning: the inventory has mistakes{left}"), "warning")
        for problem in selection.inventory.problems:
            output.say(output.folded(f"  {problem}"))
    return selection


def need_file(selection: Selection) -> tuple[Path, Inventory]:
    """The inventory, for commands that make no sense without one."""
    if selection.path is None or selection.inventory is None:
        raise InventoryError(
            [Problem("there is no inventory")],
            "write se-remote.yaml (docs/inventory.md), or name one: se-remote inventory check -i FILE",
        )
    return selection.path, selection.inventory


def _is_group(inventory: Inventory, name: str) -> bool:
    """Of names alone: nothing runs there."""
    cmd = inventory.document.processes[name].fields.get("cmd")
    return cmd is not None and not cmd.value.value


@contextlib.contextmanager
def _collecting(problems: list[Problem]) -> Iterator[None]:
    try:
        yield
    except InventoryError as error:
        problems += [one for one in error.problems if one not in problems]
