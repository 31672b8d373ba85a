"""What a container costs the way: round trip and throughput through the relay, against the plain tunnel.

    python benchmarks/relay.py

An echo on a unix socket, here and in a container of a private engine. Measured in one run: the plain
SSH tunnel, the relay in a container over the same SSH, and the relay in a container on this machine.
"""

from __future__ import annotations

import asyncio
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from common import ROOT, Bench, bench  # noqa: F401  (puts the tests' modules on the path)

ECHO = """
import socket, sys, threading
def serve(peer):
    while chunk := peer.recv(1 << 18):
        peer.sendall(chunk)
sock = socket.socket(socket.AF_UNIX); sock.bind(sys.argv[1]); sock.listen()
while True:
    threading.Thread(target=serve, args=(sock.accept()[0],), daemon=True).start()
"""
MESSAGES, SIZE = 1000, 64
TOTAL, PIECE = 256 << 20, 1 << 18


async def measure(path: str) -> tuple[float, float]:
    """Median round trip in seconds, and bytes a second that go there and come back."""
    reader, writer = await asyncio.open_unix_connection(path, limit=1 << 21)
    took = []
    for _ in range(MESSAGES):
        began = time.perf_counter()
        writer.write(b"x" * SIZE)
        await reader.readexactly(SIZE)
        took.append(time.perf_counter() - began)

    async def send() -> None:
        for _ in range(TOTAL // PIECE):
            writer.write(b"y" * PIECE)
            await writer.drain()

    began = time.perf_counter()
    sending = asyncio.ensure_future(send())
    left = TOTAL
    while left:
        left -= len(await reader.read(1 << 20))
    await sending
    rate = TOTAL / (time.perf_counter() - began)
    writer.close()
    return statistics.median(took), rate


async def ways(
    made: Bench, engine: object, name: str, plain: str, inside: str
) -> dict[str, tuple[float, float]]:
    from launcher.docker import Box
    from launcher.machines.container import runner_in
    from launcher.machines.local import LocalRunner
    from launcher.machines.pool import Machines

    environ = {**made.environ, "DOCKER_HOST": engine.host}  # type: ignore[attr-defined]
    machines = Machines(environ, ask=None, keepalive=10.0, find=lambda text: None)
    host = made.host()
    ssh = await machines.runner(host.name, host.machine, host.ssh)
    box = Box("docker", name, name)
    runners = {
        "plain SSH tunnel": (ssh, plain),
        "container over SSH": (runner_in("bench", ssh, box, sys.executable), inside),
        "container here": (runner_in("bench", LocalRunner(environ), box, sys.executable), inside),
    }
    results = {}
    for title, (runner, path) in runners.items():
        results[title] = await measure(await runner.forward(path))
        if title.startswith("container"):
            await runner.close()
    await machines.close()
    return results


def main() -> int:
    import dockerd

    engine = dockerd.Dockerd()
    folder = Path(tempfile.mkdtemp(prefix="seb-", dir="/tmp"))
    trouble = engine.start()
    if trouble:
        print(f"no engine runs here: {trouble}")
        engine.close()
        return 1
    with bench() as made:
        made.sshd.environ = {"DOCKER_HOST": engine.host}
        made.sshd.start()
        engine.create("bench")
        engine.run("exec", "-d", "bench", sys.executable, "-c", ECHO, "/tmp/echo")
        echo = subprocess.Popen([sys.executable, "-c", ECHO, str(folder / "echo")])
        try:
            time.sleep(1)
            results = asyncio.run(ways(made, engine, "bench", str(folder / "echo"), "/tmp/echo"))
        finally:
            echo.kill()
            echo.wait()
            engine.close()
    trip, rate = results["plain SSH tunnel"]
    for title, (own, speed) in results.items():
        print(
            f"{title:20s} round trip {1e6 * own:7.0f} us ({own / trip:4.2f} x)"
            f"   {speed / 1e6:7.1f} MB/s ({speed / rate:4.2f} x)"
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
