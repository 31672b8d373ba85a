"""A server, the baseline's server and delaying relays as processes, and cases run against them."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tick_plugin import write_plugin

from remote_exec.client.hub import request
from remote_exec.errors import RemoteExecError

HERE = Path(__file__).parent
ENDS_WITHIN = 120.0
LIMITED = (
    "import os, resource, sys; resource.setrlimit(resource.RLIMIT_NOFILE, (1024, 1024));"
    "os.execv(sys.argv[1], sys.argv[1:])"
)


class World:
    """Everything runs on this machine; what starts here ends here."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        plugin = str(write_plugin(directory / "plugin"))
        path = os.pathsep.join(p for p in (plugin, os.environ.get("PYTHONPATH", "")) if p)
        drop = ("PYTHONDONTWRITEBYTECODE", "SE_REMOTE_INVENTORY")
        self.environ = {**{k: v for k, v in os.environ.items() if k not in drop}, "PYTHONPATH": path}
        self.processes: list[subprocess.Popen[str]] = []
        self.unix = f"ipc://{directory}/run/sock"
        self.tcp = f"tcp://127.0.0.1:{_free_port()}"
        self.baseline = f"ipc://{directory}/base"
        self.server = self._server()
        self._start("tick_baseline.py", self.baseline)

    def _server(self) -> int:
        port = self.tcp.rpartition(":")[2]
        run_dir = self.directory / "run"
        run_dir.mkdir(mode=0o700)
        argv = [sys.executable, "-m", "remote_exec.server", "--run-dir", str(run_dir)]
        with (self.directory / "server.log").open("wb") as log:
            self.processes.append(
                subprocess.Popen(
                    [*argv, "-p", port, "-c", "0"], env=self.environ, stdout=log, stderr=log, text=True
                )
            )
        until = time.monotonic() + 30
        while True:
            with contextlib.suppress(RemoteExecError):
                hello = request(self.unix, "hello", {"client": {"what": "benchmark"}}, timeout=0.5)
                return int(hello["server"]["pid"])
            assert time.monotonic() < until, (self.directory / "server.log").read_text()

    def _start(self, script: str, *arguments: str) -> None:
        argv = [sys.executable, str(HERE / script), *arguments]
        process = subprocess.Popen(argv, env=self.environ, stdout=subprocess.PIPE, text=True)
        self.processes.append(process)
        assert process.stdout is not None and process.stdout.readline() == "ready\n"

    def relayed(self, endpoint: str, round_trip: float) -> str:
        """The same endpoint, so much further away."""
        near = f"ipc://{self.directory}/relay{len(self.processes)}"
        if endpoint.startswith("tcp:"):
            near = f"tcp://127.0.0.1:{_free_port()}"
        self._start("delay.py", near, endpoint, str(round_trip / 2))
        return near

    def case(self, name: str, *, limited: bool = False, **arguments: Any) -> dict[str, Any]:
        """Runs one case in a process of its own; limited: under `ulimit -n 1024`."""
        return self.result(self.begin(name, limited=limited, **arguments))

    def begin(self, name: str, *, limited: bool = False, **arguments: Any) -> subprocess.Popen[str]:
        argv = [sys.executable, str(HERE / "tick_cases.py"), name, json.dumps(arguments)]
        if limited:
            argv = [sys.executable, "-c", LIMITED, *argv]
        return subprocess.Popen(argv, env=self.environ, stdout=subprocess.PIPE, text=True, cwd=self.directory)

    @staticmethod
    def result(process: subprocess.Popen[str]) -> dict[str, Any]:
        out, _ = process.communicate(timeout=ENDS_WITHIN)
        if process.returncode:
            raise RuntimeError(f"a case failed: {process.args!r}\n{out}")
        found: dict[str, Any] = json.loads(out.splitlines()[-1])
        return found

    def close(self) -> None:
        for process in reversed(self.processes):
            process.send_signal(signal.SIGTERM)
        for process in self.processes:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(20)
            if process.stdout is not None:
                process.stdout.close()


@contextlib.contextmanager
def world() -> Iterator[World]:
    directory = Path(tempfile.mkdtemp(prefix="set-", dir="/tmp"))
    made = None
    try:
        made = World(directory)
        yield made
    finally:
        if made is not None:
            made.close()
        shutil.rmtree(directory, ignore_errors=True)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
