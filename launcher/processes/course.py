"""How a run stands, purely: which items wait, for what, which may begin, what a failure takes with it.

    waiting  ──begin──►  begun  ──good──►  good  ──bad──►  bad
       │                   └──────bad──────────────────────►
       └──bad, or something that it needs is bad──────────►  bad

Anything else is a mistake of the caller: it raises and changes nothing.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable, Mapping

from launcher.errors import LauncherError, NotStarted
from launcher.processes.graph import Stack


class Step(enum.Enum):
    WAITING = "waiting"
    BEGUN = "begun"
    GOOD = "good"
    BAD = "bad"


_NEXT = {
    Step.WAITING: (Step.BEGUN, Step.BAD),
    Step.BEGUN: (Step.GOOD, Step.BAD),
    Step.GOOD: (Step.BAD,),
    Step.BAD: (),
}


class Course:
    """Of one run of a stack."""

    def __init__(self, stack: Stack) -> None:
        self._stack = stack
        self._steps = dict.fromkeys(stack.items, Step.WAITING)
        self._missing = {name: set(item.depends) for name, item in stack.items.items()}
        """By item: what it needs that is not good yet."""
        self._users: dict[str, list[str]] = {name: [] for name in stack.items}
        for name, item in stack.items.items():
            for dependency in item.depends:
                self._users[dependency].append(name)
        self._may = [name for name, missing in self._missing.items() if not missing]
        self._open = len(self._steps)
        self.errors: dict[str, LauncherError] = {}
        """Why items are bad."""

    def step(self, name: str) -> Step:
        return self._steps[name]

    @property
    def settled(self) -> bool:
        """Nothing waits and nothing is on its way."""
        return self._open == 0

    def take(self) -> list[str]:
        """The items that may begin now and have not; they count as begun."""
        names, self._may = self._may, []
        names = [name for name in names if self._steps[name] is Step.WAITING]
        for name in names:
            self._go(name, Step.BEGUN)
        return names

    def good(self, name: str) -> None:
        """It is ready; what waited for it alone may begin."""
        self._go(name, Step.GOOD)
        self._open -= 1
        for user in self._users[name]:
            self._missing[user].discard(name)
            if not self._missing[user] and self._steps[user] is Step.WAITING:
                self._may.append(user)

    def bad(self, name: str, error: LauncherError) -> list[str]:
        """It failed; returns the items that now will not be started, each with an error of its own."""
        was = self._steps[name]
        self._go(name, Step.BAD)
        self._open -= was is not Step.GOOD
        self.errors[name] = error
        lost: list[str] = []
        for other in self._stack.dependants(name):
            if self._steps[other] is Step.WAITING:
                self._go(other, Step.BAD)
                self._open -= 1
                self.errors[other] = NotStarted(other, self._because(other))
                lost.append(other)
        return lost

    def _because(self, name: str) -> str:
        """The first thing that it needs itself and that is bad."""
        needs = self._stack.items[name].depends
        return next(other for other in needs if self._steps[other] is Step.BAD)

    def _go(self, name: str, step: Step) -> None:
        if step not in _NEXT[self._steps[name]]:
            raise ValueError(f"{name} cannot be {step.value}: it is {self._steps[name].value}")
        self._steps[name] = step


def ending_rounds(stack: Stack, names: Iterable[str]) -> list[list[str]]:
    """`names` in the order in which they are stopped, rounds of what may go at once: dependants first."""
    wanted = set(names)
    rounds = [[name for name in level if name in wanted] for level in reversed(stack.levels())]
    return [names for names in rounds if names]


def root_of(error: LauncherError, errors: Mapping[str, LauncherError]) -> LauncherError:
    """What was the first to fail, on the way to this one."""
    while isinstance(error, NotStarted) and error.because in errors:
        error = errors[error.because]
    return error


def causes(errors: Mapping[str, LauncherError]) -> list[LauncherError]:
    """The errors that say more than that something else failed; all of them if none does."""
    found = [error for error in errors.values() if not isinstance(error, NotStarted)]
    return found or list(errors.values())
