"""Push: make a folder on a machine what a folder here is, sending only what changed."""

from __future__ import annotations

import os
import stat
from collections.abc import Awaitable, Collection, Generator
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path

from launcher.command import quote
from launcher.errors import StageError
from launcher.files import tree, wire
from launcher.files.channel import Channel, begun, ended, in_thread, opened, together
from launcher.files.plan import PushPlan, amount, push_plan
from launcher.files.tree import Entry, Folder, Scan
from launcher.files.values import OnStep, Pushed, Step
from launcher.files.wire import text
from launcher.machines.runner import Runner
from launcher.model import Stage

_BLOCK = 1 << 19
"""Bytes that are handed to the connection at once."""
_TRIES = 3
_CHANGES = "it changed while it was read"


async def push(
    host: str,
    runner: Runner,
    python: str,
    folder: Path,
    to: str,
    *,
    progress: OnStep | None = None,
    leave_out: Collection[Path] = (),
) -> Pushed:
    """Make `to` on the machine like `folder` here: contents, modes, times; only what changed is sent.

    What an earlier push has put there and is gone here is removed there; nothing else is. `python`: a shell
    word, the interpreter there. `to`: absolute, or relative to home there. `leave_out`: absolute paths here
    that are not sent. Raises StageError.
    """
    step = f"se-remote push {quote([host, str(folder)])}"
    scanning = begun(in_thread(tree.scan, os.fsencode(folder), _inside(folder, leave_out)))
    try:
        async with opened(host, Stage.PUSH, runner, python, {"do": "push", "to": to}, step) as channel:
            found = await _scanned(host, folder, scanning)
            digest = await in_thread(tree.digest, found.entries)
            await channel.send(wire.said(wire.DIGEST, digest))
            kind, payload = await channel.next()
            if kind == wire.SAME:
                count = sum(entry.kind == tree.FILE for entry in found.entries)
                return Pushed(0, 0, count, 0, tuple(found.skipped), str(wire.value_of(payload)))
            if kind != wire.MANIFEST:
                raise channel.error(f"the agent there said frame {kind}")
            return await _send(host, channel, folder, found, payload, progress)
    finally:
        await ended(scanning)


async def _scanned(host: str, folder: Path, scanning: Awaitable[Scan]) -> Scan:
    try:
        return await scanning
    except OSError as error:
        cause = f"cannot read {folder}: {tree.why(error)}"
        raise StageError(host, Stage.PUSH, cause, f"ls -ld {quote([str(folder)])}") from error


async def _send(
    host: str, channel: Channel, folder: Path, found: Scan, payload: memoryview, progress: OnStep | None
) -> Pushed:
    with channel.understood():
        plan, path = await in_thread(_decide, found, payload)
    about = wire.unpacked(payload)
    if plan.needed > about["free"]:
        cause = f"it needs {amount(plan.needed)} in {path}, where {amount(about['free'])} are free"
        raise channel.error(cause, f"on the machine: df -h {quote([path])}")
    await channel.send(await in_thread(wire.packed, wire.PLAN, plan.message()))
    source = _Source(folder, plan.send)
    skipped = [*found.skipped, *plan.skipped]
    try:
        removed, problems = await together(_feed(host, channel, source, progress), _listen(channel))
    finally:
        source.close()
    refused = {name for name, _ in problems}
    sent = [name for name in source.sent if name not in refused]
    skipped += [*source.skipped, *((name, f"there: {why}") for name, why in problems)]
    return Pushed(len(sent), source.done, plan.unchanged, removed, tuple(sorted(skipped)), path)


def _decide(found: Scan, payload: memoryview) -> tuple[PushPlan, str]:
    about = wire.unpacked(payload)
    there = [tree.entry_of(row) for row in about["entries"]]
    unread = [name for name, _ in found.skipped]
    return push_plan(found.entries, there, about["mine"], unread), str(about["path"])


