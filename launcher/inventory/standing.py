"""Of a file with mistakes: what stands all the same, for who only looks at what runs, or ends it.

| a mistake in                                                         | leaves out                          |
|----------------------------------------------------------------------|-------------------------------------|
| what an entry runs (cmd, env, setup, depends, push, …)               | nothing: where it runs is clear     |
| where it is or how it is stopped (machine, ssh, docker, host, …),    | the entry, and what has it as host  |
| an unknown key of it, its name                                       | or jumps through it                 |
| a variant, in such a key                                             | the variant                         |
| a name or alias that two have                                        | that name                           |
| `context` but for its params, `hosts` or `processes` as a whole, the | everything: each entry may be meant |
| YAML itself where values are shared by anchors, or it is not YAML    |                                     |

An entry is never taken for what it may not be: a machine that cannot be read must not become this one.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import replace

from launcher.inventory.entries import LOCAL, Document, Entry, Variant
from launcher.inventory.keys import HOST_KEYS, HOST_VARIANT_KEYS, PROCESS_KEYS
from launcher.inventory.report import printable
from launcher.model import Problem

ALL_OF_IT = "all of it"
_PLACE = frozenset(("machine", "ssh", "docker", "host", "session", "persistent", "force_sigquit"))
_RUNS = frozenset((*HOST_KEYS, *HOST_VARIANT_KEYS, *PROCESS_KEYS)) - _PLACE
"""Keys that say nothing of where something is and how it is stopped."""


def standing(document: Document, problems: Sequence[Problem], *, shared: bool) -> Document:
    """The document without what `problems` make unclear, which is then `left_out`.

    shared: it is not said of all that they concern.
    """
    entries = {**document.hosts, **document.processes}
    names = {entry.name: None for entry in entries.values() if entry is not LOCAL}
    if shared or any(_of_everything(problem.path, document) for problem in problems):
        hosts = {"local": LOCAL} if document.hosts.get("local") is LOCAL else {}
        return replace(document, hosts=hosts, processes={}, aliases={}, left_out=tuple(names) or (ALL_OF_IT,))
    paths = [problem.path for problem in problems]
    twice = document.hosts.keys() & document.processes.keys()
    bad = {name for name, entry in entries.items() if name in twice or _unclear(entry, paths)}
    bad |= set(_unread(paths, names))
    while True:  # who needs one of them to be reached is as unclear
        more = {name for name, entry in entries.items() if _reached_by(entry, document) & bad} - bad
        if not more:
            break
        bad |= more
    claims = Counter(alias.value for host in document.hosts.values() for alias in host.value("aliases", ()))
    return replace(
        document,
        hosts={name: _without(host, paths) for name, host in document.hosts.items() if name not in bad},
        processes={
            name: _without(process, paths) for name, process in document.processes.items() if name not in bad
        },
        aliases={
            alias: name
            for alias, name in document.aliases.items()
            if name not in bad and claims[alias] == 1 and alias not in document.processes
        },
        left_out=tuple(sorted(bad)),
    )


def _of_everything(path: str, document: Document) -> bool:
    if path == "context" or path.startswith("context."):
        return path != "context.params" and not path.startswith("context.params.")
    return path.startswith(".") or path in (("",) if document.plain else ("", "hosts", "processes"))


def _unread(paths: Iterable[str], names: Collection[str]) -> Iterator[str]:
    """Entries of which nothing could be read, and what stands at the top that is not known."""
    for path in paths:
        section, _, name = path.partition(".")
        if section not in ("context", *names) and not name:
            yield section
        elif section in ("hosts", "processes") and "." not in name and name not in names:
            yield name


def _unclear(entry: Entry | Variant, paths: Iterable[str]) -> bool:
    """A mistake in it is not one that only concerns what it runs."""
    here = printable(entry.place.path)
    inside = [path[len(here) + 1 :] for path in paths if path.startswith(f"{here}.")]
    return here in paths or any(rest.split(".")[0].split("[")[0] not in _RUNS for rest in inside)


def _without(entry: Entry, paths: Sequence[str]) -> Entry:
    """Without variants that are unclear; one that stands there twice is."""
    ends = {path.rpartition(".")[2] for path in paths if path.startswith(printable(entry.place.path))}
    kept = [one for one in entry.variants if one.name not in ends and not _unclear(one, paths)]
    return replace(entry, variants=tuple(kept))


def _reached_by(entry: Entry, document: Document) -> set[str]:
    """Names of hosts without which it is not known how it is reached."""
    found = {entry.value("host", "")}
    for fields in (entry.fields, *(variant.fields for variant in entry.variants)):
        ssh = fields["ssh"].value if "ssh" in fields else {}
        found |= {hop.strip() for hop in ssh["jump"].value.split(",")} if "jump" in ssh else set()
    return {document.canonical(name) or name for name in found}
