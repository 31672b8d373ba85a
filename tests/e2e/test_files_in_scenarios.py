"""Files that cross with a scenario: what is pushed is found there, what actions write is here for --post-run.

The real scenario_execution over a real sshd; after each test the fixture asserts that nothing is left, on
either side.
"""

from __future__ import annotations

from pathlib import Path

import pytest
import sshd as private
from commandline import Terminal

HERE = "common.get_output_directory()"


class Journey(Terminal):
    """A terminal whose host has a home of its own, where outputs lie."""

    @property
    def outputs(self) -> Path:
        return self.world.server_home / ".local/state/se-remote/outputs"

    @property
    def out(self) -> Path:
        return self.folder / "out"

    def script(self, name: str, *lines: str) -> Path:
        path = self.folder / name
        path.write_text("#!/bin/sh\n" + "".join(f"{line}\n" for line in lines))
        path.chmod(0o755)
        return path

    def on_host(self, *commands: str, more: str = "") -> str:
        """Body of a scenario: shell lines that run on the host, one after the other."""
        return "".join(f'run_process({command}{more}) with:\n    remote("lab-pc")\n' for command in commands)

    def left_there(self) -> list[str]:
        """What of outputs is still on the host."""
        return sorted(
            str(path.relative_to(self.outputs)) for path in self.outputs.rglob("*") if path.is_file()
        )


@pytest.fixture
def terminal(world):
    made = Journey(world)
    yield made
    made.se_remote("kill", made.name, "--force")
    assert private.wait_until(lambda: not made.run_dir.exists(), 20), list(made.run_dir.iterdir())
    assert not made.outputs.exists(), sorted(made.outputs.rglob("*"))


def shell(text: str) -> str:
    """An OSC argument of run_process: a shell line. `OUT` stands for the output folder, as it is called here."""
    return f'["sh", "-c", "{text}"]'


def test_push_and_fetch(terminal):
    terminal.write_inventory(terminal.entry(terminal.name, push="scenario"))
    script = terminal.script("bringup.sh", 'cat "$(dirname "$0")/params.yaml" >"$1/seen"')
    (terminal.folder / "params.yaml").write_text("speed: 1\n")
    done = terminal.scenario(
        f'run_process("./bringup.sh {terminal.out}") with:\n    remote("lab-pc")\n', "-o", str(terminal.out)
    )
    print(done.text)
    assert done.code == 0, done.text
    assert (terminal.out / "seen").read_text() == "speed: 1\n"
