"""One client and one host of the bed: scenario_execution in the client's network, what became of it."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import namespaces
import netbed

sys.path.insert(0, str(Path(__file__).parents[1] / "integration"))
from distributions import write_distribution

BIN = Path(sys.executable).parent
MARK = "SE_REMOTE_TEST"
LIBRARY = """
import osc.types

action bed_act:
    tag: string
    trouble: string = ""
    seconds: float = 0.1
"""


def install_actions(folder: Path) -> None:
    """The bed's action, as an installed distribution."""
    points = {"scenario_execution.actions": {"bed_act": "Act"}}
    code = (netbed.HERE / "bed" / "actions.py").read_text()
    write_distribution(folder, "bed", code, points, osc=LIBRARY)


class Case:
    """A client on one host; files in a folder of its own."""

    def __init__(self, bed: netbed.Bed, host: netbed.BedHost, name: str) -> None:
        self.bed = bed
        self.host = host
        self.mark = f"{bed.directory.name}-{name}"
        self.folder = bed.directory / name
        self.tunnels = self.folder / "t"
        self.tunnels.mkdir(parents=True)
        self.client: subprocess.Popen[str] | None = None
        self.foreign = ""
        """In the command of a process on the host that is not ours to end."""

    # -- the client

    def write_inventory(self, options: Mapping[str, str]) -> None:
        plugins = self.bed.directory / "plugins"
        lines = [
            "hosts:", "  lab:", f"    machine: root@{self.host.address}", f"    python: {sys.executable}",
            f"    ssh: {{identity: {self.bed.identity}, known_hosts: {self.bed.known_hosts}}}",
            f'    env: {{PYTHONPATH: "{plugins}:{self.host.shim}", SE_REMOTE_ESCALATION: "0.4,0.4"}}',
            *(f"    {key}: {value}" for key, value in options.items()), "",
        ]  # fmt: skip
        (self.folder / "se-remote.yaml").write_text("\n".join(lines))

    def write_scenario(self, body: str) -> None:
        lines = "".join(f"        {line}\n" for line in body.strip("\n").splitlines())
        imports = "import osc.helpers\nimport osc.remote\nimport osc.bed\n"
        (self.folder / "test.osc").write_text(f"{imports}\nscenario test:\n    do serial:\n{lines}")

    @property
    def environ(self) -> dict[str, str]:
        """The client's: nothing of the tests' own, but a mark to find its processes by."""
        return {
            "PATH": f"{BIN}:{namespaces.PATH}", "HOME": str(self.folder), "TMPDIR": str(self.tunnels),
            MARK: self.mark, "PYTHONPATH": str(self.bed.directory / "plugins"), "PYTHONUNBUFFERED": "1",
            "LANG": "C.UTF-8",
        }  # fmt: skip

    def start(self, *words: str) -> subprocess.Popen[str]:
        """A command in the client's network, in a session of its own; it writes to `out.txt`."""
        with (self.folder / "out.txt").open("a") as out:
            return self.bed.popen(
                [str(BIN / words[0]), *words[1:]], cwd=self.folder, env=self.environ, start_new_session=True,
                stdin=subprocess.DEVNULL, stdout=out, stderr=out,
            )  # fmt: skip

    def run_scenario(self) -> None:
        self.client = self.start("scenario_execution", "-o", "out", "test.osc")

    def signal(self, number: int) -> None:
        """To the client's process group, as a terminal does."""
        assert self.client is not None
        os.killpg(self.client.pid, number)

    @property
    def output(self) -> str:
        return (self.folder / "out.txt").read_text(errors="replace")

    @property
    def xml(self) -> str:
        path = self.folder / "out" / "test.xml"
        return path.read_text() if path.exists() else ""

    # -- the host

    def ledger(self) -> list[tuple[str, str]]:
        """(tag, event), in order."""
        try:
            lines = self.host.path("/run/ledger").read_text().splitlines()
        except FileNotFoundError:
            return []
        return [tuple(line.split()[1:3]) for line in lines]  # type: ignore[misc]

    def has(self, tag: str, event: str) -> bool:
        return (tag, event) in self.ledger()

    def executed(self) -> list[str]:
        return [tag for tag, event in self.ledger() if event == "execute"]

    def find(self, pattern: str) -> namespaces.Process:
        """The first of the host's guests whose command line matches."""
        found = [p for p in self.host.guests() if re.search(pattern, p.command)]
        assert found, f"no {pattern!r} among {self.host.guests()}"
        return found[0]

    def server(self) -> dict[str, namespaces.Process]:
        """The server's processes by what they are."""
        ours = [
            p
            for p in self.host.guests()
            if " remote_exec.server " in p.command or "-m remote_exec" in p.command
        ]
        by_pid = {p.pid: p for p in ours}
        supervisor = next(p for p in ours if p.ppid not in by_pid)
        front, fork_server = sorted((p for p in ours if p.ppid == supervisor.pid), key=lambda p: p.pid)[:2]
        found = {"supervisor": supervisor, "front": front, "fork server": fork_server}
        for p in ours:
            if p.ppid == fork_server.pid:
                found["keeper"] = p
        for p in ours:
            if "keeper" in found and p.ppid == found["keeper"].pid:
                found["worker"] = p
        return found

    # -- the end

    def leftovers(self) -> list[str]:
        """Of this case, on either side."""
        foreign = self.foreign
        needle = f"{MARK}={self.mark}".encode()
        mine = [p for p in namespaces.processes(self.bed.client.inode) if needle in p.environ().split(b"\0")]
        found = [f"client: process {p.pid} {p.command}" for p in mine]
        found += [f"client: file {path}" for path in self.tunnels.rglob("*")]
        return found + [text for text in self.host.leftovers() if not foreign or foreign not in text]

    def close(self) -> None:
        """After a failure, too."""
        if self.client is not None and self.client.poll() is None:
            for number in (signal.SIGCONT, signal.SIGKILL):
                with contextlib.suppress(ProcessLookupError):
                    self.signal(number)
            self.client.wait(10)


def measure(done: Callable[[], object], began: float, limit: float) -> float | None:
    """Seconds from `began` (monotonic) until it is done; None when `limit` is over."""
    if namespaces.wait_until(done, began + limit - time.monotonic()):
        return time.monotonic() - began
    return None
