"""What runs on a machine that was reached: processes, their states, their trees with CPU and memory. Async.

Each is one exec of one script of `looking` and one reply; what it says is decided here, purely:

    reply of status  →  one Seen for each run directory
    reply of tree    →  Nodes: what carries the mark of a process, and everything that descends from it

| state says | wrapper | process |                                                      |
|------------|---------|---------|------------------------------------------------------|
| dead       |         |         | dead, as `exit` says; what is left of it is named     |
| any        | lives   |         | as it says                                           |
| starting   | none    |         | starting: its window is about to open                |
| any        | gone    | lives   | stopping: its guard ends it; dead, if that is gone   |
| any        | gone    | gone    | dead: nobody was left to say how                     |
"""

from __future__ import annotations

import asyncio
import re
import secrets
import signal
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

from launcher import carried, docker, plan
from launcher.errors import StageError, StartFailed, Unreachable
from launcher.frames import framed
from launcher.machines.local import LocalRunner
from launcher.machines.runner import Runner, Stream
from launcher.model import Completed, Stage, State
from launcher.plan import Reply
from launcher.processes import looking, recipe
from launcher.processes.model import Key, Node, Seen
from launcher.remains import epoch

_ANSWER_S: Final = 15.0
_IDLE_S: Final = 5.0
"""So long a command of Looking stays open unused: a connection carries only so many at once."""
_ID: Final = 12
"""Characters of a container's id in the name of our folder inside."""
_COMMAND: Final = 200
"""Characters of a command that are shown."""


async def status(runner: Runner, *, base: str = "") -> tuple[Seen, ...]:
    """All processes of this account there, whoever started them: one exec. Raises StageError."""
    nonce = secrets.token_hex(12)
    reply = await framed("status", runner, looking.status(base=base, nonce=nonce), nonce, _ANSWER_S)
    return read_status(reply)


class Looking:
    """Asks machines again and again what runs there, over one command that stays open a while on each.

    A command over SSH costs more than the look itself; who asks often pays it once. Lives on one event loop.
    """

    def __init__(self, base: str = "") -> None:
        self._base = base
        self._open: dict[Hashable, tuple[Runner, Stream]] = {}
        self._asking: dict[Hashable, asyncio.Lock] = {}
        self._idle: dict[Hashable, asyncio.TimerHandle] = {}
        self._ends: set[asyncio.Task[object]] = set()

    @property
    def used(self) -> bool:
        """Something is open."""
        return bool(self._open or self._ends)

    async def status(self, place: Hashable, runner: Runner) -> tuple[Seen, ...]:
        """As `status`, of the machine `place` behind `runner`: one exec, if there was none of late."""
        async with self._asking.setdefault(place, asyncio.Lock()):
            known = self._open.get(place)
            if known is not None and known[0] is not runner and not isinstance(runner, LocalRunner):
                self._drop(place)  # the connection was replaced
            for again in (place in self._open, False):
                try:
                    reply = await asyncio.wait_for(self._ask(place, runner), _ANSWER_S)
                    return read_status(reply)
                except asyncio.TimeoutError as error:
                    self._drop(place)
                    cause = f"the machine did not answer within {_ANSWER_S:g} s"
                    raise Unreachable("status", Stage.CONNECT, cause) from error
                except StageError:
                    self._drop(place)
                    if not again:  # else somebody may have ended what looks there
                        raise
                except BaseException:
                    self._drop(place)
                    raise
        raise AssertionError

    async def close(self) -> None:
        """Ends what is open on the machines. Never raises."""
        for place in list(self._open):
            self._drop(place)
        await asyncio.gather(*self._ends, return_exceptions=True)

    async def _ask(self, place: Hashable, runner: Runner) -> Reply:
        timer = self._idle.pop(place, None)
        if timer is not None:
            timer.cancel()
        nonce = secrets.token_hex(12)
        if place in self._open:
            stream = self._open[place][1]
            await stream.write(f"{nonce}\n".encode())
        else:
            stream = await runner.open(looking.statuses(base=self._base, nonce=nonce), _ANSWER_S)
            self._open[place] = runner, stream
        end, heard = f"\n{nonce} end".encode(), bytearray()
        while end not in heard[-len(end) - 1 :]:
            chunk = await stream.read()
            if not chunk:
                raise Unreachable("status", Stage.CONNECT, "what looks at the processes there has ended")
            heard += chunk
        self._idle[place] = asyncio.get_running_loop().call_later(_IDLE_S, self._drop, place)
        reply = plan.parse_reply(bytes(heard), nonce)
        if reply is None:
            raise plan.no_frame("status", Completed(None, bytes(heard), b""))
        return reply

    def _drop(self, place: Hashable) -> None:
        timer = self._idle.pop(place, None)
        if timer is not None:
            timer.cancel()
        known = self._open.pop(place, None)
        if known is not None:
            known[1].write_eof()
            task: asyncio.Task[object] = asyncio.ensure_future(known[1].close())
            self._ends.add(task)
            task.add_done_callback(self._ends.discard)


