"""Decisions about servers, purely: names, replies of the scripts, what to do next, which error it is.

    reply of bring_up    →  Found (running, ready)  │ StageError (refused, dead, timeout, none)
    Found + HostSpec     →  "use" │ "replace" │ Conflict
    reply of stop        →  Stopped
    reply of status      →  one HostStatus per run directory or window

No clock, no environment, no process: values in, values out.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final

from launcher import __version__, tmux
from launcher.command import quote
from launcher.errors import (
    Conflict,
    LauncherError,
    NoServer,
    NotReady,
    StageError,
    StartFailed,
    Unreachable,
)
from launcher.model import Completed, HostSpec, Stage, State

WIRE: Final = 2
"""The wire version that the server must speak; equals remote_exec.messages.WIRE_VERSION."""
UNSAFE: Final = "THE ROBOT MAY NOT BE IN A SAFE STATE"
"""In what a failed `on_stop` says; equals remote_exec.host.safe_state.UNSAFE."""
SILENT: Final = "the server did not answer whether it is in use; what it wrote last has decided"
_SLUG_CHARS: Final = 48
_RESERVED: Final = frozenset({"tmux", "-"})


@dataclass(frozen=True)
class Reply:
    """The sections of a script's answer, in order."""

    sections: tuple[tuple[str, str], ...]

    def get(self, name: str) -> str:
        """The first section of that name, "" without one."""
        return next((text for key, text in self.sections if key == name), "")

    @property
    def verb(self) -> str:
        return self.get("verb")


@dataclass(frozen=True)
class Found:
    """A server that answers to its files: `endpoint` and `state` are its own endpoint.json, state.json."""

    run_dir: str
    started: bool
    """By this very bring-up."""
    endpoint: Mapping[str, Any]
    state: Mapping[str, Any]
    began: str = ""
    """Names this run of the server among the logs of its host; "" when that is not known."""
    written: int = 0
    """Bytes of its log when it was found; 0 when it was started."""


@dataclass(frozen=True)
class Stopped:
    """What a stop did. how: none (nothing was there), dead, graceful, killed, used (left running)."""

    how: str
    left: tuple[str, ...] = ()
    users: tuple[str, ...] = ()
    sessions: tuple[Mapping[str, Any], ...] = ()
    """Of state.json: those that go on, or that were ended with it."""
    kept: bool = False
    on_stop: tuple[str, ...] = ()
    """What the host's `on_stop` said while the server was stopped."""
    silent: bool = False
    """The server did not say whether it is in use: what it wrote last has decided."""

    @property
    def unsafe(self) -> bool:
        """Whether `on_stop` failed."""
        return any(UNSAFE in line for line in self.on_stop)


@dataclass(frozen=True)
class HostStatus:
    """What `status` saw of one host; `endpoint`, `state`, `exit` are the files as far as they exist."""

    name: str
    state: State
    reason: str = ""
    endpoint: Mapping[str, Any] = field(default_factory=dict)
    server_state: Mapping[str, Any] = field(default_factory=dict)
    exit: Mapping[str, Any] = field(default_factory=dict)
    error: LauncherError | None = None
    """Why it is unreachable."""
    clock: float | None = None
    """Epoch seconds on the machine's own clock, when this was seen."""

    container: str = ""
    """Of one in a container: the file that says in which."""
    container_state: str = ""
    """The engine's word for how that container is."""
    held: frozenset[str] = frozenset()
    """What is exclusive on that machine and somebody has, on whichever account."""

    @property
    def kept(self) -> bool:
        """It is kept up by hand."""
        return self.server_state.get("ephemeral") is False

    @property
    def kept_left(self) -> float | None:
        """Seconds for which it is kept up; None when it is not, or until it is killed. Needs `clock`."""
        until = self.server_state.get("kept_until")
        if not isinstance(until, (int, float)) or self.clock is None:
            return None
        return max(0.0, until - self.clock)


