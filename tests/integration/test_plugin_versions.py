"""A plugin's package of another version on the host is named before the scenario starts, where it is used."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from scenario_tools import Server, run_scenario, write_plugin

SCENARIO = """\
import osc.helpers
import osc.demo
import osc.remote

scenario test:
    do serial:
        demo_count(1) with:
            remote("SOCKET")
        demo_flaky(0) with:
            remote("SOCKET")
        log("the scenario runs") with:
            remote("SOCKET")
"""


def of_version(folder: Path, version: str) -> Path:
    plugin = write_plugin(folder)
    metadata = plugin / "demo_actions-1.0.dist-info" / "METADATA"
    metadata.write_text(metadata.read_text().replace("Version: 1.0", f"Version: {version}"))
    return plugin


@pytest.mark.parametrize(("version", "warnings"), [("2.0", 1), ("1.0", 0)])
def test_one_line_per_package_of_another_version(tmp_path, version, warnings):
    here, there = of_version(tmp_path / "here", "1.0"), of_version(tmp_path / "there", version)
    server = Server(tmp_path, there)
    running = run_scenario(tmp_path, here, SCENARIO.replace("SOCKET", str(server.path)))
    try:
        assert running.result() == 0, running.output
    finally:
        running.stop()
        server.stop()
    said = [line for line in running.lines if "demo-actions" in line]
    assert len(said) == warnings
    for line in said:
        assert "demo-actions 2.0 there" in line and "demo-actions 1.0 here" in line
        assert "demo_count" in line and "test.osc:7:" in line
        assert running.lines.index(line) < running.lines.index(
            next(line for line in running.lines if "the scenario runs" in line)
        )
