"""What is said to the agent on a machine and what it says, decided purely: text in, values out.

The grammar is in `launcher.processes.agent`.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from urllib.parse import quote as percent

from launcher import plan, tmux
from launcher.command import quote
from launcher.docker import Box
from launcher.errors import InventoryError
from launcher.model import Problem, ReadyCheck, State
from launcher.processes.agent import agent_text, window_text
from launcher.processes.model import Change, Key, Launch
from launcher.wrapper import export_lines, path_word

_TICKS_PER_S = 50
_KILL_S = 2.0
_UNFIT = re.compile(r"(?:.*/)?(fish|csh|tcsh|pwsh|nu)")


def path_of(key: Key) -> str:
    """The run directory of a process, below `.processes`; also the option that its window carries."""
    return f"{tmux.session_name(key.session)}/{plan.slug(key.name)}"


def room_of(user: Key | str) -> str:
    """The run directory of a process, or of a host's server, below the base."""
    return f".processes/{path_of(user)}" if isinstance(user, Key) else plan.slug(user)


def word(text: str) -> str:
    """`text` as one word that no shell and no line splits: tokens and names of leases."""
    return percent(text, safe="") or "-"


def line(text: str) -> str:
    """`text` as one line."""
    return " ".join(text.split())


def assignments(values: Mapping[str, str]) -> str:
    return "\n".join(f"{name}={quote([value])}" for name, value in values.items())


def agent(base: str) -> str:
    """What `Runner.open` is given."""
    values = {"base": base, "name": "-", **window_text()}
    return agent_text(assignments(values)) + "agent"


def start(launches: Sequence[Launch], boxes: Sequence[Entered] = ()) -> str:
    """The command that starts these. Raises InventoryError for what no shell can do."""
    where = {key: number for number, box in enumerate(boxes, 1) for key in box.keys}
    items = [_item(number, launch, where.get(launch.key)) for number, launch in enumerate(launches, 1)]
    texts = [_box(number, entered) for number, entered in enumerate(boxes, 1)]
    if boxes:
        texts.append(assignments({"items_text": "\n".join(items)}))
    return "\n".join([*items, *texts, f"boxes={len(boxes)}", f"start_all {len(launches)}", ""])


@dataclass(frozen=True)
class Entered:
    """A container that was entered for some launches, with the mark that says so."""

    box: Box
    mark: str
    keys: frozenset[Key]


def _box(number: int, entered: Entered) -> str:
    box = entered.box
    values = {
        "engine": box.engine, "box": box.id, "bkey": box.key, "as": f"--user={box.user}" if box.user else "",
    }  # fmt: skip
    more = {**values, "box_user": box.user, "btoken": entered.mark, "box_text": assignments(values)}
    return f"box_{number}() {{\n{assignments(more)}\n}}"


def _item(number: int, launch: Launch, boxed: int | None) -> str:
    spec, key = launch.spec, launch.key
    shells = shell_words(spec.shell, spec.name)
    check = spec.ready_check
    if any("\0" in text for text in (spec.cmd, spec.setup, check.command if check else "")):
        raise InventoryError(
            [Problem("a command cannot hold a NUL character", path=f"processes.{spec.name}")]
        )
    seen_by_wrapper = {
        "key": path_of(key), "token": word(launch.token), "lease": word(launch.lease) if launch.lease else "",
        "shells": shells, "oneshot": "" if spec.persistent else "yes",
        "probe": probe(check) if check is not None else "",
        "place": (spec.docker.workdir or "") if spec.docker is not None else "",
        "behind": " ".join(map(room_of, launch.behind)),
    }  # fmt: skip
    values = {
        **seen_by_wrapper,
        "session": tmux.session_name(key.session), "slug": plan.slug(key.name), "hash": launch.config_hash,
        "by": line(launch.started_by), "what": line(launch.what), "boxed": str(boxed or ""),
        "shown": line(key.name),
        "keep": "yes" if spec.persistent else "no", "values": assignments(seen_by_wrapper),
        "env": export_lines(spec.env, f"processes.{spec.name}.env"), "setup": spec.setup.strip(),
        "recipe": launch.recipe.text(), "cmd": spec.cmd, "check": check.command if check is not None else "",
        "login": "yes" if spec.login or (spec.docker is not None and spec.docker.login) else "",
    }  # fmt: skip
    return f"item_{number}() {{\n{assignments(values)}\n}}"


def probe(check: ReadyCheck) -> str:
    """The check as a command of the wrapper's shell: exit code 0 when the process is ready."""
    if check.command:
        return "run_check"
    if check.log:
        return f"log_has {quote([check.log])}"
    if check.port:
        return f"grep -qs ':{check.port:04X} [0-9A-F]*:[0-9A-F]* 0A ' /proc/net/tcp /proc/net/tcp6"
    return f"[ -e {path_word(check.file)} ]"


