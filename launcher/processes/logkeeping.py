"""The shell functions that keep the log of a process: its index in time, and its length within bounds.

What goes into a log is written over one descriptor that was opened once, to append; whoever watches over the
process (its guard) calls `keep_log` about once a second and `archive_log` at the end. Rules:
- a process that says nothing costs no spawned command: how much there is comes from the kernel, by builtins;
- `log.index` has lines `EPOCH OFFSET`: at that time the log had so many bytes. A point at most every 2 s;
- what is given back to the disk is a hole at the log's beginning: offsets stay, so nobody who reads or
  follows it loses his place. `log.punched` says how much; it is written before the hole is made;
- an archived log has no hole: it begins with a line that says what is missing.
"""

from __future__ import annotations

from typing import Final

LIMIT: Final = 200_000_000
"""Bytes beyond which the older half of a log is given back."""

GIVEN_BACK: Final = "[se-remote: %s bytes before this line are gone: the log had become too long]"

KEEP_LOG: Final = r"""
log_size() {
  word=; size=
  if [ -n "$log_fd" ]; then read -r word size <"/proc/self/fdinfo/$log_fd"; fi
  case $word:$size in pos::*[!0-9]*|pos:) size= ;; pos::*) ;; *) size= ;; esac
  [ -n "$size" ] || size=$(($(wc -c <"$run/log")))
} 2>/dev/null
log_clock() {
  read -r ticks rest </proc/uptime || return 1
  ticks=${ticks%.*}
  # set again now and then: a robot without a battery clock learns the time some while after its start
  if [ "$((ticks - log_synced))" -ge 60 ]; then log_synced=$ticks; log_epoch=$(($(date +%s) - ticks)); fi
  now=$((log_epoch + ticks))
}
keep_log_begin() {
  log_fd=${1-}; log_limit=${2:-200000000}
  log_seen=0; log_last=0; log_synced=-60; log_punched=0; log_punches=yes
  [ ! -f "$run/log.punched" ] || read -r log_punched <"$run/log.punched"
  command -v fallocate >/dev/null || log_punches=no
}
keep_log() {
  log_size
  [ "${size:-0}" -gt "$log_seen" ] || return 0
  log_clock || return 0
  if [ "$((now - log_last))" -ge 2 ] || [ "$now" -lt "$log_last" ]; then
    printf '%s %s\n' "$now" "$size" >>"$run/log.index"
    log_seen=$size; log_last=$now
  fi
  [ "$((size - log_punched))" -le "$log_limit" ] || [ "$log_punches" = no ] || punch_log
  return 0
}
punch_log() {
  to=$(((size - log_limit / 2) / 4096 * 4096))
  printf '%s\n' "$to" >"$run/.punched" && mv "$run/.punched" "$run/log.punched" || return 0
  if fallocate --punch-hole --offset 0 --length "$to" "$run/log" 2>/dev/null; then
    log_punched=$to
  else
    log_punches=no
    if [ "$log_punched" = 0 ]; then rm -f "$run/log.punched"
    else printf '%s\n' "$log_punched" >"$run/log.punched"; fi
  fi
}
archive_log() {
  gone=0; [ ! -f "$run/log.punched" ] || read -r gone <"$run/log.punched"
  to=$1; shift=0
  if [ "$gone" -gt 0 ]; then
    # the hole ends within a line
    first=$(tail -c "+$((gone + 1))" "$run/log" | head -n 1 | wc -c); gone=$((gone + first))
    said="[se-remote: $gone bytes before this line are gone: the log had become too long]"
    { printf '%s\n' "$said"; tail -c "+$((gone + 1))" "$run/log"; } >"$to" || return 1
    touch -r "$run/log" "$to"; rm -f "$run/log"
    shift=$((gone - ${#said} - 1))
  else
    mv "$run/log" "$to" || return 1
  fi
  if [ -f "$run/log.index" ]; then
    while read -r when offset; do
      [ "$offset" -le "$shift" ] || printf '%s %s\n' "$when" "$((offset - shift))"
    done <"$run/log.index" >"${to%.log}.index"
    touch -r "$to" "${to%.log}.index"
  fi
  rm -f "$run/log.index" "$run/log.punched"
}
"""
"""Needs $run. Called in the shell of the guard:

`keep_log_begin FD [LIMIT]` once: FD is a descriptor of this shell that is the log's, opened once to append
(`exec 8>>"$run/log"`) and given to whoever writes what the process says, so that they share its position;
"" when there is none: then a `wc` is spawned each time. `keep_log` about once a second.
`archive_log TO.log` at the end, after the process has: moves the log there, and its index to TO.index.

POSIX sh; it sets word, size, ticks, rest, now, to, gone, first, said, shift, when, offset, and log_*."""
