"""`se-remote completion` in the real shells: somebody types on a terminal, and presses Tab."""

from __future__ import annotations

import contextlib
import os
import pty
import re
import select
import shutil
import subprocess
import time

import pytest
from commandline import BIN

INVENTORY = """
hosts:
  lab-pc:
    machine: robot@lab-pc.example
    variants: {debug: {env: {A: "1"}}, dry: {env: {B: "1"}}}
  robot: {machine: robot@robot.example}
processes:
  simulator: {cmd: sleep 1, machine: local, variants: {maze: {cmd: sleep 2}}}
  my planner: {cmd: sleep 1, machine: local}
  "hw: arm": {cmd: sleep 1, machine: local}
"""
ENDS_WITHIN = 20.0
START = {
    "bash": ["bash", "--norc", "--noprofile", "-i"],
    "zsh": ["zsh", "-f", "-i", "-o", "no_prompt_sp", "-o", "no_prompt_cr", "-o", "no_beep"],
}
SETTINGS = {
    "bash": "bind 'set bell-style none'; bind 'set page-completions off'; PS1='rea''dy> '",
    "zsh": "autoload -Uz compinit && compinit -u -D; PS1='rea''dy> '",
}


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "se-remote.yaml").write_text(INVENTORY)
    (tmp_path / "data folder").mkdir()
    (tmp_path / "notes.txt").touch()
    return tmp_path


def environ(folder):
    mine = {key: value for key, value in os.environ.items() if not key.startswith("SE_REMOTE_")}
    return {
        **mine,
        "PATH": f"{BIN}:{os.environ['PATH']}",
        "TERM": "dumb",
        "HOME": str(folder),
        "COLUMNS": "200",
    }


class Typist:
    """A shell on a terminal."""

    def __init__(self, shell, folder):
        self.master, slave = pty.openpty()
        self.process = subprocess.Popen(
            START[shell], cwd=folder, env=environ(folder), stdin=slave, stdout=slave, stderr=slave,
            start_new_session=True,
        )  # fmt: skip
        os.close(slave)
        self.heard = ""

    def begin(self, shell):
        self.type(f"{SETTINGS[shell]}\n")
        self.until("ready> ")
        self.type(f'eval "$(se-remote completion {shell})"; echo set""up\n')
        self.until("setup\r\nready> ")

    def type(self, text):
        os.write(self.master, text.encode())

    def until(self, text):
        """What has come up to that text."""
        deadline = time.monotonic() + ENDS_WITHIN
        while text not in self.heard:
            assert time.monotonic() < deadline, self.heard
            if select.select([self.master], [], [], 0.2)[0]:
                self.heard += os.read(self.master, 65536).decode(errors="replace")
        found, self.heard = self.heard, ""
        return found

    def completed(self, line, expected):
        """The line with Tab behind it becomes `expected`; then it is thrown away."""
        self.type(f"{line}\t")
        said = self.until(expected)
        self.type("\x15")  # Ctrl-U
        self.type("echo an''other\n")
        self.until("another\r\nready> ")
        return said

    def listed(self, line, *expected):
        """The line with Tab behind it, twice, shows these."""
        self.type(f"{line}\t\t")
        for text in expected:
            with contextlib.suppress(AssertionError):
                self.heard = text + self.until(text)  # in any order
                continue
            raise AssertionError(f"{text} is not shown")
        self.type("\x15\x15echo an''other\n")
        self.until("another\r\nready> ")

    def close(self):
        self.process.kill()
        self.process.wait()
        os.close(self.master)


@pytest.fixture(params=["bash", "zsh"])
def typist(request, folder):
    assert shutil.which(request.param) is not None
    made = Typist(request.param, folder)
    try:
        made.begin(request.param)
        yield made
    finally:
        made.close()


def test_tab(typist):
    typist.completed("se-remote sta", "se-remote status ")
    typist.completed("se-remote up lab", "se-remote up lab-pc ")
    typist.completed("se-remote up lab-pc+de", "lab-pc+debug ")
    typist.completed("se-remote up --variant lab-pc=de", "lab-pc=debug ")
    typist.completed("se-remote up --variant=lab-pc=de", "--variant=lab-pc=debug ")
    typist.completed("se-remote kill --for", "se-remote kill --force ")
    typist.completed("se-remote -i se-", "se-remote -i se-remote.yaml ")
    typist.completed("se-remote push lab-pc da", "data\\ folder/")
    typist.completed("se-remote with lab-pc -- tmu", "-- tmux")
    typist.listed("se-remote up ", "lab-pc", "robot", "local")


def test_processes(typist):
    typist.completed("se-remote run sim", "se-remote run simulator ")
    typist.completed("se-remote restart simulator+", "simulator+maze ")
    typist.completed("se-remote attach my", "se-remote attach my\\ planner ")
    typist.completed("se-remote kill my\\ pl", "se-remote kill my\\ planner ")
    typist.completed("se-remote doctor hw", "se-remote doctor hw:\\ arm ")
    typist.completed("se-remote logs hw:", "hw:\\ arm ")
    typist.completed('se-remote mon "my', 'se-remote mon "my planner" ')
    typist.completed("se-remote status 'my pl", "se-remote status 'my planner' ")
    typist.completed('se-remote run "hw: a', 'se-remote run "hw: arm" ')
    typist.completed("se-remote provision lab-pc --with ./da", "--with ./data\\ folder/")


def test_fish(folder):
    """It says itself what Tab would offer."""

    def offered(line):
        code = f"se-remote completion fish | source; complete -C {shutil_quote(line)}"
        done = subprocess.run(["fish", "--no-config", "-c", code], cwd=folder, env=environ(folder), text=True,
                              capture_output=True, timeout=ENDS_WITHIN)  # fmt: skip
        assert done.stderr == ""
        return [text.split("\t")[0] for text in done.stdout.splitlines()]

    assert offered("se-remote sta") == ["status"]
    assert set(offered("se-remote up ")) == {"lab-pc", "robot", "local"}
    assert set(offered("se-remote up lab-pc+d")) == {"lab-pc+debug", "lab-pc+dry"}
    assert offered("se-remote kill --for") == ["--force"]
    assert "se-remote.yaml" in offered("se-remote -i se-")
    assert offered("se-remote push lab-pc da") == ["data folder/"]
    assert "tmux" in offered("se-remote with lab-pc -- tmu")
    assert offered("se-remote completion ") == ["bash", "fish", "zsh"]
    assert set(offered("se-remote run ")) >= {"simulator", "my planner", "hw: arm"}
    assert offered("se-remote kill my") == ["my planner"]
    assert offered("se-remote kill my\\ pl") == ["my planner"]
    assert offered("se-remote attach hw:") == ["hw: arm"]
    assert offered("se-remote mon 'my pl") == ["my planner"]
    assert offered('se-remote mon "hw: a') == ["hw: arm"]
    assert offered("se-remote restart simulator+") == ["simulator+maze"]


def shutil_quote(text):
    return "'" + text.replace("'", "\\'") + "'"


@pytest.mark.parametrize(
    ("shell", "check"), [("bash", ["bash", "-n"]), ("zsh", ["zsh", "-n"]), ("fish", ["fish", "-n"])]
)
def test_the_scripts_are_right_for_their_shells(folder, shell, check):
    done = subprocess.run(
        ["se-remote", "completion", shell], env=environ(folder), capture_output=True, check=True
    )
    (folder / "script").write_bytes(done.stdout)
    assert subprocess.run([*check, str(folder / "script")], capture_output=True).stderr == b""
    assert re.search(rb"__complete", done.stdout)
