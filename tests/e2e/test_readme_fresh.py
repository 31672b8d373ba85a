"""The README followed in a fresh container, command by command, from its first line to its last.

In the container there is what the README asks for (python3, make, tmux, an SSH server), a clone of this
repository, and nothing else of ours. An account `robot` of it is the machine: `lab-pc.example` is the
container itself. It has no network, so pip finds its wheels in a folder. What a lab has and a container has
not is stood in for: ROS and Gazebo.
"""

from __future__ import annotations

import importlib.metadata
import re
import shutil
import subprocess
import sys
import tempfile
import textwrap
import zipfile
from collections.abc import Iterator
from pathlib import Path

import dockerd as engines
import pytest
import sshd as private

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
PREFIX = Path(sys.base_prefix).resolve()
"""Of the interpreter that runs the tests: it is the container's python3."""
PATH = "/clone/.venv/bin:/usr/local/bin:/opt/python/bin:/usr/bin:/bin"
"""The virtual environment of `make demo` is active."""
WORK = "/root/work"
NAME = "readme-fresh"
GZ = 'case $1 in sim) echo "world $4"; exec sleep 3600;; topic) echo /clock;; esac'
ROS2 = 'case $1 in launch) echo "launched $3";; *) exec sleep 3600;; esac'
TOOLS = {"gz": GZ, "ros2": ROS2}
MACHINE = """
set -e
printf '127.0.0.1 localhost lab-pc.example robot.example\\n' >/etc/hosts
printf 'sshd:x:100:65534::/run/sshd:/usr/sbin/nologin\\n' >>/etc/passwd
mkdir -p -m 755 /run/sshd /etc/ssh /opt/ros/jazzy
echo 'export ROS_DISTRO=jazzy' >/opt/ros/jazzy/setup.bash
chown -R robot /home/robot
chmod 755 /home/robot
ssh-keygen -q -t ed25519 -N '' -f /etc/ssh/ssh_host_ed25519_key
mkdir -m 700 /root/.ssh
ssh-keygen -q -t ed25519 -N '' -f /root/.ssh/id_ed25519
install -d -o robot -m 700 /home/robot/.ssh
install -o robot -m 600 /root/.ssh/id_ed25519.pub /home/robot/.ssh/authorized_keys
printf 'UsePAM no\\nHostKey /etc/ssh/ssh_host_ed25519_key\\n' >/etc/ssh/sshd_config
/usr/sbin/sshd
"""


class Readme:
    """Its fenced blocks, each to be followed once."""

    def __init__(self) -> None:
        found = re.findall(r"^ *```(\w*)\n(.*?)^ *```$", README, re.DOTALL | re.MULTILINE)
        self._left = [(language, textwrap.dedent(body)) for language, body in found]

    def take(self, language: str, within: str) -> str:
        """The first block of that language with these words in it that is still to be followed."""
        for number, (name, body) in enumerate(self._left):
            if name == language and within in body:
                del self._left[number]
                return body
        raise AssertionError(f"the README has no block ```{language} with {within!r} any more")

    def left(self) -> list[str]:
        return [f"```{name}\n{body}" for name, body in self._left]


class Fresh:
    """The container."""

    def __init__(self, dockerd: engines.Dockerd, folder: Path, *, tests: bool) -> None:
        self.dockerd, self.folder, self.tests = dockerd, folder, tests
        self.clone()
        words = ["run", "-d", "--init", "--name", NAME, "--network", "none"]
        words += ["-v", "/usr:/usr:ro", "-v", "/etc/alternatives:/etc/alternatives:ro"]
        words += ["--tmpfs", "/usr/local:exec,mode=755"]
        if Path("/usr") != PREFIX:
            words += ["-v", f"{PREFIX}:/opt/python:ro"]
        words += ["-v", f"{folder}/clone:/clone", "-v", f"{folder}/wheels:/wheels:ro"]
        words += ["-e", "PIP_NO_INDEX=1", "-e", "PIP_FIND_LINKS=/wheels", "-e", "PIP_ROOT_USER_ACTION=ignore"]
        dockerd.run(*words, engines.IMAGE, "sleep", "1000000")
        self.run(MACHINE, path="/")
        for name, text in TOOLS.items():
            self.run(f"mkdir -p /usr/local/bin; cat >/usr/local/bin/{name}; chmod 755 /usr/local/bin/{name}",
                     path="/", given=f"#!/bin/sh\n{text}\n")  # fmt: skip

    def clone(self) -> None:
        """What a clone would have: the files that git knows, or would take."""
        listed = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
        names = subprocess.run(listed, cwd=ROOT, capture_output=True, check=True, text=True).stdout
        for name in filter(None, names.split("\0")):
            to = self.folder / "clone" / name
            to.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, to, follow_symlinks=False)

    def start(self, text: str, *, path: str = "/clone", user: str = "root") -> subprocess.Popen[str]:
        """A shell with that text."""
        words = [engines.DOCKER, "exec", "-i", "-u", user, "-w", path]
        words += ["-e", f"HOME={'/root' if user == 'root' else f'/home/{user}'}"]
        words += ["-e", f"PATH={PATH}", NAME, "sh", "-c", text]
        return subprocess.Popen(
            words, env=self.dockerd.environ, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )  # fmt: skip

    def run(self, text: str, *, path: str = WORK, user: str = "root", given: str = "", code: int = 0) -> str:
        """What it says, both streams; it must end with that code."""
        return self.end(self.start(text, path=path, user=user), text, given, code)

    @staticmethod
    def end(process: subprocess.Popen[str], text: str, given: str = "", code: int = 0) -> str:
        said, _ = process.communicate(given, timeout=600)
        assert process.returncode == code, f"$ {text}\n{said}"
        assert "Traceback" not in said, f"$ {text}\n{said}"
        return said

    def write(self, name: str, text: str) -> None:
        self.run(f"mkdir -p {WORK}; cat >{WORK}/{name}", path="/", given=text)

    def left(self) -> list[str]:
        """What nobody has ended: processes of the account, run directories. A `sleep` ends by itself."""
        private.wait_until(lambda: not self._left(), 10)
        return self._left()

    def _left(self) -> list[str]:
        look = (
            "ls -d /tmp/se-remote-*/*/ 2>/dev/null; ps -u robot -o args= | grep -v -e sshd -e 'ps -u'; true"
        )
        return self.run(look, path="/").splitlines()