def slug(name: str) -> str:
    """`name` as a directory and window name: unchanged where it can be, else with a hash of it."""
    cleaned = re.sub(r"[^A-Za-z0-9_+-]", "-", name).lstrip("-")[:_SLUG_CHARS] or "host"
    if cleaned == name and name not in _RESERVED:
        return name
    return f"{cleaned[: _SLUG_CHARS - 9]}-{hashlib.sha256(name.encode()).hexdigest()[:8]}"


def parse_reply(stdout: bytes, nonce: str) -> Reply | None:
    """The framed sections in `stdout`; None when the frame is not there or not complete."""
    text = "\n" + stdout.decode("utf-8", "replace")
    pieces = re.split(rf"\n{re.escape(nonce)} ([a-z_]+)\n", text)  # by `(?:^|\n)` it takes ten times as long
    names, bodies = pieces[1::2], pieces[2::2]
    if "end" not in names:
        return None
    last = names.index("end")
    return Reply(tuple((n, b.removesuffix("\n")) for n, b in zip(names[:last], bodies[:last], strict=True)))


def stages(stdout: bytes, nonce: str) -> list[tuple[Stage, str]]:
    """The stages that an answer, as far as it has come, says it has entered; a remark repeats its stage."""
    pattern = rb"(?:^|\n)" + re.escape(nonce.encode()) + rb" (at|note)\n([^\n]+)(?=\n)"
    found: list[tuple[Stage, str]] = []
    for kind, text in re.findall(pattern, stdout):
        words = text.decode("utf-8", "replace")
        if kind == b"at":
            found.append((Stage(words), ""))
        elif found:
            found.append((found[-1][0], words))
    return found


def window(stdout: bytes, nonce: str) -> str:
    """The run directory for which an answer, as far as it has come, wants a window; "" for none."""
    found = re.search(rb"(?:^|\n)" + re.escape(nonce.encode()) + rb" window\n([^\n]+)\n", stdout)
    return found.group(1).decode("utf-8", "replace") if found else ""


def read_json(text: str) -> Mapping[str, Any]:
    """A JSON object; {} for anything else (a file may be half there)."""
    try:
        value = json.loads(text)
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}


def no_frame(host: str, done: Completed) -> StageError:
    """The error for an exec that did not answer in its frame."""
    if done.exit_code is None:
        return Unreachable(host, Stage.CONNECT, "the connection was cut before the machine answered")
    said = (done.stderr or done.stdout).decode("utf-8", "replace").strip().splitlines()[-5:]
    cause = f"the login shell did not run `sh` (exit code {done.exit_code})"
    return StartFailed(host, Stage.SHELL, cause, "ssh HOST 'exec sh -c id'", said)


def read_bring_up(spec: HostSpec, reply: Reply) -> Found:
    """What the bring-up found or started; raises StageError when there is no server."""
    try:
        return _found(spec, reply)
    except StageError as error:
        error.began = reply.get("began").strip()
        raise


def _found(spec: HostSpec, reply: Reply) -> Found:
    verb = reply.verb
    tail = reply.get("log").splitlines()[-20:]
    if verb in ("running", "ready"):
        endpoint = read_json(reply.get("endpoint"))
        if not endpoint.get("socket"):
            cause = "the server ended while it was looked at; has somebody stopped it?"
            raise StartFailed(spec.name, Stage.START, cause, f"se-remote logs {spec.name}", tail)
        started, written = reply.get("started") == "yes", reply.get("written")
        return Found(
            reply.get("run"), started, endpoint, read_json(reply.get("state")), reply.get("began").strip(),
            0 if started or not written.isdecimal() else int(written),
        )  # fmt: skip
    if verb == "refused":
        stage = Stage(reply.get("stage"))
        raise StartFailed(spec.name, stage, reply.get("cause"), reply.get("next"))
    if verb == "dead":
        raise _died(spec, reply, tail)
    if verb == "timeout":
        at = reply.get("stage") or "start"
        cause = f"no answer within {spec.ready_timeout:g} s, the last step was `{at}`"
        holders = re.findall(r"/proc/(\d+)/", reply.get("holders"))
        if holders and not reply.get("stage"):
            cause += f"; still there from before: pid {', '.join(holders)}"
        raise NotReady(spec.name, Stage.READY, cause, f"se-remote logs {spec.name}", tail)
    raise StartFailed(spec.name, Stage.START, f"unexpected answer {verb!r}")


