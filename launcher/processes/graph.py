"""What a run comes to, purely: inventory + names + variants + parameters → a Stack.

    build()        →  Stack: what is to be ready, each once, and in which order
    ends_with()    →  levels of names: what is stopped with these, dependants first
    config_hash()  →  of everything that decides what a process runs

Everything that is wrong is in one InventoryError, before any machine is touched.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import MappingProxyType

from launcher import inventory as inventories
from launcher.errors import InventoryError
from launcher.inventory import Inventory, Settings
from launcher.inventory.report import Place, Report, listing
from launcher.inventory.resolve import resolve_host, resolve_process, split_name
from launcher.model import HostSpec, Problem, ProcessSpec
from launcher.processes.model import Key
from launcher.processes.recipe import Recipe


@dataclass(frozen=True)
class Item:
    """A process or host that is to be ready."""

    name: str
    """Of a process as in the inventory, without variants; of a host with them."""
    spec: ProcessSpec | HostSpec
    depends: tuple[str, ...] = ()
    """Names of items."""
    recipe: Recipe = field(default_factory=Recipe)
    """Of a process: how it comes to its spec."""

    @property
    def process(self) -> ProcessSpec | None:
        return self.spec if isinstance(self.spec, ProcessSpec) else None

    @property
    def key(self) -> Key:
        return Key(self.spec.session, self.name)


@dataclass(frozen=True)
class Stack:
    """Items by name, dependencies before those that need them. Without circles."""

    items: Mapping[str, Item]
    targets: tuple[str, ...]
    """What was asked for by name."""

    def levels(self) -> list[list[str]]:
        """The items in rounds: each needs only those of the rounds before."""
        return _rounds({name: item.depends for name, item in self.items.items()})[0]

    def dependants(self, name: str) -> list[str]:
        """All that need it, directly or not."""
        found: dict[str, None] = {}
        wanted = {name}
        for item in self.items.values():  # dependencies come first
            if wanted.intersection(item.depends):
                found[item.name] = None
                wanted.add(item.name)
        return list(found)

    def behind(self, name: str) -> tuple[Key | str, ...]:
        """Of a process: what needs it, directly or not, on its own machine; hosts by their names."""
        machine = self.items[name].spec.machine
        users = [self.items[other] for other in self.dependants(name)]
        return tuple(
            item.key if item.process is not None else item.name
            for item in users
            if item.spec.machine == machine
        )


def config_hash(spec: ProcessSpec) -> str:
    """Of everything that decides what runs: two specs of one hash mean the same process."""
    box, check = spec.docker, spec.ready_check
    values: list[object] = [
        spec.cmd,
        spec.shell,
        spec.setup,
        sorted(spec.env.items()),
        spec.login,
        spec.persistent,
        None
        if box is None
        else [box.name, box.image, list(box.run), box.user, box.workdir, box.login, box.engine],
        None if check is None else [check.command, check.log, check.port, check.file],
    ]
    return hashlib.sha256(json.dumps(values).encode()).hexdigest()[:16]


def build(
    inventory: Inventory | None,
    names: Iterable[str],
    settings: Settings | None = None,
    *,
    hosts: Sequence[HostSpec] = (),
    strict: bool = True,
    recipes: Mapping[str, Recipe] = MappingProxyType({}),
) -> Stack:
    """What must be ready for `names` to be: processes and hosts, `NAME+variant` too.

    `hosts`: further targets, resolved already. `strict`: a variant that is chosen for all and that nothing
    has is an error. `recipes`: of processes for which `settings` do not count. Raises InventoryError.
    """
    builder = _Builder(inventory or Inventory(), settings or Settings(), recipes)
    return builder.build(list(names), hosts, strict)


class _Builder:
    def __init__(self, inventory: Inventory, settings: Settings, recipes: Mapping[str, Recipe]) -> None:
        self._inventory = inventory
        self._settings = settings
        self._recipes = recipes
        self._report = Report()
        self._items: dict[str, Item] = {}
        self._wanted: list[tuple[str, list[str]]] = []
        """Names that are still to be looked up, with variants that were written behind them."""
        self._asked: dict[str, list[str]] = {}

    def build(self, names: list[str], hosts: Sequence[HostSpec], strict: bool) -> Stack:
        targets = [self._target(text) for text in names]
        for spec in hosts:
            self._add_host(spec)
            targets.append(spec.name)
        while self._wanted:
            self._look_up(*self._wanted.pop())
        self._check(strict)
        self._report.raise_if_any()
        place = {name: at for at, name in enumerate([*self._inventory.hosts(), *self._inventory.processes()])}
        names = sorted(self._items, key=lambda name: place.get(name, place.get(split_name(name)[0], 0)))
        rounds, circle = _rounds({name: self._items[name].depends for name in names})
        if circle:
            self._report_circle(circle)
        ordered = {name: self._items[name] for names in rounds for name in names}
        return Stack(ordered, tuple(dict.fromkeys(name for name in targets if name)))

    def _target(self, text: str) -> str:
        """The item's name; "" after a report."""
        name, variants = self._split(text)
        host = self._inventory.canonical(name)
        if host is not None:
            spec = self._host(text)
            if spec is not None:
                self._add_host(spec)
            return spec.name if spec is not None else ""
        if name not in self._inventory.processes():
            known = [*self._inventory.processes(), *self._inventory.known_names()]
            place = Place(self._inventory.file)
            self._report.add(place, f'unknown process "{text}"', listing(known), known=known, word=name)
            return ""
        if variants or name in self._asked:
            before = self._asked.setdefault(name, variants)
            if sorted(before) != sorted(variants):
                text = f"{name} is asked for with different variants: it can run once"
                self._report.add(Place(self._inventory.file), text)
        self._asked[name] = variants
        self._wanted.append((name, variants))
        return name

    def _split(self, text: str) -> tuple[str, list[str]]:
        """Names of processes may hold a + themselves."""
        names = {*self._inventory.processes(), *self._inventory.known_names()}
        name, variants = text, list[str]()
        while name not in names and "+" in name:
            name, _, variant = name.rpartition("+")
            variants.insert(0, variant)
        return (name, variants) if name in names else split_name(text)

    def _look_up(self, name: str, variants: list[str]) -> None:
        if name in self._items:
            return
        if self._inventory.canonical(name) is not None:
            spec = self._host(name)
            if spec is not None:
                self._add_host(spec)
            return
        recipe = self._recipes.get(name)
        if recipe is None:
            chosen = [*variants, *self._asked.get(name, ())]
            chosen += inventories.chosen_variants(self._inventory, name, self._settings)
            recipe = Recipe(tuple(chosen), self._settings.params)
        document = self._inventory.document
        process = resolve_process(document, name, recipe.variants, recipe.params, self._report)
        if process is not None:
            depends = tuple(document.aliases.get(one, one) for one in process.depends)
            recipe = replace(recipe, depends=depends)
            self._items[name] = Item(name, process, tuple(self._needs(process.depends)), recipe)

    def _host(self, text: str) -> HostSpec | None:
        name = self._inventory.canonical(split_name(text)[0]) or text
        chosen = inventories.chosen_variants(self._inventory, name, self._settings)
        return resolve_host(self._inventory.document, text, chosen, self._settings.params, self._report)

    def _add_host(self, spec: HostSpec) -> None:
        if spec.name not in self._items:
            self._items[spec.name] = Item(spec.name, spec, ())  # it may need what needs it: a circle
            self._items[spec.name] = Item(spec.name, spec, tuple(self._needs(spec.depends)))
            self._report.extend(inventories.unsupported(spec))

    def _needs(self, names: Iterable[str]) -> Iterator[str]:
        for name in names:
            if self._inventory.canonical(name) is None:
                if name not in self._inventory.processes():
                    text = f'depends on "{name}", which is neither a process nor a host of an inventory'
                    self._report.add(Place(self._inventory.file), text)
                    continue
                self._wanted.append((name, []))
                yield name
                continue
            spec = self._host(name)
            if spec is not None:
                self._add_host(spec)
                yield spec.name

    def _check(self, strict: bool) -> None:
        self._report.extend(inventories.check_settings(self._inventory, self._settings))
        specs = [item.spec for item in self._items.values() if isinstance(item.spec, HostSpec)]
        try:
            inventories.check_selection(specs)
        except InventoryError as error:
            self._report.extend(error.problems)
        if not strict:
            return
        used = {variant for item in self._items.values() for variant in self._variants_of(item)}
        if self._report.count:  # something is missing among the items: say only what holds all the same
            names = [*self._inventory.processes(), *self._inventory.hosts()]
            used |= {variant for name in names for variant in self._inventory.variants(name)}
        for variant in self._settings.for_all:
            if variant not in used:
                known = sorted(used)
                hint = listing(known) if known else "none of them has variants"
                text = f'nothing of this run has a variant "{variant}"'
                self._report.add(Place("--variant"), text, hint, known=known, word=variant)

    def _variants_of(self, item: Item) -> Iterable[str]:
        name = item.name if item.process is not None else split_name(item.name)[0]
        return self._inventory.variants(name)

    def _report_circle(self, circle: Sequence[str]) -> None:
        file, _, line = self._items[circle[0]].spec.source.rpartition(":")
        text = f"depends in a circle with these variants: {' → '.join([*circle, circle[0]])}"
        raise InventoryError([Problem(text, file, int(line) if line.isdigit() else 0)])