async def tree(
    runner: Runner, keys: Iterable[Key], *, base: str = "", over: float = 0.2, seen: Sequence[Seen] = ()
) -> dict[Key, tuple[Node, ...]]:
    """The system processes of each, as trees: one exec, and one more in each container.

    `over`: seconds over which CPU is measured, 0: since each began. `seen`: what `status` has said, from
    which containers are known. Raises StageError when the machine does not answer; a container that does
    not answer has no tree.
    """
    wanted = list(keys)
    nonce = secrets.token_hex(12)
    script = looking.tree(base=base, nonce=nonce, over=over)
    reply = await framed("status", runner, script, nonce, _ANSWER_S + 2 * over)
    if reply.verb == "refused":
        raise StartFailed("status", Stage(reply.get("stage")), reply.get("cause"), reply.get("next"))
    there = reply.get("base")
    pids = {one.key: one.pid for one in seen}
    roots = {key: f"{there}/.processes/{looking.place_of(key)}" for key in wanted}
    # what is in a container may be seen from outside, too: it is shown once, with its pids inside
    boxed = {one.key for one in seen if one.container}
    trees = {key: read_tree(reply, "" if key in boxed else roots[key], pids.get(key)) for key in wanted}
    boxes: dict[str, list[Key]] = {}
    for one in seen:
        if one.container and one.key in trees and one.state is not State.DEAD:
            boxes.setdefault(one.container, []).append(one.key)
    inner = await asyncio.gather(*(_look_inside(runner, box, over, there) for box in boxes))
    for (_, inside), answer in zip(boxes.items(), inner, strict=True):
        for key in inside:
            run = f"{answer.get('base')}/.processes/{looking.place_of(key)}" if answer is not None else ""
            below = read_tree(answer, run, None) if answer is not None else ()
            trees[key] = _hung(trees[key], below)
    return trees


async def windows(runner: Runner, *, base: str = "") -> tuple[str, dict[str, str]]:
    """The socket of our tmux there; the id of each window by whose it is: SESSION/SLUG, or a host's slug."""
    nonce = secrets.token_hex(12)
    reply = await framed("attach", runner, looking.windows(base=base, nonce=nonce), nonce, _ANSWER_S)
    if reply.verb == "refused":
        raise StartFailed("attach", Stage(reply.get("stage")), reply.get("cause"), reply.get("next"))
    found = re.findall(r"^(@\d+) ([^|]*)\|(.*)$", reply.get("windows"), re.MULTILINE)
    return f"{reply.get('base')}/tmux", {process or host: window for window, process, host in found}