def _died(spec: HostSpec, reply: Reply, tail: Sequence[str]) -> StageError:
    exit_info = read_json(reply.get("exit"))
    at, code = str(exit_info.get("stage", "")), exit_info.get("code")
    how = f"exit code {code}" if not isinstance(code, int) or code <= 128 else f"signal {code - 128}"
    version = reply.get("python")
    numbers = re.fullmatch(r"(\d+)\.(\d+)\.\d+", version)
    if at == "workdir" and spec.docker is not None:
        denied = "ermission denied" in "\n".join(tail)
        what = "the user there may not enter {}" if denied else "there is no {} in the container"
        cause, step = what.format(spec.docker.workdir), f"edit `docker.workdir` {_where(spec)}"
        return StartFailed(spec.name, Stage.CONTAINER, cause, step, tail)
    if at in ("setup", "shell"):
        stage = Stage.SETUP if at == "setup" else Stage.SHELL
        how = "it ended the shell" if code == 0 else how
        return StartFailed(spec.name, stage, f"`{at}` failed ({how})", f"edit `{at}` {_where(spec)}", tail)
    if at == "python":
        cause = f"there is no {spec.interpreter} on {spec.machine}"
        step = f"install it, or set `python` {_where(spec)}"
        if not spec.provided and not spec.is_here:
            step = f"correct `python` {_where(spec)}, or take it out there and: {_provision(spec)}"
        return StartFailed(spec.name, Stage.PYTHON, cause, step, tail)
    if numbers and (int(numbers.group(1)), int(numbers.group(2))) < (3, 10):
        cause = f"{spec.interpreter} is Python {version}; 3.10 or newer is needed"
        return StartFailed(spec.name, Stage.PYTHON, cause, f"set `python` {_where(spec)}", tail)
    missing = re.search(r"No module named '?([\w.]+)", "\n".join(tail))
    if missing:
        cause = f"{spec.interpreter} on {spec.machine} cannot import {missing.group(1)} ({how})"
        return NoServer(spec.name, Stage.PYTHON, cause, provision_step(spec), tail)
    return StartFailed(
        spec.name, Stage.START, f"the server ended at once ({how})", f"se-remote logs {spec.name}", tail
    )


def provision_step(spec: HostSpec) -> str:
    """The command that has the server there, as it is typed."""
    command = _provision(spec)
    if spec.provided:
        return command
    return f"install se-remote for that python, or take `python` out {_where(spec)} and: {command}"


def _provision(spec: HostSpec) -> str:
    return f"se-remote provision {quote([spec.name])}"


def other_wire(spec: HostSpec, found: Found) -> NoServer:
    """The error for a server that was started just now and speaks another wire version."""
    theirs, wire = found.endpoint.get("version"), found.endpoint.get("wire")
    cause = (
        f"se-remote {theirs} on {spec.machine} speaks wire version {wire}, this one ({__version__}) {WIRE}"
    )
    newer = isinstance(wire, int) and wire > WIRE
    step = provision_step(spec)
    if newer:
        step = f"a newer se-remote here, or, to have this one there: {step}"
    return NoServer(spec.name, Stage.PYTHON, cause, step)


def skew(name: str, endpoint: Mapping[str, Any]) -> str:
    """A line about a server of another version that understands us; "" for one of ours."""
    theirs = endpoint.get("version")
    if theirs == __version__ or endpoint.get("wire") != WIRE:
        return ""
    step = f"to have the same there: se-remote provision {quote([name])}"
    return f"runs se-remote {theirs}, this is {__version__}; they fit together ({step})"


def _where(spec: HostSpec) -> str:
    return f"of {spec.name} in {spec.source}" if spec.source else f"of {spec.name} in the inventory"


