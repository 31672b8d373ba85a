"""Hosts in network namespaces on this one machine, each with its own sshd, address, disks and processes.

    client namespace  10.77.0.1 on a bridge ──veth── host 1  10.77.0.11   (own net, mounts, pids, name; sshd)
    (network only)                          ──veth── host 2  10.77.0.12

Rules:
- Nothing has a name in the machine: namespaces live by the processes in them and descriptors of this process,
  so all of it goes when this process goes, even by SIGKILL (each host's init ends with its standard input).
- All traffic stays inside. A host's processes are seen and signalled from here, by their pids here.
- A host's power cycle keeps its network and its disks (/tmp and /root are tmpfs of its own); its boot
  id changes.
- Needs root, iproute2, nftables (loss), /dev/net/tun (latency): `why_not` says what is missing.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import uuid
from collections.abc import Iterator, Sequence
from pathlib import Path

from namespaces import PATH, SSHD, Namespace, Process, processes, wait_until

HERE = Path(__file__).parent
REPOSITORY = HERE.parents[1]
NET = "10.77.0"
CLIENT_ADDRESS = f"{NET}.1"
PRIVATE = ("/run", "/root", "/tmp")
"""Directories of which each host has its own; /tmp last, the others are made ready below it."""


class BedHost:
    """One machine of the bed; made by Bed."""

    def __init__(self, bed: Bed, number: int, tmp_size: str) -> None:
        self.bed = bed
        self.number = number
        self.name = f"bed{number}"
        self.address = f"{NET}.{10 + number}"
        self.port = f"h{number}"
        """The client's end of its wire."""
        self.shim = HERE / "bed" / "shim"
        """A folder for PYTHONPATH: lets `step_clock` work."""
        self._wire: subprocess.Popen[bytes] | None = None
        self._power: subprocess.Popen[bytes] | None = None
        self._undo = contextlib.ExitStack()
        self._folder = bed.directory / self.name
        self._folder.mkdir()
        script = "\n".join(
            [
                "set -e",
                *(_private(path, self._folder / "stage", bed.shared, tmp_size) for path in PRIVATE),
                "echo up; read x || :",
            ]
        )
        command = ["unshare", "--net", "--mount", "sh", "-c", script]
        self._chassis = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self._undo.callback(_end, self._chassis)

    def connect(self) -> None:
        """Take the namespaces over, plug the cable in, switch it on."""
        _expect_up(self._chassis)
        self.net = Namespace(self._chassis.pid)
        self._undo.callback(self.net.close)
        self._mounts = os.open(f"/proc/{self._chassis.pid}/ns/mnt", os.O_RDONLY | os.O_CLOEXEC)
        self._undo.callback(os.close, self._mounts)
        self._undo.callback(self.switch_off)
        self._undo.callback(self.slow, 0)
        self.bed.client.ip(
            f"link add {self.port} type veth peer name eth0 netns {self._chassis.pid}",
            f"link set {self.port} master br0 up",
        )
        _end(self._chassis)
        self.net.ip("link set lo up", f"addr add {self.address}/24 dev eth0", "link set eth0 up")
        self.switch_on()

    # -- power

    def switch_on(self) -> None:
        boot_id = self._folder / "boot_id"
        boot_id.write_text(f"{uuid.uuid4()}\n")
        command = [
            "nsenter", f"--net=/proc/self/fd/{self.net.fd}", f"--mount=/proc/self/fd/{self._mounts}", "--",
            "unshare", "--mount", "--pid", "--uts", "--ipc", "--fork", "--kill-child=KILL", "--mount-proc",
            sys.executable, "-I", "-S", str(HERE / "bed" / "init.py"), self.name, str(boot_id),
        ]  # fmt: skip
        self._power = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, pass_fds=[self.net.fd, self._mounts]
        )
        _expect_up(self._power)
        children = Path(f"/proc/{self._power.pid}/task/{self._power.pid}/children")
        self.init = int(children.read_text().split()[0])
        self.start_sshd()

    def switch_off(self) -> None:
        """Everything on it is gone at once; its disks keep what they hold."""
        if self._power is not None:
            _end(self._power)
            self._power = None

    def reboot(self) -> None:
        self.switch_off()
        self.switch_on()

    def start_sshd(self) -> None:
        """The daemon; returns when it listens."""
        config = self._folder / "sshd_config"
        config.write_text(self.bed.sshd_config())
        # -D inside of init's namespaces: it is init's child in the end, like a service
        self.run(f"setsid {SSHD} -D -f {config} -E {self._folder}/sshd.log </dev/null >/dev/null 2>&1 &")
        if not wait_until(self.sshd, 10):
            raise RuntimeError((self._folder / "sshd.log").read_text())

    def sshd(self) -> int:
        """The pid of the daemon that listens; 0 without one."""
        listening = any(
            line.split()[1].endswith(":0016") and line.split()[3] == "0A"
            for line in Path(f"/proc/{self.init}/net/tcp").read_text().splitlines()[1:]
        )
        daemons = [p.pid for p in self.processes() if p.name == "sshd" and p.ppid == self.init]
        return daemons[0] if listening and daemons else 0

    def run(self, script: str) -> str:
        """A shell script on it, as root; raises when it fails."""
        target = ["--target", str(self.init), "--mount", "--uts", "--ipc", "--net", "--pid"]
        command = ["nsenter", *target, "--", "sh", "-c", script]
        done = subprocess.run(command, capture_output=True, text=True, env={"PATH": PATH, "HOME": "/root"})
        if done.returncode:
            raise RuntimeError(f"{self.name}: {script}: {done.stdout}{done.stderr}")
        return done.stdout

    # -- what is there

    def path(self, text: str) -> Path:
        """A path of its disks, seen from here."""
        return Path(f"/proc/{self.init}/root{text}")

    def processes(self) -> list[Process]:
        return processes(self.net.inode)

    def guests(self) -> list[Process]:
        """Processes that are not the machine's own: all but init and the listening sshd."""
        own = {self.init, self.sshd(), *(p.pid for p in (self._power, self._wire) if p is not None)}
        return [p for p in self.processes() if p.pid not in own]

    def leftovers(self) -> list[str]:
        """What somebody has left here: processes, files in /tmp, open ports."""
        found = [f"{self.name}: process {p.pid} {p.command}" for p in self.guests()]
        for path in self.path("/tmp").iterdir():
            if path.name not in self.bed.bound:
                found.append(f"{self.name}: /tmp/{path.name} {_names(path)}")
        lines = Path(f"/proc/{self.init}/net/tcp").read_text().splitlines()[1:]
        found += [f"{self.name}: port {line.split()[1]}" for line in lines if _is_open(line)]
        return found

    # -- its wire

    def link(self, up: bool) -> None:
        self.bed.client.ip(f"link set {self.port} {'up' if up else 'down'}")

    def lose(self, percent: int) -> None:
        """Of the packets to it; 0 ends it. (Dropped on arrival: TCP is told of one at the sender.)"""
        rules = "table inet bed\ndelete table inet bed\n"
        if percent:
            drop = f"ip saddr {CLIENT_ADDRESS} numgen random mod 100 <= {percent - 1} drop"
            rules += f"table inet bed {{\nchain c {{\ntype filter hook input priority 0;\n{drop}\n}}\n}}\n"
        self.net.run("nft", "-f", "-", stdin=rules)

    def slow(self, seconds: float) -> None:
        """Each packet takes that long, one way; 0 ends it."""
        if self._wire is not None:
            _end(self._wire)
            self._wire = None
        if not seconds:
            return
        client, tun = self.bed.client, f"slow{self.number}"
        words = [str(client.fd), tun, str(self.net.fd), tun, str(seconds)]
        self._wire = subprocess.Popen(
            [sys.executable, "-I", "-S", str(HERE / "bed" / "latency.py"), *words],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, pass_fds=[client.fd, self.net.fd],
        )  # fmt: skip
        _expect_up(self._wire)
        client.ip(f"link set {tun} up", f"route add {self.address}/32 dev {tun} src {CLIENT_ADDRESS}")
        self.net.ip(f"link set {tun} up", f"route add {CLIENT_ADDRESS}/32 dev {tun} src {self.address}")

    # -- its clock and disk

    def step_clock(self, seconds: float) -> None:
        """The wall clock of the Pythons there that have `shim` on their path."""
        self.path("/run/clock").write_text(str(seconds))

    def fill_disk(self) -> None:
        """/tmp there, to the last byte."""
        self.run("cat /dev/zero >/tmp/ballast 2>/dev/null || :")

    def read_only(self, path: str) -> None:
        """What is open stays open; whoever opens it from now on cannot write."""
        self.run(f"mount --bind {path} {path} && mount -o remount,bind,ro {path}")

    def repair(self) -> None:
        """Whole again, whatever was done to it; what ran on it is gone."""
        self.slow(0)
        self.link(True)
        self.lose(0)
        self.switch_off()
        self.switch_on()
        self.run("rm -rf /tmp/se-remote-* /tmp/ballast /run/ledger* /run/clock* /root/.local")

    def close(self) -> None:
        self._undo.close()


