"""A file's nodes to entries: all that can be known about a file without choosing variants or parameters.

Rules:
- All problems go into one report; nothing here stops at the first.
- Names form one space: a host, an alias or a process is found by its name alone, so each stands once.
- Dependencies are checked for the plain entries and for each variant alone: every name known, no way round
  in a circle. So are jump hosts.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from launcher.inventory.keys import (
    CONTEXT_KEYS,
    FILE_KEYS,
    HOST_KEYS,
    HOST_VARIANT_KEYS,
    LOCAL_KEYS,
    PROCESS_KEYS,
    PROCESS_VARIANT_KEYS,
)
from launcher.inventory.kinds import NAME, NAME_RULE, Field, Key, found, is_null, item_place, read_keys
from launcher.inventory.params import names_in
from launcher.inventory.report import Place, Report, close_match, listing
from launcher.inventory.yamlnodes import Mapping as MappingNode
from launcher.inventory.yamlnodes import Node, Scalar, Sequence
from launcher.model import Machine


@dataclass(frozen=True)
class Variant:
    """A flag (group is None) or one choice of a group."""

    name: str
    group: str | None
    place: Place
    fields: Mapping[str, Field]


@dataclass(frozen=True)
class Entry:
    """A host or process as it stands in the file."""

    name: str
    place: Place
    fields: Mapping[str, Field]
    variants: tuple[Variant, ...] = ()
    is_process: bool = False

    def value(self, key: str, default: Any = None) -> Any:
        found_field = self.fields.get(key)
        return default if found_field is None else found_field.value


@dataclass(frozen=True)
class Document:
    """A whole file. The host `local` is always among the hosts."""

    file: str = ""
    session: str = "se-remote"
    params: Mapping[str, str] = field(default_factory=dict)
    hosts: Mapping[str, Entry] = field(default_factory=dict)
    processes: Mapping[str, Entry] = field(default_factory=dict)
    aliases: Mapping[str, str] = field(default_factory=dict)
    plain: bool = False
    """In concert_launcher's form: commands run as there, with the rc file of an interactive shell."""
    left_out: tuple[str, ...] = ()
    """Names that stand in the file, but are unclear: see `standing`."""

    def canonical(self, name: str) -> str | None:
        """The host's name for a name or alias; None if unknown."""
        name = self.aliases.get(name, name)
        return name if name in self.hosts else None


LOCAL = Entry("local", Place(), {"machine": Field(Machine(), Place())})
BUILT_IN = Document(hosts={"local": LOCAL})
"""What there is without a file."""


def read_document(root: Node, file: str, report: Report) -> Document:
    """The file's entries. What is wrong goes to the report; the document then holds what could be read."""
    top = Place(file, root.line)
    if not isinstance(root, MappingNode):
        report.add(top, f"expected a mapping with context, hosts, processes, {found(root)}")
        return dataclasses.replace(BUILT_IN, file=file)
    session, params = _read_context(root, top, report)
    hosts: dict[str, Entry] = {}
    processes: dict[str, Entry] = {}
    plain = "hosts" not in root.items and "processes" not in root.items
    if not plain:
        for name, (line, node) in root.items.items():
            here = (top / name).at(line)
            if name == "hosts":
                hosts = _read_section(node, here, report, is_process=False)
            elif name == "processes":
                processes = _read_section(node, here, report, is_process=True)
            elif name not in FILE_KEYS and not name.startswith("."):
                report.add(
                    here,
                    f'unknown key "{name}"',
                    listing(FILE_KEYS),
                    known=FILE_KEYS,
                    word=name,
                )
    else:
        processes = _read_plain(root, top, report)
    hosts.setdefault("local", LOCAL)
    aliases = _read_aliases(hosts, processes, report)
    document = Document(file, session, params, hosts, processes, aliases, plain)
    _check_host_keys(document, report)
    _check_depends(document, report)
    return document


def _read_context(root: MappingNode, top: Place, report: Report) -> tuple[str, dict[str, str]]:
    if "context" not in root.items:
        return "se-remote", {}
    line, node = root.items["context"]
    here = (top / "context").at(line)
    if is_null(node):
        return "se-remote", {}
    fields = read_keys(node, here, report, CONTEXT_KEYS, dots=True) or {}
    params: dict[str, str] = fields["params"].value if "params" in fields else {}
    for name, value in params.items():
        for inner in names_in(value):
            if inner in params:
                report.add(
                    here / "params" / name,
                    f"holds {{{inner}}}, but parameters are not replaced inside of parameters",
                    "write its value out, or put both into the command",
                )
    return fields["session"].value if "session" in fields else "se-remote", params


