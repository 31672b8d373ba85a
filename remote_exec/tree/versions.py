"""Whether an action's package has the same version on a host as here: said before the first tick.

A difference is a warning, once per host and package: most of them are harmless, and the one that is not then
stands right above what it breaks. The plugin that is missing altogether is an error of the setup.
"""

from __future__ import annotations

import importlib.metadata
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any, Final

GROUP: Final = "scenario_execution.actions"

FindLocal = Callable[[str], tuple[str, str]]
"""Plugin to package and version here; ("", "") when unknown."""


@lru_cache(maxsize=256)
def installed(plugin: str) -> tuple[str, str]:
    """Where a plugin comes from on this machine."""
    for point in importlib.metadata.entry_points(group=GROUP, name=plugin):
        if point.dist is not None:
            return point.dist.name, point.dist.version
    return "", ""


def own_version() -> str:
    """Of this package, as installed."""
    try:
        return importlib.metadata.version("se-remote")
    except importlib.metadata.PackageNotFoundError:
        return "unknown"


class Versions:
    """The packages of one host that have been compared."""

    def __init__(self, host: str, find_local: FindLocal = installed) -> None:
        self._host = host
        self._find_local = find_local
        self._said: set[str] = set()

    def difference(self, plugin: str, name: str, where: str, created: Mapping[str, Any]) -> str:
        """What to warn of, "" for nothing. `created`: the reply to `create`; `where`: of the action."""
        package, version = created.get("package"), created.get("version")
        here, ours = self._find_local(plugin)
        if not package or not version or not here or package in self._said:
            return ""  # an older server does not say it
        if (package, version) == (here, ours):
            return ""
        self._said.add(str(package))
        return (
            f"[{self._host}] action '{name}' ({where}) comes from {package} {version} there and from "
            f"{here} {ours} here: install the same version on both sides if they do not fit"
        )
