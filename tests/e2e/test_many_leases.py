"""A client process that opens and leaves hosts again and again keeps nothing: descriptors, threads, files."""

from __future__ import annotations

import gc
import os
import threading

import pytest
import sshd as private


def held(world) -> dict[str, int]:
    gc.collect()
    return {
        "descriptors": len(os.listdir("/proc/self/fd")),
        "threads": threading.active_count(),
        "tunnels": len(list(world.tunnels.iterdir())),
    }


@pytest.mark.slow
def test_a_hundred_leases(world):
    """Over SSH, of a server that is up: connection, tunnel and thread are made and given back each time."""
    host = world.standin()
    keeper = world.launcher(keep=True)
    keeper.open([host])

    def use(count: int) -> None:
        for _ in range(count):
            launcher = world.launcher()
            launcher.open([host])
            assert launcher.close() == []
            world._launchers.remove(launcher)

    use(5)
    before = held(world)
    use(100)
    assert private.wait_until(lambda: held(world) == before, 30), (before, held(world))
    keeper.stop(host)
