"""A provision from end to end, over a runner: look there, find wheels, send what is missing, install.

    look ── the same was asked for before, and works ──► nothing to do (one exec)
     └─ wheels (from this machine's library, else by pip) ── push ── install ── switch

The machine needs a Python and nothing else: no pip, no venv module, no network.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import secrets
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from launcher import __version__, files
from launcher.command import quote
from launcher.errors import InventoryError, LauncherError, StageError, StartFailed, Unreachable
from launcher.files.channel import in_thread
from launcher.files.plan import amount
from launcher.frames import framed
from launcher.inventory.provision import is_path
from launcher.machines.pip import Pip, find_pip
from launcher.machines.runner import Runner
from launcher.model import Problem, Stage
from launcher.provision import asking, needs, packing
from launcher.provision.library import Library, cache_folder
from launcher.provision.resolving import Resolver
from launcher.provision.values import Provided, Python, Say, Seen, Wanted, Wheel

_LOOK_S = 60.0
_INSTALL_S = 1800.0
_LAYOUT = 2
"""Of an environment; another one is made anew."""
_TURNS = 5
_BUSY = "another push into that folder"


@dataclass(frozen=True)
class Order:
    """What is asked for: packages beside the server as they were named, and the Python to make it with.

    What was given before stays, unless it is to be these `only`.
    """

    listed: tuple[str, ...] = ()
    """By the inventory: no longer there, they go."""
    given: tuple[str, ...] = ()
    """By a person, now."""
    only: bool = False
    python: str = "python3"
    again: str = ""
    """The command that does it, as a person types it."""


class Provider:
    """Provides hosts from this machine. `environ`: this process's."""

    def __init__(self, environ: Mapping[str, str], pip: Callable[[], Pip] | None = None) -> None:
        self._library = Library(cache_folder(environ))
        self._pip = pip or (lambda: find_pip(environ))

    async def provide(self, host: str, runner: Runner, order: Order, say: Say) -> Provided:
        """Have the server and `order.packages` there. Raises StageError, InventoryError, NoPip."""
        try:
            return await self._provide(host, runner, order, say)
        except OSError as error:
            where = f" ({error.filename})" if error.filename else ""
            cause = f"on this machine: {error.strerror or error}{where}"
            raise StageError(host, Stage.PROVISION, cause, f"df -h {self._library.folder}") from error

    async def _provide(self, host: str, runner: Runner, order: Order, say: Say) -> Provided:
        resolver = Resolver(host, self._library, self._pip, say.line, order.again)
        looking = asyncio.ensure_future(self._look(host, runner, order.python))
        try:
            own = await self._own()
            wanted = await self._wanted(own, order.listed, order.given, resolver)
            seen = await looking
        finally:
            looking.cancel()
        python = seen.python
        kept = () if order.only else needs.missing(_given_before(seen), wanted.said)
        if kept:
            _here(host, kept, order)
            wanted = await self._wanted(own, order.listed, (*order.given, *kept), resolver)
        request = wanted.request(python)
        if seen.works and seen.manifest.get("request") == request:
            return Provided(__version__, python, packages=wanted.said)
        say.line(f"Python {'.'.join(map(str, python.version))} ({python.executable}), {python.machine}")
        for line in _changes(host, seen, wanted, kept):
            say.line(line)
        wheels, tool = await resolver.found(wanted, python)
        manifest = {
            "request": request, "version": __version__, "packages": list(wanted.said),
            "given": list(wanted.given), "python": list(python.version),
            "wheels": [wheel.name for wheel in wheels],
        }  # fmt: skip
        return await self._send_and_install(host, runner, order, [*wheels, tool], manifest, seen, say)

    async def _look(self, host: str, runner: Runner, python: str) -> Seen:
        nonce = secrets.token_hex(12)
        reply = await framed(host, runner, asking.look(python, nonce=nonce), nonce, _LOOK_S)
        return asking.read_look(host, reply)

    async def _own(self) -> packing.Packed:
        try:
            return await in_thread(packing.own_wheel, __version__)
        except packing.NotInstalled as error:
            text = "se-remote is not installed here, it runs from its sources: nothing says what it needs"
            raise LauncherError(text, "in that folder: python3 -m pip install -e .") from error

    async def _wanted(
        self, own: packing.Packed, listed: Sequence[str], given: Sequence[str], resolver: Resolver
    ) -> Wanted:
        names, wheels = [], []
        words = dict.fromkeys([*listed, *given])
        for word in words:
            if is_path(word):
                wheel = await self._given(Path(os.path.expanduser(word)), word, resolver)
                wheels.append(replace(wheel, about=_about(wheel, word)))
            else:
                names.append(_name(word))
        kept = self._library.add(own.name, own.data, apart=True)
        said = tuple(_anchored(word) for word in words)
        more = tuple(_anchored(word) for word in given if word not in listed)
        return Wanted(kept, own.requires, __version__, tuple(names), tuple(wheels), said, more)

    async def _given(self, path: Path, word: str, resolver: Resolver) -> Wheel:
        if path.is_dir():
            if not any((path / name).exists() for name in ("pyproject.toml", "setup.py")):
                problem = Problem(
                    f"{word} has neither a pyproject.toml nor a setup.py: it is no Python package"
                )
                raise InventoryError([problem], f"ls -la {quote([str(path)])}")
            return await resolver.of_folder(path)
        if not path.is_file() or path.suffix != ".whl":
            problem = Problem(f"there is no folder or wheel {word}: a package is a name, a folder or a wheel")
            step = f"ls -la {quote([str(path.parent)])}"
            if "://" in word:
                step = f"python3 -m pip wheel --no-deps {quote([word])}, and the wheel's name to --with"
            raise InventoryError([problem], step)
        return self._library.add(path.name, path.read_bytes(), apart=True)

    async def _send_and_install(
        self,
        host: str,
        runner: Runner,
        order: Order,
        wheels: Sequence[Wheel],
        manifest: dict[str, Any],
        seen: Seen,
        say: Say,
    ) -> Provided:
        tool, python = wheels[-1], seen.python
        sent = size = 0
        for _ in range(_TURNS):
            pushed = await self._push(host, runner, order, wheels, python, say)
            sent, size = sent + pushed.sent, size + pushed.bytes
            if pushed.sent:
                say.line(f"{pushed.sent} wheels sent ({amount(pushed.bytes)}), {pushed.unchanged} were there")
            done = await self._install(host, runner, wheels, tool, manifest, python, order.again, say)
            if not done.missing:
                return Provided(__version__, python, done.place, done.fresh, sent, size,
                                tuple(manifest["packages"]), done.removed, done.kept)  # fmt: skip
            say.line("somebody else has sent other wheels meanwhile; once more")
        cause = f"wheels disappear again and again from ~/{asking.WHEELS}: {', '.join(done.missing[:3])}"
        raise StartFailed(host, Stage.PROVISION, cause, order.again)

    async def _push(
        self, host: str, runner: Runner, order: Order, wheels: Sequence[Wheel], python: Python, say: Say
    ) -> files.Pushed:
        def step(now: files.Step) -> None:
            say.live(f"sending {amount(now.done)} of {amount(now.total)} ({now.file})")

        with self._library.gathered(wheels) as folder:
            for turn in range(20):
                try:
                    return await files.push(
                        host, runner, asking.word(python), folder, asking.WHEELS, progress=step
                    )
                except StageError as error:
                    if _BUSY not in error.cause or turn == 19:
                        raise _told(host, error, order.again) from error
                    say.live("waiting for another provision on that account")
        raise AssertionError("unreachable")

    async def _install(
        self, host: str, runner: Runner, wheels: Sequence[Wheel], tool: Wheel, manifest: dict[str, Any],
        python: Python, again: str, say: Say,
    ) -> asking.Installed:  # fmt: skip
        def note(stage: Stage, text: str) -> None:
            if text:
                say.live(text)

        nonce = secrets.token_hex(12)
        rows = [(wheel.name, wheel.digest) for wheel in wheels]
        key = key_of(rows, python)
        script = asking.install(python.executable, key, rows, tool.name, manifest, nonce=nonce)
        try:
            reply = await framed(host, runner, script, nonce, _INSTALL_S, note=note)
        except Unreachable as error:
            cause = f"{error.cause}, while it was installing: what was in use there is in use"
            raise Unreachable(host, Stage.PROVISION, cause, error.next_step or again, error.tail) from error
        return asking.read_install(host, reply)


