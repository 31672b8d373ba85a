"""How one SSH login is made: asyncssh's options, its questions, the dialling, the limits.

Rules:
- ~/.ssh/config, the agent and known_hosts are honoured; nothing is ever accepted unseen;
- a question is asked through the injected Asker only, one at a time; without one nothing is asked;
- what breaks before the host key is known is the network, or a busy sshd: then it is tried once more.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import asyncssh

from launcher.machines.runner import Asker, Limits
from launcher.machines.ssh_errors import Attempt
from launcher.model import Machine, SshOptions

_MAX_QUESTIONS = 3
_PAUSE = 0.5
"""Seconds before a second login."""
_FAST_CIPHERS = "^aes128-gcm@openssh.com,aes256-gcm@openssh.com"
"""Before all others, unless ~/.ssh/config says something of Ciphers: asyncssh's ChaCha20 is half as fast."""
_QUICKACK = getattr(socket, "TCP_QUICKACK", None)


@dataclass(frozen=True)
class Target:
    """A machine to reach. `name` is what errors call it; `jump` is reached first."""

    name: str
    machine: Machine
    options: SshOptions


class _QuickAckSocket(socket.socket):
    """Acknowledges at once: the first exec would wait 40 ms for a delayed ACK. Linux forgets, so re-arm."""

    def recv(self, bufsize: int, flags: int = 0, /) -> bytes:
        data = super().recv(bufsize, flags)
        if _QUICKACK is not None:
            with contextlib.suppress(OSError):
                self.setsockopt(socket.IPPROTO_TCP, _QUICKACK, 1)
        return data


class Client(asyncssh.SSHClient):
    """asyncssh's questions, answered: keeps what an error will have to tell in `attempt`."""

    def __init__(self, attempt: Attempt, ask: Asker | None, lock: asyncio.Lock) -> None:
        self._attempt = attempt
        self._ask = ask
        self._lock = lock
        self._questions = 0
        self._offers = self._challenges = 0
        self.lost: Callable[[Exception | None], None] | None = None

    def connection_lost(self, exc: Exception | None) -> None:
        if self.lost is not None:
            self.lost(exc)

    def validate_host_public_key(self, host: str, addr: str, port: int, key: asyncssh.SSHKey) -> bool:
        self._attempt.host_key = key
        return False

    def begin_auth(self, username: str) -> None:
        self._attempt.known = True

    def public_key_auth_requested(self) -> None:
        self._attempt.offered.add("publickey")
        return

    async def password_auth_requested(self) -> str | None:
        self._attempt.offered.add("password")
        return await self._question(f"{self._attempt.where}'s password: ", secret=True)

    def kbdint_auth_requested(self) -> str | None:
        self._attempt.offered.add("keyboard-interactive")
        fruitless = self._offers > self._challenges  # the last time nothing was asked: do not go round
        self._offers = self._challenges + 1
        return "" if self._ask is not None and self._questions < _MAX_QUESTIONS and not fruitless else None

    async def kbdint_challenge_received(
        self, name: str, instructions: str, lang: str, prompts: Any
    ) -> list[str] | None:
        if prompts:
            self._challenges += 1
        answers = []
        for prompt, echo in prompts:
            answer = await self._question(f"{self._attempt.where}: {prompt}", secret=not echo)
            if answer is None:
                return None
            answers.append(answer)
        return answers

    async def _question(self, prompt: str, *, secret: bool) -> str | None:
        if self._ask is None or self._questions >= _MAX_QUESTIONS:
            return None
        self._questions += 1
        self._attempt.asked += 1
        ask = self._ask
        async with self._lock:
            loop = asyncio.get_running_loop()
            answer = await loop.run_in_executor(None, lambda: ask(prompt, secret=secret))
        self._attempt.answered += answer is not None
        return answer


