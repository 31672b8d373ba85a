"""How long until a host is there, against the least that any tool could need. Prints ratios from one run.

The floor of a cold start is one asyncssh connection and one exec of `python -c` importing what the server
imports. The floor of finding a running server is one connection and one exec of `true`.
All is measured in this process, interleaved, over a private sshd on loopback; asyncssh is imported before.

    python benchmarks/bringup.py [ROUNDS]
"""

from __future__ import annotations

import asyncio
import statistics
import sys
import time
from collections.abc import Callable

import asyncssh
from common import Bench, bench, claim, private, spread

from remote_exec.client.hub import request

_IMPORTS = "import zmq, msgpack, py_trees, scenario_execution"


def connect_and_exec(world: Bench, command: str) -> float:
    """Seconds for one connection and one exec."""

    async def measure() -> float:
        began = time.perf_counter()
        connection = await asyncssh.connect(
            "127.0.0.1", world.sshd.port, client_keys=[str(world.sshd.client_key)],
            known_hosts=str(world.known_hosts), config=None,
        )  # fmt: skip
        done = await connection.run(command, check=True)
        took = time.perf_counter() - began
        assert done.exit_status == 0
        connection.close()
        await connection.wait_closed()
        return took

    return asyncio.run(measure())


def cold(world: Bench, then: Callable[[str], None]) -> float:
    """Seconds from nothing until `then(endpoint)` has returned; everything is stopped afterwards."""
    launcher = world.launcher()
    began = time.perf_counter()
    try:
        lease = launcher.open([world.host()])["bench"]
        then(lease.endpoint)
        return time.perf_counter() - began
    finally:
        launcher.stop(world.host())  # by force: the bare client of the benchmark says no goodbye
        launcher.close(hurry=True)


def hello(endpoint: str) -> None:
    request(endpoint, "hello", {"client": {"what": "benchmark"}}, timeout=20)


def first_action(endpoint: str) -> None:
    """A session's first action, up to its reply, as the proxy does it."""
    from first_action import run_log_action

    run_log_action(endpoint)


def warm(world: Bench) -> float:
    """Seconds to find the running server, up to its hello."""
    launcher = world.launcher(keep=True)
    began = time.perf_counter()
    try:
        hello(launcher.open([world.host()])["bench"].endpoint)
        return time.perf_counter() - began
    finally:
        launcher.close()


def execs_of_status(world: Bench, count: int) -> int:
    """How many commands `status` of `count` hosts on one machine runs there, by sshd's own log."""
    log = world.directory / "sshd.log"
    world.sshd.start("LogLevel VERBOSE")
    before = log.read_text().count("Starting session: command")
    launcher = world.launcher()
    try:
        launcher.status([world.host(f"bench{i}") for i in range(count)])
    finally:
        launcher.close()
    private.wait_until(lambda: log.read_text().count("Starting session: command") > before, 5)
    return log.read_text().count("Starting session: command") - before


def main() -> int:
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 15
    with bench() as world:
        floor_cold, to_hello, to_action = [], [], []
        python = world.host().python
        for number in range(rounds + 1):
            samples = (
                connect_and_exec(world, f"{python} -c '{_IMPORTS}'"),
                cold(world, hello),
                cold(world, first_action),
            )
            if number:  # the first round warms the caches of both sides
                floor_cold.append(samples[0])
                to_hello.append(samples[1])
                to_action.append(samples[2])
        keeper = world.launcher(keep=True)
        keeper.open([world.host()])
        floor_warm, found = [], []
        for number in range(rounds + 1):
            pair = (connect_and_exec(world, "true"), warm(world))
            if number:
                floor_warm.append(pair[0])
                found.append(pair[1])
        keeper.stop(world.host())
        keeper.close()
        execs = execs_of_status(world, 10)

    print(f"floor: connect, exec, imports      {spread(floor_cold)}")
    print(f"cold up to hello                   {spread(to_hello)}")
    print(f"cold up to the first action        {spread(to_action)}")
    print(f"floor: connect, exec true          {spread(floor_warm)}")
    print(f"up of a running host, to hello     {spread(found)}")
    print(f"fastest: floor {min(floor_cold) * 1000:.0f} ms, hello {min(to_hello) * 1000:.0f} ms; ", end="")
    print(f"slowest: floor {max(floor_cold) * 1000:.0f} ms, hello {max(to_hello) * 1000:.0f} ms\n")
    held = [
        claim("cold up to hello / floor", to_hello, floor_cold, 1.0),
        claim("cold up to the first action's reply / floor", to_action, floor_cold, 1.4),
        claim("up of a running host / connect and exec", found, floor_warm, 1.3),
    ]
    print(f"{'execs for the status of 10 hosts':<44} {execs:5d}  (at most 1)  ", end="")
    print("holds" if execs == 1 else "MISSED")
    assert statistics.median(found) > 0
    return 0 if all(held) and execs == 1 else 1


if __name__ == "__main__":
    sys.exit(main())
