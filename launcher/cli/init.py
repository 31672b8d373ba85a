"""`se-remote init`: writes a first inventory, from ~/.ssh/config and answers. Never over one that exists."""

from __future__ import annotations

import argparse
import glob
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from launcher import inventory as inventories
from launcher import terminal
from launcher.cli.output import Output
from launcher.errors import InventoryError, LauncherError
from launcher.inventory import starting
from launcher.inventory.starting import Entry, Known
from launcher.machines.runner import Asker
from launcher.model import Problem

_MOST_INCLUDES = 100
_NO_MACHINES = ("localhost", "github.com", "gitlab.com", "bitbucket.org")
"""Of ~/.ssh/config, but nobody runs actions there."""


def run(args: argparse.Namespace) -> int:
    """Asks what it has to, writes the inventory and its schema, and says what to do next."""
    path = Path(args.file)
    output = Output(inventory=None if args.file == inventories.FILE_NAME else args.file)
    if path.exists() or path.is_symlink():
        raise _wrong(
            path, "is there already, and is not written over", f"edit it, or: --file {path.stem}-2.yaml"
        )
    known = known_machines(os.environ)
    ask = terminal.ask if terminal.can_ask() and not args.yes else None
    if args.entry:
        entries = _given(args.entry, known, args.python)
    elif args.yes:
        entries = _entries([(one.alias, one) for one in known], args.python)
    elif ask is not None:
        entries = asked(ask, known, args.python)
    else:
        raise LauncherError(
            "there is no terminal to ask on",
            "se-remote init --yes, for all hosts of ~/.ssh/config, or: se-remote init lab-pc=robot@10.0.0.5",
        )
    text = starting.render(entries)
    inventories.read(text, str(path))  # what is wrong with it is said instead of written
    write_new(path, text)
    write_schema(path)
    first = entries[0].name if entries else "NAME"
    output.result(f"{path}: {len(entries)} host{'' if len(entries) == 1 else 's'}")
    output.say(f"next: se-remote doctor {first}")
    return 0


def known_machines(environ: Mapping[str, str]) -> list[Known]:
    """The hosts of ~/.ssh/config and of what it includes, but for this machine."""
    folder = Path(environ.get("HOME") or "~").expanduser() / ".ssh"
    waiting, texts = [folder / "config"], []
    seen: set[Path] = set()
    while waiting and len(seen) < _MOST_INCLUDES:
        path = waiting.pop(0)
        if path in seen or not path.is_file():
            continue
        seen.add(path)
        text = path.read_text(errors="replace")
        texts.append(text)
        for pattern in starting.included(text):
            home = str(folder.parent)
            whole = os.path.join(folder, home + pattern[1:] if pattern.startswith("~/") else pattern)
            waiting += [Path(found) for found in sorted(glob.glob(whole))]
    return [one for one in starting.known_hosts(texts) if one.alias not in _NO_MACHINES]


def _given(words: Sequence[str], known: Sequence[Known], python: str | None) -> list[Entry]:
    """`NAME` of ~/.ssh/config, `NAME=MACHINE`, or a machine."""
    by_alias = {one.alias: one for one in known}
    pairs, problems = [], []
    for word in words:
        name, equals, machine = word.partition("=")
        if equals and not starting.is_name(name):
            problems.append(Problem(f'"{name}" is no name of a host: letters, digits, - and _', path=word))
        elif not equals and "@" not in word and word not in by_alias:
            listed = ", ".join(by_alias) or "none"
            problems.append(
                Problem(f'~/.ssh/config has no Host "{word}"', path=word, hint=f"it has: {listed}")
            )
        target = machine if equals else word
        pairs.append((name if equals else word, by_alias.get(target, Known(target))))
    if problems:
        raise InventoryError(problems, "write NAME=user@machine")
    return _entries(pairs, python)


def _entries(pairs: Sequence[tuple[str, Known]], python: str | None) -> list[Entry]:
    found: dict[str, Entry] = {}
    for wanted, one in pairs:
        name = starting.name_for(wanted, found)
        found[name] = Entry(name, one.alias, python or "", _remark(one))
    return list(found.values())


def _remark(one: Known) -> str:
    return f"{one.address}, as ~/.ssh/config says" if one.address else ""


def asked(ask: Asker, known: Sequence[Known], python: str | None) -> list[Entry]:
    """What a person at the terminal wants."""
    pairs = []
    for one in known:
        shown = f"{one.alias} ({one.address})" if one.address else one.alias
        answer = ask(f"{shown} of ~/.ssh/config: use it? [Y/n] ", secret=False)
        if answer is not None and answer.strip().lower() in ("", "y", "yes"):
            pairs.append((one.alias, one))
    while machine := (
        ask("another machine, as user@host[:port] (none: Enter): ", secret=False) or ""
    ).strip():
        proposed = starting.name_for(machine, [name for name, _ in pairs])
        name = (ask(f"what is it called? [{proposed}] ", secret=False) or "").strip() or proposed
        if starting.is_name(name):
            pairs.append((name, Known(machine)))
        else:
            ask(
                f'"{name}" is no name of a host: letters, digits, - and _; it is left out (Enter) ',
                secret=False,
            )
    if pairs and python is None:
        python = (ask("python there that has se-remote [python3]: ", secret=False) or "").strip()
    return _entries(pairs, "" if python == "python3" else python)


def write_new(path: Path, text: str) -> None:
    """A file that is not there yet. Raises InventoryError."""
    try:
        with path.open("x", encoding="utf-8") as file:
            file.write(text)
    except FileExistsError as error:
        raise _wrong(path, "is there already, and is not written over") from error
    except OSError as error:
        raise _wrong(path, f"cannot be written: {error.strerror}") from error


def write_schema(inventory: Path) -> Path:
    """The schema beside an inventory, for editors; one of ours is written anew. Raises InventoryError."""
    path = inventory.parent / starting.SCHEMA_FILE
    schema = inventories.schema()
    if path.is_file():
        try:
            ours = json.loads(path.read_text(encoding="utf-8")).get("title") == schema.get("title")
        except (ValueError, AttributeError, OSError):
            ours = False
        if not ours:
            raise _wrong(path, "is there, and is not our schema", "move it away")
    try:
        path.write_text(json.dumps(schema, indent=2) + "\n", encoding="utf-8")
    except OSError as error:
        raise _wrong(path, f"cannot be written: {error.strerror}") from error
    return path


def name_schema(inventory: Path) -> bool:
    """Have the inventory name the schema beside it, in its first line; False: it names one already."""
    before = inventory.read_text(encoding="utf-8")
    after = starting.with_schema(before)
    if after == before:
        return False
    scratch = inventory.with_name(f".{inventory.name}.{os.getpid()}")
    try:
        scratch.write_text(after, encoding="utf-8")
        scratch.chmod(inventory.stat().st_mode & 0o777)
        scratch.replace(inventory)
    except OSError as error:
        scratch.unlink(missing_ok=True)
        raise _wrong(inventory, f"cannot be written: {error.strerror}") from error
    return True


def _wrong(path: Path, text: str, step: str = "") -> InventoryError:
    return InventoryError([Problem(text, str(path))], step)
