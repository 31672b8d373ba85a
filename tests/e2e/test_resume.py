"""A lost connection is not a lost test: the way to a real sshd is cut, silenced and restored."""

from __future__ import annotations

import random
import re
import signal
import subprocess
import threading
import time

import pytest
import sshd as private
from commandline import Terminal
from relay import Relay

from launcher.model import SshOptions

LEASE = 4.0


class Reader:
    """The output of a command that goes on, line by line."""

    def __init__(self, process) -> None:
        self.process = process
        self.lines: list[str] = []
        self._threads = [
            threading.Thread(target=self._read, args=(stream,), daemon=True)
            for stream in (process.stdout, process.stderr)
        ]
        for thread in self._threads:
            thread.start()

    def _read(self, stream) -> None:
        with stream:
            for line in stream:
                self.lines.append(line.rstrip("\n"))

    @property
    def text(self) -> str:
        return "\n".join(self.lines)

    def wait_for(self, text: str, seconds: float = 30.0) -> None:
        assert private.wait_until(lambda: text in self.text, seconds), self.text

    def end(self, seconds: float = 40.0) -> int:
        code = self.process.wait(seconds)
        for thread in self._threads:
            thread.join(5)
        assert "Traceback" not in self.text, self.text
        assert code != 0 or "[ERROR]" not in self.text, self.text
        return code


class Bench(Terminal):
    """A terminal whose host is reached through a relay."""

    def __init__(self, world) -> None:
        self.relay = Relay(world.sshd.port)
        known = world.known_hosts.read_text().replace(f":{world.sshd.port} ", f":{self.relay.port} ")
        world.known_hosts.write_text(world.known_hosts.read_text() + known)
        super().__init__(world)
        self.lease()

    def lease(self, seconds: float = LEASE, **more: str) -> None:
        self.write_inventory(self.relayed(self.name, lease=f"{seconds:g}s", **more))

    def relayed(self, name: str, **more: str) -> str:
        return self.entry(name, **more).replace(f":{self.world.sshd.port}\n", f":{self.relay.port}\n")

    def begin(self, body: str, *options: str) -> Reader:
        return Reader(self.start("scenario_execution", *options, self.write_scenario(body)))

    def script(self, name: str, text: str) -> str:
        path = self.folder / name
        path.write_text(f"#!/bin/sh\n{text}\n")
        path.chmod(0o755)
        return str(path)

    def counted(self, seconds: int = 6) -> tuple[str, object]:
        """A command that appends a line to a file each 0.1 s, and the file."""
        file = self.folder / "count"
        step = f'i=$((i+1)); echo $i >>{file}; echo "said $i"; sleep 0.1'
        return self.script("count.sh", f"i=0; while [ $i -lt {seconds * 10} ]; do {step}; done"), file


@pytest.fixture
def bench(world):
    made = Bench(world)
    yield made
    made.relay.close()
    assert private.wait_until(lambda: not made.run_dir.exists(), 30), list(made.run_dir.iterdir())


def told(reader: Reader, text: str) -> int:
    return sum(text in line for line in reader.lines)


def said(reader: Reader) -> list[int]:
    return [int(n) for n in re.findall(r"said (\d+)", reader.text)]


@pytest.mark.parametrize("kind", ["cut", "silence", "forgotten"])
def test_a_connection_that_comes_back_within_the_lease_loses_nothing(bench, kind):
    command, file = bench.counted()
    reader = bench.begin(f'run_process("{command}") with:\n    remote("lab-pc")')
    reader.wait_for("said 5")
    bench.relay.cut() if kind == "cut" else bench.relay.silence()
    time.sleep(2.5)
    began = time.monotonic()
    bench.relay.restore(forget=kind == "forgotten")
    reader.wait_for("resumed after")
    print(f"\n{kind}: resumed {time.monotonic() - began:.2f} s after the way was back")
    assert reader.end() == 0, reader.text
    assert said(reader) == list(range(1, 61)), reader.text
    assert file.read_text().split() == [str(n) for n in range(1, 61)]
    assert told(reader, "connection lost (") == 1 and told(reader, "nothing was lost") == 1, reader.text
    assert "[ERROR]" not in reader.text


