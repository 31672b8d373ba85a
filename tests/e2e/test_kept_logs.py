"""What stays of a server's runs on its machine: their logs, whole, named, ten of them."""

from __future__ import annotations

import os
import re
import signal
import threading
from pathlib import Path

import pytest
import sshd as private
from commandline import Terminal

from launcher.errors import StartFailed

ARCHIVED = re.compile(r"\d{8}T\d{6}Z-\d{7}-[a-z]+(-\d+)?\.log")


def archive(world, name: str = "lab-pc") -> list[Path]:
    """The archived logs of a host on this machine, the oldest first."""
    return sorted((world.home / ".local/state/se-remote" / name).glob("*"))


def how(path: Path) -> str:
    return path.stem.split("-", 2)[2]


@pytest.fixture
def terminal(world):
    made = Terminal(world)
    yield made
    for name in made.own_hosts():
        made.se_remote("kill", name, "--force")


def test_every_way_to_end_leaves_its_log(world):
    """Stopped, killed, crashed, failed in setup, all killed at once: each run is a file that says so."""
    launcher = world.launcher(keep=True)
    launcher.open([world.standin(local=True)])
    assert launcher.stop(world.standin(local=True)).how == "graceful"

    launcher.open([world.standin("stubborn", local=True)])
    assert launcher.stop(world.standin(local=True), hurry=True).how == "killed"

    for host in (world.standin("die", local=True), world.standin(local=True, setup="echo no map; exit 4")):
        with pytest.raises(StartFailed):
            launcher.open([host])

    lease = launcher.open([world.standin(local=True)])["lab-pc"]
    os.kill(lease.server["pid"], signal.SIGKILL)
    run = Path(world.base) / "lab-pc"
    assert private.wait_until(lambda: (run / "exit.json").exists())

    launcher.open([world.standin(local=True)])
    for text in private.marked(world.mark):
        os.kill(int(text.split()[0]), signal.SIGKILL)
    assert private.wait_until(lambda: not private.marked(world.mark))
    assert launcher.stop(world.standin(local=True)).how == "dead"

    found = archive(world)
    assert [how(path) for path in found] == [
        "stopped", "killed", "server-3", "setup-4", "server-137", "vanished",
    ]  # fmt: skip
    assert all(ARCHIVED.fullmatch(path.name) for path in found)
    assert {path.stat().st_mode & 0o777 for path in found} == {0o600}
    kept = world.home / ".local/state/se-remote"
    assert {p.stat().st_mode & 0o777 for p in (kept, kept / "lab-pc")} == {0o700}
    for number in range(1, 7):
        path, _ = launcher.read_log(world.standin(local=True), run=number)
        assert path == str(found[-number])
    assert launcher.read_log(world.standin(local=True), run=7) == ("", "")
    assert [run.ended for run in launcher.runs(world.standin(local=True))] == [
        "vanished", "server-137", "setup-4", "server-3", "killed", "stopped",
    ]  # fmt: skip


def test_ten_runs_are_kept(world):
    launcher = world.launcher(keep=True)
    host = world.standin(local=True)
    for _ in range(12):
        launcher.open([host])
        launcher.stop(host)
    assert len(archive(world)) == 10
    runs = launcher.runs(host)
    assert [run.began for run in runs] == sorted((run.began for run in runs), reverse=True)


def test_a_log_that_was_rotated_is_one_run_and_is_read_whole(world):
    """A real server with a small limit, that is told much; then it is stopped."""
    host = world.host(local=True, server="{server} --log-limit 30000")
    launcher, follower = world.launcher(keep=True), world.launcher()
    launcher.open([host])
    run = Path(world.base) / "lab-pc"
    lines: list[str] = []

    def follow():
        follower.follow_log(host, lines.append, lambda text: None, 10)

    thread = threading.Thread(target=_quietly, args=(follow,))
    thread.start()
    assert private.wait_until(lambda: lines)
    everything = [f"noise {number}" for number in range(4000)]
    with (run / "server.log").open("a") as log:  # as a program that the setup lines have left running
        log.write("\n".join(everything) + "\n")
    assert private.wait_until(lambda: (run / "server.log.1").exists(), 20)
    assert private.wait_until(lambda: (run / "server.log").stat().st_size < 30000)
    with (run / "server.log").open("a") as log:
        log.write("after it\n")
    assert private.wait_until(lambda: "after it" in lines), "following goes on behind a rotation"
    assert private.wait_until(lambda: "after it" in world.tmux("capture-pane", "-p")), "and the window's tail"
    whole = launcher.read_log(host, 1_000_000)[1].splitlines()
    assert [line for line in whole if line.startswith("noise")] == everything
    assert any("goes on here" in line for line in whole)
    follower.abort()
    thread.join(10)
    assert launcher.stop(host).how == "graceful"
    (kept,) = archive(world)
    text = kept.read_text()
    assert [line for line in text.splitlines() if line.startswith("noise")] == everything
    assert "listening on" in text and "stopping" in text


def _quietly(work):
    from launcher.errors import Aborted

    try:
        work()
    except Aborted:
        pass


def test_logs_of_runs_on_the_command_line(terminal):
    """Listed and read by number; the one that runs has none."""
    assert terminal.se_remote("logs", terminal.name, "--runs").code == 1
    for _ in range(2):
        assert terminal.se_remote("up", terminal.name).code == 0
        assert terminal.se_remote("kill", terminal.name).code == 0
    assert terminal.se_remote("up", terminal.name).code == 0
    listing = terminal.se_remote("logs", terminal.name, "--runs")
    assert listing.code == 0
    head, *rows = listing.out.splitlines()
    assert head.split() == ["RUN", "BEGAN", "LAST", "LINE", "SIZE", "ENDED"]
    assert [row.split()[0] for row in rows] == ["-", "1", "2"]
    assert "(it runs)" in rows[0] and "stopped in order" in rows[1]
    running = terminal.se_remote("logs", terminal.name).out
    first, second = (terminal.se_remote("logs", terminal.name, "--run", n).out for n in ("1", "2"))
    assert "stopping" not in running and "stopping" in first and "stopping" in second
    assert len({running, first, second}) == 3
    missing = terminal.se_remote("logs", terminal.name, "--run", "3")
    assert missing.code == 1 and "no log of run 3" in missing.err and "--runs" in missing.err
    for words in (["--run", "0"], ["--run", "x"], ["--run", "1", "-f"], ["--runs", "--run", "1"]):
        assert terminal.se_remote("logs", terminal.name, *words).code == 2, words
