"""What runs in a host's tmux window: a POSIX sh wrapper around the server, as text.

One script, three roles: without argument it is the wrapper itself (writes the log to the window, runs
the server, cleans up behind it); `start` sheds tmux's environment and loads the one from the bring-up;
`serve` runs the setup lines in the host's shell and becomes the server.

Rules:
- all in one function that is called on the last line: its file may vanish while it runs;
- the wrapper survives HUP, INT and TERM (they are for the server) and is never its reaper's problem;
- a server that did not end in order may have left processes, and a robot that moves: both are ended, in
  that order, before anybody is told that the server is dead;
- code 75 means that another instance holds the lock: leave without a trace; code 0 cleans up all of
  it; everything else leaves exit.json, the log and the window for whoever comes to look;
- whoever waits on a fifo `ready.*` hears of it: `lost`, `gone`, `dead`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

from launcher import family, tmux
from launcher.command import quote
from launcher.errors import InventoryError
from launcher.model import HostSpec, Problem

MACHINE: Final = "@machine"
"""The resource of `exclusive: true`: the whole machine. Equals remote_exec.host.exclusive.MACHINE."""
KEEP_LOGS: Final = 10
VENVS: Final = ".local/share/se-remote/venvs"
"""Under home, on the machine: what `se-remote provision` makes; `current` there leads to the one in use."""

_PROVIDED: Final = f'SE_REMOTE_PYTHON=$(cd "$HOME/{VENVS}/current" 2>/dev/null && pwd -P)/bin/python'
"""Where `current` leads now: a server that runs must not find itself in another one later."""

COMMON: Final = r"""
nap() { sleep 0.05 2>/dev/null || sleep 1; }
tell() {
  for fifo in "$2"/ready.*; do [ -p "$fifo" ] && printf '%s\n' "$1" 1<>"$fifo"; done 2>/dev/null
}
stat_of() {
  stat=; read -r stat 2>/dev/null <"/proc/$1/stat" || return 1
  stat_pid=${stat%% *}
  while case $stat in *') '*) ;; *) false ;; esac; do stat=${stat#*) }; done
}
alive() {
  case $1 in ''|*[!0-9]*) return 1;; esac
  [ "$3" = "$boot" ] && stat_of "$1" || return 1
  set -- "$2" $stat
  case $2 in Z|X|x) return 1;; esac
  [ "${21}" = "$1" ]
}
identify() {
  stat_of "$$"; set -- $stat
  printf '%s %s %s\n' "$$" "${20}" "$boot"
}
begin() {
  [ -e "$run/began" ] || printf '%s-%07d\n' "$(date -u +%Y%m%dT%H%M%SZ)" "$$" >"$run/began"
} 2>/dev/null
ending() {
  ended=vanished; told=
  [ "${how-}" = killed ] && ended=killed
  if read -r told <"$run/exit.json"; then
    ended=${told#*'"stage": "'}; told=${told#*'"code": '}
    ended=${ended%%'"'*}-${told%%[!0-9]*}
  fi
} 2>/dev/null
archive() {
  [ -s "$run/server.log" ] || [ -s "$run/server.log.1" ] || return 0
  # in a container: the machine keeps it
  [ -n "$logs" ] || { rm -f "$run/server.log" "$run/server.log.1" "$run/began" "$run/rotated"; return 0; }
  mkdir -p "$logs" || return 0
  began=; begin; read -r began <"$run/began"
  case $1 in stopped|killed) touch "$run/server.log" ;; esac
  to=$logs/${began:-$(date -u +%Y%m%dT%H%M%SZ)-$$}-$1.log
  if [ -s "$run/server.log.1" ]; then
    cat "$run/server.log" >>"$run/server.log.1" && touch -r "$run/server.log" "$run/server.log.1"
    mv "$run/server.log.1" "$to"
  else
    mv "$run/server.log" "$to"
  fi
  rm -f "$run/server.log" "$run/server.log.1" "$run/began" "$run/rotated"
  ls -1 "$logs" | sort -r | tail -n +11 | while read -r old; do rm -f "$logs/$old"; done
} 2>/dev/null
discard() {
  mv "$run" "$base/.gone.$$" 2>/dev/null || return 0
  tell gone "$base/.gone.$$"
  rm -rf "$base/.gone.$$"
}
nothing_there() {
  listed=$(tmux_at "$1" list-sessions 2>/dev/null)
  ! tmux_hangs "$?" && [ -z "$listed" ]
}
sweep() {
  if [ -S "$base/tmux" ] && nothing_there "$base/tmux"; then
    mv "$base/tmux" "$base/.tmux.$$" 2>/dev/null
    if ! nothing_there "$base/.tmux.$$" && [ ! -e "$base/tmux" ]; then
      mv "$base/.tmux.$$" "$base/tmux"
    else
      rm -f "$base/.tmux.$$"
    fi
  fi
  # a tmux client that comes just after another has started the server leaves its lock behind
  set -- "$base"/*
  [ "$*" = "$base/tmux.lock" ] && rm -f "$base/tmux.lock"
  rmdir "$base" 2>/dev/null
}
"""
"""Shell functions of the wrapper and of the scripts that come by SSH. Need $run, $base, $boot, $logs.

`stat_of PID`: $stat, what stands in its `stat` behind its name, and $stat_pid, its own pid for `self`; not by
`##*) `, for which dash takes as long as for reading it: it tries every beginning. `alive PID START BOOT`:
that very process lives and is no zombie. `archive HOW` keeps the log of a run as
BEGAN-HOW.log: when it began and the wrapper's pid, which is unique and sorts, and how it ended (stopped,
killed, vanished, or STAGE-CODE); what was rotated away comes first in it, so a file is a run.
`discard` renames the run directory before it tells the waiters, so that nobody can begin to wait in it
unheard. `sweep` renames the socket before it removes it: between a look and an `rm` a new tmux server may
have moved in. One that lists no session is on its way out, even if it still answers.
"""

_WRAPPER: Final = r"""
others() {
  look=; begun=; life=
  read -r look begun life 2>/dev/null <"$run/pid" && alive "$look" "$begun" "$life" && return 0
  for file in "$run"/wrapper.*; do
    [ "$file" = "$run/wrapper.$token" ] && continue
    read -r look begun life 2>/dev/null <"$file" && alive "$look" "$begun" "$life" && return 0
  done
  return 1
}
cut_off() {
  while IFS= read -r line; do :; done <&7
  pid=; start=; life=
  if read -r pid start life <"$run/pid" && alive "$pid" "$start" "$life"; then
    kill -TERM "$pid"; kill -CONT "$pid"
  else roots=; family; [ -z "$found" ] || kill -TERM $found; fi
  left=800
  while [ "$left" -gt 0 ]; do left=$((left - 1)); nap; done
  roots=; family; [ -z "$found" ] || kill -KILL $found
}
caught_up() {
  left=40
  while [ "$left" -gt 0 ]; do
    left=$((left - 1)); place=0
    for file in /proc/"$tail"/fd/*; do [ "$(readlink "$file")" = "$run/server.log" ] && break; done
    read -r line place <"/proc/$tail/fdinfo/${file##*/}"
    [ "$place" -ge "$(wc -c <"$run/server.log")" ] && break
    nap
  done 2>/dev/null
  nap
}
se_remote_finish() {
  wait "$beginning"
  [ -z "$carried" ] || { caught_up; kill -KILL "$cutting"; wait "$cutting"; } 2>/dev/null
  # Not TERM: a shell forgets its traps only some time after it has forked, and until then takes what comes
  # for itself. The `wait`: bash would say in the window that it was killed.
  kill -KILL "$tail" 2>/dev/null; wait "$tail" 2>/dev/null
  # What stands there by now is another's when our directory was taken away.
  [ -e "$run/run.$token" ] || { T kill-pane -t "$TMUX_PANE" 2>/dev/null; sweep; return; }
  if [ "$code" = 75 ] && [ "$stage" = server ]; then
    rm -f "$run/wrapper.$token" "$run/run.$token" "$run/env.$token" "$run/setup.$token" "$run/server.$token" \
      "$run/onstop.$token" "$run/served.$token"
    [ -p "$run/ready.$token" ] && printf 'lost\n' 1<>"$run/ready.$token"
    T kill-pane -t "$TMUX_PANE" 2>/dev/null
    sweep
  elif [ "$code" = 0 ] && [ "$stage" = server ]; then
    wake; windows=$(own_windows); archive stopped; discard; close_windows "$windows"; sweep
  else
    if [ "$stage" = server ] && ! others; then
      end_family
      make_safe "the server ended with code $code"
      rm -f "$run/pid"
    fi
    printf '{"stage": "%s", "code": %d, "time": %d}\n' "$stage" "$code" "$(date +%s)" >"$run/.exit.$$"
    mv "$run/.exit.$$" "$run/exit.json"
    touch "$run/server.log"
    rm -f "$run/wrapper.$token" "$run/env.$token" "$run/served.$token"
    tell dead "$run"
    printf '\n[se-remote: %s ended with code %s]\n' "$stage" "$code"
  fi
}
se_remote_wrap() {
  trap : HUP INT TERM
  run=${0%/*}; base=${run%/*}; logs=$1; carried=$2  # not by HOME: the one here is that of an old tmux server
  read -r boot </proc/sys/kernel/random/boot_id
  identify >"$run/wrapper.$token"
  true >"$run/served.$token"  # made here: later the umask is the user's
  begin &
  beginning=$!
  tail -n +1 -f "$run/server.log" 2>/dev/null &
  tail=$!
  if [ -n "$carried" ]; then
    exec 7<&0
    cut_off >/dev/null 2>&1 &
    cutting=$!
    exec 7<&-
  fi
  env -i sh "$0" start </dev/null >>"$run/server.log" 2>&1
  code=$?
  trap '' HUP INT TERM
  stage=; read -r stage 2>/dev/null <"$run/stage"
  # the file is everybody's: another bring-up may have written it last
  if [ -s "$run/served.$token" ]; then stage=server; elif [ "$stage" = server ]; then stage=start; fi
  se_remote_finish
  [ -n "$carried" ] || return 0
  if [ "$stage" = server ]; then exit "$code"; fi
  case $code in 0|75) exit 1 ;; *) exit "$code" ;; esac
}
"""
"""In a container, `carried`: stdin is the life line. When it ends, nobody holds the container any more: the
server is ended in order (`cut_off`), after 40 s by force. What the server said last is to reach the
window and the log there (`caught_up`), and the exit code says how it ended.

`others`: another instance is up or on its way in this run directory; what carries its mark is not ours."""


def default_server(spec: HostSpec, token: str, *, keep: float | None, started_by: str, what: str) -> str:
    """The shell words that start the server of `spec`; the run directory comes from the environment.

    `keep`: see bootstrap.Starting.
    """
    options = [
        *(["--ephemeral"] if keep is None else ["--keep", f"{keep:g}"]),
        "--name",
        spec.name,
        "--config-hash",
        spec.config_hash,
    ]
    if spec.exclusive:
        options += ["--exclusive", exclusive_resource(spec)]
    # In one word each: what a client calls itself may begin with a dash.
    options += ["--lease", f"{spec.lease:g}", f"--started-by={started_by}", f"--what={what}"]
    if spec.on_stop:
        options += ["--on-stop-file"]
    file = f' "$SE_REMOTE_RUN"/{quote([f"onstop.{token}"])}' if spec.on_stop else ""
    python = _server_python(spec)
    return f'{python} -m remote_exec.server --run-dir "$SE_REMOTE_RUN" {quote(options)}{file}'


def _server_python(spec: HostSpec) -> str:
    """The shell word for the interpreter of the server; `_start` has set the variable."""
    return '"$SE_REMOTE_PYTHON"' if spec.provided else path_word(spec.interpreter)


def exclusive_resource(spec: HostSpec) -> str:
    """What of its machine one client at a time may have; "" when nothing is exclusive."""
    return MACHINE if spec.exclusive is True else spec.exclusive or ""


def path_word(path: str) -> str:
    """`path` as one shell word; a leading `~` or `~user` is the shell's to expand."""
    match = re.match(r"~([a-z_][a-z0-9_-]*)?(?=/|$)", path)
    if match is None:
        return quote([path])
    rest = path[match.end() :]
    home = '"$HOME"' if match.group(1) is None else match.group(0)
    return home + (quote([rest]) if rest else "")


def environment_lines(spec: HostSpec) -> str:
    """`export` lines for `spec.env`, values quoted, a leading `~` expanded on the machine."""
    return export_lines(spec.env, f"hosts.{spec.name}.env")


def export_lines(env: Mapping[str, str], path: str) -> str:
    """The same for any variables; `path` says where in the inventory they stand."""
    lines = []
    for key, value in env.items():
        if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", key) or "\0" in value:
            message = f"{key!r} cannot be set as an environment variable"
            raise InventoryError([Problem(message, path=path)])
        word = path_word(value) if value == "~" or value.startswith("~/") else quote([value])
        lines.append(f"export {key}={word}\n")
    return "".join(lines)


def wrapper_script(spec: HostSpec, slug: str, token: str) -> str:
    """The window's script for `spec`. `token` tells this bring-up's files from another's."""
    return "\n".join(
        [
            f"name={quote([slug])}; token={quote([token])}; session=",
            COMMON,
            tmux.SHELL_FUNCTIONS,
            family.FAMILY,
            _WRAPPER,
            "se_remote() {",
            '  case "${1-}" in',
            "  start)",
            _start(spec),
            "  ;; serve)",
            _serve(spec),
            '  ;; *) se_remote_wrap "$2" "${3-}"',
            "  esac",
            "}",
            'se_remote "$@"',
            "",
        ]
    )


def _start(spec: HostSpec) -> str:
    """Runs under `env -i`: load the bring-up's environment, go home, change to the host's shell."""
    lines = [
        'SE_REMOTE_RUN=${0%/*}; . "$SE_REMOTE_RUN/env.$token"',
        "SE_REMOTE_RUN=${0%/*}; export SE_REMOTE_RUN",
        "printf 'shell\\n' >\"$SE_REMOTE_RUN/stage\"",
        f'tell {"setup" if spec.setup.strip() else "start"} "$SE_REMOTE_RUN"',
        'cd "$HOME" 2>/dev/null || cd /',
    ]
    if spec.provided:
        lines += [_PROVIDED, f'[ -x "$SE_REMOTE_PYTHON" ] || SE_REMOTE_PYTHON={path_word(spec.interpreter)}']
        lines += ["export SE_REMOTE_PYTHON"]
    box = spec.docker
    if box is not None and box.workdir is not None:
        wrong = "{ printf 'workdir\\n' >\"$SE_REMOTE_RUN/stage\"; exit 1; }"
        lines += [f"cd {path_word(box.workdir)} || {wrong}", 'export SE_REMOTE_WORKDIR="$PWD"']
    if box is not None and box.login:
        return "\n".join([*lines, *_login(spec)])
    if spec.shell is not None:
        if re.fullmatch(r"(?:.*/)?(fish|csh|tcsh|pwsh|nu)", spec.shell):
            problem = Problem(f"{spec.shell} cannot run setup lines: use bash, sh, zsh or ksh")
            raise InventoryError([problem])
        lines += [f"shell={path_word(spec.shell)}"]
        lines += ['command -v "$shell" >/dev/null || { echo "se-remote: no shell $shell here"; exit 127; }']
        lines += ['exec "$shell" "$0" serve']
    elif _plain(spec):
        lines += ["se_remote serve"]  # one shell start less on the way to the first action
    else:
        lines += ['command -v bash >/dev/null && exec bash "$0" serve', 'exec sh "$0" serve']
    return "\n".join(lines)


def _login(spec: HostSpec) -> list[str]:
    """An interactive shell, since rc files return early in others; without its words about having no tty."""
    wanted = [path_word(spec.shell)] if spec.shell is not None else ["bash", "sh"]
    lines = []
    for shell in wanted:
        lines += [
            f'command -v {shell} >/dev/null && exec {shell} -i "$0" serve 9>&2 2>"$SE_REMOTE_RUN/rc.$token"'
        ]
    return [*lines, f'echo "se-remote: no shell {wanted[0]} here"; exit 127']


def _plain(spec: HostSpec) -> bool:
    return not spec.setup.strip() and spec.server.strip() == "{server}"


def _serve(spec: HostSpec) -> str:
    """Setup in this very shell, each step writing first what it is about to do; then become the server."""
    lines = ["set --"]  # what `setup` sources must not see our arguments
    if spec.docker is not None and spec.docker.login:
        noise = "-e 'cannot set terminal process group' -e 'no job control in this shell'"
        lines += [
            f'exec 2>&9 9>&-; grep -v {noise} "$SE_REMOTE_RUN/rc.$token" >&2',
            'rm -f "$SE_REMOTE_RUN/rc.$token"',
            # as in a script: no history in what setup says, and processes that stay together
            '[ -z "${BASH_VERSION-}" ] || set +H +m',
        ]
    if spec.setup.strip():
        lines += [
            "printf 'setup\\n' >\"$SE_REMOTE_RUN/stage\"",
            '. "$SE_REMOTE_RUN/setup.$token"',
            "se_remote_code=$?",
            '[ "$se_remote_code" = 0 ] || exit "$se_remote_code"',
            # in a subshell: in zsh a pattern without a match is an error
            '(tell start "$SE_REMOTE_RUN") 2>/dev/null',
        ]
    if "{server}" in spec.server:
        python = _server_python(spec)
        lines += [
            "printf 'python\\n' >\"$SE_REMOTE_RUN/stage\"",
            f'command -v {python} >"$SE_REMOTE_RUN/python" ||',
            f'  {{ echo "se-remote: there is no" {python}; exit 127; }}',
        ]
    lines += ['printf \'server\\n\' >"$SE_REMOTE_RUN/stage"; echo yes >"$SE_REMOTE_RUN/served.$token"']
    lines += ['. "$SE_REMOTE_RUN/server.$token"']
    return "\n".join(lines)


def on_stop_file(spec: HostSpec) -> str:
    """The `on_stop` command as a POSIX sh script that continues in the host's shell."""
    chosen = f"exec {path_word(spec.shell)}" if spec.shell is not None else ""
    first = chosen or 'command -v bash >/dev/null && exec bash "$0"; exec sh'
    return (
        f'[ -n "${{SE_REMOTE_SHELL-}}" ] || {{ export SE_REMOTE_SHELL=yes; {first} "$0"; }}\n{spec.on_stop}\n'
    )


def server_file(spec: HostSpec, token: str, *, keep: float | None, started_by: str, what: str) -> str:
    """What `serve` ends with; a file of its own, so that a quote left open in it breaks nothing else."""
    default = default_server(spec, token, keep=keep, started_by=started_by, what=what)
    template = spec.server.strip()
    command = template.replace("{server}", default)
    rest = template.removeprefix("{server}")
    if rest != template and not re.search(r"[;&|<>()`$\n]", rest):
        return f"exec {command}\n"
    # it may be a list of commands: then this shell stays, and must outlive the window's signals
    return f"trap : HUP INT TERM\n{command}\nexit $?\n"
