"""Processes in containers, as shell text: the wrapper is on the machine, `docker exec` in its window.

Rules:
- an account's folder inside is its own there, too ($whose): several accounts may be root in one container;
- what a process needs inside (environment, setup, command, check) is delivered by one `docker exec` for all
  of a batch in one container, over its stdin: nothing of it is in an argv;
- inside everything is as on a machine: SE_REMOTE_RUN is the run directory there, and the process is found and
  ended there, since ending `docker exec` would leave what it started;
- each process has a mark beside the container's other users (`boxes.BOX`) while its wrapper lives; the last
  one to leave stops a container that was started, and removes one that was made;
- `docker exec` ignores the window's signals: they would end it, not what it started.
"""

from __future__ import annotations

from typing import Final

from launcher import scripts, wrapper
from launcher.command import quote
from launcher.processes.ending import ENDING
from launcher.processes.login import LOGIN, SNAPSHOTS

_INSIDE: Final = r"""
say() { :; }
refuse() { printf 'refused %s\n%s\n%s\n' "$1" "$2" "$3"; exit 0; }
fail() { refuse "$@"; }
undelivered() { refuse "$@"; }
inside() {
  place; root=$base/.processes; tries=0
  until guard_base && mkdir -p "$root" 2>/dev/null; do
    mkdir -m 700 "$base" 2>/dev/null
    tries=$((tries + 1)); [ "$tries" -lt 60 ] || refuse container "cannot write to $base in it" "df -h /tmp"
    nap
  done
}
inner_shell() {
  shell=
  for choice in $shells; do
    case $choice in '~'*) choice=$HOME${choice#\~} ;; esac
    shell=$(command -v "$choice" 2>/dev/null)
    case $shell in /*) return 0 ;; esac
  done
  refuse shell "there is no shell $shells in the container" "install it there, or set \`shell\` to another"
}
deliver_inside() {
  inside; old=
  find_awk || refuse container "there is no awk in the container" "install one there: mawk, gawk or busybox"
  unbuffered='PYTHONUNBUFFERED=1; export PYTHONUNBUFFERED'
  preload=$(unset LD_PRELOAD; stdbuf -oL sh -c 'printf %s "$LD_PRELOAD"' 2>/dev/null)
  [ -z "$preload" ] || unbuffered="$unbuffered
_STDBUF_O=L; LD_PRELOAD=\${LD_PRELOAD:+\$LD_PRELOAD:}$preload; export _STDBUF_O LD_PRELOAD"
  for i in "$@"; do
    "item_$i"; old="$old $key"
    [ -z "$login" ] || snapshot "$(snapshot_file)"
  done
  end_all "$old" "INT:25 TERM:25 KILL:100"  # of a wrapper that was killed
  for i in "$@"; do
    "item_$i"; run=$root/$key
    rm -rf "$run"; inner_shell
    mkdir -p "$run" && mkfifo "$run/go" && fill || refuse container "cannot write to $run in it" "df -h /tmp"
  done
  printf 'delivered %s\n' "$root"
}
fill() {
  printf '%s\numask %s\n%s\n%s\n' "$environment" "$umask" "$unbuffered" "$env" >"$run/env" &&
    printf '%s' "$serve_text" >"$run/serve" && printf '%s\n' "$cmd" >"$run/cmd" &&
    { [ -z "$setup" ] || printf '%s\n' "$setup" >"$run/setup"; } &&
    { [ -z "$login" ] || { ln "$(snapshot_file)" "$run/login" && printf '%s\n' "$env" >"$run/vars"; }; } &&
    { [ -z "$check" ] || printf '%s\n' "$check" >"$run/check"; } &&
    printf '%s\n' "$values" "root='$root'; shell='$shell'; export HOME" "$tools_text" >"$run/run.main"
}
end_inside() {
  place; root=$base/.processes
  [ -d "$root" ] || { printf 'ended\n'; exit 0; }
  end_all "$1" "$2" "$3"
  while read -r number kind one start; do
    [ "$kind" != F ] || printf 'left %s %s\n' "$number" "$(named "$one")"
  done <<MEMBERS
$members
MEMBERS
  helpers
  [ -z "$helping" ] || kill -KILL $helping 2>/dev/null
  printf 'killed %s\n' "$killed"
  for one in $1; do rm -rf "$root/$one"; rmdir "$root/${one%%/*}"; done 2>/dev/null
  set -- "$root"/*
  [ -e "$1" ] || { rm -f "$root"/.login.*; rmdir "$root" "$base"; } 2>/dev/null
  printf 'ended\n'
}
"""

