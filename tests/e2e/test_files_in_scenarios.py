"""Files that cross with a scenario: what is pushed is found there, what actions write is here for --post-run.

The real scenario_execution over a real sshd, through a relay that can be slow and cut. After each test
the fixture asserts that nothing is left on the host: no outputs, no run directory.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
from pathlib import Path
from xml.etree import ElementTree

import pytest
import sshd as private
from commandline import ENDS_WITHIN, Terminal
from relay import Relay
from test_resume import Reader

from launcher.api import Host

SLOW = 2_000_000
"""Bytes a second, of a way on which a fetch of `BIG` takes long enough to be disturbed."""
BIG = 12_000_000


class Journey(Terminal):
    """A terminal whose scenario folder is pushed to a host that is reached through a relay."""

    def __init__(self, world) -> None:
        self.relay = Relay(world.sshd.port)
        known = world.known_hosts.read_text().replace(f":{world.sshd.port} ", f":{self.relay.port} ")
        world.known_hosts.write_text(world.known_hosts.read_text() + known)
        super().__init__(world)
        self.host()

    def host(self, **more: str) -> None:
        """The inventory, with these keys."""
        entry = self.entry(self.name, **{"push": "scenario", "lease": "6s", **more})
        self.write_inventory(entry.replace(f":{self.world.sshd.port}\n", f":{self.relay.port}\n"))

    @property
    def out(self) -> Path:
        return self.folder / "out"

    @property
    def outputs(self) -> Path:
        """Where they lie on the host; its home is not ours."""
        return self.world.server_home / ".local/state/se-remote/outputs"

    @property
    def sessions(self) -> list[Path]:
        return sorted(self.outputs.glob("*/*"))

    def script(self, name: str, *lines: str) -> None:
        """A program next to the .osc file; its first argument is the output folder."""
        path = self.folder / name
        path.write_text("#!/bin/sh\n" + "".join(f"{line}\n" for line in lines))
        path.chmod(0o755)

    def call(self, name: str, more: str = "") -> str:
        """It, run on the host."""
        return f'run_process("./{name} {self.out}"{more}) with:\n    remote("lab-pc")\n'

    def pulled(self, name: str) -> list[Path]:
        """The files of that name that are here after `se-remote pull`."""
        self.se_remote("pull", self.name)
        return sorted(self.folder.glob(f"2*/{name}"))

    def begin(self, body: str) -> Reader:
        """A scenario that goes on."""
        command = ["scenario_execution", "-o", str(self.out), self.write_scenario(body)]
        return Reader(self.start(*command))


@pytest.fixture
def terminal(world):
    made = Journey(world)
    try:
        yield made
        made.relay.pace = 0.0
        made.se_remote("kill", made.name, "--force")
        assert private.wait_until(lambda: not made.run_dir.exists(), 20), list(made.run_dir.iterdir())
        assert not made.outputs.exists(), sorted(made.outputs.rglob("*"))
    finally:
        made.relay.close()


def test_a_script_next_to_the_scenario_runs_and_what_it_writes_is_there_for_post_run(terminal):
    """And what exists in the output folder goes beside."""
    terminal.script("bringup.sh", 'cat "$(dirname "$0")/params.yaml" >"$1/seen"', 'mkdir -p "$1/a b"',
                    'pwd >"$1/a b/where"', 'echo there >"$1/mine"')  # fmt: skip
    (terminal.folder / "params.yaml").write_text("speed: 1\n")
    terminal.script("post.sh", 'cd "$1" && cat seen "a b/where" mine "mine.$(ls | sed -n "s/^mine[.]//p")"')
    terminal.out.mkdir()
    (terminal.out / "mine").write_text("here\n")
    (terminal.out / "old.bag").write_text("of an earlier run: must not be pushed")
    post = str(terminal.folder / "post.sh")
    done = terminal.scenario(terminal.call("bringup.sh"), "-o", str(terminal.out), "--post-run", post)
    assert done.code == 0, done.text
    assert f"{terminal.folder}: 5 files sent" in done.out
    printed = done.out.partition("Running post-run")[2]
    assert "speed: 1" in printed and "here" in printed and "there" in printed
    where = (terminal.out / "a b" / "where").read_text().strip()
    assert where.startswith(f"{terminal.run_dir}/push/") and where.endswith("/work")
    assert (terminal.out / "mine").read_text() == "here\n"
    assert (terminal.out / f"mine.{terminal.name}").read_text() == "there\n"
    assert f"beside it as mine.{terminal.name}" in done.out


def test_a_scenario_that_fails_and_one_that_writes_nothing(terminal):
    terminal.script("fails.sh", 'echo evidence >"$1/evidence"', "exit 3")
    terminal.script("nothing.sh", 'test -d "$1"')
    done = terminal.scenario(terminal.call("fails.sh"), "-o", str(terminal.out))
    assert done.code == 1
    assert (terminal.out / "evidence").read_text() == "evidence\n"
    done = terminal.scenario(terminal.call("nothing.sh"), "-o", str(terminal.out))
    assert done.code == 0, done.text
    assert "fetched" not in done.out


def test_what_cannot_come_fails_a_scenario_whose_actions_succeeded(terminal):
    terminal.script("writes.sh", 'echo data >"$1/data"', 'mkfifo "$1/<pipe>"')
    done = terminal.scenario(terminal.call("writes.sh"), "-o", str(terminal.out))
    assert done.code == 1, done.text
    failure = ElementTree.parse(terminal.out / "test.xml").find(".//failure")
    assert failure.get("message").startswith(f"output files of {terminal.name} did not come: <pipe>: ")
    assert failure.get("message").endswith(f"; se-remote pull {terminal.name}")
    assert (terminal.out / "data").read_text() == "data\n"
    shutil.rmtree(terminal.outputs)


def test_two_scenarios_in_one_file_each_have_their_own(terminal):
    """And the script's path is a relative and an absolute one."""
    terminal.script("say.sh", 'pwd >"$1/where"', 'ls .. >"$1/beside"')
    one = "import osc.helpers\nimport osc.remote\n\n"
    for name, where in (("first", "."), ("second", terminal.folder)):
        call = f"{where}/say.sh {terminal.out / name}"
        one += f'scenario {name}:\n    do serial:\n        run_process("{call}") with:\n'
        one += '            remote("lab-pc")\n'
    (terminal.folder / "two.osc").write_text(one)
    done = terminal.run("scenario_execution", "-o", str(terminal.out), "two.osc")
    assert done.code == 0, done.text
    wheres = [(terminal.out / name / "where").read_text() for name in ("first", "second")]
    assert wheres[0] == wheres[1]
    assert f"{terminal.folder}: 0 files sent (0 B), 3 unchanged" in done.out  # before the second


