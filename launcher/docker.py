"""Containers, decided purely: the shell functions that deal with an engine, and how their answers are read.

Rules:
- inside a container everything is as on a machine: run directory, wrapper, server. Of the machine are only:
  the container itself, the tmux window, and the log that is kept;
- who uses a container leaves a mark beside its run directory; the last one to leave removes a container that
  was created for the lease, and stops one that was started for it;
- a created container ends by itself when nothing of ours has lived in it for a while: so nothing stays when
  client, tmux and holder are all killed.

    enter   machine   →  Box │ refused: what is wrong, and what to do
    hold    machine   →  the window with the holder, in which `docker exec` runs the wrapper
    leave   machine   →  this bring-up does not use it any more
    state   machine   →  State of the container: why something in it does not answer
"""

from __future__ import annotations

import difflib
import hashlib
import json
from dataclasses import dataclass
from typing import Final

from launcher import scripts, tmux, wrapper
from launcher.boxes import BOX
from launcher.command import quote
from launcher.errors import StageError, StartFailed
from launcher.holding import HOLDER
from launcher.model import Container, HostSpec, Stage
from launcher.plan import Reply

IDLE_S: Final = 30
"""Seconds that a created container lives without anything of ours in it."""
ENTER_S: Final = 60.0
PULL_S: Final = 1800.0
"""What making a container may take, its image's way here included."""
STAY_S: Final = 120.0
"""How long a bring-up may use a container beyond its `ready_timeout`. After that its client was killed."""
_ENVIRONMENT: Final = (
    "PATH HOME DOCKER_HOST DOCKER_CONTEXT DOCKER_CONFIG DOCKER_TLS_VERIFY DOCKER_CERT_PATH CONTAINER_HOST "
    "CONTAINERS_CONF CONTAINERS_STORAGE_CONF XDG_RUNTIME_DIR"
)

_ENDED: Final = ("exited", "dead", "removed", "removing", "created", "stopped", "restarting")

GUARD: Final = (
    f"idle=0; while [ $idle -lt {IDLE_S} ]; do sleep 2; idle=$((idle+2)); "
    "cat /proc/[0-9]*/cmdline 2>/dev/null | tr '\\0' '\\n' | grep -q '/se-remot[e]-.*/run[.]' && idle=0; done"
)
"""What a created container runs: it ends when no wrapper of ours has lived in it for so long."""

THERE: Final = "on the machine:"
"""Before a command that is to be typed there, not here."""

