"""`se-remote attach`: the tmux window of a process or host, on this terminal."""

from __future__ import annotations

import argparse
import os
import secrets
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from launcher import plan
from launcher.cli.output import Output
from launcher.cli.selection import Selection, select_standing
from launcher.command import quote
from launcher.errors import InventoryError, LauncherError
from launcher.model import Machine, Problem, SshOptions
from launcher.processes import looking, seeing
from launcher.processes.attaching import tmux_words
from launcher.processes.viewing import Place, Reach, Subject

if TYPE_CHECKING:
    from launcher.lease import Launcher


def run(args: argparse.Namespace) -> int:
    """Becomes ssh, or tmux on this machine. Raises LauncherError when there is no such window."""
    from launcher.lease import Launcher

    selection = select_standing(args, Output(inventory=args.inventory))
    hosts, processes = selection.mixed([args.name])
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        step = f"se-remote logs {quote([args.name])} -f"
        raise InventoryError([Problem("attach: it needs a terminal")], step)
    launcher = Launcher(selection.inventory, environ=selection.environ, ask=selection.ask)
    try:
        if processes:
            ((name, spec),) = processes.items()
            subject = Subject.of(name, spec)
            place, mark = subject.place, looking.place_of(subject.key)
        else:
            host = hosts[0]
            name, place, mark = host.name, Place(host.machine, host.ssh), plan.slug(host.name)
        socket, windows = _windows(launcher, name, place)
    finally:
        launcher.close()
    if mark not in windows:
        raise LauncherError(f"{name}: it has no window: it does not run", f"se-remote status {name}")
    words = words_for(selection, place, socket, windows[mark], name, bare=args.bare)
    environ = {key: value for key, value in os.environ.items() if key not in ("TMUX", "TMUX_PANE")}
    try:
        os.execvpe(words[0], words, environ)  # noqa: S606
    except FileNotFoundError as error:
        raise LauncherError(f"there is no {words[0]} on this machine", f"install {words[0]}") from error


def _windows(launcher: Launcher, name: str, place: Place) -> tuple[str, dict[str, str]]:
    async def ask(reach: Reach) -> tuple[str, dict[str, str]]:
        return await seeing.windows(await reach(name, place.machine, place.ssh, 0))

    return launcher.on_machines(ask)


def words_for(
    selection: Selection, place: Place, socket: str, window: str, name: str, *, bare: bool
) -> list[str]:
    """What shows that window here: tmux, or ssh that runs it there."""
    from launcher.machines.ssh_line import remote_words, ssh_words

    shown = tmux_words(socket, window, f"se-remote-look-{secrets.token_hex(4)}", name, bare=bare)
    if place.machine.is_local:
        return shown

    def find(host: str) -> tuple[Machine, SshOptions] | None:
        inventory = selection.inventory
        if inventory is None or inventory.canonical(host) is None:
            return None
        spec = inventory.place_of_host(host, selection.settings.params)
        return spec.machine, spec.ssh

    home = selection.environ.get("HOME") or str(Path.home())
    ssh, *options = ssh_words(place.machine, place.ssh, find, home)
    return [ssh, "-t", *_own_files(selection.environ, home), *options, remote_words(shown)]


def _own_files(environ: Mapping[str, str], home: str) -> list[str]:
    """ssh goes by the account's home, our connection by HOME: where they differ, it is told."""
    if Path(home) == Path(f"~{_account()}").expanduser():
        return []
    files = ["-o", f'UserKnownHostsFile="{home}/.ssh/known_hosts" "{home}/.ssh/known_hosts2"']
    config = Path(home) / ".ssh" / "config"
    return [*(["-F", str(config)] if config.is_file() else []), *files]


def _account() -> str:
    import pwd

    return pwd.getpwuid(os.getuid()).pw_name
