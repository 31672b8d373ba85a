"""`se-remote mon`: every running process on one screen, a pane for each, in a tmux of our own here."""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from launcher.cli import attach
from launcher.cli.output import Output
from launcher.cli.selection import Selection, select
from launcher.command import quote
from launcher.errors import InventoryError, LauncherError
from launcher.model import Problem, State
from launcher.processes import looking, seeing, viewing
from launcher.processes.viewing import Place, Reach, Subject, View

_SHOWN: Final = (State.STARTING, State.RUNNING, State.READY, State.STOPPING)
_PANE: Final = """\
"$@"; code=$?
[ "$code" = 0 ] || { printf '\\nse-remote: ended with %s; Enter closes it ' "$code"; read x; }
"""
"""What a pane runs: one whose ssh fails stays, for its message to be read."""
_REAPER: Final = 'while tmux -S "$1/tmux" has-session 2>/dev/null; do sleep 1; done; rm -rf "$1"'


def run(args: argparse.Namespace) -> int:
    """Until it is left, or the last pane has ended; 1 when nothing runs."""
    if not args.detach and not (sys.stdin.isatty() and sys.stdout.isatty()):
        raise InventoryError([Problem("mon: it needs a terminal")], "se-remote status --watch")
    if shutil.which("tmux") is None:
        raise LauncherError("there is no tmux on this machine", "install tmux, or: se-remote logs NAME… -f")
    output = Output(inventory=args.inventory)
    selection = select(args)
    processes = selection.processes(args.host) if args.host else selection.all()[1]
    panes = _panes(selection, [Subject.of(name, spec) for name, spec in processes.items()], output)
    if not panes:
        output.say("no process of the inventory runs: nothing to show", "warning")
        return 1
    folder = Path(tempfile.mkdtemp(prefix="se-remote-mon-"))
    screen = _Screen(folder)
    try:
        screen.open(panes)
        if args.detach:
            subprocess.Popen(
                ["sh", "-c", _REAPER, "sh", str(folder)], start_new_session=True, stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
            )  # fmt: skip
            output.result(f"shown by: {quote(screen.words('attach-session'))}")
            return 0
        return subprocess.call(screen.words("attach-session"), env=screen.environ)
    finally:
        if not args.detach:
            screen.close()


def _panes(selection: Selection, subjects: Sequence[Subject], output: Output) -> list[tuple[str, list[str]]]:
    """Name and command of each pane."""
    from launcher.lease import Launcher

    async def ask(reach: Reach) -> tuple[list[View], dict[Place, tuple[str, dict[str, str]]]]:
        views = await viewing.survey(reach, subjects)
        places = {view.subject.place for view in views if view.seen.state in _SHOWN}
        found = {}
        for place in places:
            found[place] = await seeing.windows(await reach(str(place.machine), place.machine, place.ssh, 0))
        return views, found

    launcher = Launcher(selection.inventory, environ=selection.environ, ask=selection.ask)
    try:
        views, windows = launcher.on_machines(ask)
    finally:
        launcher.close()
    panes = []
    for error in dict.fromkeys(str(view.error) for view in views if view.error is not None):
        output.say(error, "warning")
    for view in views:
        socket, marks = windows.get(view.subject.place, ("", {}))
        window = marks.get(looking.place_of(view.subject.key))
        if view.seen.state in _SHOWN and window is not None:
            name = view.subject.name
            words = attach.words_for(selection, view.subject.place, socket, window, name, bare=True)
            panes.append((name, words))
    return panes


class _Screen:
    """A tmux server of this command alone, whose socket is in a folder of its own."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.environ = {key: value for key, value in os.environ.items() if not key.startswith("TMUX")}

    def words(self, *command: str) -> list[str]:
        return ["tmux", "-u", "-f", "/dev/null", "-S", str(self._folder / "tmux"), *command]

    def open(self, panes: Sequence[tuple[str, list[str]]]) -> None:
        """One window with all panes; further windows when it cannot hold more."""
        size = shutil.get_terminal_size((200, 50))
        width, height = size.columns or 200, size.lines or 50  # Python 3.10 believes a terminal that says 0
        for number, (name, words) in enumerate(panes):
            command = ["-P", "-F", "#{pane_id}", "sh", "-c", _PANE, "sh", *words]
            if number == 0:
                geometry = ["-x", str(width), "-y", str(height)]
                pane = self._ask("new-session", "-d", "-s", "mon", *geometry, *command)
                self._dress()
            else:
                pane = self._try("split-window", *command) or self._ask("new-window", *command)
            self._ask("set-option", "-p", "-t", pane, "@name", name)
            self._ask("select-layout", "tiled")
        self._ask("select-window", "-t", ":^")

    def _dress(self) -> None:
        for option, value in (
            ("mouse", "on"), ("pane-border-status", "top"), ("pane-border-format", " #{@name} "),
            ("status-left", "se-remote mon "), ("status-left-length", "40"),
            ("status-right", "leave: Ctrl-B D"),
            ("window-status-format", ""), ("window-status-current-format", ""),
        ):  # fmt: skip
            self._ask("set-option", "-g", option, value)

    def _try(self, *command: str) -> str:
        done = subprocess.run(
            self.words(*command), env=self.environ, capture_output=True, text=True, check=False
        )
        return done.stdout.strip() if done.returncode == 0 else ""

    def _ask(self, *command: str) -> str:
        done = subprocess.run(
            self.words(*command), env=self.environ, capture_output=True, text=True, check=False
        )
        if done.returncode != 0:
            raise LauncherError(f"mon: tmux {command[0]}: {done.stderr.strip()}", "tmux -V  # 3.1 or newer")
        return done.stdout.strip()

    def close(self) -> None:
        self._try("kill-server")
        shutil.rmtree(self._folder, ignore_errors=True)