def _read_plain(root: MappingNode, top: Place, report: Report) -> dict[str, Entry]:
    """concert_launcher's form: every top-level mapping but `context` is a process."""
    nodes = MappingNode(root.line)
    for name, (line, node) in root.items.items():
        if name == "context" or name.startswith("."):
            continue
        close = close_match(name, FILE_KEYS)
        if close and not (isinstance(node, MappingNode) and "cmd" in node.items):
            report.add((top / name).at(line), f'unknown key "{name}"', close)
            continue
        nodes.items[name] = (line, node)
    return _read_section(nodes, dataclasses.replace(top, path=""), report, is_process=True)


def _read_section(node: Node, place: Place, report: Report, *, is_process: bool) -> dict[str, Entry]:
    if is_null(node):
        return {}
    kind = "process" if is_process else "host"
    if not isinstance(node, MappingNode):
        report.add(place, f"expected a mapping of {kind} names, {found(node)}")
        return {}
    entries: dict[str, Entry] = {}
    for name, (line, child) in node.items.items():
        here = (place / name).at(line)
        if name.startswith("."):
            continue
        if is_process and not (name.strip() and name.isprintable()):
            report.add(here, f'"{name}" is no name of a process', "any printable text is")
        elif not is_process and not NAME.match(name):
            report.add(here, f'"{name}" is no name of a host', NAME_RULE)
        entry = _read_entry(name, child, here, report, is_process=is_process)
        if entry is not None:
            entries[name] = entry
    return entries


def _read_entry(name: str, node: Node, place: Place, report: Report, *, is_process: bool) -> Entry | None:
    if is_null(node):
        needs = "cmd" if is_process else "machine"
        report.add(place, f"is empty: at least {needs} is needed", f"{name}: {{{needs}: …}}")
        return None
    keys = PROCESS_KEYS if is_process else LOCAL_KEYS if name == "local" else HOST_KEYS
    fields = read_keys(node, place, report, keys)
    if fields is None:
        return None
    written = fields.pop("variants", None)
    variants: tuple[Variant, ...] = ()
    if written is not None:
        variants = _read_variants(written.value, written.place, report, is_process=is_process)
    return Entry(name, place, fields, variants, is_process)


def _read_variants(node: Node, place: Place, report: Report, *, is_process: bool) -> tuple[Variant, ...]:
    if is_null(node):
        return ()
    if not isinstance(node, MappingNode):
        report.add(place, f"expected variants as name: {{keys}} or group: [choices], {found(node)}")
        return ()
    keys = PROCESS_VARIANT_KEYS if is_process else HOST_VARIANT_KEYS
    variants: list[Variant] = []
    for name, (line, child) in node.items.items():
        here = (place / name).at(line)
        if isinstance(child, Sequence):
            if not child.items:
                report.add(here, "is a group without choices")
            for index, item in enumerate(child.items):
                variants += _read_choice(name, item, item_place(here, index, item), report, keys)
        else:
            variants += _read_variant(name, None, child, here, report, keys)
    groups = {name for name, (_, child) in node.items.items() if isinstance(child, Sequence)}
    seen: dict[str, Variant] = {}
    for variant in variants:
        if not (
            variant.name.isprintable() and variant.name.strip() if is_process else NAME.match(variant.name)
        ):
            report.add(
                variant.place, f'"{variant.name}" is no name of a variant', "" if is_process else NAME_RULE
            )
        if variant.name in seen or (variant.name in groups and variant.group != variant.name):
            report.add(
                variant.place, f'the variant "{variant.name}" stands here twice', "each name means one thing"
            )
        seen.setdefault(variant.name, variant)
    return tuple(seen.values())


def _read_choice(
    group: str, item: Node, place: Place, report: Report, keys: Mapping[str, Key]
) -> Iterator[Variant]:
    if isinstance(item, Scalar) and item.kind != "null":
        yield Variant(item.text, group, place, {})
    elif isinstance(item, MappingNode) and len(item.items) == 1:
        ((name, (line, child)),) = item.items.items()
        yield from _read_variant(name, group, child, (place / name).at(line), report, keys)
    else:
        hint = "its keys are indented under its name" if isinstance(item, MappingNode) else ""
        report.add(place, f"expected a choice as its name or as one name: {{keys}}, {found(item)}", hint)


def _read_variant(
    name: str, group: str | None, node: Node, place: Place, report: Report, keys: Mapping[str, Key]
) -> Iterator[Variant]:
    if is_null(node):
        yield Variant(name, group, place, {})
        return
    fields = read_keys(node, place, report, keys)
    if fields is not None:
        yield Variant(name, group, place, fields)