async def _look_inside(runner: Runner, container: str, over: float, there: str) -> Reply | None:
    """`container`: as in `about`, ENGINE ID KEY [USER]; `there`: the base on the machine, which gives its
    name to the one inside (`boxed`). None when nothing can be asked there."""
    words = container.split(" ")
    if len(words) < 3:
        return None
    inner = carried.inside("status", runner, docker.Box(*words[:4]))
    nonce = secrets.token_hex(12)
    whose = re.sub(r"^/tmp/se-remote-", "", there).replace("/", "_")
    try:
        script = looking.tree(base=f"@{words[1][:_ID]}-{whose}", nonce=nonce, over=over)
        return await framed(words[2], inner, script, nonce, _ANSWER_S + 2 * over)
    except StageError:
        return None


def _hung(outer: tuple[Node, ...], inner: tuple[Node, ...]) -> tuple[Node, ...]:
    """What runs in a container, below what holds it on the machine."""
    if not outer:
        return inner
    return (replace(outer[0], children=(*outer[0].children, *inner)), *outer[1:])


# --- read purely


def read_status(reply: Reply) -> tuple[Seen, ...]:
    """In the order of sessions and names. Raises StageError when the machine refused."""
    if reply.verb == "refused":
        raise StartFailed("status", Stage(reply.get("stage")), reply.get("cause"), reply.get("next"))
    found: list[dict[str, list[str]]] = []
    for line in reply.get("runs").split("\n"):
        tag, _, text = line.partition(" ")
        if tag == "run":
            found.append({"run": [text.rstrip("/")]})
        elif found:
            found[-1].setdefault(tag, []).append(text)
    seen = [_seen(one, reply) for one in found]
    return tuple(sorted((one for one in seen if one is not None), key=lambda one: one.key))


def _seen(lines: Mapping[str, Sequence[str]], reply: Reply) -> Seen | None:
    """None when it is about to come or to go: it does not say yet, or no longer, what it is."""
    about = [*lines.get("about", ())]
    if len(about) < 9:
        return None
    token, config, by, what, lease, container, name, _, began = about[:9]
    run = lines["run"][0]
    session = run.split("/")[-2]
    state, reason = _state(lines)
    pid = lines.get("pid", [""])[0]
    one = Seen(
        Key(session, name), state, reason, int(pid) if pid.isdecimal() else None,
        epoch(began.partition("-")[0]), config_hash=config, token=token, started_by=by, what=what,
        lease=lease, container=container, recipe=recipe.read(about[9]) if len(about) > 9 else None,
    )  # fmt: skip
    if state is not State.DEAD:
        return one
    code, number, why = read_exit(lines.get("exit", [""])[0])
    left = tuple(f"{node.pid} {node.command}" for node in flat(read_tree(reply, run, None)))
    return replace(one, pid=None, code=code, signal=number, reason=reason or why, left=left)


_STATES: Final = {state.value: state for state in State}


def _state(lines: Mapping[str, Sequence[str]]) -> tuple[State, str]:
    word = lines.get("state", [""])[0].split(" ")[0]
    state = _STATES.get(word, State.STARTING)
    wrapper = lines.get("wrapper", ["none"])[0]
    if state is State.DEAD:
        return state, ""
    if wrapper == "none":
        return state, "its window is about to open"
    if wrapper == "yes":
        return state, ""
    if lines.get("process", ["no"])[0] == "yes":
        if lines.get("guard", ["yes"])[0] == "yes":
            return State.STOPPING, "its window was closed: its guard ends it"
        return State.DEAD, "its wrapper and its guard were killed: nobody watches it any more"
    if state is State.STARTING and not lines.get("exit"):
        return State.DEAD, "its start was cut short before its window had opened"
    return State.DEAD, "" if lines.get("exit") else "it vanished without a word"


