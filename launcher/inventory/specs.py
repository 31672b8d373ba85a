"""One entry with its chosen variants to its spec: keys inherited and merged, parameters replaced.

Precedence of parameters: context < environment < command line < variant. Of variants, the one further down
in the file wins. A variant's key replaces the host's, but env, path_map, ssh and params are merged key by
key, and ``{cmd}`` in a variant's cmd is the process's cmd. ``{server}`` is the default command everywhere.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from launcher.inventory import expressions
from launcher.inventory.crossing import PushEntry
from launcher.inventory.entries import Document, Entry, Variant
from launcher.inventory.kinds import Field, Text, parse_machine
from launcher.inventory.params import names_in, substitute, wrap
from launcher.inventory.provision import is_path
from launcher.inventory.report import Place, Report
from launcher.model import HostSpec, Machine, ProcessSpec, Provision, Push, ReadyCheck, SshOptions

_INHERITED = ("machine", "ssh", "docker", "shell", "setup", "env")


def variant_params(entry: Entry) -> Iterator[str]:
    """Names of the parameters that its variants set."""
    for variant in entry.variants:
        if "params" in variant.fields:
            yield from variant.fields["params"].value


@dataclass
class Resolver:
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

    def place_of_host(self) -> HostSpec:
        """Where the host is, without what runs there."""
        keys = ("docker", "exclusive")
        return HostSpec(
            name=self._name(),
            machine=self._machine(),
            ssh=self._ssh(),
            session=self.document.session,
            source=self.entry.place.source,
            **{key: self.fields[key].value for key in keys if key in self.fields},
        )

    def place_of_process(self) -> ProcessSpec:
        """Where the process is and how it is stopped, without what runs there."""
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
        known = sorted({*self.values, *variant_params(self.entry)})
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
