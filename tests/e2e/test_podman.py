"""`engine: podman`, rootful, with its data in a folder of its own."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import dockerd as engines
import pytest
import sshd as private
from test_containers import is_answered

from launcher.model import Container, HostSpec

Podman = Callable[..., subprocess.CompletedProcess[bytes]]

CONF = """
[engine]
cgroup_manager = "cgroupfs"
events_logger = "file"
[containers]
netns = "none"
default_ulimits = ["nofile=1024:1024", "nproc=1024:1024"]
"""


@pytest.fixture
def podman(world) -> Podman:
    if os.getuid() != 0 or shutil.which("podman") is None:
        pytest.skip(
            "podman is not installed" if os.getuid() == 0 else "only root can run a rootful podman here"
        )
    folder = Path(world.directory) / "podman"
    folder.mkdir()
    runtime = 'runtime = "runc"\n' if shutil.which("runc") else ""  # crun refuses hybrid cgroups
    (folder / "containers.conf").write_text(CONF.replace("[engine]\n", f"[engine]\n{runtime}"))
    storage = f'[storage]\ndriver = "vfs"\ngraphroot = "{folder}/root"\nrunroot = "{folder}/run"\n'
    (folder / "storage.conf").write_text(storage)
    world.more_environ = {
        "CONTAINERS_CONF": f"{folder}/containers.conf",
        "CONTAINERS_STORAGE_CONF": f"{folder}/storage.conf",
    }

    def run(*words: str, **more) -> subprocess.CompletedProcess[bytes]:
        env = {**os.environ, **world.more_environ}
        return subprocess.run(["podman", *words], env=env, capture_output=True, timeout=60, **more)

    done = run("import", "-", engines.IMAGE, input=engines.image_tar())
    probe = run("run", "--rm", "--network", "none", "-v", "/usr:/usr:ro", engines.IMAGE, "true")
    if probe.returncode:
        pytest.skip(
            f"podman runs nothing here: {(done.stderr + probe.stderr).decode(errors='replace')[-300:]}"
        )
    yield run
    run("rm", "-af", "-t", "0")
    subprocess.run(["umount", "-l", f"{folder}/root/vfs"], check=False, capture_output=True)


def host(world, box: Container) -> HostSpec:
    env = {"PYTHONPATH": engines.python_path(), private.MARK: world.mark}
    return world.host(local=True, docker=box, env=env, python=sys.executable, ready_timeout=30.0)


@pytest.mark.slow
def test_an_image_for_the_lease(world, podman):
    made = Container(image=engines.IMAGE, run=tuple(engines.options()), engine="podman")
    launcher = world.launcher()
    assert is_answered(launcher.open([host(world, made)])["lab-pc"])
    assert launcher.close() == []
    assert private.wait_until(lambda: podman("ps", "-aq").stdout == b"", 20)


@pytest.mark.slow
def test_a_stopped_container(world, podman):
    podman("create", "--name", "nav", "--init=false", *engines.options(), engines.IMAGE, "sleep", "600")

    def state() -> bytes:
        return podman("inspect", "-f", "{{.State.Status}}", "nav").stdout.strip()

    launcher = world.launcher()
    assert is_answered(launcher.open([host(world, Container(name="nav", engine="podman"))])["lab-pc"])
    assert state() == b"running"
    assert launcher.close() == []
    assert private.wait_until(lambda: state() == b"exited", 20), state()
