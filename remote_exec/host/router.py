"""The server's socket: what clients send comes out of it, what the sessions have to say goes into it.

Rules: nothing here blocks; a connection that takes no more is tried again after a while, and what waits for
it waits in its session, bounded.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Final

import zmq

from remote_exec.host import binding
from remote_exec.host.packing import packed
from remote_exec.host.sessions import Sessions

MESSAGES_PER_TURN: Final = 200
TURN_SECONDS: Final = 0.05
"""After that the others get their answers, however much one client sends."""
RETRY_SECONDS: Final = 0.02
"""After a connection took no more."""
CLOSE_LINGER_MS: Final = 250


class Router:
    """See the module's text. Times are monotonic seconds."""

    def __init__(self, context: zmq.Context[zmq.Socket[bytes]]) -> None:
        self.socket = binding.make_router(context)
        self._stalled_until = 0.0

    def receive(self, now: float) -> Iterator[list[bytes]]:
        """The frames of the messages that are here, as many as one turn takes; `now`: when it began."""
        for _ in range(MESSAGES_PER_TURN):
            try:
                frames = self.socket.recv_multipart(zmq.NOBLOCK)
            except zmq.Again:
                return
            yield frames
            if time.monotonic() - now > TURN_SECONDS:
                return

    def pump(self, sessions: Sessions, now: float) -> None:
        """Sends what the sessions have to say, as far as the connections take it."""
        self._stalled_until = 0.0
        for route, answers in list(sessions.direct.items()):
            sent: bool | None = True
            while answers and sent:
                sent = self.send([route, packed(answers[0])])
                if sent:
                    answers.popleft()
            if sent is None:
                self._stalled_until = now + RETRY_SECONDS
            else:
                del sessions.direct[route]
        for session in sessions.sessions.values():
            while session.route is not None:
                outgoing = session.next_out()
                if outgoing is None:
                    break
                sent = self.send([session.route, packed(outgoing)])
                if sent is None:
                    self._stalled_until = now + RETRY_SECONDS
                    break
                if not sent:
                    session.route = None
                    break
                session.out_sent()

    def send(self, frames: list[bytes]) -> bool | None:
        """False: nobody is there any more; None: the connection takes no more now."""
        try:
            self.socket.send_multipart(frames, zmq.NOBLOCK)
        except zmq.Again:
            return None
        except zmq.ZMQError:
            return False
        return True

    def next_retry(self) -> float | None:
        """When `pump` is to be called again at the latest; None: nothing waits for a connection."""
        return self._stalled_until if self._stalled_until > 0 else None

    def close(self) -> None:
        self.socket.close(CLOSE_LINGER_MS)
