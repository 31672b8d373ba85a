"""What the environment and the command line say on top of the inventory.

    SE_REMOTE_INVENTORY   path                     --inventory
    SE_REMOTE_PARAMS      k=v,…                    --param k=v
    SE_REMOTE_VARIANTS    lab-pc=debug+humble,…    --variant lab-pc=debug, or debug for all named;
                                                   a process or a group of choices may stand there too
    SE_REMOTE_MAP         robot=robot3,…           (scenarios only)

The command line wins over the environment, per parameter and per host. A comma in a value is written ``\\,``.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from launcher.inventory.params import IDENTIFIER, split_pairs
from launcher.inventory.report import Place, Report, listing
from launcher.inventory.resolve import Inventory
from launcher.model import Problem

INVENTORY = "SE_REMOTE_INVENTORY"
PARAMS = "SE_REMOTE_PARAMS"
VARIANTS = "SE_REMOTE_VARIANTS"
MAP = "SE_REMOTE_MAP"


@dataclass(frozen=True)
class Settings:
    inventory: str | None = None
    """Path of the inventory, when one was named."""
    params: Mapping[str, str] = field(default_factory=dict)
    options: frozenset[str] = frozenset()
    """Which of the parameters were given by ``--param``."""
    variants: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Host, alias, process or group of choices to variants."""
    for_all: tuple[str, ...] = ()
    """Variants for those of the named hosts that have them (``--variant debug``)."""
    names: Mapping[str, str] = field(default_factory=dict)
    """Name in the scenario to the name or address used instead."""


def read_settings(
    environ: Mapping[str, str],
    *,
    inventory: str | None = None,
    params: Iterable[str] = (),
    variants: Iterable[str] = (),
) -> Settings:
    """The variables of `environ`, and the command line's ``--inventory``, ``--param`` and ``--variant``.

    `params` and `variants` are as written, one item per use. Raises InventoryError with all that is wrong.
    """
    report = Report()
    chosen = _read_variants(
        split_pairs(environ.get(VARIANTS, ""), Place(VARIANTS), report), Place(VARIANTS), report
    )
    for_all: list[str] = []
    for text in variants:
        host, equals, names = text.partition("=")
        if equals:
            chosen.update(_read_variants({host.strip(): names}, Place("--variant"), report))
        else:
            for_all += _names(text, Place("--variant"), report)
    values = split_pairs(environ.get(PARAMS, ""), Place(PARAMS), report)
    _check_identifiers(values, Place(PARAMS), report)
    given: dict[str, str] = {}
    for text in params:
        name, equals, value = text.partition("=")
        if equals:
            given[name.strip()] = value
        else:
            report.add(Place("--param"), f'expected name=value, found "{text}"')
    _check_identifiers(given, Place("--param"), report)
    names_map = split_pairs(environ.get(MAP, ""), Place(MAP), report)
    for name, target in names_map.items():
        if not target:
            report.add(Place(MAP), f'expected name=name, found "{name}="')
    report.raise_if_any()
    file = inventory if inventory is not None else environ.get(INVENTORY) or None
    every = tuple(dict.fromkeys(for_all))
    return Settings(file, {**values, **given}, frozenset(given), chosen, every, names_map)


def _read_variants(pairs: Mapping[str, str], place: Place, report: Report) -> dict[str, tuple[str, ...]]:
    return {host: tuple(_names(text, place / host, report)) for host, text in pairs.items()}


def chosen_variants(inventory: Inventory, name: str, settings: Settings) -> list[str]:
    """The variants that the settings choose for a host or process of that very name."""
    own = inventory.variants(name)
    chosen: list[str] = []
    for key, variants in settings.variants.items():
        if key == name or inventory.canonical(key) == name:
            chosen += variants  # also those that it does not have: that is an error
        elif key in own.values():
            chosen += [variant for variant in variants if own.get(variant) == key]
    return [*chosen, *(variant for variant in settings.for_all if variant in own)]


def _names(text: str, place: Place, report: Report) -> list[str]:
    names = [name.strip() for name in text.split("+")]
    if not all(names):
        report.add(place, f'expected variants as name or name+name, found "{text}"')
    return [name for name in names if name]


def _check_identifiers(values: Mapping[str, str], place: Place, report: Report) -> None:
    for name in values:
        if not IDENTIFIER.match(name):
            report.add(
                place,
                f'"{name}" is no name of a parameter',
                "letters, digits and _, not beginning with a digit",
            )


def check_settings(inventory: Inventory, settings: Settings) -> list[Problem]:
    """Names in the settings that the inventory does not know: a typing error must not pass unnoticed."""
    report = Report()
    known = [*inventory.known_names(), *inventory.processes()]
    groups = inventory.groups()
    for name, chosen in settings.variants.items():
        for variant in chosen if name in groups else ():
            if variant not in groups[name]:
                hint = f"it has {', '.join(groups[name])}"
                text = f'the group {name} has no variant "{variant}"'
                report.add(Place(VARIANTS), text, hint, known=groups[name], word=variant)
        if inventory.canonical(name) is None and name not in (*inventory.processes(), *groups):
            report.add(Place(VARIANTS), f'unknown host "{name}"', listing(known), known=known, word=name)
    params = inventory.known_params() if settings.params else set()
    for name in settings.params:
        if name not in params:
            hint = listing(sorted(params)) if params else "this inventory has none"
            place = Place("--param" if name in settings.options else PARAMS)
            report.add(place, f'unknown parameter "{name}"', hint, known=sorted(params), word=name)
    return report.problems()
