"""What runs in a process's tmux window: a POSIX sh wrapper, one text for all, behind a few values.

Three roles: without argument it is the wrapper itself (runs the process, notes how it ended); `start` changes
to the process's environment and shell, and becomes `serve`, a plain script: setup lines, then the command.

Rules:
- the process runs in the foreground, so its exit code is true (and a shell has what runs in its background
  ignore INT and QUIT); its stdin is the window's tty. Its output goes through a pipe that a `cat` appends to
  the log: a script that says `echo … >/dev/stderr` opens what stands there once more, and would truncate a
  file. That `cat` lives as long as anybody may still write, whatever becomes of window, wrapper and guard;
- the wrapper survives HUP, INT and TERM (they are for the process);
- a guard beside it sees that the wrapper is gone, its window closed or its lease over, and ends the process;
  when only the lease is over, behind what needs it on its machine, for a bounded time;
- what ended in order (a one-shot with code 0, whoever was left by its lease) leaves nothing but its log; one
  that died leaves run directory and window for whoever comes to look;
- whoever listens (fifos in `.watch`) hears of every change: see `tell`.
"""

from __future__ import annotations

from typing import Final

from launcher import tmux, wrapper
from launcher.boxes import BOX
from launcher.processes.boxed import TOOLS, WRAPPED
from launcher.processes.checking import checks
from launcher.processes.ending import ENDING
from launcher.processes.logkeeping import KEEP_LOG
from launcher.processes.sharing import SHARING

CHECK_EVERY_S: Final = "0.5"
KEEP_LOGS: Final = 10
BEHIND_S: Final = 40
"""Of one whose lease is over: so long it waits for what needs it to end first. A server whose client is gone
may need 20 s for its `on_stop`."""
ENDS_S: Final = 10
"""Then it has ended, and all it has started: see the steps of the guard."""

STATE_LINE: Final = "%-110s\\n"
"""How a line of `state` is printed: each as long as the one it is written over, which costs no `mv`."""

_TELLING: Final = r"""
clock() { read -r up rest </proc/uptime; epoch=$((offset + ${up%%.*})); }
tell_all() {
  for fifo in "$root"/.watch/*; do
    [ -p "$fifo" ] || continue
    listener=${fifo##*/}; word=; more=
    while read -r word more && [ "$word" != State: ]; do :; done <"/proc/$listener/status"
    case $word$more in ''|State:[ZXx]*) rm -f "$fifo"; continue ;; State:[Tt]*) continue ;; esac
    printf '%s\n' "$1" 1<>"$fifo"
  done
} 2>/dev/null
put_state() {
  clock
  printf '@STATE@' "$1 $epoch ${identity:-- - -} ${process:--}" 1<>"$run/state"
} 2>/dev/null
tell() { clock; tell_all "c $key $token $1 ${2:--} ${3:-0} $epoch ${4-}"; }
remark() {
  [ -e "$run/remarked" ] || { true >"$run/remarked"; tell running - 0 "$1"; }
}
stopped_by() {
  spid=; sstart=; slife=
  read -r spid sstart slife 2>/dev/null <"$run/stopping" && alive "$spid" "$sstart" "$slife"
}
"""
TELLING: Final = _TELLING.replace("@STATE@", STATE_LINE)
"""`tell STATE [CODE SIGNAL REASON]`: one line to everybody who listens; a fifo is named after the pid of its
listener. Who is stopped is passed over, since he would block us; that of a dead one is removed. `remark` is
for what keeps it from getting ready: the first such is told.
`put_state STATE`."""

KEEPING: Final = (
    KEEP_LOG
    + r"""
store() {
  kept=$HOME/.local/state/se-remote/processes/$2
  began=${6:-$(date -u +%Y%m%dT%H%M%SZ)-$$}
  [ -d "$kept" ] || mkdir -p "$kept" || return 1
  printf '%s %s\n' "$5" "$4" >"$kept/.ended"
  [ -s "$1/log" ] || return 0
  if [ -f "$1/log.punched" ]; then run=$1; archive_log "$kept/$began-$3.log"
  else
    mv "$1/log" "$kept/$began-$3.log"
    [ ! -f "$1/log.index" ] || mv "$1/log.index" "$kept/$began-$3.index"
  fi
  set -- "$kept"/*.log
  while [ "$#" -gt 10 ]; do rm -f "$1" "${1%.log}.index"; shift; done
} 2>/dev/null
gone_rooms() {
  gone=
  for one in "$@"; do
    one=$root/${one%%/*}
    case " $gone " in *" $one "*) ;; *) gone="$gone $one" ;; esac
  done
  [ "$#" = 0 ] || rmdir $gone
} 2>/dev/null
swept() {
  gone_rooms "$@"
  rmdir "$root/.watch" "$root/.leases" "$root/.claims" "$root"
  sweep
} 2>/dev/null
"""
)
"""`store RUN KEY HOW "CODE SIGNAL" TOKEN BEGAN` archives the log; `.ended` says how the last archived one
ended: who has lost his connection asks for it by his token. Names sort by age: they begin with the time."""

