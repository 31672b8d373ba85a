"""What the benchmarks share: a private sshd, medians, and one way to print a claim."""

from __future__ import annotations

import contextlib
import getpass
import os
import shutil
import statistics
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests" / "e2e"))

import sshd as private  # noqa: E402

from launcher.lease import Launcher  # noqa: E402
from launcher.model import HostSpec, Machine, SshOptions  # noqa: E402


@dataclass(frozen=True)
class Bench:
    """A private sshd on loopback, and hosts on it."""

    sshd: private.Sshd
    directory: Path
    environ: dict[str, str]

    @property
    def known_hosts(self) -> Path:
        return self.directory / "known_hosts"

    def host(self, name: str = "bench") -> HostSpec:
        return HostSpec(
            name,
            Machine("127.0.0.1", getpass.getuser(), self.sshd.port),
            ssh=SshOptions(str(self.sshd.client_key), None, str(self.known_hosts)),
            python=sys.executable,
            env={"PYTHONDONTWRITEBYTECODE": ""},
        )

    def launcher(self, *, keep: bool = False) -> Launcher:
        return Launcher(
            None, environ=self.environ, what="benchmark", keep=keep, base=str(self.directory / "b")
        )


@contextlib.contextmanager
def bench() -> Iterator[Bench]:
    """Starts the sshd; ends it and removes its directory afterwards."""
    directory = Path(tempfile.mkdtemp(prefix="seb-", dir="/tmp"))
    (directory / "home").mkdir()
    (directory / "client" / ".ssh").mkdir(parents=True)
    sshd = private.Sshd(directory, directory.name, directory / "home")
    try:
        environ = {
            key: value
            for key, value in os.environ.items()
            if not key.startswith(("SSH_", "TMUX", "SE_REMOTE_"))
        }
        made = Bench(sshd, directory, {**environ, "HOME": str(directory / "client")})
        made.known_hosts.write_text(sshd.known_hosts_line())
        yield made
    finally:
        sshd.close()
        shutil.rmtree(directory, ignore_errors=True)


def spread(values: Sequence[float]) -> str:
    """Median and quartiles in milliseconds."""
    low, _, high = statistics.quantiles(values, n=4)
    middle = statistics.median(values)
    return f"{1000 * middle:6.1f} ms  ({1000 * low:.1f} … {1000 * high:.1f}, n={len(values)})"


def claim(name: str, ours: Sequence[float], floor: Sequence[float], limit: float) -> bool:
    """Prints the ratio of the medians against its limit; whether it holds."""
    ratio = statistics.median(ours) / statistics.median(floor)
    holds = ratio <= limit
    print(f"{name:<44} {ratio:5.2f}  (at most {limit:g})  {'holds' if holds else 'MISSED'}")
    return holds
