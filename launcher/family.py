"""Shell functions that find and end what belongs to a server, and bring its robot into its safe state.

What belongs to it carries SE_REMOTE_RUN=RUNDIR in the environment it was started with, or descends from
what does. What carries SE_REMOTE_SESSION, too, was started by an action; the rest is the server itself,
whose processes end their sessions in order when one of them is killed. Used by the wrapper in the window
and by the scripts that come by SSH; they need the functions of `wrapper.COMMON`.
"""

from __future__ import annotations

from typing import Final

FAMILY: Final = r"""
carriers() {
  if printf 'a\0b\n' | grep -qaF b; then grep -laF "SE_REMOTE_RUN=$run" /proc/[0-9]*/environ
  else ls -d /proc/[0-9]*/environ  # busybox: its grep ends at a NUL
  fi 2>/dev/null
}
carries() {
  lines=$(tr '\0' '\n' 2>/dev/null <"$1" | grep -e '^SE_REMOTE_RUN=' -e '^SE_REMOTE_SESSION=')
  case "
$lines
" in *"
SE_REMOTE_RUN=$run
"*) ;; *) return 1 ;; esac
  case $2$lines in own*SE_REMOTE_SESSION=*) return 1 ;; esac
}
family() {
  table=
  for file in /proc/[0-9]*/stat; do
    pid=${file#/proc/}; pid=${pid%/stat}
    stat_of "$pid" || continue
    set -- $stat
    case $1 in Z|X|x) ;; *) table="$table $pid:$2" ;; esac
  done
  kin=" $roots "
  for file in $(carriers); do
    pid=${file#/proc/}; pid=${pid%/environ}
    carries "$file" any && kin="$kin$pid "
  done
  grown=yes
  while [ "$grown" = yes ]; do
    grown=no
    for pair in $table; do
      case $kin in *" ${pair%:*} "*) continue ;; esac
      case $kin in *" ${pair#*:} "*) kin="$kin${pair%:*} "; grown=yes ;; esac
    done
  done
  found=
  for pid in $kin; do
    [ "$pid" = "$$" ] && continue
    case " $table " in *" $pid:"*) found="$found $pid" ;; esac
  done
}
name_found() {
  for pid in $found; do
    line=$(tr '\0' ' ' 2>/dev/null <"/proc/$pid/cmdline" | cut -c -200 | tr '\n' ' ')
    [ -n "$line" ] || read -r line 2>/dev/null <"/proc/$pid/comm"
    printf '%s %s\n' "$pid" "${line% }"
  done
}
serving() {
  for file in $(carriers); do carries "$file" own && return 0; done
  return 1
}
end_family() {
  left=300
  while [ "$left" -gt 0 ] && serving; do nap; nap; left=$((left - 1)); done
  roots=
  for step in INT:30 TERM:20 KILL:50; do
    left=${step#*:}; family
    [ -n "$found" ] && kill -"${step%:*}" $found 2>/dev/null
    while [ -n "$found" ] && [ "$left" -gt 0 ]; do nap; nap; left=$((left - 1)); family; done
  done
}
unsafe() {
  for recipe in "$run"/safe.armed "$run"/safe.claimed.*; do [ -f "$recipe" ] && return 0; done
  return 1
}
claimed() {
  for recipe in "$run"/safe.claimed.*; do
    [ -f "$recipe" ] && [ -d "/proc/${recipe##*.}" ] && return 0
  done
  return 1
}
make_safe() {
  for recipe in "$run"/safe.armed "$run"/safe.claimed.*; do
    [ -f "$recipe" ] || continue
    env -i sh "$recipe" "$1" </dev/null
    set -- "$1" $?
    case $2 in 0|1) ;; *)
      printf 'on_stop: could not be run (exit code %s): THE ROBOT MAY NOT BE IN A SAFE STATE\n' "$2" ;;
    esac
  done >>"$run/server.log" 2>&1
}
"""
"""`end_family`: up to 30 s for what the server itself still does, then INT, TERM, KILL to the rest.

`make_safe REASON` runs what remote_exec/host/safe_state.py has left armed; a run under way is let alone."""