_WRAPPER: Final = r"""
guard() {
  trap '' INT TERM QUIT; hung=; trap 'hung=yes' HUP
  beats=; stale=0; why=; tailing=
  stat_of self; set -- $stat
  printf '%s %s %s\n' "$stat_pid" "${20}" "$boot" >"$run/guard"
  keep_log_begin 7
  pause=
  while [ -z "$why" ]; do
    { sleep "${pause:-1}" || sleep 1; } 5<&- 6<&- 7>&- 8>&- 2>/dev/null
    pause=
    still_ours || guarded
    # from then on it is looked for what is to be ended, and what comes later would stay
    [ -n "$tailing" ] || stopped_by || show_log
    keep_log 2>/dev/null
    look_round
    [ -z "$why" ] || ! stopped_by || why=
    case $why in "its lease"*)
      if given_on; then why=; beats=; stale=0
      elif needed; then why=; pause=0.2; fi ;;
    esac
    [ -n "$pause" ] || over=
  done
  printf '%s\n' "$why" >"$run/reason"
  [ -z "$box" ] || end_boxed "INT:150 TERM:100 KILL:100" >/dev/null 2>&1
  end_all "$key" "INT:150 TERM:100 KILL:100" >/dev/null 2>&1
  # whoever runs the process sees it end, and says so
  tries=0
  while alive "$mine" "$mstart" "$boot" && [ "$tries" -lt 100 ]; do nap; tries=$((tries + 1)); done
  still_ours || guarded
  alive "$mine" "$mstart" "$boot" && exit 0
  [ -e "$run/exit" ] || { code=137; conclude; }
  guarded
}
guarded() {
  [ -z "$tailing" ] || kill -KILL "$tailing" 2>/dev/null
  exit 0
}
show_log() {
  tail -n +1 -f "$run/log" 5<&- 6<&- 7>&- >&8 2>/dev/null &
  tailing=$!
  printf '%s\n' "$tailing" >"$run/tail"
}
still_ours() { seen=; read -r seen 2>/dev/null <"$run/wrapper" && [ "$seen" = "$identity" ]; }
look_round() {
  alive "$mine" "$mstart" "$boot" || { why="its wrapper was killed"; return; }
  if [ -n "$hung" ] || ! [ -t 6 ]; then
    # the end of the wrapper hangs up, too, a moment before it is over
    nap; nap
    why="its window was closed"
    alive "$mine" "$mstart" "$boot" || why="its wrapper was killed"
    return
  fi
  [ ! -e "$run/lease" ] || { read -r lease; read -r behind; } <"$run/lease"
  [ -n "$lease" ] || return 0
  beat=; bound=
  read -r beat bound rest 2>/dev/null <"$root/.leases/$lease" || [ -e "$root/.leases/$lease" ] ||
    { why="its lease was given up"; return; }
  [ "$beat" = "$beats" ] && stale=$((stale + 1)) || { beats=$beat; stale=0; }
  [ "$stale" -lt "${bound:-10}" ] || why="its lease is over: whoever started it was not heard of for $bound s"
}
needed() {
  clock; over=${over:-$epoch}
  [ "$((epoch - over))" -lt @BEHIND@ ] || return 1
  for user in $behind; do
    for file in "$base/$user/pid" "$base/$user"/wrapper*; do
      one=; start=; life=
      read -r one start life rest 2>/dev/null <"$file" && alive "$one" "$start" "$life" && return 0
    done
  done
  return 1
}
open_output() {
  # both ends are open before anybody can die: a reader that waits for its writer would wait for ever
  exec 4<>"$run/out"; exec 3<"$run/out" 9>"$run/out"; exec 4>&-
  take_output &
  exec 3<&-
  stat_of "$!"; set -- "$!" $stat
  printf '%s %s %s\n' "$1" "${21}" "$boot" >"$run/taker"
}
take_output() {
  # by `exec`: a shell keeps what a function's own redirections close
  exec <&3 >&7 2>/dev/null 3<&- 5<&- 6<&- 7>&- 8>&- 9>&-
  trap '' HUP INT TERM QUIT
  # nothing may make the process see a broken pipe: not a full disk, not whoever kills a `cat`
  until cat; do sleep 0.2; done
}
readiness() {
  trap '' INT QUIT HUP
  read -r going <&5  # setup has passed
  process=; read -r process rest 2>/dev/null <"$run/pid"
  tell running
  if [ -z "$probe" ]; then sleep 0.1
  else
    put_state running
    cd "$HOME" 2>/dev/null
    until eval "$probe"; do
      sleep @EVERY@
      [ ! -e "$run/stopping" ] && [ ! -e "$run/reason" ] && still_ours || return 0
    done
  fi
  still_runs || return 0
  [ -e "$run/exit" ] || [ -e "$run/stopping" ] || { put_state ready; tell ready; }
}
still_runs() {
  one=; start=; life=
  read -r one start life 2>/dev/null <"$run/pid" && alive "$one" "$start" "$life"
}
@CHECKS@
finish() {
  # Not TERM: a shell that has just been forked may still take it for itself. The `wait`: bash would say so.
  kill -KILL "$ready" 2>/dev/null; wait "$ready" 2>/dev/null
  if stopped_by; then
    printf '%s\n' "$ended" >"$run/exit"
    while sleep 0.2; still_ours && stopped_by; do :; done
    still_ours || exit 0
    rm -f "$run/exit"
  fi
  conclude
  kill -KILL "$guarding" 2>/dev/null; wait "$guarding" 2>/dev/null
}
decode() {
  sig=0; [ "$code" -le 128 ] || [ "$code" -gt 192 ] || sig=$((code - 128))
  ended="$code $sig"
}
conclude() {
  decode; taken 10
  read -r token 2>/dev/null <"$run/about"  # it may have been given on
  why=; read -r why 2>/dev/null <"$run/reason"
  stage=; read -r stage 2>/dev/null <"$run/stage"
  [ -z "$box" ] || [ -n "$why" ] || [ "$code" = 0 ] || box_trouble
  [ -n "$why" ] || case $stage in
    setup) why='`setup` failed' ;;
    workdir) why="there is no $place in the container, or its user may not enter it" ;;
    shell) why='its shell did not start' ;;
    *) [ -t 6 ] || why="its window was closed" ;;
  esac
  clock
  case $oneshot:$code:$why in
    yes:0:) how=done ;;
    *:"its lease"*) how=lease ;;
    *) how=dead ;;
  esac
  printf '%s\n' "$ended $epoch $why" >"$run/.exit" && mv "$run/.exit" "$run/exit"
  process=; put_state dead
  case $how in done) tell stopped 0 0 ;; *) tell dead "$code" "$sig" "$why" ;; esac
  [ -z "$box" ] || end_boxed "INT:100 TERM:100 KILL:100" >/dev/null 2>&1
  end_all "$key" "INT:100 TERM:100 KILL:100" >/dev/null 2>&1
  # who asks for a status need not look for what is left
  if [ -z "$all" ] && still_ours; then process='- gone'; put_state dead; fi
  [ -z "$box" ] || leave_mark >/dev/null 2>&1
  taken 50
  stopped_by && return
  if [ "$how" = dead ]; then
    # who comes to look finds it in the window, too
    if read -r tailing <"$run/tail"; then nap; kill -KILL "$tailing"; else cat "$run/log"; fi 2>/dev/null
    printf '\n[se-remote: it ended with %s%s]\n' "$(spoken)" "${why:+: $why}" 2>/dev/null
    return
  fi
  [ "$how" = done ] || how=killed
  keep_log_begin 7; log_last=0; keep_log
  store "$run" "$key" "$how" "$ended" "$token" "$stamp"
  rm -rf "$run"
  T kill-pane -t "$TMUX_PANE" 2>/dev/null
  swept "$key"
}
spoken() { if [ "$sig" = 0 ]; then printf 'code %s' "$code"; else printf 'signal %s' "$sig"; fi; }
wrap() {
  trap : HUP INT TERM QUIT
  stat_of "$$"; set -- $stat
  mine=$$; mstart=${20}; identity="$mine $mstart $boot"
  [ -z "$box" ] || mark_box
  printf '%s\n' "$identity" 1<>"$run/wrapper"
  exec 5<>"$run/go" 6<&0 7>>"$run/log" 8>&1
  guard >/dev/null 2>&1 &
  guarding=$!
  looking=readiness
  [ -z "$box" ] || looking=box_readiness
  "$looking" 6<&- </dev/null >/dev/null 2>&1 &
  ready=$!
  [ -n "$box" ] || open_output
  if [ -n "$box" ]; then hold_box <&6 >&7 2>&7
  else env -i "$shell" "$run/run" cmd <&6 >&9 2>&9 5>&- 6<&- 7>&- 8>&- 9>&-; fi
  code=$?
  exec 9>&-
  trap '' HUP INT TERM QUIT
  decode
  finish
}
"""

