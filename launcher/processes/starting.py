"""Shell functions of the agent that start processes: look, deliver, open the windows; a whole batch at once.

Rules:
- one at a time on a machine looks and delivers (`enter`, `leave`), so two who start the same process at once
  end with one, and nobody clears away what another is starting;
- the windows of a batch are opened by one call of tmux, which also marks them as ours;
- a process that is on its way out, or has left something, is waited for or cleared away outside of that.
"""

from __future__ import annotations

from typing import Final

from launcher.processes.wrapping import STATE_LINE

LOCK: Final = r"""
enter() {
  claims=$root/.claims
  while :; do
    [ -d "$claims" ] || mkdir -p "$claims"
    claim_mine || { nap; continue; }
    while :; do
      lower=; higher=
      for file in "$claims"/*; do
        other=${file##*/}; [ "$other" != "$me" ] || continue
        one=; start=; life=
        read -r one start life 2>/dev/null <"$file"
        if alive "$one" "$start" "$life"; then
          if [ "$other" -lt "$me" ]; then lower=yes; else higher=yes; fi
        elif [ ! -d "/proc/$other" ]; then rm -f "$file"; fi
      done
      [ -z "$lower" ] || break
      [ -n "$higher" ] || return 0
      soon
    done
    true >"$claims/$me"
    soon
  done
} 2>/dev/null
claim_mine() { printf '%s\n' "$self" >"$claims/$me"; }
leave() { rm -f "$claims/$me"; }
"""
"""`enter`: one at a time. First show, then look: of two, one sees the other; the lower pid may stay, who has
been let in need not look again. A claim of a dead one counts for nothing."""