def fits(spec: HostSpec, found: Found) -> bool:
    """Whether the running server was started as `spec` says, and speaks our wire version."""
    return found.endpoint.get("config") == spec.config_hash and found.endpoint.get("wire") == WIRE


def users(found: Found) -> tuple[str, ...]:
    """Who uses the server, in words; empty when it may be replaced. Kept by hand counts as used."""
    texts = [user_text(session) for session in found.state.get("sessions") or ()]
    if not texts and found.state.get("ephemeral") is False:
        texts = [f"kept up by {found.endpoint.get('started_by') or 'someone'}"]
    return tuple(texts)


def user_text(session: Mapping[str, Any]) -> str:
    """One session of state.json in words."""
    client = session.get("client") or {}
    who = f"{client.get('user', '?')}@{client.get('machine', '?')} (pid {client.get('pid', '?')})"
    return who + (f" for {client['what']}" if client.get("what") else "")


def others(sessions: Iterable[Mapping[str, Any]], but: Mapping[str, str]) -> tuple[str, ...]:
    """Who has these sessions, in words, each once; without the clients that say all of `but` in `hello`."""

    def mine(session: Mapping[str, Any]) -> bool:
        client = session.get("client") or {}
        return bool(but) and all(client.get(key) == value for key, value in but.items())

    return tuple(dict.fromkeys(user_text(session) for session in sessions if not mine(session)))


def _sessions(state: Mapping[str, Any]) -> tuple[Mapping[str, Any], ...]:
    """Of a state.json; what cannot be one is passed over."""
    sessions = state.get("sessions")
    found = [s for s in sessions if isinstance(s, dict)] if isinstance(sessions, list) else []
    return tuple(s for s in found if isinstance(s.get("client") or {}, dict))


def conflict(spec: HostSpec, found: Found) -> Conflict:
    """The error for a server that does not fit and is in use."""
    why = "was started with another configuration"
    if found.endpoint.get("wire") != WIRE:
        why = f"speaks wire version {found.endpoint.get('wire')}, not {WIRE}"
    text = f"{spec.name}: the server on {spec.machine} {why} and is in use: {'; '.join(users(found))}"
    return Conflict(text, f"wait for them, or: se-remote kill --force {spec.name}")


def read_stop(host: str, reply: Reply, but: Mapping[str, str] | None = None) -> Stopped:
    """What the stop did; `but`: as it was asked. Raises StageError when the machine refused."""
    if reply.verb == "refused":
        raise StartFailed(host, Stage.STOP, reply.get("cause"), reply.get("next"))
    state, silent = read_json(reply.get("state")), reply.get("silent") == "yes"
    sessions, kept = _sessions(state), state.get("ephemeral") is False
    if reply.verb == "used":
        found = Found("", False, read_json(reply.get("endpoint")), state)
        who = others(sessions, but or {}) or users(found) or ("somebody who has just found it",)
        return Stopped("used", users=who, sessions=sessions, kept=kept, silent=silent)
    left = tuple(line for line in reply.get("left").splitlines() if line.strip())
    said = tuple(line for line in reply.get("onstop").splitlines() if line.strip())
    how = reply.get("how") or "none"
    return Stopped(how, left, others(sessions, {}), sessions, kept, said, silent)


def read_status(names: Iterable[str], reply: Reply) -> tuple[HostStatus, ...]:
    """A status for each of `names` (slugs) and for everything else that was found there."""
    if reply.verb == "refused":
        raise StartFailed("status", Stage(reply.get("stage")), reply.get("cause"), reply.get("next"))
    found: dict[str, dict[str, str]] = {}
    current: dict[str, str] = {}
    for key, text in reply.sections:
        if key == "host":
            current = found.setdefault(text, {})
        else:
            current[key] = text
    windows = tmux.parse_windows(reply.get("windows"))
    wanted = dict.fromkeys([*names, *found])
    now = reply.get("now")
    clock = float(now) if now.isdecimal() else None
    held = frozenset(line.rpartition("/")[2] for line in reply.get("held").splitlines())
    return tuple(
        replace(_one_status(name, found.get(name), windows), clock=clock, held=held) for name in wanted
    )


