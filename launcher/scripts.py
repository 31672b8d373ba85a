"""The POSIX sh scripts that run on a machine, as text: bring-up, stop, status, logs.

Rules:
- a script comes on the standard input of `exec sh`: nothing else is ever given to the login shell;
- it is one function, called on its last line with stdin from /dev/null: a cut connection never runs
  half of it, and no child eats it;
- values come in as quoted assignments; nothing of an inventory is pasted in unquoted;
- it answers in sections, each opened by a line `NONCE NAME`, the last one is `NONCE end`: what rc files
  print before and after does not matter (the parser is `plan.parse_reply`);
- it needs POSIX sh, tmux and /proc; every step on the way to a running server is a shell builtin if one
  can do it, since a spawned command costs a millisecond.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Final

from launcher import family, keeping, outputs, stopping, tmux, wrapper
from launcher.boxes import BOX
from launcher.bringing import BRING_UP
from launcher.command import quote
from launcher.model import HostSpec

ON_STOP_TAKES_S: Final = 40
"""What the `on_stop` of a server that died may take when the next one starts, with what has to be ended
before and after it. Equals remote_exec.host.safe_state.RECOVER_SECONDS."""
ANSWERS_WITHIN_S: Final = 2.0
"""What a server may take to say whether it is in use."""

REPLY: Final = r"""
frame() { printf '\n%s %s\n' "$nonce" "$1"; }
field() { frame "$1"; printf '%s\n' "$2"; }
show() {
  [ -f "$2" ] || return 0
  frame "$1"
  while IFS= read -r line || [ -n "$line" ]; do printf '%s\n' "$line"; done <"$2"
} 2>/dev/null
answer() { frame end; exit 0; }
refuse() {
  [ -n "${fifo-}" ] && { rm -f "$fifo"; rmdir "$run" "$base" 2>/dev/null; }
  field verb refused; field stage "$1"; field cause "$2"; field next "$3"; answer
}
"""

PLACE: Final = r"""
place() {
  uid=$(id -u)
  logs=$HOME/.local/state/se-remote/$name; carried=no
  case $base in
    '') base=/tmp/se-remote-$uid ;;
    @*) base=/tmp/se-remote-$uid-${base#@}; carried=yes; logs= ;;
  esac
  run=$base/$name
  read -r boot </proc/sys/kernel/random/boot_id
  cd "$HOME" 2>/dev/null || cd /
}
guard_base() {
  [ -d "$base" ] || [ -h "$base" ] || [ -e "$base" ] || return 1
  set -- $(ls -ldn "$base" 2>/dev/null)
  [ -n "${3-}" ] || return 1
  case $1 in
    d*) ;;
    l*) refuse shell "$base is a symbolic link, not our directory" "look where it leads, then: rm $base" ;;
    *) refuse shell "$base is not a directory" "look at it, then remove it: rm $base" ;;
  esac
  [ "$3" = "$uid" ] || refuse shell \
    "$base belongs to uid $3 (mode $1), not to us (uid $uid)" "have its owner or root remove it: rm -r $base"
  case $1 in
    drwx------|drwx------.) return 0 ;;
    *) refuse shell "$base has mode $1, others could reach the servers in it" "chmod 700 $base" ;;
  esac
}
look() {
  pid=; start=; life=; state=none
  if read -r pid start life 2>/dev/null <"$run/pid" && alive "$pid" "$start" "$life"; then
    state=starting
    [ -f "$run/endpoint.json" ] && state=running
    return 0
  fi
  for file in "$run"/wrapper.*; do
    wpid=; wstart=; wlife=
    read -r wpid wstart wlife 2>/dev/null <"$file" && alive "$wpid" "$wstart" "$wlife" || continue
    state=starting
    return 0
  done
}
used() {
  seen=; read -r seen 2>/dev/null <"$run/state.json"
  case $seen in
    *'"ephemeral": false'*|*'"ephemeral":false'*) return 0 ;;
    ''|*'"sessions": []'*|*'"sessions":[]'*) awaited; return ;;
  esac
}
awaited() {
  for mark in "$run"/coming.*; do [ -e "$mark" ] && return 0; done
  [ -f "$run/endpoint.json" ] || return 1
  mv "$run/endpoint.json" "$run/.withdrawn.$$" 2>/dev/null || return 1
  for mark in "$run"/coming.*; do
    [ -e "$mark" ] || continue
    mv "$run/.withdrawn.$$" "$run/endpoint.json"; tell ready "$run"; return 0
  done
  rm -f "$run/.withdrawn.$$"
  return 1
}
ours() {
  mine=; read -r mine mstart mlife 2>/dev/null <"$run/wrapper.$token" || return 1
  # killed: then its window hangs up, and the server is on its way out by itself
  alive "$mine" "$mstart" "$mlife" || { [ -s "$run/served.$token" ]; return; }
  pid=; read -r pid rest 2>/dev/null <"$run/pid" || return 1
  while [ -n "$pid" ] && [ "$pid" -gt 1 ]; do
    [ "$pid" = "$mine" ] && return 0
    stat_of "$pid" || return 1
    set -- $stat; pid=$2
  done
  return 1
}
"""

WRITTEN: Final = r"""
written() {
  gone=0; read -r gone 2>/dev/null <"$run/rotated"
  printf '%s' "$((gone + $(wc -c 2>/dev/null <"$run/server.log")))"
}
"""

_STATUS: Final = r"""
frozen() {
  frozen=
  for file in /proc/[0-9]*/stat; do
    one=${file#/proc/}; one=${one%/stat}
    stat_of "$one" || continue
    set -- $stat
    case $1:$one:$2 in T:$pid:*|T:*:$pid) frozen="$frozen $one" ;; esac
  done
  [ -n "$frozen" ]
}
remains() {
  unsafe && field unsafe yes
  [ -e "$run/exit.json" ] && return
  family
  [ -z "$found" ] || { frame remains; name_found; }
}
status() {
  [ -e "$base" ] || [ -h "$base" ] || { field verb status; answer; }
  guard_base || { field verb status; answer; }
  field verb status
  field now "$(date +%s)"
  for run in "$base"/*/; do
    run=${run%/}
    [ -d "$run" ] || continue
    field host "${run##*/}"
    look
    field seen "$state"
    case $state in running) frozen && field frozen "$frozen" ;; none) roots=; remains ;; esac
    show endpoint "$run/endpoint.json"; show state "$run/state.json"
    show exit "$run/exit.json"; show stage "$run/stage"
    show_box
  done
  if [ -S "$base/tmux" ]; then
    frame windows
    wake
    T list-windows -a -F "$format" 2>/dev/null
  fi
  frame held
  grep -ao '@se-remote/exclusive/[^ ]*' /proc/net/unix 2>/dev/null
  answer
}
"""


def bring_up(
    spec: HostSpec,
    slug: str,
    *,
    base: str,
    nonce: str,
    token: str,
    keep: float | None,
    client: str = "",
    started_by: str,
    what: str,
) -> bytes:
    """Start the server of `spec`, or find it running. `base` "" is /tmp/se-remote-UID of the machine."""
    wrapped = wrapper.wrapper_script(spec, slug, token)
    server = wrapper.server_file(spec, token, keep=keep, started_by=started_by, what=what)
    values = {
        "nonce": nonce, "token": token, "client": client, "base": base, "name": slug,
        "session": tmux.session_name(spec.session), "timeout": str(max(1, math.ceil(spec.ready_timeout))),
        "on_stop_takes": str(ON_STOP_TAKES_S),
    }  # fmt: skip
    files = [f"  printf '%s' {quote([wrapped])} >\"$run/run.$token\" &&"]
    files += [f"  printf '%s' {quote([server])} >\"$run/server.$token\" &&"]
    if spec.setup.strip():
        files += [f"  printf '%s\\n' {quote([spec.setup])} >\"$run/setup.$token\" &&"]
    if spec.on_stop:
        files += [f"  printf '%s' {quote([wrapper.on_stop_file(spec)])} >\"$run/onstop.$token\" &&"]
    env = quote([wrapper.environment_lines(spec)])
    files += [f'  printf \'%s\\numask %s\\n%s\' "$environment" "$umask" {env} >"$run/env.$token"']
    deliver = "\n".join(["deliver() {", *files, "}"])
    snapshot = [
        "environment=$(export -p)",
        # exported by some: sourcing them again is a fatal error in bash
        "case $environment in *SHELLOPTS=*|*BASHOPTS=*) environment=$(printf '%s\\n' \"$environment\" |",
        "  grep -v -e '^[a-z]* -*[a-z]* *SHELLOPTS=' -e '^[a-z]* -*[a-z]* *BASHOPTS=') ;; esac",
        "umask=$(umask); umask 077; unset SE_REMOTE_RUN TMUX TMUX_PANE",
    ]
    parts = [
        wrapper.COMMON,
        tmux.SHELL_FUNCTIONS,
        REPLY,
        PLACE,
        deliver,
        WRITTEN,
        BRING_UP,
        "place",
        "bring_up",
    ]
    return script(values, parts, before=snapshot)


def stop(
    slug: str,
    *,
    base: str,
    nonce: str,
    mode: str,
    but: Mapping[str, str] = MappingProxyType({}),
    token: str = "",
    client: str = "",
    grace: float = 10.0,
    patience: float = 3.0,
    boxes: bool = True,
) -> bytes:
    """End the server called `slug`.

    mode: `force` (whoever uses it), `unused` (only when nobody does, and nobody keeps it up), `release` (as
    `unused`, after up to `patience` seconds in which sessions may end), `mine` (as `unused`, kept or not).
    but: sessions of which clients, by what they say of themselves in `hello`, are no obstacle. With a token:
    only if that bring-up started it, and the bring-up itself is told to give up. `client`: whose own mark
    (`coming.*`) does not count. `grace`: seconds between TERM and KILL. `boxes`: of one in a container only
    that is said.
    """
    wait = patience if mode == "release" else 0.0
    why = "the server was told to stop"
    question = {"answer": nonce, "wait": wait, "but": dict(but), "kept": mode != "mine", "why": why}
    values = {
        "nonce": nonce, "token": token, "base": base, "name": slug, "mode": mode, "session": "",
        "client": client, "request": json.dumps(question),
        "grace": str(int(grace * 20)), "patience": str(int(patience * 20)),
        "bound": str(int((wait + ANSWERS_WITHIN_S) * 20)), "boxes": "yes" if boxes else "no",
    }  # fmt: skip
    return script(
        values,
        [
            wrapper.COMMON,
            tmux.SHELL_FUNCTIONS,
            family.FAMILY,
            REPLY,
            PLACE,
            BOX,
            stopping.STOP,
            "place",
            "stop",
        ],
    )


def leave(slug: str, *, base: str, nonce: str, client: str) -> bytes:
    """Take back the mark of a client that has found a server and does not come."""
    values = {"nonce": nonce, "base": base, "name": slug, "client": client}
    return script(values, [REPLY, PLACE, 'place; rm -f "$run/coming.$client"; field verb left; answer'])


def status(*, base: str, nonce: str) -> bytes:
    """What there is on the machine: one exec for all hosts on it."""
    values = {"nonce": nonce, "base": base, "name": "-", "session": "", "format": tmux.LIST_FORMAT}
    parts = [wrapper.COMMON, tmux.SHELL_FUNCTIONS, family.FAMILY, REPLY, PLACE, BOX, _STATUS]
    return script(values, [*parts, "place", "status"])


def logs(slug: str, *, base: str, nonce: str, lines: int, run: int = 0) -> bytes:
    """The last `lines` of the log of the server, of its last run when there is none; of the `run`-th last."""
    values = {"nonce": nonce, "base": base, "name": slug, "lines": str(lines), "number": str(run)}
    return script(values, [wrapper.COMMON, REPLY, PLACE, keeping.LOGS, "place", "logs"])


def runs(slug: str, *, base: str, nonce: str) -> bytes:
    """The logs that are kept, the newest first: size, time of the last line, name as `archive` makes it."""
    values = {"nonce": nonce, "base": base, "name": slug}
    return script(values, [wrapper.COMMON, REPLY, PLACE, keeping.LOGS, "place", "runs"])


def fetch(slug: str, *, base: str, nonce: str, began: str, since: int, limit: int) -> bytes:
    """The last `limit` bytes of the log of the run that `began` names, from its byte `since` on."""
    values = {
        "nonce": nonce, "base": base, "name": slug, "began": began, "since": str(since), "limit": str(limit),
    }  # fmt: skip
    parts = [wrapper.COMMON, REPLY, PLACE, keeping.LOGS, keeping.FETCH, "place", "fetch"]
    return script(values, parts)


def clean(slugs: Iterable[str], *, base: str, nonce: str, dry: bool) -> bytes:
    """Remove what has stayed of these hosts and their variants, of all for `*`; `dry`: only say it."""
    values = {
        "nonce": nonce, "base": base, "name": "-", "session": "", "names": " ".join(slugs),
        "dry": "yes" if dry else "no",
    }  # fmt: skip
    parts = [wrapper.COMMON, tmux.SHELL_FUNCTIONS, family.FAMILY, REPLY, PLACE]
    parts += [stopping.STOP, keeping.CLEAN]
    return script(values, [*parts, "place", "clean"])


def places(slug: str, *, base: str, nonce: str, keys: Iterable[str], session: str) -> bytes:
    """Make room for folders that are sent, by their keys, and for what a session writes ("": for nothing)."""
    values = {"nonce": nonce, "base": base, "name": slug, "keys": " ".join(keys), "session": session}
    return script(values, [REPLY, PLACE, outputs.PLACES, "place", "places"])


def tidy(*, base: str, nonce: str, output: str, deep: bool) -> bytes:
    """Remove a session's folder if nothing is in it; `deep`: folders in it, in which nothing is, as well."""
    values = {"nonce": nonce, "base": base, "name": "-", "output": output, "deep": "yes" if deep else "no"}
    return script(values, [REPLY, outputs.TIDY, "tidy"])


def follow(slug: str, *, base: str, lines: int) -> bytes:
    """The log as it grows, unframed, until stdin ends."""
    values = {"nonce": "", "base": base, "name": slug, "lines": str(lines)}
    return script(
        values, [wrapper.COMMON, REPLY, PLACE, keeping.LOGS, keeping.FOLLOW, "place", "follow"], stdin=""
    )


def script(
    values: Mapping[str, str], parts: list[str], before: list[str] | None = None, stdin: str = " </dev/null"
) -> bytes:
    assignments = [f"{key}={quote([value])}" for key, value in values.items()]
    plain = ["umask 077; unset SE_REMOTE_RUN TMUX TMUX_PANE"]
    lines = ["se_remote() {", *(before or plain), *assignments, *parts, "}", f"se_remote{stdin}", ""]
    return "\n".join(lines).encode("utf-8", "surrogateescape")
