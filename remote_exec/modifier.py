"""The `remote` modifier: puts proxies in the place of actions. The one module that knows `launcher`.

Rules:
- No machine is touched here: a dry run builds the tree and nothing else. The inventory is read, so that
  everything that is wrong with it is shown as a parse error at the modifier's position.
- On an action: a proxy takes its place. On anything else: every action inside that is not remote yet is
  replaced where it stands, and a decorator that changes nothing is returned. So the innermost `remote` wins
  and other modifiers stay where they are written.
- When a machine cannot be reached, nothing runs here instead.
"""

from __future__ import annotations

import importlib.metadata
import os
import threading
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from functools import lru_cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import py_trees
from scenario_execution.actions.base_action import BaseAction
from scenario_execution.actions.base_action_subtree import BaseActionSubtree
from scenario_execution.scenario_execution_base import ScenarioExecutionConfig

from remote_exec.client.holding import Holding
from remote_exec.client.identity import client_info
from remote_exec.client.link import LinkSpec
from remote_exec.errors import SetupFailed
from remote_exec.tree.proxy import RemoteAction
from remote_exec.tree.scenario import SAY_WAITING_S
from remote_exec.tree.target import Carried, Opened, Say, Target

if TYPE_CHECKING:
    from launcher.inventory import Inventory
    from launcher.lease import Lease
    from launcher.model import Event

_HELLO_S = 10.0
"""Seconds that a host which others depend on may take to answer."""
ENTRY_POINTS = "scenario_execution.modifiers"


def remote(child: Any, resolved_values: Mapping[str, Any]) -> Any:
    """The factory that scenario_execution calls: what stands in the tree instead of `child`.

    resolved_values: endpoint (string), heartbeat_failure_timeout and setup_timeout (seconds).
    Raises ValueError; the runner shows it as a parse error with the modifier's position.
    """
    _refuse_two_of_us()
    endpoint = resolved_values.get("endpoint")
    if not isinstance(endpoint, str) or not endpoint.strip():
        raise ValueError("remote() needs an endpoint: a host of the inventory, or an address")
    patience = _seconds(resolved_values, "heartbeat_failure_timeout", 0.0)
    setup_timeout = _seconds(resolved_values, "setup_timeout", 10.0)
    if setup_timeout == 0.0:
        raise ValueError("remote(): setup_timeout must be more than 0 s")
    target, inventory = _resolve(endpoint.strip())
    factory = partial(_LauncherOpener, inventory)

    def proxy_for(action: Any) -> RemoteAction:
        return RemoteAction(action, target, factory, patience, setup_timeout)

    if _is_action(child):
        return proxy_for(child)
    for node in [node for node in child.iterate() if _is_action(node)]:
        if not _inside_subtree(node, child):
            _replace(node, proxy_for(node))
    return py_trees.decorators.PassThrough(name="remote", child=child)


def _seconds(values: Mapping[str, Any], name: str, default: float) -> float:
    value = values.get(name)
    if not isinstance(value, (int, float)) or isinstance(value, bool):
        return default
    if value < 0:
        raise ValueError(f"remote(): {name} must not be negative")
    return float(value)


# --- the tree


def _is_action(node: Any) -> bool:
    """An action that a plugin provides. Conditions of wait and until stay local: they have no plugin."""
    return isinstance(node, (BaseAction, BaseActionSubtree)) and hasattr(node, "_external_plugin_key")


def _inside_subtree(node: Any, top: Any) -> bool:
    while node is not top and node.parent is not None:
        node = node.parent
        if isinstance(node, BaseActionSubtree):
            return True
    return False


def _replace(node: Any, proxy: RemoteAction) -> None:
    """Put `proxy` where `node` stands."""
    parent, node.parent = node.parent, None
    proxy.parent = parent
    parent.children[parent.children.index(node)] = proxy
    if isinstance(parent, py_trees.decorators.Decorator):
        parent.decorated = proxy


# --- names


@lru_cache(maxsize=1)
def _modifier_distributions() -> tuple[str, ...]:
    points = [p for p in importlib.metadata.entry_points(group=ENTRY_POINTS) if p.name == "remote"]
    return tuple(sorted({p.dist.name if p.dist is not None else p.value for p in points}))


