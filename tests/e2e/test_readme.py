"""The README followed to the letter: its YAML, its scenario, its commands. A private sshd plays the host."""

from __future__ import annotations

import re
import sys
import textwrap
from pathlib import Path

import pytest
from commandline import Terminal

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    """The fenced blocks of that language, without the list's indentation."""
    # Every block is matched, whatever its language: a closing fence would else open a block without one.
    found = re.findall(r"^ *```(\w*)\n(.*?)^ *```$", README, re.DOTALL | re.MULTILINE)
    return [textwrap.dedent(body) for name, body in found if name == language]


@pytest.fixture
def terminal(world):
    made = Terminal(world)
    yield made
    made.se_remote("kill", made.name, "--force")


def test_own_machines_in_five_minutes(terminal):
    sshd, home = terminal.world.sshd, terminal.world.home
    (home / ".ssh" / "config").write_text(
        f"Host lab-pc.example\n  HostName 127.0.0.1\n  Port {sshd.port}\n  User {home.owner()}\n"
        f"  IdentityFile {sshd.client_key}\n  HostKeyAlias [127.0.0.1]:{sshd.port}\n"
    )
    text = next(text for text in blocks("yaml") if "lab-pc" in text)
    # What differs on this machine: who logs in, which python has the package, and there is no ROS. The host
    # has a name of its own, since run directories lie in the real place.
    text = text.replace("robot@", "").replace("~/venvs/se/bin/python", __import__("sys").executable)
    setup = terminal.folder / "setup.bash"
    setup.write_text("export FROM_SETUP=yes\n")
    text = text.replace("/opt/ros/jazzy/setup.bash", str(setup))
    text = text.replace("  lab-pc:\n", f"  {terminal.name}:\n    aliases: [lab-pc]\n")
    (terminal.folder / "se-remote.yaml").write_text(text)
    (terminal.folder / "hello.osc").write_text(next(b for b in blocks("") if "scenario hello_lab" in b))

    commands = [line for block in blocks("sh") for line in block.splitlines() if not line.startswith("make ")]
    commands += re.findall(r"`(se-remote kill lab-pc)`", README)
    assert len(commands) == 5
    for command in commands:
        done = terminal.run(*command.split())
        assert done.code == 0, f"{command}: {done.text}"
        if command.startswith("scenario_execution"):
            assert f"[{terminal.name}] " in done.out
    assert not terminal.run_dir.exists()


def test_files_there_and_back(terminal):
    text = next(text for text in blocks("yaml") if "push: scenario" in text)
    sshd, out = terminal.world.sshd, terminal.folder / "results"
    reached = f"127.0.0.1:{sshd.port}\n    ssh: {{identity: {sshd.client_key}}}"
    text = text.replace("robot@robot.example", reached).replace("~/venvs/se/bin/python", sys.executable)
    text = text.replace("  robot:\n", f"  {terminal.name}:\n    aliases: [robot]\n")
    (terminal.folder / "se-remote.yaml").write_text(text)
    osc = next(text for text in blocks("") if "scenario dock" in text)
    (terminal.folder / "dock.osc").write_text(osc.replace("/tmp/results", str(out)))
    script = terminal.folder / "dock.sh"
    script.write_text('#!/bin/sh\necho docked >"$1/verdict"\n')
    script.chmod(0o755)
    done = terminal.run("scenario_execution", "-o", str(out), "dock.osc")
    assert done.code == 0, done.text
    assert (out / "verdict").read_text() == "docked\n"


def test_every_make_target_of_the_readme_exists():
    makefile = (ROOT / "Makefile").read_text()
    targets = set(re.findall(r"make ([a-z-]+)", README))
    assert targets
    assert [target for target in targets if not re.search(rf"^{target}:", makefile, re.MULTILINE)] == []


def test_every_link_of_the_docs_leads_somewhere():
    broken = []
    for page in [ROOT / "README.md", *(ROOT / "docs").rglob("*.md")]:
        for target in re.findall(r"\]\(([^)#]+)[^)]*\)", page.read_text(encoding="utf-8")):
            if "://" not in target and not (page.parent / target).exists():
                broken.append(f"{page.name}: {target}")
    assert broken == []


def test_every_option_of_the_server_is_documented(terminal):
    shown = terminal.run("scenario_execution_server", "--help").out
    page = (ROOT / "docs" / "server.md").read_text(encoding="utf-8")
    hidden = {"--help"}
    options = set(re.findall(r"(?<![\w-])--[a-z][a-z-]+", shown)) - hidden
    assert options
    assert [option for option in sorted(options) if option not in page] == []


def test_every_command_of_the_command_line_is_in_the_readme():
    from launcher.cli.main import _COMMANDS

    assert [name for name in _COMMANDS if f"se-remote {name}" not in README] == []
