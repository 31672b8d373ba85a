"""The pytest fixture `se_remote_host`: hosts of the inventory in a test, ended when the test ends.

    def test_the_driver_starts(se_remote_host):
        robot = se_remote_host("lab-pc")
        assert robot.call("run_process", command="driver --selftest", timeout=20).success

pytest imports this module in every run of every project that has se-remote installed: nothing is imported
here before a test asks for a host.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from launcher.api import Line
    from launcher.blocking import BlockingHost

_LOGGER = "se_remote"


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.getgroup("se-remote").addoption(
        "--se-remote-inventory",
        metavar="FILE",
        help="the inventory that se_remote_host uses; default: $SE_REMOTE_INVENTORY, se-remote.yaml in the "
        "test's folder and those above it, ~/.config/se-remote/inventory.yaml",
    )


@pytest.fixture
def se_remote_host(request: pytest.FixtureRequest) -> Iterator[Callable[..., BlockingHost]]:
    """A function that opens a host: `se_remote_host("lab-pc", **options)`, options as of Host.open.

    The host's log lines are records of the logger `se_remote.NAME`, so a failing test shows them. At the end
    of the test every host is closed; what could not be ended is an error of the test.
    """
    with contextlib.ExitStack() as stack:
        stack.enter_context(_shown())

        def open_host(name: str, **options: Any) -> BlockingHost:
            from launcher.blocking import BlockingHost

            options.setdefault("inventory", _inventory(request, options.get("environ") or os.environ))
            options.setdefault("what", f"pytest: {request.node.name}")
            host = BlockingHost.open(name, on_line=_log, **options)
            stack.callback(host.close)
            return host

        yield open_host


def _inventory(request: pytest.FixtureRequest, environ: Any) -> Path | None:
    from launcher import inventory as inventories

    config = request.config
    invoked = config.invocation_params.dir
    explicit = config.getoption("--se-remote-inventory")
    named = explicit or environ.get("SE_REMOTE_INVENTORY")
    return inventories.find(environ, invoked if named else request.path.parent, None, explicit)


@contextlib.contextmanager
def _shown() -> Iterator[None]:
    """The records below warnings count too, unless the project says otherwise."""
    import logging

    logger = logging.getLogger(_LOGGER)
    before = logger.level
    if before == logging.NOTSET:
        logger.setLevel(logging.INFO)
    try:
        yield
    finally:
        logger.setLevel(before)


def _log(line: Line) -> None:
    import logging

    level = getattr(logging, line.level.upper(), logging.INFO)
    logging.getLogger(f"{_LOGGER}.{line.host}").log(level, "%s", line.text)
