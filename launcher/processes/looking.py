"""The scripts that look at processes on a machine, as text: status, trees, logs, what stays. Pure.

They follow the rules of `launcher.scripts`, and are read by `seeing` and `output`. A status is asked for
often: on its way nothing is spawned but one awk, which reads the few small files of each process and then,
only when one of them is dead, has the machine looked through for what it has left.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from launcher import tmux, wrapper
from launcher.command import quote
from launcher.plan import slug
from launcher.processes.model import Key
from launcher.scripts import REPLY, script

OPENING_S: Final = 10
"""So long after its start began a process may still be without its wrapper."""

PLACE: Final = r"""
place() {
  case $base in ''|@*)  # @ID: inside of that container
    while read -r word uid rest; do [ "$word" = Uid: ] && break; done </proc/self/status
    base=/tmp/se-remote-$uid${base:+-${base#@}} ;;
  esac
  root=$base/.processes
  cd /
}
own_base() {
  [ -e "$base" ] || [ -h "$base" ] || return 1
  [ -d "$base" ] && [ ! -h "$base" ] && [ -O "$base" ] ||
    refuse shell "$base is not a directory of ours" "look at it, then remove it: ls -ld $base"
}
"""
"""By builtins alone; `-O` is no POSIX, but every shell here has it."""

SCAN: Final = r"""
marks() {
  if printf 'a\0b\n' | grep -qaF b; then
    grep -aoH "SE_REMOTE_RUN=$root/[^[:cntrl:]]*" /proc/[0-9]*/environ
  else  # busybox: its grep ends at a NUL
    for file in /proc/[0-9]*/environ; do
      value=$(tr '\0' '\n' <"$file" | grep "^SE_REMOTE_RUN=$root/") && printf '%s:%s\n' "$file" "$value"
    done
  fi
} 2>/dev/null
stats() { read -r up rest </proc/uptime; printf 'up %s\n' "$up"; cat /proc/[0-9]*/stat; } 2>/dev/null
words() { grep -aH '' /proc/[0-9]*/cmdline | tr '\0' ' '; } 2>/dev/null
scan() { frame marks; marks; frame stats; stats; frame words; words; }
"""
"""What carries the mark of which run directory, and who is whose child: `seeing.family` puts it together."""

_STATUS: Final = r"""
status() {
  place
  own_base || { field verb status; answer; }
  set -- "$root"/*/*/
  [ -d "$1" ] || { field verb status; answer; }
  LC_ALL=C; export LC_ALL nonce scanning root
  exec awk "$looking" "$@"
}
"""

_LOOKING: Final = r"""
function whole(tag, path,   line) {
  while ((getline line < path) > 0) print tag " " line
  close(path)
}
function first(path,   line) {
  line = ""; getline line < path; close(path)
  return line
}
function alive(pid, start, life,   line, part) {
  if (pid !~ /^[0-9]+$/ || life != boot) return "no"
  line = first("/proc/" pid "/stat"); sub(/^.*\) /, "", line); split(line, part, " ")
  return line != "" && part[1] !~ /[ZXx]/ && part[20] == start ? "yes" : "no"
}
BEGIN {
  nonce = ENVIRON["nonce"]
  boot = first("/proc/sys/kernel/random/boot_id")
  print "\n" nonce " verb\nstatus\n\n" nonce " runs"
  for (i = 1; i < ARGC; i++) {
    run = ARGV[i]
    state = first(run "state"); n = split(state, is, " ")
    print "run " run
    print "state " state
    whole("about", run "about")
    if (is[1] == "dead") { whole("exit", run "exit"); if (is[7] != "gone") dead = 1; continue }
    who[4] = ""
    if (n < 6 || is[1] == "starting") {
      split(first(run "wrapper"), who, " "); split(first(run "pid"), it, " ")
      is[3] = who[1]; is[4] = who[2]; is[5] = who[3]; is[6] = it[1]
    }
    print "pid " is[6]
    if (is[3] == "") { print "wrapper none"; continue }
    lives = alive(is[3], is[4], is[5])
    if (lives == "no" && who[4] == "starting") {  # who has opened the window is gone: it may be on its way
      split(first("/proc/uptime"), up, " ")
      if (is[5] == boot && up[1] - is[4] / 100 < @OPENING@) lives = "none"
    }
    print "wrapper " lives
    if (lives == "no") {
      split("", it); split(first(run "pid"), it, " ")
      print "process " alive(it[1], it[2], it[3])
      split("", it); split(first(run "guard"), it, " ")
      print "guard " alive(it[1], it[2], it[3])
      whole("exit", run "exit"); dead = 1
    }
  }
  if (dead) { fflush(); system(ENVIRON["scanning"]) }
  print "\n" nonce " end"
}
"""

_AGAIN: Final = r"""
again() {
  while :; do (status) </dev/null; read -r nonce || exit 0; done
}
"""
"""A status, and another one for each line that it reads: the first answer comes with the first round trip."""

_TREE: Final = r"""
tree() {
  place
  field verb tree
  field base "$base"
  field clock "$(getconf CLK_TCK || echo 100) $(getconf PAGESIZE || echo 4096)" 2>/dev/null
  [ "$over" = 0 ] || { frame before; stats; sleep "$over"; }
  scan
  answer
}
"""

LOGS: Final = r"""
logs_place() {
  place
  run=$root/$session/$slug
  kept=$HOME/.local/state/se-remote/processes/$session/$slug
  own_base || :
}
lives() {
  state=; read -r state rest <"$run/state" || return 1
  [ "$state" != dead ]
} 2>/dev/null
read_began() {
  began=
  { for line in 1 2 3 4 5 6 7 8 9; do IFS= read -r began || break; done; } <"$run/about"
} 2>/dev/null
finished() {
  lives || [ ! -f "$run/log" ] || printf '%s\n' "$run/log"
  ls -1 "$kept" | grep '[.]log$' | sort -r | while read -r file; do printf '%s\n' "$kept/$file"; done
} 2>/dev/null
hole() {
  gone=0
  [ "$1" != "$run/log" ] || [ ! -f "$run/log.punched" ] || read -r gone <"$run/log.punched"
}
start_of() {
  hole "$1"; size=$(wc -c <"$1"); size=$((size + 0))
  if [ -n "$ago" ]; then
    index=${1%.log}.index; [ "$1" != "$run/log" ] || index=$run/log.index
    start=$(awk -v since="$(($(date +%s) - ago))" '$1 <= since { at = $2 } END { print at + 0 }' "$index")
  else start=$gone; fi
  [ "${start:-0}" -ge "$gone" ] || start=$gone
  case $lines in all) ;; 0) start=$size ;; *)
    window=4000000; [ "$((size - start))" -gt "$window" ] || window=$((size - start))
    if [ "$window" -lt "$((size - start))" ] && [ "$(last_of "$window" | grep -ac '')" -lt "$lines" ]; then
      window=$((size - start))
    fi
    start=$((size - $(last_of "$window" | wc -c))) ;;
  esac
} 2>/dev/null
last_of() { tail -c "+$((size - $1 + 1))" "$file" | head -c "$1" | tail -n "$lines"; }
"""
"""`start_of FILE` (which is $file, too): $start, the offset of what is asked for; $gone, where its hole ends.

