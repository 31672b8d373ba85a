"""Where files lie on a machine, as text for `scripts`: what is sent to it, and what actions write there.

    RUN/push/KEY/NAME                               a folder that was sent; ends with the run directory
    ~/.local/state/se-remote/outputs/HOST/SESSION   what one session's actions write; outlives its server

KEY names a folder of one client machine: two clients never write to the same one. SESSION begins with the
time. Both are ours alone (0700). The folders above are removed with the last thing in them; whoever makes
one at that moment tries again.
"""

from __future__ import annotations

from typing import Final

PLACES: Final = r"""
places() {
  field home "$HOME"
  field run "$run"
  for key in $keys; do
    trouble=$(mkdir -p "$run/push/$key" 2>&1) ||
      refuse push "cannot make $run/push/$key: $trouble" "look at the disk: df -h $base"
  done
  [ -z "$session" ] || make_output
  field verb places
  answer
}
make_output() {
  output=$HOME/.local/state/se-remote/outputs/$name/$(date -u +%Y%m%dT%H%M%SZ)-$session; tries=0
  until trouble=$(mkdir -p "$output" 2>&1); do
    tries=$((tries + 1))
    [ "$tries" -lt 5 ] || refuse push "cannot make $output: $trouble" "look at the disk: df -h ~"
  done
  field output "$output"
}
"""

TIDY: Final = r"""
tidy() {
  case $output in */outputs/?*/?*) ;; *) refuse fetch "$output is no folder of ours" "" ;; esac
  field verb tidy
  [ "$deep" = yes ] || [ -e "$output" ] || { field left gone; answer; }
  [ "$deep" = no ] || find "$output" -depth -type d -exec rmdir {} \; 2>/dev/null
  rmdir "$output" 2>/dev/null
  if [ -e "$output" ]; then field left yes; else
    output=${output%/*}; rmdir "$output" "${output%/*}" 2>/dev/null
    field left no
  fi
  answer
}
"""
