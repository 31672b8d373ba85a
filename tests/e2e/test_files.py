"""Files to a machine and back, the same over SSH and on this machine: real sshd, real agent, real folders."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import os
import shutil
import signal
import stat
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import sshd as private
from commandline import Terminal
from relay import Relay

from launcher import files
from launcher.command import quote
from launcher.errors import StageError, Unreachable
from launcher.files.landing import Landing
from launcher.files.wire import BEAT_S
from launcher.machines.pool import Machines

ODD = [
    b"with space",
    b"new\nline",
    "grün-日本".encode(),
    b"\xff\xfe undecodable",
    b"-dash",
    b"$(x) `y` 'z' \"q\"",
    b" ",
]
LARGE = 12_000_000


class Way:
    """Pushes and fetches as one machine's client would."""

    def __init__(self, world, host) -> None:
        self.world, self.host = world, host
        self.here = world.directory / "here"
        self.there = world.directory / "there"
        self.back = world.directory / "back"
        self.here.mkdir()
        self.python = quote([host.python])

    def do(self, body):
        """Runs `body(runner)` over a new connection."""

        async def whole():
            machines = Machines(self.world.environ, ask=None, keepalive=2, find=lambda name: None)
            try:
                return await body(await machines.runner(self.host.name, self.host.machine, self.host.ssh))
            finally:
                await machines.close()

        return asyncio.run(whole())

    def push(self, *, to=None, **options):
        to = str(to or self.there)
        return self.do(lambda r: files.push("lab-pc", r, self.python, self.here, to, **options))

    def fetch(self, *, remote=None, into=None, python="", **options):
        remote, into = str(remote or self.there), into or self.back
        return self.do(lambda r: files.fetch("lab-pc", r, python or self.python, remote, into, **options))


@pytest.fixture(params=["local", "ssh"])
def way(world, request):
    return Way(world, world.host(local=request.param == "local"))


@pytest.fixture
def here(world):
    """One machine suffices for what does not depend on the way."""
    return Way(world, world.host(local=True))


def contents(folder: Path) -> dict[bytes, object]:
    """What is in a folder: bytes, targets of links, None for folders; with modes and times of files."""
    top, found = os.fsencode(folder), {}
    for path, folders, names in os.walk(top):
        for base in (*folders, *names):
            full = os.path.join(path, base)
            name, seen = os.path.relpath(full, top), os.lstat(full)
            if stat.S_ISLNK(seen.st_mode):
                found[name] = os.readlink(full)
            elif stat.S_ISDIR(seen.st_mode):
                found[name] = None
            elif base != b".se-remote-pushed":
                with open(full, "rb") as file:
                    found[name] = (file.read(), oct(seen.st_mode), seen.st_mtime_ns)
    return found


def write(path: Path, content: bytes | str = "text", mode: int = 0o644) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    path.chmod(mode)
    return path


def parts(folder: Path) -> list[Path]:
    return sorted(folder.rglob(".se-remote-*.part"))


# -- what goes there and comes back --------------------------------------------------------------------


def test_a_folder_there_is_what_it_is_here_and_comes_back_so(way):
    for number, name in enumerate(ODD):
        write(Path(os.fsdecode(os.fsencode(way.here) + b"/" + name)), bytes([number]) * number)
        write(Path(os.fsdecode(os.fsencode(way.here / "deep") + b"/" + name + b"/" + name)))
    write(way.here / "large", os.urandom(LARGE))
    os.utime(way.here / "large", ns=(1, 1_600_000_000_123_456_789))
    write(way.here / "run", "#!/bin/sh\n", 0o750)
    write(way.here / "read only", mode=0o444)
    (way.here / "empty").mkdir()
    (way.here / "link").symlink_to("deep/with space")
    (way.here / "deep" / "up").symlink_to("../large")
    (way.here / "dangling").symlink_to("nothing")
    expected = contents(way.here)
    pushed = way.push()
    assert contents(way.there) == expected
    assert (pushed.sent, pushed.unchanged, pushed.removed, pushed.skipped) == (2 * len(ODD) + 3, 0, 0, ())
    assert pushed.path == str(way.there)

    again = way.push()
    assert (again.sent, again.bytes, again.unchanged) == (0, 0, pushed.sent)

    fetched = way.fetch(remove=False)
    assert contents(way.back) == expected
    assert (fetched.beside, fetched.missing, fetched.unchanged) == ((), (), 0)
    assert fetched.bytes == pushed.bytes
    assert {os.fsencode(name) for name in fetched.files} == {
        n for n, what in expected.items() if what is not None
    }
    assert parts(way.there) == parts(way.back) == []

    once_more = way.fetch(remove=True)
    assert (once_more.bytes, once_more.beside, once_more.missing) == (0, (), ())
    assert once_more.unchanged == len(once_more.files)
    assert sorted(once_more.files) == sorted(fetched.files)
    assert contents(way.back) == expected
    assert [path.name for path in way.there.iterdir()] == [".se-remote-pushed"]


