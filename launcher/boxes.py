"""The shell functions about containers that the scripts on a machine share; see launcher.docker."""

from __future__ import annotations

from typing import Final

BOX: Final = r"""
D() { "$engine" "$@"; }
marks() { users=$base/.users.$key; ending=$base/.ending.$key; ours=$base/.started.$key; }
look_at_box() {
  box=; status=; exited=; oom=; network=; config=
  shown='{{.Id}} {{.State.Status}} {{.State.ExitCode}} {{.State.OOMKilled}} {{.HostConfig.NetworkMode}}'
  shown="$shown {{index .Config.Labels \"se-remote\"}}"
  seen=$(${quick-} "$engine" inspect --type container -f "$shown" "$1" 2>&1) || {
    case $?:${quick-} in 124:?*|143:?*) seen="$engine does not answer within 8 s"; status=silent ;; esac
    trouble=$seen; seen=; return 1
  }
  read -r box status exited oom network config <<SEEN
$seen
SEEN
  [ "$config" != '<no' ] && [ "$config" != '<no value>' ] || config=
  return 0
}
be_quick() { quick=; timeout 8 true 2>/dev/null && quick='timeout 8'; }
begun_at() { D inspect --type container -f '{{.Id}} {{.State.StartedAt}}' "$1" 2>/dev/null; }
missing() { case $trouble in *[Nn]o\ such\ *) return 0 ;; esac; return 1; }
state_of_box() {
  be_quick
  # one that hangs is not asked again about the next of its containers
  if [ "${hung-}" = "$engine" ]; then field box_state "silent 0 false"
  elif look_at_box "$1"; then field box_state "$status $exited $oom"
  elif [ "$status" = silent ]; then hung=$engine; field box_state "silent 0 false"
  elif missing; then field box_state "removed 0 false"
  else field box_state "unknown 0 false"; field box_trouble "$trouble"; fi
}
pick_box() {
  picked=
  for file in "$run"/container.*; do
    [ -f "$file" ] || continue
    picked=$file; bpid=; bstart=; blife=
    read -r bpid bstart blife 2>/dev/null <"$run/wrapper.${file##*.}" &&
      alive "$bpid" "$bstart" "$blife" && break
  done
  [ -n "$picked" ]
}
show_box() {
  pick_box || return 0
  show container "$picked"
  { read -r engine; read -r box; } <"$picked"
  state_of_box "$box"
}
up_seconds() { read -r up rest </proc/uptime; up=${up%%.*}; }
purge_marks() {
  up_seconds
  for file in "$users"/*; do
    [ -f "$file" ] || continue
    upid=; ustart=; ulife=; read -r upid ustart ulife <"$file"
    case $upid in
      until) [ "$ulife" = "$boot" ] && [ "${ustart:-0}" -gt "$up" ] && continue ;;
      *) alive "$upid" "$ustart" "$ulife" && continue ;;
    esac
    rm -f "$file"
  done
} 2>/dev/null
leave_box() {
  marks; tries=0
  rm -f "$users/$1"
  purge_marks
  until mkdir "$ending" 2>/dev/null; do
    tries=$((tries + 1)); [ "$tries" -lt 200 ] || break
    nap
  done
  if rmdir "$users" 2>/dev/null; then
    started=; [ ! -e "$ours" ] || read -r started rest <"$ours"
    if look_at_box "${started:-$key}"; then
      if [ -n "$config" ]; then D rm -f "$box"
      elif [ "$started" = "$box" ]; then D stop -t 5 "$box"; fi
    fi >/dev/null 2>&1
    [ "$status" = silent ] || rm -f "$ours"
  fi
  rmdir "$ending" 2>/dev/null
}
"""
"""Needs $engine, $base, $boot, $key (the container's name), and `wrapper.COMMON`.

`leave_box MARK`: `ending` stands before `rmdir` finds out who is the last: who comes then waits for it.
`$ours` says which container was started, and when: one of that name that another has made or started since is
theirs. `be_quick`: an engine that hangs is not waited for, where somebody waits for the answer.
`pick_box`: the file that says in which container the host's server is; of two the one that is held."""
