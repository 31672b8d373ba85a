"""`se-remote clean`: remove what stays by design, and never what is in use."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from launcher.cli.output import Output, size
from launcher.cli.selection import select
from launcher.errors import LauncherError
from launcher.model import HostSpec
from launcher.plan import is_machine, slug
from launcher.remains import Remains

_KINDS = {"log": ("log", "logs"), "run": ("dead run", "dead runs"), "window": ("window", "windows")}


def run(args: argparse.Namespace) -> int:
    """Cleans every named host, all machines side by side; 3 when one could not be reached."""
    from launcher.lease import Launcher

    output = Output()
    selection = select(args)
    specs = selection.hosts(args.host) if args.host else selection.all_hosts()
    launcher = Launcher(selection.inventory, environ=selection.environ, ask=selection.ask)
    try:
        answers = launcher.clean(specs, dry=args.dry_run)
    finally:
        launcher.close()
    code, total = 0, 0
    for hosts, answer in answers:
        if isinstance(answer, LauncherError):
            output.error(answer)
            code = max(code, answer.exit_code)
            continue
        total += sum(amount for kind, amount, _ in answer.items if kind != "used")
        for line in _lines(hosts, answer, args.dry_run):
            output.result(line)
    output.result(f"{'would free' if args.dry_run else 'freed'} {size(total)}")
    return code


def _lines(hosts: Sequence[HostSpec], answer: Remains, dry: bool) -> list[str]:
    """A line for each host, and for what else was found that is theirs."""
    found = list(dict.fromkeys(name for _, _, name in answer.items))
    slugs = {slug(host.name): host.name for host in hosts if not is_machine(host)}
    lines = []
    for name in dict.fromkeys([*slugs, *found]):
        mine = [(kind, amount) for kind, amount, owner in answer.items if owner == name]
        shown = slugs.get(name, name)
        if any(kind == "used" for kind, _ in mine):
            lines.append(f"{shown}: left alone, it is not over yet: se-remote kill {shown}")
        words = [_amount(kind, [a for k, a in mine if k == kind]) for kind in _KINDS]
        words = [word for word in words if word]
        verb = "would remove" if dry else "removed"
        lines.append(f"{shown}: {verb} {', '.join(words)}" if words else f"{shown}: nothing to remove")
    return lines or [f"{host.name}: nothing to remove" for host in hosts]


def _amount(kind: str, amounts: Sequence[int]) -> str:
    if not amounts:
        return ""
    text = f"{len(amounts)} {_KINDS[kind][len(amounts) > 1]}"
    return text if kind == "window" else f"{text} ({size(sum(amounts))})"
