"""The server's log lies in the scenario's output folder, however the scenario ended."""

from __future__ import annotations

import os
import signal
import sys

import pytest
import sshd as private
from commandline import ENDS_WITHIN, Terminal

from launcher import logs as reading


@pytest.fixture
def terminal(world):
    made = Terminal(world)
    (made.folder / "out").mkdir()
    yield made
    for name in made.own_hosts():
        made.se_remote("kill", name, "--force")


def written(terminal, name: str = "") -> str:
    return (terminal.folder / "out" / "se-remote" / f"{name or terminal.name}.log").read_text()


SAY = 'log("on the other side") with:\n    remote("lab-pc")\n'
FAIL = 'run_process("false") with:\n    remote("lab-pc")\n'
SLEEP = 'run_process("sleep 60") with:\n    remote("lab-pc")\n'


def test_success_and_no_folder_no_file(terminal):
    assert terminal.scenario(SAY, "-o", "out").code == 0
    text = written(terminal)
    assert "listening on" in text and "on the other side" in text and "stopping" in text
    assert sorted(p.name for p in (terminal.folder / "out").iterdir())[0] == "se-remote"
    path = terminal.folder / "out" / "se-remote" / f"{terminal.name}.log"
    umask = os.umask(0)
    os.umask(umask)
    assert path.stat().st_uid == os.getuid() and path.stat().st_mode & 0o777 == 0o666 & ~umask
    assert path.parent.stat().st_mode & 0o777 == 0o777 & ~umask
    before = set(terminal.folder.iterdir())
    assert terminal.scenario(SAY).code == 0
    assert set(terminal.folder.iterdir()) == before


def test_failure(terminal):
    assert terminal.scenario(FAIL, "-o", "out").code != 0
    assert "listening on" in written(terminal)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interrupted(terminal, number):
    process = terminal.start("scenario_execution", "-o", "out", terminal.write_scenario(SLEEP))
    assert private.wait_until(lambda: any("sleep 60" in text for text in private.marked(terminal.world.mark)))
    process.send_signal(number)
    process.communicate(timeout=ENDS_WITHIN)
    assert "listening on" in written(terminal)


def test_only_this_run_s_part_of_a_server_that_was_up(terminal):
    assert terminal.se_remote("up", terminal.name).code == 0
    first = SAY.replace("other side", "first side")
    assert terminal.scenario(first, "-o", "out").code == 0
    assert "on the first side" in written(terminal)
    assert terminal.scenario(SAY, "-o", "out").code == 0
    text = written(terminal)
    assert "on the other side" in text and "first side" not in text and "listening on" not in text


def test_a_server_that_died(terminal):
    process = terminal.start("scenario_execution", "-o", "out", terminal.write_scenario(SLEEP))
    assert private.wait_until(lambda: any("sleep 60" in text for text in private.marked(terminal.world.mark)))
    pid = int((terminal.run_dir / "pid").read_text().split()[0])
    os.kill(pid, signal.SIGKILL)
    out, _ = process.communicate(timeout=ENDS_WITHIN)
    assert process.returncode != 0, out
    assert "listening on" in written(terminal)


def test_a_server_that_does_not_come_up(terminal):
    terminal.write_inventory(terminal.entry(terminal.name, setup="echo there is no map; false"))
    assert terminal.scenario(SAY, "-o", "out").code != 0
    assert written(terminal) == "there is no map\n"
    entry = terminal.entry(terminal.name).replace(f"python: {sys.executable}", "python: /nowhere/python")
    terminal.write_inventory(entry)
    assert terminal.scenario(SAY, "-o", "out").code != 0
    assert "/nowhere/python" in written(terminal)


@pytest.mark.slow
def test_a_host_that_is_lost_is_said_with_the_way_to_get_it_later(terminal):
    (terminal.folder / "out" / "se-remote").mkdir()
    stale = terminal.folder / "out" / "se-remote" / f"{terminal.name}.log"
    stale.write_text("of an earlier scenario\n")
    process = terminal.start("scenario_execution", "-o", "out", terminal.write_scenario(SLEEP))
    assert private.wait_until(lambda: any("sleep 60" in text for text in private.marked(terminal.world.mark)))
    terminal.world.sshd.close()
    out, err = process.communicate(timeout=ENDS_WITHIN)
    assert f"se-remote logs {terminal.name}" in out + err
    assert not stale.exists()
    assert private.wait_until(lambda: not terminal.run_dir.exists(), 40)
    terminal.world.sshd.start()
    assert "listening on" in terminal.se_remote("logs", terminal.name).out


def test_a_long_one_is_cut_and_says_so(world, monkeypatch):
    """What came before is not ours, what is too long is cut, what is rotated is joined."""
    monkeypatch.setattr(reading.fetch, "__kwdefaults__", {**reading.fetch.__kwdefaults__, "limit": 5000})
    folder = world.directory / "logs"
    host = world.standin(local=True, setup="seq 10000")
    with_log = world.launcher(logs_to=folder)
    with_log.open([host])
    assert with_log.close() == []
    first, *rest = (folder / "lab-pc.log").read_text().splitlines()
    assert "bytes before this line are left out" in first and 4900 < sum(len(n) + 1 for n in rest) <= 5000
    size = int("".join(c for c in first if c.isdecimal()))
    assert size > 40_000

    keeper = world.launcher(keep=True)
    keeper.open([host])
    (run,) = (p for p in (world.directory / "b").iterdir() if p.is_dir())
    users = world.launcher(logs_to=folder)
    users.open([host])
    # what the server does when it rotates, then goes on
    text = (run / "server.log").read_text()
    (run / "server.log.1").write_text(text + "ours\n")
    (run / "rotated").write_text(f"{len(text) + 5}\n")
    os.truncate(run / "server.log", 0)
    with (run / "server.log").open("a") as log:
        log.write("ours too\n")
    assert users.close() == []
    assert (folder / "lab-pc.log").read_text() == "ours\nours too\n"
    keeper.stop(host)
