"""What a server was started with: a frozen value, made by `server` from the command line."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Settings:
    """The command line, checked. Times in seconds."""

    bind: str = "127.0.0.1"
    port: int | None = None
    """None: no TCP; 0: any free port."""
    socket: str | None = None
    socket_mode: int = 0o600
    verbose: bool = False
    watchdog: float = 0.0
    connect_timeout: float = 0.0
    run_dir: str | None = None
    ephemeral: bool = False
    keep: float | None = None
    """Ephemeral, but kept up for so long at first; 0: until killed."""
    lease: float = 10.0
    exclusive: str = ""
    """The resource of this machine that one client at a time may have; "": none."""
    name: str = ""
    config_hash: str = ""
    started_by: str = ""
    what: str = ""
    on_stop_file: str | None = None
    """A POSIX sh script that brings the machine into its safe state; see host/safe_state.py."""
    log_limit: int = 20 * 1024 * 1024
    """Bytes of the log in the run directory; see `logfile`."""
