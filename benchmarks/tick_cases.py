"""One measurement in a process of its own: `python benchmarks/tick_cases.py CASE JSON` prints a map as JSON.

Whatever is compared is measured alternately in this process. Times in seconds.
"""

from __future__ import annotations

import json
import os
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import py_trees
import zmq
from py_trees.common import Status
from tick_baseline import RequestReplyAction
from tick_trees import PERIOD, execution, paced, settle, timed_tick, tree

median = statistics.median


def ticks(endpoint: str, count: int, rounds: int, rtt: float) -> dict[str, Any]:
    """A tick with `count` running actions, local and remote; update() alone; threads and descriptors."""
    local, remote = tree("bench_idle", count), tree("bench_idle", count, endpoint)
    with execution() as run:
        local.setup(tick_period=PERIOD)
        run.setup(remote)
        local.tick()
        settle(remote, 1.0 + 4 * rtt + count / 2000)
        pairs = [(timed_tick(local), timed_tick(remote)) for _ in range(rounds)]
        updates = timed_updates(remote, max(1, 2000 // count))
        local_updates = timed_updates(local, max(1, 2000 // count))
        threads = len(os.listdir("/proc/self/task"))
        descriptors = len(os.listdir("/proc/self/fd"))
    return {
        "local": median(a for a, _ in pairs),
        "remote": median(b for _, b in pairs),
        "update": median(updates),
        "local_update": median(local_updates),
        "threads": threads,
        "descriptors": descriptors,
    }


def timed_updates(ticked: py_trees.trees.BehaviourTree, rounds: int) -> list[float]:
    """Every update() of a few ticks, seen from inside the tree."""
    samples: list[float] = []

    def timed(update: Callable[[], Status]) -> Callable[[], Status]:
        def measure() -> Status:
            began = time.perf_counter_ns()
            status = update()
            samples.append((time.perf_counter_ns() - began) / 1e9)
            return status

        return measure

    leaves = list(ticked.root.children)
    for leaf in leaves:
        leaf.update = timed(leaf.update)
    for _ in range(rounds):
        ticked.tick()
    for leaf in leaves:
        del leaf.update
    return samples


def baseline(endpoint: str, count: int, rounds: int) -> dict[str, Any]:
    """A tick of the request-reply baseline."""
    context: zmq.Context[Any] = zmq.Context()
    root = py_trees.composites.Parallel("root", py_trees.common.ParallelPolicy.SuccessOnAll())
    for number in range(count):
        root.add_child(RequestReplyAction(f"idle {number}", "bench_idle", context, endpoint))
    made = py_trees.trees.BehaviourTree(root)
    made.setup(timeout=py_trees.common.Duration.INFINITE)
    made.tick()
    samples = [timed_tick(made) for _ in range(rounds)]
    for leaf in root.children:
        leaf.socket.close()
    context.term()
    return {"tick": median(samples)}


def first(endpoint: str, count: int, rounds: int) -> dict[str, Any]:
    """The first tick of `count` instant actions in parallel, and the ticks until all have succeeded."""
    local, remote, until = [], [], []
    with execution() as run:
        for _ in range(rounds):
            here, there = tree("bench_instant", count), tree("bench_instant", count, endpoint)
            here.setup(tick_period=PERIOD)
            run.setup(there)
            local.append(timed_tick(here))
            durations = until_done(there)
            remote.append(durations[0])
            until.append(len(durations))
    return {"local": median(local), "remote": median(remote), "ticks": median(until)}


def until_done(ticked: py_trees.trees.BehaviourTree) -> list[float]:
    """The durations of the ticks that a tree takes to succeed."""
    durations = paced(ticked, PERIOD, lambda: ticked.root.status in (Status.INVALID, Status.RUNNING))
    assert ticked.root.status is Status.SUCCESS, [c.feedback_message for c in ticked.root.children][:3]
    return durations


def serial(endpoint: str, count: int, rounds: int) -> dict[str, Any]:
    """Ticks that a serial of `count` log actions takes, and the longest of them."""
    number, longest = [], []
    with execution() as run:
        for _ in range(rounds):
            made = tree("log", count, endpoint, serial=True, args={"msg": "hello"})
            run.setup(made)
            durations = until_done(made)
            number.append(len(durations))
            longest.append(max(durations))
    return {"ticks": max(number), "longest": median(longest)}


def setup(endpoint: str, count: int, rounds: int) -> dict[str, Any]:
    """Setting up `count` actions while the link to the host is open; a whole session start each time."""
    samples = []
    with execution() as run:
        run.setup(tree("bench_idle", 1, endpoint))
        for _ in range(rounds):
            run.setup(tree("bench_idle", count, endpoint))
            samples.append(run.took)
    return {"setup": median(samples)}


def start(endpoint: str, rounds: int) -> dict[str, Any]:
    """From nothing (no link, no thread) to an action that is set up, on a running server."""
    samples = []
    for _ in range(rounds):
        with execution() as run:
            run.setup(tree("bench_idle", 1, endpoint))
            samples.append(run.took)
    return {"start": median(samples)}


def cpu(endpoint: str | None, count: int, seconds: float, server: int, begin: float) -> dict[str, Any]:
    """CPU seconds of this process, and of the server's, while `count` actions are ticked at 10 Hz."""
    made = tree("bench_idle", count, endpoint)
    with execution() as run:
        if endpoint:
            run.setup(made)
        else:
            made.setup(tick_period=PERIOD)
        settle(made, 1.5)
        time.sleep(max(0.0, begin - time.monotonic()))
        pids = [server, *descendants(server)] if endpoint else []
        before, before_there = time.process_time(), {pid: cpu_of(pid) for pid in pids}
        until = time.monotonic() + seconds
        paced(made, PERIOD, lambda: time.monotonic() < until)
        client = time.process_time() - before
        there = {name_of(pid, server): cpu_of(pid) - cpu for pid, cpu in before_there.items()}
    return {"client": client, "server": sum(there.values()), "by_process": there}


def descendants(pid: int) -> list[int]:
    found: list[int] = []
    for task in Path(f"/proc/{pid}/task").iterdir():
        for child in (task / "children").read_text().split():
            found += [int(child), *descendants(int(child))]
    return found


def name_of(pid: int, server: int) -> str:
    depth, parent = 0, pid
    while parent != server:
        parent = int(Path(f"/proc/{parent}/stat").read_text().rpartition(")")[2].split()[1])
        depth += 1
    return f"{depth}:{pid}"


def cpu_of(pid: int) -> float:
    """CPU seconds of a process, all its threads, as the scheduler counts them."""
    nanoseconds = 0
    for task in Path(f"/proc/{pid}/task").iterdir():
        nanoseconds += int((task / "schedstat").read_text().split()[0])
    return nanoseconds / 1e9


CASES: dict[str, Callable[..., dict[str, Any]]] = {
    case.__name__: case for case in (ticks, baseline, first, serial, setup, start, cpu)
}

if __name__ == "__main__":
    result = CASES[sys.argv[1]](**json.loads(sys.argv[2]))
    print(json.dumps(result))
