"""tmux, decided purely: what to ask it and how to read its answers; nothing here runs anything.

Rules:
- our own tmux server (a socket in our base directory, no configuration file), never the user's;
- a window is addressed by its `@id`, found by the user option that carries its host's name, never by
  its name: tmux matches names by prefix, and killing `kee` can kill `keep`;
- the command of a window is given as separate words, as one string it would go through the login shell;
- no tabs as separators: tmux prints `_` for what it cannot show.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

NAME_OPTION: Final = "@se_remote_name"
"""The user option of a window that says whose it is."""

LIST_FORMAT: Final = "#{window_id} #{pane_dead} #{session_name} #{@se_remote_name}|#{window_name}"

SHELL_FUNCTIONS: Final = r"""
T() { tmux_at "$base/tmux" "$@"; }
tmux_at() {
  { tmux -u -f /dev/null -S "$@" 3>&- &
    tmux_call=$!
    trap - TERM
    ( trap 'kill -KILL "$!" 2>/dev/null; exit' TERM
      for second in 1 2 3; do sleep 1 & wait "$!"; done
      kill -KILL "$tmux_call" ) </dev/null >/dev/null 2>&1 3>&- &
    tmux_guard=$!
    trap '' TERM
    wait "$tmux_call"; tmux_code=$?
    { kill "$tmux_guard"; wait "$tmux_guard"; } 2>/dev/null
    printf 'tmux ended %s\n' "$tmux_code"
  } | (
    while IFS= read -r tmux_line; do
      case $tmux_line in 'tmux ended '*) exit "${tmux_line##* }" ;; esac
      printf '%s\n' "$tmux_line"
    done
    exit 1 )
}
tmux_hangs() { [ "$1" -ge 128 ]; }
how_to_install() {
  hint='install tmux'
  for tool in 'apt-get install' 'dnf install' 'zypper install' 'pacman -S' 'apk add'; do
    command -v "${tool%% *}" >/dev/null && { hint="sudo $tool tmux"; break; }
  done
}
wake() {
  for file in $(grep -laF "$base/tmux" /proc/[0-9]*/cmdline 2>/dev/null); do
    waked=${file#/proc/}; kill -CONT "${waked%/cmdline}" 2>/dev/null
  done
}
own_windows() {
  T list-windows -a -F '#{window_id} #{@se_remote_name}' 2>/dev/null |
    while read -r id owner; do [ "$owner" = "$name" ] && printf '%s\n' "$id"; done
}
close_windows() {
  [ -S "$base/tmux" ] || return 0
  [ "$#" -gt 0 ] || wake
  for id in ${1-$(own_windows)}; do T kill-window -t "$id" 2>/dev/null; done
}
open_window() {
  window=; tries=0
  [ ! -S "$base/tmux" ] || wake
  while [ -z "$window" ] && [ "$tries" -lt 40 ]; do
    tries=$((tries + 1))
    if [ -S "$base/tmux" ]; then
      window=$(T new-window -d -P -F '#{window_id}' -t "=$session:" -n "$name" "$@" 2>/dev/null)
      tmux_hangs "$?" && { window=; trouble="it does not answer"; return 1; }
      [ -n "$window" ] && break
    fi
    trouble=$(T start-server \; set-option -gw remain-on-exit on \; \
      new-session -d -P -F '#{window_id}' -s "$session" -n "$name" -x 200 -y 50 "$@" 2>&1)
    case $? in
      0) window=$trouble ;;
      *) tmux_hangs "$?" && { trouble="it does not answer"; return 1; } ;;
    esac
    [ -n "$window" ] || nap
  done
  [ -n "$window" ] && T set-option -w -t "$window" @se_remote_name "$name" 2>/dev/null
}
"""
"""Needs $base, $name, $session and nap. `wake`: a tmux server that was stopped (SIGSTOP) would hold up
whoever asks it; nobody waits longer than 3 s for one that does not answer (`tmux_hangs CODE`).

`tmux_at`: a client of tmux sends its standard output to the server as a descriptor. Where that does not read,
the descriptor stays in the socket's queue after the client was killed, so a pipe would never come to its end:
not that of a command substitution, nor that of sshd. So it gets a pipe of our own, which is read up to a
line that says so, and who is to say it must not be ended: a stop that meets the wrapper at its end sends TERM
to all below it. The wrapper ignores that by then, and so does what it starts, but for the guard, which would
be waited for if it could not be ended (`trap - TERM`).

`3>&-`: tmux's server must not inherit the fifo on fd 3."""


@dataclass(frozen=True)
class Window:
    """One window of our tmux server. `owner` is its host's name, "" when it is not ours."""

    id: str
    dead: bool
    session: str
    owner: str
    name: str


def session_name(name: str) -> str:
    """`name` as tmux can hold it: it turns `:` and `.` into `_` itself, then does not find it again."""
    cleaned = re.sub(r"[^A-Za-z0-9_+-]", "_", name).lstrip("-")
    return cleaned or "se-remote"


def parse_windows(text: str) -> tuple[Window, ...]:
    """The windows out of `list-windows -a -F LIST_FORMAT`; lines of another form are passed over."""
    windows = []
    for line in text.splitlines():
        head, bar, name = line.partition("|")
        words = head.split(" ")
        if bar and len(words) >= 3 and re.fullmatch(r"@\d+", words[0]):
            windows.append(Window(words[0], words[1] == "1", words[2], " ".join(words[3:]), name))
    return tuple(windows)
