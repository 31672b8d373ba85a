"""`scenario_execution_server`: the command line, and the start in the order that is fastest.

    read options → lock the run directory → supervisor (forks the front, then the fork server)

Exit codes: 0 stopped gracefully; 1 failed; 2 usage; 75 another server holds the run directory.
"""

from __future__ import annotations

if __name__ == "__main__":
    from remote_exec import imports

    imports.working_folder_last()

import argparse
import math
import os
import sys
from collections.abc import Sequence
from typing import Final

from remote_exec import __version__
from remote_exec.host import procs, rundir, safe_state
from remote_exec.host.settings import Settings
from remote_exec.messages import DEFAULT_PORT

EXIT_FAILED: Final = 1
EXIT_USAGE: Final = 2
EXIT_LOCKED: Final = 75
DEFAULT_CONNECT_TIMEOUT: Final = 15.0
PROGRAM: Final = "scenario_execution_server"


class UsageError(Exception):
    """The options make no sense; a sentence."""


def make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog=PROGRAM, description="Executes action plugins for remote clients.")
    add = parser.add_argument
    add("-p", "--port", type=_port, help=f"TCP port (default {DEFAULT_PORT} without --socket)")
    add("--bind", default="127.0.0.1", metavar="ADDRESS", help="address for --port (default 127.0.0.1)")
    add("--insecure", action="store_true", help="allow --bind beyond this machine")
    add("-s", "--socket", metavar="PATH", help="unix socket")
    add("--socket-mode", type=_mode, default=0o600, metavar="OCTAL", help="its mode (default 600)")
    add("-v", "--verbose", action="store_true", help="debug messages, too")
    add(
        "-w",
        "--watchdog",
        type=_seconds,
        default=0.0,
        metavar="SECONDS",
        help="exit when nothing was heard for so long after the first contact (default 0: never)",
    )
    add(
        "-c",
        "--connect-timeout",
        type=_seconds,
        metavar="SECONDS",
        help="exit when nobody came (default 15, with --run-dir 0; 0: never)",
    )
    add("--run-dir", metavar="DIR", help=argparse.SUPPRESS)
    add("--ephemeral", action="store_true", help=argparse.SUPPRESS)
    # An ephemeral server that is kept up at first, for so long; 0: until it is killed.
    add("--keep", type=_seconds, metavar="SECONDS", help=argparse.SUPPRESS)
    add("--lease", type=_seconds, default=10.0, metavar="SECONDS", help=argparse.SUPPRESS)
    add("--on-stop-file", metavar="PATH", help=argparse.SUPPRESS)
    add("--log-limit", type=int, default=20 * 1024 * 1024, metavar="BYTES", help=argparse.SUPPRESS)
    for name in ("--exclusive", "--name", "--config-hash", "--started-by", "--what"):
        add(name, default="", help=argparse.SUPPRESS)
    add("--version", action="version", version=__version__)
    return parser


def settings_from(arguments: Sequence[str]) -> tuple[Settings, str]:
    """The settings, and a warning to print ("" for none). Raises UsageError; argparse exits with 2."""
    options = make_parser().parse_args(arguments)
    _check_escalation(os.environ.get(procs.ESCALATION_VARIABLE, procs.ESCALATION))
    if options.run_dir is not None and options.socket is not None:
        raise UsageError("--run-dir has its own socket; leave --socket out")
    if options.on_stop_file is not None and options.run_dir is None:
        raise UsageError("--on-stop-file needs --run-dir")
    path = f"{options.run_dir}/sock" if options.run_dir is not None else options.socket
    if path == "":
        raise UsageError("--socket needs a path")
    port = options.port if options.port is not None or path is not None else DEFAULT_PORT
    warning = _check_bind(options.bind, options.insecure) if port is not None else ""
    timeout = options.connect_timeout
    if timeout is None:
        timeout = DEFAULT_CONNECT_TIMEOUT if options.run_dir is None else 0.0
    settings = Settings(
        bind=options.bind,
        port=port,
        socket=path,
        socket_mode=options.socket_mode,
        verbose=options.verbose,
        watchdog=options.watchdog,
        connect_timeout=timeout,
        run_dir=options.run_dir,
        ephemeral=options.ephemeral or options.keep is not None,
        keep=options.keep,
        lease=options.lease or 10.0,
        exclusive=options.exclusive,
        name=options.name,
        config_hash=options.config_hash,
        started_by=options.started_by,
        what=options.what,
        on_stop_file=options.on_stop_file,
        log_limit=options.log_limit,
    )
    return settings, warning


def main(arguments: Sequence[str] | None = None) -> int:
    """The command. Returns its exit code."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    if words[:1] == ["relay"]:
        from remote_exec import relay

        return relay.main(words[1:])
    try:
        settings, warning = settings_from(words)
    except UsageError as error:
        return _fail(str(error), EXIT_USAGE)
    if warning:
        print(f"{PROGRAM}: warning: {warning}", file=sys.stderr, flush=True)
    if settings.run_dir is not None:
        try:
            rundir.check(settings.run_dir)
            if rundir.lock(settings.run_dir) is None:
                return EXIT_LOCKED
            _take_over(settings, settings.run_dir)
        except (rundir.RunDirError, OSError) as error:
            return _fail(str(error), EXIT_FAILED)
    from remote_exec.host.supervisor import Supervisor

    return Supervisor(settings).run()


def _take_over(settings: Settings, run_dir: str) -> None:
    """The run directory is ours: what a server that died in it has left is ended, then it is made ours."""
    os.environ[rundir.MARKER] = run_dir
    safe_state.clear_up(run_dir)
    rundir.remove_files(run_dir)
    if settings.on_stop_file is not None:
        safe_state.prepare(run_dir, settings.on_stop_file)


def _check_escalation(text: str) -> None:
    try:
        procs.escalation(text)
    except ValueError as error:
        raise UsageError(f"{procs.ESCALATION_VARIABLE}: {error}") from None


def _check_bind(address: str, insecure: bool) -> str:
    if address == "localhost":
        return ""
    import ipaddress

    try:
        loopback = ipaddress.ip_address(address).is_loopback
    except ValueError:
        raise UsageError(f"--bind {address}: give a numeric address, such as 127.0.0.1") from None
    if loopback:
        return ""
    if not insecure:
        raise UsageError(
            f"--bind {address} would let everybody who reaches that address run commands as this user. "
            "Use --socket or a loopback address and come through SSH, or add --insecure if the network is "
            "yours alone"
        )
    return f"everybody who reaches {address} can run commands as this user (--insecure)"


def _fail(text: str, code: int) -> int:
    print(f"{PROGRAM}: {text}", file=sys.stderr, flush=True)
    return code


def _port(text: str) -> int:
    port = int(text)
    if not 0 <= port <= 65535:
        raise argparse.ArgumentTypeError(f"{text} is no port")
    return port


def _mode(text: str) -> int:
    try:
        mode = int(text, 8)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is no octal mode, such as 660") from None
    if not 0 <= mode <= 0o777:
        raise argparse.ArgumentTypeError(f"{text!r} is no octal mode, such as 660")
    return mode


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = math.nan
    if not (math.isfinite(seconds) and seconds >= 0):
        raise argparse.ArgumentTypeError(f"{text!r} is no time in seconds")
    return seconds


if __name__ == "__main__":
    sys.exit(main())
