"""Reading logs: how long an answer may take."""

import asyncio

from launcher import logs
from launcher.model import Completed


def test_the_whole_log_may_take_longer_than_an_answer():
    """20 MB and as much older over a slow link."""
    limits = []

    class Runner:
        async def run(self, script, timeout, on_output, **_):
            limits.append(timeout)
            nonce = next(line for line in script.decode().splitlines() if line.startswith("nonce="))[6:]
            on_output(f"\n{nonce} verb\nlog\n{nonce} end\n".encode())
            return Completed(0, b"", b"")

    for lines in (200, 400_000):
        asyncio.run(logs.read_log("lab-pc", Runner(), lines=lines))
    assert limits[0] < 20 and limits[1] > 300
