"""Processes of the inventory, each in a tmux window of its machine: started, watched, stopped.

`Launcher` is the public one (see api): imported when it is asked for, since it stands above all that is here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from launcher.processes.api import Launcher as Launcher
    from launcher.processes.api import Ran as Ran

__all__ = ["Launcher", "Ran"]


def __getattr__(name: str) -> object:
    if name in __all__:
        from launcher.processes import api

        return getattr(api, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
