"""Entries to specs: variants chosen, parameters replaced, defaults filled in.

Precedence of parameters: context < environment < command line < variant. Of variants, the one further down
in the file wins. A variant's key replaces the host's, but env, path_map, ssh and params are merged key by
key, and ``{cmd}`` in a variant's cmd is the process's cmd. ``{server}`` is the default command everywhere.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from launcher.inventory import expressions
from launcher.inventory.crossing import PushEntry
from launcher.inventory.entries import BUILT_IN, Document, Entry, Variant
from launcher.inventory.kinds import Field, Text, parse_machine
from launcher.inventory.params import names_in, substitute, wrap
from launcher.inventory.provision import is_path
from launcher.inventory.report import Place, Report, listing
from launcher.model import (
    HostSpec,
    Machine,
    Problem,
    ProcessSpec,
    Provision,
    Push,
    ReadyCheck,
    SshOptions,
)

_INHERITED = ("machine", "ssh", "docker", "shell", "setup", "env")
_NO_PARAMS: Mapping[str, str] = {}


@dataclass(frozen=True)
class Inventory:
    """A file that was read and found right. `Inventory()` is what there is without one: the host `local`."""

    document: Document = BUILT_IN

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

    def place_of_process(self, name: str, params: Mapping[str, str] = _NO_PARAMS) -> ProcessSpec:
        """As resolve_process, but only of what says where it is and how it is stopped: so its command and
        all that is asked there need no values."""
        report = Report()
        spec = _Resolver(self.document, self.document.processes[name], (), params, report).place()
        report.raise_if_any()
        return spec

    def check(self, params: Mapping[str, str] = _NO_PARAMS) -> list[Problem]:
        """Resolves every entry, plain and with each variant alone: what `inventory check` prints."""
        report = Report()
        for entry in [*self.document.hosts.values(), *self.document.processes.values()]:
            # What a variant sets need not have a value without it: a group may be there to be chosen from.
            later = frozenset(_variant_params(entry))
            for chosen in [[], *([variant] for variant in entry.variants)]:
                resolver = _Resolver(self.document, entry, chosen, params, report, later)
                if entry.is_process:
                    resolver.process()
                else:
                    resolver.host()
        return report.problems()

    def known_params(self) -> set[str]:
        """Parameters that are set or asked for anywhere in the file."""
        known = set(self.document.params)
        for entry in [*self.document.hosts.values(), *self.document.processes.values()]:
            known.update(_variant_params(entry))
            for fields in (entry.fields, *(variant.fields for variant in entry.variants)):
                for key, field_ in fields.items():
                    # {server} in server and {cmd} in a variant's cmd are no parameters.
                    asked = {name for text in _texts({key: field_}) for name in names_in(text.value)}
                    known.update(asked - ({key} if key in ("server", "cmd") else set()))
        return known

    def _entry(self, name: str) -> Entry | None:
        host = self.document.canonical(name)
        return self.document.hosts[host] if host is not None else self.document.processes.get(name)


def _variant_params(entry: Entry) -> Iterator[str]:
    for variant in entry.variants:
        if "params" in variant.fields:
            yield from variant.fields["params"].value


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
    document: Document, text: str, variants: Iterable[str], params: Mapping[str, str], report: Report
) -> HostSpec | None:
    """As Inventory.resolve, with the caller's report."""
    name, more = split_name(text)
    host = document.canonical(name)
    if host is None:
        report.extend([unknown_host(document, name, text)])
        return None
    entry = document.hosts[host]
    before = report.count
    chosen = choose(entry, [*more, *variants], entry.place, report)
    spec = _Resolver(document, entry, chosen, params, report).host()
    return spec if report.count == before else None


def resolve_process(
    document: Document, name: str, variants: Iterable[str], params: Mapping[str, str], report: Report
) -> ProcessSpec | None:
    """As Inventory.resolve_process, with the caller's report."""
    entry = document.processes.get(name)
    if entry is None:
        names = document.processes
        report.add(Place(document.file), f'unknown process "{name}"', listing(names), known=names, word=name)
        return None
    before = report.count
    chosen = choose(entry, variants, entry.place, report)
    spec = _Resolver(document, entry, chosen, params, report).process()
    return spec if report.count == before else None


def unknown_host(document: Document, name: str, text: str) -> Problem:
    """Names what is known, and what the text may have meant."""
    report = Report()
    known = [*document.hosts, *document.aliases]
    if name in document.processes:
        hint = f"to start it: se-remote run; hosts: {', '.join(known)}"
        report.add(Place(document.file), f'"{name}" is a process, not a host', hint)
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


