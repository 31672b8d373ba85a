"""The fork server: gives a keeper with a worker in milliseconds, because the framework is loaded already.

Rules: it is forked before any thread and any zmq context exist and starts neither; it loads
scenario_execution and this package, never plugins; it ends when the front has closed its end of the
socket and the last keeper is gone.
"""

from __future__ import annotations

import contextlib
import importlib.metadata
import os
import select
import signal
import socket
import sys
from collections.abc import Sequence
from typing import Final

MAX_REQUEST: Final = 4096
MAX_HELD: Final = 1
HEAD_START_SECONDS: Final = 0.06
"""How long the preload waits at most for the front to say that it listens."""


def request_worker(
    control: socket.socket,
    session: str,
    keeper: socket.socket,
    worker: socket.socket,
    hold: Sequence[int] = (),
) -> None:
    """From the front: asks for a worker with these ends of its two channels. Raises OSError.

    hold: descriptors (MAX_HELD at most) that the keeper is to hold as long as it lives.
    """
    socket.send_fds(control, [session.encode()], [keeper.fileno(), worker.fileno(), *hold])


def say_listening(control: socket.socket) -> None:
    """From the front: it has announced itself. Raises OSError."""
    control.send(b".")


def serve(control: socket.socket, reaped: int) -> None:
    """The fork server's life. A byte into `reaped` tells the supervisor that a keeper has died; its end, that
    no keeper lives."""
    wake_r, wake_w = os.pipe()
    os.set_blocking(wake_w, False)
    signal.set_wakeup_fd(wake_w, warn_on_full_buffer=False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    for signum in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(signum, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_SETMASK, [])
    # On a busy machine the load would take from the front the core that it needs to announce itself.
    select.select([control], [], [], HEAD_START_SECONDS)
    _preload()
    keepers = 0
    open_ = True
    while open_ or keepers:
        sources = [wake_r, control.fileno()] if open_ else [wake_r]
        ready, _, _ = select.select(sources, [], [])
        if wake_r in ready:
            os.read(wake_r, 4096)
            keepers -= _reap(reaped)
        if control.fileno() in ready:
            data, fds, _, _ = socket.recv_fds(control, MAX_REQUEST, 2 + MAX_HELD)
            if len(fds) >= 2:
                keepers += _fork_keeper(control, reaped, data.decode("utf-8", "replace"), fds)
            open_ = bool(data)


def _preload() -> None:
    """A failure here is told by every worker, too, with its first answer."""
    try:
        import scenario_execution.actions.base_action_subtree
        import scenario_execution.actions.process_registry
        import scenario_execution.scenario_execution_base
        import scenario_execution.simulation  # noqa: F401

        from remote_exec.host import actions, plugins, worker  # noqa: F401

        # Names alone, nothing is loaded: a worker's look finds the folders' listings remembered.
        importlib.metadata.entry_points(group=plugins.GROUP)
    except Exception as error:  # whatever an installation can do wrong
        print(
            f"scenario_execution cannot be imported by {sys.executable}: {type(error).__name__}: {error}",
            file=sys.stderr,
            flush=True,
        )
    import gc

    from remote_exec.host import keeper  # noqa: F401

    gc.collect()
    gc.freeze()


def _fork_keeper(control: socket.socket, reaped: int, session: str, fds: list[int]) -> int:
    """1 when there is one keeper more. When not, the front sees the end of both channels."""
    keeper_sock, worker_sock = (socket.socket(fileno=fd) for fd in fds[:2])
    held = fds[2:]
    try:
        pid = os.fork()
    except OSError as error:
        print(f"cannot fork a worker: {error}", file=sys.stderr, flush=True)
        keeper_sock.close()
        worker_sock.close()
        _close(held)
        return 0
    if pid == 0:
        try:
            control.close()
            for fd in held:
                os.set_inheritable(fd, False)  # not for the programs that actions run
            from remote_exec.host import keeper

            keeper.main(session, keeper_sock, worker_sock, reaped)
        except BaseException:
            import traceback

            traceback.print_exc()
        finally:
            os._exit(0)
    keeper_sock.close()
    worker_sock.close()
    _close(held)
    return 1


def _close(fds: Sequence[int]) -> None:
    for fd in fds:
        os.close(fd)


def _reap(reaped: int) -> int:
    count = 0
    with contextlib.suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            count += 1
            with contextlib.suppress(OSError):
                os.write(reaped, b".")
    return count
