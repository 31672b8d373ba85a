"""What went wrong with an SSH connection, in our words: the one place where asyncssh's errors end.

`Attempt` gathers on the way what an error will have to tell: where, which keys, which known_hosts.
"""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import asyncssh

from launcher.command import quote
from launcher.errors import (
    LauncherError,
    NobodyListens,
    NotTrusted,
    StageError,
    StartFailed,
    Unreachable,
)
from launcher.machines.ssh_config import config_of, ignored_options
from launcher.model import Machine, Stage


@dataclass
class Attempt:
    """One attempt to connect. Mutable: it is filled while the connection is made, on the loop's thread."""

    name: str
    machine: Machine
    home: Path
    user: str = ""
    host: str = ""
    port: int = 22
    jump: str = ""
    identities: list[str] = field(default_factory=list)
    keys: list[str] = field(default_factory=list)
    agent: bool = False
    offered: set[str] = field(default_factory=set)
    asked: int = 0
    answered: int = 0
    known: bool = False
    """Its host key was accepted: what comes then is about who we are."""
    host_key: asyncssh.SSHKey | None = None
    known_hosts: asyncssh.SSHKnownHosts = field(default_factory=lambda: asyncssh.import_known_hosts(""))
    known_hosts_files: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.resolved(self.machine.user or "", self.machine.host or "", self.machine.port or 22)

    @property
    def where(self) -> str:
        user = f"{self.user}@" if self.user else ""
        return f"{user}{self.host}" + (f":{self.port}" if self.port != 22 else "")

    @property
    def ssh(self) -> str:
        """The `ssh` command line that makes the same connection."""
        argv = [
            "ssh",
            *(["-J", self.jump] if self.jump else []),
            *(["-p", str(self.port)] if self.port != 22 else []),
        ]
        if self.identities:
            argv += ["-i", self.identities[0]]
        return quote([*argv, f"{self.user}@{self.host}" if self.user else self.host])

    def resolved(self, user: str, host: str, port: int) -> None:
        """What ~/.ssh/config made of the machine."""
        self.user, self.host, self.port = user, host, port

    def read_known_hosts(self, wanted: str | None, user_files: Any, global_files: Any) -> None:
        """Load the files; one that is missing counts as empty. Never "trust everyone"."""
        ssh = self.home / ".ssh"
        files = (
            [wanted]
            if wanted
            else list(user_files or ()) or [str(ssh / "known_hosts"), str(ssh / "known_hosts2")]
        )
        if not wanted:
            files += list(global_files or ()) or ["/etc/ssh/ssh_known_hosts"]
        for name in files:
            path = self.home / name[2:] if name.startswith("~/") else Path(name).expanduser()
            self.known_hosts_files.append(str(path))
            if path.is_file():
                try:
                    self.known_hosts.load(path.read_text())
                except (ValueError, OSError) as error:
                    cause = f"{path} cannot be read: {error}"
                    raise Unreachable(self.name, Stage.CONNECT, cause, f"ssh-keygen -l -f {path}") from error

    def note_keys(self, keys: Iterable[Any], agent: bool) -> None:
        """The keys that will be offered."""
        self.agent = agent
        for key in keys:
            name = getattr(getattr(key, "_key", None), "get_filename", lambda: None)() or key.get_comment()
            self.keys.append(os.fsdecode(name) if name else key.get_algorithm())


def translate(attempt: Attempt, error: Exception) -> LauncherError:
    """Our error for whatever happened while connecting."""
    if isinstance(error, LauncherError):
        return error
    if isinstance(error, asyncssh.PermissionDenied):
        return _denied(attempt)
    if isinstance(error, asyncssh.DisconnectError) and "too many authentication" in str(error).lower():
        return _denied(attempt)  # sshd's MaxAuthTries
    if isinstance(
        error, asyncssh.KeyImportError | FileNotFoundError | PermissionError | asyncssh.IllegalUserName
    ):
        names = ", ".join(attempt.identities) or "the keys of ~/.ssh/config"
        return _fail(attempt, Stage.AUTHENTICATE, f"cannot use {names}: {error}", "check `ssh.identity`")
    if isinstance(error, asyncssh.HostKeyNotVerifiable):
        return _host_key(attempt, str(error))
    cause, step = _network(attempt, error)
    return _fail(attempt, Stage.CONNECT, cause, step)


def _network(attempt: Attempt, error: Exception) -> tuple[str, str]:
    where, by_hand = attempt.where, f"by hand: {attempt.ssh}"
    if isinstance(error, socket.gaierror):
        return f"there is no host called {attempt.host} ({error.strerror})", f"getent hosts {attempt.host}"
    if isinstance(error, ConnectionRefusedError):
        return (
            f"nothing listens on {attempt.host} port {attempt.port}",
            "is sshd running there, on that port?",
        )
    if isinstance(error, TimeoutError | asyncio.TimeoutError):
        return (
            f"no answer from {attempt.host} port {attempt.port} ({error or 'timeout'})",
            f"ping {attempt.host}",
        )
    if isinstance(error, asyncssh.ChannelOpenError):
        return f"{attempt.jump} cannot reach {where}: {error.reason}", by_hand
    if isinstance(error, asyncssh.KeyExchangeFailed):
        return f"{where}: {error}; known_hosts may hold a key of another type only", by_hand
    if isinstance(error, asyncssh.Error):
        return f"{where}: {error}", by_hand
    if isinstance(error, asyncssh.ConfigParseError):
        return f"~/.ssh/config cannot be read: {error}", f"ssh -G {attempt.host}"
    return f"{where}: {error or type(error).__name__}", by_hand


