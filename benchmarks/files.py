"""Files to a machine and back, against the real `scp` to the same sshd. Prints ratios from one run.

A large file on a path of 1 Gbit/s (a network namespace of its own whose loopback is shaped by `tc … tbf`;
needs root) and on bare loopback; many small files; and a second push of what is there already. Both tools
connect anew each time. All files lie in memory (/dev/shm), so that it is not the disk that is measured;
interleaved, medians.

    python benchmarks/files.py [ROUNDS [MEGABYTES [FILES]]]
"""

from __future__ import annotations

import asyncio
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from common import Bench, bench

from launcher import files
from launcher.command import quote
from launcher.machines.pool import Machines
from launcher.machines.runner import Runner

SFTP = ("/usr/lib/openssh/sftp-server", "/usr/libexec/openssh/sftp-server", "/usr/libexec/sftp-server")
SHAPED = (
    "ip link set lo up && tc qdisc add dev lo root tbf rate 1gbit burst 1mb latency 50ms "
    '|| { echo "cannot shape"; exit 7; }; exec "$0" "$@"'
)


class Place:
    """Folders for one comparison, and the two tools."""

    def __init__(self, world: Bench, folder: Path) -> None:
        self.world, self.folder = world, folder
        self.source = folder / "source"
        self.python = quote([sys.executable])

    def fresh(self, name: str) -> Path:
        path = self.folder / name
        shutil.rmtree(path, ignore_errors=True)
        return path

    def scp(self, source: str, to: str) -> float:
        """Seconds."""
        sshd = self.world.sshd
        argv = [
            "scp", "-q", "-r", "-F", "none", "-P", str(sshd.port), "-i", str(sshd.client_key),
            "-o", f"UserKnownHostsFile={self.world.known_hosts}", source, to,
        ]  # fmt: skip
        began = time.perf_counter()
        subprocess.run(argv, check=True)
        return time.perf_counter() - began

    def ours(self, work: Callable[[Runner], object]) -> float:
        """Seconds."""

        async def whole() -> float:
            began = time.perf_counter()
            machines = Machines(self.world.environ, ask=None, keepalive=5, find=lambda name: None)
            host = self.world.host()
            done = await work(await machines.runner(host.name, host.machine, host.ssh))  # type: ignore[misc]
            took = time.perf_counter() - began
            assert not getattr(done, "skipped", ()) and not getattr(done, "missing", ()), done
            await machines.close()
            return took

        return asyncio.run(whole())

    def push(self, to: Path) -> float:
        return self.ours(lambda r: files.push("bench", r, self.python, self.source, str(to)))

    def fetch(self, remote: Path, into: Path) -> float:
        return self.ours(lambda r: files.fetch("bench", r, self.python, str(remote), into, remove=False))

    def both_ways(self, rounds: int) -> dict[str, list[float]]:
        """Seconds of each, interleaved."""
        took: dict[str, list[float]] = {"scp there": [], "push": [], "scp back": [], "pull": []}
        for _ in range(rounds):
            took["scp there"].append(self.scp(str(self.source), f"127.0.0.1:{self.fresh('a')}"))
            took["scp back"].append(self.scp(f"127.0.0.1:{self.folder}/a", str(self.fresh("b"))))
            self.fresh("a"), self.fresh("b")
            took["push"].append(self.push(self.fresh("c")))
            took["pull"].append(self.fetch(self.folder / "c", self.fresh("d")))
            same = subprocess.run(["diff", "-r", str(self.source), str(self.folder / "d")], check=False)
            assert same.returncode == 0
            self.fresh("c"), self.fresh("d")
        return took


def times_as_fast(name: str, scp: list[float], ours: list[float], least: float) -> bool:
    """Prints how many times as fast as scp it was, against the least that it must be."""
    ratio = statistics.median(scp) / statistics.median(ours)
    holds = ratio >= least
    print(f"{name:<48} {ratio:5.2f}  (at least {least:g})  {'holds' if holds else 'MISSED'}")
    return holds


def large(place: Place, rounds: int, megabytes: int, what: str, least: float) -> bool:
    place.source.mkdir()
    with (place.source / "large").open("wb") as file:
        for _ in range(megabytes):
            file.write(os.urandom(1 << 20))
    took = place.both_ways(rounds)
    for name, values in took.items():
        rate = megabytes * 1.048576 / statistics.median(values)
        print(f"{megabytes} MiB, {what}: {name:<12} {rate:6.0f} MB/s")
    held = [
        times_as_fast(f"{megabytes} MiB, {what}: push / scp", took["scp there"], took["push"], least),
        times_as_fast(f"{megabytes} MiB, {what}: pull / scp", took["scp back"], took["pull"], least),
    ]
    return all(held)


def small(place: Place, rounds: int, count: int) -> bool:
    for number in range(count):
        path = place.source / f"{number % 100:02d}" / f"{number}.txt"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(os.urandom(1000))
    took = place.both_ways(rounds)
    for name, values in took.items():
        print(f"{count} small files: {name:<12} {statistics.median(values):6.2f} s")
    held = [
        times_as_fast(f"{count} small files: push / scp -r", took["scp there"], took["push"], 5),
        times_as_fast(f"{count} small files: pull / scp -r", took["scp back"], took["pull"], 5),
    ]
    to = place.fresh("c")
    place.push(to)
    empty = place.folder / "empty"
    empty.mkdir()
    again, floor = [], []
    nothing = Place(place.world, place.folder)
    nothing.source = empty
    for _ in range(max(rounds, 3)):
        again.append(place.push(to))
        floor.append(nothing.push(place.folder / "e"))
    more = statistics.median(again) - statistics.median(floor)
    print(f"push of an empty folder: {statistics.median(floor):6.2f} s")
    holds = more <= 0.5
    print(f"{f'unchanged folder of {count}: seconds more':<48} {more:5.2f}  (at most 0.5)  ", end="")
    print("holds" if holds else "MISSED")
    return all(held) and holds


def measure(what: str, rounds: int, megabytes: int, count: int) -> bool:
    memory = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    folder = Path(tempfile.mkdtemp(prefix="se-remote-bench-", dir=memory))
    try:
        with bench() as world:
            server = next(path for path in SFTP if Path(path).exists())
            world.sshd.start(f"Subsystem sftp {server}")
            place = Place(world, folder)
            if what == "small":
                return small(place, rounds, count)
            return large(place, rounds, megabytes, what, 0.8 if what == "1 Gbit/s" else 0.6)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def main() -> int:
    numbers = [int(word) for word in sys.argv[1:4]]
    rounds, megabytes, count = [*numbers, *(3, 1024, 10_000)[len(numbers) :]]
    if sys.argv[4:]:
        return 0 if measure(sys.argv[4], rounds, megabytes, count) else 1
    again = [sys.executable, __file__, str(rounds), str(megabytes), str(count)]
    held = []
    if os.getuid() == 0:
        shaped = subprocess.run(["unshare", "-n", "sh", "-c", SHAPED, *again, "1 Gbit/s"], check=False)
        held.append(shaped.returncode == 0)
    else:
        print("1 Gbit/s: not measured, only root can shape a path")
    for what in ("loopback", "small"):
        held.append(subprocess.run([*again, what], check=False).returncode == 0)
    return 0 if all(held) else 1


if __name__ == "__main__":
    sys.exit(main())
