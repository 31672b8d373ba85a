"""`se-remote provision`: machines and containers that have nothing but a Python, and no network."""

from __future__ import annotations

from pathlib import Path

import pytest
from provisionbed import Bare, Box

NEWEST = "3.13"
pytestmark = pytest.mark.timeout(600)


@pytest.fixture(scope="session")
def cache(tmp_path_factory) -> Path:
    """What this machine keeps: shared, since the first provision fetches from the package index."""
    return tmp_path_factory.mktemp("cache")


@pytest.fixture
def bare(world, cache):
    made = Bare(world, cache)
    yield made
    made.se_remote("kill", made.name, "--force")


def test_a_machine_with_python_alone(bare):
    refused = bare.se_remote("-i", "se-remote.yaml", "up", bare.name)
    assert refused.code == 1, refused.text
    assert "cannot import remote_exec" in refused.err
    assert f"try: se-remote -i se-remote.yaml provision {bare.name}\n" in refused.err
    done = bare.provision()
    assert done.code == 0, done.text
    print(done.err)
    assert "ready after" in done.err and "sent" in done.err
    up = bare.se_remote("up", bare.name)
    assert up.code == 0, up.text
    assert "python 3.10" in up.err and "runs se-remote" not in up.err
    said = bare.se_remote("call", bare.name, "run_process", "command=echo here")
    assert said.code == 0 and "here" in said.text
    again = bare.provision()
    assert again.code == 0 and "nothing to do" in again.err, again.text
    print(again.err)


@pytest.mark.parametrize(
    "version",
    ["3.10", *(pytest.param(each, marks=pytest.mark.slow) for each in ("3.11", "3.12")), NEWEST],
)
def test_a_container_without_network_and_pip(world, boxes, cache, version):
    box = Box(world, boxes, cache, version)
    for module in ("pip", "ensurepip", "venv", "zmq"):
        assert "No module named" in box.inside("sh", "-c", f"python3 -m {module} --help 2>&1; true")
    refused = box.se_remote("up", box.name)
    assert f"try: se-remote provision {box.name}\n" in refused.err, refused.text
    done = box.se_remote("provision", box.name)
    assert done.code == 0, done.text
    print(done.err)
    up = box.se_remote("up", box.name)
    assert up.code == 0 and f"python {version}" in up.err, up.text
    called = box.se_remote("call", box.name, "run_process", "command=hostname")
    assert called.code == 0, called.text
    assert box.se_remote("kill", box.name).code == 0
    # the environment is lost, the wheels are kept here: no network on either side
    box.inside("rm", "-rf", "/root/.local/share/se-remote")
    done = box.offline("provision", box.name)
    assert done.code == 0 and "ready after" in done.err, done.text
    again = box.offline("provision", box.name)
    assert "nothing to do" in again.err, again.text
