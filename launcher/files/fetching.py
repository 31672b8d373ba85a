"""Fetch: bring what is in a folder on a machine, verified, and remove it there if that is wanted."""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from launcher.command import quote
from launcher.files import names, tree, wire
from launcher.files.channel import Channel, Nothing, begun, ended, in_thread, opened
from launcher.files.landing import Item, Landing, Outcome, Survey
from launcher.files.plan import amount, rounded
from launcher.files.values import Fetched, OnStep, Step
from launcher.machines.runner import Runner
from launcher.model import Stage

_AHEAD = 4 << 20
"""Bytes that wait to be written, before no more is read."""
_BATCH_FILES, _BATCH_BYTES = 512, 1 << 28
"""So much is verified here before it is removed there, and written to the disk before that."""


async def fetch(
    host: str,
    runner: Runner,
    python: str,
    remote: str,
    into: Path,
    *,
    progress: OnStep | None = None,
    remove: bool = True,
    kept: bool = False,
    named: bool = False,
    beside: Callable[[str, str], None] | None = None,
) -> Fetched:
    """Bring what is in the folder `remote` (or that one file) into the folder `into`, which is made.

    Nothing that exists is overwritten: see Fetched.beside. `remove`: what has arrived and was verified is
    removed there. `kept`: folders in `remote` that a running session writes to are left out. `named`: a
    folder keeps its own name, inside of `into`. `beside`: told of Fetched.beside as it comes; what is removed
    there is not told of again after a cut. `python`, `remote`: see push.
    Raises StageError; Unreachable when the connection was cut: called again, it goes on where it was.
    """
    mark = names.part_name(host, secrets.token_hex(8))
    request = {"do": "fetch", "from": remote, "kept": kept, "mark": mark if remove else ""}
    marked = contextlib.ExitStack()
    if remove:
        await in_thread(marked.enter_context, _marked(into / mark))
    step = f"se-remote pull {quote([host] if kept else [host, remote, str(into)])}"
    try:
        async with opened(host, Stage.FETCH, runner, python, request, step) as channel:
            payload = await channel.expect(wire.MANIFEST)
            await in_thread(marked.close)
            with channel.understood():
                about, entries = await in_thread(_manifest, payload)
            prefix = os.path.basename(about["path"]) if named and not about["single"] else ""
            landing = await _land(channel, host, str(about["path"]), into, prefix)
            try:
                run = _Run(host, channel, landing, entries, progress, remove, beside)
                return await run.whole(about["skipped"])
            finally:
                landing.close()
    except Nothing:
        if kept:
            return Fetched((), 0, (), ())
        raise
    finally:
        await in_thread(marked.close)


@contextlib.contextmanager
def _marked(path: Path) -> Iterator[None]:
    """By this file the agent sees whether the folder here is the one there (a home that both share): what is
    here already would be removed there."""
    with contextlib.suppress(OSError):
        path.touch(0o600, exist_ok=False)
    try:
        yield
    finally:
        with contextlib.suppress(OSError):
            path.unlink()


def _manifest(payload: memoryview) -> tuple[Any, list[tree.Entry]]:
    about = wire.unpacked(payload)
    entries = [tree.entry_of(row) for row in about["entries"]]
    if len({entry.name for entry in entries}) != len(entries):
        raise ValueError("two things of one name")
    about["skipped"] = [(str(name), str(why)) for name, why in about["skipped"]]
    return about, entries


async def _land(channel: Channel, host: str, remote: str, into: Path, prefix: str) -> Landing:
    try:
        return await in_thread(Landing, host, remote, into, prefix)
    except OSError as error:
        cause = f"cannot write into {into}: {tree.why(error)}"
        raise channel.error(cause, f"ls -ld {quote([str(into)])}") from error