@pytest.mark.slow
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_nothing_is_executed_twice_and_nothing_is_missing_however_often_the_way_breaks(bench, seed):
    """Cuts and silences at random moments, from the setup to the last goodbye."""
    bench.lease(10)
    file = bench.folder / "done"
    append = bench.script("append.sh", f'echo "$1" >>{file}; echo "did $1"; sleep 0.2; echo "said $1"')
    forever = bench.script("forever.sh", f'echo "$1" >>{file}; exec sleep 300')

    def call(command: str, indent: int = 0) -> str:
        space = " " * indent
        return f'{space}run_process("{command}") with:\n{space}    remote("lab-pc")\n'

    body = "".join(call(f"{append} {n}") for n in range(1, 9))
    for group in (20, 30, 40):
        body += "parallel:\n" + "".join(call(f"{append} {group + n}", 4) for n in range(3))
        body += "one_of:\n" + call(f"{forever} {group + 5}", 4) + call(f"{append} {group + 6}", 4)
    reader = bench.begin(body, "-o", str(bench.folder / "out"))
    reader.wait_for("server started")
    breaks = Breaks(bench.relay, random.Random(seed), reader.process)
    code = reader.end(120)
    breaks.stop()
    log = "".join(path.read_text() for path in (bench.folder / "out").rglob("*.log"))
    assert code == 0, reader.text + log
    expected = [*range(1, 9), *(group + n for group in (20, 30, 40) for n in (0, 1, 2, 5, 6))]
    assert sorted(int(n) for n in file.read_text().split()) == expected
    appended = [n for n in expected if n % 10 != 5 or n < 9]
    assert sorted(said(reader)) == sorted(int(n) for n in appended), reader.text
    print(f"\nseed {seed}: {breaks.count} breaks, {bench.relay.accepted} connections")


class Breaks:
    """Breaks and restores a relay's way until the client ends."""

    def __init__(self, relay: Relay, chance: random.Random, process) -> None:
        self.count = 0
        self._relay, self._chance, self._process = relay, chance, process
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        while self._process.poll() is None and not self._over.wait(self._chance.uniform(0.1, 1.5)):
            self.count += 1
            cut = self._chance.random() < 0.6
            self._relay.cut() if cut else self._relay.silence()
            self._over.wait(self._chance.uniform(0.02, 0.8) if cut else self._chance.uniform(0.2, 1.5))
            self._relay.restore(forget=self._chance.random() < 0.5)

    def stop(self) -> None:
        self._over.set()
        self._thread.join()


@pytest.mark.parametrize("kind", ["cut", "silence"])
def test_longer_than_the_lease_is_a_failure_and_the_host_stops_the_action(bench, kind):
    bench.lease(2)
    command, file = bench.counted(300)
    reader = bench.begin(f'run_process("{command}") with:\n    remote("lab-pc")')
    reader.wait_for("said 5")
    bench.relay.cut() if kind == "cut" else bench.relay.silence()
    began = time.monotonic()
    reader.wait_for("execution failed", 20)
    assert 1.0 < time.monotonic() - began < 15  # 2 s and at most one more; bounded for a busy machine
    assert "nothing was heard from" in reader.text
    assert reader.end() == 1
    assert "its end is not verified" in reader.text and f"se-remote status {bench.name}" in reader.text
    bench.relay.restore()
    assert private.wait_until(lambda: not bench.run_dir.exists(), 20)
    assert len(file.read_text().split()) < 100


def stopped_for(reader: Reader, seconds: float) -> None:
    reader.process.send_signal(signal.SIGSTOP)
    time.sleep(seconds)
    reader.process.send_signal(signal.SIGCONT)


