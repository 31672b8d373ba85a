"""The first process of a bed host: names it, gives it a boot id, reaps orphans; ends with its standard input.

usage: init.py NAME BOOT_ID_FILE. What it runs in (namespaces) is its parent's matter. When it ends,
the kernel ends everything in its pid namespace: that is a host without power.
"""

import os
import signal
import socket
import subprocess
import sys


def reap(*_: object) -> None:
    try:
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    except ChildProcessError:
        pass


def main(name: str, boot_id: str) -> None:
    socket.sethostname(name)
    subprocess.run(["mount", "--bind", boot_id, "/proc/sys/kernel/random/boot_id"], check=True)
    signal.signal(signal.SIGCHLD, reap)
    os.write(1, b"up\n")
    while os.read(0, 1):
        pass


if __name__ == "__main__":
    main(*sys.argv[1:])
