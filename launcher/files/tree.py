"""A folder on this end, whichever it is: what is in it, and files in it read, made and removed.

Rules:
- standard library only, Python 3.8: this is executed on the machine, too;
- no link is ever followed, not even one that takes the place of a folder meanwhile: each part of a path is
  opened in the one before it;
- a file appears under its name when it is complete.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import stat
from typing import Any, NamedTuple

from launcher.files import names
from launcher.files.wire import raw, text

FILE, FOLDER, LINK = "f", "d", "l"
_BITS = 0o777
_OPEN_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


class Entry(NamedTuple):
    """One thing in a folder. `mtime` in nanoseconds; `target` of a link."""

    name: str
    kind: str
    mode: int
    size: int
    mtime: int
    target: str


class Scan(NamedTuple):
    """What is in a folder, sorted by name; what of it cannot be sent: (name, why); and what pushes that were
    killed have left."""

    entries: list[Entry]
    skipped: list[tuple[str, str]]
    parts: list[str]


def entry_of(row: Any) -> Entry:
    """An entry that came over the wire. Raises ValueError when it is none, or must not be believed."""
    if not isinstance(row, list) or len(row) != len(Entry._fields):
        raise ValueError("no entry: %r" % (row,))  # noqa: UP031
    entry = Entry(*row)
    numbers = all(type(value) is int for value in entry[2:5])
    if not numbers or entry.kind not in (FILE, FOLDER, LINK) or not isinstance(entry.target, str):
        raise ValueError("no entry: %r" % (row,))  # noqa: UP031
    if not names.acceptable(entry.name) or names.is_own(entry.name.rpartition("/")[2]):
        raise ValueError("not a name in a folder: %r" % (entry.name,))  # noqa: UP031
    if entry.size < 0 or not 0 <= entry.mode <= _BITS:
        raise ValueError("no entry: %r" % (row,))  # noqa: UP031
    if entry.kind == LINK and not names.stays_inside(entry.name, entry.target):
        raise ValueError("a link that leads outside: %r -> %r" % (entry.name, entry.target))  # noqa: UP031
    return entry


def digest(entries: list[Entry]) -> str:
    """Of a manifest: equal when the folders are."""
    return hashlib.sha256(json.dumps(entries).encode("ascii")).hexdigest()


def scan(top: bytes, leave_out: frozenset[str] = frozenset()) -> Scan:
    """What is in the folder but for `leave_out`; our own files are not mentioned.

    Raises OSError for the folder itself.
    """
    found: list[Entry] = []
    skipped: list[tuple[str, str]] = []
    parts: list[str] = []
    waiting = [""]
    while waiting:
        prefix = waiting.pop()
        try:
            with os.scandir(os.path.join(top, raw(prefix))) as items:
                for item in items:
                    if names.is_own(text(item.name)):
                        if text(item.name).startswith(names.PUSHING):
                            parts.append(prefix + text(item.name))
                        continue
                    entry = _look(item, prefix, skipped)
                    if entry is not None and entry.name not in leave_out:
                        found.append(entry)
                        if entry.kind == FOLDER:
                            waiting.append(entry.name + "/")
        except OSError as error:
            if not prefix:
                raise
            skipped.append((prefix[:-1], why(error)))
    found.sort()
    return Scan(found, sorted(skipped), parts)


def _look(item: os.DirEntry[bytes], prefix: str, skipped: list[tuple[str, str]]) -> Entry | None:
    name = prefix + text(item.name)
    try:
        seen = item.stat(follow_symlinks=False)
        mode = seen.st_mode
        if stat.S_ISREG(mode):
            return Entry(name, FILE, mode & _BITS, seen.st_size, seen.st_mtime_ns, "")
        if stat.S_ISDIR(mode):
            return Entry(name, FOLDER, mode & _BITS | 0o700, 0, 0, "")
        if stat.S_ISLNK(mode):
            target = text(os.readlink(item.path))
            if names.stays_inside(name, target):
                return Entry(name, LINK, 0, 0, 0, target)
            skipped.append((name, "a link that leads outside, to %s" % target))  # noqa: UP031
        else:
            skipped.append((name, "neither a file nor a folder nor a link"))
    except OSError as error:
        if error.errno != errno.ENOENT:  # it is gone: it was never there
            skipped.append((name, why(error)))
    return None


def why(error: OSError) -> str:
    """In words."""
    return (error.strerror or str(error) or type(error).__name__).lower()


class Folder:
    """Opened once; everything in it is reached from there. One is for one thread at a time."""

    def __init__(self, path: bytes) -> None:
        self.fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        self._inner, self._inner_fd = "", self.fd

    def close(self) -> None:
        """Idempotent."""
        self._leave()
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = self._inner_fd = -1

    def _leave(self) -> None:
        if self._inner_fd != self.fd:
            os.close(self._inner_fd)
        self._inner, self._inner_fd = "", self.fd

    def within(self, name: str) -> tuple[int, bytes]:
        """The folder that holds `name`, as a descriptor that is good until the next call, and its last part.

        Raises OSError, also when a link stands where a folder was.
        """
        folder, _, base = name.rpartition("/")
        if folder != self._inner:
            self._leave()
            fd = self.fd
            for part in folder.split("/") if folder else ():
                try:
                    inner = os.open(raw(part), _OPEN_FOLDER, dir_fd=fd)
                finally:
                    if fd != self.fd:
                        os.close(fd)
                fd = inner
            self._inner, self._inner_fd = folder, fd
        return self._inner_fd, raw(base)

    def look(self, name: str) -> os.stat_result | None:
        """What stands there, a link as a link; None: nothing. Raises OSError."""
        fd, base = self.within(name)
        try:
            return os.stat(base, dir_fd=fd, follow_symlinks=False)
        except FileNotFoundError:
            return None

    def open(self, name: str, flags: int, mode: int = 0o600) -> int:
        """A descriptor; never of something that a link leads to, and never waiting for a fifo's other end."""
        fd, base = self.within(name)
        return os.open(base, flags | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK, mode, dir_fd=fd)

    def make_folder(self, name: str, mode: int) -> None:
        """One that exists is left alone, but for its mode. Raises OSError."""
        fd, base = self.within(name)
        try:
            os.mkdir(base, mode, dir_fd=fd)
        except FileExistsError:
            if not stat.S_ISDIR(os.stat(base, dir_fd=fd, follow_symlinks=False).st_mode):
                raise

    def set_mode(self, name: str, mode: int) -> None:
        """Of a file or folder. Raises OSError."""
        fd = self.open(name, os.O_RDONLY)
        try:
            os.fchmod(fd, mode)
        finally:
            os.close(fd)

    def link(self, name: str, target: str) -> None:
        """A symbolic link where nothing stands. Raises OSError."""
        fd, base = self.within(name)
        os.symlink(raw(target), base, dir_fd=fd)

    def is_link(self, name: str, target: str) -> bool:
        """Whether such a link stands there. Raises OSError."""
        fd, base = self.within(name)
        try:
            return os.readlink(base, dir_fd=fd) == raw(target)
        except OSError as error:
            if error.errno != errno.EINVAL:
                raise
            return False

    def remove(self, name: str) -> bool:
        """A file, a link or an empty folder; False: it was not there, or not empty. Raises OSError."""
        fd, base = self.within(name)
        try:
            if stat.S_ISDIR(os.stat(base, dir_fd=fd, follow_symlinks=False).st_mode):
                if self._inner == name:
                    self._leave()
                os.rmdir(base, dir_fd=fd)
            else:
                os.unlink(base, dir_fd=fd)
        except OSError as error:
            if error.errno in (errno.ENOENT, errno.ENOTDIR, errno.ENOTEMPTY, errno.EEXIST):
                return False
            raise
        return True

    def replace(self, temporary: str, name: str) -> None:
        """Both in the same folder. Raises OSError."""
        fd, base = self.within(name)
        os.rename(raw(temporary.rpartition("/")[2]), base, src_dir_fd=fd, dst_dir_fd=fd)

    def give_name(self, temporary: str, name: str) -> None:
        """As `replace`, but FileExistsError when something stands there: nothing is ever overwritten."""
        fd, base = self.within(name)
        source = raw(temporary.rpartition("/")[2])
        try:
            os.link(source, base, src_dir_fd=fd, dst_dir_fd=fd, follow_symlinks=False)
        except FileExistsError:
            raise
        except OSError as error:
            if error.errno not in (errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.EMLINK, errno.ENOSYS):
                raise
            # a file system without hard links: take the name first, then put the content there
            os.close(os.open(base, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600, dir_fd=fd))
            os.rename(source, base, src_dir_fd=fd, dst_dir_fd=fd)
            return
        with contextlib.suppress(OSError):
            os.unlink(source, dir_fd=fd)

    def free(self) -> int:
        """Bytes that we may write there."""
        seen = os.fstatvfs(self.fd)
        return seen.f_bavail * seen.f_frsize


def write_all(fd: int, data: memoryview) -> None:
    """Raises OSError."""
    while data:
        data = data[os.write(fd, data) :]
