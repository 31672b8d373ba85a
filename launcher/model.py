"""What crosses the boundaries of `launcher`: frozen values, no behaviour beyond rendering.

States, the same words everywhere: see State. A change of state is an Event.
"""

from __future__ import annotations

import enum
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field


class Stage(enum.Enum):
    """The stages of a bring-up, in order; a failure names its stage."""

    RESOLVE = "resolve"
    CONNECT = "connect"
    AUTHENTICATE = "authenticate"
    SHELL = "shell"
    TMUX = "tmux"
    CONTAINER = "container"
    PYTHON = "python"
    SETUP = "setup"
    START = "start"
    SAFE = "on_stop"
    """Of a server that died there: it runs before the next one starts."""
    READY = "ready"
    TUNNEL = "tunnel"
    HELLO = "hello"
    PROVISION = "provision"
    PUSH = "push"
    FETCH = "fetch"
    STOP = "stop"


class State(enum.Enum):
    """The states of servers and processes."""

    STOPPED = "stopped"
    WAITING = "waiting"
    STARTING = "starting"
    RUNNING = "running"
    READY = "ready"
    STOPPING = "stopping"
    DEAD = "dead"
    UNREACHABLE = "unreachable"
    CONFLICT = "conflict"


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong in an inventory: where, what, and what was meant."""

    message: str
    file: str = ""
    line: int = 0
    """1-based; 0 = unknown."""
    path: str = ""
    """YAML path, e.g. ``hosts.lab-pc.machine``."""
    hint: str = ""
    """e.g. ``did you mean "machine"?``"""

    def __str__(self) -> str:
        place = f"{self.file}:{self.line}" if self.line else self.file
        place = f"{place}: " if self.file else ""
        path = f"{self.path}: " if self.path else ""
        return f"{place}{path}{self.message}" + (f" ({self.hint})" if self.hint else "")


@dataclass(frozen=True)
class Machine:
    """Where commands run. `host` is None for this machine."""

    host: str | None = None
    user: str | None = None
    """None: from ~/.ssh/config, else the local user."""
    port: int | None = None
    """None: from ~/.ssh/config, else 22."""

    @property
    def is_local(self) -> bool:
        return self.host is None

    def __str__(self) -> str:
        if self.host is None:
            return "local"
        host = f"[{self.host}]" if ":" in self.host else self.host
        return (f"{self.user}@" if self.user else "") + host + (f":{self.port}" if self.port else "")


@dataclass(frozen=True)
class SshOptions:
    """What the inventory sets on top of ~/.ssh/config. Paths are of the client, `~` not yet expanded."""

    identity: str | None = None
    jump: str | None = None
    known_hosts: str | None = None


@dataclass(frozen=True)
class Container:
    """A container on the machine, in which everything of a host happens. Either `name` or `image`."""

    name: str | None = None
    """One that exists; started when it is stopped, and stopped again afterwards."""
    image: str | None = None
    """One is made from it for the lease, and removed afterwards."""
    run: tuple[str, ...] = ()
    """Options of `docker run`, with an image."""
    user: str | None = None
    workdir: str | None = None
    """The server's working directory; None: its home."""
    login: bool = False
    """The host's shell reads its interactive rc file."""
    engine: str = "docker"


@dataclass(frozen=True)
class Push:
    """A folder of this machine that is sent to a host before its actions are set up."""

    folder: str = ""
    """A path here, `~` not yet expanded; "": the folder of the scenario's .osc file."""
    to: str = ""
    """What it is called there; "": as here."""


@dataclass(frozen=True)
class Provision:
    """What `provision` of a host says: what is installed there beside the server."""

    auto: bool = False
    """A bring-up does it when there is no server."""
    packages: tuple[str, ...] = ()
    """Names, and absolute paths of folders and wheels here; a leading `~` is not yet expanded."""


