"""Containers in a test's world: an engine that local hosts and those over SSH reach, and what may be left."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from typing import Any

import dockerd as engines
import pytest
import sshd as private

from launcher.model import Container, HostSpec


class Boxes:
    """The world's containers. Processes in them carry its mark, too: this machine sees them."""

    def __init__(self, world: Any, dockerd: engines.Dockerd) -> None:
        self.world = world
        self.dockerd = dockerd
        self._mine: list[str] = []
        world.more_environ = {"DOCKER_HOST": dockerd.host, "DOCKER_CONFIG": dockerd.environ["DOCKER_CONFIG"]}
        world.sshd.environ = dict(world.more_environ)
        world.sshd.start()
        world.more_leftovers.append(self.leftovers)

    def create(self, name: str, *more: str, start: bool = True) -> str:
        """A container that is somebody's: it is there before and after."""
        self._mine.append(name)
        return self.dockerd.create(name, *more, start=start)

    def mine(self, name: str) -> None:
        """A container of that name may be there after the test, too."""
        self._mine.append(name)

    def host(self, name: str = "lab-pc", *, local: bool = False, **more: Any) -> HostSpec:
        """A host in a container: `box` as the name of one, or a model.Container."""
        box = more.pop("box")
        docker = Container(name=box) if isinstance(box, str) else box
        env = {"PYTHONPATH": engines.python_path(), private.MARK: self.world.mark, **more.pop("env", {})}
        more.setdefault("python", sys.executable)
        more.setdefault("ready_timeout", 30.0)
        more.setdefault("setup", "echo set up >&2")
        return self.world.host(name, local=local, docker=docker, env=env, **more)

    def image(self, *run: str, **more: Any) -> Container:
        """A container made for the lease."""
        return Container(image=engines.IMAGE, run=(*engines.options(), *run), **more)

    def env_text(self) -> str:
        """`env` of such a host in an inventory."""
        env = {"PYTHONPATH": engines.python_path(), private.MARK: self.world.mark, **private.SOON}
        return json.dumps(env)

    def leftovers(self) -> list[str]:
        found = []
        for text in self.dockerd.containers():
            if text.split()[0] not in self._mine:
                found.append(f"container {text}")
        for name in self._mine:
            if self.dockerd.state(name) == "running":
                inside = self.dockerd.exec(name, "sh", "-c", "ls -d /tmp/se-remote-*/* 2>/dev/null")
                found += [f"in {name}: {line}" for line in inside.splitlines()]
        return found

    def close(self) -> None:
        names = [text.split()[0] for text in self.dockerd.containers()]
        if names:
            self.dockerd.run("rm", "-f", *names, check=False)


@pytest.fixture
def boxes(world: Any, dockerd: engines.Dockerd) -> Iterator[Boxes]:
    made = Boxes(world, dockerd)
    try:
        yield made
        world.close()
        private.wait_until(lambda: not world.leftovers(), 40)
        assert world.leftovers() == []
    finally:
        made.close()
        world.more_leftovers.clear()