def ends_with(
    inventory: Inventory, names: Iterable[str], running: Mapping[str, Sequence[str]] = MappingProxyType({})
) -> list[list[str]]:
    """What is to be stopped for `names` (processes, hosts without variants) to be, in rounds.

    What needs one of them comes before it, however many steps away; a one-shot takes with it what it depends
    on itself: it is a group. `running`: what some depend on as they run; the others: with whichever variants.
    """
    everything = (*inventory.processes(), *inventory.hosts())
    needs = {name: tuple(running.get(name, _all_depends(inventory, name))) for name in everything}
    wanted: dict[str, None] = {}
    groups = list(names)
    while groups:
        name = groups.pop()
        if name not in wanted:
            wanted[name] = None
            if _is_one_shot(inventory, name):
                groups += needs[name]
    todo = list(wanted)
    while todo:
        name = todo.pop()
        for other, depends in needs.items():
            if name in depends and other not in wanted:
                wanted[other] = None
                todo.append(other)
    inside = {name: depends for name, depends in needs.items() if name in wanted}
    rounds, circle = _rounds(inside)
    if (
        circle
    ):  # variants together may go round in one; the plain entries only where that is one of the mistakes
        rounds, circle = _rounds({name: _all_depends(inventory, name, variants=False) for name in inside})
    if circle:
        rounds.append([name for name in inside if not any(name in names for names in rounds)])
    return rounds[::-1]


