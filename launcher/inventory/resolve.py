"""What a file's names mean: entries looked up, their variants chosen, all of it checked at once."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from launcher.inventory.crossing import PushEntry
from launcher.inventory.entries import BUILT_IN, Document, Entry, Variant
from launcher.inventory.kinds import Field, Text
from launcher.inventory.params import names_in
from launcher.inventory.report import Place, Report, listing
from launcher.inventory.specs import Resolver, variant_params
from launcher.inventory.standing import ALL_OF_IT
from launcher.model import HostSpec, Problem, ProcessSpec

_NO_PARAMS: Mapping[str, str] = {}


@dataclass(frozen=True)
class Inventory:
    """A file that was read and found right. `Inventory()` is what there is without one: the host `local`."""

    document: Document = BUILT_IN
    problems: tuple[Problem, ...] = ()
    """What is wrong with the file, when it was read all the same: see `standing`."""

    @property
    def file(self) -> str:
        return self.document.file

    def hosts(self) -> list[str]:
        """Names of hosts as in the file; `local` is always among them."""
        return list(self.document.hosts)

    def processes(self) -> list[str]:
        return list(self.document.processes)

    def aliases(self) -> dict[str, str]:
        """Alias to name of host."""
        return dict(self.document.aliases)

    def variants(self, name: str) -> dict[str, str | None]:
        """Variants of a host (or alias) or process, each with its group or None; {} for an unknown name."""
        entry = self._entry(name)
        return {} if entry is None else {v.name: v.group for v in entry.variants}

    def groups(self) -> dict[str, list[str]]:
        """The groups of choices, by name, with what can be chosen anywhere in the file."""
        groups: dict[str, dict[str, None]] = {}
        for entry in [*self.document.hosts.values(), *self.document.processes.values()]:
            for variant in entry.variants:
                if variant.group is not None:
                    groups.setdefault(variant.group, {})[variant.name] = None
        return {group: list(choices) for group, choices in groups.items()}

    def known_names(self) -> list[str]:
        """Hosts and aliases: what may stand where HOST is asked for."""
        return [*self.document.hosts, *self.document.aliases]

    def canonical(self, name: str) -> str | None:
        """The host's name for a name or alias, without variants; None if unknown."""
        return self.document.canonical(name)

    def resolve(
        self, name: str, variants: Iterable[str] = (), params: Mapping[str, str] = _NO_PARAMS
    ) -> HostSpec:
        """The host of that name or alias; ``name+variant+…`` adds to `variants`.

        Raises InventoryError with all that is wrong.
        """
        report = Report()
        spec = resolve_host(self.document, name, variants, params, report)
        report.raise_if_any()
        assert spec is not None
        return spec

    def resolve_process(
        self, name: str, variants: Iterable[str] = (), params: Mapping[str, str] = _NO_PARAMS
    ) -> ProcessSpec:
        """The process of exactly that name. Raises InventoryError with all that is wrong."""
        report = Report()
        spec = resolve_process(self.document, name, variants, params, report)
        report.raise_if_any()
        assert spec is not None
        return spec

    def place_of_host(self, name: str, params: Mapping[str, str] = _NO_PARAMS) -> HostSpec:
        """As resolve, but only of what says where it is: what runs there needs no values."""
        report = Report()
        spec = resolve_host(self.document, name, (), params, report, place=True)
        report.raise_if_any()
        assert spec is not None
        return spec

    def place_of_process(
        self, name: str, variants: Iterable[str] = (), *, params: Mapping[str, str] = _NO_PARAMS
    ) -> ProcessSpec:
        """As resolve_process, but only of what says where it is and how it is stopped: so its command and
        all that is asked there need no values."""
        report = Report()
        spec = resolve_process(self.document, name, variants, params, report, place=True)
        report.raise_if_any()
        assert spec is not None
        return spec

    def check(self, params: Mapping[str, str] = _NO_PARAMS) -> list[Problem]:
        """Resolves every entry, plain and with each variant alone: what `inventory check` prints."""
        report = Report()
        for entry in [*self.document.hosts.values(), *self.document.processes.values()]:
            # What a variant sets need not have a value without it: a group may be there to be chosen from.
            later = frozenset(variant_params(entry))
            for chosen in [[], *([variant] for variant in entry.variants)]:
                resolver = Resolver(self.document, entry, chosen, params, report, later)
                if entry.is_process:
                    resolver.process()
                else:
                    resolver.host()
        return report.problems()

    def known_params(self) -> set[str]:
        """Parameters that are set or asked for anywhere in the file."""
        known = set(self.document.params)
        for entry in [*self.document.hosts.values(), *self.document.processes.values()]:
            known.update(variant_params(entry))
            for fields in (entry.fields, *(variant.fields for variant in entry.variants)):
                for key, field_ in fields.items():
                    # {server} in server and {cmd} in a variant's cmd are no parameters.
                    asked = {name for text in _texts({key: field_}) for name in names_in(text.value)}
                    known.update(asked - ({key} if key in ("server", "cmd") else set()))
        return known

    def _entry(self, name: str) -> Entry | None:
        host = self.document.canonical(name)
        return self.document.hosts[host] if host is not None else self.document.processes.get(name)


