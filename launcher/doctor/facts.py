"""What the doctor knows and what it concludes: frozen values. Sizes in kB, times in seconds."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field

from launcher.model import HostSpec

Packages = Mapping[str, tuple[str, str]]
"""An action plugin's name to its package and that package's version."""


class Level(enum.Enum):
    """How bad a finding is."""

    GOOD = "good"
    WARNING = "warning"
    FAILED = "failed"
    """A scenario could not run there."""
    UNSEEN = "not looked at"


@dataclass(frozen=True)
class Finding:
    """One line of the checklist."""

    check: str
    """A stage of a bring-up, or what else was looked at."""
    level: Level
    text: str
    cures: tuple[str, ...] = ()
    """What to do, in order; commands as they are typed."""


@dataclass(frozen=True)
class ClientFacts:
    """This machine, as far as hosts are compared with it."""

    version: str = ""
    """Of se-remote."""
    wire: int = 0
    framework: str = ""
    """Version of scenario_execution."""
    plugins: Packages = field(default_factory=dict)
    modifiers: tuple[str, ...] = ("se-remote",)
    """Packages that register a modifier or an OSC library called `remote`."""
    ignored: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Host to the options of ~/.ssh/config for it that are not honoured, as `OPTION VALUE (PLACE)`."""


@dataclass(frozen=True)
class Space:
    """A folder that is written to."""

    path: str
    free: int | None = None
    """kB; None: it is not known."""
    inodes: int | None = None
    """None: not known, or the file system has no such limit."""
    trouble: str = ""
    """Why nothing could be written."""
    kind: str = ""
    """Type of its file system."""


@dataclass(frozen=True)
class Left:
    """What stays there of our account, whichever host of it; names are those of run directories."""

    logs: tuple[tuple[str, int], ...] = ()
    """Each with its host and size in bytes."""
    dead: tuple[str, ...] = ()
    """Hosts that died and of which nobody has cleared away the run directory."""
    orphans: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Of dead servers: what still runs, as `PID COMMAND`."""
    outputs: tuple[str, ...] = ()
    """Hosts whose actions wrote what nobody has fetched."""
    unsafe: tuple[str, ...] = ()
    """Hosts whose `on_stop` is still due."""


@dataclass(frozen=True)
class Logind:
    """What happens to processes and shared memory of an account that logs out. None: it is not known."""

    kill_processes: bool | None = None
    remove_ipc: bool | None = None
    lingers: bool = False


@dataclass(frozen=True)
class MachineFacts:
    """A machine that was reached, seen by our account there."""

    user: str = ""
    uid: int = -1
    groups: tuple[str, ...] = ()
    path: str = ""
    noise: str = ""
    """What the login shell printed before our script spoke."""
    shell_took: float = 0.0
    ahead: float | None = None
    """By how much its clock is ahead of ours at least; negative: behind; 0: no difference was seen."""
    tmux: str = ""
    """What `tmux -V` says; "" when there is none."""
    installer: str = ""
    """The beginning of the command that installs a package there."""
    spaces: tuple[Space, ...] = ()
    refused: tuple[str, str] | None = None
    """Our run directory's parent cannot be used: cause, cure."""
    logind: Logind | None = None
    sessions: int | None = None
    """How many could be opened at once on one connection; None: there is none, or it was not tried."""
    sessions_tried: int = 0
    left: Left = Left()


@dataclass(frozen=True)
class Box:
    """A container, or that of which it will be made."""

    engine: str = ""
    """Its version; "" without an answer."""
    there: bool = True
    """The engine's command is installed."""
    trouble: str = ""
    """What the engine said instead of an answer."""
    status: str = ""
    """Of the container: running, exited, paused, …; "" when there is no such container."""
    image: bool = False
    """The image is on the machine."""
    names: tuple[str, ...] = ()
    """Containers that exist."""
    member: bool = False
    """The account's entry says that it is in the engine's group, whatever this login says."""


@dataclass(frozen=True)
class Shadow:
    """A package that is installed for the interpreter, and taken from elsewhere, where PYTHONPATH leads."""

    package: str
    version: str
    """Of what is taken; "" when it does not say."""
    folder: str
    installed: str
    """Version of what is installed; "" as above."""


@dataclass(frozen=True)
class Interpreter:
    """The host's `python`, started as its server will be."""

    version: tuple[int, ...] = ()
    executable: str = ""
    packages: Mapping[str, str] = field(default_factory=dict)
    broken: Mapping[str, str] = field(default_factory=dict)
    """Module to what importing it said."""
    plugins: Packages = field(default_factory=dict)
    modifiers: tuple[str, ...] = ()
    wire: int | None = None
    shadowed: tuple[Shadow, ...] = ()
    said: str = ""
    """What came instead of an answer."""


@dataclass(frozen=True)
class Device:
    """A device file that exists there."""

    path: str
    group: str
    usable: bool


@dataclass(frozen=True)
class Sudo:
    """What `sudo` does without a terminal."""

    there: bool = False
    free: bool = False
    """`sudo -n true` succeeds."""
    listed: str = ""
    """`sudo -n -l`; "" when that asks, too."""
    said: str = ""


@dataclass(frozen=True)
class HostFacts:
    """One host on a machine; of one in a container what is inside, if something can be asked there."""

    name: str
    asked: bool = False
    """Somebody inside has answered."""
    shell: str = ""
    """The shell that runs `setup`; "" when it is not there."""
    setup_code: int | None = 0
    """None: there was no answer behind it."""
    setup_said: tuple[str, ...] = ()
    python: Interpreter | None = None
    """None: there is no such program, or `setup` did not come to its end."""
    sudo: Sudo | None = None
    devices: tuple[Device, ...] = ()
    box: Box | None = None


@dataclass(frozen=True)
class Case:
    """All that the rules look at, for one host."""

    spec: HostSpec
    client: ClientFacts
    machine: MachineFacts
    host: HostFacts
    commands: tuple[tuple[str, str], ...] = ()
    """Shell text of the inventory that runs there, with the key it stands under; of processes, too."""
    serves: bool = True
    """A server is to run there; False: only processes, which need nothing of ours."""