def key_of(rows: Sequence[tuple[str, str]], python: Python) -> str:
    """The name of the environment of these wheels, made with that Python."""
    value = [_LAYOUT, sorted(rows), python.executable, python.version]
    return hashlib.sha256(json.dumps(value).encode()).hexdigest()[:16]


def _anchored(word: str) -> str:
    """As it was named; a path from the root, since the next one may be typed in another folder."""
    return os.path.abspath(os.path.expanduser(word)) if is_path(word) else word


def _given_before(seen: Seen) -> list[str]:
    """What people have asked for, by what the machine says is there."""
    found = seen.manifest.get("given", seen.manifest.get("packages"))
    return [str(word) for word in found] if isinstance(found, list) else []


def _here(host: str, kept: Sequence[str], order: Order) -> None:
    """Nothing is left out because it cannot be found here. Raises StageError."""
    gone = [word for word in kept if is_path(word) and not os.path.exists(word)]
    if gone:
        cause = f"{', '.join(gone)} was put there by hand, and is not on this machine: it would be lost"
        step = f"with what is to stay: {order.again} --only --with PACKAGE…"
        raise StageError(host, Stage.PROVISION, cause, step)


def _changes(host: str, seen: Seen, wanted: Wanted, kept: Sequence[str]) -> Iterator[str]:
    """What stays and what goes of what was there beside the server."""
    if kept:
        yield f"as before with {', '.join(kept)} (else: --only)"
    before = seen.manifest.get("packages")
    there = [str(word) for word in before] if isinstance(before, list) else []
    for word, other in needs.replaced(there, wanted.said):
        yield f"{other} takes the place of {word}"
    goes = needs.missing(there, wanted.said)
    if goes:
        again = quote(["se-remote", "provision", host, "--with", *goes])
        yield f"{', '.join(goes)} goes, since nothing names it any more (to have it there: {again})"


def _name(word: str) -> str:
    reason = needs.why_no_name(word)
    if reason:
        problem = Problem(f"{word!r} names no package: {reason}")
        raise InventoryError([problem], "a name as for pip (numpy, my-actions==1.4), a folder or a wheel")
    return word


def _about(wheel: Wheel, word: str) -> str:
    try:
        said = packing.metadata(wheel.path.read_bytes())
    except packing.NoWheel as error:
        problem = Problem(f"{word} is not a wheel, or not all of one")
        raise InventoryError([problem], f"python3 -m zipfile -l {quote([word])}") from error
    return hashlib.sha256(said.encode()).hexdigest()


def _told(host: str, error: StageError, again: str) -> StageError:
    """What went wrong with the files, as a failure of a provision."""
    step = error.next_step
    if not step or step.startswith("se-remote push"):
        step = again
    kind = Unreachable if isinstance(error, Unreachable) else StartFailed
    return kind(host, Stage.PROVISION, error.cause, step, error.tail)
