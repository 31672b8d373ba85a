"""Servers that stay: brought up, kept up, looked at, stopped. What Host.up, Host.extend, Host.status and
Host.kill do, and the commands of those names. Blocks."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from launcher import identity
from launcher.durations import parse_time
from launcher.errors import Conflict, LauncherError, LeftBehind, NotReady, StartFailed
from launcher.lease import Launcher, Lease
from launcher.model import HostSpec, Stage, State
from launcher.plan import HostStatus, Stopped
from launcher.targets import Names
from remote_exec.client.hub import request
from remote_exec.client.link import Gone
from remote_exec.client.notices import EXCLUSIVE
from remote_exec.errors import RemoteExecError

HELLO_S = 10.0
"""How long a server that is up may take to answer."""


def keep(lease: Lease, seconds: float) -> Mapping[str, Any]:
    """Have the server stay up for at least `seconds` from now, 0: until it is killed.

    Raises NotReady, and StartFailed when the server has ended meanwhile.

    Returns `left` (seconds, None: until killed), which is more when it was kept for longer before, and
    `until` (epoch, on the host's clock).
    """
    name = lease.host.name
    try:
        return request(
            lease.endpoint, "keep", {"seconds": seconds or None}, timeout=HELLO_S, over=partial(_ended, lease)
        )
    except RemoteExecError as error:
        if _ended(lease):
            text = "the server has ended before it answered; has somebody stopped it?"
            raise StartFailed(name, Stage.HELLO, text, f"se-remote logs {name}") from error
        text = f"the server does not answer: {error}"
        raise NotReady(name, Stage.HELLO, text, f"se-remote logs {name}") from error
    finally:
        with contextlib.suppress(OSError):
            lease.connected()


def _ended(lease: Lease) -> bool:
    """Whether the server that the lease leads to is gone, as far as is known."""
    if lease.tunnel_path is not None:
        return lease.lost.is_set()
    return not os.path.exists(lease.endpoint.removeprefix("ipc://"))


def refused(name: str, gone: Gone) -> LauncherError:
    """The error for a server that is there, but with which no session can be begun."""
    if gone.refusal is not None and gone.refusal.kind == EXCLUSIVE:
        return Conflict(gone.reason, gone.refusal.next_step)
    return NotReady(name, Stage.HELLO, gone.reason, f"se-remote logs {name}")


def seconds_of(keep_for: float | str) -> float:
    """``"8h"``, or seconds. Raises ValueError."""
    seconds = parse_time(keep_for) if isinstance(keep_for, str) else float(keep_for)
    if not 0 <= seconds < float("inf"):
        raise ValueError(f"keep_for must be 0 or more seconds, found {keep_for}")
    return seconds


def up(names: Names, name: str, keep_for: float | str) -> HostStatus:
    """Start the server of a host and keep it up. Raises InventoryError, StageError, Conflict."""
    seconds = seconds_of(keep_for)
    (spec,), inventory, environ = names.hosts([name])
    launcher = Launcher(
        inventory,
        environ=environ,
        settings=names.settings(),
        what="se-remote up",
        keep=True,
        keep_for=seconds,
    )
    try:
        lease = launcher.open([spec])[spec.name]
        return _kept(lease, keep(lease, seconds))
    finally:
        launcher.close()


def extend(names: Names, name: str, keep_for: float | str) -> HostStatus:
    """Keep a server up that is up. Raises InventoryError, StageError, LauncherError when it is not."""
    seconds = seconds_of(keep_for)
    (spec,), inventory, environ = names.hosts([name])
    launcher = Launcher(inventory, environ=environ)
    try:
        lease = launcher.attach([spec])[spec.name]
        if isinstance(lease, LauncherError):
            raise lease
        return _kept(lease, keep(lease, seconds))
    finally:
        launcher.close()


def _kept(lease: Lease, answer: Mapping[str, Any]) -> HostStatus:
    state = {"ephemeral": False, "kept_until": answer.get("until")}
    return HostStatus(lease.host.name, State.READY, endpoint=lease.server, server_state=state)


def status(names: Names, hosts: Sequence[str] | None) -> dict[str, HostStatus]:
    """What runs on the hosts, by name; None: on all of the inventory. Raises InventoryError."""
    specs, inventory, environ = names.hosts(hosts)
    launcher = Launcher(inventory, environ=environ)
    try:
        return launcher.status(specs)
    finally:
        launcher.close()


def stop(launcher: Launcher, spec: HostSpec, force: bool) -> Stopped:
    """Stop a server that others do not use; force: whoever uses it. Raises LauncherError."""
    me = {"user": identity.user(), "machine": identity.machine()}
    return launcher.stop(spec) if force else launcher.stop(spec, mode="mine", but=me)


def kill(names: Names, name: str, force: bool) -> Stopped:
    """Stop a server and verify that. Raises Conflict, LeftBehind, InventoryError, StageError."""
    (spec,), inventory, environ = names.hosts([name])
    launcher = Launcher(inventory, environ=environ)
    try:
        done = stop(launcher, spec, force)
    finally:
        launcher.close()
    if done.how == "used":
        text = f"{spec.name}: left running, in use by {'; '.join(done.users)}"
        raise Conflict(text, f"se-remote kill {spec.name} --force")
    if done.left:
        raise LeftBehind(f"{spec.name}: still there after KILL: {', '.join(done.left)}")
    return done
