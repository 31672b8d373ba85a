"""The shell text that stays open on a machine for a Site: takes commands on stdin, says lines on stdout.

Rules:
- POSIX sh, tmux, /proc and the usual tools; nothing is installed;
- a command is `VERB ID SIZE` and SIZE bytes of shell text that only calls the functions here; each runs
  beside the others, and is answered by lines that end with `k ID`;
- all it says goes through one fifo, in lines: what several say at once does not mix. What the wrappers tell
  comes through the same fifo, which lies in `.watch` and is named after the agent's pid;
- who starts or clears away does so one at a time on a machine, shortly, and for a whole batch (`starting`).

    c KEY TOKEN STATE CODE SIGNAL EPOCH REASON    a change; CODE `-` when there is none
    x KEY WHAT TEXT                               a conflict: token, by, what, began; then `x KEY end TOKEN`,
                                                  or only `x KEY foreign TOKEN`; TOKEN is of who asked
    s ID KEY HOW CODE SIGNAL [WHO]                a stop: none, other, used (by WHO), dead, stopped, forced
    l ID KEY PID COMMAND                          what survived it
    t ID TEXT                                     a line of a log
    f ID STAGE | fc ID CAUSE | fn ID NEXT         a command that failed
    k ID                                          a command is done
"""

from __future__ import annotations

from typing import Final

from launcher import scripts, tmux, wrapper
from launcher.boxes import BOX
from launcher.command import quote
from launcher.processes.boxed import BATCH, inner_text
from launcher.processes.clearing import STOPPING
from launcher.processes.ending import ENDING
from launcher.processes.login import LOGIN, SNAPSHOTS
from launcher.processes.sharing import SHARING
from launcher.processes.starting import LOCK, OPENING, STARTING
from launcher.processes.surveying import SURVEY
from launcher.processes.wrapping import (
    KEEPING,
    SERVE,
    TELLING,
    boxed_text,
    serve_parts,
    tools_text,
    wrapper_text,
)

HELLO: Final = "se-remote-site 1"

