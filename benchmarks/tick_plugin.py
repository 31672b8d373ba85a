"""The actions that the benchmarks run, as a distribution of its own that both ends find on PYTHONPATH."""

from __future__ import annotations

from pathlib import Path

SOURCE = '''
import time
from py_trees.common import Status
from scenario_execution.actions.base_action import BaseAction


class Idle(BaseAction):
    """Runs for ever and does nothing."""
    def execute(self):
        pass
    def update(self):
        return Status.RUNNING


class Instant(BaseAction):
    """Has done its work as soon as it is asked."""
    def execute(self):
        pass
    def update(self):
        return Status.SUCCESS


class Stamp(BaseAction):
    """Says at every update when that was (monotonic seconds, the same clock for all of one machine)."""
    def execute(self):
        pass
    def update(self):
        self.feedback_message = repr(time.monotonic())
        return Status.RUNNING


class Flood(BaseAction):
    """Logs so many lines a second, evenly, from a thread of its own."""
    def execute(self, rate: int, seconds: float):
        import threading
        self.thread = threading.Thread(target=self.run, args=(rate, seconds), daemon=True)
        self.thread.start()
    def run(self, rate, seconds):
        began, said = time.monotonic(), 0
        while (now := time.monotonic() - began) < seconds:
            while said < now * rate:
                self.logger.info(f"line {said} of a flood, as long as such lines are")
                said += 1
            time.sleep(0.002)
    def update(self):
        return Status.RUNNING if self.thread.is_alive() else Status.SUCCESS
'''

ENTRY_POINTS = """[scenario_execution.actions]
bench_idle = bench_actions:Idle
bench_instant = bench_actions:Instant
bench_stamp = bench_actions:Stamp
bench_flood = bench_actions:Flood
"""


def write_plugin(folder: Path) -> Path:
    """A distribution `bench-actions`; the folder belongs on PYTHONPATH."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "bench_actions.py").write_text(SOURCE)
    info = folder / "bench_actions-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: bench-actions\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(ENTRY_POINTS)
    return folder