_ENTER: Final = r"""
enter() {
  field at container
  command -v "$engine" >/dev/null ||
    refuse container "there is no $engine on this machine (PATH=$PATH)" "$install"
  [ -n "$key" ] || key=se-remote-$uid-$name
  if [ ! -e "$base" ] && [ ! -h "$base" ]; then mkdir -m 700 "$base" 2>/dev/null; fi
  guard_base || refuse container "cannot create $base" "$on_it df -h /tmp; ls -ld $base"
  marks; tries=0
  up_seconds
  until mkdir -p "$users" && printf 'until %s %s\n' "$((up + takes))" "$boot" >"$users/$token"; do
    tries=$((tries + 1)); [ "$tries" -lt 60 ] || refuse container "cannot write to $base" "$on_it df -h $base"
    nap
  done 2>/dev/null
  tries=0
  while [ -d "$ending" ]; do
    tries=$((tries + 1)); [ "$tries" -lt 300 ] || { rmdir "$ending"; break; }
    nap
  done 2>/dev/null
  watch_mark
  be_quick
  how=running
  if [ -n "$image" ]; then make_box; else find_box; fi
  [ "$exclusive" = no ] || [ "$network" = host ] || fail \
    "$key has a network of its own ($network), so \`exclusive\` would not be seen outside of it" \
    "create it with --network host, or take \`exclusive\` out"
  up_seconds
  [ ! -f "$users/$token" ] || printf 'until %s %s\n' "$((up + stay))" "$boot" >"$users/$token"
  field verb entered
  field box "$box"
  field key "$key"
  whose_base; of_older && whose=
  field whose "$whose"
  field how "$how"
  answer
}
watch_mark() {
  ( trap '' HUP
    while read -r word until life <"$users/$token"; do
      up_seconds
      [ "${until:-0}" -gt "$up" ] || { leave_box "$token"; rmdir "$base"; break; }
      sleep 1
    done ) </dev/null >/dev/null 2>&1 &
}
of_older() {
  for file in "$run"/container.*; do
    bpid=; bstart=; blife=
    read -r bpid bstart blife <"$run/wrapper.${file##*.}" && alive "$bpid" "$bstart" "$blife" || continue
    { read -r rest; read -r held; read -r rest; read -r rest; read -r within; } <"$file"
    [ "$held" = "$box" ] && [ "${within#*-*-*-}" = "$(printf %.12s "$box")/$name" ] && return 0
  done 2>/dev/null
  return 1
}
whose_start() {
  [ -e "$ours" ] || return 0
  purge_marks
  set -- "$users"/*
  [ "$#" -gt 1 ] || [ "$(cat "$ours")" = "$(begun_at "$box")" ] || rm -f "$ours"
}
fail() { leave_box "$token"; rmdir "$base" 2>/dev/null; refuse container "$@"; }
give_up() {
  [ "$status" != silent ] || fail "$trouble" "$on_it sudo systemctl restart docker"
  case $trouble in
    *[Pp]ermission\ denied*)
      fail "no permission to talk to $engine: $trouble" \
        "$on_it sudo usermod -aG docker $(id -un), then log in again" ;;
    *Cannot\ connect*|*daemon\ running*|*onnection\ refused*|*ping\ server*|*connect:\ no\ such*)
      fail "the $engine daemon does not answer: $trouble" "$on_it sudo systemctl start docker" ;;
  esac
}
find_box() {
  tries=0
  while :; do
    look_at_box "$key" || {
      give_up
      names=$(D ps -a --format '{{.Names}}' 2>/dev/null)
      frame names; printf '%s\n' "$names"
      fail "there is no container called $key" "$on_it $engine ps -a"
    }
    case $status in
      running) whose_start; return 0 ;;
      paused) fail "container $key is paused" "$on_it $engine unpause $key" ;;
      restarting|removing) ;;
      *)
        printf '%s\n' "$box" >"$ours"; how=started
        trouble=$(D start "$key" 2>&1 >/dev/null) ||
          { give_up; rm -f "$ours"
            fail "container $key cannot be started: $trouble" "$on_it $engine logs $key"; }
        begun_at "$box" >"$ours"
        nap; nap; nap
        look_at_box "$key" && [ "$status" = running ] && return 0
        rm -f "$ours"
        said=$(D logs --tail 10 "$key" 2>&1); frame log; printf '%s\n' "$said"
        fail "container $key exited at once (exit code $exited)" "$on_it $engine logs $key" ;;
    esac
    tries=$((tries + 1))
    [ "$tries" -lt 100 ] || fail "container $key is $status" "$on_it $engine inspect $key"
    nap
  done
}
make_box() {
  tries=0
  while :; do
    tries=$((tries + 1))
    [ "$tries" -lt 60 ] || fail "a container cannot be made: $trouble" "$on_it $engine ps -a"
    if look_at_box "$key"; then
      [ -n "$config" ] || fail "there is a container called $key that is not ours" "$on_it $engine rm -f $key"
      case $status in
        running)
          purge_marks
          [ "$config" = "$wanted" ] && return 0
          set -- "$users"/*; [ "$#" = 1 ] || return 0 ;;
        paused) [ "$config" = "$wanted" ] && fail "container $key is paused" "$on_it $engine unpause $key" ;;
        created) [ "$tries" -gt 40 ] || { nap; continue; } ;;
        removing) nap; continue ;;
      esac
      keep_outputs
      D rm -f "$box" >/dev/null 2>&1
      continue
    fi
    missing || { give_up; fail "$engine does not answer as it should: $trouble" "$on_it $engine info"; }
    D image inspect "$image" >/dev/null 2>&1 || {
      field note "pulling $image"
      trouble=$(D pull -q "$image" 2>&1 >/dev/null) ||
        { give_up
          fail "image $image is not there and cannot be pulled: $trouble" "$on_it $engine pull $image"; }
    }
    field note "creating a container from $image"
    if trouble=$(run_box 2>&1 >/dev/null); then
      how=created
      nap
      look_at_box "$key" && [ "$status" = running ] && return 0
      fail "the container made from $image exited at once (exit code ${exited:-?})" \
        "$on_it $engine run --rm -it --entrypoint sh $image"
    fi
    case $trouble in *already\ in\ use*|*"is being removed"*|*"removal of container"*) nap; continue ;; esac
    D rm -f "$key" >/dev/null 2>&1
    case $trouble in
      *'"sh"'*|*': sh:'*) fail "there is no sh in $image: $trouble" "use an image with a POSIX shell" ;;
    esac
    fail "$engine run failed: $trouble" "look at \`run\` of the host; $on_it $engine run --rm -it $image"
  done
}
"""

