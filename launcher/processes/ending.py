"""Shell functions that find and end what belongs to processes: of many at once, with one look at /proc.

What belongs to a process carries SE_REMOTE_RUN=RUNDIR in the environment it was started with, or descends
from what does. Its wrapper's own helpers (guard, checks' clock, `tail`) do not: they end with the wrapper.

They need $root, $boot and the functions of `wrapper.COMMON`.
"""

from __future__ import annotations

from typing import Final

_KIN: Final = r"""
function root(file, kind, number,   line, part) {
  line = ""; getline line < file; close(file)
  if (split(line, part, " ") < 3 || part[3] != ENVIRON["boot"]) return
  roots++; which[roots] = part[1]; since_when[roots] = part[2]; what[roots] = kind; whose[roots] = number
}
/^R / && !mode {
  run = $0; sub(/^R [0-9]+ /, "", run); at[run] = $2
  root(run "/pid", "own", $2); root(run "/wrapper", "wrap", $2); root(run "/guard", "wrap", $2)
  next
}
/^K / && !mode { kin[$3] = $2; since[$3] = $4; next }
$0 == "M" && !mode { mode = 1; next }
$0 == "P" && mode == 1 { mode = 2; next }
mode == 1 {
  if (match($0, /^\/proc\/[0-9]+\/environ:SE_REMOTE_(RUN|CHECK)=/)) {
    pid = substr($0, 7); sub(/\/.*/, "", pid)
    run = substr($0, RLENGTH + 1)
    if (!(run in at)) next
    if ($0 ~ /environ:SE_REMOTE_CHECK=/) check[pid] = 1
    else own[pid] = at[run]
  }
  next
}
mode == 2 {
  line = line $0
  if (!match(line, /^[0-9]+ \(.*\) [A-Za-z] -?[0-9]+ .*/)) next
  pid = line; sub(/ .*/, "", pid)
  rest = line; sub(/^.*\) /, "", rest); line = ""
  split(rest, word, " ")
  if (word[1] ~ /[ZXx]/) next
  parent[pid] = word[2]; born[pid] = word[20]
}
END {
  for (i = 1; i <= roots; i++) {
    if (!(which[i] in born) || born[which[i]] != since_when[i]) continue
    if (what[i] == "own") own[which[i]] = whose[i]
    else wrap[which[i]] = whose[i]
  }
  for (pid in parent) {
    q = pid
    while (q in parent && q > 1) {
      if (q in own) { print own[q], (q in check ? "C" : "F"), pid, born[pid]; break }
      if (q in wrap) { print wrap[q], "W", pid, born[pid]; break }
      if (q in kin && born[q] == since[q]) { print kin[q], "F", pid, born[pid]; break }
      q = parent[q]
    }
  }
}
"""

ENDING: Final = (
    "kin='"
    + _KIN
    + "'"
    + r"""
newline='
'
carrying() {
  mark="^SE_REMOTE_[CR]"
  if [ "$zgrep" = yes ]; then grep -azHs "$mark" /proc/[0-9]*/environ | tr '\0' '\n'; return; fi
  for file in /proc/[0-9]*/environ; do
    tr '\0' '\n' <"$file" | grep "$mark" |
      while IFS= read -r value; do printf '%s:%s\n' "$file" "$value"; done
  done
} 2>/dev/null
roots_of() {
  number=0
  for key in $1; do number=$((number + 1)); printf 'R %s %s\n' "$number" "$root/$key"; done
}
find_awk() {
  for awk in awk mawk gawk 'busybox awk' ''; do
    [ -n "$awk" ] && command -v ${awk%% *} >/dev/null 2>&1 && return 0
  done
  return 1
}
find_zgrep() { zgrep=no; printf 'a\0b\0' | grep -qaz '^b' 2>/dev/null && zgrep=yes; }
scan() {
  [ -n "${awk-}" ] || find_awk
  [ -n "${zgrep-}" ] || find_zgrep
  members=$({
    roots_of "$1"; printf '%sM\n' "${known-}"; carrying; printf 'P\n'; cat /proc/[0-9]*/stat 2>/dev/null
  } | boot=$boot LC_ALL=C $awk "$kin")
}
still() {
  live=
  for one in $1; do alive "${one%:*}" "${one#*:}" "$boot" && live="$live $one"; done
  [ -n "$live" ]
}
send() {
  [ -n "$2" ] || return 0
  kill -"$1" $2 2>/dev/null
  [ "$1" = KILL ] || kill -CONT $2 2>/dev/null
}
pick() {
  news=; softs=; hards=; all=; whose=; known=
  while read -r number kind one start; do
    [ "$kind" != C ] || kill -KILL "$one" 2>/dev/null
    [ "$kind" = F ] || continue
    all="$all $one:$start"; whose="$whose $number"
    known="${known}K $number $one $start$newline"
    case " $sent " in *" $one:$start "*) continue ;; esac
    case " $quits " in *" $number "*) hards="$hards $one" ;; *) softs="$softs $one" ;; esac
    news="$news $one:$start"
  done <<MEMBERS
$members
MEMBERS
}
end_all() {
  keys=$1; steps=$2; quits=${3-}; killed=" "; known=
  scan "$keys"
  for step in $steps; do
    sent=; ticks=${step#*:}
    while :; do
      pick
      [ -n "$all" ] || break 2
      [ "${step%:*}" = KILL ] && killed="$killed$whose "
      case $step in
        INT:*) send INT "$softs"; send QUIT "$hards" ;;
        *) send "${step%:*}" "$softs$hards" ;;
      esac
      sent="$sent $news"
      while [ "$ticks" -gt 0 ] && still "$all"; do soon; ticks=$((ticks - 1)); done
      [ "$ticks" -gt 0 ] || break
      scan "$keys"
    done
    scan "$keys"
  done
  pick
}
soon() { sleep 0.02 2>/dev/null || sleep 1; }
still_takes() {
  one=; start=; life=
  read -r one start life 2>/dev/null <"$run/taker" && alive "$one" "$start" "$life"
}
taken() {
  # what still runs may hold the pipe open
  tries=0
  while still_takes && [ "$tries" -lt "$1" ]; do soon; tries=$((tries + 1)); done
}
helpers() {
  helping=
  while read -r number kind one start; do
    [ "$kind" != W ] || helping="$helping $one"
  done <<MEMBERS
$members
MEMBERS
}
named() {
  line=$(tr '\0' ' ' 2>/dev/null <"/proc/$1/cmdline" | cut -c -200 | tr '\n' ' ')
  [ -n "$line" ] || read -r line 2>/dev/null <"/proc/$1/comm"
  printf '%s %s' "$1" "${line% }"
}
"""
)
"""`scan KEYS` sets $members: lines `NUMBER KIND PID START`; NUMBER counts KEYS from 1, KIND is F for what
belongs to the process, C for what belongs to a check of it (which carries SE_REMOTE_CHECK, too, and cannot
hear INT), W for its wrapper and that one's helpers. What `pick` has seen stays known: one that has another
account's rights shows no environment, and nobody knows whose child it was once its parent is gone.

`end_all KEYS STEPS [QUITS]` goes through STEPS, such as `INT:100 TERM:50 KILL:100`, ticks of 0.02 s; what
comes to be meanwhile gets the signal, too. QUITS: numbers of those that get QUIT for INT. $all is what is
left, as `PID:START`; $killed the numbers of those for which KILL was needed."""
