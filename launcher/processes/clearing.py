"""Shell functions of the agent that stop processes and clear away what they leave: a whole batch at once."""

from __future__ import annotations

from typing import Final

from launcher.processes.wrapping import STATE_LINE

_STOPPING: Final = r"""
how_ended() {
  if [ "$hcode" = - ]; then how=vanished
  elif [ "$hsig" != 0 ]; then how=signal-$hsig
  else how=exit-$hcode; fi
}
only_ours() {
  while read -r owner id where; do
    case " $keys " in *" $owner "*) ;; *) return 1 ;; esac
  done <<WINDOWS
$windows
WINDOWS
}
make_shelves() {
  set --
  for key in $keys; do
    kept=$HOME/.local/state/se-remote/processes/$key
    [ -d "$kept" ] || set -- "$@" "$kept"
  done
  [ "$#" = 0 ] || mkdir -p "$@" 2>/dev/null
}
clear_away() {
  make_shelves
  set --; number=0; cleared=
  for key in $keys; do
    run=$root/$key; number=$((number + 1)); "seen_$number"
    # another stop may have been faster, and somebody may have started it since
    [ -z "$begans" ] || case "$begans" in *" $key=$hbegan "*) ;; *) continue ;; esac
    cleared="$cleared $key"
    case " $dead " in
      *" $key "*) how_ended; store "$run" "$key" "$how" "$hcode $hsig" "$htoken" "$hbegan" ;;
      *) how_ended
        case "$killed" in *" $number "*) how=killed ;; *) how=stopped ;; esac
        [ "$hcode" != - ] || hcode=0
        store "$run" "$key" "$how" "$hcode $hsig" "$htoken" "$hbegan" ;;
    esac
    set -- "$@" "$root/$key"
  done
  keys=$cleared
  [ -n "$keys" ] || return 0
  list_windows; alone=yes
  if [ -n "$windows" ]; then only_ours || alone=no; wake; close_own; fi
  rm -rf "$@"
  if [ "$alone" = yes ]; then swept $keys; else gone_rooms $keys; fi
}
settled() {
  tries=0
  while [ "$tries" -lt 100 ] && [ -e "$run/exit" ] && wrapped && ! stopped_by; do
    nap; tries=$((tries + 1))
  done
}
stop_all() {
  steps=$1; dead=; keys=; quits=; number=0; born=; held=; begans=' '; told=; nth=0; clock
  for one_key in $2; do keys="$keys ${one_key%%:*}"; done
  survey; keys=
  for one_key in $2; do
    key=${one_key%%:*}; wanted=${one_key#*:}; wanted=${wanted%%:*}; run=$root/$key
    [ -d "$run" ] || { nth=$((nth + 1)); say "s $asked $key none - 0"; continue; }
    nth=$((nth + 1)); "seen_$nth"
    [ -n "$plain" ] || about
    [ -z "$wanted" ] || [ "$wanted" = "$htoken" ] ||
      { rm -f "$run/used.$wanted"; say "s $asked $key other - 0"; continue; }
    [ -n "$plain" ] || await_others
    [ -d "$run" ] || { say "s $asked $key none - 0"; continue; }
    if [ -n "$wanted" ] && { [ -n "$plain" ] || wrapped; } && [ ! -e "$run/exit" ] && kept_for; then
      say "s $asked $key used - 0 $by${what:+ for $what}"; continue
    fi
    begans="$begans$key=$hbegan "
    number=$((number + 1)); keys="$keys $key"; held="$held $key:${htoken:--}"
    case $one_key in *:quit) quits="$quits $number" ;; esac
    if { [ -n "$plain" ] || wrapped; } && [ ! -e "$run/exit" ]; then
      printf '%s\n' "$self" >"$run/stopping"
      printf '@STATE@' "stopping $epoch $wpid $wstart $wlife -" 1<>"$run/state"
      tell_later "$key" "$htoken" stopping
    else
      dead="$dead $key"; stated
      born="$born $key:$hcode:$hsig"
    fi
  done
  tell_now
  [ -n "$keys" ] || return 0
  end_in_boxes
  end_all "$keys" "$steps" "$quits"
  killed="$killed$killed_inside"
  for key in $keys; do run=$root/$key; taken 50; done
  helpers
  [ -z "$helping" ] || kill -KILL $helping 2>/dev/null
  mine=$keys
  survivors
  enter
  keys=$mine
  survey
  marks_of
  clear_away
  leave
  leave_boxes
  number=0; clock
  for key in $mine; do
    number=$((number + 1))
    outcome
  done
  tell_now
}
await_others() {
  settled
  tries=0
  while [ -d "$run" ] && stopped_by && [ "$tries" -lt 600 ]; do
    case $steps in KILL*) break ;; esac  # who kills does not wait for who asks
    nap; tries=$((tries + 1))
  done
  [ ! -d "$run" ] || wrapped || begun
}
survivors() {
  while read -r number kind one start; do
    [ "$kind" = F ] || continue
    n=0
    for key in $keys; do n=$((n + 1)); [ "$n" != "$number" ] || say "l $asked $key $(named "$one")"; done
  done <<MEMBERS
$members
MEMBERS
}
outcome() {
  for entry in $born; do
    case $entry in "$key":*)
      entry=${entry#*:}
      say "s $asked $key dead ${entry%%:*} ${entry#*:}"
      token_of; tell_later "$key" "$token" stopped; return ;;
    esac
  done
  case "$killed" in *" $number "*) how=forced ;; *) how=stopped ;; esac
  say "s $asked $key $how - 0"
  token_of; tell_later "$key" "$token" stopped
}
token_of() {
  token=-
  for entry in $held; do [ "${entry%%:*}" != "$key" ] || token=${entry#*:}; done
}
"""

STOPPING: Final = _STOPPING.replace("@STATE@", STATE_LINE)