SERVE: Final = r"""SE_REMOTE_RUN=${0%/*}; se_remote_what=${1:-cmd}; set --
. "$SE_REMOTE_RUN/env" 2>/dev/null  # bash complains of a locale that is not there
SE_REMOTE_RUN=${0%/*}; export SE_REMOTE_RUN
if [ "$se_remote_what" = cmd ]; then
  read -r se_remote_boot </proc/sys/kernel/random/boot_id
  read -r se_remote_stat <"/proc/$$/stat"
  se_remote_stat=${se_remote_stat##*) }; se_remote_n=19
  while [ "$se_remote_n" -gt 0 ]; do
    se_remote_stat=${se_remote_stat#* }; se_remote_n=$((se_remote_n - 1))
  done
  printf '%s %s %s\n' "$$" "${se_remote_stat%% *}" "$se_remote_boot" >"$SE_REMOTE_RUN/pid"
else SE_REMOTE_CHECK=$SE_REMOTE_RUN; export SE_REMOTE_CHECK; fi
cd "${SE_REMOTE_PLACE:-$HOME}" 2>/dev/null || cd /
if [ -r "$SE_REMOTE_RUN/login" ]; then . "$SE_REMOTE_RUN/login"; . "$SE_REMOTE_RUN/vars"; fi
if [ -r "$SE_REMOTE_RUN/setup" ]; then
  se_remote_stage=stage; [ "$se_remote_what" = cmd ] || se_remote_stage=check.stage
  printf 'setup\n' >|"$SE_REMOTE_RUN/$se_remote_stage"
  . "$SE_REMOTE_RUN/setup"
  se_remote_code=$?
  [ "$se_remote_code" = 0 ] || exit "$se_remote_code"
  [ "$se_remote_what" = cmd ] || printf 'check\n' >|"$SE_REMOTE_RUN/check.stage" || true
fi
if [ "$se_remote_what" = cmd ]; then
  # in a container it is waited for
  [ ! -e "$SE_REMOTE_RUN/stage" ] && [ ! -e "$SE_REMOTE_RUN/run.main" ] ||
    printf 'command\n' >|"$SE_REMOTE_RUN/stage" || true
  printf 'go\n' 1<>"$SE_REMOTE_RUN/go"
fi
. "$SE_REMOTE_RUN/$se_remote_what"
exit $?
"""
"""Not in a function: what setup lines and a login snapshot declare would be local to it. Those may also say
`set -e` and `set -C`."""


