"""The words that show one window of ours on a terminal. Pure.

Rules:
- the window is shown in a session of its own that holds nothing else: when its process is stopped the
  terminal comes back, and no key ever reaches the window of another process;
- that session goes as soon as nobody looks at it any more; the window stays, it is linked.
"""

from __future__ import annotations


def tmux_words(socket: str, window: str, session: str, title: str, *, bare: bool) -> list[str]:
    """tmux and its arguments, `;` between its commands. `session`: a free name. `bare`: no status line."""
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
        ["set-option", "destroy-unattached", "on"],
    ]
    words = ["tmux", "-u", "-f", "/dev/null", "-S", socket]
    for number, command in enumerate(commands):
        words += [*([";"] if number else []), *command]
    return words