def read_exit(line: str) -> tuple[int | None, int | None, str]:
    """Exit code, signal and why, of a line of `exit`; one of code and signal is None."""
    words = line.split(" ", 3)
    if len(words) < 3 or not (words[0].isdecimal() and words[1].isdecimal()):
        return None, None, "it vanished without a word"
    code, number = int(words[0]), int(words[1])
    said = words[3].strip() if len(words) > 3 else ""
    if number:
        return None, number, said or f"signal {signal_text(number)}"
    return code, None, said or f"exit code {code}"


def signal_text(number: int) -> str:
    """``11 (SIGSEGV)``; the number alone of one that has no name here."""
    try:
        return f"{number} ({signal.Signals(number).name})"
    except ValueError:
        return str(number)


@dataclass(frozen=True)
class _Stat:
    """Of /proc/PID/stat."""

    pid: int
    parent: int
    name: str
    ticks: int
    """CPU used, its own."""
    start: int
    """Ticks after the machine's start."""
    pages: int


_STAT = re.compile(r"^(\d+) \((.*)\) (\S) (\d+) (.*)$", re.MULTILINE)


def _stats(text: str) -> tuple[float, dict[int, _Stat]]:
    """The machine's uptime, and everything that lives on it."""
    found = {}
    for match in _STAT.finditer(text):
        pid, name, state, parent, rest = match.groups()
        fields = rest.split()
        if state not in "ZXx" and len(fields) >= 20:
            ticks = int(fields[9]) + int(fields[10])
            found[int(pid)] = _Stat(int(pid), int(parent), name, ticks, int(fields[17]), int(fields[19]))
    up = re.match(r"up ([\d.]+)", text)
    return float(up.group(1)) if up else 0.0, found


def family(parents: Mapping[int, int], marked: Iterable[int]) -> set[int]:
    """Of who lives (pid → parent): `marked`, and all that descends from them."""
    kin = {pid for pid in marked if pid in parents}
    grown = True
    while grown:
        more = {pid for pid, parent in parents.items() if parent in kin} - kin
        kin |= more
        grown = bool(more)
    return kin


def read_tree(reply: Reply, run: str, pid: int | None) -> tuple[Node, ...]:
    """The trees of what carries the mark of the run directory, and of `pid`."""
    hertz, page = (
        [*map(int, reply.get("clock").split()), 100, 4096][:2] if reply.get("clock") else (100, 4096)
    )
    up, now = _stats(reply.get("stats"))
    before_up, before = _stats(reply.get("before"))
    marked = re.findall(r"^/proc/(\d+)/environ:SE_REMOTE_RUN=(.*)$", reply.get("marks"), re.MULTILINE)
    roots = [int(one) for one, value in marked if value == run] + ([pid] if pid is not None else [])
    parents = {one.pid: one.parent for one in now.values()}
    kin = family(parents, roots)
    commands = _commands(reply.get("words"))

    def share(one: _Stat) -> float:
        old = before.get(one.pid)
        if old is not None and old.start == one.start and up > before_up:
            return (one.ticks - old.ticks) / hertz / (up - before_up)
        return one.ticks / hertz / max(up - one.start / hertz, 1 / hertz)

    def node(one: _Stat) -> Node:
        below = tuple(node(now[child]) for child in sorted(kin) if parents[child] == one.pid)
        command = commands.get(one.pid, "") or f"[{one.name}]"
        return Node(one.pid, one.parent, command, share(one), one.pages * page, below)

    return tuple(node(now[one]) for one in sorted(kin) if parents[one] not in kin)


def _commands(text: str) -> dict[int, str]:
    found: dict[int, str] = {}
    for pid, words in re.findall(r"^/proc/(\d+)/cmdline:(.*)$", text, re.MULTILINE):
        known = found.get(int(pid), "")
        if len(known) < _COMMAND:
            line = f"{known} {words}" if known else words
            found[int(pid)] = line.rstrip()[:_COMMAND]
    return found


def flat(nodes: Iterable[Node]) -> list[Node]:
    """A tree's nodes, parents first."""
    return [one for node in nodes for one in (node, *flat(node.children))]
