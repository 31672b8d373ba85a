"""The shell functions of the stop script: end a server, its whole family, and what it has left.

Unless it is ended by force, the server itself says whether it is in use, and stops in the same moment when it
is not: remote_exec/host/asked.py. One that does not answer (stopped, hung, of an older version) is judged by
the state.json that it wrote last, and the reply says so.

Needs the functions of `wrapper.COMMON`, `boxes.BOX`, `tmux.SHELL_FUNCTIONS`, `family.FAMILY` and the
reply and place of `scripts`.
"""

from __future__ import annotations

from typing import Final

STOP: Final = r"""
gather_roots() {
  roots=; births=
  for file in "$run"/pid "$run"/wrapper.*; do
    pid=; start=; life=
    read -r pid start life 2>/dev/null <"$file" && alive "$pid" "$start" "$life" || continue
    roots="$roots $pid"; births="$births $pid:$start"
  done
}
same() {
  for pid in $first; do case " $roots " in *" $pid "*) return 0 ;; esac; done
  return 1
}
others_came() { [ -n "$roots" ] && ! same; }
newcomer() {
  for file in "$run"/ready.*; do [ -p "$file" ] && return 0; done
  gather_roots
  others_came
}
living() {
  for birth in $born; do alive "${birth%:*}" "${birth#*:}" "$boot" && return 0; done
  return 1
}
ask() {
  verdict=; told=; answer=$run/answer.$nonce
  [ -p "$run/ask" ] && mkfifo "$answer" 2>/dev/null || return 0
  hear 3<>"$answer"
  rm -f "$answer"
}
hear() {
  ( printf '%s\n' "$request" 1<>"$run/ask" 3>&- &
    while [ "$bound" -gt 0 ] && [ -p "$answer" ] && living; do nap 3>&-; bound=$((bound - 1)); done
    kill "$!"; printf 'silent\n' >&3 ) </dev/null >/dev/null 2>&1 &
  asking=$!
  read -r verdict <&3; [ "$verdict" = silent ] || read -r told <&3
  { kill "$asking"; wait "$asking"; } 2>/dev/null
}
judge() {
  ask
  case $verdict in
    stopping) return 0 ;;
    used) in_use ;;
  esac
  living && [ -f "$run/endpoint.json" ] && field silent yes
  # it may go by itself; what it wrote about its sessions may be 0.2 s old
  [ "$mode" = release ] && wait_gone 10
  gather_roots
  while [ "$mode" = release ] && [ "$patience" -gt 0 ] && [ -n "$roots" ] && [ -d "$run" ] && used; do
    nap; patience=$((patience - 1)); gather_roots
  done
  [ -n "$roots" ] && [ -d "$run" ] && used && in_use
}
in_use() {
  field verb used; show endpoint "$run/endpoint.json"; sessions; answer
}
sessions() {
  if [ -n "$told" ]; then field state "$told"; else show state "$run/state.json"; fi
}
terminate() {
  pid=; start=; life=
  if read -r pid start life 2>/dev/null <"$run/pid" && alive "$pid" "$start" "$life"; then
    kill -TERM "$pid" 2>/dev/null
    kill -CONT "$pid" 2>/dev/null  # who is stopped could not end
  elif [ -n "$roots" ] && ! claimed && [ ! -e "$run/copying" ]; then
    family
    for pid in $found; do
      case " $roots " in *" $pid "*) ;; *) kill -TERM "$pid"; kill -CONT "$pid" ;; esac
    done 2>/dev/null
  fi
}
wait_gone() {
  left=$1
  while [ "$left" -gt 0 ] && [ -d "$run" ]; do
    gather_roots
    same || break
    nap; left=$((left - 1))
  done
}
wait_safe() {
  left=400
  while [ "$left" -gt 0 ] && claimed; do nap; left=$((left - 1)); done
  [ "$left" = 400 ] || wait_gone 40
}
wait_copied() {
  left=36000
  while [ "$left" -gt 0 ] && [ -e "$run/copying" ] && [ -n "$roots" ]; do
    nap; left=$((left - 1)); gather_roots
  done
  [ "$left" = 36000 ] || wait_gone 100
}
kill_all() {
  rounds=0; family
  while [ -n "$found" ] && [ "$rounds" -lt 40 ]; do
    how=killed
    kill -KILL $found 2>/dev/null
    nap; rounds=$((rounds + 1)); family
  done
}
watch_log() {
  log=$run/server.log
  [ -f "$log" ] || log=/dev/null
  command exec 4<"$log" || command exec 4</dev/null
  cat <&4 >/dev/null  # what comes from now on is of this end
} 2>/dev/null
ends() {
  alive "$pid" "$start" "$life" && return 1
  wpid=; wstart=; wlife=
  read -r wpid wstart wlife 2>/dev/null <"$run/wrapper.$token" && alive "$wpid" "$wstart" "$wlife"
}
keep_box() {
  { read -r engine; read -r box; read -r key; } <"$picked"
  marks; up_seconds
  [ -d "$users" ] || return 0
  printf 'until %s %s\n' "$((up + 120))" "$boot" >"$users/stop.$nonce" && field box_mark "stop.$nonce"
} 2>/dev/null
stop() {
  how=none
  [ -e "$base" ] || [ -h "$base" ] || { field verb stopped; field how none; answer; }
  guard_base || { field verb stopped; field how none; answer; }
  if [ "$boxes" = yes ] && pick_box; then show_box; keep_box; field verb carried; answer; fi
  if [ -n "$token" ]; then
    [ -p "$run/ready.$token" ] && printf 'abort\n' 1<>"$run/ready.$token"
    if [ -d "$run" ]; then
      [ -e "$run/run.$token" ] || { field verb stopped; field how none; answer; }
      look
      [ -z "$life" ] || [ "$state" = none ] || ours || ends || { field verb stopped; field how none; answer; }
    fi
  fi
  gather_roots; first=$roots; born=$births; verdict=; told=
  [ -z "$client" ] || rm -f "$run/coming.$client"
  watch_log
  [ "$mode" = force ] || [ -z "$roots" ] || [ ! -d "$run" ] || judge
  [ -d "$run" ] && how=dead
  [ -z "$first" ] || { how=graceful; sessions; }
  gather_roots
  if [ -n "$roots" ] && [ -d "$run" ] && same; then
    terminate; wait_gone "$grace"; wait_safe; wait_copied
  fi
  [ "$how" = none ] || [ -d "$run" ] || how=graceful
  gather_roots; found=; windows=; after=no
  if others_came; then after=yes; else clear_away; fi
  field verb stopped; field how "$how"
  frame onstop
  sed -n 's/^.*\(on_stop: .*\)$/\1/p' 2>/dev/null <&4
  frame left
  [ "$after" = yes ] || name_left
  answer
}
clear_away() {
  kill_all
  unsafe && make_safe "the server was killed"
  wake; windows=$(own_windows)
  gather_roots
  others_came && { after=yes; return; }
  [ -d "$run" ] && { ending; archive "$ended"; discard; }
  close_windows "$windows"
  sweep
}
name_left() {
  name_found
  if [ -d "$run" ] && ! newcomer && nap && ! newcomer && [ -d "$run" ]; then
    printf 'directory %s\n' "$run"
  fi
  for id in $windows; do
    [ -S "$base/tmux" ] && own_windows | grep -qx "$id" && printf 'window %s\n' "$id"
  done
  [ -S "$base/tmux" ] || return 0
  T list-sessions >/dev/null 2>&1
  tmux_hangs "$?" && printf 'window ? (tmux does not answer: %s)\n' "$base/tmux"
}
"""
"""`hear`: for who does not answer in time, or ends meanwhile, `silent` is said.
`watch_log`: the descriptor outlives the file, which the wrapper archives.

`wait_copied`: boxes.keep_outputs may take as long as the files there are large.

`keep_box`: who stops a server in a container uses that, too, until it has heard how it ended.

`first`: whom this stop is about. Another bring-up may begin as soon as they are gone, in a directory and a
window of the same names: what is `newcomer` is not ours to end, nor left behind.

The server is asked first (TERM, to the very process that wrote the pid file); what then still lives,
found as descendant or by its environment's SE_REMOTE_RUN, is killed."""