TOOLS: Final = r"""
remark() { :; }  # nobody listens in there
lives() {
  one=; start=; life=
  read -r one start life 2>/dev/null <"$run/pid" && alive "$one" "$start" "$life"
}
main() {
  trap : HUP INT TERM QUIT
  identify >"$run/wrapper"
  case $place in '~'|'~/'*) place=$HOME${place#\~} ;; esac
  if [ -n "$place" ]; then
    cd "$place" || { printf 'workdir\n' >"$run/stage"; exit 1; }
    SE_REMOTE_PLACE=$PWD; export SE_REMOTE_PLACE
  fi
  "$shell" "$run/serve" cmd
  exit $?
}
ready() {
  tries=0; stage=
  until [ "$stage" = command ]; do
    nap; tries=$((tries + 1)); stage=; read -r stage 2>/dev/null <"$run/stage"
    [ -d "$run" ] && { [ "$tries" -lt 200 ] || lives; } || exit 1
  done
  printf 'running\n'
  case $probe in
    '') sleep 0.1; lives || exit 1 ;;
    log_has*) exit 0 ;;
    *)
      cd "$HOME" 2>/dev/null
      until eval "$probe"; do sleep 0.5; lives || exit 1; done ;;
  esac
  printf 'ready\n'
}
end_it() {
  end_all "$key" "$1" ""
  [ -z "$all" ] || return 1
  rm -rf "$run"; rmdir "$root/${key%%/*}"
  set -- "$root"/*
  [ -e "$1" ] || { rm -f "$root"/.login.*; rmdir "$root" "${root%/*}"; }
} 2>/dev/null
case ${1-} in
  ready) ready ;;
  end) end_it "$2" ;;
  *) main ;;
esac
"""
"""`run.main` inside: without argument it holds the process; by its name a container that was made sees
that it is used (`docker.GUARD`). `ready`: looks until the process is, and says so. Needs the wrapper's
checks."""

WRAPPED: Final = r"""
engine_env() { ( . "$run/env"; unset SE_REMOTE_RUN; exec "$engine" "$@" ); }
within() { engine_env exec -i $as "$box" "$@"; }
hold_box() {
  ( trap '' HUP INT TERM QUIT; . "$run/env"; unset SE_REMOTE_RUN
    exec 5>&- 6<&- 8>&-
    stat_of self; set -- $stat
    printf '%s %s %s\n' "$stat_pid" "${20}" "$boot" >"$run/pid"
    exec "$engine" exec -i $as "$box" sh "$inside/run.main" )
}
box_readiness() {
  within sh "$inside/run.main" ready </dev/null 2>/dev/null | while read -r word; do
    process=; read -r process rest 2>/dev/null <"$run/pid"
    [ ! -e "$run/exit" ] && [ ! -e "$run/stopping" ] && [ ! -e "$run/reason" ] && still_ours || break
    case $word in
      running) [ -z "$probe" ] || put_state running; tell running ;;
      ready) put_state ready; tell ready ;;
    esac
  done
  case $probe in log_has*) ;; *) return 0 ;; esac
  until eval "$probe"; do
    sleep 0.5
    [ ! -e "$run/stopping" ] && [ ! -e "$run/reason" ] && still_ours || return 0
  done
  process=; read -r process rest 2>/dev/null <"$run/pid"
  [ -e "$run/exit" ] || [ -e "$run/stopping" ] || { put_state ready; tell ready; }
}
end_boxed() {
  within sh "$inside/run.main" end "$1" </dev/null
}
in_box() { ( name=-; key=$bkey; D() { engine_env "$@"; }; marks; "$@" ); }
mark_box() { users=$base/.users.$bkey; printf '%s\n' "$identity" >"$users/p.$slug_key"; }
leave_mark() { in_box leave_box "p.$slug_key"; }
box_state() {
  look_at_box "$box" || { missing && status=removed; }
  printf '%s %s %s' "$status" "$exited" "$oom"
}
box_trouble() {
  set -- $(in_box box_state)
  case ${1-} in
    running|'') stage=$(within sh -c 'cat "$1"' sh "$inside/stage" </dev/null 2>/dev/null) ;;
    removed) why="container $bkey was removed" ;;
    paused) why="container $bkey is paused" ;;
    *) why="container $bkey has ended (exit code ${2-})"; [ "${3-}" != true ] || why="$why: out of memory" ;;
  esac
}
"""
"""Of the wrapper, for one in a container. Needs $engine, $box (its id), $bkey (its name), $as, $inside (the
run directory in it), $slug_key."""