def test_only_what_changed_is_sent_and_what_is_gone_here_goes_there(way):
    for name in ("a", "b", "c", "old/d", "old/e"):
        write(way.here / name)
    way.push()
    write(way.there / "theirs" / "kept")
    write(way.there / "old" / "kept too")
    write(way.here / "a", "changed")
    (way.here / "b").chmod(0o755)
    shutil.rmtree(way.here / "old")
    (way.here / "c").unlink()
    write(way.here / "c" / "is now a folder")
    done = way.push()
    assert (done.sent, done.unchanged, done.skipped) == (2, 1, ())
    left = contents(way.there)
    assert left.pop(b"theirs/kept")[0] == left.pop(b"old/kept too")[0] == b"text"
    assert left.pop(b"theirs") is left.pop(b"old") is None
    assert left == contents(way.here)


def test_links_that_lead_outside_are_named_and_never_followed(way):
    outside = way.world.directory / "outside"
    write(outside / "secret", "secret")
    for name, target in (("up", "../outside"), ("abs", str(outside)), ("by", "sub/../../outside")):
        (way.here / name).symlink_to(target)
    write(way.here / "fine")
    os.mkfifo(way.here / "fifo")
    done = way.push()
    (way.here / "fifo").unlink()
    assert [name for name, _ in done.skipped] == ["abs", "by", "fifo", "up"]
    assert contents(way.there) == {b"fine": contents(way.here)[b"fine"]}

    shutil.copytree(
        way.here, way.there, symlinks=True, dirs_exist_ok=True, ignore=shutil.ignore_patterns("fifo")
    )
    back = way.fetch()
    assert [name for name, _ in back.missing] == ["abs", "by", "up"]
    assert os.listdir(way.back) == ["fine"]
    assert sorted(os.listdir(way.there)) == [".se-remote-pushed", "abs", "by", "up"]


def test_nothing_is_written_through_a_link_that_stands_there(way):
    outside = way.world.directory / "outside"
    outside.mkdir()
    write(way.here / "sub" / "file")
    write(way.here / "other")
    way.there.mkdir()
    (way.there / "sub").symlink_to(outside)
    (way.there / "other").symlink_to(outside / "made")
    done = way.push()
    assert [name for name, _ in done.skipped] == ["sub", "sub/file"]
    assert (way.there / "other").read_text() == "text"
    assert not (way.there / "other").is_symlink()
    assert os.listdir(outside) == []

    shutil.rmtree(way.there)
    way.push()
    way.back.mkdir()
    (way.back / "sub").symlink_to(outside)
    (way.back / "other").symlink_to(outside / "made")
    fetched = way.fetch()
    assert sorted(fetched.files) == ["other.lab-pc", "sub.lab-pc/file"]
    assert os.listdir(outside) == []