async def log_in(
    reach: Callable[[float], Awaitable[Any]],
    attempt: Attempt,
    limits: Limits,
    again: Callable[[str], None] | None,
) -> tuple[float, asyncssh.SSHClientConnection]:
    """When the login began (monotonic), and what it gave. `reach`: a connection in so many seconds, and the
    login over it. `again`: see ssh.connect. A machine that says nothing is not tried again: the first
    connection has all the time there is, since it may only be slow."""
    dialled, began = False, time.monotonic()
    try:
        login, began, dialled = await reach(limits.dial), time.monotonic(), True
        return began, await _let_in(login, attempt, limits.login)
    except (ConnectionError, asyncssh.ConnectionLost) as error:
        left = limits.login - _PAUSE - (time.monotonic() - began)
        broke = dialled or isinstance(error, ConnectionResetError)  # else nobody wants to be reached there
        if not broke or again is None or attempt.known or attempt.asked or left <= 0:
            raise
        again(f"{attempt.where}: {error or type(error).__name__}; logging in once more")
    await asyncio.sleep(_PAUSE)
    login, began = await reach(min(limits.dial, left)), time.monotonic()
    return began, await _let_in(login, attempt, left)


async def _let_in(login: Any, attempt: Attempt, patience: float) -> asyncssh.SSHClientConnection:
    """The long login timeout is for a person who is asked; a machine that says nothing has less."""
    task = asyncio.ensure_future(login)
    try:
        await asyncio.wait([task], timeout=patience)
        if not task.done() and not attempt.asked:
            raise TimeoutError(f"it accepts connections, but did not log us in within {patience:g} s")
        connection: asyncssh.SSHClientConnection = await task
    finally:
        task.cancel()
    return connection


async def login_options(
    target: Target,
    attempt: Attempt,
    environ: Mapping[str, str],
    ask: Asker | None,
    keepalive: float,
    factory: Any,
    limits: Limits,
) -> asyncssh.SSHClientConnectionOptions:
    """~/.ssh/config, and the inventory on top of it."""
    machine, wanted = target.machine, target.options
    config = attempt.home / ".ssh" / "config"
    extra: dict[str, Any] = {}
    if machine.user:
        extra["username"] = machine.user
    if machine.port:
        extra["port"] = machine.port
    if wanted.identity:
        identity = _expand(wanted.identity, attempt.home)
        attempt.identities.append(str(identity))
        extra["client_keys"] = [str(identity)]
        asking = ask is not None and not environ.get("SSH_AUTH_SOCK")
        extra["ignore_encrypted"] = not asking
        if ask is not None:
            extra["passphrase"] = lambda name: ask(f"passphrase of {name}: ", secret=True)
    base = await asyncssh.SSHClientConnectionOptions.construct(
        host=machine.host or "",
        config=[str(config)] if config.is_file() else [],
        client_factory=factory,
        agent_forwarding=False,
        keepalive_interval=keepalive,
        keepalive_count_max=3,
        login_timeout=limits.login if ask is None else limits.asking,
        **extra,
    )
    attempt.resolved(base.username, base.host, base.port)
    attempt.read_known_hosts(wanted.known_hosts, base.config.get("UserKnownHostsFile"),
                             base.config.get("GlobalKnownHostsFile"))  # fmt: skip
    attempt.note_keys(base.client_keys or (), bool(base.agent_path))
    construct = asyncssh.SSHClientConnectionOptions.construct
    chosen = {} if base.config.get("Ciphers") else {"encryption_algs": _FAST_CIPHERS}
    done: asyncssh.SSHClientConnectionOptions = await construct(
        base, known_hosts=attempt.known_hosts, **chosen
    )
    return done


async def dial(options: asyncssh.SSHClientConnectionOptions, seconds: float) -> socket.socket:
    """A TCP connection to the first address that answers, in so many seconds each."""
    loop = asyncio.get_running_loop()
    found = await loop.getaddrinfo(options.host, options.port, family=options.family, type=socket.SOCK_STREAM)
    timeout = min(float(options.connect_timeout or seconds), seconds)
    failure: OSError = OSError(f"{options.host} has no address")
    for family, kind, protocol, _, address in found:
        sock = _QuickAckSocket(family, kind, protocol)
        sock.setblocking(False)
        try:
            if options.local_addr:
                sock.bind(options.local_addr)
            await asyncio.wait_for(loop.sock_connect(sock, address), timeout)
        except asyncio.TimeoutError:
            sock.close()
            failure = TimeoutError(f"no answer within {timeout:g} s")
        except OSError as error:
            sock.close()
            failure = error
        except BaseException:
            sock.close()
            raise
        else:
            return sock
    raise failure


def _expand(path: str, home: Path) -> Path:
    return home / path[2:] if path.startswith("~/") else Path(path).expanduser()
