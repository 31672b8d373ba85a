"""Files that cross with a session: folders that are sent before it, and what its actions have written.

    send        before the first setup: the folders of `push`, and a new folder for what actions write
    bring_back  when the actions have ended: what they wrote, into the client's output folder

| what happens while it is brought back        | what is done                                                |
|----------------------------------------------|-------------------------------------------------------------|
| nothing was written                          | the folder there is removed                                 |
| the connection is lost                       | again, from where it was, for a lease without progress      |
| the host is given up already                 | one brief attempt                                           |
| the user has interrupted the run             | it goes on for `INTERRUPTED_S`                              |
| … and once more, or while it is brought back | it is given up at once                                      |
| it is given up, or something was not fetched | that stays there, and is named with `se-remote pull HOST`   |

Rules:
- all hosts side by side; nothing here blocks the launcher's loop;
- on this machine, without a container, actions write where the scenario does: nothing crosses;
- what of the client's own output lies in a folder that is pushed is not pushed.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
import posixpath
import secrets
import threading
from collections.abc import Awaitable, Callable, Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from launcher import carried, files, identity, plan, scripts
from launcher.command import quote
from launcher.errors import LauncherError, NotTrusted, StageError, StartFailed, Unreachable
from launcher.files.progress import shown
from launcher.frames import framed
from launcher.machines.runner import Runner
from launcher.model import HostSpec, Stage
from launcher.wrapper import path_word

INTERRUPTED_S: Final = 60.0
BRIEF_S: Final = 2.0
_REACH_S: Final = 10.0
_ANSWER_S: Final = 15.0
_PAUSE_S: Final = 0.3
_LOOK_S: Final = 0.1
_NAMED: Final = 3
"""So many files are named in a result."""
TELL_AFTER_S: Final = 1.0
TELL_EACH_S: Final = 5.0

Reach = Callable[[HostSpec], Awaitable[Runner]]
Remark = Callable[[HostSpec, Stage, str, str], None]
"""Host, stage, text, level."""


@dataclass(frozen=True)
class Carried:
    """How a host sees this machine's files."""

    paths: tuple[tuple[str, str], ...] = ()
    """Folders here, absolute, and what they are called there; of two that are the same the first counts."""
    output: str = ""
    """Where actions write there; "": where the scenario does."""


@dataclass(frozen=True)
class Folder:
    """A folder to be sent, and where to in the run directory."""

    path: Path
    key: str
    name: str


@dataclass(frozen=True)
class _Output:
    host: HostSpec
    there: str
    into: Path


def folders_of(host: HostSpec, scenario: Path | None, client: str) -> list[Folder]:
    """What `push` comes to. scenario: the folder of the .osc file, None: there is none. Pure but for `~`."""
    found = []
    for push in host.push:
        if push.folder:
            path = Path(os.path.abspath(os.path.expanduser(push.folder)))
        elif scenario is not None:
            path = scenario
        else:
            continue
        key = hashlib.sha256(f"{client}\0{path}".encode("utf-8", "surrogateescape")).hexdigest()[:16]
        found.append(Folder(path, key, push.to or path.name or "root"))
    return found


def crosses(host: HostSpec) -> bool:
    """Whether its files are others than this machine's."""
    return not host.machine.is_local or host.docker is not None


def client_key() -> str:
    """Names this account on this machine; two laptops may have one name, but not one machine-id."""
    machine = ""
    with contextlib.suppress(OSError):
        machine = Path("/etc/machine-id").read_text(encoding="ascii", errors="replace").strip()
    return f"{identity.who()} {machine}"


