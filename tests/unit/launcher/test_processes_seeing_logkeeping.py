"""The shell functions that keep a process's log, under the shells that a machine may have."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from launcher.processes import logkeeping

SHELLS = [["dash"], ["bash", "--posix"], ["busybox", "ash"], ["zsh", "--emulate", "sh"]]


@pytest.fixture(params=SHELLS, ids=lambda words: words[0])
def shell(request):
    if shutil.which(request.param[0]) is None:
        pytest.skip(f"no {request.param[0]}")
    return request.param


def keep(shell: list[str], run: Path, text: str) -> str:
    script = f"run='{run}'\n{logkeeping.KEEP_LOG}\n{text}\n"
    done = subprocess.run([*shell, "-c", script], capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == 0 and done.stderr == "", done.stderr
    return done.stdout


def points(run: Path) -> list[tuple[int, int]]:
    return [tuple(map(int, line.split())) for line in (run / "log.index").read_text().splitlines()]


def test_a_point_for_what_was_written_and_none_for_silence(shell, tmp_path):
    text = """exec 8>>"$run/log"; keep_log_begin 8; keep_log
    sh -c 'echo hello; echo world >&2' >&8 2>&1
    keep_log; keep_log; keep_log
    printf more >&8; log_last=$((log_last - 2)); keep_log; keep_log; date +%s"""
    now = int(keep(shell, tmp_path, text))
    assert [offset for _, offset in points(tmp_path)] == [12, 16]
    assert all(now - 3 <= when <= now + 1 for when, _ in points(tmp_path))


def test_at_most_a_point_every_two_seconds(shell, tmp_path):
    text = 'exec 8>>"$run/log"; keep_log_begin 8; for i in 1 2 3 4 5; do echo x >&8; keep_log; done'
    keep(shell, tmp_path, text)
    assert points(tmp_path)[0][1] == 2 and len(points(tmp_path)) <= 2


def test_without_a_shared_descriptor_the_file_is_asked(shell, tmp_path):
    keep(shell, tmp_path, 'keep_log_begin ""; echo hello >>"$run/log"; keep_log')
    assert [offset for _, offset in points(tmp_path)] == [6]


def test_the_older_half_is_given_back_and_what_follows_stays_where_it_was(shell, tmp_path):
    if shutil.which("fallocate") is None:
        pytest.skip("no fallocate")
    lines = "seq -f 'line %09.0f' 1 100000"  # 1,500,000 bytes
    text = f"""exec 8>>"$run/log"; keep_log_begin 8 1000000; {lines} >&8; keep_log; keep_log
    echo last >&8; log_last=0; keep_log"""
    keep(shell, tmp_path, text)
    log, punched = tmp_path / "log", int((tmp_path / "log.punched").read_text())
    assert log.stat().st_size == 1_500_005 and punched == (1_500_000 - 500_000) // 4096 * 4096
    assert log.stat().st_blocks * 512 < 600_000
    with log.open("rb") as file:
        assert file.read(punched) == bytes(punched)
        rest = file.read()
    assert rest.endswith(b"line 000100000\nlast\n") and b"\0" not in rest

    keep(shell, tmp_path, f'archive_log "{tmp_path}/kept.log"')
    said, *kept = (tmp_path / "kept.log").read_text().splitlines()
    gone = 1_500_005 - sum(len(line) + 1 for line in kept)
    assert said == logkeeping.GIVEN_BACK % gone
    assert kept[-1] == "last" and kept[0].startswith("line 0000") and len(kept[0]) == 14
    assert not list(tmp_path.glob("log*"))
    size = (tmp_path / "kept.log").stat().st_size
    offsets = [int(line.split()[1]) for line in (tmp_path / "kept.index").read_text().splitlines()]
    assert offsets[-1] == size and all(0 < offset <= size for offset in offsets)


def test_where_no_hole_can_be_made_the_log_stays_whole(shell, tmp_path):
    text = """fallocate() { return 1; }
    exec 8>>"$run/log"; keep_log_begin 8 1000; seq 1 1000 >&8; keep_log; keep_log"""
    keep(shell, tmp_path, text)
    assert not (tmp_path / "log.punched").exists()
    assert (tmp_path / "log").read_text().splitlines()[0] == "1"


def test_an_archived_log_keeps_its_index(shell, tmp_path):
    keep(shell, tmp_path, 'keep_log_begin ""; echo hello >>"$run/log"; keep_log; archive_log "$run/kept.log"')
    assert (tmp_path / "kept.log").read_text() == "hello\n"
    assert (tmp_path / "kept.index").read_text().split()[1] == "6"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["kept.index", "kept.log"]
