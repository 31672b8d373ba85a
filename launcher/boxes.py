"""The shell functions about containers that the scripts on a machine share; see launcher.docker."""

from __future__ import annotations

from typing import Final

BOX: Final = r"""
D() { "$engine" "$@"; }
whose_base() {
  whose=${base#/tmp/se-remote-}
  while case $whose in */*) ;; *) false ;; esac; do whose=${whose%%/*}_${whose#*/}; done
}
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
home_in_box() {
  owner=${as#--user=}
  [ -n "$owner" ] || owner=$(D inspect -f '{{.Config.User}}' "$box")
  owner=${owner%%:*}
  D inspect -f '{{range .Config.Env}}{{println .}}{{end}}' "$box" | sed -n 's/^HOME=//p' | grep . ||
    D cp "$box:/etc/passwd" - | tr '\0' '\n' | while IFS=: read -r who word id group about home rest; do
      case ${owner:-0} in "$who"|"$id") printf '%s\n' "$home"; break ;; esac
    done
}
outputs_in_box() {
  within=.local/state/se-remote/outputs/$name
  if [ "$status" = running ]; then
    D exec $as "$box" sh -c 'cd "$HOME/$1" && pwd -P' sh "$within" </dev/null
  else
    found=$(home_in_box)
    [ -z "$found" ] || printf '%s\n' "${found%/}/$within"
  fi
}
copy_out() {
  D cp "$box:$there/." "$stage" </dev/null >"$stage.said" 2>&1 && true >"$stage.done"
}
keep_outputs() {
  copied=no
  there=$(outputs_in_box 2>/dev/null)
  [ -n "$there" ] || return 0
  kept=$HOME/.local/state/se-remote/outputs; stage=$kept/.$name; turn=0
  { true >"$run/copying"; } 2>/dev/null
  copying
  while :; do
    (umask 077; mkdir -p "$stage"); rm -f "$stage.done"
    if [ "$status" = running ]; then
      copy_out | D exec -i "$box" sh -c 'while read -r line; do :; done' sh /se-remote-copy/run. >/dev/null
    else copy_out; fi
    turn=$((turn + 1))
    [ ! -e "$stage.done" ] && [ "$turn" -lt 3 ] || break
  done 2>/dev/null
  trouble=$(cat "$stage.said" 2>&1)
  find "$stage" -depth -type d -exec rmdir {} \; 2>/dev/null
  for one in "$stage"/*; do
    [ -e "$one" ] || continue
    copied=yes; to=$kept/$name; turn=0
    # a pull may take the folder away between the two
    until [ -e "$to/${one##*/}" ] || { (umask 077; mkdir -p "$to"); mv "$one" "$to/"; }; do
      turn=$((turn + 1)); [ "$turn" -lt 5 ] || break
    done
  done 2>/dev/null
  if [ ! -e "$stage.done" ]; then
    case $trouble in *[Nn]o\ such*|*[Nn]ot\ find*) [ "$status" != running ] ;; *) false ;; esac ||
      printf '[se-remote: not all output files could be copied out of container %s: %s]\n' "$key" "$trouble" \
        >>"$run/server.log"
  fi 2>/dev/null
  rm -rf "$stage" "$stage.done" "$stage.said"
  rmdir "$kept" 2>/dev/null
  rm -f "$run/copying"
}
copying() { :; }
used_by_others() {
  whose_base; there=/se-remote-[0-9]*-$(printf %.12s "$box")
  D exec "$box" sh -c 'cat /proc/[0-9]*/cmdline' 2>/dev/null | tr '\0' '\n' |
    grep "$there.*/run[.]" | grep -qv "$there-$whose/"
}
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
      if [ -n "$config" ]; then
        keep_outputs
        # that may have taken so long that somebody has come
        [ "$copied" = yes ] && [ -d "$users" ] || D rm -f "$box" >/dev/null 2>&1
      elif [ "$started" = "$box" ] && ! used_by_others; then D stop -t 5 "$box" >/dev/null 2>&1; fi
    fi
    [ "$status" = silent ] || rm -f "$ours"
  fi
  rmdir "$ending" 2>/dev/null
}
"""
"""Needs $engine, $base, $run, $name, $boot, $key (the container's name), $as (the option that says as whom
commands run in it, or ""), and `wrapper.COMMON`.

`leave_box MARK`: `ending` stands before `rmdir` finds out who is the last: who comes then waits for it.
`$ours` says which container was started, and when: one of that name that another has made or started since is
theirs. `used_by_others`: another account that uses it has its marks where nobody else may look; what counts
is whether something of it runs inside.
`be_quick`: an engine that hangs is not waited for, where somebody waits for the answer.
`keep_outputs`: what actions wrote, and nobody has fetched, outlives a container that was made: it goes to
where `se-remote pull` looks on the machine. Meanwhile `copying` in the run directory tells a stop to wait and
something that looks like a wrapper of ours lives inside, so that the container does not end by itself. Once
more if it fails: a stop that came just before has ended `docker cp`. Nothing here waits but for the engine.
`pick_box`: the file that says in which container the host's server is; of two the one that is held."""
