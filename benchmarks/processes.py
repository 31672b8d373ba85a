"""What processes cost: commands over SSH, time against one process, against a bare exec, against `ssh cat`.

All is measured in this process, interleaved, over a private sshd on loopback; ratios are of medians of one
run. Commands are counted in sshd's own log. `from nothing` is a new Launcher with a new connection, as each
command of the command line has; asyncssh is imported before. `open`: a Launcher that has its connection.
`se-remote`: the command itself, from its start to its end. A status is asked for again and again by one
Launcher: the first one is a command there, which the next ones go on talking to.

    python benchmarks/processes.py [ROUNDS]
"""

from __future__ import annotations

import asyncio
import math
import secrets
import statistics
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

import asyncssh
import yaml
from common import Bench, bench, private, spread

from launcher.processes import Launcher

LINES = 100_000
RC_S = 0.33
RC = "case $- in *i*) ;; *) return ;; esac\nsleep {}; echo read >>{}\n"
"""As Debian's: bash reads the file for each command of sshd, too, and that is not meant here."""
CHAIN = 5
MANY = 10


class Stack:
    """An inventory of processes on the bench's sshd, in a session of its own."""

    def __init__(self, world: Bench) -> None:
        self.world = world
        self.file = world.directory / "se-remote.yaml"
        self.base = world.directory / "b"
        self.session = f"bench{secrets.token_hex(3)}"
        config = Path(world.environ["HOME"]) / ".ssh" / "config"
        config.write_text(
            f"Host *\n  IdentityFile {world.sshd.client_key}\n  UserKnownHostsFile {world.known_hosts}\n"
        )
        self.rc = world.sshd.home / ".bashrc"
        self.rc_read = world.sshd.home / "rc-was-read"
        user = world.host().machine.user
        sleeper = {"machine": f"{user}@127.0.0.1:{world.sshd.port}", "cmd": "exec sleep 3600"}
        entries = {f"p{n}": dict(sleeper) for n in range(MANY)}
        for number in range(CHAIN):
            entries[f"c{number}"] = {**sleeper, "depends": [f"c{number - 1}"] if number else []}
            entries[f"r{number}"] = {**sleeper, "login": True}
        flood = f"seq -f '%.0f some words of a line as they are' 1 {LINES}; {sleeper['cmd']}"
        entries["flood"] = {**sleeper, "cmd": flood, "ready_check": {"log": f"^{LINES} "}}
        document = {"context": {"session": self.session}, "processes": entries}
        self.file.write_text(yaml.safe_dump(document))

    def open(self) -> Launcher:
        return Launcher.from_file(self.file, environ=self.world.environ, base=str(self.base))

    @property
    def commands(self) -> int:
        """How many sshd has started so far."""
        text = (self.world.directory / "sshd.log").read_text()
        return text.count("Starting session: ")

    async def counted(self, action: Callable[[], Awaitable[object]]) -> int:
        before = self.commands
        await action()
        await asyncio.sleep(0.2)  # sshd writes its log from processes of its own
        return self.commands - before


def names(kind: str, count: int) -> list[str]:
    return [f"{kind}{number}" for number in range(count)]


async def timed(action: Awaitable[object]) -> float:
    began = time.perf_counter()
    await action
    return time.perf_counter() - began


async def run(stack: Stack, wanted: Sequence[str]) -> None:
    """From nothing."""
    async with stack.open() as launcher:
        await launcher.run(*wanted)


async def kill(stack: Stack, wanted: Sequence[str]) -> None:
    """From nothing."""
    async with stack.open() as launcher:
        await launcher.kill(*wanted)


async def run_and_kill(stack: Stack, wanted: Sequence[str]) -> tuple[float, float]:
    return await timed(run(stack, wanted)), await timed(kill(stack, wanted))


async def run_and_kill_open(launcher: Launcher, wanted: Sequence[str]) -> tuple[float, float]:
    """Over a connection and a command there that are open, as who runs a stack from Python has them."""
    return await timed(launcher.run(*wanted)), await timed(launcher.kill(*wanted))


def command_line(stack: Stack, verb: str, wanted: Sequence[str]) -> float:
    """Seconds of `se-remote VERB …`, with all that a command costs."""
    began = time.perf_counter()
    subprocess.run(
        [sys.executable, "-m", "launcher.cli.main", verb, *wanted], check=True, capture_output=True,
        env=stack.world.environ, cwd=stack.file.parent,
    )  # fmt: skip
    return time.perf_counter() - began


async def connect(world: Bench) -> asyncssh.SSHClientConnection:
    return await asyncssh.connect(
        "127.0.0.1", world.sshd.port, client_keys=[str(world.sshd.client_key)],
        known_hosts=str(world.known_hosts), config=None,
    )  # fmt: skip


async def status_against_exec(stack: Stack, rounds: int) -> tuple[list[float], list[float], int]:
    """Status of all that runs, and `exec true`, each on a connection that is open."""
    ours, bare = [], []
    async with stack.open() as launcher, await connect(stack.world) as connection:
        for number in range(rounds + 1):
            pair = await timed(connection.run("true", check=True)), await timed(launcher.status())
            if number:  # the first round opens what stays open
                bare.append(pair[0])
                ours.append(pair[1])
        count = await stack.counted(launcher.status)
    return ours, bare, count


def ssh_cat(stack: Stack, path: Path) -> float:
    """Seconds of OpenSSH's own client for the whole file."""
    world = stack.world
    config = f"{world.environ['HOME']}/.ssh/config"
    began = time.perf_counter()
    done = subprocess.run(
        ["ssh", "-F", config, "-p", str(world.sshd.port), "127.0.0.1", f"cat {path}"],
        capture_output=True, check=True,
    )  # fmt: skip
    took = time.perf_counter() - began
    assert done.stdout.count(b"\n") >= LINES
    return took


