"""What remote actions cost the tree, against the same tree run locally and against a request-reply baseline.

    python benchmarks/ticks.py [--quick] [GROUP …]

Everything is measured in one run, over a unix socket, TCP on loopback, and a relay that delays by half a
round trip each way. Prints one table; exits with 1 when a figure is missed. `--quick`: fewer rounds, and ten
seconds instead of a minute of CPU time.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from tick_trees import PERIOD
from tick_world import World, world

FAR = 0.050
NEARER = 0.010


@dataclass(frozen=True)
class Figure:
    """One line of the table; `value` must not be above `limit` (below it when `least`)."""

    what: str
    value: float
    limit: float
    unit: str
    detail: str = ""
    least: bool = False

    @property
    def holds(self) -> bool:
        return self.value >= self.limit if self.least else self.value <= self.limit

    def line(self) -> str:
        sign = "≥" if self.least else "≤"
        limit = f"{sign} {_number(self.limit)} {self.unit}"
        value = f"{_number(self.value)} {self.unit}"
        verdict = "holds" if self.holds else "MISSED"
        return f"| {self.what} | {limit} | {value} | {verdict} | {self.detail} |"


def _number(value: float) -> str:
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}"


@dataclass(frozen=True)
class Bench:
    world: World
    far: str
    """The unix socket, 50 ms away."""
    nearer: str
    quick: bool

    def rounds(self, number: int) -> int:
        return max(3, number // 5) if self.quick else number


def ms(seconds: float) -> float:
    return 1000 * seconds


def tick_figures(bench: Bench) -> Iterator[Figure]:
    baseline = bench.world.case("baseline", endpoint=bench.world.baseline, count=100, rounds=bench.rounds(50))
    far_base = bench.world.relayed(bench.world.baseline, FAR)
    far_baseline = bench.world.case("baseline", endpoint=far_base, count=100, rounds=1)
    ways = (
        ("unix socket", bench.world.unix, 0.0, baseline["tick"]),
        ("TCP loopback", bench.world.tcp, 0.0, baseline["tick"]),
        ("50 ms round trip", bench.far, FAR, far_baseline["tick"]),
    )
    for way, endpoint, rtt, plain in ways:
        took = bench.world.case("ticks", endpoint=endpoint, count=100, rounds=bench.rounds(1000), rtt=rtt)
        local = f"local {ms(took['local']):.3f} ms"
        yield Figure(
            f"update() of a running action, {way}", took["update"] * 1e6, 1.0, "µs",
            f"local {took['local_update'] * 1e6:.2f} µs",
        )  # fmt: skip
        yield Figure(
            f"tick, 100 running actions, {way}",
            ms(took["remote"]),
            ms(1.25 * took["local"]) + 0.1,
            "ms",
            local,
        )
        yield Figure(
            f"… times faster than request-reply, {way}", plain / took["remote"], 50, "times",
            f"request-reply {ms(plain):.1f} ms; the local tree {plain / took['local']:.0f} times", least=True,
        )  # fmt: skip


def many_figures(bench: Bench) -> Iterator[Figure]:
    few = bench.world.case("ticks", endpoint=bench.world.unix, count=1, rounds=5, rtt=0.0)
    for way, endpoint, rtt in (("unix socket", bench.world.unix, 0.0), ("50 ms round trip", bench.far, FAR)):
        took = bench.world.case(
            "ticks", endpoint=endpoint, count=2000, rounds=bench.rounds(100), rtt=rtt, limited=True
        )
        yield Figure(
            f"tick, 2,000 running actions, ulimit -n 1024, {way}", ms(took["remote"]),
            ms(1.25 * took["local"]) + 0.5, "ms", f"local {ms(took['local']):.2f} ms",
        )  # fmt: skip
        for what in ("threads", "descriptors"):
            yield Figure(
                f"{what} at the client, 2,000 actions, {way}",
                took[what],
                few[what],
                "",
                f"1 action: {few[what]}",
            )


def first_figures(bench: Bench) -> Iterator[Figure]:
    took = bench.world.case("first", endpoint=bench.far, count=500, rounds=bench.rounds(10))
    yield Figure(
        "first tick, 500 instant actions in parallel, 50 ms round trip, over local",
        (took["remote"] - took["local"]) / PERIOD, 0.1, "periods",
        f"local {ms(took['local']):.1f} ms, remote {ms(took['remote']):.1f} ms, {took['ticks']:.0f} ticks",
    )  # fmt: skip
    near = bench.world.case("serial", endpoint=bench.nearer, count=20, rounds=bench.rounds(5))
    yield Figure(
        "serial of 20 log actions, 10 ms round trip", near["ticks"], 6, "ticks",
        f"longest {ms(near['longest']):.1f} ms",
    )  # fmt: skip
    far = bench.world.case("serial", endpoint=bench.far, count=20, rounds=bench.rounds(5))
    yield Figure("serial of 20 log actions, 50 ms round trip", far["ticks"], 21, "ticks")
    yield Figure("… its longest tick", far["longest"] / PERIOD, 0.05, "periods")


def setup_figures(bench: Bench) -> Iterator[Figure]:
    for count in (100, 500):
        took = bench.world.case("setup", endpoint=bench.far, count=count, rounds=bench.rounds(15))
        limit = 2 * FAR + count * 0.0001
        yield Figure(
            f"setup of {count} actions on an open link, 50 ms round trip", ms(took["setup"]), ms(limit), "ms"
        )
    for way, endpoint in (("unix socket", bench.world.unix), ("TCP loopback", bench.world.tcp)):
        took = bench.world.case("start", endpoint=endpoint, rounds=bench.rounds(25))
        yield Figure(f"session start, from nothing to a set up action, {way}", ms(took["start"]), 20, "ms")


def cpu_figures(bench: Bench) -> Iterator[Figure]:
    seconds = 10.0 if bench.quick else 60.0
    common = {"count": 100, "seconds": seconds, "server": bench.world.server, "begin": time.monotonic() + 4.0}
    both = [bench.world.begin("cpu", endpoint=endpoint, **common) for endpoint in (None, bench.world.unix)]
    local, remote = [bench.world.result(process) for process in both]
    here = f"local {ms(local['client']) / seconds:.2f} ms a second"
    yield Figure(
        f"CPU at the client, 100 actions at 10 Hz, {seconds:.0f} s", remote["client"] / local["client"], 1.5,
        "times local", here,
    )  # fmt: skip
    yield Figure(
        f"CPU at the server, 100 actions at 10 Hz, {seconds:.0f} s", remote["server"] / local["client"], 2.0,
        "times local", here,
    )  # fmt: skip


GROUPS: dict[str, Callable[[Bench], Iterator[Figure]]] = {
    "ticks": tick_figures,
    "many": many_figures,
    "first": first_figures,
    "setup": setup_figures,
    "cpu": cpu_figures,
}


def main() -> int:
    parser = argparse.ArgumentParser(description="Figures of remote ticks.")
    parser.add_argument("--quick", action="store_true", help="fewer rounds")
    parser.add_argument("groups", nargs="*", metavar="GROUP", help=f"of {', '.join(GROUPS)} (default: all)")
    options = parser.parse_args()
    held = []
    print("| figure | limit | measured | | |\n|---|---|---|---|---|", flush=True)
    with world() as made:
        bench = Bench(made, made.relayed(made.unix, FAR), made.relayed(made.unix, NEARER), options.quick)
        for group in options.groups or GROUPS:
            for figure in GROUPS[group](bench):
                held.append(figure.holds)
                print(figure.line(), flush=True)
    print(f"\n{held.count(True)} of {len(held)} figures hold")
    return 0 if all(held) else 1


if __name__ == "__main__":
    sys.exit(main())
