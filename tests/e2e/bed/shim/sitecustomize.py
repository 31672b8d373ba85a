"""Lets a test step the wall clock of one host's Pythons: by as many seconds as /run/clock says there."""

import time

_time, _time_ns = time.time, time.time_ns


def _offset() -> float:
    try:
        with open("/run/clock") as file:
            return float(file.read() or 0)
    except (OSError, ValueError):
        return 0.0


time.time = lambda: _time() + _offset()
time.time_ns = lambda: _time_ns() + int(_offset() * 1e9)