def test_a_recorder_that_needs_sigint_and_time_is_waited_for(terminal):
    """Interrupted while it records: its file is closed, fetched, and there when the results are written."""
    terminal.script("record.sh", "trap 'sleep 2; echo closed >>\"$file\"; exit 0' INT", 'file=$1/bag',
                    'echo open >"$file"', 'echo recording', "while :; do sleep 0.1; done")  # fmt: skip
    running = terminal.begin(terminal.call("record.sh", ", shutdown_signal: signal!sigint"))
    running.wait_for("recording")
    running.process.send_signal(signal.SIGINT)
    assert running.end() == 1
    assert (terminal.out / "bag").read_text() == "open\nclosed\n"
    assert (terminal.out / "test.xml").exists()


def slow_fetch(terminal) -> Reader:
    """A scenario that was interrupted and has come as far as to fetch a large file, slowly."""
    terminal.script("big.sh", f'head -c {BIG} /dev/urandom >"$1/big"', "echo written", "exec sleep 300")
    running = terminal.begin(terminal.call("big.sh"))
    running.wait_for("written")
    terminal.relay.pace = SLOW
    running.process.send_signal(signal.SIGINT)
    running.wait_for("fetching output files")
    return running


def test_a_second_ctrl_c_leaves_it_there_and_pull_gets_it(terminal):
    running = slow_fetch(terminal)
    running.process.send_signal(signal.SIGINT)
    running.wait_for("(interrupted)")
    terminal.relay.pace = 0.0
    assert running.end() == 1
    assert f"se-remote pull {terminal.name}" in running.text
    (session,) = terminal.sessions
    assert (session / "big").stat().st_size == BIG
    assert not (terminal.out / "big").exists()
    assert [path.stat().st_size for path in terminal.pulled("big")] == [BIG]


