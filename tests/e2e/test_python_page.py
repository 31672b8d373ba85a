"""docs/python.md: every block runs as it stands, on a host that a private sshd plays."""

from __future__ import annotations

import re
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest
import sshd as private
from commandline import ENDS_WITHIN, Terminal

PAGE = (Path(__file__).parents[2] / "docs" / "python.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```python\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)


@pytest.fixture
def terminal(world):
    made = Terminal(world)
    yield made
    made.se_remote("kill", made.name, "--force")
    assert private.wait_until(lambda: not made.run_dir.exists(), 20)


def run(terminal, *words):
    return subprocess.run(
        [sys.executable, "-W", "error", *words], cwd=terminal.folder, env=terminal.environ, text=True,
        capture_output=True, timeout=ENDS_WITHIN,
    )  # fmt: skip


@pytest.mark.parametrize("number", range(len(BLOCKS)))
def test_a_block(terminal, number):
    block = BLOCKS[number]
    if "def test_" not in block:
        done = run(terminal, "-c", block)
        assert (done.returncode, done.stderr) == (0, ""), done.stdout + done.stderr
        return
    (terminal.folder / "test_page.py").write_text(block)
    known = {point.name for point in metadata.entry_points(group="pytest11")}
    plugin = [] if "se_remote" in known else ["-p", "launcher.pytest_plugin"]
    done = run(terminal, "-m", "pytest", "-p", "no:cacheprovider", *plugin, "test_page.py")
    assert done.returncode == 0, done.stdout
    assert f"{block.count('def test_')} passed" in done.stdout


def test_there_are_blocks_of_both_kinds():
    assert len(BLOCKS) >= 6 and any("se_remote_host" in block for block in BLOCKS)