def _refuse_two_of_us() -> None:
    distributions = _modifier_distributions()
    if len(distributions) > 1:
        raise ValueError(
            f"more than one installed package provides the modifier 'remote': {', '.join(distributions)}. "
            "Which of them runs an action would be chance; uninstall all but one"
        )


def _resolve(text: str) -> tuple[Target, Inventory | None]:
    """The target of an endpoint's text. Raises ValueError with everything that is wrong."""
    from launcher import inventory as inventories
    from launcher.errors import LauncherError
    from launcher.model import DirectAddress

    folder = ScenarioExecutionConfig().scenario_file_directory
    try:
        inventory = _inventory(folder)
        settings = inventories.read_settings(os.environ)
        resolved = inventories.resolve_endpoint(text, inventory, settings, cwd=Path.cwd())
    except LauncherError as e:
        raise ValueError(_with_next_step(e)) from e
    if isinstance(resolved, DirectAddress):
        scenario = Path(folder) if folder else None
        guessed = inventories.not_found(Path.cwd(), scenario) if resolved.bare else ""
        return Target(name=text, endpoint=resolved.endpoint, guessed=guessed), inventory
    return (
        Target(name=resolved.name, spec=resolved, lease=resolved.lease, on_loss=resolved.on_loss),
        inventory,
    )


def _inventory(scenario_directory: str | None) -> Inventory | None:
    from launcher import inventory as inventories

    scenario_dir = Path(scenario_directory) if scenario_directory else None
    path = inventories.find(os.environ, Path.cwd(), scenario_dir, None)
    if path is None:
        return None
    stat = path.stat() if path.exists() else None
    return _loaded(path, stat.st_mtime_ns if stat else 0, stat.st_size if stat else 0)


@lru_cache(maxsize=8)
def _loaded(path: Path, changed: int, size: int) -> Inventory:
    """One parse for all modifiers of a file, as long as the inventory does not change."""
    from launcher import inventory as inventories

    return inventories.load(path)


def _with_next_step(error: Any) -> str:
    return f"{error}\n    try: {error.next_step}" if error.next_step else str(error)


# --- bringing hosts up