async def _feed(host: str, channel: Channel, source: _Source, progress: OnStep | None) -> None:
    """Reads the next block while one is sent."""
    preparing = begun(in_thread(source.next))
    try:
        while (block := await preparing) is not None:
            step = Step(host, source.done, source.total, source.name)
            preparing = begun(in_thread(source.next))
            await channel.send(block)
            if progress is not None:
                progress(step)
    finally:
        await ended(preparing)
    await channel.send(wire.frame(wire.DONE))


async def _listen(channel: Channel) -> tuple[int, list[tuple[str, str]]]:
    problems: list[tuple[str, str]] = []
    while True:
        kind, payload = await channel.next()
        with channel.understood():
            if kind == wire.DONE:
                return int(wire.value_of(payload)["removed"]), problems
            name, why = wire.value_of(payload)
            problems.append((str(name), str(why)))


@dataclass
class _Source:
    """Reads files and makes frames of them. Mutable: used by one thread after another."""

    folder: Path
    entries: tuple[Entry, ...]
    done: int = 0
    total: int = 0
    name: str = ""
    sent: list[str] = field(default_factory=list)
    skipped: list[tuple[str, str]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.total = sum(entry.size for entry in self.entries)
        self._folder: Folder | None = None
        self._blocks: Generator[bytes, None, None] = self._make()

    def close(self) -> None:
        self._blocks.close()
        if self._folder is not None:
            self._folder.close()

    def next(self) -> bytes | None:
        """About _BLOCK bytes of frames; None: that was all."""
        parts, size = [], 0
        for part in self._blocks:
            parts.append(part)
            size += len(part)
            if size >= _BLOCK:
                break
        return b"".join(parts) if parts else None

    def _make(self) -> Generator[bytes, None, None]:
        self._folder = Folder(os.fsencode(self.folder))
        for entry in self.entries:
            self.name = entry.name
            before, why = self.done, ""
            for _ in range(_TRIES):
                self.done = before
                try:
                    why = yield from self._one(self._folder, entry.name)
                except OSError as error:
                    why = tree.why(error)
                    break
                if not why:
                    self.sent.append(entry.name)
                    break
            if why:
                self.done = before
                self.total -= entry.size
                self.skipped.append((entry.name, why))

    def _one(self, folder: Folder, name: str) -> Generator[bytes, None, str]:
        """Its frames; returns why it is to be tried again, or "". Raises OSError."""
        fd = folder.open(name, os.O_RDONLY)
        try:
            seen = os.fstat(fd)
            if not stat.S_ISREG(seen.st_mode):
                return "it is no file any more"
            about = [name, seen.st_mode & 0o777, seen.st_mtime_ns, seen.st_size]
            if seen.st_size <= wire.SMALL:
                content = os.read(fd, wire.SMALL + 1)
                if len(content) != seen.st_size or _moved(fd, seen):
                    return _CHANGES
                self.done += len(content)
                yield wire.whole(about, content)
                return ""
            yield wire.said(wire.FILE, about)
            try:
                complete = yield from self._chunks(fd, seen)
            except OSError:
                yield wire.frame(wire.DROP)
                raise
            yield wire.frame(wire.END if complete else wire.DROP)
            return "" if complete else _CHANGES
        finally:
            os.close(fd)

    def _chunks(self, fd: int, seen: os.stat_result) -> Generator[bytes, None, bool]:
        """Returns whether it is still what it was when it was opened."""
        left = seen.st_size
        while left > 0:
            data = os.read(fd, min(wire.CHUNK, left))
            if not data:
                return False
            left -= len(data)
            self.done += len(data)
            yield wire.head(wire.DATA, len(data))
            yield data
        return not _moved(fd, seen)


def _moved(fd: int, before: os.stat_result) -> bool:
    now = os.fstat(fd)
    return (now.st_size, now.st_mtime_ns) != (before.st_size, before.st_mtime_ns)


def _inside(folder: Path, paths: Collection[Path]) -> frozenset[str]:
    """Those that lie in the folder, by their names in it; whichever links led to either."""
    found = set()
    for top, path in product({folder, folder.resolve()}, {*paths, *(path.resolve() for path in paths)}):
        if top in path.parents:
            found.add(text(os.fsencode(path.relative_to(top))))
    return frozenset(found)