def shell_words(shell: str | None, name: str) -> str:
    """The shells that may run it, in order, as words."""
    if shell is None:
        return "bash sh"
    if _UNFIT.fullmatch(shell):
        text = f"{shell} cannot run setup lines: use bash, sh, zsh or ksh"
        raise InventoryError([Problem(text, path=f"processes.{name}.shell")])
    return shell


def stop(
    keys: Sequence[Key], *, force: bool, quits: Collection[Key], grace: float, tokens: Mapping[Key, str]
) -> str:
    """The command that stops these. `grace`: seconds for INT; half of it for TERM; then KILL."""
    steps = f"KILL:{int(_KILL_S * _TICKS_PER_S)}"
    if not force:
        ticks = max(1, int(grace * _TICKS_PER_S))
        steps = f"INT:{ticks} TERM:{max(1, ticks // 2)} {steps}"
    words = []
    for key in keys:
        token = word(tokens[key]) if key in tokens else ""
        words.append(f"{path_of(key)}:{token}" + (":quit" if key in quits else ""))
    return f"stop_all {quote([steps])} {quote([' '.join(words)])}\n"


def last_lines(path: str, token: str, number: int) -> str:
    return f"last_lines {quote([path, token, str(number)])}\n"


@dataclass(frozen=True)
class Told:
    """A line `c`: what became of a process."""

    path: str
    token: str
    state: State
    code: int | None
    signal: int | None
    reason: str = ""
    answer: bool = False
    """To a launch: this is what runs there already, as it is wanted."""


@dataclass
class Answer:
    """What the agent said for one command, as far as it has come."""

    failed: tuple[str, str, str] | None = None
    """Stage, cause, next step."""
    lines: list[str] = field(default_factory=list)
    stopped: dict[str, tuple[str, int | None, int | None]] = field(default_factory=dict)
    """By path: how, exit code, signal."""
    users: dict[str, str] = field(default_factory=dict)
    """By path: who needs it, of those that are used."""
    left: dict[str, list[str]] = field(default_factory=dict)


def read_change(text: str) -> Told | None:
    """Of a line behind `c `; None for one of another form (of a wrapper of another version)."""
    words = text.split(" ", 6)
    if len(words) < 6:
        return None
    path, token, state, code, signal = words[:5]
    if state not in _STATES:
        return None
    number, sign = ending(code, signal)
    reason = words[6] if len(words) > 6 else ""
    return Told(path, token, State(state), number, sign, reason, answer=words[5] == "0")


_STATES = frozenset(state.value for state in State)


def ending(code: str, signal: str) -> tuple[int | None, int | None]:
    """Exit code or signal of one that ended; neither of one that has not."""
    if not code.isdecimal():
        return None, None
    if signal.isdecimal() and int(signal):
        return None, int(signal)
    return int(code), None


def stopped(key: Key, answer: Answer) -> Change:
    """What became of a process that was to be stopped."""
    path = path_of(key)
    how, code, signal = answer.stopped.get(path, ("none", None, None))
    left = tuple(answer.left.get(path, ()))
    if how == "none":
        return Change(key, State.STOPPED, "was not running")
    if how == "other":
        return Change(key, State.STOPPED, "another run of it is somebody else's, and was left alone")
    if how == "used":
        text = "left running: another client still needs it"
        if answer.users.get(path):
            text += f": {answer.users[path]}"
        return Change(key, State.READY, f"{text}; to end it for all: se-remote kill {quote([key.name])}")
    if how == "dead":
        return Change(key, State.DEAD, "had died before", code=code, signal=signal, left=left)
    return Change(key, State.STOPPED, left=left, forced=how == "forced")


def conflict(key: Key, said: Mapping[str, str]) -> Change:
    """Of the lines `x` about one process."""
    if "foreign" in said:
        reason = f"there is a tmux window of that name in session {tmux.session_name(key.session)}, not ours"
        return Change(key, State.CONFLICT, reason, "close or rename that window")
    who, what = said.get("by", ""), said.get("what", "")
    began = began_text(said.get("began", ""))
    reason = "it runs already with another configuration"
    reason += f", started by {who}" if who else ", started by another version of se-remote"
    reason += (f" for {what}" if what else "") + (f" at {began}" if began else "")
    return Change(key, State.CONFLICT, reason)


def began_text(began: str) -> str:
    """`20260102T030405Z-…` as a person writes it."""
    found = re.match(r"(\d{4})(\d\d)(\d\d)T(\d\d)(\d\d)(\d\d)Z", began)
    return "{}-{}-{} {}:{}:{} UTC".format(*found.groups()) if found else ""


def paths(keys: Iterable[Key]) -> dict[str, Key]:
    return {path_of(key): key for key in keys}


def read_stop(answer: Answer, kind: str, text: str) -> None:
    """Note what stands behind the id in a line `s` or `l`, in the answer that it is for."""
    path, _, text = text.partition(" ")
    if kind == "l":
        answer.left.setdefault(path, []).append(text)
        return
    how, code, signal, who = [*text.split(" ", 3), "", "", ""][:4]
    answer.stopped[path] = (how, *ending(code, signal))
    answer.users[path] = who