def needed(inventory: Inventory, names: Iterable[str]) -> list[str]:
    """Processes: of `names`, and of all that these need with whichever variants."""
    found: dict[str, None] = {}
    todo = list(names)
    while todo:
        name = todo.pop()
        if name not in found:
            found[name] = None
            todo += _all_depends(inventory, name)
    return [name for name in found if name in inventory.processes()]


def by_variant(inventory: Inventory, name: str) -> bool:
    """Whether what a process depends on is a matter of its variants."""
    entry = inventory.document.processes.get(name)
    return entry is not None and any("depends" in variant.fields for variant in entry.variants)


def _is_one_shot(inventory: Inventory, name: str) -> bool:
    entry = inventory.document.processes.get(name)
    return entry is not None and not entry.value("persistent", True)


def _all_depends(inventory: Inventory, name: str, *, variants: bool = True) -> tuple[str, ...]:
    """Of the entry itself and of all its variants."""
    document = inventory.document
    entry = document.processes.get(name) or document.hosts[name]
    fields = [entry.fields, *(variant.fields for variant in entry.variants if variants)]
    found = [item.value for one in fields if "depends" in one for item in one["depends"].value]
    return tuple(dict.fromkeys(document.aliases.get(text, text) for text in found))


def _rounds(needs: Mapping[str, Sequence[str]]) -> tuple[list[list[str]], list[str]]:
    """Names in rounds, each behind what it needs; and a circle, if there is one."""
    left = {name: set(depends) & set(needs) for name, depends in needs.items()}
    users: dict[str, list[str]] = {name: [] for name in needs}
    for name, depends in left.items():
        for dependency in depends:
            users[dependency].append(name)
    rounds: list[list[str]] = []
    ready = [name for name, depends in left.items() if not depends]
    while ready:
        rounds.append(ready)
        following: dict[str, None] = {}
        for name in ready:
            del left[name]
            for user in users[name]:
                left[user].discard(name)
                if not left[user]:
                    following[user] = None
        ready = [name for name in needs if name in following] if len(following) > 1 else list(following)
    if not left:
        return rounds, []
    circle, name = list[str](), next(iter(left))
    while name not in circle:
        circle.append(name)
        name = min(left[name])
    return rounds, circle[circle.index(name) :]