@pytest.mark.slow
def test_ctrl_c_while_it_is_sent(terminal):
    (terminal.folder / "maps").write_bytes(os.urandom(BIG))
    terminal.script("late.sh", "echo it ran")
    terminal.relay.pace = SLOW
    running = terminal.begin(terminal.call("late.sh"))
    running.wait_for("sending files")
    running.process.send_signal(signal.SIGINT)
    assert running.end() == 1
    assert "aborted by SIGINT" in running.text and "it ran" not in running.text


def test_a_connection_that_is_cut_while_it_is_fetched(terminal):
    running = slow_fetch(terminal)
    terminal.relay.cut()
    terminal.relay.pace = 0.0
    terminal.relay.restore()
    assert running.end() == 1
    assert "1 output file fetched" in running.text
    assert (terminal.out / "big").stat().st_size == BIG


@pytest.mark.slow
def test_a_host_that_is_lost_keeps_them(terminal):
    terminal.script("write.sh", 'echo kept >"$1/kept"', "echo written", "exec sleep 300")
    running = terminal.begin(terminal.call("write.sh"))
    running.wait_for("written")
    terminal.relay.cut()
    assert running.end() == 1
    assert f"se-remote pull {terminal.name}" in running.text
    terminal.relay.restore()
    assert private.wait_until(lambda: not terminal.run_dir.exists(), 40)
    assert [path.read_text() for path in terminal.pulled("kept")] == ["kept\n"]


def test_a_client_that_is_killed_leaves_them_on_the_host(terminal):
    terminal.host(lease="3s")
    terminal.script("write.sh", 'echo kept >"$1/kept"', "echo written", "exec sleep 300")
    running = terminal.begin(terminal.call("write.sh"))
    running.wait_for("written")
    assert terminal.pulled("kept") == [], "a session that lives is not robbed"
    running.process.kill()
    running.process.wait()
    assert private.wait_until(lambda: not terminal.run_dir.exists(), 40)
    assert [path.read_text() for path in terminal.pulled("kept")] == ["kept\n"]


def test_a_kept_server_is_sent_only_what_has_changed(terminal):
    terminal.script("say.sh", 'cat data >"$1/seen"')
    data = terminal.folder / "data"
    data.write_text("one\n")
    terminal.write_scenario(terminal.call("say.sh"))
    assert terminal.se_remote("up", terminal.name).code == 0
    for text, sent, unchanged in (("one", 4, 0), ("two", 1, 3)):
        if data.read_text() != f"{text}\n":
            data.write_text(f"{text}\n")
        done = terminal.run("scenario_execution", "-o", str(terminal.out), "test.osc")
        assert done.code == 0, done.text
        assert f"{sent} file" in done.out and f"{unchanged} unchanged" in done.out, done.out
        assert (terminal.out / "seen").read_text() == f"{text}\n"
        (terminal.out / "seen").unlink()
    assert terminal.run_dir.joinpath("push").is_dir()


