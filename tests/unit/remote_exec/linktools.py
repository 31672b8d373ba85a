"""What tests of links need: a ROUTER that does what a test says, a relay, an inbox."""

from __future__ import annotations

import queue
import socket
import threading
from collections.abc import Callable

import zmq

from remote_exec.client.session import Reply
from remote_exec.codec import pack, pack_v1, split_frames, unpack, unpack_v1

WAIT = 20.0
SERVER = {"version": "9", "wire": 2, "machine": "m", "pid": 1, "python": "3", "time": 0.0}


class Router:
    """A ROUTER in a thread. `script(message)` gives the fields of the reply, or None to stay silent."""

    def __init__(self, endpoint: str, script: Callable[[dict], dict | None] | None = None) -> None:
        self.endpoint = endpoint
        self.script = script or (lambda message: {})
        self.seen: list[dict] = []
        self.routes: list[bytes] = []
        self.v1_answer: dict = {"status": "ok", "wire": 2}
        self._out: queue.SimpleQueue = queue.SimpleQueue()
        self._stop = threading.Event()
        self._bound = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()
        assert self._bound.wait(WAIT)

    def push(self, **fields) -> None:
        self._out.put(fields)

    def _run(self) -> None:
        context = zmq.Context()
        router = context.socket(zmq.ROUTER)
        router.linger = 0
        router.bind(self.endpoint)
        self._bound.set()
        while not self._stop.is_set():
            if router.poll(10):
                self._answer(router, router.recv_multipart())
            while not self._out.empty():
                session = [m["session"] for m in self.seen if m["cmd"] == "configure"][-1]
                message = {"v": 2, "session": session, **self._out.get()}
                router.send_multipart([self.routes[-1], pack(message)])
        router.close()
        context.term()

    def _answer(self, router, frames) -> None:
        incoming = split_frames(frames)
        if incoming.wire == 1:
            self.seen.append({**unpack_v1(incoming.body), "session": None})
            router.send_multipart([incoming.route, b"", pack_v1(self.v1_answer)])
            return
        message = unpack(incoming.body)
        self.seen.append(message)
        self.routes.append(incoming.route)
        answer = self.script(message)
        if answer is not None:
            standard = {"server": SERVER, "lease": 1.0} if message["cmd"] == "hello" else {}
            reply = {"v": 2, "re": message["id"], "session": message["session"], "ok": True}
            router.send_multipart([incoming.route, pack({**reply, **standard, **answer})])

    def commands(self) -> list[str]:
        return [m["cmd"] for m in self.seen]

    def close(self) -> None:
        self._stop.set()
        self._thread.join(WAIT)


class Inbox:
    def __init__(self) -> None:
        self.items: queue.SimpleQueue = queue.SimpleQueue()

    def __call__(self, item) -> None:
        self.items.put(item)

    def next(self, kind):
        while True:
            item = self.items.get(timeout=WAIT)
            if isinstance(item, kind):
                return item


def session_of(link):
    inbox = Inbox()
    session = link.session(inbox)
    session.send("configure", {"tick_period": 0.1, "clock": "host"})
    inbox.next(Reply)
    inbox.next(Reply)
    return session, inbox


class Relay:
    """A unix socket in front of another one; `cut` breaks what is connected, and goes on listening."""

    def __init__(self, path, target) -> None:
        self._target = str(target)
        self._pairs: list = []
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(path))
        self._listener.listen()
        self._threads = [threading.Thread(target=self._accept)]
        self._threads[0].start()

    def _accept(self) -> None:
        while True:
            try:
                near, _ = self._listener.accept()
            except OSError:
                return
            far = socket.socket(socket.AF_UNIX)
            far.connect(self._target)
            self._pairs += [near, far]
            for a, b in ((near, far), (far, near)):
                self._threads.append(threading.Thread(target=self._pump, args=(a, b)))
                self._threads[-1].start()

    def _pump(self, source, sink) -> None:
        try:
            while data := source.recv(65536):
                sink.sendall(data)
        except OSError:
            pass
        for end in (source, sink):
            try:
                end.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass

    def cut(self) -> None:
        for end in list(self._pairs):
            try:
                end.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.cut()
        for thread in self._threads:
            thread.join(WAIT)
        for end in self._pairs:
            end.close()