def wheels(folder: Path) -> None:
    """What pip needs in there: wheels of what is installed here, and from the index what builds ours."""
    folder.mkdir()
    for found in importlib.metadata.distributions():
        if found.name.lower() not in ("pip", "setuptools", "se-remote", "wheel"):
            _pack(found, folder)
    words = [sys.executable, "-m", "pip", "download", "-q", "--disable-pip-version-check", "--no-deps"]
    build = _builders()
    done = subprocess.run([*words, "-d", str(folder), *build], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr


def _builders() -> list[str]:
    """What pyproject.toml says that builds it, and what pip before 23.1 wants for that."""
    (listed,) = re.findall(r"^requires = \[(.*)\]$", (ROOT / "pyproject.toml").read_text(), re.MULTILINE)
    return [*re.findall(r'"([^"]+)"', listed), "wheel"]


def _pack(found: importlib.metadata.Distribution, folder: Path) -> None:
    """A wheel of the files that its installation has left."""
    files = [path for path in found.files or () if "__pycache__" not in path.parts]
    (info,) = {path.parts[0] for path in files if path.parts[0].endswith(".dist-info")}
    tags = re.findall(r"^Tag: (\S+)-(\S+)-(\S+)$", found.read_text("WHEEL") or "", re.MULTILINE)
    tag = "-".join(".".join(dict.fromkeys(parts)) for parts in zip(*tags, strict=True))
    entries = found.read_text("entry_points.txt") or ""
    stem = info.removesuffix(".dist-info")
    with zipfile.ZipFile(folder / f"{stem}-{tag}.whl", "w") as archive:
        for path in files:
            name = path.as_posix()
            if path.parts[0] == "..":
                if path.parent.name != "bin" or re.search(rf"^{path.name}\s*=", entries, re.MULTILINE):
                    continue  # pip makes it
                name = f"{stem}.data/scripts/{path.name}"
            if path.name not in ("RECORD", "INSTALLER", "REQUESTED", "direct_url.json"):
                archive.write(str(path.locate()), name)
        listed = "".join(f"{name},,\n" for name in [*archive.namelist(), f"{info}/RECORD"])
        archive.writestr(f"{info}/RECORD", listed)


@pytest.fixture
def folder() -> Iterator[Path]:
    made = Path(tempfile.mkdtemp(prefix="ser-", dir="/tmp"))
    made.chmod(0o755)
    yield made
    shutil.rmtree(made, ignore_errors=True)


@pytest.fixture(params=["demo", pytest.param("test", marks=pytest.mark.slow)])
def fresh(request: pytest.FixtureRequest, folder: Path, dockerd: engines.Dockerd) -> Iterator[Fresh]:
    """With `make demo` for the commands, or with `make test`, too."""
    wheels(folder / "wheels")
    try:
        yield Fresh(dockerd, folder, tests=request.param == "test")
    finally:
        dockerd.run("rm", "-f", NAME, check=False)


def lines(block: str) -> list[str]:
    return [line for line in block.splitlines() if line.strip()]


def same_shape(text: str) -> list[str]:
    """Lines of a scenario's output, without what differs from run to run."""
    found = re.findall(r"^\[INFO\].*$", text, re.MULTILINE)
    return [re.sub(r"\d+\.\d+", "N", re.sub(r"^\[INFO\] \[[\d.]+\]", "[INFO]", line)) for line in found]


@pytest.mark.timeout(900)
def test_the_readme_command_by_command(fresh: Fresh) -> None:
    readme = Readme()
    _two_commands(fresh, readme)
    _own_machines(fresh, readme)
    _the_first_page(fresh, readme)
    _containers(fresh, readme)
    _processes(fresh, readme)
    _files(fresh, readme)
    readme.take("", "one SSH connection")  # the picture
    assert readme.left() == [], "a block that this test does not follow"
    assert fresh.left() == []


def _two_commands(fresh: Fresh, readme: Readme) -> None:
    at_the_machine = "python3 -m venv ~/venvs/se && cp -r /clone ~/clone && cd ~/clone && "
    assert "`python3 -m pip install .`" in README
    (command,) = lines(readme.take("sh", "make demo"))
    installing = fresh.start(
        f"{at_the_machine} ~/venvs/se/bin/python3 -m pip install -q .", path="/", user="robot"
    )
    said = fresh.run(command, path="/clone")
    assert "checked: no process" in said and "this line is printed on lab-pc" in said
    fresh.end(installing, "pip install .")
    (command,) = lines(readme.take("sh", "make test"))
    if fresh.tests:
        chosen = "-p no:cacheprovider tests/unit/launcher/test_command.py"
        said = fresh.run(f"PYTEST_ARGS='{chosen}' {command}", path="/clone")
        assert re.search(r"\d+ passed", said), said


def _own_machines(fresh: Fresh, readme: Readme) -> None:
    fresh.write("se-remote.yaml", readme.take("yaml", "hosts:"))
    check, up, status = lines(readme.take("sh", "se-remote up"))
    fresh.run(check)
    _accept(fresh, up)
    said = fresh.run("se-remote doctor lab-pc")
    assert "a scenario can run there" in said, said
    said = fresh.run(up)
    assert "lab-pc" in said
    said = fresh.run(status)
    assert re.search(r"lab-pc.*ready", said), said
    fresh.write("hello.osc", readme.take("", "scenario hello_lab"))
    (command,) = lines(readme.take("sh", "hello.osc"))
    assert "[lab-pc]" in fresh.run(command)
    (kill,) = re.findall(r"`(se-remote kill lab-pc)`", README)
    fresh.run(kill)
    assert fresh.left() == []


def _accept(fresh: Fresh, command: str) -> None:
    """A machine you have never logged in to has a host key that `se-remote up` does not know."""
    (accept,) = re.findall(r"if that is its key: (.*)", fresh.run(command, code=3))
    fresh.run(accept)


def _the_first_page(fresh: Fresh, readme: Readme) -> None:
    """Its word under an action, and the output that it shows."""
    start = "import osc.helpers\nimport osc.remote\n\nscenario demo:\n    do serial:\n"
    body = textwrap.indent(readme.take("", "ros2 launch nav2"), "        ")
    fresh.write("launch.osc", start + body)
    assert "[lab-pc] launched bringup.launch.py" in fresh.run("scenario_execution launch.osc")
    shown = readme.take("text", "$ scenario_execution demo.osc")
    here, there = re.findall(r"(this line is printed .*)", shown)
    body = f'        log("{here}")\n        log("{there}") with:\n            remote("lab-pc")\n'
    fresh.write("demo.osc", start + body)
    said = fresh.run("scenario_execution demo.osc")
    assert same_shape(said) == same_shape(shown)


def _containers(fresh: Fresh, readme: Readme) -> None:
    """Without an engine there: the file is right, and the doctor says what is missing."""
    fresh.write("se-remote.yaml", readme.take("yaml", "docker: nav_container"))
    fresh.run("se-remote inventory check")


def _processes(fresh: Fresh, readme: Readme) -> None:
    fresh.write("se-remote.yaml", readme.take("yaml", "ready_check:"))
    fresh.run("se-remote inventory check")
    (run,) = re.findall(r"`(se-remote run bridge --variant maze)`", README)
    fresh.run(run)
    said = fresh.run("se-remote status --tree")
    assert re.search(r"simulator.*ready", said) and re.search(r"bridge.*ready", said), said
    assert "world maze.sdf" in fresh.run("se-remote logs simulator")
    said = fresh.run("se-remote kill simulator")
    assert said.index("bridge") < said.index("simulator"), said
    assert fresh.left() == []


def _files(fresh: Fresh, readme: Readme) -> None:
    fresh.write("se-remote.yaml", readme.take("yaml", "push: scenario"))
    fresh.write("dock.osc", readme.take("", "scenario dock"))
    fresh.write("dock.sh", '#!/bin/sh\necho "docked as $(id -un)" >"$1/verdict"\n')
    (executable,) = re.findall(r"`(chmod \+x dock.sh)`", README)
    fresh.run(executable)
    (command,) = re.findall(r"`(scenario_execution -o /tmp/results dock.osc)`", README)
    _accept(fresh, "se-remote up robot")
    fresh.run(command)
    assert fresh.run("cat /tmp/results/verdict") == "docked as robot\n"
