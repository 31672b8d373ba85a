"""What runs on the machine while files go there or come from there. Its source is sent; it leaves nothing.

Rules:
- standard library only, Python 3.8, no file of ours: it speaks frames (wire) on its stdin and stdout;
- it does what its client says, in one folder, which it never leaves (tree);
- the end of its stdin is its own end: what is not complete is removed;
- only what an earlier push has put there is removed by a push, and only what was sent by a fetch, if it is
  still what was sent.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import json
import os
import select
import stat
import threading
import time
import zlib
from typing import Any, Callable, Iterator  # noqa: UP035

from launcher.files import names, tree, wire
from launcher.files.tree import Entry, Folder
from launcher.files.wire import raw, text

_READ = 1 << 20
_LOCK_S = 30.0
_BEGINS_S = 3600.0
"""So long after its folder was made a session may begin: other hosts are sent their files meanwhile."""
_FULL = (errno.ENOSPC, errno.EDQUOT)


class Gone(Exception):
    """The client is."""


class Failed(Exception):
    """It ends here; `what` tells the client which kind of failure it is."""

    def __init__(self, why: str, what: str = "") -> None:
        self.what = what
        super().__init__(why)


class Talk:
    """The agent's stdin and stdout."""

    def __init__(self, read_fd: int, write_fd: int) -> None:
        self._in, self._out = read_fd, write_fd
        self._frames = wire.Frames()
        self._coming: Iterator[wire.Frame] = iter(())
        self._held: list[bytes] = []
        self._holds = 0
        self._turn = threading.Lock()

    def beat(self) -> None:
        """Until the client is gone: say that this process lives, also while it reads a large file."""
        with contextlib.suppress(OSError):
            while True:
                time.sleep(wire.BEAT_S)
                with self._turn:
                    tree.write_all(self._out, memoryview(wire.frame(wire.ALIVE)))

    def next(self) -> wire.Frame:
        """Waits for a frame. Raises Gone."""
        while True:
            for found in self._coming:
                return found
            self.flush()
            data = os.read(self._in, _READ)
            if not data:
                raise Gone
            self._coming = self._frames.feed(data)

    def waiting(self) -> wire.Frame | None:
        """A frame that has come meanwhile; None: there is none. Raises Gone."""
        while True:
            for found in self._coming:
                return found
            if not select.select([self._in], [], [], 0)[0]:
                return None
            data = os.read(self._in, _READ)
            if not data:
                raise Gone
            self._coming = self._frames.feed(data)

    def expect(self, kind: int) -> memoryview:
        """The payload of the next frame, which has to be of that kind."""
        found, payload = self.next()
        if found != kind:
            raise wire.Garbled("frame %d instead of %d" % (found, kind))  # noqa: UP031
        return payload

    def hold(self, part: bytes) -> None:
        """Send it with others: a packet for each small file costs more than the file. Raises Gone."""
        self._held.append(part)
        self._holds += len(part)
        if self._holds >= wire.CHUNK:
            self.flush()

    def flush(self) -> None:
        """Send what is held. Raises Gone."""
        if self._held:
            held, self._held, self._holds = b"".join(self._held), [], 0
            self.send(held)

    def send(self, *parts: bytes) -> None:
        """Raises Gone."""
        self.flush()
        try:
            with self._turn:
                sent = os.writev(self._out, parts)
                for part in parts:
                    if sent < len(part):
                        tree.write_all(self._out, memoryview(part)[sent:])
                    sent = max(0, sent - len(part))
        except BrokenPipeError:
            raise Gone from None


def main(read_fd: int, write_fd: int) -> int:
    """Does what the first frame asks for; the exit code."""
    talk = Talk(read_fd, write_fd)
    threading.Thread(target=talk.beat, daemon=True).start()
    try:
        try:
            request = wire.value_of(talk.expect(wire.REQUEST))
            {"push": push, "fetch": fetch}[request["do"]](talk, request)
            return 0
        except OSError as error:
            what = "full" if error.errno in _FULL else ""
            path = error.filename
            path = ": " + (text(path) if isinstance(path, bytes) else path) if path else ""
            talk.send(wire.said(wire.FAILED, [tree.why(error) + path, what]))
        except Failed as error:
            talk.send(wire.said(wire.FAILED, [str(error), error.what]))
    except Gone:
        pass
    return 1


