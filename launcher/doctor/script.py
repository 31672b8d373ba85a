"""The doctor's script, as text: all facts of a machine and of the hosts on it, in one exec.

Rules, beside those of `launcher.scripts`:
- it changes nothing but for a file of 64 kB in each folder that is to be written to, gone at once;
- what may hang (an engine, a file system, `setup`) is bounded;
- of a host the environment is the one its server will have: `env`, then `setup` in the host's shell;
- the interpreter answers in JSON on one line: what it may print itself before that does not matter.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Final

from launcher import family, keeping, plan, scripts, tmux, wrapper
from launcher.boxes import BOX
from launcher.command import quote
from launcher.model import HostSpec

SETUP_S: Final = 60
"""What `setup` and the start of the interpreter may take."""

Commands = Sequence[tuple[str, str]]
"""Shell text of the inventory, with the key that it stands under."""

_SUDO: Final = re.compile(r"(?<![\w./-])sudo(?![\w-])")
_DEVICE: Final = re.compile(r"(?<![\w./-])/dev/(?!null\b|zero\b|full\b|u?random\b|std|fd\b|tty\b)[\w./-]*\w")

_MACHINE: Final = r"""
be_limited() { limit=; timeout "$setup_takes" true 2>/dev/null && limit="timeout $setup_takes"; }
look_for_installer() {
  for tool in 'apt-get install' 'dnf install' 'zypper install' 'pacman -S' 'apk add'; do
    command -v "${tool%% *}" >/dev/null && { field installer "sudo $tool"; return; }
  done
}
space() {
  field space "$1"
  field real "$(cd "$1" && pwd -P)"
  frame df; $quick df -Pk "$1"
  frame df_inodes; $quick df -Pi "$1"
  probe=$1/.se-remote-doctor.$$
  frame written; ( set -C; head -c 65536 /dev/zero >"$probe" && printf ok ) 2>&1
  rm -f "$probe"
} 2>/dev/null
logind() {
  [ -d "$root/run/systemd/system" ] || return 0
  manager='org.freedesktop.login1 /org/freedesktop/login1 org.freedesktop.login1.Manager'
  frame logind_bus
  [ -n "$root" ] || $quick busctl get-property $manager KillUserProcesses RemoveIPC
  frame logind_conf
  cat "$root/etc/systemd/logind.conf" "$root"/usr/lib/systemd/logind.conf.d/*.conf \
    "$root"/run/systemd/logind.conf.d/*.conf "$root"/etc/systemd/logind.conf.d/*.conf
  [ ! -e "$root/var/lib/systemd/linger/$(id -un)" ] || field lingers yes
} 2>/dev/null
usable_base() {
  ( refuse() { field refused "$2"; field refused_next "$3"; exit 7; }
    guard_base ) 2>/dev/null
}
dead_runs() {
  for run in "$base"/*/; do
    run=${run%/}
    [ -d "$run" ] && [ ! -h "$run" ] || continue
    for fifo in "$run"/ready.*; do [ ! -p "$fifo" ] || continue 2; done
    look
    [ "$state" = none ] || continue
    field dead "${run##*/}"
    ! unsafe || field unsafe yes
    roots=; family
    [ -z "$found" ] || { frame orphans; name_found; }
  done
}
left_here() {
  frame logs; clean_logs
  frame outputs
  for one in "$HOME"/.local/state/se-remote/outputs/*/*; do
    [ -e "$one" ] || continue
    one=${one%/*}; printf '%s\n' "${one##*/}"
  done
  usable_base
  [ "$?" != 0 ] || dead_runs
} 2>/dev/null
machine() {
  field now "$(date +%s)"
  field path "$PATH"
  field user "$(id -un)"
  field uid "$uid"
  field groups "$(id -nG)"
  field tmux "$(tmux -V 2>/dev/null)"
  look_for_installer
  be_quick
  frame mounts; cat /proc/mounts
  if [ -d "$base" ]; then space "$base"; else space "${base%/*}"; fi
  space "$HOME"
  logind
  left_here
}
member() {
  line=$(getent group "$engine" || grep "^$engine:" /etc/group)
  case ",${line##*:}," in *",$(id -un),"*) field member yes ;; esac
} 2>/dev/null
in_box() {
  field engine "$engine"
  command -v "$engine" >/dev/null || return 0
  side=Server; [ "$engine" != podman ] || side=Client
  field engine_there yes
  if said=$($quick "$engine" version -f "{{.$side.Version}}" 2>&1); then field engine_version "$said"
  else field engine_trouble "$said"; member; return 0; fi
  if [ -n "$image" ] && $quick "$engine" image inspect "$image" >/dev/null 2>&1; then field image yes; fi
  [ -n "$key" ] || key=se-remote-$uid-$name
  if look_at_box "$key"; then field box_status "$status"
  else
    missing || field engine_trouble "$trouble"
    frame names; $quick "$engine" ps -a --format '{{.Names}}' 2>/dev/null
    return 0
  fi
  [ "$status" = running ] || return 0
  printf '%s' "$inside" | $limit "$engine" exec -i $as "$box" sh
}
"""

_INSIDE: Final = r"""
devices() {
  frame devices
  for device in $named /dev/ttyUSB[0-9]* /dev/ttyACM[0-9]*; do
    [ -e "$device" ] || continue
    usable=no; [ -r "$device" ] && [ -w "$device" ] && usable=yes
    set -- $(ls -ld "$device")
    printf '%s %s %s\n' "$usable" "$4" "$device"
  done
}
sudo_here() {
  command -v sudo >/dev/null || return 0
  field sudo yes
  if said=$(sudo -n true 2>&1); then field sudo_free yes; else field sudo_said "$said"; fi
  frame sudo_list; sudo -n -l 2>/dev/null
}
pick_shell() { for shell in "$@"; do ! command -v "$shell" >/dev/null || return 0; done; shell=; }
inside() {
  field asked yes
  cd "$HOME" 2>/dev/null || cd /
  [ "$asks_sudo" = no ] || sudo_here
  devices
  wanted_shell
  field shell "$shell"
  [ -n "$shell" ] || return 0
  be_limited; [ -z "$login" ] || limit=
  said=/tmp/.se-remote-doctor.$$.said; ( set -C; true >"$said" ) 2>/dev/null || said=/dev/null
  { $limit "$shell" $login -c "$probe" 3>&4 4>&- >"$said" 2>&1 & group=$!; wait "$group"; } 4>&1
  [ -z "$limit" ] || kill -TERM "-$group" 2>/dev/null
  frame setup_said; tail -n 5 "$said"
  [ "$said" = /dev/null ] || rm -f "$said"
}
"""
"""What `setup` leaves in the background is ended, where `timeout` makes it a group of its own; it must never
hold what we are heard through, so what it says goes into a file."""

_PROBE: Final = r"""
import sys
if sys.path[:1] == [""]:
    sys.path.append(sys.path.pop(0))
