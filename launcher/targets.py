"""What the name of a host means to those who call its actions: text, inventory and settings to a target.

As on the command line, and a direct address is one too. Blocks (it reads a file), touches no machine.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from launcher import inventory as inventories
from launcher.inventory import Inventory, Settings
from launcher.model import DirectAddress, HostSpec


@dataclass(frozen=True)
class Target:
    """What a name means, in the inventory it was looked up in."""

    host: HostSpec | DirectAddress
    name: str
    inventory: Inventory | None
    environ: Mapping[str, str]
    settings: Settings | None = None
    """Parameters and variants, also of what the host depends on."""


def target(name: str, inventory: Inventory | None, settings: Settings, environ: Mapping[str, str]) -> Target:
    """A host's name, `local`, user@machine, or an address (tcp://…, host:port, /path, ./path).

    Raises InventoryError with all that is wrong.
    """
    direct = name.startswith(("/", "./", "../")) or "://" in name or (":" in name and "@" not in name)
    host: HostSpec | DirectAddress
    if direct:
        settings = replace(settings, names={})  # SE_REMOTE_MAP is for scenarios
        host = inventories.resolve_endpoint(name, inventory, settings, cwd=Path.cwd())
    else:
        host = inventories.resolve_machine_arg(name, inventory, settings)
    name = host.name if isinstance(host, HostSpec) else name
    return Target(host, name, inventory, environ, settings)


@dataclass(frozen=True)
class Names:
    """How names of hosts are to be read: what `--inventory`, `--param` and `--variant` say."""

    inventory: str | Path | Inventory | None = None
    """None: looked for in the usual places."""
    variants: Sequence[str] = ()
    params: Mapping[str, str] | None = None
    environ: Mapping[str, str] | None = None
    """None: os.environ."""
    folder: Path | None = None
    """Where the search begins; None: the working directory."""

    def target(self, name: str) -> Target:
        """See `target`. Raises InventoryError."""
        inventory, settings, environ = self._read()
        return target(name, inventory, settings, environ)

    def hosts(
        self, names: Sequence[str] | None
    ) -> tuple[list[HostSpec], Inventory | None, Mapping[str, str]]:
        """The named hosts, None: all of the inventory. Raises InventoryError with all that is wrong."""
        inventory, settings, environ = self._read()
        wanted = list(names) if names is not None else (inventory or Inventory()).hosts()
        return inventories.resolve_machine_args(wanted, inventory, settings), inventory, environ

    def settings(self) -> Settings:
        """Parameters and variants. Raises InventoryError."""
        return self._read()[1]

    def _read(self) -> tuple[Inventory | None, Settings, Mapping[str, str]]:
        environ = dict(os.environ if self.environ is None else self.environ)
        params = [f"{key}={value}" for key, value in (self.params or {}).items()]
        settings = inventories.read_settings(environ, params=params, variants=self.variants)
        if isinstance(self.inventory, Inventory):
            return self.inventory, settings, environ
        path = inventories.find(environ, self.folder or Path.cwd(), None, self.inventory)
        return (inventories.load(path) if path is not None else None), settings, environ
