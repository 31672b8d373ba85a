"""A flood of log lines beside other actions, in a process whose standard output somebody reads slowly.

    python benchmarks/log_cases.py JSON        the result goes to descriptor 3

The flood and the stamps run on a host; this process ticks every few milliseconds and looks how old the newest
stamp is that it sees, and how long its ticks take.
"""

from __future__ import annotations

import json
import os
import resource
import statistics
import sys
import time
from typing import Any

from scenario_execution.utils.logging import Logger
from tick_trees import execution, timed_tick, tree

WATCH = 0.005
"""Seconds between two looks; the worker still ticks with the scenario's period."""


def flood(endpoint: str, rate: int, seconds: float) -> dict[str, Any]:
    """Ticks and the lateness of statuses while `rate` lines a second are logged on the host."""
    extra = (("bench_stamp", {}), ("bench_flood", {"rate": rate, "seconds": seconds})) if rate else ()
    made = tree("bench_idle", 50, endpoint, extra=extra or (("bench_stamp", {}),))
    stamp = made.root.children[0]
    ticks, lateness, memory = [], [], []
    seen = ""
    with execution(Logger("bench", False)) as run:
        run.setup(made)
        made.tick()
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            ticks.append(timed_tick(made))
            if stamp.feedback_message != seen:
                seen = stamp.feedback_message
                lateness.append(time.monotonic() - float(seen))
            memory.append(rss())
            time.sleep(WATCH)
        began = time.monotonic()
    ordered = sorted(ticks)
    return {
        "tick": statistics.median(ticks),
        "tick_99": ordered[len(ordered) * 99 // 100],
        "late": statistics.median(lateness),
        "late_99": sorted(lateness)[len(lateness) * 99 // 100],
        "stamps": len(lateness),
        "growth": memory[-1] - memory[len(memory) // 2],
        "peak": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
        "end": time.monotonic() - began,
    }


def rss() -> int:
    """Bytes of memory that this process holds."""
    with open("/proc/self/statm") as statm:
        return int(statm.read().split()[1]) * resource.getpagesize()


if __name__ == "__main__":
    result = flood(**json.loads(sys.argv[1]))
    os.write(3, json.dumps(result).encode())
