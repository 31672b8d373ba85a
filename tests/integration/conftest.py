"""What most tests here begin with: the folders of their action plugins, made once."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parent))
import scenario_tools
import server_tools
from rundirs import dirs as dirs
from rundirs import runner as runner

from remote_exec.host import procs


@pytest.fixture(scope="module", autouse=True)
def escalation() -> Iterator[None]:
    """Whatever is stubborn is killed soon: servers that tests start inherit it. How long it is otherwise, one
    test of test_server.py says."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(procs.ESCALATION_VARIABLE, "0.4,0.4")
        yield


@pytest.fixture(scope="session")
def plugin(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`osc.demo`, for tests that run scenarios; belongs on PYTHONPATH. Read it, do not change it."""
    return scenario_tools.write_plugin(tmp_path_factory.mktemp("plugin"))


@pytest.fixture(scope="session")
def plugins(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`odd` and its like, for tests that speak to a server themselves. Read it, do not change it."""
    return server_tools.write_plugins(tmp_path_factory.mktemp("plugins"))


@pytest.fixture
def start(plugins: Path) -> Iterator[Callable[..., server_tools.Server]]:
    """Starts servers with options; whatever a test does, each is stopped and leaves nothing."""
    started: list[server_tools.Server] = []

    def start(*options: str, plugins: Path = plugins, **more: Any) -> server_tools.Server:
        started.append(server_tools.Server(plugins, *options, **more))
        return started[-1]

    yield start
    for server in started:
        server.stop()
