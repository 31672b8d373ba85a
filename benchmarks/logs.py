"""Ten thousand log lines a second from an action: what they cost the ticks, the statuses and the memory.

    python benchmarks/logs.py [--quick]

The client's standard output is read as fast as possible, then slowly (20 kB a second, a slow terminal),
against the same tree without the flood in the same run. Every line that is not printed must be counted in a
line that says so. Prints a table; exits with 1 when a figure is missed.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from typing import Any

from tick_world import HERE, World, world
from ticks import Figure, ms

RATE = 10_000
SLOW_BYTES_PER_SECOND = 20_000
PERIOD = 0.1
DROPPED = re.compile(r"(\d+) log lines were dropped")


def run(made: World, rate: int, seconds: float, *, slow: bool = False) -> tuple[dict[str, Any], list[str]]:
    """One client under a flood; what it measured, and what it printed."""
    read, write = os.pipe()
    arguments = json.dumps({"endpoint": made.unix, "rate": rate, "seconds": seconds})
    shell = f'exec "$@" 3>&{write}'
    process = subprocess.Popen(
        ["bash", "-c", shell, "bash", sys.executable, str(HERE / "log_cases.py"), arguments],
        env=made.environ, stdout=subprocess.PIPE, pass_fds=(write,),
    )  # fmt: skip
    os.close(write)
    printed: list[bytes] = []
    ended = threading.Event()
    reader = threading.Thread(target=_read, args=(process, printed, ended, slow))
    reader.start()
    with os.fdopen(read, "rb") as results:
        result = json.loads(results.read())
    ended.set()
    reader.join()
    assert process.wait(60) == 0
    return result, b"".join(printed).decode().splitlines()


def _read(process: subprocess.Popen[bytes], printed: list[bytes], ended: threading.Event, slow: bool) -> None:
    assert process.stdout is not None
    step = 0.05
    while data := os.read(process.stdout.fileno(), int(SLOW_BYTES_PER_SECOND * step) if slow else 65536):
        printed.append(data)
        if slow and not ended.is_set():
            time.sleep(step)
    process.stdout.close()


def figures(made: World, seconds: float) -> Iterator[Figure]:
    quiet, _ = run(made, 0, seconds)
    for how, slow in (("", False), (", slow terminal", True)):
        took, lines = run(made, RATE, seconds, slow=slow)
        printed = sum("of a flood" in line for line in lines)
        dropped = sum(int(n) for line in lines for n in DROPPED.findall(line))
        yield Figure(
            f"a tick is delayed by (99 of 100){how}", ms(took["tick_99"] - quiet["tick_99"]), 5, "ms",
            f"median {ms(took['tick']):.2f} ms, without the flood {ms(quiet['tick']):.2f} ms",
        )  # fmt: skip
        yield Figure(
            f"a status is late by (99 of 100){how}", ms(took["late_99"]), 50, "ms",
            f"median {ms(took['late']):.1f} ms, without the flood {ms(quiet['late']):.1f} ms",
        )  # fmt: skip
        yield Figure(
            f"memory grows in the second half by{how}", took["growth"] / 1e6, 8, "MB",
            f"peak {took['peak'] / 1e6:.0f} MB, without the flood {quiet['peak'] / 1e6:.0f} MB",
        )  # fmt: skip
        said = RATE * seconds
        yield Figure(
            f"lines neither printed nor counted{how}", 100 * max(0.0, 1 - (printed + dropped) / said),
            2, "%", f"{printed} printed, {dropped} counted as dropped",
        )  # fmt: skip


def main() -> int:
    seconds = 4.0 if "--quick" in sys.argv else 15.0
    held = []
    print(f"| {RATE} lines a second | limit | measured | | |\n|---|---|---|---|---|", flush=True)
    with world() as made:
        for figure in figures(made, seconds):
            held.append(figure.holds)
            print(figure.line(), flush=True)
    print(f"\n{held.count(True)} of {len(held)} figures hold")
    return 0 if all(held) else 1


if __name__ == "__main__":
    sys.exit(main())