def place(path: str) -> bytes:
    """A path of the client's: absolute, or from home on."""
    home = os.path.expanduser(b"~")
    return os.path.normpath(os.path.join(home, os.path.expanduser(raw(path))))


# -- push ---------------------------------------------------------------------------------------------


def push(talk: Talk, request: Any) -> None:
    """Make a folder here what it is at the client."""
    top = place(request["to"])
    folder, entries = _look(top) if os.path.isdir(top) else (None, [])
    wanted = wire.value_of(talk.expect(wire.DIGEST))  # until then the client may have nothing to send
    if folder is None:
        os.makedirs(top, exist_ok=True)
        folder, entries = _look(top)
    if tree.digest(entries) == wanted:
        talk.send(wire.said(wire.SAME, text(top)))
        return
    mine = _put_before(folder)
    about = {"path": text(top), "free": folder.free(), "mine": sorted(mine), "entries": entries}
    talk.send(wire.packed(wire.MANIFEST, about))
    plan = wire.unpacked(talk.expect(wire.PLAN))
    wanted = {name for name in plan["all"] if names.acceptable(name)}
    _remember(folder, mine | wanted)  # of what is killed meanwhile
    receiver = _Receiver(talk, folder)
    try:
        receiver.prepare(plan, mine)
        receiver.run()
        receiver.finish(plan)
    except BaseException:
        receiver.drop()  # first: a full disk has room again
        with contextlib.suppress(OSError):
            _remember(folder, mine | receiver.put)
        raise
    finally:
        receiver.drop()
    _remember(folder, mine & wanted | receiver.put)
    talk.send(wire.said(wire.DONE, {"path": text(top), "removed": receiver.removed}))


def _look(top: bytes) -> tuple[Folder, list[Entry]]:
    """The folder, and what is in it but for what a push that was killed has left: we have the lock."""
    folder = Folder(top)
    _lock(folder)
    found = tree.scan(top)
    for name in found.parts:
        folder.remove(name)
    return folder, found.entries


