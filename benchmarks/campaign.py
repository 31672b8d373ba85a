"""What `se-remote with` saves a campaign: scenario runs inside of it against runs outside of it.

Each run is `scenario_execution` as a process of its own with one remote `log`, over a private sshd on
loopback. For comparison the same scenario with the action run locally.

    python benchmarks/campaign.py [RUNS]
"""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

from common import Bench, bench, claim, spread

BIN = Path(sys.executable).parent
_OSC = "import osc.helpers\nimport osc.remote\nscenario test:\n    do serial:\n        log('hello')"
_LOOP = "import subprocess, sys, time\n" + (
    "for _ in range(int(sys.argv[1])):\n"
    "    began = time.perf_counter()\n"
    "    subprocess.run(sys.argv[2:], check=True, stdout=subprocess.DEVNULL)\n"
    "    print('took', time.perf_counter() - began)\n"
)


def _seconds(world: Bench, *words: str) -> tuple[list[float], float]:
    """What each run took, and all of it together."""
    began = time.perf_counter()
    environ = {**world.environ, "PATH": f"{BIN}:{world.environ['PATH']}"}
    done = subprocess.run(
        words, cwd=world.directory, env=environ, text=True, stdout=subprocess.PIPE, check=True, timeout=300
    )
    total = time.perf_counter() - began
    return [float(line.split()[1]) for line in done.stdout.splitlines() if line.startswith("took")], total


def main() -> int:
    runs = sys.argv[1] if len(sys.argv) > 1 else "10"
    with bench() as world:
        host = world.host()
        (world.directory / "se-remote.yaml").write_text(
            f"hosts:\n  bench-campaign:\n    machine: {host.machine}\n    python: {sys.executable}\n"
            f"    ssh: {{identity: {world.sshd.client_key}, known_hosts: {world.known_hosts}}}\n"
        )
        (world.directory / "remote.osc").write_text(f"{_OSC} with:\n            remote('bench-campaign')\n")
        (world.directory / "local.osc").write_text(f"{_OSC}\n")
        loop = [sys.executable, "-c", _LOOP, runs, str(BIN / "scenario_execution")]
        inside, inside_all = _seconds(
            world, str(BIN / "se-remote"), "with", "bench-campaign", "--", *loop, "remote.osc"
        )
        outside, outside_all = _seconds(world, *loop, "remote.osc")
        local, local_all = _seconds(world, *loop, "local.osc")
    print(f"a run inside `se-remote with`   {spread(inside)}   all {inside_all:.2f} s")
    print(f"a run on its own                {spread(outside)}   all {outside_all:.2f} s")
    print(f"the same scenario, locally      {spread(local)}   all {local_all:.2f} s")
    return 0 if claim("a run inside, to one on its own", inside, outside, 0.85) else 1


if __name__ == "__main__":
    sys.exit(main())
