"""`se-remote clean`: remove what stays by design, and never what is in use."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence

from launcher.cli.output import Output, size
from launcher.cli.selection import select
from launcher.command import quote
from launcher.errors import LauncherError
from launcher.model import HostSpec
from launcher.plan import is_machine, slug
from launcher.processes import looking, viewing
from launcher.processes.model import Key
from launcher.processes.viewing import Place, Subject
from launcher.remains import Remains

_KINDS = {"log": ("log", "logs"), "run": ("dead run", "dead runs"), "window": ("window", "windows")}


def run(args: argparse.Namespace) -> int:
    """Cleans every named host and process, all machines side by side; 3 when one could not be reached."""
    from launcher.lease import Launcher

    output = Output(inventory=args.inventory)
    selection = select(args)
    if args.host:
        specs, processes = selection.mixed(args.host)
    else:
        specs, processes = selection.all()
    subjects = [Subject.of(name, spec) for name, spec in processes.items()]
    places = _places(specs, subjects)
    launcher = Launcher(selection.inventory, environ=selection.environ, ask=selection.ask)
    try:
        answers = launcher.clean(specs, dry=args.dry_run) if specs else []
        # behind it: both remove the folder they share
        found = launcher.on_machines(lambda reach: viewing.clean(reach, places, dry=args.dry_run))
    finally:
        launcher.close()
    of_hosts: list[_Answer] = [
        ({slug(host.name): host.name for host in hosts if not is_machine(host)}, answer,
         [host.name for host in hosts])
        for hosts, answer in answers
    ]  # fmt: skip
    of_processes: list[_Answer] = [
        ({looking.place_of(one.key): one.name for one in subjects if one.place == place}, answer, [])
        for place, answer in found
    ]
    return _report([*of_hosts, *of_processes], output, args.dry_run)


_Answer = tuple[dict[str, str], "Remains | LauncherError", list[str]]
"""Names by how they are called there; what was removed; names to say it of when there was nothing at all."""


def _places(specs: Sequence[HostSpec], subjects: Sequence[Subject]) -> dict[Place, Sequence[Key] | None]:
    """Of which processes there; of a machine by itself of all."""
    places: dict[Place, Sequence[Key] | None] = {}
    for subject in subjects:
        places[subject.place] = [*(places.get(subject.place) or ()), subject.key]
    return {**places, **{Place(host.machine, host.ssh): None for host in specs if is_machine(host)}}


def _report(answers: Sequence[_Answer], output: Output, dry: bool) -> int:
    code, total = 0, 0
    told: set[str] = set()
    for names, answer, everybody in answers:
        if isinstance(answer, LauncherError):
            if str(answer) not in told:
                output.error(answer)
            told.add(str(answer))
            code = max(code, answer.exit_code)
            continue
        total += sum(amount for kind, amount, _ in answer.items if kind != "used")
        for line in _lines(names, answer, dry) or [f"{name}: nothing to remove" for name in everybody]:
            output.result(output.typed(line))
    output.result(f"{'would free' if dry else 'freed'} {size(total)}")
    return code


def _lines(names: Mapping[str, str], answer: Remains, dry: bool) -> list[str]:
    """A line for each name, and for what else was found that is theirs."""
    found = list(dict.fromkeys(name for _, _, name in answer.items))
    lines = []
    for name in dict.fromkeys([*names, *found]):
        mine = [(kind, amount) for kind, amount, owner in answer.items if owner == name]
        shown = names.get(name, name)
        if any(kind == "used" for kind, _ in mine):
            lines.append(f"{shown}: left alone, it is not over yet: se-remote kill {quote([shown])}")
        words = [_amount(kind, [a for k, a in mine if k == kind]) for kind in _KINDS]
        words = [word for word in words if word]
        verb = "would remove" if dry else "removed"
        lines.append(f"{shown}: {verb} {', '.join(words)}" if words else f"{shown}: nothing to remove")
    return lines


def _amount(kind: str, amounts: Sequence[int]) -> str:
    if not amounts:
        return ""
    text = f"{len(amounts)} {_KINDS[kind][len(amounts) > 1]}"
    return text if kind == "window" else f"{text} ({size(sum(amounts))})"