@dataclass
class _Resolver:
    """One entry with its chosen variants; what has no value goes to the report."""

    document: Document
    entry: Entry
    chosen: Sequence[Variant]
    given: Mapping[str, str]
    report: Report
    later: frozenset[str] = frozenset()
    """Parameters that another variant would set: not reported as missing."""
    fields: dict[str, Field] = field(default_factory=dict)
    values: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.values = {**self.document.params, **self.given}
        self.fields = self._inherited()
        for fields in (self.entry.fields, *(variant.fields for variant in self.chosen)):
            for name, value in fields.items():
                if name == "params":
                    self.values.update(value.value)
                else:
                    self._set(name, value)

    def _inherited(self) -> dict[str, Field]:
        host = self.document.canonical(self.entry.value("host", "")) if self.entry.is_process else None
        if host is None:
            return {}
        fields = self.document.hosts[host].fields
        return {name: fields[name] for name in _INHERITED if name in fields}

    def _set(self, name: str, new: Field) -> None:
        old = self.fields.get(name)
        if name in ("env", "path_map", "ssh") and old is not None:
            new = Field({**old.value, **new.value}, new.place)
        elif name == "cmd" and old is not None:
            new = Field(Text(wrap(new.value.value, "cmd", old.value.value), new.value.place), new.place)
        self.fields[name] = new

    def host(self) -> HostSpec:
        plain = {
            key: self.fields[key].value
            for key in ("docker", "shell", "exclusive", "lease", "on_loss", "ready_timeout")
            if key in self.fields
        }
        texts: dict[str, Any] = {
            key: self._text(key) for key in ("setup", "python", "on_stop") if key in self.fields
        }
        if "server" in self.fields:
            texts["server"] = self._text("server", keep=("server",))
        return HostSpec(
            name=self._name(),
            machine=self._machine(),
            aliases=tuple(alias.value for alias in self.entry.value("aliases", ())),
            ssh=self._ssh(),
            env=self._texts_of("env"),
            push=self._push(),
            provision=self._provision(),
            path_map=self._texts_of("path_map"),
            depends=self._depends(),
            session=self.document.session,
            source=self.entry.place.source,
            **plain,
            **texts,
        )

    def process(self) -> ProcessSpec:
        plain = {
            key: self.fields[key].value
            for key in ("docker", "shell", "ready_timeout", "persistent", "force_sigquit", "show_ui")
            if key in self.fields
        }
        if not plain.get("persistent", True):
            plain.setdefault("ready_timeout", 0.0)  # it is ready when it has ended: as long as that takes
        texts: dict[str, Any] = {key: self._text(key) for key in ("setup",) if key in self.fields}
        session = self.fields.get("session")
        return ProcessSpec(
            name=self._name(),
            cmd=self._text("cmd") if "cmd" in self.fields else "",
            machine=self._machine(),
            host=self.document.canonical(self.entry.value("host", "")),
            ssh=self._ssh(),
            env=self._texts_of("env"),
            login=self._login(),
            ready_check=self._ready_check(),
            depends=self._depends(),
            session=session.value if session is not None else self.document.session,
            source=self.entry.place.source,
            **plain,
            **texts,
        )

    def place(self) -> ProcessSpec:
        """Where the process is, without what runs there."""
        keys = ("docker", "persistent", "force_sigquit", "show_ui")
        plain = {key: self.fields[key].value for key in keys if key in self.fields}
        session = self.fields.get("session")
        return ProcessSpec(
            name=self._name(),
            cmd="",
            machine=self._machine(),
            host=self.document.canonical(self.entry.value("host", "")),
            ssh=self._ssh(),
            session=session.value if session is not None else self.document.session,
            source=self.entry.place.source,
            **plain,
        )

    def _login(self) -> bool:
        if "login" in self.fields:
            return bool(self.fields["login"].value)
        docker = self.fields.get("docker")
        return self.document.plain or (docker is not None and docker.value.login)

    def _ready_check(self) -> ReadyCheck | None:
        field = self.fields.get("ready_check")
        if field is None:
            return None
        if isinstance(field.value, Text):
            return ReadyCheck(command=self._replaced(field.value))
        ((form, text),) = field.value.items()
        value = self._replaced(text)
        if form == "file":
            return ReadyCheck(file=value)
        if form == "log":
            wrong = expressions.fault(value)
            if wrong:
                message = f'"{value}" is no extended regular expression: {wrong}'
                self.report.add(text.place, message, "what is meant literally has a \\ before it")
            return ReadyCheck(log=value)
        if re.fullmatch(r"[0-9]{1,5}", value) and 0 < int(value) < 65536:
            return ReadyCheck(port=int(value))
        if not names_in(value):  # else it has no value yet, or that is reported
            self.report.add(text.place, f'"{value}" is no port (1 to 65535)')
        return ReadyCheck(port=1)

    def _name(self) -> str:
        return "+".join([self.entry.name, *sorted(variant.name for variant in self.chosen)])

    def _machine(self) -> Machine:
        machine = self.fields.get("machine")
        return machine.value if machine is not None else Machine()

    def _texts_of(self, key: str) -> dict[str, str]:
        field = self.fields.get(key)
        return {} if field is None else {name: self._replaced(text) for name, text in field.value.items()}

    def _push(self) -> tuple[Push, ...]:
        field = self.fields.get("push")
        return () if field is None else tuple(self._pushed(entry) for entry in field.value)

    def _pushed(self, entry: PushEntry) -> Push:
        """A relative path counts from the inventory's folder."""
        if entry.folder is None:
            return Push("", entry.to)
        path = self._replaced(entry.folder)
        if path.startswith("~"):
            return Push(path, entry.to)
        return Push(posixpath.normpath(posixpath.join(posixpath.dirname(self.document.file), path)), entry.to)

    def _provision(self) -> Provision | None:
        field = self.fields.get("provision")
        if field is None or field.value is None:
            return None
        packages = tuple(self._package(text) for text in field.value.packages)
        return Provision(field.value.auto, packages)

    def _package(self, text: Text) -> str:
        """A relative path counts from the inventory's folder; a name is not a path."""
        word = self._replaced(text)
        if not is_path(word) or word.startswith("~"):
            return word
        return posixpath.normpath(posixpath.join(posixpath.dirname(self.document.file), word))

    def _depends(self) -> tuple[str, ...]:
        depends = self.fields.get("depends")
        if depends is None:
            return ()
        return tuple(
            dict.fromkeys(self.document.aliases.get(item.value, item.value) for item in depends.value)
        )

    def _text(self, key: str, keep: tuple[str, ...] = ()) -> str:
        return self._replaced(self.fields[key].value, keep)

    def _replaced(self, text: Text, keep: tuple[str, ...] = ()) -> str:
        result, missing = substitute(text.value, self.values, keep)
        for name in missing:
            if name not in self.later:
                self._missing(name, text.place)
        return result

    def _missing(self, name: str, place: Place) -> None:
        hint = f"define it under context.params, or pass --param {name}=VALUE (SE_REMOTE_PARAMS={name}=VALUE)"
        setters = [
            v.name for v in self.entry.variants if "params" in v.fields and name in v.fields["params"].value
        ]
        if setters:
            hint += f", or choose a variant that sets it: {', '.join(setters)}"
        hint += f"; text in braces is written {{{{{name}}}}}"
        known = sorted({*self.values, *_variant_params(self.entry)})
        self.report.add(place, f"the parameter {{{name}}} has no value", hint, known=known, word=name)

    def _ssh(self) -> SshOptions:
        ssh = self.fields.get("ssh")
        options = SshOptions()
        # A variant may move a host from another machine to this one; its ssh options then mean nothing.
        if ssh is None or self._machine().is_local:
            return options
        for key in ("identity", "known_hosts"):
            if key in ssh.value:
                options = replace(options, **{key: self._replaced(ssh.value[key].value)})
        if "jump" in ssh.value:
            hops = [
                self._hop(hop.strip(), ssh.value["jump"].place) for hop in ssh.value["jump"].value.split(",")
            ]
            options = replace(options, jump=",".join(hops))
        return options

    def _hop(self, text: str, place: Place) -> str:
        """A machine to go through: a host of this file by its name, else as ssh understands it."""
        name = self.document.canonical(text)
        if name is not None:
            machine = self.document.hosts[name].value("machine", Machine())
        else:
            machine = parse_machine(text)
        if isinstance(machine, str):
            self.report.add(place, machine)
            return text
        if machine.is_local:
            self.report.add(place, f'"{text}" is this machine: there is nothing to go through')
        return name or str(machine)
