"""The log kept below its limit: nothing lost, nothing torn, whatever the disk says."""

from __future__ import annotations

import errno
import os
import resource
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from remote_exec.host import logfile
from remote_exec.host.console import Console
from remote_exec.host.logfile import OLDER, LogFile

LIMIT = 50_000


class Log:
    """A run directory with its log, as the wrapper makes it, and a clock."""

    def __init__(self, folder: Path, limit: int = LIMIT) -> None:
        self.folder = folder
        self.path = folder / "server.log"
        self.older = folder / OLDER
        self.fd = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        self.console = Console(self.fd)
        self.file = LogFile(str(folder), self.console, limit, fd=self.fd)
        self.now = 100.0

    def turn(self) -> None:
        self.now += 1.0
        self.file.turn(self.now)

    def until_idle(self) -> None:
        self.turn()
        while self.file.next_deadline() == 0.0:
            self.turn()

    def write(self, first: int, count: int) -> None:
        for number in range(first, first + count):
            self.console.info(f"line {number}")

    def seen(self) -> list[int]:
        text = "".join(p.read_text() for p in (self.older, self.path) if p.exists())
        assert all(line.startswith(("[INFO] [", "[ERROR] [")) for line in text.splitlines())
        return [int(line.split()[-1]) for line in text.splitlines() if "line " in line]


@pytest.fixture
def log(tmp_path: Path) -> Log:
    return Log(tmp_path)


def test_a_short_log_is_let_alone(log: Log) -> None:
    log.write(0, 100)
    log.until_idle()
    assert log.seen() == list(range(100)) and not log.older.exists()
    assert log.file.next_deadline() is not None


def test_a_long_one_goes_on_in_the_next_and_no_line_is_lost(
    log: Log, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logfile, "PIECE", 1000)
    log.write(0, 1500)
    number = 1500
    while not log.older.exists():
        log.turn()
        log.write(number, 5)  # while it is being copied
        number += 5
    assert log.seen() == list(range(number))
    assert log.older.stat().st_size > LIMIT > log.path.stat().st_size
    assert "goes on here" in log.path.read_text()
    assert (log.folder / "rotated").read_text() == f"{log.older.stat().st_size}\n"
    assert sorted(p.name for p in log.folder.iterdir()) == ["rotated", "server.log", OLDER]
    assert log.older.stat().st_mode & 0o777 == 0o600


def test_there_is_one_older_part(log: Log) -> None:
    for number in range(0, 20_000, 500):
        log.write(number, 500)
        log.until_idle()
    seen = log.seen()
    assert seen == list(range(seen[0], 20_000))
    assert sum(p.stat().st_size for p in log.folder.glob("server.log*")) < 3 * LIMIT


def test_who_writes_faster_than_it_is_copied_does_not_win(log: Log, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logfile, "PIECE", 1000)
    number, turns = 0, 0
    while not log.older.exists():
        log.write(number, 200)
        number, turns = number + 200, turns + 1
        log.turn()
        assert turns < 1000
    assert log.seen() == list(range(number))


def test_a_long_line_is_written_at_once(log: Log, monkeypatch: pytest.MonkeyPatch) -> None:
    pieces: list[int] = []
    real = os.write
    monkeypatch.setattr(os, "write", lambda fd, data: pieces.append(len(data)) or real(fd, data))
    log.console.info("x" * 100_000)
    assert len(pieces) == 1


def test_a_full_disk_costs_the_older_lines_only(log: Log, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patched:
        log.write(0, 1500)
        patched.setattr(logfile.os, "open", full)
        log.until_idle()
        assert log.seen() == list(range(1500)), "there is still room below twice the limit"
        log.write(1500, 1500)
        log.until_idle()
        log.turn()
    assert log.seen() == [] and "dropped, there is no room" in log.path.read_text()
    log.write(3000, 10)
    assert log.seen() == list(range(3000, 3010))


def test_a_disk_that_is_full_in_the_middle_leaves_no_copy(log: Log) -> None:
    """Really: the size of files is limited in a process of its own."""
    script = f"""
import resource, signal, sys
sys.path.insert(0, {str(Path(__file__).parent)!r})
from pathlib import Path
from test_logfile import Log
log = Log(Path({str(log.folder)!r}))
log.write(0, 1500)
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
log.until_idle()
log.console.error("nor does this raise")
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert log.seen() == list(range(1500))
    assert [p.name for p in log.folder.iterdir()] == ["server.log"]
    assert hasattr(resource, "RLIMIT_FSIZE") and hasattr(signal, "SIGXFSZ")


def test_an_output_that_is_not_the_run_directory_s_is_let_alone(tmp_path: Path) -> None:
    log = Log(tmp_path, limit=10)
    (tmp_path / "other").mkdir()
    for folder, fd in ((str(tmp_path / "other"), log.fd), (None, log.fd), (str(tmp_path), 999)):
        file = LogFile(folder, log.console, 10, fd=fd)
        log.write(0, 100)
        file.turn(1000.0)
        assert file.next_deadline() is None
    assert len(log.seen()) == 300