Only what had been written when it was looked at counts, so the offset holds while the log goes on growing."""

_READ: Final = r"""
read_log() {
  logs_place
  # of one that has just ended it is on its way to where it is kept
  tries=0
  while [ "$number" = 0 ] && [ -e "$run/exit" ] && [ -f "$run/log" ] && [ "$tries" -lt 20 ]; do
    tries=$((tries + 1)); sleep 0.05 2>/dev/null || sleep 1
  done
  file=$run/log
  [ "$number" = 0 ] && [ -f "$file" ] || file=$(finished | sed -n "$((number > 0 ? number : 1))p")
  [ -f "$file" ] || { field verb nolog; answer; }
  field verb log
  start_of "$file"
  field from "$file"
  [ "$gone" = 0 ] || [ "$start" != "$gone" ] || field gone "$gone"
  frame log
  tail -c "+$((start + 1))" "$file" 2>/dev/null || tail -c "+$((start + 1))" "$(finished | head -n 1)"
  answer
}
runs() {
  logs_place
  field verb runs
  frame runs
  { ! lives || printf '%s\n' "$run/log"; finished; } | while read -r file; do
    name=${file##*/}
    if [ "$file" = "$run/log" ]; then
      how=running
      if ! lives; then
        code=; signal=; how=vanished
        read -r code signal rest <"$run/exit" && how=exit-$code
        [ "${signal:-0}" = 0 ] || how=signal-$signal
      fi
      read_began; name=$began-$how.log
    fi
    hole "$file"
    printf '%s %s %s\n' "$(($(wc -c <"$file") - gone))" "$(date -u -r "$file" +%Y%m%dT%H%M%SZ)" "$name"
  done 2>/dev/null
  answer
}
"""

_FOLLOW: Final = r"""
refuse() { printf '%s\n%s\n' "$2" "$3" >&2; exit 3; }
say() { printf '%s %s\n' "$nonce" "$*"; }
caught_up() {
  for fd in "/proc/$tail/fd"/*; do
    case $(readlink "$fd") in *log*) ;; *) continue ;; esac
    word=; place=; read -r word place <"/proc/$tail/fdinfo/${fd##*/}"
    [ "${place:-0}" -ge "$(($(wc -c <"$fd")))" ]
    return
  done
} 2>/dev/null
the_same() { [ -f "$run/log" ] && read_began && [ "$began" = "$now" ]; }
pause() { { sleep 0.4 2>/dev/null || sleep 1; } & wait "$!"; }
earlier() {
  # what was followed when the connection was lost
  read_began
  [ -n "$known" ] && [ "$known" != "$began" ] || return 0
  for file in "$kept/$known"-*.log; do
    [ -f "$file" ] && [ "$(($(wc -c <"$file")))" -ge "$offset" ] || { say lost; break; }
    say log "$known $offset"
    tail -c "+$((offset + 1))" "$file"
  done
  known=; lines=all; ago=
}
last_one() {
  file=$(finished | head -n 1)
  [ -n "$file" ] && [ "$file" != "$run/log" ] && [ -z "$known" ] || return 0
  start_of "$file"
  now=${file##*/}
  say log "${now%-*} $start"
  tail -c "+$((start + 1))" "$file"
}
watch_log() {
  tail=; old=
  trap 'kill $tail $old 2>/dev/null; exit' HUP INT TERM PIPE
  earlier
  [ -f "$run/log" ] || last_one
  while :; do
    if [ -f "$run/log" ]; then
      read_began; now=$began; file=$run/log
      if [ "$now" = "$known" ]; then hole "$file"; start=$offset; [ "$start" -ge "$gone" ] || start=$gone
      else start_of "$file"; fi
      lines=all; ago=
      say log "$now $start"
      tail -c "+$((start + 1))" -f "$file" 2>/dev/null &
      tail=$!
      while the_same; do pause; done
      until caught_up; do pause; done
      # it may still be handing over what it has read: let it, until the next one ends
      kill $old 2>/dev/null; old=$tail; tail=
    fi
    [ -f "$run/log" ] || pause
  done
}
follow() {
  logs_place
  watch_log </dev/null &
  watching=$!
  trap 'kill "$watching" 2>/dev/null; exit' HUP INT TERM PIPE
  cat >/dev/null
  kill "$watching" 2>/dev/null
}
"""
"""It reads its standard input until it ends: so it ends with the client, however that ends. Each log begins
with NONCE log BEGAN OFFSET and a line's end, by which the client knows where it is, and where to go on after
a lost connection ($known, $offset); NONCE lost when that is gone."""

_CLEAN: Final = r"""
act() { [ "$dry" = yes ] || "$@"; }
bytes() { printf '%s' "$(($(find "$@" -type f -exec cat {} + | wc -c)))"; }
wanted() {
  [ "$names" = '*' ] && return 0
  case " $names " in *" $1 "*) return 0 ;; esac
  return 1
}
clean_kept() {
  for folder in "$HOME/.local/state/se-remote/processes"/*/*/; do
    folder=${folder%/}; one=${folder#"$HOME/.local/state/se-remote/processes/"}
    [ -d "$folder" ] && [ ! -h "$folder" ] && [ ! -h "${folder%/*}" ] && wanted "$one" || continue
    for file in "$folder"/*.log; do
      [ -f "$file" ] || continue
      printf 'log %s %s\n' "$(bytes "$file")" "$one"
      act rm -f "$file" "${file%.log}.index"
    done
    # by this a client that comes back knows that it need not start it again; none is away for so long
    [ "$dry" = yes ] || find "$folder" -name .ended -mmin +1 -exec rm -f {} +
    act rmdir "$folder" "${folder%/*}"
  done
  act rmdir "$HOME/.local/state/se-remote/processes" "$HOME/.local/state/se-remote"
}
over() {
  state=; read -r state rest <"$run/state"
  wpid=; wstart=; wlife=; read -r wpid wstart wlife <"$run/wrapper"
  alive "$wpid" "$wstart" "$wlife" && [ "$state" != dead ] && return 1
  pid=; start=; life=; read -r pid start life <"$run/pid"
  ! alive "$pid" "$start" "$life" && [ "$state" != starting ]
}
clean_runs() {
  marked=$(marks)
  for run in "$root"/*/*/; do
    run=${run%/}; one=${run#"$root/"}
    [ -d "$run" ] && [ ! -h "$run" ] && wanted "$one" || continue
    over || continue
    case "$marked
" in *"SE_REMOTE_RUN=$run
"*) printf 'used 0 %s\n' "$one"; continue ;; esac
    printf 'run %s %s\n' "$(bytes "$run")" "$one"
    if [ "$dry" != yes ]; then
      mv "$run" "$root/.gone.$$" || continue
      rm -rf "$root/.gone.$$"
    fi
    rmdir "${run%/*}"
  done
}
clean_windows() {
  T list-windows -a -F '#{window_id} #{@se_remote_process}' | while read -r id one; do
    [ -n "$one" ] && wanted "$one" || continue
    [ -d "$root/$one" ] && { run=$root/$one; [ "$dry" = yes ] && over || continue; }
    printf 'window 0 %s\n' "$one"
    act T kill-window -t "$id"
  done
}
clean() {
  read -r boot </proc/sys/kernel/random/boot_id
  place
  safe=no; own_base && safe=yes
  field verb cleaned
  frame items
  clean_kept
  if [ "$safe" = yes ]; then
    clean_runs; [ ! -S "$base/tmux" ] || clean_windows
    act rmdir "$root"; act sweep
  fi
  answer
} 2>/dev/null
"""

WINDOW: Final = r"""
window() {
  place
  own_base || { field verb nowindow; answer; }
  field verb window
  field base "$base"
  frame windows
  format='#{window_id} #{@se_remote_process}|#{@se_remote_name}'
  [ ! -S "$base/tmux" ] || T list-windows -a -F "$format"
  answer
} 2>/dev/null
"""


def status(*, base: str, nonce: str) -> bytes:
    """All processes of ours there: one exec."""
    return script({"nonce": nonce, **_status_values(base)}, [REPLY, PLACE, _STATUS, "status"])


def statuses(*, base: str, nonce: str) -> str:
    """The same, and again for each line on its stdin, the next nonce. What `Runner.open` is given."""
    given = {"nonce": nonce, **_status_values(base)}
    values = [f"{key}={quote([value])}" for key, value in given.items()]
    return "\n".join([*values, REPLY, PLACE, _STATUS, _AGAIN, "again"])


def _status_values(base: str) -> dict[str, str]:
    scanning = "\n".join([REPLY, SCAN, "scan"])
    return {"base": base, "looking": _LOOKING.replace("@OPENING@", str(OPENING_S)), "scanning": scanning}


def tree(*, base: str, nonce: str, over: float) -> bytes:
    """Everything that runs there, twice, `over` seconds apart (0: once), and what carries whose mark."""
    values = {"nonce": nonce, "base": base, "over": f"{over:g}"}
    return script(values, [REPLY, PLACE, SCAN, _TREE, "tree"])


def read(key: Key, *, base: str, nonce: str, lines: int | None, run: int, ago: float | None) -> bytes:
    """The last `lines` (None: all) of a log, or what came in the last `ago` seconds of it."""
    return script({**_log_values(key, base, nonce, lines, ago), "number": str(run)},
                  [REPLY, PLACE, LOGS, _READ, "read_log"])  # fmt: skip


def runs(key: Key, *, base: str, nonce: str) -> bytes:
    """The runs of which there are logs; the reply is read by launcher.remains.read_runs."""
    return script(_log_values(key, base, nonce, None, None), [REPLY, PLACE, LOGS, _READ, "runs"])


def follow(
    key: Key, *, base: str, nonce: str, lines: int | None, ago: float | None, known: str = "", offset: int = 0
) -> bytes:
    """The log as it grows, through restarts, until stdin ends. `known`, `offset`: where to go on."""
    values = {**_log_values(key, base, nonce, lines, ago), "known": known, "offset": str(offset)}
    return script(values, [REPLY, PLACE, LOGS, _FOLLOW, "follow"], stdin="")


def _log_values(key: Key, base: str, nonce: str, lines: int | None, ago: float | None) -> dict[str, str]:
    return {
        "nonce": nonce, "base": base, "session": tmux.session_name(key.session), "slug": slug(key.name),
        "lines": "all" if lines is None else str(lines), "ago": "" if ago is None else str(int(ago)),
    }  # fmt: skip


def clean(keys: Iterable[Key] | None, *, base: str, nonce: str, dry: bool) -> bytes:
    """Remove what has stayed of these processes, None: of all; the reply is read by remains.read_clean."""
    names = "*" if keys is None else " ".join(place_of(key) for key in keys)
    values = {"nonce": nonce, "base": base, "names": names, "dry": "yes" if dry else "no"}
    parts = [wrapper.COMMON, tmux.SHELL_FUNCTIONS, REPLY, PLACE, SCAN, _CLEAN]
    return script(values, [*parts, "clean"])


def windows(*, base: str, nonce: str) -> bytes:
    """Our windows there, and whose they are."""
    values = {"nonce": nonce, "base": base}
    return script(values, [wrapper.COMMON, tmux.SHELL_FUNCTIONS, REPLY, PLACE, WINDOW, "window"])


def place_of(key: Key) -> str:
    """SESSION/SLUG: its run directory under .processes, its window's mark, its archive."""
    return f"{tmux.session_name(key.session)}/{slug(key.name)}"


__all__ = ["clean", "follow", "place_of", "read", "runs", "status", "statuses", "tree", "windows"]
