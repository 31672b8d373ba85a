"""A slow wire between two network namespaces: two TUN devices, each packet passed on after a delay.

usage: latency.py NETNS_FD NAME NETNS_FD NAME SECONDS; ends with its standard input.
(A kernel may lack netem.)
"""

import ctypes
import fcntl
import os
import select
import struct
import sys
import time
from collections import deque

TUNSETIFF = 0x400454CA
IFF_TUN, IFF_NO_PI = 1, 0x1000
CLONE_NEWNET = 0x40000000


def tun(netns: int, name: str) -> int:
    if ctypes.CDLL(None, use_errno=True).setns(netns, CLONE_NEWNET):
        raise OSError(ctypes.get_errno(), "setns")
    fd = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
    fcntl.ioctl(fd, TUNSETIFF, struct.pack("16sH22x", name.encode(), IFF_TUN | IFF_NO_PI))
    return fd


def main(ns_a: str, name_a: str, ns_b: str, name_b: str, seconds: str) -> None:
    a, b = tun(int(ns_a), name_a), tun(int(ns_b), name_b)
    delay = float(seconds)
    queue: deque[tuple[float, int, bytes]] = deque()  # the delay is constant, so it is in order
    os.write(1, b"up\n")
    while True:
        wait = max(0.0, queue[0][0] - time.monotonic()) if queue else None
        ready, _, _ = select.select([0, a, b], [], [], wait)
        if 0 in ready and not os.read(0, 1):
            return
        for source, target in ((a, b), (b, a)):
            if source in ready:
                queue.append((time.monotonic() + delay, target, os.read(source, 65536)))
        while queue and queue[0][0] <= time.monotonic():
            _, target, packet = queue.popleft()
            try:
                os.write(target, packet)
            except OSError:
                pass  # a full queue drops, as wires do


if __name__ == "__main__":
    main(*sys.argv[1:])
