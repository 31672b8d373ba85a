"""A command is a value: its words, quoted in this one place, and what of them must not be shown.

Rules:
- No other module puts words together to a shell line; `quote` does, for any POSIX shell.
- A command that is shown (an event, an error, a log, `--plan`) is `str(command)`: secret words read ``***``.
- Secrets do not belong in argv at all, where every user of a machine sees them; masking is the net below.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

MASK = "***"


def quote(argv: Sequence[str]) -> str:
    """One shell line that gives exactly these words. Raises ValueError for a NUL, which no argv can hold."""
    for word in argv:
        if "\0" in word:
            raise ValueError(f"a command cannot hold a NUL character: {word!r}")
    return shlex.join(argv)


def exports(env: Mapping[str, str]) -> str:
    """Shell lines that export the variables. Raises ValueError for a name that a shell would not take."""
    lines = []
    for name, value in env.items():
        if not (name.isascii() and name.isidentifier()):
            raise ValueError(f"{name!r} is no name of an environment variable")
        lines.append(f"export {name}={quote([value])}\n")
    return "".join(lines)


@dataclass(frozen=True)
class Command:
    """Words to run, without a shell in between."""

    argv: tuple[str, ...]
    secrets: frozenset[str] = field(default=frozenset(), repr=False)
    """Texts that are masked wherever they stand, within words too."""

    @classmethod
    def of(cls, *words: str, secrets: Iterable[str] = ()) -> Command:
        return cls(words, frozenset(secret for secret in secrets if secret))

    @property
    def line(self) -> str:
        """As a shell line, secrets included: to be run, never to be shown."""
        return quote(self.argv)

    def inside(self, *outer: str) -> Command:
        """This command's line as the last word of another: ``sh -c LINE``, ``ssh host LINE``."""
        return Command((*outer, self.line), self.secrets)

    def __str__(self) -> str:
        """As a shell line, secrets masked: to be shown."""
        return quote([self._masked(word) for word in self.argv])

    def __repr__(self) -> str:
        return f"Command({self})"

    def _masked(self, word: str) -> str:
        # The longest first: a secret may be a part of another.
        for secret in sorted(self.secrets, key=len, reverse=True):
            word = word.replace(secret, MASK)
        return word