@dataclass(frozen=True)
class HostSpec:
    """One host, resolved: variants chosen, parameters replaced. Times in seconds."""

    name: str
    """Inventory name plus chosen variants in sorted order: ``lab-pc+debug+humble``."""
    machine: Machine
    aliases: tuple[str, ...] = ()
    ssh: SshOptions = SshOptions()
    docker: Container | None = None
    shell: str | None = None
    """Shell that runs `setup`; None: bash, or sh where there is none."""
    setup: str = ""
    env: Mapping[str, str] = field(default_factory=dict)
    push: tuple[Push, ...] = ()
    path_map: Mapping[str, str] = field(default_factory=dict)
    """Absolute paths here to those there; a leading `~` on either side is not yet expanded."""
    python: str = ""
    """May start with `~`, expanded on the machine. "": what `se-remote provision` made, else python3."""
    provision: Provision | None = None
    """With one, `python` is what the virtual environment is made with."""
    server: str = "{server}"
    """Shell command line; `{server}` stands for the default command."""
    depends: tuple[str, ...] = ()
    exclusive: bool | str = False
    lease: float = 10.0
    on_loss: str = "stop"
    on_stop: str = ""
    ready_timeout: float = 20.0
    session: str = "se-remote"
    """tmux session."""
    source: str = ""
    """``file:line`` of its entry, "" for built-in ones."""

    @property
    def interpreter(self) -> str:
        """A Python of that machine, for what needs its standard library only."""
        return self.python or "python3"

    @property
    def is_here(self) -> bool:
        """On this machine, outside of containers: what the client's own installation may serve."""
        return self.machine.is_local and self.docker is None

    @property
    def provided(self) -> bool:
        """The server runs in what `se-remote provision` made, if there is such; here it never does."""
        return (not self.python or self.provision is not None) and not self.is_here

    @property
    def config_hash(self) -> str:
        """Of everything that decides how the server runs: two specs of one hash can share a server."""
        box = self.docker
        container = None if box is None else [box.name, box.image, *box.run]
        values: list[object] = [
            container,
            self.shell,
            self.setup,
            sorted(self.env.items()),
            self.interpreter,
            self.server,
        ]
        if box is not None:
            values.append([box.engine, box.user, box.workdir, box.login])
        if self.on_stop:
            values.append(["on_stop", self.on_stop])
        if self.exclusive:  # who must be alone uses no server that lets others in, nor the other way round
            values.append(["exclusive", self.exclusive])
        return hashlib.sha256(json.dumps(values).encode()).hexdigest()[:16]


@dataclass(frozen=True)
class ReadyCheck:
    """When a process is ready; exactly one of these is set. It is looked at where the process runs."""

    command: str = ""
    """Shell command that exits 0, with the process's own setup and env."""
    log: str = ""
    """Extended regular expression that a line of its output matches."""
    port: int = 0
    """TCP port that somebody listens on."""
    file: str = ""
    """Path that exists; a leading `~` is not yet expanded."""


@dataclass(frozen=True)
class ProcessSpec:
    """One process of the inventory, resolved like a HostSpec. Times in seconds."""

    name: str
    """Any printable text, plus chosen variants in sorted order: ``planner+HW Type``."""
    cmd: str
    machine: Machine
    host: str | None = None
    """The inventory host whose machine, ssh, docker, shell, setup and env it inherited."""
    ssh: SshOptions = SshOptions()
    docker: Container | None = None
    shell: str | None = None
    setup: str = ""
    env: Mapping[str, str] = field(default_factory=dict)
    login: bool = False
    """It has what the interactive rc file of its shell gives: variables, aliases, functions."""
    ready_check: ReadyCheck | None = None
    """None: ready as soon as it runs."""
    ready_timeout: float = 60.0
    """0 = for ever."""
    depends: tuple[str, ...] = ()
    persistent: bool = True
    """False: a one-shot, done when it exits."""
    force_sigquit: bool = False
    show_ui: bool = True
    session: str = "se-remote"
    source: str = ""


@dataclass(frozen=True)
class DirectAddress:
    """An endpoint that is not of the inventory: the server there is somebody else's to start and stop."""

    endpoint: str
    """ZeroMQ address: ``tcp://host:port`` or ``ipc://path``."""
    bare: bool = field(default=False, compare=False)
    """Written as a mere name, which is an address only since there is no inventory."""


@dataclass(frozen=True)
class Event:
    """A change of state of a host or process."""

    time: float
    """Seconds on the monotonic clock that the caller passed in."""
    name: str
    stage: Stage | None
    from_state: State
    to_state: State
    reason: str = ""
    level: str = "info"


@dataclass(frozen=True)
class Completed:
    """What a command on a machine did."""

    exit_code: int | None
    """None: ended by a signal or the connection was cut before an exit code came."""
    stdout: bytes
    stderr: bytes