class Crossing:
    """Of one launcher; on its loop, but for `hurried`."""

    def __init__(
        self,
        reach: Reach,
        remark: Remark,
        hurried: threading.Event,
        base: str = "",
        results: Path | None = None,
    ) -> None:
        """results: the folder of the whole run's output here."""
        self._reach = reach
        self._remark = remark
        self._hurried = hurried
        self._base = base
        self._results = results
        self._outputs: list[_Output] = []
        """What is still to be brought back."""

    # --- there

    async def send(
        self, hosts: Sequence[HostSpec], scenario: Path | None, output: Path | None
    ) -> dict[str, Carried]:
        """By host. output: the folder here for what actions write; None: there is none.

        Raises StageError, when all hosts have come to their end.
        """
        tasks = [asyncio.ensure_future(self._send_to(host, scenario, output)) for host in hosts]
        try:
            outcome = await asyncio.gather(*tasks, return_exceptions=True)
        finally:
            for task in tasks:
                task.cancel()
        failed = [error for error in outcome if isinstance(error, BaseException)]
        errors = [error for error in failed if isinstance(error, LauncherError)]
        if failed:
            raise plan.joined(errors) if errors else failed[0]
        return {
            host.name: done for host, done in zip(hosts, outcome, strict=True) if isinstance(done, Carried)
        }

    async def _send_to(self, host: HostSpec, scenario: Path | None, output: Path | None) -> Carried:
        mapped = [(os.path.expanduser(here), there) for here, there in host.path_map.items()]
        if not crosses(host):
            return Carried(tuple((here, os.path.expanduser(there)) for here, there in mapped))
        folders = folders_of(host, scenario, client_key())
        if not (folders or output or any(there.startswith("~") for _, there in mapped)):
            return Carried(tuple(mapped))
        for folder in folders:
            if not os.path.isdir(folder.path):
                cause = f"{folder.path} is no folder on this machine"
                raise StageError(
                    host.name, Stage.PUSH, cause, f"look at `push` of {host.name} ({host.source})"
                )
        runner = await self._reach(host)
        keys = [folder.key for folder in folders]
        # What nobody writes to yet, somebody's `se-remote pull` may take away: it is made after the sending.
        home, run, there = await self._places(host, runner, keys, None if folders else output)
        paths = [(here, _expanded(to, home)) for here, to in mapped]
        for folder in folders:
            to = posixpath.join(run, "push", folder.key, folder.name)
            await self._push(host, runner, folder, to, output)
            paths.append((str(folder.path), to))
        if folders and output is not None:
            _, _, there = await self._places(host, runner, [], output)
        if output is not None:
            paths = _with_output(paths, len(mapped), str(output), there, _inputs_in(output, scenario))
        return Carried(tuple(_with_real(paths)), there)

    async def _places(
        self, host: HostSpec, runner: Runner, keys: Sequence[str], output: Path | None
    ) -> tuple[str, str, str]:
        """The home and run directories there, and where to write."""
        nonce, session = secrets.token_hex(12), secrets.token_hex(3) if output is not None else ""
        slug = plan.slug(host.name)
        base = self._base_at(runner)
        script = scripts.places(slug, base=base, nonce=nonce, keys=keys, session=session)
        reply = await framed(host.name, runner, script, nonce, _ANSWER_S)
        if reply.verb == "refused":
            raise StartFailed(host.name, Stage(reply.get("stage")), reply.get("cause"), reply.get("next"))
        there = reply.get("output")
        if output is not None:
            self._outputs.append(_Output(host, there, output))
        return reply.get("home"), reply.get("run"), there

    async def _push(
        self, host: HostSpec, runner: Runner, folder: Folder, to: str, output: Path | None
    ) -> None:
        telling = self._telling(host, Stage.PUSH, "sending files")
        done = await files.push(
            host.name,
            runner,
            path_word(host.interpreter),
            folder.path,
            to,
            progress=telling,
            leave_out=self._not_sent(output),
        )
        took_part = f"{done.sent} {_files(done.sent)} sent ({size(done.bytes)}), {done.unchanged} unchanged"
        self._remark(host, Stage.PUSH, f"{folder.path}: {took_part}", "info")
        for name, why in done.skipped:
            self._remark(
                host, Stage.PUSH, f"{folder.path}/{shown(name)} was not sent: {shown(why)}", "warning"
            )

    def _not_sent(self, output: Path | None) -> list[Path]:
        """Where results of this run, and perhaps of earlier ones, are collected."""
        return [path for path in (self._results, output) if path is not None]

    # --- and back

    async def bring_back(self, given_up: Collection[str], interrupted: Callable[[], bool]) -> list[str]:
        """What actions wrote there comes here; bounded, never raises. given_up: hosts that are lost.

        What becomes of it is said by `remark`; returns texts of what did not come.
        """
        outputs, self._outputs = self._outputs, []
        work = (self._bring(item, item.host.name in given_up, interrupted) for item in outputs)
        return [text for some in await asyncio.gather(*work) for text in some]

    async def _bring(self, item: _Output, given_up: bool, interrupted: Callable[[], bool]) -> list[str]:
        work = asyncio.ensure_future(self._until_here(item, given_up, interrupted))
        loop = asyncio.get_running_loop()
        until = None
        left: list[str] = []
        while not work.done():
            await asyncio.wait([work], timeout=_LOOK_S)
            if until is None and interrupted():
                until = loop.time() + INTERRUPTED_S
            late = until is not None and loop.time() > until
            if not work.done() and (self._hurried.is_set() or late):
                left = self._stays(item, "given up some time after an interrupt" if late else "interrupted")
                work.cancel()
                await asyncio.wait([work], timeout=BRIEF_S)
                break
        try:
            left = left or work.result()
        except asyncio.CancelledError:
            left = self._stays(item, "interrupted")
        except Exception as error:  # what is left must be named, and the end go on, whatever it is
            left = self._stays(item, f"{type(error).__name__}: {error}")
        return left

    async def _until_here(self, item: _Output, given_up: bool, interrupted: Callable[[], bool]) -> list[str]:
        """What has not come, and why."""
        loop = asyncio.get_running_loop()
        telling = self._telling(item.host, Stage.FETCH, "fetching output files")
        moved, beside = loop.time(), dict[tuple[str, str], None]()
        while True:
            try:
                return await self._once(item, given_up, telling, beside)
            except (asyncio.TimeoutError, LauncherError) as error:
                reason = _reason(error)
                moved = max(moved, telling.moved)
                over = loop.time() - moved > (BRIEF_S if interrupted() else item.host.lease)
                if given_up or over or not _worth_trying(error):
                    return self._stays(item, reason)
            await asyncio.sleep(_PAUSE_S)

    async def _once(
        self, item: _Output, brief: bool, telling: Telling, beside: dict[tuple[str, str], None]
    ) -> list[str]:
        """beside: what was said to be stored beside; in an earlier attempt, too."""
        host = item.host
        runner = await asyncio.wait_for(self._reach(host), BRIEF_S if brief else _REACH_S)
        answer = BRIEF_S if brief else _ANSWER_S
        found = await self._tidy(item, runner, answer, deep=False)
        if found == "gone" and not telling.moved:
            text = f"{item.there} is not there any more: somebody has removed it, or fetched what was in it"
            self._remark(host, Stage.FETCH, text, "error")
            return [_did_not_come(host.name, [text])]
        if found != "yes":
            return []
        try:
            item.into.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            return self._stays(item, f"{item.into} cannot be made: {error.strerror}")

        def stored(name: str, here: str) -> None:
            if (name, here) not in beside:
                beside[name, here] = None
                text = f"{shown(name)} exists already in {item.into}: what the host has is beside it as"
                self._remark(host, Stage.FETCH, f"{text} {shown(here)}", "warning")

        python = path_word(host.interpreter)
        fetched = await files.fetch(
            host.name, runner, python, item.there, item.into, progress=telling, beside=stored
        )
        left = self._came(item, fetched)
        # The way may have been renewed meanwhile, and the old one be closed with the end of the fetch.
        runner = await asyncio.wait_for(self._reach(host), BRIEF_S if brief else _REACH_S)
        if await self._tidy(item, runner, answer, deep=True) == "yes" and not left:
            return self._stays(item, "something was written there after the actions had ended")
        return left

    def _came(self, item: _Output, fetched: files.Fetched) -> list[str]:
        same = fetched.unchanged
        count = len(fetched.files) - same
        if count:
            text = f"{count} output {_files(count)} fetched into {item.into} ({size(fetched.bytes)})"
            self._remark(item.host, Stage.FETCH, f"{text}, {same} unchanged" if same else text, "info")
        elif same:
            text = f"{same} output {_files(same)} unchanged in {item.into}"
            self._remark(item.host, Stage.FETCH, text, "info")
        later = pull(item.host)
        reasons = [f"{shown(name)}: {shown(why)}" for name, why in fetched.missing]
        for name, why in fetched.missing:
            text = f"{shown(name)} was not fetched: {shown(why)}. It stays there; later: {later}"
            self._remark(item.host, Stage.FETCH, text, "error")
        return [f"{_did_not_come(item.host.name, reasons)}; {later}"] if reasons else []

    async def _tidy(self, item: _Output, runner: Runner, seconds: float, *, deep: bool) -> str:
        """Whether something is left in its folder there: yes; no (it was removed); gone (it had been)."""
        nonce = secrets.token_hex(12)
        script = scripts.tidy(base=self._base_at(runner), nonce=nonce, output=item.there, deep=deep)
        reply = await framed(item.host.name, runner, script, nonce, seconds)
        return reply.get("left")

    def _base_at(self, runner: Runner) -> str:
        """Where the run directories are: in a container under a base of its own."""
        return carried.base_at(runner, self._base)

    def _stays(self, item: _Output, reason: str) -> list[str]:
        name, stay = item.host.name, f"They stay there in {item.there}"
        text = f"output files could not be fetched ({reason}). {stay}; later: {pull(item.host)}"
        self._remark(item.host, Stage.FETCH, text, "error")
        return [f"{_did_not_come(name, [reason])}. {stay}; {pull(item.host)}"]

    def _telling(self, host: HostSpec, stage: Stage, what: str) -> Telling:
        now = asyncio.get_running_loop().time
        return Telling(now, lambda text: self._remark(host, stage, f"{what}: {text}", "info"))


