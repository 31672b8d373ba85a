"""The shell text that stays open on a machine for a Site: takes commands on its stdin, says lines on its stdout.

Rules:
- POSIX sh, tmux, /proc and the usual tools; nothing is installed;
- a command is `VERB ID SIZE` and SIZE bytes of shell text that only calls the functions here; each runs beside the
  others, and is answered by lines that end with `k ID`;
- all it says goes through one fifo, in lines: so what several say at once does not mix. In the same fifo is what
  the wrappers tell. It lies in `.watch` and is named after the agent's pid;
- who starts or clears away does it one at a time on a machine (`enter`, `leave`), shortly, and for a whole batch.

    c KEY TOKEN STATE CODE SIGNAL EPOCH REASON    a change; CODE `-` when there is none
    x KEY WHAT TEXT                               a conflict: token, by, what, began; then `x KEY end`, or foreign
    s KEY HOW CODE SIGNAL                         a stop: none, other, dead, stopped, forced
    l KEY PID COMMAND                             what survived it
    t ID TEXT                                     a line of a log
    f ID STAGE | fc ID CAUSE | fn ID NEXT         a command that failed
    k ID                                          a command is done
"""

from __future__ import annotations

from typing import Final

from launcher import scripts, tmux, wrapper
from launcher.processes.ending import ENDING
from launcher.processes.wrapping import KEEPING, SERVE, TELLING, wrapper_text

HELLO: Final = "se-remote-site 1"

