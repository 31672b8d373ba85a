"""The table of faults, on hosts in namespaces: each row is tried on a host of its own, several at a time.

`-k NAME` tries one; SE_REMOTE_MEASURE=FILE writes what the rows took, as JSON (docs/reliability.md
is made from it).
"""

from __future__ import annotations

import json
import os
import queue
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import faultrun
import netbed
import pytest
from faulttable import ROWS


@pytest.fixture(scope="module")
def table(bed, request) -> Iterator[dict[str, Future[faultrun.Measured]]]:
    """All chosen rows, being tried: as many at once as there are hosts."""
    idle: queue.SimpleQueue[netbed.BedHost] = queue.SimpleQueue()
    for host in bed.hosts:
        idle.put(host)
    chosen = [
        item.callspec.params["row"]
        for item in request.session.items
        if "row" in getattr(item, "fixturenames", ())
    ]

    def attempt(number: int, row: faultrun.Row) -> faultrun.Measured:
        host = idle.get()
        try:
            return faultrun.run(row, bed, host, f"c{number}")
        finally:
            idle.put(host)

    with ThreadPoolExecutor(len(bed.hosts)) as pool:
        futures = {row.id: pool.submit(attempt, number, row) for number, row in enumerate(chosen)}
        yield futures
        for future in futures.values():
            future.cancel()
    _write_measurements(chosen, futures)


def _write_measurements(rows: list[faultrun.Row], futures: dict[str, Future[faultrun.Measured]]) -> None:
    target = os.environ.get("SE_REMOTE_MEASURE")
    if not target:
        return
    lines = []
    for row in rows:
        future = futures[row.id]
        if future.done() and not future.cancelled() and future.exception() is None:
            took = future.result()
            seen = {"name": row.name, "when": row.when, "code": row.code, "on_stop": row.stops}
            lines.append({**seen, "lease": row.host.get("lease", faultrun.LEASE), **vars(took)})
    Path(target).write_text(json.dumps(lines, indent=1))


def parameters() -> list[object]:
    made = []
    for row in ROWS:
        marks = [pytest.mark.slow] if row.slow else []
        if row.part:
            marks.append(pytest.mark.xfail(strict=True, raises=faultrun.Fault, reason=f"part {row.part}"))
        made.append(pytest.param(row, id=row.id, marks=marks))
    return made


@pytest.mark.timeout(900)  # it may wait for its turn
@pytest.mark.parametrize("row", parameters())
def test_fault(table, row):
    table[row.id].result()
