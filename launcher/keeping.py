"""The shell functions about what stays of servers on a machine: their logs, and what dead ones have left.

Needs the functions of `wrapper.COMMON` and the reply and place of `scripts`. A log is `server.log` with the
older `server.log.1` before it where it was rotated, or one file of the archive, which `wrapper.COMMON` names.
"""

from __future__ import annotations

from typing import Final

LOGS: Final = r"""
logs() {
  guard_base || :
  from=$run/server.log
  [ "$number" = 0 ] && [ -f "$from" ] || from=$(finished | sed -n "$((number > 0 ? number : 1))p")
  [ -f "$from" ] || { field verb nolog; field count "$(finished | grep -c .)"; answer; }
  field verb log
  field from "$from"
  frame log
  last_lines
  answer
}
last_lines() {
  if [ -f "$from.1" ]; then cat "$from.1" "$from" | tail -n "$lines"; else tail -n "$lines" "$from"; fi
} 2>/dev/null
finished() {
  look; [ "$state" = none ] && [ -s "$run/server.log" ] && printf '%s\n' "$run/server.log"
  ls -1 "$logs" | sort -r | while read -r file; do printf '%s\n' "$logs/$file"; done
} 2>/dev/null
runs() {
  guard_base || :
  look; field verb runs; field seen "$state"
  frame runs
  { [ "$state" = none ] || printf '%s\n' "$run/server.log"; finished; } | while read -r from; do
    file=${from##*/}
    if [ "$file" = server.log ]; then
      began=; read -r began <"$run/began"; ending
      [ "$state" = none ] || ended=running
      file=$began-$ended.log
    fi
    size=$(cat "$from.1" "$from" | wc -c)
    printf '%s %s %s\n' "$((size))" "$(date -u -r "$from" +%Y%m%dT%H%M%SZ)" "$file"
  done 2>/dev/null
  answer
}
"""

REFUSED: Final = 3
FOLLOW: Final = r"""
refuse() { printf '%s\n%s\n' "$2" "$3" >&2; exit 3; }
follow() {
  guard_base || :
  [ -f "$run/server.log" ] || {
    from=$(finished | head -n 1)
    [ -f "$from" ] && last_lines
  }
  tail -n "$lines" -F "$run/server.log" 2>/dev/null &
  follower=$!
  trap 'kill "$follower" 2>/dev/null; exit' HUP INT TERM PIPE
  cat >/dev/null
  kill "$follower" 2>/dev/null
}
"""
"""`follow` reads its standard input until it ends: so it ends with the client, however that ends. It answers
in no frame: what it is refused for is on stderr (cause, next step), and its exit code is REFUSED."""

FETCH: Final = r"""
fetch() {
  guard_base || :
  now=; read -r now <"$run/began"
  from=; start=0
  if [ -f "$run/server.log" ] && { [ -z "$began" ] || [ "$now" = "$began" ]; }; then
    from=$run/server.log
    read -r start <"$run/rotated" && [ -f "$from.1" ] && start=$((start - $(wc -c <"$from.1")))
    [ "$since" -gt 0 ] && skip=$((since - start))
    [ "${skip:-0}" -gt 0 ] || skip=0
  else
    skip=0
    if [ -n "$began" ]; then for file in "$logs/$began"-*.log; do from=$file; done
    else from=$(finished | head -n 1); fi
  fi
  [ -f "$from" ] || { field verb nolog; answer; }
  field verb log
  field size "$(($(whole | wc -c) - skip))"
  field lost "$((start > since ? start - since : 0))"
  frame log
  whole | tail -c "+$((skip + 1))" | tail -c "$limit"
  answer
} 2>/dev/null
whole() { if [ -f "$from.1" ]; then cat "$from.1" "$from"; else cat "$from"; fi; }
"""
"""The log of one run, known by its `began`, from the byte `since` on that was the next one then.

`start`: what has been rotated away of it. A run that is over is given whole: it is known only by its name."""

CLEAN: Final = r"""
wanted() {
  [ "$names" = '*' ] && return 0
  case " $names " in *" $1 "*|*" ${1%%+*} "*) return 0 ;; esac
  return 1
}
act() { [ "$dry" = yes ] || "$@"; }
bytes() { printf '%s' "$(($(find "$@" -type f -exec cat {} + | wc -c)))"; }
clean_logs() {
  for kept in "${logs%/*}"/*/; do
    kept=${kept%/}; name=${kept##*/}
    [ -d "$kept" ] && [ ! -h "$kept" ] && wanted "$name" || continue
    for file in "$kept"/*.log; do
      [ -f "$file" ] || continue
      printf 'log %s %s\n' "$(bytes "$file")" "$name"
      act rm -f "$file"
    done
    act rmdir "$kept"
  done
  act rmdir "${logs%/*}"
}
clean_runs() {
  for run in "$base"/*/; do
    run=${run%/}; name=${run##*/}
    [ -d "$run" ] && [ ! -h "$run" ] && wanted "$name" || continue
    look; gather_roots; family; waiting=
    for file in "$run"/ready.* "$run"/safe.armed "$run"/safe.claimed.*; do [ -e "$file" ] && waiting=yes; done
    if [ "$state$waiting" != none ] || [ -n "$found" ]; then
      [ "$state" = running ] || printf 'used 0 %s\n' "$name"
      continue
    fi
    size=$(bytes "$run"); first=
    newcomer && continue  # a bring-up has begun in it meanwhile
    printf 'run %s %s\n' "$size" "$name"
    act discard
  done
  for run in "$base"/.gone.*; do
    [ -d "$run" ] && [ "$names" = '*' ] && [ ! -d "/proc/${run##*.}" ] || continue
    printf 'run %s %s\n' "$(bytes "$run")" "${run##*/}"
    act rm -rf "$run"
  done
}
clean_windows() {
  T list-windows -a -F '#{window_id} #{@se_remote_name}' | while read -r id name; do
    [ -n "$name" ] && wanted "$name" || continue
    run=$base/$name
    [ -d "$run" ] && { look; [ "$state" = none ] && [ "$dry" = yes ] || continue; }
    printf 'window 0 %s\n' "$name"
    act T kill-window -t "$id"
  done
}
clean() {
  safe=no; guard_base && safe=yes
  field verb cleaned
  frame items
  clean_logs
  [ "$safe" = no ] || { clean_runs; [ ! -S "$base/tmux" ] || clean_windows; act sweep; }
  answer
} 2>/dev/null
"""
"""Removes, or with `dry` = yes only tells, what stays by design; nothing that lives, that is waited for,
of which a process is left or whose `on_stop` is still to be run. Needs the functions of `stopping.STOP`,
`family.FAMILY` and `tmux.SHELL_FUNCTIONS` too."""
