"""The bed as a fixture, for the tests that use it."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import namespaces
import netbed
import pytest
from bedcase import install_actions

HOSTS = int(os.environ.get("SE_REMOTE_BED_HOSTS", "6"))


@pytest.fixture(scope="session")
def bed() -> Iterator[netbed.Bed]:
    """Skips where there can be none; where there must be one (CI says so) that is a failure."""
    reason = namespaces.why_not()
    if reason and os.environ.get("SE_REMOTE_BED") == "required":
        pytest.fail(f"the test bed is required here, but: {reason}")
    if reason:
        pytest.skip(reason)
    directory = Path(tempfile.mkdtemp(prefix="seb-", dir="/tmp"))  # short: sockets lie below it
    try:
        with netbed.bed(directory, HOSTS) as made:
            install_actions(directory / "plugins")
            yield made
    finally:
        shutil.rmtree(directory, ignore_errors=True)
