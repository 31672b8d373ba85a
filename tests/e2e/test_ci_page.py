"""docs/ci.md: the jobs run as they stand, on a host that a private sshd plays; and they are cancelled."""

from __future__ import annotations

import os
import re
import signal
import subprocess
from pathlib import Path

import pytest
import sshd as private
import yaml
from commandline import ENDS_WITHIN, Terminal

PAGE = (Path(__file__).parents[2] / "docs" / "ci.md").read_text(encoding="utf-8")
GITHUB, GITLAB = (
    yaml.safe_load(text) for text in re.findall(r"^```yaml\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)
)
STEPS = {step["name"]: step["run"] for step in GITHUB["jobs"]["scenarios"]["steps"] if "run" in step}


class Runner:
    """What a CI's runner gives to a job: secrets as variables, a home, and nothing else."""

    def __init__(self, terminal):
        self.terminal = terminal
        world = terminal.world
        world.known_hosts.unlink()
        key = world.sshd.client_key
        self.variables = {
            "LAB_KEY": key.read_text().rstrip("\n"),
            "LAB_KNOWN_HOSTS": world.sshd.known_hosts_line(),
        }
        self.hidden = world.directory / "secrets"
        key.rename(self.hidden)  # no file of it is where ssh, or the inventory, would find it
        text = (terminal.folder / "se-remote.yaml").read_text()
        (terminal.folder / "se-remote.yaml").write_text(re.sub(r"    ssh: .*\n", "", text))
        self.github_env = terminal.folder / "github_env"
        self.github_env.touch()

    def environ(self):
        exported = dict(line.split("=", 1) for line in self.github_env.read_text().splitlines())
        return {**self.terminal.environ, **self.variables, **exported, "GITHUB_ENV": str(self.github_env)}

    def start(self, script):
        """As both runners do: a file, in `bash -e`."""
        path = self.terminal.folder / "step.sh"
        path.write_text(script)
        return subprocess.Popen(
            ["bash", "-e", str(path)], cwd=self.terminal.folder, env=self.environ(), text=True,
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip

    def run(self, script):
        process = self.start(script)
        out, _ = process.communicate(timeout=ENDS_WITHIN)
        return process.returncode, out


@pytest.fixture
def terminal(world):
    made = Terminal(world)
    yield made
    assert not made.run_dir.exists()


@pytest.fixture
def runner(terminal):
    made = Runner(terminal)
    yield made
    environ = made.environ()
    if "SSH_AGENT_PID" in environ:
        subprocess.run(["ssh-agent", "-k"], env=environ, capture_output=True, check=False)


def scenario(terminal, command):
    osc = terminal.write_scenario(f'run_process("{command}") with:\n    remote("lab-pc")')
    (terminal.folder / osc).rename(terminal.folder / "dock.osc")


def running(terminal, command):
    return [text for text in private.marked(terminal.world.mark) if text.endswith(f" {command} ")]


def test_github(terminal, runner):
    scenario(terminal, "true")
    assert list(STEPS) == ["key", "look", "run", "end"]
    for name, script in STEPS.items():
        code, out = runner.run(script)
        assert code == 0, f"{name}: {out}"
    assert (terminal.folder / "results" / "test.xml").exists()


def test_github_cancels(terminal, runner):
    """SIGINT to the first process of the step, as its runner does; within 7.5 s it would get SIGTERM."""
    scenario(terminal, "sleep 614")
    assert runner.run(STEPS["key"])[0] == 0
    step = runner.start(STEPS["run"])
    assert private.wait_until(lambda: running(terminal, "sleep 614"), 30)
    step.send_signal(signal.SIGINT)
    out, _ = step.communicate(timeout=ENDS_WITHIN)
    assert step.returncode != 0, out
    code, out = runner.run(STEPS["end"])
    assert code == 0, out
    assert not running(terminal, "sleep 614") and not terminal.run_dir.exists()


def test_gitlab(terminal, runner):
    scenario(terminal, "true")
    job = GITLAB["scenarios"]
    code, out = runner.run("\n".join([*job["before_script"], *job["script"]]))
    assert code == 0, out
    assert (terminal.folder / "results" / "test.xml").exists()


def test_no_secret_on_the_command_line_or_in_a_file(terminal, runner):
    scenario(terminal, "true")
    assert runner.run(STEPS["key"])[0] == 0
    secret = runner.variables["LAB_KEY"].splitlines()[1]
    home = terminal.world.home
    assert [
        path for path in home.rglob("*") if path.is_file() and secret in path.read_text(errors="replace")
    ] == []
    assert os.path.exists(runner.environ()["SSH_AUTH_SOCK"])