class Telling:
    """Progress as lines of a log: none for what is done at once, then one every few seconds."""

    def __init__(self, now: Callable[[], float], tell: Callable[[str], None]) -> None:
        self._now = now
        self._tell = tell
        self._began: float | None = None
        self._first = 0
        self._next = 0.0
        self.moved = 0.0
        """When it last went on; on the clock of `now`."""

    def __call__(self, step: files.Step) -> None:
        now = self.moved = self._now()
        if self._began is None:
            self._began, self._first, self._next = now, step.done, now + TELL_AFTER_S
        if now < self._next:
            return
        self._next = now + TELL_EACH_S
        rate = (step.done - self._first) / (now - self._began)
        left = f", {(step.total - step.done) / rate:.0f} s left" if rate > 0 else ""
        self._tell(f"{size(step.done)} of {size(step.total)}, {size(rate)}/s{left} ({shown(step.file)})")


def pull(host: HostSpec) -> str:
    """The command that gets what has stayed there. A container that is somebody's is looked into while a
    server of ours is in it."""
    command = quote(["se-remote", "pull", host.name])
    if host.docker is not None and not host.docker.image:
        return f"{quote(['se-remote', 'up', host.name])} && {command}"
    return command


def _did_not_come(host: str, reasons: Sequence[str]) -> str:
    """For the result: what is wrong, briefly; every name has been said by then."""
    more = len(reasons) - _NAMED
    text = "; ".join(reasons[:_NAMED]) + (f"; and {more} more" if more > 0 else "")
    return f"output files of {host} did not come: {text}"


