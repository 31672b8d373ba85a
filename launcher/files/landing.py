"""Where fetched files land: what is there already, what they are called, what has come of them so far.

Rules:
- nothing that exists is overwritten; what is the same already is not stored twice;
- a file that is not complete has a name of its own (names.part_name), that says of which host, file and
  state of that file it is: only then it is gone on with;
- what is stored is what was hashed, and only that counts which has the digest that the machine names;
- used by one thread after another, never by two.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
import secrets
import stat
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from launcher.files import names, tree, wire
from launcher.files.tree import Entry, Folder

_READ = 1 << 20
_MANY = 1000
"""So many names beside a name are tried."""
_WRONG = "what came is not what is there, twice"
_GROWS = "it is still written to: here it is as it was"
FULL = (errno.ENOSPC, errno.EDQUOT)


@dataclass
class Item:
    """One file on its way. Mutable."""

    index: int
    entry: Entry
    name: str
    """As it is here, if nothing of that name stands here."""
    part: str
    offset: int = 0
    number: int = 0
    """Of the names beside it: the first that may be free."""
    alike: list[str] = field(default_factory=list)
    """What has its size among those that stand here."""
    tries: int = 0
    got: int = 0


@dataclass(frozen=True)
class Outcome:
    """What has become of an item: the name that it has here, or why it has none. `kept`: what is to be said
    of it although it is here; `again`: it has to be asked for once more."""

    item: Item
    name: str = ""
    why: str = ""
    kept: str = ""
    again: bool = False
    full: bool = False


@dataclass(frozen=True)
class Survey:
    """What was decided before anything comes."""

    items: list[Item]
    links: list[tuple[int, Entry, str]]
    failed: list[tuple[str, str]]
    beside: list[tuple[str, str]]
    """Folders: the name, and what it is called here since something else has that name."""


class Landing:
    """A folder here that files of a host come into."""

    def __init__(self, host: str, remote: str, into: Path, prefix: str = "") -> None:
        """`prefix`: a folder in it that they come into."""
        self._host, self._remote, self._prefix = host, remote, prefix
        into.mkdir(parents=True, exist_ok=True)
        self._folder = Folder(os.fsencode(into))
        self._folders: dict[str, str] = {}
        self._beside: list[tuple[str, str]] = []
        self._made: set[str] = set()
        """Folders that were not here before: nothing is in them."""
        self._small = names.part_name(host, f"{os.getpid()}-{secrets.token_hex(4)}")
        self._item: Item | None = None
        self._fd = -1
        self._hash = hashlib.sha256()

    def close(self) -> None:
        """What is not complete stays, for the next time."""
        self._let_go()
        self._folder.close()

    def free(self) -> int:
        return self._folder.free()

    # -- before anything comes --------------------------------------------------------------------------

    def survey(self, entries: list[Entry]) -> Survey:
        """Makes the folders, and finds out what each file is called."""
        self._folders = {"": ""}
        items: list[Item] = []
        links, failed = [], []
        try:
            self._make_folders([Entry(self._prefix, tree.FOLDER, 0o777, 0, 0, "")] if self._prefix else [])
        except OSError as error:
            raise OSError(error.errno, f"{self._prefix}: {tree.why(error)}") from error
        if self._prefix:
            self._folders = {"": self._folders[self._prefix]}
        broken: set[str] = set()
        for index, entry in enumerate(entries):
            folder = entry.name.rpartition("/")[0]
            if folder in broken or folder not in self._folders:
                broken.add(entry.name)
                failed.append((entry.name, "its folder could not be made"))
                continue
            try:
                if entry.kind == tree.FOLDER:
                    self._make_folders([entry])
                elif entry.kind == tree.LINK:
                    links.append((index, entry, self._here(entry.name)))
                else:
                    items.append(self._item_of(index, entry))
            except OSError as error:
                broken.add(entry.name)
                failed.append((entry.name, tree.why(error)))
        return Survey(items, links, failed, self._beside)

    def _here(self, name: str) -> str:
        folder, _, base = name.rpartition("/")
        above = self._folders[folder]
        return f"{above}/{base}" if above else base

    def _make_folders(self, entries: list[Entry]) -> None:
        """Beside what has its name and is no folder."""
        for entry in entries:
            wanted = self._here(entry.name) if entry.name.rpartition("/")[0] in self._folders else entry.name
            for number in range(_MANY):
                name = names.beside(wanted, self._host, number)
                seen = self._folder.look(name)
                if seen is None:
                    self._folder.make_folder(name, entry.mode | 0o700)
                    self._made.add(name)
                elif not stat.S_ISDIR(seen.st_mode):
                    continue
                self._folders[entry.name] = name
                if name != wanted:
                    self._beside.append((wanted, name))
                break

    def _item_of(self, index: int, entry: Entry) -> Item:
        name = self._here(entry.name)
        folder = name.rpartition("/")[0]
        if entry.size <= wire.SMALL:
            item = Item(index, entry, name, f"{folder}/{self._small}" if folder else self._small)
        else:
            item = self._large(index, entry, name, folder)
        if folder not in self._made:
            self._look_beside(item)
        return item

    def _large(self, index: int, entry: Entry, name: str, folder: str) -> Item:
        """It goes on where an earlier fetch was cut."""
        what = f"{self._remote}\0{entry.name}\0{entry.size}\0{entry.mtime}".encode("utf-8", "surrogateescape")
        base = names.part_name(self._host, hashlib.sha256(what).hexdigest()[:16])
        item = Item(index, entry, name, f"{folder}/{base}" if folder else base)
        seen = None if folder in self._made else self._folder.look(item.part)
        if seen is not None and stat.S_ISREG(seen.st_mode):
            item.offset = min(seen.st_size, entry.size)
        return item

    def _look_beside(self, item: Item) -> None:
        """The first name that is free, and what of the others may be the same file."""
        for number in range(_MANY):
            candidate = names.beside(item.name, self._host, number)
            seen = self._folder.look(candidate)
            if seen is None:
                item.number = number
                break
            if stat.S_ISREG(seen.st_mode) and seen.st_size == item.entry.size:
                item.alike.append(candidate)

    def same(self, pairs: list[tuple[Item, str]]) -> list[str]:
        """Which of those that are here has the content of that digest; "": none."""
        return [self._same(item, digest) if digest else "" for item, digest in pairs]

    def _same(self, item: Item, digest: str) -> str:
        for name in item.alike:
            try:
                fd = self._folder.open(name, os.O_RDONLY)
            except OSError:
                continue
            with os.fdopen(fd, "rb", buffering=0) as file:
                found = hashlib.sha256()
                while data := file.read(_READ):
                    found.update(data)
            if found.hexdigest() == digest:
                return name
        return ""

    def put_link(self, name: str, target: str) -> tuple[str, bool]:
        """A link, or one beside what stands there; its name, whether it is new. Raises OSError."""
        for number in range(_MANY):
            candidate = names.beside(name, self._host, number)
            try:
                self._folder.link(candidate, target)
                return candidate, True
            except FileExistsError:
                fd, base = self._folder.within(candidate)
                try:
                    if os.readlink(base, dir_fd=fd) == wire.raw(target):
                        return candidate, False
                except OSError:
                    continue
        raise FileExistsError(errno.EEXIST, "too many of that name")

    # -- what comes -------------------------------------------------------------------------------------

    def whole(self, item: Item, about: Any, content: memoryview) -> Outcome:
        """A small file: it is known to be right before anything of it is written."""
        self._let_go()
        item.offset, item.got = 0, len(content)
        changed = bool(about.get("changed"))
        if len(content) != item.entry.size or hashlib.sha256(content).hexdigest() != about.get("sha"):
            return self._again(item, _WRONG)
        try:
            name = self._put(item, content)
        except OSError as error:
            return self._fail(item, error)
        return Outcome(item, name, kept=_GROWS if changed else "")

    def _put(self, item: Item, content: memoryview) -> str:
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL
        fd = self._folder.open(item.part, flags, item.entry.mode)
        try:
            tree.write_all(fd, content)
            os.utime(fd, ns=(item.entry.mtime, item.entry.mtime))
            return self._name(item)
        finally:
            os.close(fd)

    def begin(self, item: Item) -> Outcome | None:
        """What follows belongs to it; an Outcome: it is over already."""
        self._let_go()
        try:
            self._fd = self._folder.open(item.part, os.O_RDWR | os.O_CREAT, item.entry.mode | 0o600)
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            seen = os.fstat(self._fd)
            if seen.st_size < item.offset or not self._still(item.part, seen):
                raise BlockingIOError
            self._item, self._hash = item, hashlib.sha256()
            self._read_part(item.offset)
            os.ftruncate(self._fd, item.offset)
            os.lseek(self._fd, item.offset, os.SEEK_SET)
        except BlockingIOError:  # somebody else fetches the same: not into the same file
            self._let_go()
            folder, slash, _ = item.part.rpartition("/")
            item.part = folder + slash + names.part_name(self._host, secrets.token_hex(8))
            return self._again(item, "it is being fetched by somebody else")
        except OSError as error:
            return self._fail(item, error)
        return None

    def _still(self, part: str, seen: os.stat_result) -> bool:
        """Whether what was opened is that part alone; else somebody has just given it its real name."""
        now = self._folder.look(part)
        return now is not None and now.st_ino == seen.st_ino and seen.st_nlink == 1

    def _read_part(self, length: int) -> None:
        os.lseek(self._fd, 0, os.SEEK_SET)
        while length > 0:
            data = os.read(self._fd, min(length, _READ))
            if not data:
                raise BlockingIOError
            self._hash.update(data)
            length -= len(data)

    def data(self, content: memoryview) -> Outcome | None:
        """Some of it; an Outcome: it is over, and the rest is ignored."""
        if self._item is None:
            return None
        try:
            tree.write_all(self._fd, content)
        except OSError as error:
            return self._fail(self._item, error)
        self._hash.update(content)
        self._item.got += len(content)
        return None

    def end(self, about: Any) -> Outcome | None:
        """All of it has come."""
        item = self._item
        if item is None:
            return None
        error, changed = str(about.get("error", "")), bool(about.get("changed"))
        if error:
            self._remove_part(item)
            return Outcome(item, why=error)
        if item.offset + item.got != item.entry.size or self._hash.hexdigest() != about.get("sha"):
            self._remove_part(item)
            return self._again(item, _WRONG)
        try:
            os.fchmod(self._fd, stat.S_IMODE(os.fstat(self._fd).st_mode) & item.entry.mode)
            os.utime(self._fd, ns=(item.entry.mtime, item.entry.mtime))
            name = self._name(item)
        except OSError as problem:
            return self._fail(item, problem)
        self._let_go()
        return Outcome(item, name, kept=_GROWS if changed else "")

    def _name(self, item: Item) -> str:
        """Gives it its name, or the next one beside it that is free."""
        for number in range(item.number, _MANY):
            name = names.beside(item.name, self._host, number)
            try:
                self._folder.give_name(item.part, name)
                return name
            except FileExistsError:
                continue
        raise FileExistsError(errno.EEXIST, "too many of that name")

    def _again(self, item: Item, why: str) -> Outcome:
        item.tries += 1
        item.offset = item.got = 0
        return Outcome(item, why=why, again=item.tries < 2)

    def _fail(self, item: Item, error: OSError) -> Outcome:
        full = error.errno in FULL
        self._remove_part(item)
        why = "no space is left here" if full else f"here: {tree.why(error)}"
        return Outcome(item, why=why, full=full)

    def _remove_part(self, item: Item) -> None:
        self._let_go()
        try:
            self._folder.remove(item.part)
        except OSError:
            return

    def _let_go(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
        self._fd, self._item = -1, None