_HOLD: Final = r"""
hold() {
  field at tmux
  if [ ! -e "$base" ] && [ ! -h "$base" ]; then mkdir -m 700 "$base" 2>/dev/null; fi
  guard_base || refuse tmux "cannot create $base" "df -h /tmp"
  mkdir "$run" 2>/dev/null
  command -v tmux >/dev/null || refuse tmux "there is no tmux on this machine (PATH=$PATH)" "install tmux"
  old=yes
  for file in "$run"/wrapper.*; do
    wpid=; wstart=; wlife=
    read -r wpid wstart wlife 2>/dev/null <"$file" && alive "$wpid" "$wstart" "$wlife" && old=no
  done
  if [ "$old" = yes ]; then
    ending; archive "$ended"; close_windows
    rm -f "$run"/wrapper.* "$run"/run.* "$run"/container.* "$run"/life.* "$run"/held.* "$run/exit.json" \
      "$run/began" "$run/rotated" "$run/copying"
  fi 2>/dev/null
  identify >"$run/wrapper.$token" && identify >"$users/$token.held" && begin &&
    { for variable in $environment; do
        eval "value=\${$variable-}; set=\${$variable+yes}"
        [ -z "$set" ] || printf "export %s='%s'\n" "$variable" "$(printf '%s' "$value" | sed "s/'/'\\\\''/g")"
      done; printf '%s' "$holder"; } >"$run/run.$token" &&
    printf '%s\n' "$engine" "$box" "$key" "$user" "$inside" "$token" >"$run/container.$token" &&
    true >>"$run/server.log" || refuse tmux "cannot write to $run" "$on_it df -h $base"
  open_window sh "$run/run.$token" hold "$logs" || {
    rm -f "$run/wrapper.$token" "$run/run.$token" "$run/container.$token"
    refuse tmux "cannot open a window: $trouble" "tmux -S $base/tmux new-session"
  }
  tries=0  # from here on it speaks for itself
  until [ -e "$run/held.$token" ] || [ ! -e "$run/run.$token" ] || [ "$tries" -ge 100 ]; do
    tries=$((tries + 1)); nap
  done
  field verb held
  show began "$run/began"
  answer
}
"""


@dataclass(frozen=True)
class Box:
    """A container that was entered: what it takes to run something in it."""

    engine: str
    id: str
    key: str
    """Its name."""
    user: str = ""
    inside: str = ""
    """The run directory in it, when that is known."""
    token: str = ""
    """Of who holds it, when that is known."""
    whose: str = ""
    """Of which account's base on the machine: several may be one user inside, and use it at once."""

    @property
    def base(self) -> str:
        """For `scripts`, in it. Its own: /tmp may be shared with the machine, whose pids are others."""
        return f"@{self.id[:12]}-{self.whose}".removesuffix("-")

    def exec_words(self, *options: str) -> list[str]:
        """The words that run what is put behind them in it."""
        user = ["--user", self.user] if self.user else []
        return [self.engine, "exec", *options, *user, self.id]