def test_what_exists_is_never_overwritten(way):
    write(way.here / "same")
    write(way.here / "log", "new")
    write(way.here / "d" / "x", "in a folder")
    way.push()
    write(way.back / "same")
    write(way.back / "log", "old")
    write(way.back / "d", "a file")
    first = way.fetch(remove=False)
    assert sorted(first.files) == [
        "d.lab-pc/x", "log.lab-pc", "same",
    ]  # fmt: skip
    assert first.beside == (("d", "d.lab-pc"), ("log", "log.lab-pc"))
    write(way.there / "log", "newer, and longer")
    second = way.fetch(remove=False)
    assert second.beside == (("d", "d.lab-pc"), ("log", "log.lab-pc.2"))
    third = way.fetch(remove=False)
    assert (third.beside, third.bytes) == (second.beside, 0)
    assert (way.back / "log").read_text() == "old"
    assert (way.back / "log.lab-pc").read_text() == "new"
    assert (way.back / "log.lab-pc.2").read_text() == "newer, and longer"
    assert (way.back / "d").read_text() == "a file"


# -- what changes meanwhile ----------------------------------------------------------------------------


def test_a_file_that_changes_while_it_is_read_is_read_again(here):
    growing = write(here.here / "growing", os.urandom(LARGE))
    write(here.here / "quiet")
    appended = []

    def once(step):
        if not appended:
            appended.append(1)
            with growing.open("ab") as file:
                file.write(b"more")

    done = here.push(progress=once)
    assert done.skipped == ()
    assert contents(here.there) == contents(here.here)

    def ever(step):
        with growing.open("ab") as file:
            file.write(b"more")

    growing.write_bytes(os.urandom(LARGE))
    before = contents(here.there)
    done = here.push(progress=ever)
    assert done.skipped == (("growing", "it changed while it was read"),)
    assert contents(here.there) == before  # the last whole one, not half of a new one


def test_a_file_that_still_grows_there_is_fetched_as_it_was_and_kept(here):
    growing = write(here.there / "growing", os.urandom(LARGE))
    write(here.there / "quiet")
    before = growing.read_bytes()

    def grow(step):
        with growing.open("ab") as file:
            file.write(b"more")

    done = here.fetch(progress=grow)
    assert (here.back / "growing").read_bytes() == before
    assert [name for name, _ in done.missing] == ["growing"]
    assert "still written to" in done.missing[0][1]
    assert os.listdir(here.there) == ["growing"]
    assert growing.stat().st_size > LARGE


def test_what_changed_after_it_was_read_is_not_removed_there(here):
    write(here.there / "a", "one")

    def change(step):
        if step.done:
            write(here.there / "a", "one, and two")

    done = here.fetch(progress=change)
    assert done.files == ("a",)
    assert done.missing == (("a", "it is here, but not removed there: it has changed since"),)
    assert (here.back / "a").read_text() == "one"
    assert (here.there / "a").read_text() == "one, and two"


def test_a_folder_that_a_session_still_writes_to_is_left_out(here):
    write(here.there / "over" / "a")
    write(here.there / "busy" / "b")
    holder = subprocess.Popen(
        ["flock", str(here.there / "busy"), "sh", "-c", "echo locked; exec cat"], stdin=-1, stdout=-1
    )
    try:
        assert holder.stdout.readline() == b"locked\n"
        done = here.fetch(kept=True)
        assert done.files == ("over/a",)
        assert done.missing == (("busy", "a session still writes there"),)
        assert (here.there / "busy" / "b").exists()
    finally:
        holder.communicate()
    assert here.fetch(kept=True).files == ("busy/b",)
    assert not here.there.exists()
    assert here.fetch(kept=True) == files.Fetched((), 0, (), ())


def test_what_no_push_has_put_there_no_push_removes(here):
    """Neither what could not be sent, nor what was there before and is the same."""
    for name in ("grows", "same", "put"):
        write(here.here / name, os.urandom(LARGE) if name == "grows" else "text")
    write(here.there / "grows", "theirs")
    write(here.there / "same")
    os.utime(here.there / "same", ns=(1, (here.here / "same").stat().st_mtime_ns))
    (here.here / "empty").mkdir()
    (here.there / "empty").mkdir()

    def ever(step):
        with (here.here / "grows").open("ab") as file:
            file.write(b"more")

    assert [name for name, _ in here.push(progress=ever).skipped] == ["grows"]
    shutil.rmtree(here.here)
    here.here.mkdir()
    assert here.push().removed == 1
    assert sorted(os.listdir(here.there)) == [".se-remote-pushed", "empty", "grows", "same"]
    assert (here.there / "grows").read_text() == "theirs"