_STARTING: Final = r"""
about() {
  htoken=; hhash=; hby=; hwhat=; hlease=; hbox=; hname=; hkeep=; hbegan=
  { read -r htoken; read -r hhash; IFS= read -r hby; IFS= read -r hwhat; read -r hlease; read -r hbox
    IFS= read -r hname; read -r hkeep; read -r hbegan; } 2>/dev/null <"$run/about"
}
wrapped() {
  wpid=; wstart=; wlife=; wnew=
  read -r wpid wstart wlife wnew 2>/dev/null <"$run/wrapper" && alive "$wpid" "$wstart" "$wlife"
}
begun() {
  tries=0
  while { ! wrapped || [ -n "$wnew" ]; } && [ -n "$wnew" ] && [ ! -e "$run/exit" ] && [ "$tries" -lt 40 ]; do
    soon; tries=$((tries + 1))
  done
}
stated() {
  hstate=; read -r hstate rest 2>/dev/null <"$run/state"
  hcode=-; hsig=0; hwhy=; hwhen=
  read -r hcode hsig hwhen hwhy 2>/dev/null <"$run/exit" || { hcode=-; hsig=0; }
}
look() {
  verdict=new
  if [ ! -d "$run" ]; then
    code=; read -r gone code sig 2>/dev/null <"$HOME/.local/state/se-remote/processes/$key/.ended"
    [ -z "$code" ] || [ "$gone" != "$token" ] || verdict=over
    return 0
  fi
  about; stated
  wrapped || [ -e "$run/exit" ] || { begun; stated; }
  if wrapped; then
    if [ -e "$run/exit" ] || stopped_by || [ -e "$run/reason" ]; then verdict=later
    elif [ "$hhash" = "$hash" ]; then
      verdict=same; use
      ! stopped_by || verdict=later
    else verdict=other; fi
  elif [ "$htoken" = "$token" ] && [ -e "$run/exit" ]; then verdict=died
  else verdict=remains; fi
}
other_window() {
  case "$windows" in *" $session/$slug"*) ;; *) return 1 ;; esac
  while read -r owner id where; do
    [ "$where" != "$session/$slug" ] || [ "$owner" = "$key" ] || return 0
  done <<WINDOWS
$windows
WINDOWS
  return 1
}
list_windows() {
  windows=
  format='#{?@se_remote_process,#{@se_remote_process},-} #{window_id} #{session_name}/#{window_name}'
  [ -S "$base/tmux" ] || return 0
  windows=$(T list-windows -a -F "$format" 2>/dev/null)
  ! tmux_hangs "$?" || { wake; windows=$(T list-windows -a -F "$format" 2>/dev/null); }
}
own_of() {
  while read -r owner id where; do
    case " $1 " in *" $owner "*) printf '%s\n' "$id" ;; esac
  done <<WINDOWS
$windows
WINDOWS
}
close_own() {
  tries=0
  while [ "$tries" -lt 5 ]; do
    tries=$((tries + 1)); set --
    for id in $(own_of "$keys"); do
      [ "$#" = 0 ] || set -- "$@" \;
      set -- "$@" kill-window -t "$id"
    done
    [ "$#" -gt 0 ] || return 0
    T "$@" 2>/dev/null && return 0
    list_windows
  done
}
same() {
  case $hstate in ready|running|starting) ;; *) hstate=starting ;; esac
  say "c $key $htoken $hstate - 0 0"
}
conflict() {
  say "x $key token $htoken"; say "x $key by $hby"; say "x $key what $hwhat"; say "x $key began $hbegan"
  say "x $key end $token"
}
find_shell() {
  shell=; found_for=$shells
  for choice in $shells; do
    case $choice in '~'*) choice=$HOME${choice#\~} ;; esac
    shell=$(command -v "$choice" 2>/dev/null)
    case $shell in /*) return 0 ;; esac
  done
  undelivered shell "there is no shell $shells on this machine" "install it, or set \`shell\` to another"
}
deliver() {
  clock; hbox="box="; hold=
  # what is set for it in there is not for the engine here
  [ -z "$boxed" ] || { "box_$boxed"; env=; hold="$engine $box $bkey${box_user:+ $box_user}"; }
  printf '%s\n' "$token" "$hash" "$by" "$what" "$lease" "$hold" "$shown" "$keep" "$stamp" "$recipe" \
    >"$run/about" &&
    { [ -z "$boxed" ] || printf '%s\numask %s\n%s\n' "$environment" "$umask" "$unbuffered" >"$run/env"; } &&
    { [ -z "$boxed" ] || hbox=$(box_values); } &&
    printf '%s\n' "$serve_head" "$environment" "umask $umask" "$unbuffered" "$env" "$serve_tail" \
      "$values" "root='$root'; base='$base'; HOME='$home'" \
      "offset=$offset; stamp=$stamp; shell='$shell'" "$hbox" "$wrap_text" >"$run/run" &&
    printf '%s\n' "$cmd" >"$run/cmd" &&
    { [ -z "$setup" ] || printf '%s\n' "$setup" >"$run/setup"; } &&
    { [ -z "$login" ] || [ -n "$boxed" ] ||
      { ln "$(snapshot_file)" "$run/login" && printf '%s\n' "$env" >"$run/vars"; }; } &&
    { [ -z "$check" ] || printf '%s\n' "$check" >"$run/check"; } &&
    printf '%s starting\n' "$self" >"$run/wrapper" &&
    printf '@STATE@' "starting $epoch $self -" >"$run/state" &&
    true >>"$run/log"
} 2>/dev/null
make_rooms() {
  set --
  for key in $rooms; do set -- "$@" "$root/$key"; done
  tries=0
  until mkdir -p "$@" 2>/dev/null; do
    tries=$((tries + 1)); [ "$tries" -lt 60 ] || undelivered shell "cannot write to $base" "df -h $base"
    mkdir -m 700 "$base" 2>/dev/null; nap
  done
  set --
  for key in $rooms; do set -- "$@" "$root/$key/go" "$root/$key/out"; done
  mkfifo "$@" 2>/dev/null
  found_for=
  today=$(date -u +%Y%m%dT%H%M%SZ)
  for i in $fresh; do
    count=$((count + 1)); stamp=$today-$((1000000000000 + me * 10000 + count))
    "item_$i"; run=$root/$key
    [ -n "$boxed" ] || [ "$shells" = "$found_for" ] || find_shell
    deliver || undelivered shell "cannot write to $run" "df -h $base"
  done
}
open_windows() {
  command -v tmux >/dev/null || no_tmux
  look_at_tmux="tmux -S $base/tmux new-session"
  for one_session in $sessions; do open_session; done
}
open_session() {
  tries=0
  [ ! -S "$base/tmux" ] || wake
  while :; do
    tries=$((tries + 1)); numbers=; begun=no
    case "$windows" in *" $one_session/"*) begun=yes ;; esac
    set --
    for i in $fresh; do
      "item_$i"; [ "$session" = "$one_session" ] || continue
      [ "$#" = 0 ] || set -- "$@" \;
      if [ "$begun" = yes ]; then set -- "$@" new-window -d -t "=$session:"
      else set -- "$@" new-session -d -s "$session" -x 200 -y 50; begun=yes; fi
      set -- "$@" -n "$slug" sh "$root/$key/run"
      case $slug in
        *[!0-9]*) set -- "$@" \; set-option -w -t "=$session:=$slug" @se_remote_process "$key" ;;
        *) numbers=yes ;;
      esac
    done
    [ "$#" -gt 0 ] || break
    if [ -S "$base/tmux" ] && [ -n "$windows" ]; then trouble=$(T "$@" 2>&1)
    else trouble=$(T start-server \; set-option -gw remain-on-exit on \; "$@" 2>&1); fi
    code=$?
    [ "$code" != 0 ] || break
    ! tmux_hangs "$code" || undelivered tmux "tmux does not answer" "$look_at_tmux"
    [ "$tries" -lt 40 ] || undelivered tmux "cannot open a window: $trouble" "$look_at_tmux"
    nap; list_windows; dropped
  done
  [ -z "$numbers" ] || { list_windows; name_numbers; }
}
"""