@dataclass(frozen=True)
class BoxState:
    """What its engine says of a container. status: running, paused, exited, removed, …; silent: it hangs."""

    status: str
    code: int = 0
    oom: bool = False
    trouble: str = ""

    @property
    def ended(self) -> bool:
        """What ran in it runs no more."""
        return self.status in _ENDED

    @property
    def mute(self) -> bool:
        """What ran in it may run on, and nobody can be asked."""
        return self.status in ("paused", "silent", "unknown")


def config_of(container: Container) -> str:
    """Of what decides how a container is created from its image."""
    values = [container.engine, container.image, *container.run]
    return hashlib.sha256(json.dumps(values).encode()).hexdigest()[:16]


def enter(spec: HostSpec, slug: str, *, base: str, nonce: str, token: str) -> bytes:
    """Have the container of `spec` running, and leave the mark `token` that it is used."""
    box = spec.docker
    assert box is not None
    install = f"install {box.engine} there" + (
        "" if box.engine == "podman" else ", or say `engine: podman` under `docker`"
    )
    words = ["run", "-d", "--rm", *(["--init"] if box.engine == "docker" else []), "--name"]
    labels = ["--label", f"se-remote={config_of(box)}", *box.run, "--entrypoint", "sh", box.image or "", "-c"]
    values = {
        "nonce": nonce, "token": token, "base": base, "name": slug, "engine": box.engine,
        "key": box.name or "", "image": box.image or "", "wanted": config_of(box), "install": install,
        "exclusive": "yes" if spec.exclusive else "no", "stay": str(int(STAY_S + spec.ready_timeout)),
        "on_it": THERE, "takes": str(int((PULL_S if box.image else ENTER_S) + STAY_S + spec.ready_timeout)),
        "as": _as(box.user or ""),
    }  # fmt: skip
    run = f'run_box() {{ D {quote(words)} "$key" {quote([*labels, GUARD])}; }}'
    parts = [wrapper.COMMON, scripts.REPLY, scripts.PLACE, BOX, run, _ENTER, "place", "enter"]
    return scripts.script(values, parts)


def _as(user: str) -> str:
    """As whom `exec` runs something; "": as whom the image says."""
    return f"--user={user}" if user else ""


def hold(spec: HostSpec, slug: str, box: Box, *, base: str, nonce: str, token: str, inside: str) -> bytes:
    """Open the window for the wrapper that is delivered in the run directory `inside` of the box."""
    holder = "\n".join(
        [
            f"name={quote([slug])}; token={quote([token])}; session=; engine={quote([box.engine])}",
            f"box={quote([box.id])}; key={quote([box.key])}; inside={quote([inside])}; limit={20 << 20}",
            f"as={quote([_as(box.user)])}",
            wrapper.COMMON, tmux.SHELL_FUNCTIONS, BOX, HOLDER,
            'se_remote() { hold "$2"; }', 'se_remote "$@"', "",
        ]
    )  # fmt: skip
    values = {
        "nonce": nonce, "token": token, "base": base, "name": slug, "engine": box.engine, "box": box.id,
        "key": box.key, "user": box.user, "inside": inside, "holder": holder, "environment": _ENVIRONMENT,
        "session": tmux.session_name(spec.session), "on_it": THERE,
    }  # fmt: skip
    parts = [wrapper.COMMON, tmux.SHELL_FUNCTIONS, scripts.REPLY, scripts.PLACE, BOX, _HOLD]
    return scripts.script(values, [*parts, "place", "marks", "hold"])