def test_what_is_left_out_is_so_whichever_links_lead_to_it(here):
    write(here.here / "results" / "bag")
    (here.world.directory / "short").symlink_to("here")
    for path in (here.here, here.world.directory / "short"):
        assert here.push(leave_out=[path / "results"]).sent == 0
        folder, here.here = here.here, here.world.directory / "short"
        assert here.push(leave_out=[path / "results"]).sent == 0
        here.here = folder


def test_what_takes_the_place_of_a_link_there_is_not_removed(here):
    write(here.there / "a", "one")
    (here.there / "link").symlink_to("a")

    def change(step):
        (here.there / "link").unlink(missing_ok=True)
        write(here.there / "link", "what nobody has yet")

    done = here.fetch(progress=change)
    assert ("link", "it is here, but not removed there: it has changed since") in done.missing
    assert (here.there / "link").read_text() == "what nobody has yet"


def test_a_folder_is_not_moved_into_itself(way):
    """A home that a laptop and a robot share: what is here already would be removed there."""
    write(way.there / "session" / "bag")
    os.utime(way.there / "session", (1, 1))
    with pytest.raises(StageError) as caught:
        way.fetch(into=way.there, kept=True)
    assert "the very folder that it is to come into" in str(caught.value)
    assert sorted(contents(way.there)) == [b"session", b"session/bag"]
    assert way.fetch(into=way.there / "other", kept=True).files == ("session/bag",)


def test_the_folder_of_a_session_that_is_about_to_begin_stays(here):
    write(here.there / "over" / "a")
    for name in ("begins", "was never begun"):
        (here.there / name).mkdir()
    os.utime(here.there / "was never begun", (1, 1))
    done = here.fetch(kept=True)
    assert (done.files, done.missing) == (("over/a",), ())
    assert os.listdir(here.there) == ["begins"]


def test_a_part_that_has_just_got_its_name_is_not_written_to(here, monkeypatch):
    """Another fetch has opened it before, and got the lock after."""
    content = os.urandom(LARGE)
    write(here.there / "bag", content)
    real, names = Landing.begin, []

    def begin(self, item):
        if not names:
            names.append(item.part)
            write(here.back / item.part, content)
            os.link(here.back / item.part, here.back / "bag")
        return real(self, item)

    monkeypatch.setattr(Landing, "begin", begin)
    here.fetch()
    assert (here.back / "bag").read_bytes() == (here.back / "bag.lab-pc").read_bytes() == content
    assert not (here.back / "bag").samefile(here.back / "bag.lab-pc"), "it was cut off and written again"


# -- what cannot be read or written --------------------------------------------------------------------


def test_what_cannot_be_read_there_is_named_and_the_rest_comes(world):
    account = world.account()
    way = Way(world, world.host(user=account.name))
    write(way.there / "mine")
    write(way.there / "secret", mode=0o600)
    write(way.there / "closed" / "x").parent.chmod(0o700)
    for path in (way.there, way.there / "mine"):
        os.chown(path, account.uid, account.uid)
    done = way.fetch()
    assert done.files == ("mine",)
    assert dict(done.missing) == {"secret": "permission denied", "closed": "permission denied"}
    assert sorted(os.listdir(way.there)) == ["closed", "secret"]