class _LauncherOpener:
    """The port `Opener`, on launcher.lease.Launcher."""

    def __init__(self, inventory: Any, what: str, say: Say, output_dir: str | None) -> None:
        from launcher import terminal
        from launcher.inventory import Inventory
        from launcher.lease import Launcher

        self._say = say
        self._what = what
        self._holding = Holding(lambda name, reason: say("warning", f"[{name}] {reason}"))
        self._opening = False
        self._stages: dict[str, list[tuple[str, float]]] = {}
        """Per host: the stages it has entered, and when."""
        self._failed: set[str] = set()
        self._asking = False
        self._launcher = Launcher(
            inventory if inventory is not None else Inventory(),
            environ=os.environ,
            ask=self._ask if terminal.can_ask() else None,
            on_event=self._event,
            what=what,
            keep=False,
            logs_to=Path(output_dir, "se-remote") if output_dir else None,
        )

    def open(self, targets: Sequence[Target]) -> Mapping[str, Opened]:
        from launcher import inventory as inventories
        from launcher.errors import LauncherError

        specs = [target.spec for target in targets]
        names = {target.name for target in targets}
        self._opening = True
        over = threading.Event()
        threading.Thread(target=self._tell_slow, args=(over,), name="slow stages", daemon=True).start()
        try:
            inventories.check_selection(specs)
            leases = self._launcher.open(specs, on_open=partial(self._hold, names))
        except LauncherError as e:
            # The runner prints the whole chain: how the bring-up is written inside helps nobody there.
            raise SetupFailed(_with_next_step(e)) from None
        finally:
            self._opening = False
            over.set()
        now = time.monotonic()
        return {
            name: Opened(
                lease.endpoint,
                _summary(lease, self._stages.get(name, []), now),
                lease.connected,
                lease.client_id,
                lease.way,
            )
            for name, lease in leases.items()
            if name in names
        }

    def _hold(self, names: Collection[str], lease: Lease) -> None:
        """One that others depend on has no session of an action; in the launcher's thread."""
        host = lease.host
        if host.name not in names:
            client = client_info(
                self._what, importlib.metadata.version("se-remote"), os.environ, lease.client_id
            )
            spec = LinkSpec(
                name=host.name, endpoint=lease.endpoint, ours=True, client=client, lease=host.lease,
                connect_timeout=_HELLO_S, on_loss=host.on_loss, way=lease.way,
            )  # fmt: skip
            self._holding.hold(spec, lease.connected)

    def send(
        self, targets: Sequence[Target], scenario: str | None, output: str | None
    ) -> Mapping[str, Carried]:
        from launcher.errors import LauncherError

        specs = [target.spec for target in targets]
        folder, into = (Path(path) if path else None for path in (scenario, output))
        try:
            sent = self._launcher.send(specs, scenario=folder, output=into)
        except LauncherError as e:
            raise SetupFailed(_with_next_step(e)) from None
        return {name: Carried(carried.paths, carried.output) for name, carried in sent.items()}

    def bring_back(self, given_up: Sequence[str], interrupted: Callable[[], bool]) -> list[str]:
        return self._launcher.bring_back(given_up, interrupted)

    def abort(self) -> None:
        self._launcher.abort()

    def hurry(self) -> None:
        self._launcher.hurry()

    def close(self, hurry: bool) -> list[str]:
        self._holding.leave()
        return list(self._launcher.close(hurry=hurry))

    def leftovers(self) -> list[str]:
        return self._launcher.leftovers()

    def _tell_slow(self, over: threading.Event) -> None:
        """Name the stages that take long, once each; a question on the terminal is not written over."""
        told: set[tuple[str, str, float]] = set()
        while not over.wait(0.25):
            for name, stages in list(self._stages.items()):
                stage, began = stages[-1] if stages else ("tunnel", 0.0)
                slow = time.monotonic() - began > SAY_WAITING_S and (name, stage, began) not in told
                # A host's last stage is not over before all hosts are up.
                if slow and stage != "tunnel" and name not in self._failed and not self._asking:
                    told.add((name, stage, began))
                    self._say("info", f"[{name}] {stage} …")

    def _ask(self, prompt: str, *, secret: bool) -> str | None:
        from launcher.terminal import ask

        self._asking = True
        try:
            return ask(prompt, secret=secret)
        finally:
            self._asking = False

    def _event(self, event: Event) -> None:
        """In the launcher's thread."""
        from launcher.model import Stage, State

        if event.stage is None:
            self._process_event(event)
            return
        going_on = event.stage is Stage.PROVISION and event.level == "info" and event.reason
        if event.stage in (Stage.PUSH, Stage.FETCH) or going_on:
            self._say(event.level, f"[{event.name}] {event.reason}")
            return
        stages = self._stages.setdefault(event.name, [])
        if event.stage is not None and (not stages or stages[-1][0] != event.stage.value):
            stages.append((event.stage.value, event.time))
        if event.to_state in (State.UNREACHABLE, State.DEAD, State.CONFLICT):
            self._failed.add(event.name)
        if event.to_state is State.STOPPED:
            self._say("info", f"[{event.name}] server stopped")
        told_by_open = self._opening and event.level == "error"
        if event.level in ("warning", "error") and not told_by_open:
            stage = f"{event.stage.value}: " if event.stage is not None else ""
            self._say(event.level, f"[{event.name}] {stage}{event.reason or event.to_state.value}")

    def _process_event(self, event: Event) -> None:
        """Of a process that hosts depend on; in the launcher's thread."""
        from launcher.model import State

        state, stages = event.to_state, self._stages.setdefault(event.name, [])
        if state in (State.STARTING, State.RUNNING, State.STOPPING):
            stages.append((state.value, stages[0][1] if stages else event.time))
        else:
            stages.clear()
        if state in (State.READY, State.STOPPED) and event.level == "info":
            remark = f" ({event.reason})" if event.reason else ""
            self._say("info", f"[{event.name}] {state.value}{remark}")
        elif event.level in ("warning", "error") and not (self._opening and event.level == "error"):
            self._say(event.level, f"[{event.name}] {event.reason or state.value}")


def _summary(lease: Any, stages: Sequence[tuple[str, float]], now: float) -> str:
    """How the host came up, with the time of every stage. Times in seconds."""
    where = lease.host.machine
    ends = [began for _, began in stages[1:]] + [now]
    times = ", ".join(f"{name} {end - began:.2f}" for (name, began), end in zip(stages, ends, strict=True))
    took = now - stages[0][1] if stages else 0.0
    what = f"server started on {where}" if lease.started else f"using the server that runs on {where}"
    return f"{what} in {took:.2f} s ({times})"