def leave(slug: str, box: Box, *, base: str, nonce: str, token: str) -> bytes:
    """The mark `token` goes; the last one removes or stops what was made or started for it.

    Answers where the log of the host is that the machine keeps: `began`, `written`."""
    values = {
        "nonce": nonce,
        "base": base,
        "name": slug,
        "engine": box.engine,
        "key": box.key,
        "token": token,
        "as": _as(box.user),
    }
    parts = [wrapper.COMMON, scripts.REPLY, scripts.PLACE, tmux.SHELL_FUNCTIONS, BOX, "place"]
    parts += ["copying() { field note 'copying output files out of the container'; }"]
    tell = 'show began "$run/began"; field written "$(written)"'
    return scripts.script(
        values, [*parts, scripts.WRITTEN, f'{tell}; leave_box "$token"; sweep; field verb left; answer']
    )


def state(box: Box, *, nonce: str) -> bytes:
    """How the container is."""
    values = {"nonce": nonce, "engine": box.engine, "box": box.id}
    return scripts.script(values, [scripts.REPLY, BOX, 'state_of_box "$box"; answer'])


def read_enter(spec: HostSpec, reply: Reply) -> Box:
    """The box that was entered; raises StartFailed with what is wrong."""
    container = spec.docker
    assert container is not None
    if reply.verb == "entered":
        whose = reply.get("whose")
        return Box(container.engine, reply.get("box"), reply.get("key"), container.user or "", whose=whose)
    cause, step = reply.get("cause") or "no answer", reply.get("next")
    near = difflib.get_close_matches(container.name or "", reply.get("names").split(), 3, 0.5)
    if near:
        step = f"did you mean {' or '.join(near)}? {step}"
    stage = Stage(reply.get("stage") or "container")
    raise StartFailed(spec.name, stage, cause, step, reply.get("log").splitlines()[-10:])


def read_state(reply: Reply | None) -> BoxState:
    """Of a reply of `state`, or of a section of another one."""
    status, code, oom = [*(reply.get("box_state") if reply else "").split(), "", "", ""][:3]
    number = int(code) if code.isdecimal() else 0
    return BoxState(status or "unknown", number, oom == "true", reply.get("box_trouble") if reply else "")


def read_box(text: str) -> Box | None:
    """Of a file `container.*` in a run directory."""
    engine, box, key, user, inside, token = [*text.splitlines(), *[""] * 6][:6]
    whose = inside.rpartition("/")[0].partition(f"-{box[:12]}")[2].removeprefix("-")
    return Box(engine, box, key, user, inside, token, whose) if box else None


def why(box: Box, seen: BoxState) -> tuple[str, str]:
    """Why nothing in the container answers, and what to do; ("", "") when it runs."""
    if seen.status == "running":
        return "", ""
    if seen.status == "paused":
        return f"container {box.key} is paused", f"{THERE} {box.engine} unpause {box.key}"
    if seen.status == "silent":
        return f"{box.engine} does not answer", f"{THERE} {box.engine} info"
    if seen.status in ("removed", "removing"):
        return f"container {box.key} was removed", f"{THERE} {box.engine} ps -a"
    if seen.status == "unknown":
        return (
            f"{box.engine} does not say how container {box.key} is: {seen.trouble}",
            f"{THERE} {box.engine} info",
        )
    how = "out of memory" if seen.oom else f"exit code {seen.code}"
    return f"container {box.key} is {seen.status} ({how})", f"{THERE} {box.engine} logs {box.key}"


def failure(host: str, box: Box, seen: BoxState, said: str) -> StageError:
    """The error for a `docker exec` that ran nothing."""
    cause, step = why(box, seen)
    if not cause and ("executable file not found" in said or "no such file" in said.lower()):
        cause, step = f"there is no sh in container {box.key}", "a POSIX shell is needed in it"
    if not cause and "unable to find user" in said:
        cause, step = f"container {box.key} has no user {box.user}", "set `user` under `docker`"
    return StartFailed(
        host, Stage.CONTAINER, cause or f"{box.engine} exec failed: {said.strip()}",
        step or f"{THERE} {box.engine} exec -it {box.key} sh",
    )  # fmt: skip