class Bed:
    """Hosts, a client's network, and a directory that all of them see at the same path."""

    def __init__(self, directory: Path, hosts: int = 3, tmp_size: str = "16m") -> None:
        self.directory = directory
        self.shared = [REPOSITORY, Path(sys.prefix), Path(sys.base_prefix), directory]
        self.bound = {path.parts[2] for path in self.shared if path.parts[1] == "tmp"}
        """Names in the hosts' /tmp that are ours."""
        self.hosts: list[BedHost] = []
        self._size = (hosts, tmp_size)
        self._undo = contextlib.ExitStack()

    def build(self) -> None:
        """All of it; after a failure `close` removes what was built by then."""
        for key in ("host_key", "client_key"):
            path = str(self.directory / key)
            subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", path], check=True)
        holder = subprocess.Popen(
            ["unshare", "--net", "sh", "-c", "echo up; read x || :"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        self._undo.callback(_end, holder)
        for number in range(1, self._size[0] + 1):
            self.hosts.append(BedHost(self, number, self._size[1]))
            self._undo.callback(self.hosts[-1].close)
        _expect_up(holder)
        self.client = Namespace(holder.pid)
        self._undo.callback(self.client.close)
        self._undo.callback(self._end_clients)
        self.client.ip("link set lo up", "link add br0 type bridge", f"addr add {CLIENT_ADDRESS}/24 dev br0",
                       "link set br0 up")  # fmt: skip
        for host in self.hosts:
            host.connect()
        _end(holder)
        key = (self.directory / "host_key.pub").read_text()
        self.known_hosts.write_text("".join(f"{host.address} {key}" for host in self.hosts))

    @property
    def known_hosts(self) -> Path:
        return self.directory / "known_hosts"

    @property
    def identity(self) -> Path:
        return self.directory / "client_key"

    def sshd_config(self) -> str:
        return "\n".join([
            "Port 22", "ListenAddress 0.0.0.0", f"HostKey {self.directory}/host_key", "UsePAM no",
            "StrictModes no", f"AuthorizedKeysFile {self.directory}/client_key.pub",
            "PermitRootLogin prohibit-password", "PidFile none", "PrintMotd no", "MaxStartups 100", "",
        ])  # fmt: skip

    def popen(self, words: Sequence[str], **options: object) -> subprocess.Popen[str]:
        """A command in the client's network; its pid is the command's own."""
        return subprocess.Popen(
            self.client.words(*words),
            pass_fds=[self.client.fd],
            text=True,
            **options,  # type: ignore[call-overload]
        )

    def _end_clients(self) -> None:
        for process in processes(self.client.inode):
            with contextlib.suppress(ProcessLookupError):
                os.kill(process.pid, signal.SIGKILL)

    def close(self) -> None:
        self._undo.close()


@contextlib.contextmanager
def bed(directory: Path, hosts: int = 3, tmp_size: str = "16m") -> Iterator[Bed]:
    """A bed for the length of a block."""
    made = Bed(directory, hosts, tmp_size)
    try:
        made.build()
        yield made
    finally:
        made.close()


def _private(path: str, stage: Path, shared: Sequence[Path], size: str) -> str:
    """Shell lines: a tmpfs over `path`, with what lies below it of the shared paths still visible."""
    lines = [
        f"mkdir -p {stage}",
        f"mount -n -t tmpfs -o size={size},mode={'1777' if path == '/tmp' else '755'} tmpfs {stage}",
    ]
    for one in dict.fromkeys(shared):
        if one.is_relative_to(path):
            lines += [
                f"mkdir -p {stage}{str(one)[len(path) :]}",
                f"mount -n --bind {one} {stage}{str(one)[len(path) :]}",
            ]
    lines += [f"mkdir -p {stage}/sshd"] if path == "/run" else []
    return "\n".join([*lines, f"mount -n --move {stage} {path}"])


def _names(path: Path) -> list[str]:
    """What lies below, as far as it is still there."""
    with contextlib.suppress(OSError):
        return sorted(str(below.relative_to(path)) for below in path.rglob("*"))
    return []


def _is_open(line: str) -> bool:
    """Of /proc/net/tcp: a listening port but 22, or a connection."""
    _, local, _, state, *_ = line.split()
    return (state == "0A" and not local.endswith(":0016")) or state == "01"


def _expect_up(process: subprocess.Popen[bytes]) -> None:
    assert process.stdout is not None
    if process.stdout.readline() != b"up\n":
        raise RuntimeError(f"{process.args!r} did not start (see its error output)")


def _end(process: subprocess.Popen[bytes]) -> None:
    """By the end of its standard input."""
    for stream in (process.stdin, process.stdout):
        if stream is not None:
            stream.close()
    process.wait(10)