def _lock(folder: Folder) -> None:
    """One push at a time into a folder; on a file system that cannot tell, nobody is waited for."""
    until = time.monotonic() + _LOCK_S
    while True:
        try:
            fcntl.flock(folder.fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            if time.monotonic() > until:
                raise Failed("another push into that folder does not end") from None
            time.sleep(0.05)
        except OSError:
            return


def _put_before(folder: Folder) -> set[str]:
    """The names that earlier pushes have put here."""
    try:
        fd = folder.open(names.PUSHED, os.O_RDONLY)
    except OSError:
        return set()
    with os.fdopen(fd, "rb") as file:
        try:
            found = json.loads(zlib.decompress(file.read()))
        except (ValueError, zlib.error):
            return set()
    return {name for name in found if names.acceptable(name)}


def _remember(folder: Folder, put: set[str]) -> None:
    if put == _put_before(folder):
        return
    temporary = names.part_name("push", "list")
    fd = folder.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    try:
        tree.write_all(fd, memoryview(zlib.compress(json.dumps(sorted(put)).encode("ascii"), 1)))
        folder.replace(temporary, names.PUSHED)
    except OSError:
        folder.remove(temporary)
        raise
    finally:
        os.close(fd)


class _Receiver:
    """Writes what comes."""

    def __init__(self, talk: Talk, folder: Folder) -> None:
        self._talk, self._folder = talk, folder
        self._fd = -1
        self._about: list[Any] = []
        self._temporary = ""
        self.removed = 0
        self.put: set[str] = set()
        """What is here since this push."""
        os.umask(0)  # this process makes nothing but these files, with the modes that they have at the client

    def prepare(self, plan: Any, mine: set[str]) -> None:
        """Remove what is to go, the inner before the outer; then make folders, the outer first."""
        for name in plan["remove"]:
            if name in mine and names.acceptable(name):
                self._each(name, lambda n=name: self._remove(n))  # type: ignore[misc]
        for name, mode in plan["folders"]:
            self._each(name, lambda n=name, m=mode: self._make_folder(n, m))  # type: ignore[misc]

    def finish(self, plan: Any) -> None:
        """What depends on nothing: links, and modes (a folder's may forbid to write in it)."""
        for name, target in plan["links"]:
            if not names.stays_inside(name, target):
                raise wire.Garbled("a link that leads outside")
            self._each(name, lambda n=name, t=target: self._link(n, t))  # type: ignore[misc]
        for name, mode in plan["modes"]:
            self._each(name, lambda n=name, m=mode: self._folder.set_mode(n, m))  # type: ignore[misc]

    def _remove(self, name: str) -> None:
        self.removed += self._folder.remove(name)

    def _make_folder(self, name: str, mode: int) -> None:
        self._folder.make_folder(name, mode)
        self.put.add(name)

    def _link(self, name: str, target: str) -> None:
        self._folder.link(name, target)
        self.put.add(name)

    def _each(self, name: str, act: Callable[[], None]) -> None:
        """A failure concerns that name alone, unless nothing can be written any more."""
        if not names.acceptable(name):
            raise wire.Garbled("not a name in a folder: %r" % (name,))  # noqa: UP031
        try:
            act()
        except OSError as error:
            if error.errno in _FULL:
                raise
            self._talk.send(wire.said(wire.PROBLEM, [name, tree.why(error)]))

    def run(self) -> None:
        """Until the client has sent all."""
        while True:
            kind, payload = self._talk.next()
            if kind == wire.DATA:
                if self._fd >= 0:
                    tree.write_all(self._fd, payload)
            elif kind == wire.WHOLE:
                self._about, content = wire.whole_of(payload)
                self._each(self._about[0], lambda c=content: self._put(c))  # type: ignore[misc]
            elif kind == wire.FILE:
                self._about = wire.value_of(payload)
                self._each(self._about[0], self._begin)
            elif kind == wire.END:
                if self._fd >= 0:
                    self._each(self._about[0], self._end)
                self.drop()
            elif kind == wire.DROP:
                self.drop()
            elif kind == wire.DONE:
                return
            else:
                raise wire.Garbled("frame %d" % kind)  # noqa: UP031

    def _put(self, content: memoryview) -> None:
        self._begin()
        try:
            tree.write_all(self._fd, content)
            self._end()
        finally:
            self.drop()

    def _begin(self) -> None:
        name = self._about[0]
        base = names.part_name("push", str(os.getpid()))
        self._temporary = name[: len(name) - len(name.rpartition("/")[2])] + base
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL
        self._fd = self._folder.open(self._temporary, flags, self._about[1])

    def _end(self) -> None:
        name, _, mtime = self._about[:3]
        os.utime(self._fd, ns=(mtime, mtime))
        self._folder.replace(self._temporary, name)
        self._temporary = ""
        self.put.add(name)

    def drop(self) -> None:
        """Whatever is under way; idempotent."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
        if self._temporary:
            temporary, self._temporary = self._temporary, ""
            try:
                self._folder.remove(temporary)
            except OSError:
                pass


# -- fetch --------------------------------------------------------------------------------------------


def fetch(talk: Talk, request: Any) -> None:
    """Say what is in a folder here (or that one file), and send of it what is asked for."""
    top = place(request["from"])
    try:
        seen = os.stat(top)
    except FileNotFoundError:
        raise Failed("there is no %s" % text(top), "nothing") from None  # noqa: UP031
    mark = request.get("mark")
    if mark and os.path.lexists(os.path.join(top, raw(mark))):
        raise Failed("%s is the very folder that it is to come into" % text(top))  # noqa: UP031
    if stat.S_ISDIR(seen.st_mode):
        scan, single = tree.scan(top), ""
        folder = Folder(top)
        if request.get("kept"):
            scan = _without_busy(folder, scan)
    elif stat.S_ISREG(seen.st_mode):
        single = text(os.path.basename(top))
        folder = Folder(os.path.dirname(top))
        mode = stat.S_IMODE(seen.st_mode) & 0o777
        scan = tree.Scan([Entry(single, tree.FILE, mode, seen.st_size, seen.st_mtime_ns, "")], [], [])
    else:
        raise Failed("%s is neither a file nor a folder" % text(top))  # noqa: UP031
    about = {"path": text(top), "single": single, "entries": scan.entries, "skipped": scan.skipped}
    talk.send(wire.packed(wire.MANIFEST, about))
    sender = _Sender(talk, folder, scan.entries)
    sender.run()
    if sender.removed and not single:
        # what sessions left lies in a folder of its host, in one for all hosts
        sender.remove_folders([top, os.path.dirname(top)] if request.get("kept") else [top])
    talk.send(wire.said(wire.DONE, {}))


def _without_busy(folder: Folder, scan: tree.Scan) -> tree.Scan:
    """Without the folders in it that somebody holds a lock on: they are still written to. And without new
    ones in which nothing is: their sessions are about to begin."""
    busy, new = set(), set()
    filled = {entry.name.partition("/")[0] for entry in scan.entries if "/" in entry.name}
    for entry in scan.entries:
        if entry.kind == tree.FOLDER and "/" not in entry.name:
            with contextlib.suppress(OSError):
                fd = folder.open(entry.name, os.O_RDONLY | os.O_DIRECTORY)
                try:
                    age = time.time() - os.fstat(fd).st_mtime
                    if entry.name not in filled and age < _BEGINS_S:
                        new.add(entry.name)
                    fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
                except BlockingIOError:
                    busy.add(entry.name)
                finally:
                    os.close(fd)
    out = busy | new
    left = [entry for entry in scan.entries if entry.name.partition("/")[0] not in out]
    skipped = [pair for pair in scan.skipped if pair[0].partition("/")[0] not in out]
    return tree.Scan(left, skipped + [(name, "a session still writes there") for name in sorted(busy)], [])


class _Sender:
    """Sends contents in the order in which they were asked for."""

    def __init__(self, talk: Talk, folder: Folder, entries: list[Entry]) -> None:
        self._talk, self._folder, self._entries = talk, folder, entries
        self._jobs: list[tuple[int, int]] = []
        self._dropped: set[int] = set()
        self._done = False
        self.removed = False

    def run(self) -> None:
        """Until the client has all."""
        count = 0
        while True:
            if not self._jobs and self._done:
                return
            if not self._jobs:
                self._take(self._talk.next())
                continue
            index, offset = self._jobs.pop()
            if index not in self._dropped:
                self._send(index, offset)
            count += 1
            if count % 64 == 0:
                self._listen()

    def _listen(self) -> None:
        while True:
            found = self._talk.waiting()
            if found is None:
                return
            self._take(found)

    def _take(self, found: wire.Frame) -> None:
        kind, payload = found
        if kind == wire.GET:
            asked = [(int(index), int(offset)) for index, offset in wire.unpacked(payload)]
            self._jobs = asked[::-1] + self._jobs
        elif kind == wire.DROP:
            self._dropped.add(wire.value_of(payload))
        elif kind == wire.HASH:
            self._talk.send(wire.packed(wire.HASHED, [self._hash(i) for i in wire.unpacked(payload)]))
        elif kind == wire.REMOVE:
            kept = [pair for pair in map(self._remove, wire.unpacked(payload)) if pair[1]]
            self._talk.send(wire.packed(wire.REMOVED, kept))
        elif kind == wire.DONE:
            self._done = True
        else:
            raise wire.Garbled("frame %d" % kind)  # noqa: UP031

    def _open(self, entry: Entry) -> int:
        fd = self._folder.open(entry.name, os.O_RDONLY)
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            os.close(fd)
            raise OSError(errno.EINVAL, "it is no file any more")
        return fd

    def _hash(self, index: int) -> list[Any]:
        """[index, digest or "", why not]."""
        entry = self._entries[index]
        try:
            fd = self._open(entry)
        except OSError as error:
            return [index, "", tree.why(error)]
        try:
            found, left = hashlib.sha256(), entry.size
            while left > 0:
                data = os.read(fd, min(left, _READ))
                if not data:
                    break
                found.update(data)
                left -= len(data)
            return [index, "" if _changed(fd, entry) else found.hexdigest(), "it changed while it was read"]
        except OSError as error:
            return [index, "", tree.why(error)]
        finally:
            os.close(fd)

    def _send(self, index: int, offset: int) -> None:
        entry = self._entries[index]
        about: dict[str, Any] = {"i": index}
        try:
            fd = self._open(entry)
            try:
                if entry.size <= wire.SMALL:
                    content = _exactly(fd, entry.size)
                    about["sha"] = hashlib.sha256(content).hexdigest()
                    about["changed"] = _changed(fd, entry)
                    self._talk.hold(wire.whole(about, content))
                    return
                self._talk.send(wire.said(wire.FILE, index))
                about["sha"] = self._stream(fd, entry, offset, index)
                about["changed"] = _changed(fd, entry)
            finally:
                os.close(fd)
        except OSError as error:
            about["error"] = tree.why(error)
        self._talk.send(wire.said(wire.END, about))

    def _stream(self, fd: int, entry: Entry, offset: int, index: int) -> str:
        """All of it is hashed, and what lies behind `offset` sent; the digest."""
        found, at, count = hashlib.sha256(), 0, 0
        while at < entry.size:
            data = os.read(fd, min(wire.CHUNK, (offset if at < offset else entry.size) - at))
            if not data:
                raise OSError(errno.EINVAL, "it became shorter while it was read")
            if at >= offset:
                self._talk.send(wire.head(wire.DATA, len(data)), data)
            found.update(data)
            at += len(data)
            count += 1
            if count % 16 == 0:
                self._listen()
                if index in self._dropped:
                    raise OSError(errno.ECANCELED, "given up")
        return found.hexdigest()

    def _remove(self, index: int) -> tuple[int, str]:
        """Only what is still what was sent; (index, why not)."""
        entry = self._entries[index]
        try:
            seen = self._folder.look(entry.name)
            if seen is None:
                return index, ""
            if entry.kind == tree.FILE and (
                not stat.S_ISREG(seen.st_mode) or (seen.st_size, seen.st_mtime_ns) != entry[3:5]
            ):
                return index, "it has changed since"
            if entry.kind == tree.LINK and not self._folder.is_link(entry.name, entry.target):
                return index, "it has changed since"
            if entry.kind == tree.FOLDER:
                return index, ""
            self._folder.remove(entry.name)
            self.removed = True
            return index, ""
        except OSError as error:
            return index, tree.why(error)

    def remove_folders(self, tops: list[bytes]) -> None:
        """Those that are empty now, and `tops` behind them."""
        for entry in reversed(self._entries):
            if entry.kind == tree.FOLDER:
                try:
                    self._folder.remove(entry.name)
                except OSError:
                    pass
        self._folder.close()
        for top in tops:
            try:
                os.rmdir(top)
            except OSError:
                break


def _changed(fd: int, entry: Entry) -> bool:
    seen = os.fstat(fd)
    return (seen.st_size, seen.st_mtime_ns) != (entry.size, entry.mtime)


def _exactly(fd: int, size: int) -> bytes:
    data = os.read(fd, size) if size else b""
    while len(data) < size:
        more = os.read(fd, size - len(data))
        if not more:
            raise OSError(errno.EINVAL, "it became shorter while it was read")
        data += more
    return data
