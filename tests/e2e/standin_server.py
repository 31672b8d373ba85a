"""What the bring-up needs of a server, and no more: lock, pid, endpoint.json, state.json, the fifos.

Moods (argv): `die` (says why and exits 3), `hang` (never announces), `stubborn` (ignores TERM and has a
child that does too), `busy` (state.json tells of a session of someone else).
"""

import contextlib
import fcntl
import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

run = Path(os.environ["SE_REMOTE_RUN"])
args = sys.argv[1:]


def option(name: str) -> str:
    joined = [word.partition("=")[2] for word in args if word.startswith(f"{name}=")]
    return joined[0] if joined else args[args.index(name) + 1] if name in args else ""


def write(name: str, value: object) -> None:
    (run / f".{name}").write_text(value if isinstance(value, str) else json.dumps(value))
    (run / f".{name}").rename(run / name)


def main() -> None:
    if "die" in args:
        print("cannot find the robot", file=sys.stderr)
        sys.exit(3)
    lock = os.open(run / "lock", os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        sys.exit(75)
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(run / "sock"))
    listener.listen()
    if "hang" in args:
        print("hanging", flush=True)
        signal.pause()
    if "stubborn" in args:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        subprocess.Popen(["sleep", "1000"])
    for number in (signal.SIGINT, signal.SIGHUP, *(() if "stubborn" in args else (signal.SIGTERM,))):
        signal.signal(number, lambda *_: sys.exit(0))
    try:
        announce()  # who has heard of it may end it at once
        while True:
            signal.pause()
    finally:
        for name in ("sock", "pid", "endpoint.json", "state.json"):
            with contextlib.suppress(OSError):
                (run / name).unlink()


def announce() -> None:
    start = Path("/proc/self/stat").read_text().rsplit(") ", 1)[1].split()[19]
    boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    write("pid", f"{os.getpid()} {start} {boot}\n")
    client = {"user": "ann", "machine": "laptop", "pid": 7, "what": "her.osc"}
    sessions = [{"id": "1", "client": client, "actions": []}] if "busy" in args else []
    state = {
        "time": time.time(),
        "ephemeral": "--ephemeral" in args,
        "kept_until": None,
        "sessions": sessions,
    }
    write("state.json", state)
    endpoint = {
        "pid": os.getpid(), "start": start, "boot_id": boot, "wire": 2, "version": "0", "python": sys.version,
        "socket": str(run / "sock"), "config": option("--config-hash"), "name": option("--name"),
        "started_by": option("--started-by"), "what": option("--what"), "since": time.time(),
    }  # fmt: skip
    write("endpoint.json", endpoint)
    print(
        "up in",
        os.getcwd(),
        json.dumps({k: v for k, v in os.environ.items() if k.startswith("X_")}),
        flush=True,
    )
    for fifo in run.glob("ready.*"):
        with contextlib.suppress(OSError):
            fd = os.open(fifo, os.O_WRONLY | os.O_NONBLOCK)
            os.write(fd, b"ready\n")
            os.close(fd)


main()