def _one_status(name: str, seen: Mapping[str, str] | None, windows: Sequence[tmux.Window]) -> HostStatus:
    if seen is None:
        if any(w.name == name and not w.owner for w in windows):
            return HostStatus(name, State.CONFLICT, "a tmux window of that name is not ours")
        return HostStatus(name, State.STOPPED)
    status = _seen_status(name, seen)
    box = seen.get("container", "")
    return replace(status, container=box, container_state=seen.get("box_state", "")) if box else status


def _seen_status(name: str, seen: Mapping[str, str]) -> HostStatus:
    endpoint, state = read_json(seen.get("endpoint", "")), read_json(seen.get("state", ""))
    exit_info = read_json(seen.get("exit", ""))
    if seen.get("seen") == "running":
        frozen = seen.get("frozen", "").split()
        if frozen:
            pids = " ".join(frozen)
            reason = (
                f"stopped by a signal (SIGSTOP), so it does not answer: pid {pids}\ntry: kill -CONT {pids}"
            )
            return HostStatus(name, State.RUNNING, reason, endpoint, state)
        return HostStatus(name, State.READY, "", endpoint, state)
    if seen.get("seen") == "starting":
        return HostStatus(name, State.STARTING, seen.get("stage", ""), endpoint, state)
    code = exit_info.get("code")
    reason = f"{exit_info.get('stage')} ended with code {code}" if exit_info else "it vanished without a word"
    reason = str(exit_info.get("reason") or reason)
    for line in seen.get("remains", "").splitlines():
        reason += f"\nstill running: pid {line}"
    if seen.get("unsafe"):
        reason += "\non_stop has not run"
    if seen.get("unsafe") or seen.get("remains"):
        reason += f"\nended by: se-remote kill {name}"
    return HostStatus(name, State.DEAD, reason, endpoint, state, exit_info)


def is_machine(spec: HostSpec) -> bool:
    """Whether it is of no inventory: a machine by itself, as `user@machine` on the command line."""
    return "@" in spec.name


def belonging(
    hosts: Sequence[HostSpec], seen: Iterable[HostStatus]
) -> dict[str, list[tuple[HostSpec, HostStatus]]]:
    """By the name of each of `hosts`, which are on one machine: its own status, and those of what is its too.

    That is: its variants; and everything there, when it is not of an inventory but a machine by itself.
    """
    statuses = {one.name: one for one in seen}
    result = {host.name: [(host, statuses.pop(host.name))] for host in hosts}
    for name, status in statuses.items():
        owner = next((h for h in hosts if name.startswith(f"{h.name}+") or is_machine(h)), None)
        if owner is not None:
            result[owner.name].append((replace(owner, name=name), status))
    for pairs in result.values():
        if len(pairs) > 1 and is_machine(pairs[0][0]) and pairs[0][1].state is State.STOPPED:
            del pairs[0]  # it only stands for its machine
    return result


def after_overlap(seen: Sequence[str], lines: Sequence[str]) -> tuple[list[str], bool]:
    """The part of `lines` that comes behind what was `seen`, and whether the two join without a gap."""
    for size in range(min(len(seen), len(lines)), 0, -1):
        window = list(seen[-size:])
        for start in range(len(lines) - size, -1, -1):
            if list(lines[start : start + size]) == window:
                return list(lines[start + size :]), True
    return list(lines), not seen


def joined(errors: Sequence[LauncherError]) -> LauncherError:
    """One error for several hosts: the worst exit code wins; all their texts, each with its next step."""
    if len(errors) == 1:
        return errors[0]
    texts = [f"{e}\n    try: {e.next_step}" if e.next_step else str(e) for e in errors]
    combined = LauncherError("\n".join(texts))
    combined.exit_code = max(e.exit_code for e in errors)
    return combined
