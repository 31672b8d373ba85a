"""The shell functions of the holder: what runs in a window on the machine for a server in a container.

Need the functions of `wrapper.COMMON`, `tmux.SHELL_FUNCTIONS` and `boxes.BOX`.
"""

from __future__ import annotations

from typing import Final

HOLDER: Final = r"""
inside_lives() { D exec $as "$box" sh -c '[ -e "$1" ]' sh "$inside/wrapper.$token" >/dev/null 2>&1; }
close_life() { exec 5>&-; }
record() {
  printf '%s\n' "$1" >"$run/.exit.$$"
  mv "$run/.exit.$$" "$run/exit.json"
}
others_hold() {
  for file in "$run"/wrapper.*; do
    [ "$file" = "$run/wrapper.$token" ] && continue
    hpid=; hstart=; hlife=
    read -r hpid hstart hlife 2>/dev/null <"$file" && alive "$hpid" "$hstart" "$hlife" && return 0
  done
  return 1
}
bound_log() {
  while kill -0 "$1" 2>/dev/null; do
    sleep 2
    size=$(wc -c <"$run/server.log") && [ "$((size))" -gt "$limit" ] || continue
    kill -STOP "$1"
    cat "$run/server.log" >"$run/server.log.1"
    gone=0; read -r gone <"$run/rotated"
    true >"$run/server.log"
    kill -CONT "$1"
    printf '%s\n' "$((gone + size))" >"$run/rotated"
  done
} 2>/dev/null
carry() {
  life=$run/life.$token; out=$run/out.$token
  mkfifo "$life" "$out" && exec 5<>"$life" 6<"$life" || return 1
  true >"$run/held.$token"
  ( trap '' HUP INT TERM; exec 5>&- 6<&-; exec tee -a "$run/server.log" <"$out" ) &
  tee=$!
  # not as redirections of the function: some shells keep what they replace, and with it the life line
  ( exec 5>&- 6<&- >/dev/null; bound_log "$tee" ) &
  bounding=$!
  ( trap '' HUP INT TERM; exec 5>&-
    exec "$engine" exec -i $as "$box" sh "$inside/run.$token" wrap '' life <&6 >"$out" 2>&1 ) &
  carried=$!
  exec 6<&-
  code=
  while :; do
    wait "$carried"; code=$?
    kill -0 "$carried" 2>/dev/null || break
  done
  while kill -0 "$tee" 2>/dev/null; do wait "$tee"; done
  kill "$bounding" 2>/dev/null
  rm -f "$life" "$out"
}
settle() {
  tries=0; reason=
  while inside_lives && [ "$tries" -lt 300 ]; do tries=$((tries + 1)); nap; nap; done
  if look_at_box "$box" && [ "$status" = running ]; then
    told=$(D exec $as "$box" sh -c 'cat "$1"' sh "$inside/exit.json" 2>/dev/null)
    [ -n "$told" ] || ! D exec $as "$box" sh -c '[ ! -d "$1" ]' sh "$inside" || code=0
    return
  fi
  told=
  case $status in
    '') reason="container $key was removed" ;;
    paused) reason="container $key is paused" ;;
    *) reason="container $key has ended (exit code $exited)" ;;
  esac
  [ "$oom" != true ] || reason="$reason: out of memory"
}
hold() {
  trap close_life HUP INT TERM
  run=${0%/*}; base=${run%/*}; logs=$1; marks
  read -r boot </proc/sys/kernel/random/boot_id
  identify >"$run/wrapper.$token"
  identify >"$users/$token.held"
  carry
  trap '' HUP INT TERM
  [ "$code" = 0 ] || [ "$code" = 75 ] || { ended_with=$code; settle; }
  leave_box "$token.held"
  case $code in
    0) wake; windows=$(own_windows)
      if others_hold; then T kill-pane -t "$TMUX_PANE" 2>/dev/null; forget
      else archive stopped; discard; close_windows "$windows"; fi
      sweep ;;
    75) forget; T kill-pane -t "$TMUX_PANE" 2>/dev/null; sweep ;;
    *)
      if [ -n "$told" ]; then record "$told"
      else
        [ -n "$reason" ] || reason="$engine exec ended with code $ended_with"
        printf '[se-remote: %s]\n' "$reason" >>"$run/server.log"
        record "$(printf '{"stage": "container", "code": %d, "reason": "%s", "time": %d}' \
          "$ended_with" "$reason" "$(date +%s)")"
      fi
      rm -f "$run/wrapper.$token"
      printf '\n[se-remote: %s]\n' "${reason:-the server ended with code $ended_with}" ;;
  esac
}
forget() { rm -f "$run/wrapper.$token" "$run/run.$token" "$run/container.$token" "$run/held.$token"; }
"""
"""What runs in the window: `docker exec`, its output into the window and the kept log.

fd 5 is the one writing end of the fifo that is the standard input inside: whatever ends the holder closes it,
so the wrapper inside hears of it and ends the server in order. `docker exec` itself ignores the window's
signals, so that what is said until then is not lost."""
