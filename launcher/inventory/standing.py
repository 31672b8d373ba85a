"""Of a file with mistakes: what stands all the same, for who only looks at what runs, or ends it.

| a mistake in                                                         | leaves out                          |
|----------------------------------------------------------------------|-------------------------------------|
| what an entry runs (cmd, env, setup, depends, push, …)               | nothing: where it runs is clear     |
| where it is or how it is stopped (machine, ssh, docker, host, …),    | the entry, and what has it as host  |
| an unknown key of it, its name                                       | or jumps through it                 |
| an entry that has the name of a key, or keys but not the needed one, | what stands above it, too: a line   |
| or the name of another                                               | that slipped may have cut that off  |
| machine, host or docker that is right, but cannot stand there (twice,| what has none of it, too: that line |
| a host in a host, beside the host of a process)                      | may be from there                   |
| a variant, in such a key                                             | the variant                         |
| a name or alias that two have                                        | that name, and what has it as host  |
|                                                                      | or jumps through it                 |
| `context` but for its params, `hosts` or `processes` as a whole, a   | everything: each entry may be meant |
| key at the top, two entries run into one while another has nothing,  |                                     |
| YAML where anchors share values, or it is not YAML                   |                                     |

An entry is never taken for what it may not be: a machine that cannot be read must not become this one.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace

from launcher.inventory.entries import LOCAL, Document, Entry, Variant
from launcher.inventory.keys import HOST_KEYS, HOST_VARIANT_KEYS, PROCESS_KEYS
from launcher.inventory.report import printable
from launcher.model import Problem

ALL_OF_IT = "all of it"
_PLACE = frozenset(("machine", "ssh", "docker", "host", "session", "persistent", "force_sigquit"))
_KEYS = frozenset((*HOST_KEYS, *HOST_VARIANT_KEYS, *PROCESS_KEYS))
_RUNS = _KEYS - _PLACE
"""Keys that say nothing of where something is and how it is stopped."""


def standing(document: Document, problems: Sequence[Problem], *, shared: bool) -> Document:
    """The document without what `problems` make unclear, which is then `left_out`.

    shared: it is not said of all that they concern.
    """
    entries = {**document.hosts, **document.processes}
    names = {entry.name: None for entry in entries.values() if entry is not LOCAL}
    paths = [problem.path for problem in problems]
    strays = _strays(document, entries, paths)
    named = {_named(path, entries) for path in paths} - {""}
    moved = "session" in strays | named or (bool(named) and _two_in_one(entries, paths))
    if shared or moved or any(_of_everything(path, document, names) for path in paths):
        hosts = {"local": LOCAL} if document.hosts.get("local") is LOCAL else {}
        return replace(document, hosts=hosts, processes={}, aliases={}, left_out=tuple(names) or (ALL_OF_IT,))
    twice = document.hosts.keys() & document.processes.keys()
    bad = {name for name, entry in entries.items() if name in twice or _unclear(entry, paths)}
    bad |= named - names.keys()
    bad |= {name for problem in problems for name in _cut_off(problem, entries)}
    bad |= {name for key in strays for name in _without_key(key, entries)}
    claims = Counter(alias.value for host in document.hosts.values() for alias in host.value("aliases", ()))
    unclear = {alias for alias in document.aliases if claims[alias] > 1 or alias in document.processes}
    unclear |= {
        alias for alias, name in document.aliases.items() if f"{_path(entries[name])}.aliases" in paths
    }
    while True:  # who needs one of them to be reached is as unclear
        gone = bad | unclear
        more = {name for name, entry in entries.items() if _reached_by(entry, document) & gone} - bad
        if not more:
            break
        bad |= more
    return replace(
        document,
        hosts={name: _without(host, paths) for name, host in document.hosts.items() if name not in bad},
        processes={
            name: _without(process, paths) for name, process in document.processes.items() if name not in bad
        },
        aliases={
            alias: name
            for alias, name in document.aliases.items()
            if name not in bad and alias not in unclear
        },
        left_out=tuple(sorted(bad)),
    )


def _of_everything(path: str, document: Document, names: Collection[str]) -> bool:
    """Also what is not known at the top: it may be a misspelt `context`."""
    if path == "context.params" or path.startswith("context.params."):
        return False
    if document.plain:
        return not any(path == name or path.startswith(f"{name}.") for name in names)
    return not path.startswith(("hosts.", "processes."))


def _two_in_one(entries: Mapping[str, Entry], paths: Collection[str]) -> bool:
    """The line with the name of one is gone; when another has nothing, it stands elsewhere."""
    return any(
        f"{_path(one)}.{key}" in paths and key in one.fields
        for one in entries.values()
        for key in ["cmd" if one.is_process else "machine"]
    )


def _named(path: str, entries: Mapping[str, Entry]) -> str:
    """The entry that the path names as a whole: it cannot be read, lacks something, or stands there twice."""
    for entry in entries.values():
        if entry is not LOCAL and path == _path(entry):
            return entry.name
    section, _, name = path.partition(".")
    of_one = any(path.startswith(f"{_path(entry)}.") for entry in entries.values())
    return name if section in ("hosts", "processes") and not of_one else ""


def _cut_off(problem: Problem, entries: Mapping[str, Entry]) -> list[str]:
    """What stands above an entry that may be a line that slipped, and has the last keys of that."""
    name = _named(problem.path, entries)
    above = [entry for entry in entries.values() if entry is not LOCAL and entry.place.line < problem.line]
    if not (name and above):
        return []
    cut, entry = max(above, key=lambda one: one.place.line), entries.get(name)
    if entry is None:  # nothing of it could be read
        slipped = name in _KEYS or (cut.is_process and not {"host", "machine"} & set(cut.fields))
    elif entry.place.line != problem.line:  # it stands there twice
        slipped = True
    else:
        whole = "cmd" if entry.is_process else "machine"
        slipped = name in _KEYS or (whole not in entry.fields and not _PLACE.isdisjoint(entry.fields))
    return [cut.name] if slipped else []


def _strays(document: Document, entries: Mapping[str, Entry], paths: Collection[str]) -> set[str]:
    """Keys of a place that are right by themselves, but not where they stand: they may be another's."""
    found = set()
    for entry in entries.values():
        for key in _PLACE:
            if f"{_path(entry)}.{key}" not in paths:
                continue
            if key not in entry.fields:  # else it cannot be read, and that is all
                stray = not entry.is_process and key not in HOST_KEYS
            else:
                stray = key != "host" or document.canonical(entry.value("host", "")) is not None
            found |= {key} if stray else set()
    return found