def test_a_client_that_was_stopped_within_the_lease_goes_on(bench):
    command, _file = bench.counted()
    reader = bench.begin(f'run_process("{command}") with:\n    remote("lab-pc")')
    reader.wait_for("said 5")
    stopped_for(reader, 2.5)
    assert reader.end() == 0, reader.text
    assert said(reader) == list(range(1, 61)) and "[ERROR]" not in reader.text
    assert bench.relay.accepted == 1


def test_a_client_that_was_stopped_for_longer_is_told_what_has_happened(bench):
    bench.lease(2)
    reader = bench.begin('run_process("sleep 300") with:\n    remote("lab-pc")')
    reader.wait_for("server started")
    assert private.wait_until(lambda: "sleep 300" in str(private.marked(bench.world.mark)))
    stopped_for(reader, 4)
    assert reader.end() == 1
    assert "the session was ended at the host after 2 s of silence" in reader.text, reader.text
    assert "nobody listens" not in reader.text and "not verified" not in reader.text, reader.text


def test_on_loss_continue_lets_the_actions_finish(bench):
    bench.lease(1.5, on_loss="continue")
    command, file = bench.counted()
    reader = bench.begin(f'run_process("{command}") with:\n    remote("lab-pc")')
    reader.wait_for("said 5")
    bench.relay.cut()
    assert reader.end() == 1 and "nothing was heard from" in reader.text
    assert len(file.read_text().split()) < 60
    bench.relay.restore()
    # then the server ends by itself
    assert private.wait_until(lambda: not bench.run_dir.exists(), 20)
    assert file.read_text().split() == [str(n) for n in range(1, 61)]


@pytest.mark.slow
def test_on_loss_continue_a_client_that_comes_back_after_the_lease_resumes(bench):
    bench.lease(1.5, on_loss="continue")
    command, _file = bench.counted()
    reader = bench.begin(f'run_process("{command}") with:\n    remote("lab-pc")')
    reader.wait_for("said 5")
    stopped_for(reader, 3)
    assert reader.end() == 0, reader.text
    assert said(reader) == list(range(1, 61)), reader.text


@pytest.mark.parametrize("kind", ["cut", pytest.param("silence", marks=pytest.mark.slow)])
def test_interrupted_while_the_way_is_cut(bench, kind):
    bench.lease(30)
    reader = bench.begin('run_process("sleep 300") with:\n    remote("lab-pc")')
    assert private.wait_until(lambda: "sleep 300" in str(private.marked(bench.world.mark)), 20), reader.text
    bench.relay.cut() if kind == "cut" else bench.relay.silence()
    reader.wait_for("connection lost (", 10)
    reader.process.send_signal(signal.SIGINT)
    began = time.monotonic()
    assert reader.end(10) == 1
    print(f"\n{kind}: {time.monotonic() - began:.1f} s after Ctrl-C")
    assert "its end is not verified" in reader.text
    bench.relay.restore(forget=True)
    assert bench.se_remote("kill", bench.name, "--force").code == 0


def test_a_scenario_that_ends_while_the_way_is_cut_ends_in_order_when_it_is_back(bench):
    bench.lease(6)
    body = 'one_of:\n    run_process("sleep 300") with:\n        remote("lab-pc")\n    wait elapsed(4s)\n'
    reader = bench.begin(body)
    assert private.wait_until(lambda: "sleep 300" in str(private.marked(bench.world.mark)), 20), reader.text
    time.sleep(2)
    bench.relay.cut()
    reader.wait_for("waiting for its actions to end", 10)
    bench.relay.restore()
    assert reader.end() == 0, reader.text
    assert "not verified" not in reader.text and "did not confirm" not in reader.text, reader.text


