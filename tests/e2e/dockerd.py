"""A private docker engine for tests: its own data, sockets and pids in one folder, and nothing to download.

The image is a tiny tar with empty folders; a container of it gets the machine's /usr, the interpreter, the
repository and its packages mounted read-only. An engine that cannot run here skips its tests, with the
reason; where SE_REMOTE_BED is `required` (in CI) that is a failure.
"""

from __future__ import annotations

import contextlib
import io
import os
import shutil
import signal
import subprocess
import sys
import sysconfig
import tarfile
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

DOCKER = "/usr/bin/docker" if Path("/usr/bin/docker").exists() else shutil.which("docker") or "docker"
IMAGE = "se-remote-test:1"
FOLDERS = "usr etc proc sys dev tmp root home sbin opt var/tmp run srv"
PASSWD = "root:x:0:0:root:/root:/bin/bash\nrobot:x:4711:4711:robot:/home/robot:/bin/bash\n"


class Dockerd:
    """Runs from its making until `close`."""

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="sed-", dir="/tmp"))
        self.host = f"unix://{self.folder}/docker.sock"
        self.environ = {**os.environ, "DOCKER_HOST": self.host, "DOCKER_CONFIG": str(self.folder / "client")}
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> str:
        """Returns why it does not run, "" when it does."""
        for storage in ([], ["--storage-driver=vfs"]):
            trouble = self._try(storage)
            if not trouble:
                self._import()
                return ""
        return trouble

    def _try(self, storage: list[str]) -> str:
        words = [
            "dockerd", "--data-root", f"{self.folder}/data", "--exec-root", f"{self.folder}/exec",
            "--pidfile", f"{self.folder}/pid", "-H", self.host, "--config-file", f"{self.folder}/none.json",
            "--iptables=false", "--bridge=none", "--ip-forward=false", *storage,
        ]  # fmt: skip
        (self.folder / "none.json").write_text("{}")
        with (self.folder / "log").open("wb") as log:
            self._process = subprocess.Popen(words, stdout=log, stderr=log, start_new_session=True)
        until = time.monotonic() + 30
        while time.monotonic() < until and self._process.poll() is None:
            if self.run("version", check=False).returncode == 0:
                return ""
            time.sleep(0.1)
        self._end()
        lines = (self.folder / "log").read_text(errors="replace").strip().splitlines()
        return lines[-1] if lines else "it said nothing"

    def _import(self) -> None:
        subprocess.run(
            [DOCKER, "import", "-", IMAGE],
            input=image_tar(),
            env=self.environ,
            check=True,
            capture_output=True,
        )

    def run(self, *words: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """The docker command."""
        return subprocess.run(
            [DOCKER, *words], env=self.environ, capture_output=True, text=True, check=check, timeout=60
        )

    def state(self, name: str) -> str:
        """running, paused, exited, …; "" when there is no such container."""
        return self.run("inspect", "-f", "{{.State.Status}}", name, check=False).stdout.strip()

    def exec(self, name: str, *words: str) -> str:
        """What a command inside says."""
        return self.run("exec", name, *words, check=False).stdout

    def containers(self) -> list[str]:
        return self.run("ps", "-a", "--format", "{{.Names}} ({{.Status}})").stdout.splitlines()

    def create(self, name: str, *more: str, start: bool = True) -> str:
        """A container that sleeps."""
        words = ["run", "-d"] if start else ["create"]
        sleep = ["sh", "-c", "trap exit TERM; while :; do sleep 1 & wait $!; done"]
        self.run(*words, "--init", "--name", name, *options(), *more, IMAGE, *sleep)
        return name

    def close(self) -> None:
        """End it and all that it started; nothing stays mounted."""
        if self._process is not None and self._process.poll() is None:
            with contextlib.suppress(subprocess.SubprocessError, OSError):
                names = self.run("ps", "-aq").stdout.split()
                if names:
                    self.run("rm", "-f", *names, check=False)
        self._end()
        with contextlib.suppress(OSError):
            mounts = [line.split()[1] for line in Path("/proc/mounts").read_text().splitlines()]
            for path in sorted((m for m in mounts if m.startswith(f"{self.folder}/")), reverse=True):
                subprocess.run(["umount", "-l", path], check=False, capture_output=True)
        shutil.rmtree(self.folder, ignore_errors=True)

    def _end(self) -> None:
        if self._process is None:
            return
        below = _descendants(self._process.pid)
        self._process.send_signal(signal.SIGTERM)
        try:
            self._process.wait(15)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        needle = str(self.folder).encode()
        for pid in below:  # containerd, and the shims that have left it
            with contextlib.suppress(OSError):
                if needle in Path(f"/proc/{pid}/cmdline").read_bytes():
                    os.kill(pid, signal.SIGKILL)
        self._process = None


def image_tar() -> bytes:
    """The image, for `import`."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as tar:
        parents = {"var": None, **dict.fromkeys(FOLDERS.split())}
        for name in [*parents, "home/robot"]:
            entry = tarfile.TarInfo(name)
            entry.type, entry.mode = tarfile.DIRTYPE, 0o1777 if name in ("tmp", "home/robot") else 0o755
            tar.addfile(entry)
        for name in ("bin", "lib", "lib64"):
            if Path(f"/{name}").is_symlink():
                entry = tarfile.TarInfo(name)
                entry.type, entry.linkname = tarfile.SYMTYPE, os.readlink(f"/{name}")
                tar.addfile(entry)
        for name, text in (("etc/passwd", PASSWD), ("etc/group", "root:x:0:\nrobot:x:4711:\n")):
            entry = tarfile.TarInfo(name)
            entry.size = len(text)
            tar.addfile(entry, io.BytesIO(text.encode()))
    return packed.getvalue()


def options() -> list[str]:
    """What a container needs to run our server: this machine's programs, and no network."""
    base = Path(sys.executable).resolve().parents[1]
    repository = Path(__file__).parents[2]
    wanted = [base, repository, Path(sys.prefix), *map(Path, site_packages())]
    paths = [path for path in dict.fromkeys(wanted) if not str(path).startswith("/usr/")]
    top = [path for path in paths if not any(other in path.parents for other in paths)]
    words = ["--network", "none", "-v", "/usr:/usr:ro"]
    for path in top:
        words += ["-v", f"{path}:{path}:ro"]
    return words


def site_packages() -> list[str]:
    return list(dict.fromkeys([sysconfig.get_paths()["purelib"], sysconfig.get_paths()["platlib"]]))


def python_path() -> str:
    """PYTHONPATH of our server in such a container."""
    return os.pathsep.join([str(Path(__file__).parents[2]), *site_packages()])


def _descendants(pid: int) -> list[int]:
    from sshd import children

    return children(pid)


@pytest.fixture(scope="session")
def dockerd() -> Iterator[Dockerd]:
    """The engine, shared by all tests of a run."""
    if os.getuid() != 0 or shutil.which("dockerd") is None:
        _no_engine("dockerd is not installed" if os.getuid() == 0 else "only root can run dockerd")
    made = Dockerd()
    before = signal.getsignal(signal.SIGTERM)
    with contextlib.suppress(ValueError):  # a run that is told to stop ends it, too
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        trouble = made.start()
        if trouble:
            _no_engine(f"dockerd does not run here: {trouble}")
        yield made
    finally:
        made.close()
        with contextlib.suppress(ValueError):
            signal.signal(signal.SIGTERM, before)


def _no_engine(reason: str) -> None:
    if os.environ.get("SE_REMOTE_BED") == "required":
        pytest.fail(f"containers cannot be tested: {reason}")
    pytest.skip(reason)