import json
out = {"version": list(sys.version_info[:3]), "executable": sys.executable, "broken": {}}
if sys.version_info >= (3, 10):
    import importlib, importlib.metadata as metadata, os
    from importlib.machinery import PathFinder
    packages = out["packages"] = {}
    for name in ("se-remote", "scenario_execution", "py_trees", "pyzmq", "msgpack"):
        try:
            packages[name] = metadata.version(name)
        except Exception:
            pass
    named = {os.path.abspath(entry) for entry in os.environ.get("PYTHONPATH", "").split(os.pathsep)}
    shadowed = out["shadowed"] = []
    def version(name, path):
        return next((one.version for one in metadata.distributions(name=name, path=path)), "")
    for name, module in (("scenario_execution", "scenario_execution"), ("py_trees", "py_trees"),
                         ("pyzmq", "zmq"), ("msgpack", "msgpack"), ("se-remote", "remote_exec")):
        rest = [entry for entry in sys.path if entry not in named]
        first, hidden = PathFinder.find_spec(module), PathFinder.find_spec(module, rest)
        if first and hidden and first.origin and hidden.origin and first.origin != hidden.origin:
            taken = [entry for entry in sys.path if entry in named and first.origin.startswith(entry + "/")]
            if taken:
                shadowed.append([name, version(name, taken[:1]), taken[0], version(name, rest)])
    for name in ("zmq", "msgpack", "py_trees", "scenario_execution", "remote_exec.server"):
        try:
            importlib.import_module(name)
        except BaseException as error:
            out["broken"][name] = "%s: %s" % (type(error).__name__, error)
    try:
        from remote_exec.messages import WIRE_VERSION
        out["wire"] = WIRE_VERSION
    except BaseException:
        pass
    def dist(point):
        return [point.dist.name, point.dist.version] if point.dist is not None else ["", ""]
    actions = metadata.entry_points(group="scenario_execution.actions")
    out["plugins"] = {point.name: dist(point) for point in actions}
    known = metadata.entry_points(group="scenario_execution.modifiers", name="remote")
    out["modifiers"] = sorted({dist(point)[0] for point in known})
