"""Runs every benchmark and writes what they print to benchmarks/results/TIME.txt. `make bench`."""

from __future__ import annotations

import platform
import subprocess
import sys
import time
from pathlib import Path

HERE = Path(__file__).parent
BENCHMARKS = ("bringup.py", "campaign.py", "processes.py", "ticks.py", "logs.py", "relay.py", "files.py")


def main() -> int:
    results = HERE / "results"
    results.mkdir(exist_ok=True)
    report = results / time.strftime("%Y%m%dT%H%M%S.txt", time.gmtime())
    failed = []
    with report.open("w", encoding="utf-8") as out:
        print(f"python {platform.python_version()}, {platform.machine()}", file=out)
        for name in BENCHMARKS:
            done = subprocess.run([sys.executable, str(HERE / name)], stdout=subprocess.PIPE, text=True)
            text = f"\n== {name}\n{done.stdout}"
            print(text)
            print(text, file=out)
            if done.returncode:
                failed.append(name)
    print(f"written to {report.relative_to(HERE.parent)}")
    if failed:
        print(f"a figure was missed or a run failed: {', '.join(failed)}", file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