_LOCK: Final = r"""
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
"""`enter`: one at a time. First show, then look: of two one sees the other; the lower pid may stay, who has already
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
    elif [ "$hhash" = "$hash" ]; then verdict=same
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
  [ ! -S "$base/tmux" ] || windows=$(T list-windows -a \
    -F '#{?@se_remote_process,#{@se_remote_process},-} #{window_id} #{session_name}/#{window_name}' 2>/dev/null)
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
  say "x $key end"
}
deliver() {
  clock
  printf '%s\n' "$token" "$hash" "$by" "$what" "$lease" "$box" "$shown" "$keep" "$stamp" >"$run/about" &&
    printf '%s\n' "$stamp" >"$run/began" &&
    printf '%s\numask %s\n%s\n' "$environment" "$umask" "$env" >"$run/env" &&
    printf '%s\n' "$values" "root='$root'; base='$base'; offset=$offset; stamp=$stamp; HOME='$home'" "$wrap_text" >"$run/run" &&
    printf '%s' "$serve_text" >"$run/serve" && printf '%s\n' "$cmd" >"$run/cmd" &&
    { [ -z "$setup" ] || printf '%s\n' "$setup" >"$run/setup"; } &&
    { [ -z "$check" ] || printf '%s\n' "$check" >"$run/check"; } &&
    printf '%s starting\n' "$self" >"$run/wrapper" &&
    printf 'starting %s %s -\n' "$epoch" "$self" >"$run/state" &&
    true >>"$run/log"
} 2>/dev/null
make_rooms() {
  set --
  for i in $fresh; do "item_$i"; set -- "$@" "$root/$key"; done
  tries=0
  until mkdir -p "$@" 2>/dev/null; do
    tries=$((tries + 1)); [ "$tries" -lt 60 ] || fail shell "cannot write to $base" "df -h $base"
    mkdir -m 700 "$base" 2>/dev/null; nap
  done
  today=$(date -u +%Y%m%dT%H%M%SZ)
  for i in $fresh; do
    count=$((count + 1)); stamp=$today-$((1000000000000 + me * 10000 + count))
    "item_$i"; run=$root/$key
    deliver || fail shell "cannot write to $run" "df -h $base"
  done
}
open_windows() {
  command -v tmux >/dev/null || no_tmux
  look_at_tmux="tmux -S $base/tmux new-session"
  for i in $fresh; do
    "item_$i"
    case " $sessions " in *" $session "*) ;; *) sessions="$sessions $session" ;; esac
  done
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
    ! tmux_hangs "$code" || undelivered "tmux does not answer" "$look_at_tmux"
    [ "$tries" -lt 40 ] || undelivered "cannot open a window: $trouble" "$look_at_tmux"
    nap; list_windows; dropped
  done
  [ -z "$numbers" ] || { list_windows; name_numbers; }
}
"""

_BATCH: Final = r"""
dropped() {
  left=
  for i in $fresh; do
    "item_$i"
    case " $(own_of "$key") " in *@*) ;; *) left="$left $i" ;; esac
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
  fail tmux "$1" "$2"
}
no_tmux() {
  hint='install tmux'
  for tool in 'apt-get install' 'dnf install' 'zypper install' 'pacman -S' 'apk add'; do
    command -v "${tool%% *}" >/dev/null && { hint="sudo $tool tmux"; break; }
  done
  undelivered "there is no tmux on this machine (PATH=$PATH)" "$hint"
}
start_all() {
  todo=; i=0; count=0
  while [ "$i" -lt "$1" ]; do i=$((i + 1)); todo="$todo $i"; done
  until [ -z "$todo" ]; do
    again=; fresh=; old=; sessions=
    enter
    list_windows
    for i in $todo; do
      "item_$i"; run=$root/$key
      look
      case $verdict in
        new) if other_window; then say "x $key foreign"; else fresh="$fresh $i"; fi ;;
        over) say "c $key $token stopped $code $sig 0" ;;
        same) same ;;
        died) say "c $key $token dead $hcode $hsig 0 $hwhy" ;;
        other) conflict ;;
        later) again="$again $i" ;;
        remains) again="$again $i"; old="$old $key" ;;
      esac
    done
    for i in $fresh; do "item_$i"; case " $(own_of "$key") " in *@*) stale_windows; break ;; esac; done
    if [ -n "$fresh" ]; then
      make_rooms
      for i in $fresh; do "item_$i"; say "c $key $token starting - 0 $epoch"; done
      open_windows
    fi
    leave
    [ -z "$old" ] || clear_old
    todo=$again
    [ -z "$todo" ] || nap
  done
}
stale_windows() {
  keys=
  for i in $fresh; do "item_$i"; keys="$keys $key"; done
  close_own
  list_windows
}
clear_old() {
  end_all "$old" "INT:50 TERM:50 KILL:100"
  helpers
  [ -z "$helping" ] || kill -KILL $helping 2>/dev/null
  enter
  keys=
  for key in $old; do
    run=$root/$key
    [ -d "$run" ] && ! wrapped && keys="$keys $key"
  done
  dead=$keys
  [ -z "$keys" ] || clear_away
  leave
}
"""

_STOPPING: Final = r"""
how_ended() {
  stated
  if [ "$hcode" = - ]; then how=vanished
  elif [ "$hsig" != 0 ]; then how=signal-$hsig
  else how=exit-$hcode; fi
}
clear_away() {
  set --; number=0
  for key in $keys; do
    run=$root/$key; about; number=$((number + 1))
    case " $dead " in
      *" $key "*) how_ended; store "$run" "$key" "$how" "$hcode $hsig" "$htoken" ;;
      *) how_ended
        case "$killed" in *" $number "*) how=killed ;; *) how=stopped ;; esac
        [ "$hcode" != - ] || hcode=0
        store "$run" "$key" "$how" "$hcode $hsig" "$htoken" ;;
    esac
    set -- "$@" "$root/$key"
  done
  list_windows; [ -z "$windows" ] || { wake; close_own; }
  rm -rf "$@"
  swept $keys
}
settled() {
  tries=0
  while [ "$tries" -lt 100 ] && [ -e "$run/exit" ] && wrapped && ! stopped_by; do nap; tries=$((tries + 1)); done
}
stop_all() {
  steps=$1; dead=; keys=; quits=; number=0; born=
  for one_key in $2; do
    key=${one_key%%:*}; wanted=${one_key#*:}; wanted=${wanted%%:*}; run=$root/$key
    [ -d "$run" ] || { say "s $key none - 0"; continue; }
    about
    [ -z "$wanted" ] || [ "$wanted" = "$htoken" ] || { say "s $key other - 0"; continue; }
    settled
    [ -d "$run" ] || { say "s $key none - 0"; continue; }
    tries=0
    while stopped_by && [ "$tries" -lt 600 ]; do nap; tries=$((tries + 1)); done
    [ -d "$run" ] || { say "s $key none - 0"; continue; }
    wrapped || begun
    number=$((number + 1)); keys="$keys $key"
    case $one_key in *:quit) quits="$quits $number" ;; esac
    if wrapped && [ ! -e "$run/exit" ]; then
      printf '%s\n' "$self" >"$run/stopping"
      clock; printf 'stopping %s %s %s %s -\n' "$epoch" "$wpid" "$wstart" "$wlife" 1<>"$run/state"
      token=$htoken; tell stopping
    else
      dead="$dead $key"; stated
      born="$born $key:$hcode:$hsig"
    fi
  done
  [ -n "$keys" ] || return 0
  end_all "$keys" "$steps" "$quits"
  helpers
  [ -z "$helping" ] || kill -KILL $helping 2>/dev/null
  mine=$keys
  survivors
  enter
  keys=$mine
  clear_away
  leave
  number=0
  for key in $mine; do
    number=$((number + 1))
    outcome
  done
}
survivors() {
  while read -r number kind one start; do
    [ "$kind" = F ] || continue
    n=0
    for key in $keys; do n=$((n + 1)); [ "$n" != "$number" ] || say "l $key $(named "$one")"; done
  done <<MEMBERS
$members
MEMBERS
}
outcome() {
  for entry in $born; do
    case $entry in "$key":*)
      entry=${entry#*:}; say "s $key dead ${entry%%:*} ${entry#*:}"; tell_all "c $key - stopped - 0 0"; return ;;
    esac
  done
  case "$killed" in *" $number "*) say "s $key forced - 0" ;; *) say "s $key stopped - 0" ;; esac
  tell_all "c $key - stopped - 0 0"
}
"""

_AGENT: Final = r"""
say() { printf '%s\n' "$1" >&3; }
fail() {
  say "f $asked $1"; say "fc $asked $2"; say "fn $asked $3"; say "k $asked"
  leave 2>/dev/null; exit 0
}
refuse() { printf 'refused %s\n%s\n%s\n' "$1" "$2" "$3"; exit 0; }
identity_of() { stat=; read -r stat <"/proc/$1/stat"; set -- "$1" ${stat##*) }; self="$1 ${21} $boot"; }
job() {
  asked=$1
  read -r me rest </proc/self/stat
  identity_of "$me"; claims=$root/.claims
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
  if [ ! -e "$base" ] && [ ! -h "$base" ]; then mkdir -m 700 "$base" 2>/dev/null; fi
  guard_base || refuse shell "cannot create $base" "df -h /tmp; ls -ld $base"
  read -r up rest </proc/uptime; offset=$(($(date +%s) - ${up%%.*}))
  fifo=$root/.watch/$$; tries=0
  rm -f "$fifo"
  until mkdir -p "$root/.watch" && mkfifo "$fifo"; do
    tries=$((tries + 1)); [ "$tries" -lt 60 ] || refuse shell "cannot write to $base" "df -h $base"
    mkdir -m 700 "$base"; nap
  done 2>/dev/null
  for file in "$root"/.watch/*; do [ -d "/proc/${file##*/}" ] || rm -f "$file"; done
}
agent() {
  prepare
  leases=; beats=0
  exec 3<>"$fifo"
  cat <"$fifo" 3>&- &
  printer=$!
  say "@HELLO@"
  while read -r verb id size; do
    case $verb in
      beat) beat ;;
      here) eval "$(dd ibs=1 obs=65536 count="$size" 2>/dev/null)"; say "k $id" ;;
      do)
        text=$(dd ibs=1 obs=65536 count="$size" 2>/dev/null)
        job "$id" "$text" </dev/null >/dev/null 2>&1 & ;;
    esac
  done
  rm -f "$fifo"
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
        KEEPING,
        ENDING,
        _LOCK,
        _STARTING,
        _BATCH,
        _STOPPING,
        _AGENT.replace("@HELLO@", HELLO),
    ]
    return "\n".join(parts)


def window_text() -> tuple[str, str]:
    """The texts that go to every process: of its wrapper and of what it serves."""
    return wrapper_text(), SERVE