sys.stdout.write("\n" + json.dumps(out) + "\n")
sys.stdout.flush()
"""
"""Also for interpreters that are too old: they are to say so."""


def asks_sudo(commands: Commands) -> bool:
    """Whether anything of the inventory that runs there uses sudo."""
    return any(_SUDO.search(text) for _, text in commands)


def devices_named(commands: Commands) -> list[str]:
    """The device files that the inventory names."""
    return list(dict.fromkeys(found for _, text in commands for found in _DEVICE.findall(text)))


def examine(
    hosts: Sequence[HostSpec],
    commands: Mapping[str, Commands],
    *,
    base: str,
    nonce: str,
    root: str = "",
) -> bytes:
    """All facts of the machine of `hosts`, and of each of them; read by `launcher.doctor.reading`.

    commands: by host. root: where the system's configuration is looked for; only tests say something.

    Raises InventoryError for what no shell could hold.
    """
    values = {
        "nonce": nonce, "base": base, "name": "-", "session": "", "root": root, "dry": "yes", "names": "*",
        "setup_takes": str(SETUP_S + 30), "as": "",
    }  # fmt: skip
    parts = [wrapper.COMMON, tmux.SHELL_FUNCTIONS, family.FAMILY, scripts.REPLY, scripts.PLACE, BOX]
    parts += [keeping.CLEAN, _MACHINE, "place", "be_limited", "machine"]
    parts += [_host(spec, commands.get(spec.name, ()), nonce) for spec in hosts]
    return scripts.script(values, [*parts, "answer"])


def _host(spec: HostSpec, commands: Commands, nonce: str) -> str:
    inside = quote([_inside(spec, commands, nonce)])
    lines = [f"field host {quote([spec.name])}", f"inside={inside}"]
    box = spec.docker
    if box is None:
        return "\n".join([*lines, "printf '%s' \"$inside\" | sh"])
    values = {
        "engine": box.engine, "key": box.name or "", "image": box.image or "", "name": plan.slug(spec.name),
        "as": f"--user={box.user}" if box.user else "",
    }  # fmt: skip
    return "\n".join([*lines, *(f"{key}={quote([value])}" for key, value in values.items()), "in_box"])


def _inside(spec: HostSpec, commands: Commands, nonce: str) -> str:
    login = spec.docker is not None and spec.docker.login
    values = {
        "nonce": nonce, "asks_sudo": "yes" if asks_sudo(commands) else "no",
        "named": " ".join(devices_named(commands)), "login": "-i" if login else "",
        "setup_takes": str(SETUP_S), "probe": _probe(spec, nonce),
    }  # fmt: skip
    wanted = path_words([spec.shell]) if spec.shell is not None else "bash sh"
    parts = [scripts.REPLY, "be_limited() {", '  limit=; timeout "$setup_takes" true 2>/dev/null || return 0']
    parts += ['  limit="timeout $setup_takes"', "}", f"wanted_shell() {{ pick_shell {wanted}; }}", _INSIDE]
    return scripts.script(values, [*parts, "inside"]).decode("utf-8", "surrogateescape")


def path_words(paths: Sequence[str]) -> str:
    """Shell words, of which a leading `~` is expanded."""
    return " ".join(wrapper.path_word(path) for path in paths)


def _probe(spec: HostSpec, nonce: str) -> str:
    """What the host's shell runs: fd 3 is where our answers go, all else is what `setup` says."""
    lines = [wrapper.environment_lines(spec)]
    python = wrapper.path_word(spec.interpreter)
    if spec.provided:
        lines += [f'se_remote_python=$(cd "$HOME/{wrapper.VENVS}/current" 2>/dev/null && pwd -P)/bin/python']
        lines += [f'[ -x "$se_remote_python" ] || se_remote_python={python}']
        python = '"$se_remote_python"'
    if spec.docker is not None and spec.docker.workdir is not None:
        lines += [f"cd {wrapper.path_word(spec.docker.workdir)} || exit 1"]
    if spec.setup.strip():
        end = f"{nonce}_setup"
        lines += [f". /dev/fd/9 9<<'{end}' 3>&-", spec.setup, end, "se_remote_code=$?"]
    else:
        lines += ["se_remote_code=0"]
    lines += [
        f"printf '\\n{nonce} setup_code\\n%s\\n' \"$se_remote_code\" >&3",
        '[ "$se_remote_code" = 0 ] || exit "$se_remote_code"',
        f"printf '\\n{nonce} python\\n' >&3",
        f"command -v {python} >/dev/null && {python} -c {quote([_PROBE])} >&3 2>&3",
        "exit 0",
    ]
    return "\n".join(lines)
