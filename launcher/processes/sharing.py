"""Shell functions for a process that several clients need: who came later takes it over.

A client that finds what it wants running leaves a mark, `used.TOKEN`, with its lease in it (`-`: none, it is
to stay), what it ends behind, and who it is. Whoever started it then does not end it but gives it on: `about`
gets all that of the next one, which hears of it and from then on is the one to stop it. So does the guard,
when a lease is over.

A mark without a lease is that of a `run`. Like what a `run` has started it stays when that ends, in whatever
way: it does not say that somebody is there, but that it was asked for and nobody has said stop.

They need $root, $key, $run, `use` also what is asked for ($token, $lease, $behind, $by, $what), and the
functions `tell` and `clock`.
"""

from __future__ import annotations

from typing import Final

SHARING: Final = r"""
use() {
  [ "$token" = "$htoken" ] || printf '%s\n' "${lease:--}" "$behind" "$by" "$what" >"$run/used.$token"
} 2>/dev/null
given_on() {
  for mark in "$run"/used.*; do
    next=; after=; by=; what=
    { read -r next; read -r after; IFS= read -r by; IFS= read -r what; } 2>/dev/null <"$mark"
    [ -n "$next" ] || continue
    rm -f "$mark"
    [ "$next" = - ] || [ -e "$root/.leases/$next" ] || continue
    lease=${next#-}; token=${mark##*/used.}
    { read -r old; read -r one; IFS= read -r old; IFS= read -r old; read -r old
      rest=$(cat); } <"$run/about"
    printf '%s\n' "$token" "$one" "$by" "$what" "$lease" "$rest" >"$run/.about" &&
      mv "$run/.about" "$run/about" && printf '%s\n' "$lease" "$after" >"$run/lease" || continue
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
