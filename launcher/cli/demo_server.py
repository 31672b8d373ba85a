"""The demo's stand-in for another machine: an SSH server inside this process, on loopback.

It lets exactly one key in, made for this run, runs what sshd would run (the user's own account, `sh -c`),
and forwards to unix sockets, so that the whole real path is used. Nothing is written into ~/.ssh.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import asyncssh


@dataclass(frozen=True)
class DemoServer:
    """A running stand-in; the paths lie in the folder that the caller gave."""

    port: int
    identity: Path
    known_hosts: Path
    _acceptor: asyncssh.SSHAcceptor

    async def close(self) -> None:
        """Ends the server and every connection to it."""
        self._acceptor.close()
        await self._acceptor.wait_closed()


class _Policy(asyncssh.SSHServer):
    """Whoever has the key may forward to unix sockets, as with a default sshd; nothing else."""

    def unix_connection_requested(self, dest_path: str) -> bool:
        return True


async def start(folder: Path) -> DemoServer:
    """Starts the server with fresh keys, which it writes into `folder` (0700, the caller's)."""
    host_key = asyncssh.generate_private_key("ssh-ed25519")
    user_key = asyncssh.generate_private_key("ssh-ed25519")
    identity = folder / "id_demo"
    user_key.write_private_key(str(identity))
    identity.chmod(0o600)
    authorized = asyncssh.import_authorized_keys(user_key.export_public_key().decode())
    acceptor = await asyncssh.create_server(
        _Policy,
        "127.0.0.1",
        0,
        server_host_keys=[host_key],
        authorized_client_keys=authorized,
        process_factory=_run,
        encoding=None,
        line_editor=False,
    )
    port = acceptor.get_port()
    known_hosts = folder / "known_hosts"
    public = host_key.export_public_key().decode().strip()
    known_hosts.write_text(f"[127.0.0.1]:{port} {public}\n", encoding="utf-8")
    return DemoServer(port, identity, known_hosts, acceptor)


async def _run(process: asyncssh.SSHServerProcess[bytes]) -> None:
    """Runs one exec request as sshd does: through a shell, in the home directory."""
    command = process.command or "exec sh"
    child = await asyncio.create_subprocess_exec(
        "/bin/sh",
        "-c",
        command,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        cwd=Path.home(),
        env={**os.environ, **dict(process.env), "SSH_CONNECTION": _connection(process)},
        start_new_session=True,
    )
    copies: Any = [
        asyncio.ensure_future(_feed(process, child)),
        asyncio.ensure_future(_copy(child.stdout, process.stdout)),
        asyncio.ensure_future(_copy(child.stderr, process.stderr)),
    ]
    try:
        await asyncio.gather(*copies[1:])
        process.exit(await child.wait())
    finally:
        for copy in copies:
            copy.cancel()


def _connection(process: asyncssh.SSHServerProcess[bytes]) -> str:
    """What sshd puts into SSH_CONNECTION: client address and port, server address and port."""
    ends = [process.get_extra_info(name) or ("?", "?") for name in ("peername", "sockname")]
    return " ".join(str(part) for end in ends for part in end[:2])


async def _feed(process: asyncssh.SSHServerProcess[bytes], child: asyncio.subprocess.Process) -> None:
    assert child.stdin is not None
    with contextlib.suppress(BrokenPipeError, ConnectionResetError, asyncssh.Error):
        while data := await process.stdin.read(65536):
            child.stdin.write(data)
            await child.stdin.drain()
    child.stdin.close()


async def _copy(reader: asyncio.StreamReader | None, writer: asyncssh.SSHWriter[bytes]) -> None:
    assert reader is not None
    with contextlib.suppress(BrokenPipeError, ConnectionResetError, asyncssh.Error):
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
