"""How a process was asked for, as its run directory keeps it: so it can be started again as it ran. Pure."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Recipe:
    """What an inventory needs beside its own text to come to the same process again."""

    variants: tuple[str, ...] = ()
    """Those that were chosen for it."""
    params: Mapping[str, str] = field(default_factory=dict)
    """Those that were given, beside those of the inventory."""
    depends: tuple[str, ...] = ()
    """With these variants: names of processes, and of hosts without their variants."""

    def text(self) -> str:
        """As one line of ASCII."""
        values = {"variants": self.variants, "params": dict(self.params), "depends": self.depends}
        return json.dumps(values)


def read(text: str) -> Recipe | None:
    """Of such a line; None when it is none (of another version)."""
    try:
        values = json.loads(text)
        return Recipe(
            tuple(map(str, values["variants"])),
            {str(name): str(value) for name, value in values["params"].items()},
            tuple(map(str, values["depends"])),
        )
    except (ValueError, TypeError, KeyError, AttributeError):
        return None
