"""Processes and hosts are stopped together: dependants first, whoever started them. Blocks.

A host that others use is left, and so is what it depends on, unless that is forced.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from launcher import inventory as inventories
from launcher import servers
from launcher.errors import Conflict, InventoryError, LauncherError
from launcher.inventory import Inventory, Settings
from launcher.lease import Launcher
from launcher.model import HostSpec, ProcessSpec, State
from launcher.plan import HostStatus, Stopped
from launcher.processes import viewing
from launcher.processes.graph import by_variant, ends_with
from launcher.processes.model import Change
from launcher.processes.viewing import Subject

Ended = Change | Stopped | LauncherError
"""What became of one: of a process, of a host's server, or why it could not be stopped."""


def was_running(ended: Ended) -> bool:
    """It ran, or its state is not known."""
    if isinstance(ended, Change):
        return ended.state is State.STOPPED and not (ended.code is None and ended.reason)
    return not (isinstance(ended, Stopped) and ended.how in ("none", "dead"))


def failed(ended: Ended) -> bool:
    """It may still be there."""
    if isinstance(ended, Change):
        return bool(ended.left)
    return isinstance(ended, LauncherError) or ended.how == "used" or bool(ended.left)


@dataclass
class Takedown:
    """Of some processes and hosts of an inventory (names without variants), with all that need them."""

    launcher: Launcher
    inventory: Inventory
    settings: Settings
    names: Sequence[str]
    force: bool = False
    on_done: Callable[[str, Ended], None] = lambda name, ended: None
    """Called as soon as it is known, in any thread."""
    base: str = ""
    """Of run directories, for tests."""
    outcome: dict[str, Ended] = field(default_factory=dict)

    def run(self) -> dict[str, Ended]:
        """What became of each, in the order in which they were stopped. Raises InventoryError."""
        rounds = ends_with(self.inventory, self.names, self._as_they_run())
        for names in rounds:
            ready = [name for name in names if not self._held(name)]
            hosts = [name for name in ready if self.inventory.canonical(name) is not None]
            processes = [name for name in ready if name not in hosts]
            with ThreadPoolExecutor(2) as pool:
                work = [pool.submit(self._stop_processes, processes), pool.submit(self._stop_hosts, hosts)]
            for one in work:
                one.result()
        return self.outcome

    def _as_they_run(self) -> dict[str, Sequence[str]]:
        """What those depend on for which it is a matter of their variants, as far as it can be seen."""
        together = [name for names in ends_with(self.inventory, self.names) for name in names]
        unclear = [name for name in together if name not in self.names and by_variant(self.inventory, name)]
        if not unclear:
            return {}
        specs: dict[str, ProcessSpec] = {}
        for name in unclear:
            with contextlib.suppress(InventoryError):  # it is said when it is to be stopped
                specs[name] = self.inventory.place_of_process(name, params=self.settings.params)
        subjects = [Subject.of(*item) for item in specs.items()]
        views = self.launcher.on_machines(lambda reach: viewing.survey(reach, subjects, base=self.base))
        found: dict[str, Sequence[str]] = {}
        for view in views:
            if view.seen.state is State.STOPPED:
                # a one-shot (a group) may have done its part, and nothing says any more how it ran
                if specs[view.subject.name].persistent:
                    found[view.subject.name] = ()
            elif view.seen.recipe is not None:
                found[view.subject.name] = view.seen.recipe.depends
        return found

    def _held(self, name: str) -> bool:
        """A host that is left needs it, directly or not."""
        for other, ended in list(self.outcome.items()):
            left = isinstance(ended, Conflict) or (isinstance(ended, Stopped) and ended.how == "used")
            if left and name in self._needed_by(other):
                text = f"{name}: left running: {other} depends on it and is in use"
                self._say(name, Conflict(text, f"se-remote kill {name} --force"))
                return True
        return False

    def _needed_by(self, name: str) -> Collection[str]:
        base = name if name in self.inventory.processes() else name.split("+")[0]
        document = self.inventory.document
        entry = document.processes.get(base) or document.hosts.get(base)
        depends = entry.value("depends", ()) if entry is not None else ()
        return {document.aliases.get(item.value, item.value) for item in depends}

    def _stop_processes(self, names: Iterable[str]) -> None:
        named: dict[str, ProcessSpec] = {}
        for name in names:
            try:
                named[name] = self.inventory.place_of_process(name, params=self.settings.params)
            except InventoryError as error:
                self._say(name, error)
        if named:
            for name, ended in self.launcher.stop_processes(named, force=self.force).items():
                self._say(name, ended)

    def _stop_hosts(self, names: Sequence[str]) -> None:
        """With their variants. One that was not named itself is only stopped if it is there."""
        specs: list[HostSpec] = []
        settings = Settings(params=self.settings.params)
        for name in names:
            try:
                specs += inventories.resolve_machine_args([name], self.inventory, settings, places=True)
            except InventoryError as error:
                self._say(name, error)
        if not specs:
            return
        found = [
            (spec, status)
            for spec, status in self.launcher.survey(specs)
            if spec.name in self.names or status.state is not State.STOPPED
        ]
        with ThreadPoolExecutor(max(1, len(found))) as pool:
            list(pool.map(lambda pair: self._say(pair[0].name, self._stop_host(*pair)), found))

    def _stop_host(self, spec: HostSpec, status: HostStatus) -> Ended:
        if status.error is not None:
            return status.error
        try:
            return servers.stop(self.launcher, spec, self.force)
        except LauncherError as error:
            return error

    def _say(self, name: str, ended: Ended) -> None:
        self.outcome[name] = ended
        self.on_done(name, ended)


def errors(outcome: Mapping[str, Ended]) -> list[LauncherError]:
    """Why what may still be there is."""
    found: list[LauncherError] = []
    for name, ended in outcome.items():
        if isinstance(ended, LauncherError):
            found.append(ended)
        elif failed(ended):
            left = ", ".join(ended.left)
            users = "; ".join(ended.users) if isinstance(ended, Stopped) else ""
            text = f"still there after KILL: {left}" if left else f"left running, in use by {users}"
            found.append(Conflict(f"{name}: {text}", "" if left else f"se-remote kill {name} --force"))
    return found
