"""Where processes of the inventory run, for the doctor: machines and containers that no host stands for."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping

from launcher import inventory as inventories
from launcher.cli.selection import Selection
from launcher.errors import InventoryError
from launcher.inventory import Inventory
from launcher.model import HostSpec, ProcessSpec

Places = list[tuple[HostSpec, tuple[str, ...]]]
"""Each as a host that nobody starts a server on, called as its first process; and its processes' names."""


def processes(selection: Selection) -> dict[str, ProcessSpec]:
    """Those of the inventory; a parameter that a variant would have to set counts as empty."""
    inventory, settings = selection.inventory or Inventory(), selection.settings
    unset = dict.fromkeys(inventory.known_params() - set(inventory.document.params), "")
    found = {}
    for name in inventory.processes():
        variants = inventories.chosen_variants(inventory, name, settings)
        for params in (settings.params, {**unset, **settings.params}):
            try:
                found[name] = inventory.resolve_process(name, variants, params)
                break
            except InventoryError:
                continue  # `inventory check` says what is wrong with it
    return found


def needed(names: Iterable[str], known: Mapping[str, ProcessSpec]) -> list[str]:
    """The processes among `names`, with all that they depend on."""
    waiting, found = list(names), []
    while waiting:
        name = waiting.pop(0)
        if name in known and name not in found:
            found.append(name)
            waiting += known[name].depends
    return found


def places(specs: Collection[ProcessSpec], hosts: Iterable[HostSpec]) -> Places:
    """Where these run, but for where a host of `hosts` is."""
    covered = {(host.machine, host.docker) for host in hosts}
    groups: dict[object, list[ProcessSpec]] = {}
    for spec in specs:
        if (spec.machine, spec.docker) not in covered:
            groups.setdefault((spec.machine, spec.docker, spec.ssh, spec.shell, spec.setup), []).append(spec)
    return [(_as_host(some[0]), tuple(spec.name for spec in some)) for some in groups.values()]


def _as_host(spec: ProcessSpec) -> HostSpec:
    return HostSpec(
        spec.name, spec.machine, ssh=spec.ssh, docker=spec.docker, shell=spec.shell, setup=spec.setup,
        env=spec.env, session=spec.session, source=spec.source,
    )  # fmt: skip