@dataclass
class _Run:
    """One fetch. Mutable; lives on the loop, its landing in threads."""

    host: str
    channel: Channel
    landing: Landing
    entries: list[tree.Entry]
    progress: OnStep | None
    remove: bool
    tell_beside: Callable[[str, str], None] | None
    files: list[str] = field(default_factory=list)
    beside: list[tuple[str, str]] = field(default_factory=list)
    missing: list[tuple[str, str]] = field(default_factory=list)
    unchanged: int = 0
    got: int = 0
    total: int = 0
    before: int = 0
    """Bytes that were here from an earlier try."""

    def __post_init__(self) -> None:
        self._items: dict[int, Item] = {}
        """Asked for, not yet here."""
        self._verified: list[int] = []
        self._unsynced = 0
        self._again: list[Item] = []
        self._frames = wire.Frames()
        self._finished = self._said_done = False
        self._name = ""

    async def whole(self, skipped: list[tuple[str, str]]) -> Fetched:
        """Everything, in order."""
        self.missing += skipped
        try:
            survey = await in_thread(self.landing.survey, self.entries)
        except OSError as error:
            raise self.channel.error(f"cannot write here: {tree.why(error)}") from error
        self.missing += survey.failed
        for name, here in survey.beside:
            self._is_beside(name, here)
        wanted = await self._without_same(survey)
        await self._ask(self._fitting(wanted))
        await self._links(survey)
        await self._receive()
        missing = tuple(sorted(self.missing))
        return Fetched(tuple(self.files), self.got, tuple(self.beside), missing, self.unchanged)

    async def _without_same(self, survey: Survey) -> list[Item]:
        """What is here already needs not come."""
        asked = [item for item in survey.items if item.alike]
        if not asked:
            return survey.items
        await self.channel.send(wire.packed(wire.HASH, [item.index for item in asked]))
        payload = await self.channel.expect(wire.HASHED)
        with self.channel.understood():
            digests = {int(index): str(digest) for index, digest, _ in wire.unpacked(payload)}
        here = set()
        while asked:
            some, asked = asked[:64], asked[64:]
            pairs = [(item, digests.get(item.index, "")) for item in some]
            for item, name in zip(some, await in_thread(self.landing.same, pairs), strict=True):
                if name:
                    here.add(item.index)
                    self.unchanged += 1
                    self._arrived(item.index, item.entry.name, item.name, name, item.entry.size)
        return [item for item in survey.items if item.index not in here]

    def _fitting(self, items: list[Item]) -> list[Item]:
        """Those that there is space for; the others are named, and stay where they are."""
        free, fitting = self.landing.free(), []
        for item in items:
            needed = rounded(item.entry.size - item.offset)
            if needed > free:
                why = f"no space here: it needs {amount(needed)}, {amount(max(0, free))} are left"
                self.missing.append((item.entry.name, why))
                continue
            free -= needed
            fitting.append(item)
        return fitting

    async def _ask(self, items: list[Item]) -> None:
        self._items.update({item.index: item for item in items})
        self.total += sum(item.entry.size for item in items)
        self.before += sum(item.offset for item in items)
        order = sorted(items, key=lambda item: (item.entry.name.rpartition("/")[0], item.entry.name))
        if order:
            await self.channel.send(wire.packed(wire.GET, [[item.index, item.offset] for item in order]))

    async def _links(self, survey: Survey) -> None:
        for index, entry, here in survey.links:
            try:
                name, new = await in_thread(self.landing.put_link, here, entry.target)
            except OSError as error:
                self.missing.append((entry.name, f"here: {tree.why(error)}"))
            else:
                self.unchanged += not new
                self._arrived(index, entry.name, here, name, 0)

    def _arrived(self, index: int, name: str, wanted: str, here: str, size: int) -> None:
        self.files.append(here)
        if here != wanted:
            self._is_beside(wanted, here)
        if self.remove:
            self._verified.append(index)
            self._unsynced += size

    def _is_beside(self, wanted: str, here: str) -> None:
        self.beside.append((wanted, here))
        if self.tell_beside is not None:
            self.tell_beside(wanted, here)

    async def _receive(self) -> None:
        """Reads while a thread writes what came before."""
        await self._after([])
        come: list[bytes] = []
        reading: asyncio.Task[bytes] | None = None
        writing: asyncio.Task[list[Any]] | None = None
        try:
            while not self._finished:
                if reading is None and sum(map(len, come)) < _AHEAD:
                    reading = begun(self.channel.read())
                if writing is None and come:
                    writing, come = begun(in_thread(self._write, b"".join(come))), []
                waiting = [future for future in (reading, writing) if future is not None]
                await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
                if writing is not None and writing.done():
                    done, writing = writing, None
                    with self.channel.understood():
                        await self._after(done.result())
                elif reading is not None and reading.done() and (writing is None or not reading.exception()):
                    come.append(reading.result())  # when it was cut: after all that came has been written
                    reading = None
        finally:
            await ended(reading, writing)

    def _write(self, data: bytes) -> list[Any]:
        """In a thread: Outcomes, and frames for the loop."""
        found: list[Any] = []
        for kind, payload in self._frames.feed(data):
            outcome: Outcome | None = None
            if kind == wire.DATA:
                outcome = self.landing.data(payload)
            elif kind == wire.WHOLE:
                about, content = wire.whole_of(payload)
                outcome = self.landing.whole(self._asked(about["i"]), about, content)
            elif kind == wire.FILE:
                outcome = self.landing.begin(self._asked(wire.value_of(payload)))
            elif kind == wire.END:
                about = wire.value_of(payload)
                outcome = self.landing.end(about)
                if outcome is None and "error" in about and about["i"] in self._items:
                    outcome = Outcome(self._items[about["i"]], why=str(about["error"]))
            elif kind != wire.ALIVE:
                found.append((kind, payload))
            if outcome is not None:
                found.append(outcome)
        return found

    def _asked(self, index: Any) -> Item:
        """Raises KeyError, TypeError: nobody asked for it."""
        item = self._items[index]
        self._name = item.entry.name
        return item

    async def _after(self, found: list[Any]) -> None:
        """On the loop: what follows from what was written."""
        for one in found:
            if isinstance(one, Outcome):
                await self._outcome(one)
            elif one[0] == wire.FAILED:
                raise self.channel.failed(one[1])
            elif one[0] == wire.REMOVED:
                for index, why in wire.unpacked(one[1]):
                    name = self.entries[index].name
                    self.missing.append((name, f"it is here, but not removed there: {why}"))
            elif one[0] == wire.DONE:
                self._finished = True
            else:
                raise wire.Garbled(f"frame {one[0]}")
        self._tell()
        if not self._items and self._again:
            again, self._again = self._again, []
            self.total -= sum(item.entry.size for item in again)
            await self._ask(again)
        over = not self._items
        if self._verified and (over or len(self._verified) >= _BATCH_FILES or self._unsynced >= _BATCH_BYTES):
            await self._remove_there()
        if over and not self._finished and not self._said_done:
            self._said_done = True
            await self.channel.send(wire.frame(wire.DONE))

    async def _outcome(self, outcome: Outcome) -> None:
        item = outcome.item
        if self._items.pop(item.index, None) is None:
            return
        if outcome.again:
            self._again.append(item)
        elif outcome.why:
            self.total -= item.entry.size
            self.missing.append((item.entry.name, outcome.why))
            if item.entry.size > wire.SMALL:
                await self.channel.send(wire.said(wire.DROP, item.index))
        else:
            self.got += item.got
            if outcome.kept:
                self.missing.append((item.entry.name, outcome.kept))
            remove, self.remove = self.remove, self.remove and not outcome.kept
            self._arrived(item.index, item.entry.name, item.name, outcome.name, item.entry.size)
            self.remove = remove

    def _tell(self) -> None:
        if self.progress is not None:
            on_the_way = sum(item.got for item in self._items.values()) if len(self._items) < 4 else 0
            self.progress(Step(self.host, self.got + self.before + on_the_way, self.total, self._name))

    async def _remove_there(self) -> None:
        """Once it is on the disk here: a client that loses its power must not lose it."""
        verified, self._verified, self._unsynced = self._verified, [], 0
        await in_thread(os.sync)
        await self.channel.send(wire.packed(wire.REMOVE, verified))