BATCH: Final = r"""
D() { "$engine" "$@"; }
into_boxes() {
  number=0
  while [ "$number" -lt "$boxes" ]; do
    number=$((number + 1)); wanted=; first=
    for i in $fresh; do "item_$i"; [ "$boxed" != "$number" ] || { wanted="$wanted $i"; first=$key; }; done
    [ -n "$wanted" ] || continue
    "box_$number"
    heard=$(printf '%s\n' "$inner_text" "base='@$(printf '%.12s' "$box")-$whose'; login_id=$$" "$items_text" \
      "deliver_inside $wanted" "}" "se_remote </dev/null" | D exec -i $as "$box" sh 2>"$root/.said.$me")
    said=$(cat "$root/.said.$me" 2>/dev/null); rm -f "$root/.said.$me"
    case $heard in
      'delivered '*) eval "root_$number=\${heard#delivered }" ;;
      'refused '*)
        undelivered $(printf '%s\n' "$heard" | sed -n '1s/refused //p') \
          "$(printf '%s\n' "$heard" | sed -n 2p)" "$(printf '%s\n' "$heard" | sed -n 3p)" ;;
      *) undelivered container "$engine exec in $bkey failed: $said" "$engine exec -it $bkey sh" ;;
    esac
  done
}
box_values() {
  "box_$boxed"; eval "inside=\$root_$boxed/\$key"
  slug_key=$session.$slug
  printf '%s\n' "$box_text" "$boxed_text" "inside='$inside'; slug_key='$slug_key'; shell=sh"
}
unmark() {
  number=0
  while [ "$number" -lt "$boxes" ]; do
    number=$((number + 1)); "box_$number"
    ( run=$root; name=-; key=$bkey; leave_box "$btoken" )
  done
}
boxes_up() {
  for i in $fresh; do "item_$i"; run=$root/$key; [ -z "$boxed" ] || { wrapped; begun; }; done
}
their_boxes() {
  boxes_of=
  for key in $keys; do
    run=$root/$key; about
    [ -n "$hbox" ] || continue
    case "$boxes_of" in *"
$hbox
"*) ;; *) boxes_of="$boxes_of
$hbox
" ;; esac
  done
}
end_in_boxes() {
  their_boxes
  killed_inside=' '
  [ -n "$boxes_of" ] || return 0
  all_keys=$keys
  while read -r one_box; do
    [ -n "$one_box" ] || continue
    number=0; inner_keys=; inner_numbers=; inner_quits=; n=0
    for key in $all_keys; do
      run=$root/$key; number=$((number + 1)); about
      [ "$hbox" = "$one_box" ] || continue
      n=$((n + 1)); inner_keys="$inner_keys $key"; inner_numbers="$inner_numbers $number"
      case " $quits " in *" $number "*) inner_quits="$inner_quits $n" ;; esac
    done
    box_words "$one_box"
    heard=$(printf '%s\n' "$inner_text" "base='@$(printf '%.12s' "$box")-$whose'" \
      "end_inside '$inner_keys' '$steps' '$inner_quits'" "}" "se_remote </dev/null" |
      D exec -i $as "$box" sh 2>/dev/null)
    case $heard in *ended) ;; *) unheard ;; esac
    heard_inside
  done <<BOXES
$boxes_of
BOXES
  keys=$all_keys
}
unheard() {
  be_quick
  look_at_box "$box" || { missing && return; }
  case $status in exited|dead|created) return ;; esac
  for key in $inner_keys; do
    say "l $asked $key what runs of it in container $bkey: it is ${status:-not to be asked}"
  done
}
box_words() { engine=${1%% *}; set -- $1; box=$2; bkey=$3; as=${4:+--user=$4}; }
heard_inside() {
  while read -r word n text; do
    case $word in
      killed) for one in $n $text; do
          set -- $inner_numbers
          [ "$one" -gt "$#" ] || { shift "$((one - 1))"; killed_inside="$killed_inside$1 "; }
        done ;;
      left)
        set -- $inner_keys; shift "$((n - 1))"
        say "l $asked $1 $text (in container $bkey)" ;;
    esac
  done <<HEARD
$heard
HEARD
}
leave_boxes() {
  for entry in $left_marks; do
    one_box=$(printf '%s' "$entry" | tr '|' ' ')
    box_words "${one_box#* }"
    ( run=$root; name=-; key=$bkey; leave_box "p.${one_box%% *}" )
  done
}
marks_of() {
  left_marks=; number=0
  for key in $keys; do
    number=$((number + 1)); "seen_$number"
    [ -z "$hbox" ] ||
      left_marks="$left_marks ${key%%/*}.${key#*/}|$(printf '%s' "$hbox" | tr ' ' '|')"
  done
}
"""
"""Of the agent: `into_boxes` delivers, `end_in_boxes` ends a batch inside, `leave_boxes` takes marks away."""


def inner_text(serve: str, tools: str) -> str:
    """The beginning of a script that runs in a container: functions; calls, `}` and its call follow."""
    parts = [
        "se_remote() {",
        "environment=$(export -p); umask=$(umask); umask 077; unset SE_REMOTE_RUN; name=-",
        f"serve_text={quote([serve])}",
        f"tools_text={quote([tools])}",
        wrapper.COMMON,
        scripts.PLACE,
        ENDING,
        *(f"{name}={quote([text])}" for name, text in SNAPSHOTS.items()),
        LOGIN,
        _INSIDE,
    ]
    return "\n".join(parts)
