"""`se-remote clean` removes what stays by design, says so, and touches nothing that is in use."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest
import sshd as private
from commandline import Terminal


@pytest.fixture
def terminal(world):
    made = Terminal(world)
    yield made
    for name in made.own_hosts():
        made.se_remote("kill", name, "--force")


def kept(terminal, name: str = "") -> list[Path]:
    state = terminal.world.server_home / ".local/state/se-remote"
    return sorted((state / (name or terminal.name)).glob("*"))


def crash(terminal) -> None:
    """A server that died: its run directory and its window stay."""
    assert terminal.se_remote("up", terminal.name).code == 0
    os.kill(int((terminal.run_dir / "pid").read_text().split()[0]), signal.SIGKILL)
    assert private.wait_until(lambda: (terminal.run_dir / "exit.json").exists(), 40)


def windows(terminal) -> str:
    return terminal.run(
        "/usr/bin/env", "tmux", "-S", f"{terminal.run_dir.parent}/tmux", "list-windows", "-aF",
        "#{@se_remote_name}",
    ).out  # fmt: skip


def test_logs_dead_runs_and_windows(terminal):
    for _ in range(2):
        assert terminal.se_remote("up", terminal.name).code == 0
        assert terminal.se_remote("kill", terminal.name).code == 0
    crash(terminal)
    assert len(kept(terminal)) == 2 and terminal.name in windows(terminal).split()
    dry = terminal.se_remote("clean", terminal.name, "--dry-run")
    assert dry.code == 0, dry.text
    assert f"{terminal.name}: would remove 2 logs (" in dry.out and "1 dead run (" in dry.out
    assert "1 window" in dry.out and "would free" in dry.out
    assert len(kept(terminal)) == 2 and terminal.run_dir.exists()
    done = terminal.se_remote("clean", terminal.name)
    assert done.code == 0 and f"{terminal.name}: removed 2 logs (" in done.out and "freed" in done.out
    assert dry.out.replace("would remove", "removed").replace("would free", "freed") == done.out
    assert not kept(terminal) and not terminal.run_dir.exists()
    assert not (terminal.world.server_home / ".local/state/se-remote").exists()
    assert terminal.name not in windows(terminal).split()
    assert f"{terminal.name}: nothing to remove" in terminal.se_remote("clean", terminal.name).out


def test_what_is_in_use_stays(terminal):
    """One that runs, one of a variant's, one whose child lives on, one that is about to come up."""
    assert terminal.se_remote("up", terminal.name).code == 0
    pid = (terminal.run_dir / "pid").read_text()
    done = terminal.se_remote("clean", terminal.name)
    assert done.code == 0 and f"{terminal.name}: nothing to remove" in done.out
    assert (terminal.run_dir / "pid").read_text() == pid and terminal.name in windows(terminal).split()
    assert terminal.se_remote("logs", terminal.name).code == 0
    assert terminal.se_remote("kill", terminal.name).code == 0

    survivor = f"{terminal.name}+x"
    run = terminal.run_dir.parent / survivor
    run.mkdir(mode=0o700, parents=True)
    terminal.run_dir.parent.chmod(0o700)
    (run / "exit.json").write_text('{"stage": "server", "code": 1, "time": 1}')
    child = terminal.start("/usr/bin/env", f"SE_REMOTE_RUN={run}", "sleep", "100")
    try:
        done = terminal.se_remote("clean", terminal.name)
        assert f"{survivor}: left alone" in done.out and run.exists()
    finally:
        child.kill()
        child.communicate()
    os.mkfifo(run / "ready.abc")
    assert f"{survivor}: left alone" in terminal.se_remote("clean", terminal.name).out and run.exists()
    (run / "ready.abc").rename(run / "safe.armed")
    assert f"{survivor}: left alone" in terminal.se_remote("clean", terminal.name).out, "on_stop is due"
    (run / "safe.armed").unlink()
    assert f"{survivor}: removed 1 dead run" in terminal.se_remote("clean", terminal.name).out
    assert not run.exists()


def test_every_host_of_the_inventory_and_one_that_cannot_be_reached(terminal):
    other = terminal.entry(f"{terminal.name}-far").replace("@127.0.0.1:", "@127.0.0.2:")
    terminal.write_inventory(terminal.entry(terminal.name), other)
    crash(terminal)
    hosts = (terminal.name, f"{terminal.name}-far")
    done = terminal.se_remote("clean", *hosts)
    assert done.code == 3, done.text
    assert f"{terminal.name}-far" in done.err and f"{terminal.name}: removed" in done.out
    assert not terminal.run_dir.exists()


def test_a_link_in_the_archive_is_not_followed(terminal):
    """Nor a file that is no log removed."""
    assert terminal.se_remote("up", terminal.name).code == 0
    assert terminal.se_remote("kill", terminal.name).code == 0
    precious = terminal.world.directory / "precious"
    precious.mkdir()
    (precious / "a.log").write_text("mine\n")
    state = terminal.world.server_home / ".local/state/se-remote"
    (state / f"{terminal.name}+link").symlink_to(precious)
    (state / terminal.name / "notes.txt").write_text("mine too\n")
    assert "removed 1 log" in terminal.se_remote("clean", terminal.name).out
    assert (precious / "a.log").exists() and [p.name for p in kept(terminal)] == ["notes.txt"]