def test_what_cannot_be_read_here_is_named_and_the_rest_goes(world):
    account = world.account()
    folder, to = world.directory / "here", account.home / "to"
    write(folder / "open", mode=0o644)
    write(folder / "secret", mode=0o600)
    write(folder / "closed" / "x").parent.chmod(0o700)
    program = (
        "import asyncio, os, sys; from pathlib import Path\n"
        "from launcher.files import push; from launcher.machines.local import LocalRunner\n"
        f"done = asyncio.run(push('x', LocalRunner(os.environ), {quote([world.python[0]])!r},"
        f" Path({str(folder)!r}), {str(to)!r}))\n"
        "print(done.sent, *done.skipped)\n"
    )
    done = subprocess.run(
        [world.python[0], "-c", program], user=account.uid, group=account.uid, extra_groups=[], text=True,
        cwd="/", env={"PYTHONPATH": world.python[1], "PATH": os.environ["PATH"], "HOME": str(account.home)},
        capture_output=True, timeout=60,
    )  # fmt: skip
    assert done.stderr == ""
    assert done.stdout == "1 ('closed', 'permission denied') ('secret', 'permission denied')\n"
    assert sorted(os.listdir(to)) == [".se-remote-pushed", "closed", "open"]


def test_no_folder_here_no_python_there_no_place_there(way):
    shutil.rmtree(way.here)
    with pytest.raises(StageError) as caught:
        way.push()
    assert caught.value.stage.value == "push"
    assert "no such file" in str(caught.value)
    with pytest.raises(StageError) as caught:
        way.fetch(python="/no/such/python")
    assert caught.value.stage.value == "fetch"
    assert "no Python" in str(caught.value)
    assert "python" in caught.value.next_step
    with pytest.raises(StageError) as caught:
        way.fetch()
    assert f"there is no {way.there}" in str(caught.value)
    way.here.mkdir()
    write(way.world.directory / "file")
    with pytest.raises(StageError) as caught:
        way.push(to=way.world.directory / "file" / "in it")
    assert "not a directory" in str(caught.value)


@pytest.fixture
def small_disk(world):
    """A file system of 2 MiB."""
    place = world.directory / "disk"
    place.mkdir()
    if (
        os.getuid() != 0
        or subprocess.run(
            ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(place)], capture_output=True, check=False
        ).returncode
    ):
        pytest.skip("only root can mount a small file system, and not in every container")
    yield place
    subprocess.run(["umount", "-l", str(place)], check=True)


def test_a_disk_that_is_too_small_there_is_seen_before_anything_is_sent(here, small_disk):
    write(here.here / "a", os.urandom(1_000_000))
    here.push(to=small_disk / "x")
    write(here.here / "b", os.urandom(1_500_000))
    with pytest.raises(StageError) as caught:
        here.push(to=small_disk / "x")
    assert "it needs 1.5 MB" in str(caught.value)
    assert "are free" in str(caught.value)
    assert "df -h" in caught.value.next_step
    assert sorted(os.listdir(small_disk / "x")) == [".se-remote-pushed", "a"]


def test_a_disk_that_becomes_full_there_ends_it_with_a_word(here, small_disk):
    write(here.here / "a", os.urandom(1_500_000))
    filler = small_disk / "filler"

    def fill(step):
        if not filler.exists():
            filler.write_bytes(bytes(700_000))

    with pytest.raises(StageError) as caught:
        here.push(to=small_disk / "x", progress=fill)
    assert "no space is left there" in str(caught.value)
    assert contents(small_disk / "x") == {}


def test_what_does_not_fit_here_is_named_and_kept_there(here, small_disk):
    write(here.there / "a", os.urandom(900_000))
    write(here.there / "b", os.urandom(1_900_000))
    write(here.there / "c", "small")
    done = here.fetch(into=small_disk / "x")
    assert sorted(done.files) == ["a", "c"]
    assert [name for name, _ in done.missing] == ["b"]
    assert "it needs 1.9 MB" in done.missing[0][1]
    assert os.listdir(here.there) == ["b"]


def test_a_disk_that_becomes_full_here_loses_nothing(here, small_disk):
    write(here.there / "a", os.urandom(1_500_000))
    write(here.there / "b", "small")
    filler = small_disk / "filler"

    def fill(step):
        if not filler.exists():
            filler.write_bytes(bytes(700_000))

    done = here.fetch(into=small_disk / "x", progress=fill)
    assert done.missing == (("a", "no space is left here"),)
    assert done.files == ("b",)
    assert os.listdir(here.there) == ["a"]
    assert os.listdir(small_disk / "x") == ["b"]
    filler.unlink()
    assert here.fetch(into=small_disk / "x").files == ("a",)