def _host_key(attempt: Attempt, text: str) -> StageError:
    key = attempt.host_key
    if key is None:
        return _fail(attempt, Stage.CONNECT, f"{attempt.where}: {text}", f"by hand: {attempt.ssh}")
    port = attempt.port if attempt.port != 22 else None
    known = attempt.known_hosts.match(attempt.host, "", port)[0]
    algorithm = key.get_algorithm()
    shown = f"{algorithm} {key.get_fingerprint()}"
    file = attempt.known_hosts_files[0] if attempt.known_hosts_files else "~/.ssh/known_hosts"
    entry = f"[{attempt.host}]:{attempt.port}" if port else attempt.host
    if known:
        cause = f"the host key of {attempt.where} has CHANGED: {shown} is not the one in {file}"
        step = (
            f"find out why (reinstalled? attacked?); then: {quote(['ssh-keygen', '-f', file, '-R', entry])}"
        )
        return _fail(attempt, Stage.CONNECT, cause, step, NotTrusted)
    kind = algorithm.removeprefix("ssh-").split("-")[0]
    scan = quote(["ssh-keyscan", *(["-p", str(port)] if port else []), "-t", kind, attempt.host])
    folder = str(Path(file).expanduser().parent)
    make = "" if os.path.isdir(folder) else f"mkdir -p -m 700 {quote([folder])} && "
    step = f"if that is its key: {make}{scan} >> {quote([file])}"
    if attempt.jump:
        step = f"if that is its key, accept it: {attempt.ssh}"
    cause = f"the host key of {attempt.where} is not known: {shown}"
    return _fail(attempt, Stage.CONNECT, cause, step, NotTrusted)


def _denied(attempt: Attempt) -> StageError:
    tried = [*attempt.keys, *(["the agent's keys"] if attempt.agent else [])]
    tried += [f"{attempt.answered} answer(s) typed in"] if attempt.answered else []
    asks = sorted(attempt.offered)
    cause = f"{attempt.where} let us in with none of: {', '.join(tried) or '(there was no key to try)'}"
    if asks:
        cause += f"; it accepts {', '.join(asks)}"
    missing = [name for name in attempt.identities if not any(name in key for key in attempt.keys)]
    if missing:
        return _fail(attempt, Stage.AUTHENTICATE, f"{cause}; not used, since it needs a passphrase: "
                     f"{', '.join(missing)}", quote(["ssh-add", missing[0]]))  # fmt: skip
    target = f"{attempt.user}@{attempt.host}"
    port = ["-p", str(attempt.port)] if attempt.port != 22 else []
    identity = ["-i", attempt.identities[0]] if attempt.identities else []
    step = quote(["ssh-copy-id", *identity, *port, target]) + "   (or, for a key with a passphrase: ssh-add)"
    return _fail(attempt, Stage.AUTHENTICATE, cause, step)


def _fail(
    attempt: Attempt, stage: Stage, cause: str, step: str, kind: type[Unreachable] = Unreachable
) -> StageError:
    read = config_of(attempt.home)
    names = [attempt.machine.host or "", attempt.host]
    ignored = [o for name in dict.fromkeys(names) for o in ignored_options(
        read, name, authenticating=stage is Stage.AUTHENTICATE)]  # fmt: skip
    if ignored:
        cause += f"; not honoured here: {', '.join(str(o) for o in dict.fromkeys(ignored))}"
    return kind(attempt.name, stage, cause, step)


def no_channel(attempt: Attempt, remote_socket: str, error: asyncssh.ChannelOpenError) -> StageError:
    """The error for a socket there to which nothing can be forwarded, over a connection that stands."""
    cause = f"{attempt.where} does not forward to {remote_socket}: {error.reason}"
    return NobodyListens(attempt.name, Stage.TUNNEL, cause, f"se-remote logs {attempt.name}")


def no_session(attempt: Attempt, error: Exception) -> StageError:
    """The error for a connection that opens no (further) exec."""
    # Once the connection has ended asyncssh says so by this error, too: nobody there has refused anything.
    if isinstance(error, asyncssh.ChannelOpenError) and error.reason != "SSH connection closed":
        cause = f"{attempt.where} opens no further session: {error.reason} (MaxSessions in its sshd_config?)"
        return StartFailed(attempt.name, Stage.SHELL, cause, f"by hand: {attempt.ssh} 'exec sh -c id'")
    return Unreachable(attempt.name, Stage.CONNECT, f"{attempt.where}: {error}", f"by hand: {attempt.ssh}")
