"""Collecting problems: where each one stands, what was meant, all of them at once.

Nothing of the inventory raises at the first fault. Functions take a Report, add to it and go on; the
outermost one calls `raise_if_any`.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from dataclasses import dataclass

from launcher.errors import InventoryError
from launcher.model import Problem

_MANY = 500
_SHOWN = 30


def listing(names: Iterable[str]) -> str:
    """``known: a, b, c``, cut where nobody would read on."""
    first = list(itertools.islice(names, _SHOWN + 1))
    return "known: " + ", ".join(first[:_SHOWN]) + (", …" if len(first) > _SHOWN else "")


def close_match(word: str, known: Iterable[str]) -> str:
    """``did you mean "x"?``, or "" when nothing known is near."""
    import difflib

    lower = {name.lower(): name for name in itertools.islice(known, _MANY)}
    found = difflib.get_close_matches(word[:100].lower(), lower, n=1, cutoff=0.6)
    return f'did you mean "{lower[found[0]]}"?' if found else ""


def printable(text: str) -> str:
    """The text on one line and without control characters: a file must not be able to steer a terminal."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


class Report:
    """Collects problems. Past ENOUGH of them the rest is only counted: a wrong file must not cost minutes."""

    ENOUGH = 100

    def __init__(self, problems: Iterable[Problem] = ()) -> None:
        self._problems: list[Problem] = []
        self._more = 0
        self.next_step = ""
        self.extend(problems)

    @property
    def count(self) -> int:
        return len(self._problems) + self._more

    def add(
        self, place: Place, message: str, hint: str = "", *, known: Iterable[str] = (), word: str = ""
    ) -> None:
        """One problem. With `known` and `word` a close match is put before the hint."""
        if len(self._problems) >= self.ENOUGH:
            self._more += 1
            return
        close = close_match(word, known) if word else ""
        self.extend([place.problem(message, "; ".join(part for part in (close, hint) if part))])

    def extend(self, problems: Iterable[Problem]) -> None:
        for problem in problems:
            if len(self._problems) < self.ENOUGH:
                self._problems.append(
                    Problem(
                        printable(problem.message),
                        printable(problem.file),
                        problem.line,
                        printable(problem.path),
                        printable(problem.hint),
                    )
                )
            else:
                self._more += 1

    def problems(self) -> list[Problem]:
        """Each once, in the order of the file."""
        unique = list(dict.fromkeys(self._problems))
        unique.sort(key=lambda p: (p.file, p.line))
        if self._more:
            unique.append(Problem(f"and {self._more} more"))
        return unique

    def raise_if_any(self) -> None:
        if self._problems:
            raise InventoryError(self.problems(), self.next_step)


@dataclass(frozen=True)
class Place:
    """Where something stands: what every Problem about it begins with."""

    file: str = ""
    line: int = 0
    path: str = ""

    def __truediv__(self, key: str) -> Place:
        return Place(self.file, self.line, f"{self.path}.{key}" if self.path else key)

    def at(self, line: int) -> Place:
        return Place(self.file, line, self.path)

    def item(self, index: int) -> Place:
        return Place(self.file, self.line, f"{self.path}[{index}]")

    def problem(self, message: str, hint: str = "") -> Problem:
        return Problem(message, self.file, self.line, self.path, hint)

    @property
    def source(self) -> str:
        return f"{self.file}:{self.line}" if self.line else self.file