def test_clients_that_push_to_one_server_at_once_do_not_disturb_each_other(terminal):
    """Two folders of one name with different contents, and one folder twice."""
    assert terminal.se_remote("up", terminal.name).code == 0
    terminal.script("say.sh", "i=0; while [ $i -lt 10 ]; do cat data; i=$((i+1)); sleep 0.1; done >$1/seen")
    terminal.write_scenario(terminal.call("say.sh"))
    inventory = (terminal.folder / "se-remote.yaml").read_text()
    started = []
    for number, name in enumerate(("a", "b", "b")):
        folder = terminal.folder / name / "nav"
        folder.mkdir(parents=True, exist_ok=True)
        out = terminal.folder / f"out{number}"
        (folder / "se-remote.yaml").write_text(inventory)
        (folder / "data").write_text(f"{name}\n")
        for file in ("say.sh", "test.osc"):
            text = (terminal.folder / file).read_text().replace(str(terminal.out), str(out))
            target = folder / (f"test{number}.osc" if file == "test.osc" else file)
            if not target.exists():
                target.write_text(text)
                target.chmod(0o755)
        started.append((name, out, folder / f"test{number}.osc"))
    run = "scenario_execution"
    processes = [(name, out, terminal.start(run, "-o", str(out), str(osc))) for name, out, osc in started]
    for name, out, process in processes:
        printed = process.communicate(timeout=ENDS_WITHIN)
        assert process.returncode == 0, printed
        assert (out / "seen").read_text() == f"{name}\n" * 10


def test_on_this_machine_actions_write_where_the_scenario_does(terminal):
    terminal.write_inventory("  here: {machine: local, push: scenario, aliases: [lab-pc]}\n")
    terminal.script("say.sh", 'pwd >"$1/where"')
    done = terminal.scenario(terminal.call("say.sh"), "-o", str(terminal.out))
    assert done.code == 0, done.text
    assert (terminal.out / "where").read_text().strip() == str(terminal.folder)
    assert "fetched" not in done.out and "sent" not in done.out


def test_a_folder_that_is_not_there_and_paths_that_are_mapped(terminal):
    terminal.host(push="[scenario, ../nowhere]")
    done = terminal.scenario(terminal.call("say.sh"))
    assert done.code == 1
    assert "push: " in done.text and "nowhere is no folder" in done.text and "se-remote.yaml" in done.text
    terminal.host(push="[scenario, {from: maps, to: site}]", path_map="{/maps: ~/maps, /etc/nav: /opt/nav}")
    (terminal.folder / "maps").mkdir()
    (terminal.folder / "maps" / "hall").write_text("hall\n")
    terminal.script("args.sh", 'for word; do echo "<$word>"; done; cat "$1/hall"')
    words = f"{terminal.folder}/maps map:=/maps/x --file=/etc/nav/a.yaml /etc/other /mapsx"
    done = terminal.scenario(f'run_process("./args.sh {words}") with:\n    remote("lab-pc")\n')
    assert done.code == 0, done.text
    home = terminal.world.server_home
    for word in (f"map:={home}/maps/x", "--file=/opt/nav/a.yaml", "/etc/other", "/mapsx"):
        assert f"<{word}>" in done.out, done.out
    assert "/site>" in done.out and "] hall" in done.out


def test_from_python(terminal, monkeypatch):
    monkeypatch.setenv(terminal.world.mark_name, terminal.world.mark)
    terminal.host(push="tools")
    (terminal.folder / "tools").mkdir()
    terminal.script("tools/say.sh", 'echo said >"$1/said"')
    lines = []

    async def main():
        options = {"inventory": terminal.folder / "se-remote.yaml", "environ": terminal.environ}
        async with Host.open("lab-pc", output_dir=str(terminal.out), **options) as host:
            host.on_line(lambda line: lines.append(line.text))
            command = f"{terminal.folder}/tools/say.sh {terminal.out}"
            result = await host.call("run_process", command=command)
            assert result.success, result
            assert not (terminal.out / "said").exists()
        assert (terminal.out / "said").read_text() == "said\n"
        assert any("1 output file fetched" in line for line in lines), lines

    asyncio.run(asyncio.wait_for(main(), ENDS_WITHIN))
