"""Shell functions for a process that several clients need: who came later takes it over.

A client that finds what it wants running leaves a mark, `used.TOKEN`, with its lease in it (`-`: none, it is
to stay). Whoever started it then does not end it but gives it on: `about` gets the token and the lease of the
next one, which hears of it and from then on is the one to stop it. So does the guard, when a lease is over.

They need $root, $key, $run and the functions `tell` and `clock`.
"""

from __future__ import annotations

from typing import Final

SHARING: Final = r"""
use() {
  [ "$token" = "$htoken" ] || printf '%s\n' "${lease:--}" >"$run/used.$token"
} 2>/dev/null
given_on() {
  for mark in "$run"/used.*; do
    next=; read -r next 2>/dev/null <"$mark" || continue
    rm -f "$mark"
    [ "$next" = - ] || [ -e "$root/.leases/$next" ] || continue
    lease=${next#-}; token=${mark##*/used.}
    { read -r old; read -r one; IFS= read -r two; IFS= read -r three; read -r old
      rest=$(cat); } <"$run/about"
    printf '%s\n' "$token" "$one" "$two" "$three" "$lease" "$rest" >"$run/.about" &&
      mv "$run/.about" "$run/about" && printf '%s\n' "$lease" >"$run/lease" || continue
    now=; read -r now old 2>/dev/null <"$run/state"
    case $now in starting|running|ready) tell "$now" ;; *) tell running ;; esac
    return 0
  done
  return 1
} 2>/dev/null
kept_for() {
  printf '%s\n' "$self" >"$run/stopping"
  given_on || return 1
  rm -f "$run/stopping"
}
"""
"""`use`: of the one that is being looked at ($token, $lease: of who asks). `given_on`: sets $token and $lease
to those of the next one; 1 when there is none. `kept_for`: the same for who would stop it. Who stops shows it
first and then looks for marks, who marks looks whether it is being stopped: one of the two sees the other."""