def _texts(fields: Mapping[str, Any]) -> Iterator[Text]:
    """All texts with parameters in the fields: of the keys themselves, of env and of ssh."""
    for value in fields.values():
        inner = value.value if isinstance(value, Field) else value
        if isinstance(inner, Text):
            yield inner
        elif isinstance(inner, Mapping):
            yield from _texts(inner)
        elif isinstance(inner, tuple):
            yield from (
                item.folder for item in inner if isinstance(item, PushEntry) and item.folder is not None
            )


def split_name(text: str) -> tuple[str, list[str]]:
    """``name+variant+variant`` as its parts."""
    name, *variants = text.split("+")
    return name, variants


def resolve_host(
    document: Document,
    text: str,
    variants: Iterable[str],
    params: Mapping[str, str],
    report: Report,
    *,
    place: bool = False,
) -> HostSpec | None:
    """As Inventory.resolve, with the caller's report. `place`: only of what says where it is."""
    name, more = split_name(text)
    host = document.canonical(name)
    if host is None:
        report.extend([unknown_host(document, name, text)])
        return None
    entry = document.hosts[host]
    before = report.count
    chosen = choose(entry, [*more, *variants], entry.place, report)
    resolver = Resolver(document, entry, chosen, params, report)
    spec = resolver.place_of_host() if place else resolver.host()
    return spec if report.count == before else None


def resolve_process(
    document: Document,
    name: str,
    variants: Iterable[str],
    params: Mapping[str, str],
    report: Report,
    *,
    place: bool = False,
) -> ProcessSpec | None:
    """As Inventory.resolve_process, with the caller's report. `place`: as Inventory.place_of_process."""
    entry = document.processes.get(name)
    if entry is None:
        names = document.processes
        report.add(Place(document.file), f'unknown process "{name}"', listing(names), known=names, word=name)
        return None
    before = report.count
    chosen = choose(entry, variants, entry.place, report)
    resolver = Resolver(document, entry, chosen, params, report)
    spec = resolver.place_of_process() if place else resolver.process()
    return spec if report.count == before else None


def unknown_host(document: Document, name: str, text: str) -> Problem:
    """Names what is known, and what the text may have meant."""
    report = Report()
    known = [*document.hosts, *document.aliases]
    if name in document.processes:
        hint = f"to start it: se-remote run; hosts: {', '.join(known)}"
        report.add(Place(document.file), f'"{name}" is a process, not a host', hint)
    elif name in document.left_out or ALL_OF_IT in document.left_out:
        hint = "cure that and repeat this; servers, not processes, also go by their machine: user@machine"
        report.add(
            Place(document.file), f'it is not clear where "{name}" is: what the file says is wrong', hint
        )
    else:
        hint = listing(known)
        if "." in text:
            hint += f"; an address is written tcp://{text}:7613 or {text}:7613"
        report.add(Place(document.file), f'unknown host "{text}"', hint, known=known, word=name)
    return report.problems()[0]


def choose(entry: Entry, names: Iterable[str], place: Place, report: Report) -> list[Variant]:
    """The named variants in the order of the file, each once."""
    wanted = dict.fromkeys(names)
    known = {variant.name: variant for variant in entry.variants}
    groups: dict[str, list[str]] = {}
    for variant in entry.variants:
        if variant.group is not None:
            groups.setdefault(variant.group, []).append(variant.name)
    for name in wanted:
        if name in known:
            continue
        if name in groups:
            report.add(
                place,
                f'"{name}" is a group of variants of {entry.name}',
                f"choose one of {', '.join(groups[name])}",
            )
        elif not known:
            report.add(place, f'{entry.name} has no variant "{name}"', "it has no variants at all")
        else:
            hint = listing(known)
            report.add(place, f'{entry.name} has no variant "{name}"', hint, known=known, word=name)
    for group, choices in groups.items():
        both = [name for name in choices if name in wanted]
        if len(both) > 1:
            report.add(
                place,
                f"{' and '.join(both)} are two variants of the group {group} of {entry.name}",
                "choose one",
            )
    return [variant for variant in entry.variants if variant.name in wanted]