def _read_aliases(
    hosts: Mapping[str, Entry], processes: Mapping[str, Entry], report: Report
) -> dict[str, str]:
    aliases: dict[str, str] = {}
    for host in hosts.values():
        for alias in host.value("aliases", ()):
            name = alias.value
            if name == "localhost":
                report.add(alias.place, "localhost is always an address, never a host of the inventory")
            elif name == host.name:
                report.add(alias.place, f'"{name}" is the host\'s own name')
            elif name in hosts:
                report.add(
                    alias.place, f'"{name}" is the name of another host', f"see {hosts[name].place.source}"
                )
            elif name in aliases:
                report.add(alias.place, f'"{name}" is already an alias of {aliases[name]}')
            else:
                aliases[name] = host.name
    for process in processes.values():
        if process.name in hosts and process.name != "local":
            report.add(process.place, f'"{process.name}" is also the name of a host')
        elif process.name == "local":
            report.add(process.place, "local is always a host: this machine")
        elif process.name in aliases:
            report.add(
                process.place, f'"{process.name}" is also an alias of the host {aliases[process.name]}'
            )
    return aliases


def _check_host_keys(document: Document, report: Report) -> None:
    """What one key says about another."""
    if "localhost" in document.hosts:
        place = document.hosts["localhost"].place
        report.add(place, "localhost is always an address, never a host of the inventory", "call it local")
    local = document.hosts["local"]
    for fields in (local.fields, *(variant.fields for variant in local.variants)):
        if "machine" in fields and not fields["machine"].value.is_local:
            report.add(fields["machine"].place, "the host local is this machine and cannot be another")
    jumps = {name: list(_hops(host)) for name, host in document.hosts.items()}
    _report_cycle(jumps, document.aliases, report, what="jumps")
    for process in document.processes.values():
        if "host" not in process.fields:
            continue
        host = process.fields["host"]
        for key in ("machine", "ssh", "docker"):
            if key in process.fields:
                report.add(
                    process.fields[key].place, f"{key} comes from the host {host.value}", "give one of them"
                )
        if document.canonical(host.value) is None:
            names = [*document.hosts, *document.aliases]
            report.add(
                host.place,
                f'unknown host "{host.value}"',
                listing(names),
                known=names,
                word=host.value,
            )


def _hops(host: Entry) -> Iterator[Field]:
    ssh = host.value("ssh", {})
    if "jump" in ssh:
        for hop in ssh["jump"].value.split(","):
            yield Field(hop.strip(), ssh["jump"].place)


def _check_depends(document: Document, report: Report) -> None:
    entries = {**document.hosts, **document.processes}
    names = [*entries, *document.aliases]
    plain: dict[str, list[Field]] = {}
    changed: list[tuple[str, list[Field]]] = []
    for entry in entries.values():
        plain[entry.name] = list(entry.value("depends", ()))
        for variant in entry.variants:
            if "depends" in variant.fields:
                changed.append((entry.name, list(variant.fields["depends"].value)))
    for fields in [*plain.values(), *(fields for _, fields in changed)]:
        for dependency in fields:
            if document.aliases.get(dependency.value, dependency.value) not in entries:
                report.add(
                    dependency.place,
                    f'depends on "{dependency.value}", which is neither a process nor a host',
                    known=names,
                    word=dependency.value,
                )
    _report_cycle(plain, document.aliases, report)
    for name, fields in changed:
        _report_cycle({**plain, name: fields}, document.aliases, report, only=name)


def _report_cycle(
    edges: Mapping[str, list[Field]],
    aliases: Mapping[str, str],
    report: Report,
    only: str | None = None,
    what: str = "depends",
) -> None:
    """Reports each circle where it closes; with `only`, circles through that entry.

    Not recursive: chains may be longer than Python's stack.
    """
    done: set[str] = set()
    for start in [only] if only is not None else list(edges):
        path: dict[str, None] = {}
        stack: list[tuple[str | None, Field | None]] = [(start, None)]
        while stack:
            name, via = stack.pop()
            if name is None:
                done.add(path.popitem()[0])
            elif name in path and via is not None:
                names = list(path)
                circle = [*names[names.index(name) :], name]
                if only is None or only in circle:
                    report.add(via.place, f"{what} in a circle: {' → '.join(circle)}")
            elif name not in done and name in edges:
                path[name] = None
                stack.append((None, None))
                stack += [(aliases.get(edge.value, edge.value), edge) for edge in reversed(edges[name])]