# -- cut, interrupted, lied to -------------------------------------------------------------------------


class RelayedWay(Way):
    def __init__(self, world, host, relay: Relay) -> None:
        super().__init__(world, host)
        self.relay = relay


@pytest.fixture
def relayed(world):
    """A way over a relay that a test cuts."""
    relay = Relay(world.sshd.port)
    line = world.sshd.known_hosts_line().replace(str(world.sshd.port), str(relay.port))
    world.known_hosts.write_text(world.known_hosts.read_text() + line)
    host = world.host()
    way = RelayedWay(
        world, dataclasses.replace(host, machine=dataclasses.replace(host.machine, port=relay.port)), relay
    )
    yield way
    relay.close()


@pytest.mark.parametrize("tampered", [False, True], ids=["as it was", "tampered with"])
def test_a_fetch_that_was_cut_goes_on_where_it_was(relayed, tampered):
    content = os.urandom(4 * LARGE)
    write(relayed.there / "large", content)
    write(relayed.there / "0 first")

    def cut(step):
        if step.done > LARGE:
            relayed.relay.cut()

    with pytest.raises(Unreachable) as caught:
        relayed.fetch(progress=cut)
    assert caught.value.stage.value == "fetch"
    assert "se-remote pull lab-pc" in caught.value.next_step
    (part,) = parts(relayed.back)
    assert "lab-pc" in part.name
    got = part.stat().st_size
    assert LARGE <= got < len(content)
    assert [path.name for path in relayed.back.iterdir() if path != part] == ["0 first"]
    if tampered:
        with part.open("r+b") as file:
            file.write(b"x" * 10)

    relayed.relay.restore()
    done = relayed.fetch()
    assert done.missing == ()
    assert sorted(done.files) in (["large"], ["0 first", "large"])
    assert (relayed.back / "large").read_bytes() == content
    assert done.bytes == len(content) if tampered else done.bytes <= len(content) - got + 4
    assert not relayed.there.exists()
    assert parts(relayed.back) == []


def test_a_push_that_was_cut_leaves_nothing_half_done(relayed):
    write(relayed.here / "large", os.urandom(2 * LARGE))

    def cut(step):
        if step.done > LARGE:
            relayed.relay.cut()

    with pytest.raises(Unreachable):
        relayed.push(progress=cut)
    assert private.wait_until(lambda: not parts(relayed.there), 20)
    assert contents(relayed.there) == {}
    relayed.relay.restore()
    relayed.push()
    assert contents(relayed.there) == contents(relayed.here)


