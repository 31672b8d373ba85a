"""The words that show one window of ours on a terminal. Pure.

Rules:
- the window is shown in a session of its own that holds nothing else: when its process is stopped the
  terminal comes back, and no key ever reaches the window of another process;
- that session goes as soon as nobody looks at it any more; the window stays, it is linked. Who shows it ends
  it then, also when his terminal is gone: with tmux's own `destroy-unattached` its server crashes, and takes
  every process with it, when another client comes or goes in the moment in which this one leaves.
"""

from __future__ import annotations

from typing import Final

_SHOW: Final = (
    'trap : HUP INT QUIT TERM; socket=$1 session=$2; shift 2; "$@"; code=$?; '
    'tmux -S "$socket" kill-session -t "$session" 2>/dev/null; exit "$code"'
)


def tmux_words(socket: str, window: str, session: str, title: str, *, bare: bool) -> list[str]:
    """A command; of tmux, `;` between its commands. `session`: a free name. `bare`: no status line."""
    target = f"={session}:"
    status = [["set-option", "-t", target, "status", "off"]]
    if not bare:
        shown = "".join(char if char.isalnum() or char in "_.+- " else "-" for char in title)
        status = [
            ["set-option", "-t", target, "status-left", f"[{shown}] "],
            ["set-option", "-t", target, "status-left-length", "60"],
            ["set-option", "-t", target, "status-right", "leave: Ctrl-B D"],
            ["set-option", "-t", target, "window-status-current-format", ""],
        ]
    commands = [
        ["new-session", "-d", "-s", session, "sleep", "60"],
        ["link-window", "-k", "-s", window, "-t", f"={session}:0"],
        *status,
        ["attach-session", "-t", target],
    ]
    words = ["sh", "-c", _SHOW, "sh", socket, f"={session}", "tmux", "-u", "-f", "/dev/null", "-S", socket]
    for number, command in enumerate(commands):
        words += [*([";"] if number else []), *command]
    return words
