"""The shell functions of the bring-up script: find a server or start one, and wait until it is there.

Need the functions of `wrapper.COMMON` and `tmux.SHELL_FUNCTIONS`, the reply and place of `scripts`, and
`deliver`, which writes the files of a start.
"""

from __future__ import annotations

from typing import Final

BRING_UP: Final = r"""
enter() {
  if [ ! -e "$base" ] && [ ! -h "$base" ]; then trouble=$(mkdir -m 700 "$base" 2>&1); fi
  guard_base || return 1
  [ -d "$run" ] || mkdir "$run" 2>/dev/null || [ -d "$run" ] || return 1
  fifo=$run/ready.$token
  mkfifo "$fifo" 2>/dev/null
}
clean() {
  [ -e "$run/exit.json" ] || [ -e "$run/server.log" ] || [ -e "$run/pid" ] || return 0
  # who died without its wrapper may have left more than files: the next server looks for it
  [ -e "$run/pid" ] && true >"$run/unclean"
  ending; archive "$ended"
  close_windows
  for file in "$run"/wrapper.* "$run"/run.*; do
    mark=${file##*/}; mark=${mark#*.}
    wpid=; wstart=; wlife=
    read -r wpid wstart wlife 2>/dev/null <"$run/wrapper.$mark" &&
      alive "$wpid" "$wstart" "$wlife" && continue
    rm -f "$run/wrapper.$mark" "$run/run.$mark" "$run/env.$mark" "$run/setup.$mark" "$run/server.$mark" \
      "$run/onstop.$mark" "$run/served.$mark"
  done
  (cd "$run" && rm -f pid endpoint.json state.json exit.json stage sock python began rotated)
}
spawn() {
  field at tmux
  [ "$carried" = yes ] || command -v tmux >/dev/null || no_tmux
  identify >"$run/wrapper.$token" && deliver || {
    for file in wrapper run env setup server onstop; do rm -f "$run/$file.$token"; done
    [ -p "$fifo" ] || return  # it was taken away with its directory, and has heard `gone`
    refuse shell "cannot write to $run" "df -h $base"
  }
  true >>"$run/server.log"
  if [ "$carried" = yes ]; then field window "$run"; begun=yes; return; fi
  open_window sh "$run/run.$token" wrap "$logs" || taken_over || {
    # a window that comes later finds nothing to run
    for file in wrapper run env setup server onstop; do rm -f "$run/$file.$token"; done
    [ -s "$run/server.log" ] || rm -f "$run/server.log"
    [ -p "$fifo" ] || return  # as above, and its parent may be gone, too
    refuse tmux "cannot open a window: $trouble" "tmux -S $base/tmux new-session"
  }
  begun=yes
}
taken_over() {
  # a window that was there a moment ago: tmux was on its way out, or what runs in it has ended already
  [ -n "$window" ] || return 1
  tries=0
  while [ "$tries" -lt 20 ] && read -r wpid rest 2>/dev/null <"$run/wrapper.$token"; do
    [ "$wpid" = "$$" ] || return 0
    nap; tries=$((tries + 1))
  done
  [ "$tries" -lt 20 ]
}
no_tmux() {
  how_to_install
  refuse tmux "there is no tmux on this machine (PATH=$PATH)" "$hint"
}
arm() {
  ( trap 'kill $! 2>/dev/null; exit' TERM
    while [ "$timeout" -gt 0 ] && [ -p "$fifo" ]; do sleep 1 3>&- & wait $!; timeout=$((timeout - 1)); done
    [ -p "$fifo" ] && printf 'timeout\n' >&3 ) </dev/null >/dev/null 2>&1 &
  watchdog=$!
}
extend() { timeout=$((timeout + on_stop_takes)); on_stop_takes=0; }
wait_ready() {
  outcome=again
  [ -p "$fifo" ] || { rm -f "$fifo"; return 0; }
  look
  if [ "$state" = running ]; then
    mark && { outcome=running; return 0; }
    look
  fi
  [ "$state" = none ] && { clean; spawn; }
  for recipe in "$run"/safe.armed "$run"/safe.claimed.*; do [ -f "$recipe" ] && extend; done
  arm
  while read -r word <&3; do
    case $word in
      # of another's start, which somebody has cleared away since: then it is our turn
      dead) [ -e "$run/exit.json" ] && outcome=dead || begun=no; break ;;
      ready|timeout|abort) outcome=$word; break ;;
      setup|start) field at "$word" ;;
      on_stop)
        field at "$word"
        kill "$watchdog" 2>/dev/null; wait "$watchdog" 2>/dev/null
        extend; arm ;;
      gone) begun=no; break ;;
      lost) begun=no; look; [ "$state" = none ] && { nap; look; [ "$state" = none ] && spawn; } ;;
    esac
  done
  kill "$watchdog" 2>/dev/null; wait "$watchdog" 2>/dev/null
  [ "$outcome" = ready ] && [ "$begun" = no ] && { mark || outcome=again; }
}
mark() {
  [ -n "$client" ] || return 0
  true >"$run/coming.$client"
  [ -f "$run/endpoint.json" ]
}
report() {
  case $outcome in ready|running) ;; *) rm -f "$run/coming.$client" ;; esac
  field verb "$outcome"
  field run "$run"
  [ "$begun" = yes ] && ours && field started yes
  show endpoint "$run/endpoint.json"; show state "$run/state.json"
  show began "$run/began"
  [ "$begun" = yes ] || field written "$(written)"
  case $outcome in
    dead|timeout)
      show stage "$run/stage"; show exit "$run/exit.json"
      [ -s "$run/server.log" ] && frame log && tail -c 16384 "$run/server.log" | tail -n 20
      python=; read -r python 2>/dev/null <"$run/python" && [ -n "$python" ] &&
        field python "$("$python" -c 'import sys; print("%d.%d.%d" % sys.version_info[:3])' 2>&1 | tail -n 1)"
      field holders "$(grep -laF "SE_REMOTE_RUN=$run" /proc/[0-9]*/environ 2>/dev/null)" ;;
  esac
  rm -f "$fifo"
  answer
}
bring_up() {
  begun=no; attempt=0; trouble=; outcome=again
  while [ "$outcome" = again ]; do
    attempt=$((attempt + 1))
    [ "$attempt" -le 60 ] || refuse shell "cannot create $run: $trouble" "df -h $base; ls -ld $base"
    if enter; then wait_ready 3<>"$fifo"; [ "$outcome" = again ] && rm -f "$fifo"; else nap; fi
  done 2>/dev/null
  report
}
"""
"""The parent directory may be removed by another's cleanup at any moment: then everything starts again.
`true >FILE`, never `: >FILE`: when a redirection of a special builtin fails, dash and busybox end the script.

The watchdog sleeps in steps: a TERM that meets its sleep between fork and exec is lost, and that sleep then
outlives it.

`mark`: first show, then look: of a server that is about to end, and who has just found it, one sees the other
(remote_exec.host.coming). Who has started it needs none: it waits for its first session.

`ours`: of two bring-ups at once only the one whose wrapper is an ancestor of the server has started it.
"""