def test_several_hosts_of_one_machine_come_back_over_one_connection(bench):
    names = [bench.name, f"{bench.name}-2", f"{bench.name}-3"]
    bench.write_inventory(*(bench.relayed(name, lease="6s") for name in names))
    _command, _ = bench.counted()
    calls = "".join(f'    run_process("sleep 4") with:\n        remote("{name}")\n' for name in names)
    reader = bench.begin(f"parallel:\n{calls}")
    assert private.wait_until(lambda: str(private.marked(bench.world.mark)).count("sleep 4") >= 3, 20)
    bench.relay.silence()
    for name in names:
        reader.wait_for(f"[{name}] connection lost (")
    before = bench.relay.accepted
    bench.relay.restore(forget=True)
    assert reader.end() == 0, reader.text
    for name in names:
        assert told(reader, f"[{name}] resumed after") == 1, reader.text
    assert bench.relay.accepted - before <= 1


@pytest.mark.parametrize("kind", ["cut", pytest.param("forgotten", marks=pytest.mark.slow)])
def test_what_is_jumped_through_comes_back_too(bench, kind):
    gate = bench.relayed("gate", lease="6s")
    host = bench.entry(bench.name, lease="6s").replace("ssh: {", "ssh: {jump: gate, ")
    bench.write_inventory(gate, host)
    command, _ = bench.counted()
    reader = bench.begin(f'run_process("{command}") with:\n    remote("lab-pc")')
    reader.wait_for("said 5")
    bench.relay.cut() if kind == "cut" else bench.relay.silence()
    reader.wait_for("connection lost (")
    bench.relay.restore(forget=True)
    assert reader.end() == 0, reader.text
    assert said(reader) == list(range(1, 61)) and told(reader, "nothing was lost") == 1


class Told:
    """A way's watcher."""

    def __init__(self) -> None:
        self.told: list[tuple[str, str]] = []

    def cut(self, reason: str) -> None:
        self.told.append(("cut", reason))

    def mended(self, endpoint: str) -> None:
        self.told.append(("mended", endpoint))

    def gone(self, reason: str) -> None:
        self.told.append(("gone", reason))

    def wait_for(self, what: str) -> str:
        assert private.wait_until(lambda: any(kind == what for kind, _ in self.told), 15), self.told
        return next(value for kind, value in self.told if kind == what)


def test_a_password_is_not_asked_for_again(world):
    account = world.account()
    hashed = subprocess.run(
        ["openssl", "passwd", "-6", "s3cret pw"], capture_output=True, text=True, check=True
    )
    subprocess.run(["usermod", "-p", hashed.stdout.strip(), account.name], check=True)
    world.sshd.start("PasswordAuthentication yes")
    prompts = []

    def ask(prompt: str, *, secret: bool) -> str:
        prompts.append(prompt)
        return "s3cret pw"

    host = world.standin(user=account.name, ssh=SshOptions(None, None, str(world.known_hosts)))
    launcher = world.launcher(ask=ask, base="")
    lease, told_ = launcher.open([host])["lab-pc"], Told()
    lease.way.watch(told_)
    world.sshd.start("PasswordAuthentication yes")
    told_.wait_for("mended")
    assert len(prompts) == 1 and not lease.lost.is_set()
    subprocess.run(["usermod", "-p", "*", account.name], check=True)
    world.sshd.start("PasswordAuthentication yes")
    assert "let us in with none of" in told_.wait_for("gone")
    assert len(prompts) == 1
    subprocess.run(["usermod", "-p", hashed.stdout.strip(), account.name], check=True)
    assert launcher.close() == []


def test_a_changed_host_key_on_the_way_back_is_told_at_once(world):
    launcher = world.launcher()
    lease, told_ = launcher.open([world.standin()])["lab-pc"], Told()
    lease.way.watch(told_)
    key = world.sshd.host_key
    original = key.read_bytes()
    key.unlink()
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(key)], check=True, input=b"y\n")
    world.sshd.start()
    assert "has CHANGED" in told_.wait_for("gone") and lease.lost.is_set()
    key.write_bytes(original)
    world.sshd.start()
    assert launcher.close() == []
