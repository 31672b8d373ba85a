"""docs/processes.md to the letter: its YAML, its commands, its Python. Accounts play the machines."""

from __future__ import annotations

import re
import shlex
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from commandline import ENDS_WITHIN
from stackbed import until

from launcher import inventory

PAGE = (Path(__file__).parents[2] / "docs" / "processes.md").read_text(encoding="utf-8")
TOOLS = {
    "gz": 'case $1 in sim) echo "world $4"; exec sleep 3600;; topic) echo /clock;; esac',
    "ros2": "exec sleep 3600",
}
"""What the page's machines have and ours has not."""


def blocks(language):
    return re.findall(rf"^```{language}\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)


@pytest.fixture
def page(stack):
    tools = stack.world.directory / "bin"
    tools.mkdir()
    for name, text in TOOLS.items():
        (tools / name).write_text(f"#!/bin/sh\n{text}\n")
        (tools / name).chmod(0o755)
    stack.world.sshd.start(path=f"{tools}:/usr/bin:/bin")
    setup = stack.world.directory / "setup.bash"
    setup.write_text("")
    text = next(text for text in blocks("yaml") if "simulator:" in text)
    text = text.replace("robot@lab-pc.example", stack.machine())
    stack.write(text.replace("/opt/ros/jazzy/setup.bash", str(setup)))
    stack._names = ["simulator", "bridge"]
    return stack


def test_the_commands(page):
    (block,) = blocks("sh")
    commands = [shlex.split(line, comments=True)[1:] for line in block.splitlines()]
    assert len(commands) == 5
    for words in commands:
        if words[0] == "attach":
            continue  # needs a terminal: test_processes_api.py
        if "-f" not in words:
            page.good(*words)
            continue
        follower = page.start(*words)
        assert "world warehouse.sdf" in follower.stdout.readline()
        follower.send_signal(signal.SIGINT)
        page.ended(follower)
    assert not page.base().exists()


def test_the_python(page):
    (block,) = blocks("python")
    text = page.file("../work/se-remote.yaml").read_text()
    assert "{world}" in text
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", block],
        cwd=page.folder,
        env=page.environ,
        text=True,
        capture_output=True,
        timeout=ENDS_WITHIN,
    )
    assert (done.returncode, done.stderr) == (0, ""), done.stdout + done.stderr
    assert "simulator ready" in done.stdout and "world maze.sdf" in done.stdout
    until(lambda: not page.base().exists())


@pytest.mark.parametrize("text", blocks("yaml"))
def test_the_yaml_is_right(text):
    assert inventory.read(text).check() == []


def test_every_key_of_a_form_is_in_the_page():
    for text in blocks("yaml"):
        yaml.safe_load(text)
    assert re.search(r"\{log: REGEX\}.*\{port: N\}.*\{file: PATH\}", PAGE, re.DOTALL)
