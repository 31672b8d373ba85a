"""The addresses a server listens on: checked, bound, and removed again.

Rules: a unix socket of a dead server is replaced, one that answers is refused; it has its mode before
anybody can connect; TCP beyond loopback is not decided here but on the command line.
"""

from __future__ import annotations

import contextlib
import os
import socket
import stat

import zmq

from remote_exec.host.settings import Settings
from remote_exec.messages import MAX_MESSAGE_BYTES

READ_BYTES = 2 * MAX_MESSAGE_BYTES
"""What is read at all; from MAX_MESSAGE_BYTES on it is refused with a reason (docs/decisions/0005)."""
SEND_HWM = 4000
"""Messages that wait for one client that does not read; the next one is refused, not queued."""
RECEIVE_HWM = 64
"""Messages of one client that are read ahead, of up to READ_BYTES each; the next ones wait at the client."""


class BindError(Exception):
    """The server cannot listen there; a sentence."""


def make_router(context: zmq.Context[zmq.Socket[bytes]]) -> zmq.Socket[bytes]:
    """A ROUTER with its limits set."""
    router = context.socket(zmq.ROUTER)
    for option, value in (
        (zmq.ROUTER_MANDATORY, 1),
        (zmq.LINGER, 0),
        (zmq.MAXMSGSIZE, READ_BYTES),
        (zmq.SNDHWM, SEND_HWM),
        (zmq.RCVHWM, RECEIVE_HWM),
        (zmq.HANDSHAKE_IVL, 10_000),
        # No HEARTBEAT_*: with them libzmq 4.3.5 aborts (`!_io_error` in stream_engine_base.cpp) when a peer
        # that it had stopped reading at RCVHWM goes away. Sessions have leases, dead TCP peers keepalive.
        (zmq.TCP_KEEPALIVE, 1),
        (zmq.TCP_KEEPALIVE_IDLE, 20),
        (zmq.TCP_KEEPALIVE_INTVL, 5),
        (zmq.TCP_KEEPALIVE_CNT, 3),
        (zmq.BACKLOG, 256),
    ):
        router.setsockopt(option, value)
    return router


def bind(router: zmq.Socket[bytes], settings: Settings) -> list[str]:
    """Binds everything; returns the endpoints. Raises BindError."""
    endpoints = []
    if settings.socket is not None:
        _bind_unix(router, settings.socket, settings.socket_mode)
        endpoints.append(f"ipc://{settings.socket}")
    if settings.port is not None:
        endpoints.append(_bind_tcp(router, settings.bind, settings.port))
    return endpoints


def remove_stale_socket(path: str) -> None:
    """Removes what a dead server left there. Raises BindError when a live one listens, or it is a file."""
    try:
        mode = os.lstat(path).st_mode
    except OSError:
        return
    if not stat.S_ISSOCK(mode):
        raise BindError(f"{path} exists and is no socket; remove it or choose another path")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(1.0)
        try:
            probe.connect(path)
        except ConnectionRefusedError:
            with contextlib.suppress(OSError):
                os.unlink(path)
            return
        except OSError as error:
            raise BindError(f"{path} cannot be used: {error.strerror or error}") from error
    raise BindError(f"another server listens on {path} already")


def _bind_unix(router: zmq.Socket[bytes], path: str, mode: int) -> None:
    if len(os.fsencode(path)) > 107:
        raise BindError(f"the socket's path has {len(os.fsencode(path))} bytes, 107 are possible: {path}")
    remove_stale_socket(path)
    previous = os.umask(0o177)
    try:
        router.bind(f"ipc://{path}")
        os.chmod(path, mode)
    except (zmq.ZMQError, OSError) as error:
        raise BindError(f"cannot listen on {path}: {error.strerror}") from error
    finally:
        os.umask(previous)


def _bind_tcp(router: zmq.Socket[bytes], address: str, port: int) -> str:
    host = f"[{address}]" if ":" in address else "127.0.0.1" if address == "localhost" else address
    if ":" in address:
        router.setsockopt(zmq.IPV6, 1)
    try:
        router.bind(f"tcp://{host}:{port if port else '*'}")
    except zmq.ZMQError as error:
        raise BindError(f"cannot listen on {address}:{port}: {error.strerror}") from error
    endpoint = router.getsockopt(zmq.LAST_ENDPOINT)
    return endpoint.decode().rstrip("\0") if isinstance(endpoint, bytes) else str(endpoint)