def agents(world) -> list[int]:
    """The processes that do it on the machine."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            ours = world.mark.encode() in (process / "environ").read_bytes()
            if ours and b"<se-remote " in (process / "cmdline").read_bytes():
                found.append(int(process.name))
        except OSError:
            continue
    return found


@pytest.mark.parametrize("what", [pytest.param("push", marks=pytest.mark.slow), "fetch"])
def test_what_stands_still_there_is_given_up_and_what_is_slow_is_not(here, monkeypatch, what):
    monkeypatch.setattr("launcher.files.channel.SILENT_S", 2 * BEAT_S)
    write((here.here if what == "push" else here.there) / "large", os.urandom(4 * LARGE))
    stopped = []

    def stop(step):
        if not stopped:
            stopped.extend(agents(here.world))
            for pid in stopped:
                os.kill(pid, signal.SIGSTOP)

    try:
        with pytest.raises(Unreachable) as caught:
            getattr(here, what)(progress=stop)
        assert "stands still" in str(caught.value)
    finally:
        for pid in stopped:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)
    assert stopped
    if what == "push":
        holder = subprocess.Popen(["flock", str(here.there), "sleep", str(3 * BEAT_S)])
        here.push()
        holder.wait()
        assert contents(here.there) == contents(here.here)


def test_ctrl_c_during_a_pull_and_another_pull(world):
    relay = Relay(world.sshd.port)
    terminal = Terminal(world)
    line = world.sshd.known_hosts_line().replace(str(world.sshd.port), str(relay.port))
    world.known_hosts.write_text(world.known_hosts.read_text() + line)
    terminal.write_inventory(terminal.entry(terminal.name).replace(str(world.sshd.port), str(relay.port)))
    content = os.urandom(8 * LARGE)
    write(world.directory / "there" / "bag", content)
    into = terminal.folder / "results" / "there"
    pull = terminal.start("se-remote", "pull", "lab-pc", str(world.directory / "there"), "results")
    try:
        assert private.wait_until(lambda: parts(into) and parts(into)[0].stat().st_size > 100_000, 30)
        relay.silence()
        pull.send_signal(signal.SIGINT)
        _, err = pull.communicate(timeout=30)
    finally:
        pull.kill()
        relay.restore(forget=True)
    assert pull.returncode == 130
    assert "Traceback" not in err
    assert not (into / "bag").exists()
    (part,) = parts(into)
    got = part.stat().st_size
    assert 0 < got < len(content)
    done = terminal.se_remote("pull", "lab-pc", str(world.directory / "there"), "results")
    relay.close()
    assert done.code == 0, done.text
    assert done.out == "results/there/bag\n"
    assert (into / "bag").read_bytes() == content
    assert parts(into) == []


LIAR = """\
import os
answers = {answers!r}
while os.read(0, 1 << 20):
    if answers:
        os.write(1, answers.pop(0))