def wrapper_text() -> str:
    """The window's script. Before it stand lines that set what `wire` has of the launch, and base, root,
    offset, stamp, shell and HOME; for one in a container engine, box, bkey, as, inside, slug_key, and
    `boxed_text`, which the others need not read."""
    body = _WRAPPER.replace("@EVERY@", CHECK_EVERY_S).replace("@CHECKS@", checks("run"))
    body = body.replace("@BEHIND@", str(BEHIND_S))
    lines = [
        "se_remote() {",
        "run=${0%/*}; name=",
        "read -r boot </proc/sys/kernel/random/boot_id",
        wrapper.COMMON,
        tmux.SHELL_FUNCTIONS,
        TELLING,
        SHARING,
        KEEPING,
        ENDING,
        body,
        "wrap",
        "}",
        'se_remote "$@"',
        "",
    ]
    return "\n".join(lines)


def boxed_text() -> str:
    """The functions of the window's script for a process in a container."""
    return "\n".join([BOX, WRAPPED])


def serve_parts() -> tuple[str, str]:
    """What stands before and behind the environment, where it is one file with the wrapper: `run cmd`."""
    head, line, tail = SERVE.partition('. "$SE_REMOTE_RUN/env" 2>/dev/null')
    assert line
    return 'if [ -n "${1-}" ]; then\n' + head + "{", "} 2>/dev/null" + tail + "fi"


def tools_text() -> str:
    """What a process in a container has beside it, behind the same lines."""
    head = "run=${0%/*}; read -r boot </proc/sys/kernel/random/boot_id"
    return "\n".join([head, wrapper.COMMON, ENDING, checks("serve"), TOOLS])
