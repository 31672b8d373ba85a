"""What may stand where the cursor is: `se-remote __complete`, which the scripts of `completion` call.

    words up to the cursor  →  the parser's own table of commands and options  →  kind, candidates

Rules:
- options and commands come from the parser itself: one that is added is completed;
- what stands in an argument's place is known by its metavar (HOST, NAME, PROCESS, FILE, …);
- the inventory is read only where one of its names may stand; one that is wrong completes nothing;
- it never fails loudly: a person is in the middle of typing. No machine is asked.

The answer is a line with its kind, then a line per candidate: the word, a tab, a few words about it. Kinds:
`plain`; `nospace`: the word goes on; `files`; `dirs`; `command N`: behind N words another command begins.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import shlex
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from launcher.inventory import Inventory

Find = Callable[[str], "Inventory | None"]
"""The inventory to use, from what follows `-i`, "" without it; None when there is none, or it is wrong."""

_FILES = frozenset({"FILE", "PACKAGE", "REMOTE"})
_DIRS = frozenset({"FOLDER", "DIR", "INTO"})
_ADVICE = 60
"""So much of a help text is shown."""


@dataclass(frozen=True)
class Answer:
    """What may stand there."""

    kind: str = "plain"
    candidates: tuple[tuple[str, str], ...] = ()
    """A word, and what it is."""


@dataclass
class _State:
    """How far a command line has been read."""

    parser: argparse.ArgumentParser
    words: list[str]
    """Of positional arguments of that parser."""
    awaits: argparse.Action | None = None
    """The option whose value comes next."""
    plain: bool = False
    """Behind `--`."""
    inventory: str = ""
    at: int = 0
    """Where the words of a command of its own begin; 0: there is none."""


def complete(parser: argparse.ArgumentParser, words: Sequence[str], current: str, find: Find) -> Answer:
    """The candidates for `current`, behind `words` (without the program's name)."""
    state = _read(parser, words)
    if state.at:
        return Answer(f"command {state.at}")
    if state.awaits is not None:
        return _filtered(_of_argument(state.awaits, state, current, find), current)
    if current.startswith("-") and not state.plain:
        option, equals, value = current.partition("=")
        action = _options(state.parser).get(option)
        if equals and action is not None:
            answer = _filtered(_of_argument(action, state, value, find), value)
            return Answer(answer.kind, tuple((f"{option}={word}", text) for word, text in answer.candidates))
        return _filtered(_option_words(state.parser), current)
    action = _positional(state)
    return _filtered(_of_argument(action, state, current, find), current) if action is not None else Answer()


def _read(parser: argparse.ArgumentParser, words: Sequence[str]) -> _State:
    state = _State(parser, [])
    command = ""
    for number, word in enumerate(words, 2):
        if state.awaits is not None:
            if state.awaits.metavar == "FILE":
                state.inventory = word
            state.awaits = None
        elif word == "--" and not state.plain:
            state.plain = True
            if command == "with":
                state.at = number
                return state
        elif word.startswith("-") and len(word) > 1 and not state.plain:
            _read_option(state, word)
        else:
            below = _subparsers(state.parser)
            if word in below and not state.words:
                command = command or word
                state.parser = below[word]
            else:
                state.words.append(word)
    return state


def _read_option(state: _State, word: str) -> None:
    option, equals, value = word.partition("=")
    action = _options(state.parser).get(option)
    if action is None or action.nargs == 0:
        return
    if not equals:
        state.awaits = action
    elif action.metavar == "FILE":
        state.inventory = value


def _options(parser: argparse.ArgumentParser) -> dict[str, argparse.Action]:
    return {option: action for action in parser._actions for option in action.option_strings}


def _subparsers(parser: argparse.ArgumentParser) -> dict[str, argparse.ArgumentParser]:
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            return dict(action.choices)
    return {}


def _option_words(parser: argparse.ArgumentParser) -> Answer:
    return Answer(
        candidates=tuple(
            (option, _short(action.help))
            for option, action in _options(parser).items()
            if option.startswith("--")
        )
    )


def _positional(state: _State) -> argparse.Action | None:
    """The argument whose turn it is."""
    left = len(state.words)
    for action in state.parser._actions:
        if action.option_strings:
            continue
        if left == 0 or action.nargs in ("*", "+"):
            return action
        left -= 1
    return None


def _of_argument(action: argparse.Action, state: _State, current: str, find: Find) -> Answer:
    if isinstance(action, argparse._SubParsersAction):
        helps = {choice.dest: _short(choice.help) for choice in action._choices_actions}
        return Answer(candidates=tuple((name, helps[name]) for name in action.choices if name in helps))
    if action.choices is not None:
        return Answer(candidates=tuple((str(choice), "") for choice in action.choices))
    metavar = str(action.metavar or "")
    if metavar in _FILES:
        return Answer("files")
    if metavar in _DIRS:
        return Answer("dirs")
    inventory: Inventory | None
    if metavar == "ACTION":
        return Answer(candidates=tuple(_plugins()))
    if metavar not in ("HOST", "NAME", "PROCESS", "[HOST=]NAME", "K=V"):
        return Answer()
    inventory = find(state.inventory)
    if metavar == "K=V":
        names = sorted(inventory.known_params()) if inventory is not None else ()
        return Answer("nospace", tuple((f"{name}=", "parameter") for name in names))
    if metavar == "[HOST=]NAME":
        return _variants(inventory, state.words, current)
    found: list[tuple[str, str]] = []
    if metavar != "PROCESS":
        found += _hosts(inventory, current)
    if inventory is not None and metavar != "HOST":
        found += [(name, "process") for name in inventory.processes()]
    return Answer(candidates=tuple(one for one in found if one[0] not in state.words))


def _hosts(inventory: Inventory | None, current: str) -> Iterable[tuple[str, str]]:
    """Names and aliases; behind a `+` the variants that are not chosen yet."""
    if inventory is None:
        return [("local", "this machine")]
    name, plus, _ = current.rpartition("+")
    if plus:
        chosen = name.split("+")[1:]
        left = [variant for variant in inventory.variants(name.split("+")[0]) if variant not in chosen]
        return [(f"{name}+{variant}", "variant") for variant in left]
    hosts = [(host, _machine(inventory, host)) for host in inventory.hosts()]
    return [*hosts, *((alias, f"alias of {host}") for alias, host in inventory.aliases().items())]


def _machine(inventory: Inventory, host: str) -> str:
    return str(inventory.document.hosts[host].value("machine") or "this machine")


def _variants(inventory: Inventory | None, hosts: Sequence[str], current: str) -> Answer:
    """Of `--variant`: of one host, or for all that are named."""
    if inventory is None:
        return Answer()
    host, equals, rest = current.partition("=")
    if equals:
        before, plus, _ = rest.rpartition("+")
        head = f"{host}={before}{plus}"
        return Answer(candidates=tuple((head + name, "variant") for name in inventory.variants(host)))
    known = [name for name in hosts if inventory.variants(name)] or inventory.hosts()
    found = {variant: "variant" for name in known for variant in inventory.variants(name)}
    return Answer(candidates=tuple(found.items()))


def _plugins() -> Iterable[tuple[str, str]]:
    """The actions that are installed here: a host's own would be an exec away."""
    from importlib.metadata import entry_points

    return sorted({(point.name, "action") for point in entry_points(group="scenario_execution.actions")})


def _filtered(answer: Answer, current: str) -> Answer:
    return Answer(answer.kind, tuple(one for one in answer.candidates if one[0].startswith(current)))


def _short(text: str | None) -> str:
    first = " ".join((text or "").replace("%%", "%").split())
    return first if len(first) <= _ADVICE else first[: _ADVICE - 1] + "…"


def split_line(line: str) -> tuple[list[str], str]:
    """The words of a line, and the one that the cursor is in: unquoted, also where a quote is still open."""
    for ending in ("", "'", '"'):
        with contextlib.suppress(ValueError):
            words = shlex.split(line + ending)
            inside = bool(ending) or (line[-1:] not in (" ", "\t") and bool(line))
            return (words[:-1], words[-1]) if inside and words else (words, "")
    return [], ""


def _find(named: str) -> Inventory | None:
    from pathlib import Path

    from launcher import inventory as inventories
    from launcher.errors import InventoryError

    try:
        path = inventories.find(os.environ, Path.cwd(), None, named or None)
        return inventories.load(path) if path is not None else None
    except InventoryError:
        return None


def shown(answer: Answer) -> str:
    """The answer as text."""
    lines = [answer.kind]
    lines += [f"{word}\t{text}" if text else word for word, text in answer.candidates if "\n" not in word]
    return "\n".join(lines) + "\n"


def main(parser: Callable[[], argparse.ArgumentParser], argv: Sequence[str]) -> int:
    """`__complete line BREAKS LINE` (bash) or `__complete words PROGRAM WORD… CURRENT`. Always 0, never loud.

    BREAKS: characters at which the shell itself breaks words; what stands before the last of them in the
    current word is not repeated.
    """
    with (
        contextlib.suppress(Exception),
        open(os.devnull, "w") as nowhere,
        contextlib.redirect_stderr(nowhere),
    ):
        how, first, *rest = argv
        words, current = split_line(rest[0]) if how == "line" else ([first, *rest[:-1]], rest[-1])
        answer = complete(parser(), words[1:], current, _find)
        if how == "line":
            cut = max(current.rfind(mark) for mark in "=:" if mark in first) + 1 if first else 0
            answer = Answer(answer.kind, tuple((word[cut:], text) for word, text in answer.candidates))
        _print(shown(answer))
    return 0


def _print(text: str) -> None:
    out: Any = sys.stdout
    with contextlib.suppress(Exception):
        out.reconfigure(encoding="utf-8", errors="surrogateescape")
    with contextlib.suppress(OSError):
        out.write(text)
        out.flush()