"""


@pytest.fixture
def liar(here):
    """Instead of an agent: answers whatever is said to it with the next of these."""

    def make(*answers: bytes) -> str:
        script = here.world.directory / "liar.py"
        script.write_text(LIAR.format(answers=list(answers)))
        starter = write(here.world.directory / "liar", f"#!/bin/sh\nexec {sys.executable} {script}\n", 0o755)
        return str(starter)

    return make


def manifest(*rows: object, path: str = "/x") -> bytes:
    from launcher.files import wire

    return wire.packed(wire.MANIFEST, {"path": path, "single": "", "entries": rows, "skipped": []})


@pytest.mark.parametrize(
    "rows",
    [
        [["../evil", "f", 0o644, 4, 1, ""]],
        [["/tmp/evil", "f", 0o644, 4, 1, ""]],
        [["a", "l", 0, 0, 0, "../../evil"], ["a/x", "f", 0o644, 4, 1, ""]],
        [["a", "l", 0, 0, 0, "/tmp"]],
        [["a", "f", 0o644, 4, 1, ""], ["a", "d", 0o755, 0, 0, ""]],
        [["a", "f", 0o644, -4, 1, ""]],
        [["a", "f", 0o644, "4", 1, ""]],
        ["a"],
        [["a\0b", "f", 0o644, 4, 1, ""]],
    ],
)
def test_a_machine_that_names_what_it_must_not_is_refused(here, liar, rows):
    with pytest.raises(StageError) as caught:
        here.fetch(python=liar(manifest(*rows)))
    assert "answers what it must not" in str(caught.value)
    assert not here.back.exists()


def test_what_was_not_asked_for_is_refused_and_what_is_wrong_is_not_kept(here, liar):
    from launcher.files import wire

    one = ["a", "f", 0o644, 4, 1, ""]
    wrong = wire.whole({"i": 0, "sha": "0" * 64}, b"evil")
    done = here.fetch(python=liar(manifest(one), wrong, wrong, wire.said(wire.DONE, {})))
    assert done.files == ()
    assert done.missing == (("a", "what came is not what is there, twice"),)
    assert os.listdir(here.back) == []
    for frames in (
        [wire.whole({"i": 7, "sha": ""}, b"evil")],
        [wire.whole({"i": "0"}, b"evil")],
        [wire.whole([], b"evil")],
        [wire.frame(wire.PLAN)],
        [b"Welcome to lab-pc\n"],
    ):
        with pytest.raises(StageError) as caught:
            here.fetch(python=liar(manifest(one), *frames))
        assert "answers what it must not" in str(caught.value)
        assert os.listdir(here.back) == []


def test_an_agent_that_dies_says_why(here):
    starter = write(here.world.directory / "dies", "#!/bin/sh\necho out of luck >&2; exit 3\n", 0o755)
    for call in (here.push, here.fetch):
        python, here.python = here.python, str(starter)
        with pytest.raises(StageError) as caught:
            call()
        here.python = python
        assert "ended with code 3" in str(caught.value)
        assert "out of luck" in str(caught.value)


# -- many, and the command line ------------------------------------------------------------------------


@pytest.mark.slow
def test_ten_thousand_small_files(way):
    for number in range(10_000):
        write(way.here / f"{number % 100}" / f"{number}.txt", str(number))
    done = way.push()
    assert (done.sent, done.skipped) == (10_000, ())
    assert way.push().unchanged == 10_000
    assert len(way.fetch().files) == 10_000
    assert contents(way.back) == contents(way.here)


def test_the_loop_stays_free_during_a_transfer(way):
    """Tunnels of running sessions live on the same loop."""
    write(way.here / "large", os.urandom(4 * LARGE))
    longest = []

    async def body(runner):
        over = asyncio.Event()

        async def watch():
            loop, worst = asyncio.get_running_loop(), 0.0
            while not over.is_set():
                before = loop.time()
                await asyncio.sleep(0.005)
                worst = max(worst, loop.time() - before)
            longest.append(worst)

        watching = asyncio.ensure_future(watch())
        await files.push("lab-pc", runner, way.python, way.here, str(way.there))
        await files.fetch("lab-pc", runner, way.python, str(way.there), way.back)
        over.set()
        await watching

    way.do(body)
    assert (
        longest[0] < 2
    )  # seconds; hashing it all on the loop would still be less: a bound, not a measurement
    assert threading.active_count() < 20


def test_push_and_pull_by_hand(world):
    terminal = Terminal(world)
    home = world.server_home
    write(terminal.folder / "launch" / "nav.launch.py", "x")
    write(terminal.folder / "launch" / "new\nline")
    done = terminal.se_remote("push", "lab-pc", "launch")
    assert (done.code, done.out) == (0, "")
    assert f"2 files sent to {home}/launch" in done.err
    assert (home / "launch" / "nav.launch.py").read_text() == "x"
    (terminal.folder / "launch" / "out").symlink_to("/etc")
    done = terminal.se_remote("push", "lab-pc", "launch", "some where/else")
    assert done.code == 1
    assert "not sent: out: a link that leads outside, to /etc" in done.err
    assert (home / "some where" / "else" / "nav.launch.py").exists()

    done = terminal.se_remote("pull", "lab-pc", "launch/nav.launch.py")
    assert (done.code, done.out) == (0, "nav.launch.py\n")
    done = terminal.se_remote("pull", "lab-pc", "launch", "results")
    assert (done.code, done.out) == (0, "results/launch/nav.launch.py\nresults/launch/new\\nline\n")
    assert (home / "launch" / "nav.launch.py").exists()

    kept = home / ".local/state/se-remote/outputs" / terminal.name / "20261121T120000Z"
    assert "nothing of its sessions is kept" in terminal.se_remote("pull", "lab-pc").err
    write(kept / "run" / "bag", "recorded")
    done = terminal.se_remote("pull", "lab-pc")
    assert (done.code, done.out) == (0, "20261121T120000Z/run/bag\n")
    assert not kept.exists()

    done = terminal.se_remote("pull", "lab-pc", "nowhere")
    assert done.code == 1
    assert f"there is no {home}/nowhere" in done.err
    assert "127.0.0.1 'ls -la .'   (or what scenarios have left there: se-remote pull lab-pc)" in done.err
    done = terminal.se_remote("push", "lab-pc", "launch/nav.launch.py")
    assert done.code == 2 and "nav.launch.py is a file" in done.err
    assert "its folder: se-remote push lab-pc launch\n" in done.err
    done = terminal.se_remote("push", "lab-pc", "nowhere")
    assert done.code == 2
    assert "there is no folder nowhere" in done.err
