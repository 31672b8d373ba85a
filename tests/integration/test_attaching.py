"""What shows a window, with a tmux server of its own."""

from __future__ import annotations

import os
import pty
import signal
import subprocess
import termios
from collections.abc import Iterator
from fcntl import ioctl
from pathlib import Path

import pytest
from sitebed import until

from launcher.processes.attaching import tmux_words


class Shown:
    """A window of a tmux server, shown on a terminal."""

    def __init__(self, folder: Path) -> None:
        self.socket = str(folder / "s")
        self.environ = {**os.environ, "TERM": "xterm"}
        for name in ("TMUX", "TMUX_PANE"):
            self.environ.pop(name, None)
        self.tmux("-f", "/dev/null", "new-session", "-d", "-s", "stack", "sleep", "1000")
        (window,) = self.tmux("list-windows", "-aF", "#{window_id}")
        self.terminal, slave = pty.openpty()
        self.process = subprocess.Popen(
            tmux_words(self.socket, window, "look", "a", bare=False),
            env=self.environ, stdin=slave, stdout=slave, stderr=slave, start_new_session=True,
            preexec_fn=lambda: ioctl(0, termios.TIOCSCTTY, 0),
        )  # fmt: skip
        os.close(slave)
        # a client's pid is known before it is attached
        assert until(lambda: "1" in self.tmux("list-sessions", "-F", "#{session_attached}")), self.sessions()
        (self.client,) = map(int, self.tmux("list-clients", "-F", "#{client_pid}"))

    def tmux(self, *words: str) -> list[str]:
        command = ["tmux", "-u", "-S", self.socket, *words]
        done = subprocess.run(command, env=self.environ, capture_output=True, text=True, check=False)
        return done.stdout.splitlines()

    def sessions(self) -> list[str]:
        return self.tmux("list-sessions", "-F", "#{session_name}")

    def close(self) -> None:
        self.tmux("kill-server")
        os.kill(self.process.pid, signal.SIGCONT)
        os.close(self.terminal)
        self.process.wait(20)


@pytest.fixture
def shown(tmp_path: Path) -> Iterator[Shown]:
    made = Shown(tmp_path)
    yield made
    if made.process.returncode is None:
        made.close()
    else:
        made.tmux("kill-server")
        os.close(made.terminal)


def test_who_leaves_while_others_come_and_go_takes_nobody_with_him(shown: Shown) -> None:
    """He is slow to go: stopped. A tmux that ends his session by itself crashes then."""
    os.kill(shown.client, signal.SIGSTOP)
    try:
        os.write(shown.terminal, b"\x02d")
        assert until(lambda: "1" not in shown.tmux("list-sessions", "-F", "#{session_attached}"))
        assert "stack" in shown.sessions()
    finally:
        os.kill(shown.client, signal.SIGCONT)
    assert shown.process.wait(20) == 0
    assert shown.sessions() == ["stack"], "of him nothing stays"


@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGKILL], ids=["hangs up", "is killed"])
def test_whose_terminal_goes_leaves_nothing(shown: Shown, number: signal.Signals) -> None:
    if number == signal.SIGHUP:
        os.killpg(shown.process.pid, number)
    else:
        os.kill(shown.client, number)
    assert shown.process.wait(20) != 0
    assert shown.sessions() == ["stack"]