def _without_key(key: str, entries: Mapping[str, Entry]) -> list[str]:
    """What it may have been taken from."""
    has = {"host", "machine"} if key in ("host", "machine") else {key}
    has |= {"host"} if key in ("docker", "ssh") else set()
    some = [one for one in entries.values() if one is not LOCAL and (one.is_process or key in HOST_KEYS)]
    return [one.name for one in some if has.isdisjoint(one.fields)]


def _path(entry: Entry | Variant) -> str:
    return printable(entry.place.path)


def _unclear(entry: Entry | Variant, paths: Iterable[str]) -> bool:
    """A mistake in it is not one that only concerns what it runs."""
    here = _path(entry)
    inside = [path[len(here) + 1 :] for path in paths if path.startswith(f"{here}.")]
    return here in paths or any(rest.split(".")[0].split("[")[0] not in _RUNS for rest in inside)


def _without(entry: Entry, paths: Sequence[str]) -> Entry:
    """Without variants that are unclear; one that stands there twice is."""
    ends = {path.rpartition(".")[2] for path in paths if path.startswith(_path(entry))}
    kept = [one for one in entry.variants if one.name not in ends and not _unclear(one, paths)]
    return replace(entry, variants=tuple(kept))


def _reached_by(entry: Entry, document: Document) -> set[str]:
    """Names of hosts, as they stand there and their own, without which it is not known how it is reached."""
    found = {entry.value("host", "")}
    for fields in (entry.fields, *(variant.fields for variant in entry.variants)):
        ssh = fields["ssh"].value if "ssh" in fields else {}
        found |= {hop.strip() for hop in ssh["jump"].value.split(",")} if "jump" in ssh else set()
    return found | {host for host in map(document.canonical, found) if host is not None}
