"""Standard input and output as the way to a unix socket: what carries a tunnel into a container.

    scenario_execution_server relay SOCKET

Rules:
- the standard library alone, nothing of ours, Python 3.8 and newer: the launcher sends this file's text to
  whichever interpreter is there;
- it ends when either side ends: what came until then is passed on first;
- exit code 3: nobody listens there. `--check` only finds that out.
"""

import os
import selectors
import socket
import sys

NOBODY = 3
_PIECE = 1 << 18


class _Flow:
    """One direction: what was read and not written yet. Reads only when nothing waits."""

    def __init__(self, source: int, sink: int) -> None:
        self.source = source
        self.sink = sink
        self.waiting = memoryview(b"")
        self.over = False

    def read(self) -> None:
        try:
            data = os.read(self.source, _PIECE)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        self.waiting = memoryview(data)
        self.over = not data

    def write(self) -> None:
        try:
            self.waiting = self.waiting[os.write(self.sink, self.waiting) :]
        except BlockingIOError:
            return
        except OSError:
            self.waiting = memoryview(b"")
            self.over = True


def _pass_on(one: int, other: int, out: int) -> None:
    flows = (_Flow(one, other), _Flow(other, out))
    for fd in (one, other, out):
        os.set_blocking(fd, False)
    while not any(flow.over for flow in flows):
        with selectors.PollSelector() as ready:
            for flow in flows:
                if flow.waiting:
                    _also(ready, flow.sink, selectors.EVENT_WRITE)
                else:
                    _also(ready, flow.source, selectors.EVENT_READ)
            happened = {key.fd: events for key, events in ready.select()}
        for flow in flows:
            if flow.waiting:
                if happened.get(flow.sink, 0) & selectors.EVENT_WRITE:
                    flow.write()
            elif happened.get(flow.source, 0) & selectors.EVENT_READ:
                flow.read()
                if flow.waiting:
                    flow.write()
    for flow in flows:  # what was heard before the end is still to be said
        if flow.waiting:
            os.set_blocking(flow.sink, True)
            while flow.waiting and not flow.over:
                flow.write()


def _also(ready: selectors.PollSelector, fd: int, events: int) -> None:
    try:
        ready.modify(fd, ready.get_key(fd).events | events)
    except KeyError:
        ready.register(fd, events)


def main(words: "list[str]") -> int:
    """Relay, or with `--check` only look. Returns the exit code."""
    checking = words[:1] == ["--check"]
    paths = words[1:] if checking else words
    if len(paths) != 1:
        sys.stderr.write("usage: scenario_execution_server relay [--check] SOCKET\n")
        return 2
    way = socket.socket(socket.AF_UNIX)
    try:
        way.connect(paths[0])
    except OSError as error:
        way.close()
        sys.stderr.write("%s: %s\n" % (paths[0], error.strerror or error))  # noqa: UP031
        return NOBODY
    if not checking:
        for option in (socket.SO_SNDBUF, socket.SO_RCVBUF):
            way.setsockopt(socket.SOL_SOCKET, option, 4 * _PIECE)
        _pass_on(0, way.fileno(), 1)
    way.close()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