def size(number: float) -> str:
    """Bytes, for people."""
    for unit in ("B", "kB", "MB"):
        if number < 1000:
            return f"{number:.0f} {unit}" if unit == "B" else f"{number:.1f} {unit}"
        number /= 1000
    return f"{number:.1f} GB"


def _files(count: int) -> str:
    return "file" if count == 1 else "files"


def _expanded(path: str, home: str) -> str:
    return home + path[1:] if path == "~" or path.startswith("~/") else path


def _inputs_in(output: Path, scenario: Path | None) -> list[str]:
    """What is in the output folder before anything runs, when the scenario itself lies there (`-o .`)."""
    there = os.path.realpath(output)
    if scenario is None or os.path.commonpath([os.path.realpath(scenario), there]) != there:
        return []
    with contextlib.suppress(OSError):
        return sorted(os.listdir(output))
    return []


def _with_output(
    paths: Sequence[tuple[str, str]], mapped: int, output: str, there: str, inputs: Sequence[str]
) -> list[tuple[str, str]]:
    """With the output folder behind what else is mapped (the first `mapped` by `path_map`). Pure.

    With `inputs` in it, it comes before a folder that is sent and is the same: what is there already is
    meant as it would be without an output folder, and all else is output.
    """
    if not inputs:
        return [*paths, (output, there)]
    at = dict(reversed(paths)).get(output, output)
    as_before = [(posixpath.join(output, name), posixpath.join(at, name)) for name in inputs]
    return [*paths[:mapped], *as_before, (output, there), *paths[mapped:]]


def _with_real(paths: Sequence[tuple[str, str]]) -> list[tuple[str, str]]:
    """A folder is also meant by what its links lead to."""
    more = [(os.path.realpath(here), there) for here, there in paths]
    return list(dict.fromkeys([*paths, *more]))


def _worth_trying(error: BaseException) -> bool:
    """Whether it is the connection that failed, and may be there again."""
    if isinstance(error, StageError):
        return isinstance(error, Unreachable) and not isinstance(error, NotTrusted)
    return isinstance(error, asyncio.TimeoutError)


def _reason(error: BaseException) -> str:
    if isinstance(error, asyncio.TimeoutError):
        return "no answer"
    return error.cause if isinstance(error, StageError) else str(error)
