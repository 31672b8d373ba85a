"""Runs the real commands as subprocesses in a test's world: se-remote, scenario_execution."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
import sshd as private

BIN = Path(sys.executable).parent
ENDS_WITHIN = 60.0
"""Seconds; a bound for "it ends", not a measurement."""


@dataclass(frozen=True)
class Done:
    """A command that has ended."""

    code: int
    out: str
    err: str

    @property
    def text(self) -> str:
        return self.out + self.err


class Terminal:
    """A working directory with an inventory of hosts that the world's sshd plays.

    Host names are unique to the test: run directories lie in the real place, which a user of this machine
    may be using.
    """

    ends_within = ENDS_WITHIN
    """Seconds; see there."""

    def __init__(self, world, name: str = "lab-pc") -> None:
        self.world = world
        self.name = f"{name}-{world.mark[-6:].replace('_', 'x')}"
        self.folder = world.directory / "work"
        self.folder.mkdir()
        self.write_inventory(self.entry(self.name))

    @property
    def environ(self) -> dict[str, str]:
        path = f"{BIN}:{os.environ['PATH']}"
        mine = {key: value for key, value in self.world.environ.items() if not key.startswith("SE_REMOTE_")}
        mine[self.world.mark_name] = self.world.mark
        return {**mine, "PATH": path, "PYTHONUNBUFFERED": "1"}

    @property
    def run_dir(self) -> Path:
        return Path(f"/tmp/se-remote-{os.getuid()}/{self.name}")

    def entry(self, name: str, **more: str) -> str:
        """YAML of a host that the sshd plays; `more` are further lines, key: value."""
        more.setdefault("env", json.dumps(private.SOON))
        sshd, user = self.world.sshd, Path("~").expanduser().owner()
        lines = [
            f"  {name}:",
            "    aliases: [lab-pc]" if name == self.name else "    aliases: []",
            f"    machine: {user}@127.0.0.1:{sshd.port}",
            f"    ssh: {{identity: {sshd.client_key}, known_hosts: {self.world.known_hosts}}}",
            f"    python: {sys.executable}",
            *(f"    {key}: {value}" for key, value in more.items()),
        ]
        return "\n".join(lines) + "\n"

    def write_inventory(self, *entries: str) -> None:
        (self.folder / "se-remote.yaml").write_text("hosts:\n" + "".join(entries))

    def own_hosts(self) -> list[str]:
        """Hosts and variants of this test that have a run directory; nobody else's."""
        base = self.run_dir.parent
        return sorted(path.name for path in base.glob(f"{self.name}*")) or [self.name]

    def needs_local_for_itself(self) -> None:
        """`--all` means the built-in host `local` too: somebody who uses it here must not lose it."""
        if list(self.run_dir.parent.glob("local*")):
            pytest.skip("somebody uses the host `local` of this machine")

    def start(self, *words: str, **options) -> subprocess.Popen:
        """A command that goes on; its streams are pipes of text."""
        command = [str(BIN / words[0]), *words[1:]]
        return subprocess.Popen(
            command, cwd=self.folder, env=self.environ, text=True, stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, **options,
        )  # fmt: skip

    def run(self, *words: str) -> Done:
        """A command, to its end."""
        process = self.start(*words)
        out, err = process.communicate(timeout=self.ends_within)
        assert "Traceback" not in err, err
        return Done(process.returncode, out, err)

    def se_remote(self, *words: str) -> Done:
        return self.run("se-remote", *words)

    def scenario(self, body: str, *options: str) -> Done:
        """Runs `do serial:` with that body."""
        return self.run("scenario_execution", *options, self.write_scenario(body))

    def write_scenario(self, body: str) -> str:
        lines = "".join(f"        {line}\n" for line in body.strip("\n").splitlines())
        text = f"import osc.helpers\nimport osc.remote\n\nscenario test:\n    do serial:\n{lines}"
        (self.folder / "test.osc").write_text(text)
        return "test.osc"