_AGENT: Final = r"""
say() { printf '%s\n' "$1" >&3; }
fail() {
  leave 2>/dev/null  # first: who hears of it may go, and nothing is to be left then
  say "f $asked $1"; say "fc $asked $2"; say "fn $asked $3"; say "k $asked"
  exit 0
}
refuse() { printf 'refused %s\n%s\n%s\n' "$1" "$2" "$3"; exit 0; }
know_self() { stat_of self; me=$stat_pid; set -- $stat; self="$me ${20} $boot"; }
job() {
  asked=$1
  know_self; claims=$root/.claims
  eval "$2"
  say "k $asked"
}
last_lines() {
  run=$root/$1; about
  [ "$htoken" = "$2" ] && [ -s "$run/log" ] || return 0
  tail -c 16384 "$run/log" | tail -n "$3" | cut -c -1000 |
    while IFS= read -r line || [ -n "$line" ]; do say "t $asked $line"; done
}
lease() {
  leases="$leases $1:$2"
  [ -d "$root/.leases" ] || mkdir -p "$root/.leases"
  beat
}
release() {
  kept=
  for one in $leases; do [ "${one%%:*}" = "$1" ] || kept="$kept $one"; done
  leases=$kept
  rm -f "$root/.leases/$1"
}
beat() {
  beats=$((beats + 1))
  for one in $leases; do printf '%s-%s %s\n' "$$" "$beats" "${one#*:}" 1<>"$root/.leases/${one%%:*}"; done
} 2>/dev/null
prepare() {
  place; root=$base/.processes; home=$(printf %s "$HOME" | sed "s/'/'\\\\''/g")
  find_awk || refuse shell "there is no awk on this machine (PATH=$PATH)" "install one: mawk, gawk or busybox"
  if [ ! -e "$base" ] && [ ! -h "$base" ]; then mkdir -m 700 "$base" 2>/dev/null; fi
  guard_base || refuse shell "cannot create $base" "df -h /tmp; ls -ld $base"
  whose_base
  read -r up rest </proc/uptime; offset=$(($(date +%s) - ${up%%.*}))
  fifo=$root/.watch/$$; tries=0
  rm -f "$fifo"
  until mkdir -p "$root/.watch" && mkfifo "$fifo"; do
    tries=$((tries + 1)); [ "$tries" -lt 60 ] || refuse shell "cannot write to $base" "df -h $base"
    mkdir -m 700 "$base"; nap
  done 2>/dev/null
  for file in "$root"/.watch/* "$root"/.login.*; do
    one=${file##*/}; one=${one#.login.}
    [ -e "$file" ] || continue
    stat_of "${one%%.*}" || stat=Z  # it may be dead and not reaped yet
    case $stat in Z*|X*|x*) rm -f "$file" ;; esac
  done
}
agent() {
  prepare
  leases=; beats=0
  exec 3<>"$fifo"
  cat <"$fifo" 3>&- &
  printer=$!
  say "@HELLO@"
  unbuffered='PYTHONUNBUFFERED=1; export PYTHONUNBUFFERED'
  preload=$(unset LD_PRELOAD; stdbuf -oL sh -c 'printf %s "$LD_PRELOAD"' </dev/null 2>/dev/null)
  [ -z "$preload" ] || unbuffered="$unbuffered
_STDBUF_O=L; LD_PRELOAD=\${LD_PRELOAD:+\$LD_PRELOAD:}$preload; export _STDBUF_O LD_PRELOAD"
  while read -r verb id size; do
    case $verb in
      beat) beat ;;
      here) eval "$(dd ibs=1 obs=65536 count="$size" 2>/dev/null)"; say "k $id" ;;
      do)
        text=$(dd ibs=1 obs=65536 count="$size" 2>/dev/null)
        job "$id" "$text" </dev/null >/dev/null 2>&1 & ;;
    esac
  done
  rm -f "$fifo" "$root/.login.$$".*
  exec 3>&-
  for one in $leases; do lapse "${one%%:*}" "${one#*:}" & done </dev/null >/dev/null 2>&1
  swept
  exit 0
}
lapse() {
  beat=; read -r beat rest <"$root/.leases/$1"
  sleep "$((${2%%.*} + 2))"
  again=; read -r again rest <"$root/.leases/$1"
  [ "$again" != "$beat" ] || rm -f "$root/.leases/$1"
  swept
} 2>/dev/null
"""


def agent_text(values: str) -> str:
    """What `Runner.open` is given. `values`: assignments of base and name."""
    parts = [
        "environment=$(export -p)",
        "case $environment in *SHELLOPTS=*|*BASHOPTS=*) environment=$(printf '%s\\n' \"$environment\" |",
        "  grep -v -e '^[a-z]* -*[a-z]* *SHELLOPTS=' -e '^[a-z]* -*[a-z]* *BASHOPTS=') ;; esac",
        "umask=$(umask); umask 077; unset SE_REMOTE_RUN TMUX TMUX_PANE",
        values,
        wrapper.COMMON,
        tmux.SHELL_FUNCTIONS,
        scripts.PLACE,
        TELLING,
        SHARING,
        KEEPING,
        ENDING,
        SURVEY,
        LOCK,
        STARTING,
        OPENING,
        *(f"{name}={quote([text])}" for name, text in SNAPSHOTS.items()),
        LOGIN,
        BOX,
        BATCH,
        f"inner_text={quote([inner_text(SERVE, tools_text())])}",
        STOPPING,
        _AGENT.replace("@HELLO@", HELLO),
    ]
    return "\n".join(parts)


def window_text() -> dict[str, str]:
    """The texts that go to every process: of its wrapper, and of what it serves around its environment."""
    head, tail = serve_parts()
    return {"wrap_text": wrapper_text(), "boxed_text": boxed_text(), "serve_head": head, "serve_tail": tail}