STARTING: Final = _STARTING.replace("@STATE@", STATE_LINE)

OPENING: Final = r"""
dropped() {
  left=
  for i in $fresh; do
    "item_$i"
    case "
$windows" in *"
$key @"*) ;; *) left="$left $i" ;; esac
  done
  fresh=$left
}
name_numbers() {
  set --
  for i in $fresh; do
    "item_$i"
    case $slug in *[!0-9]*) continue ;; esac
    while read -r owner id where; do
      [ "$where" = "$session/$slug" ] && [ "$owner" = - ] || continue
      [ "$#" = 0 ] || set -- "$@" \;
      set -- "$@" set-option -w -t "$id" @se_remote_process "$key"
    done <<WINDOWS
$windows
WINDOWS
  done
  [ "$#" = 0 ] || T "$@"
}
undelivered() {
  keys=
  for i in $fresh; do "item_$i"; keys="$keys $key"; rm -rf "$root/$key"; done
  swept $keys
  [ "$boxes" = 0 ] || { leave; unmark; }
  fail "$1" "$2" "$3"
}
no_tmux() {
  how_to_install
  undelivered tmux "there is no tmux on this machine (PATH=$PATH)" "$hint"
}
start_all() {
  todo=; i=0; count=0
  while [ "$i" -lt "$1" ]; do i=$((i + 1)); todo="$todo $i"; done
  snapshots "$1"
  until [ -z "$todo" ]; do
    again=; fresh=; rooms=; old=; sessions=
    enter
    list_windows
    for i in $todo; do
      "item_$i"; run=$root/$key
      look
      case $verdict in
        new) if other_window; then say "x $key foreign $token"; else add_fresh; fi ;;
        over) say "c $key $token stopped $code $sig 0" ;;
        same) same ;;
        died) say "c $key $token dead $hcode $hsig 0 $hwhy" ;;
        other) conflict ;;
        later) again="$again $i" ;;
        remains) again="$again $i"; old="$old $key" ;;
      esac
    done
    for key in $rooms; do case "
$windows" in *"
$key @"*) keys=$rooms; close_own; list_windows; break ;; esac; done
    if [ -n "$fresh" ]; then
      [ "$boxes" = 0 ] || into_boxes
      make_rooms
      for i in $fresh; do "item_$i"; say "c $key $token starting - 0 $epoch"; done
      open_windows
      [ "$boxes" = 0 ] || boxes_up
    fi
    leave
    [ -z "$old" ] || clear_old
    todo=$again
    [ -z "$todo" ] || nap
  done
  [ "$boxes" = 0 ] || unmark
}
add_fresh() {
  # many values make an item: what is asked of all again and again is noted
  fresh="$fresh $i"; rooms="$rooms $key"
  case " $sessions " in *" $session "*) ;; *) sessions="$sessions $session" ;; esac
}
clear_old() {
  keys=$old; steps="INT:50 TERM:50 KILL:100"; quits=
  end_in_boxes
  end_all "$old" "$steps"
  for key in $old; do run=$root/$key; taken 50; done
  helpers
  [ -z "$helping" ] || kill -KILL $helping 2>/dev/null
  enter
  keys=
  for key in $old; do
    run=$root/$key
    [ -d "$run" ] && ! wrapped && keys="$keys $key"
  done
  dead=$keys; begans=
  survey
  marks_of
  [ -z "$keys" ] || clear_away
  leave
  leave_boxes
}
"""
