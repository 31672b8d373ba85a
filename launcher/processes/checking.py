"""Shell functions of who looks whether a process is ready: its wrapper, or its `run.main` in a container."""

from __future__ import annotations

from typing import Final

CHECK_TAKES_S: Final = 10
"""A ready check that has not ended by then is ended."""

_CHECKS: Final = r"""
run_check() {
  env -i "$shell" "$run/@SERVE@" check >"$run/check.said" 2>&1 &
  checking=$!
  ( count=0
    while [ "$count" -lt @TAKES@ ] && [ -d "/proc/$$" ]; do sleep 1; count=$((count + 1)); done
    [ "$count" -lt @TAKES@ ] || hangs
    end_check ) >/dev/null 2>&1 &
  limiting=$!
  wait "$checking"; verdict=$?
  kill -KILL "$limiting"; wait "$limiting"
  return "$verdict"
} </dev/null 2>/dev/null
end_check() {
  scan "$key"
  while read -r number kind one start; do
    [ "$kind" != C ] || kill -KILL "$one"
  done <<MEMBERS
$members
MEMBERS
}
hangs() {
  stage=; read -r stage 2>/dev/null <"$run/check.stage"
  [ "$stage" != setup ] || stage=' in `setup`'
  remark "its ready_check hangs${stage#check}: it is ended after @TAKES@ s"
}
log_has() {
  size=; looked=${upto:-0}
  read -r word size <"/proc/self/fdinfo/7"
  [ "${size:-0}" -gt "$looked" ] || return 1
  upto=$size
  # a line that was not whole then
  [ "$looked" -gt 65536 ] && looked=$((looked - 65536)) || looked=0
  tail -c "+$((looked + 1))" "$run/log" 2>/dev/null | LC_ALL=C grep -aEqe "$1" 2>"$run/check.said"
  verdict=$?
  [ "$verdict" != 2 ] || [ -e "$run/remarked" ] || {
    cat "$run/check.said" >>"$run/log"
    read -r said <"$run/check.said"; remark "its ready_check cannot succeed: $said"
  }
  return "$verdict"
}
"""
"""What `$probe` may call. A check runs where, and as, its process does; one that hangs is ended with all it
started. `log_has` reads on where it has stopped, but for what may have been half a line."""


def checks(serve: str) -> str:
    """`serve`: the file in the run directory that carries a check out."""
    return _CHECKS.replace("@TAKES@", str(CHECK_TAKES_S)).replace("@SERVE@", serve)