async def follow(stack: Stack) -> float:
    """Seconds from nothing to the last line; every line is there, in order."""
    began = time.perf_counter()
    heard: list[str] = []
    async with stack.open() as launcher:
        async for line in launcher.watch("flood", lines=None):
            heard.append(str(line))
            if len(heard) == LINES:
                break
        took = time.perf_counter() - began
    assert [int(line.split()[0]) for line in heard] == list(range(1, LINES + 1))
    return took


async def slow_rc(stack: Stack, rounds: int) -> tuple[float, int]:
    """What a slow rc file adds to a run of five, as a share of its own time; and how often it is read."""
    took: dict[bool, list[float]] = {True: [], False: []}
    wanted = names("r", CHAIN)
    reads = 0
    for _ in range(rounds):
        for slow in (False, True):
            stack.rc.write_text(RC.format(RC_S, stack.rc_read) if slow else "")
            took[slow].append((await run_and_kill(stack, wanted))[0])
            if slow:
                reads = max(reads, len(stack.rc_read.read_text().splitlines()))
                stack.rc_read.unlink()
    print(f"run of {CHAIN}, empty rc file          {spread(took[False])}")
    print(f"run of {CHAIN}, rc file of {RC_S} s       {spread(took[True])}")
    extra = statistics.median(took[True]) - statistics.median(took[False])
    return extra / RC_S, reads


def held(name: str, value: float, limit: float, form: str = ".2f") -> bool:
    holds = value <= limit
    print(f"{name:<62} {value:8{form}}  (at most {limit:g})  {'holds' if holds else 'MISSED'}")
    return holds


def ratio(ours: Sequence[float], floor: Sequence[float]) -> float:
    return statistics.median(ours) / statistics.median(floor)


async def measure(stack: Stack, rounds: int) -> bool:
    one, many, chain = names("p", 1), names("p", MANY), names("c", CHAIN)
    times: dict[str, list[float]] = {
        key: [] for key in ("run 1", "kill 1", "run 10", "kill 10", "chain", "kill c")
    }
    for number in range(rounds + 1):
        for key, wanted in (("1", one), ("10", many)):
            pairs = [("", await run_and_kill(stack, wanted))]
            async with stack.open() as launcher:
                await launcher.status()
                await launcher.run(*chain[:1])  # what is open, is
                pairs.append((", open", await run_and_kill_open(launcher, wanted)))
                await launcher.kill(*chain[:1])
            said = command_line(stack, "run", wanted), command_line(stack, "kill", wanted)
            pairs.append((", se-remote", said))
            for how, (ran, killed) in pairs:
                if number:  # the first round warms the caches of both sides
                    times.setdefault(f"run {key}{how}", []).append(ran)
                    times.setdefault(f"kill {key}{how}", []).append(killed)
        ran, killed = await timed(run(stack, chain[-1:])), await timed(kill(stack, chain[:1]))
        times["chain"].append(ran)
        times["kill c"].append(killed)

    counted = {
        "run of 1": (await stack.counted(lambda: run(stack, one)), 3),
        "run of 10 independent": (await stack.counted(lambda: run(stack, many)), 3),
        "run of a chain of 5": (await stack.counted(lambda: run(stack, chain[-1:])), 2 + CHAIN),
    }
    ours, bare, commands = await status_against_exec(stack, 4 * rounds)
    counted["status of 15"] = (commands, 1)
    counted["kill of 15"] = (await stack.counted(lambda: kill(stack, [*many, *chain])), 3)

    await run(stack, ["flood"])
    (log,) = (stack.base / ".processes" / stack.session).rglob("log")
    heard, cat = [], []
    for number in range(rounds + 1):
        pair = ssh_cat(stack, log), await follow(stack)
        if number:
            cat.append(pair[0])
            heard.append(pair[1])
    await kill(stack, ["flood"])
    rc_share, rc_reads = await slow_rc(stack, max(3, rounds // 2))

    rows = [*times.items(), ("status of 15, open connection", ours), ("exec true, open connection", bare),
            (f"following {LINES} lines", heard), (f"ssh cat of {LINES} lines", cat)]  # fmt: skip
    for key, values in rows:
        print(f"{key:<34} {spread(values)}")
    print()
    good = [held(f"ssh commands, {key}", value, limit, "d") for key, (value, limit) in counted.items()]
    for verb in ("run", "kill"):
        for how, limit in ((", se-remote", 1.3), ("", 1.3), (", open", math.inf)):
            share = ratio(times[f"{verb} 10{how}"], times[f"{verb} 1{how}"])
            good.append(held(f"{verb} of 10{how or ', from nothing'} / of one", share, limit))
    good += [
        held("status of 15 / bare exec on an open connection", ratio(ours, bare), 1.2),
        held(f"following {LINES} lines from nothing / ssh cat", ratio(heard, cat), 1.0),
        held("a slow rc file, read how often for a run of 5", rc_reads, 1, "d"),
        held("… and added to it, as a share of its own time", rc_share, 1.25),
    ]
    return all(good)


def main() -> int:
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 9
    with bench() as world:
        world.sshd.start("LogLevel VERBOSE")
        stack = Stack(world)
        good = asyncio.run(measure(stack, rounds))
        assert not (stack.base / ".processes").exists()
        private.wait_until(lambda: not private.marked(world.sshd.mark), 5)
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
