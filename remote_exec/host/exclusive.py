"""One robot, one driver: a resource of this machine that one client at a time holds, on whichever server.

    a session wants to begin and the resource is  | answer
    ----------------------------------------------+---------------------------------------------------------
    free                                          | admitted; held from now on
    held here, by the same client                 | admitted
    held here, by another client                  | refused: by whom, for what, since when
    held by another server                        | asked who; refused with what it says
    … which does not answer                       | refused: by which process of which account
    … which lets go of it meanwhile               | begins again
    not to be had for any other reason            | refused: why. Never admitted by accident

Held means: an abstract unix socket of that name is bound (docs/decisions/0009). The kernel lets it go with
the last process that has it: the front, and the keepers of workers that may still be moving something.
Whoever connects to it gets one line of JSON. Rules: nothing here blocks; what is said and heard is bounded.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import pwd
import socket
import struct
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import zmq

PREFIX: Final = "\0se-remote/exclusive/"
MACHINE: Final = "@machine"
"""The resource that is the whole machine; no name of an inventory looks like that."""
ANSWER_SECONDS: Final = 1.0
"""How long a holder may take to say who it is."""
AGAIN_SECONDS: Final = 0.02
MAX_ANSWER: Final = 4096
MAX_ACCEPTED: Final = 16
"""Of those who ask, at one turn of the loop."""
MAX_ASKING: Final = 64


@dataclass(frozen=True)
class Holder:
    """Who holds a resource. Texts come from other processes: only shown."""

    user: str = ""
    machine: str = ""
    pid: int = 0
    what: str = ""
    since: float = 0.0
    """Epoch seconds, on this machine's clock."""
    host: str = ""
    """The inventory's name of the host through whose server it is held."""
    account: str = ""
    """Whose server that is."""
    process: int = 0
    """Its pid; 0 when it is this one."""

    @property
    def client(self) -> str:
        if not self.user:
            return ""
        return f"{self.user}@{self.machine} (pid {self.pid})" + (f" for {self.what}" if self.what else "")


@dataclass(frozen=True)
class Refusal:
    """Why a session cannot begin, and what to do about it."""

    text: str
    next_step: str


@dataclass(frozen=True)
class Request:
    """A client that wants to begin. Exactly one of the two is called, once, now or soon."""

    driver: str
    """What makes two sessions those of one client."""
    client: Mapping[str, Any]
    admitted: Callable[[float], None]
    """With the time, monotonic."""
    refused: Callable[[Refusal], None]


def driver_of(client: Mapping[str, Any]) -> str:
    """What a hello says of itself; clients that do not know of it are told apart by their process."""
    said = client.get("driver")
    return said if isinstance(said, str) and said else "{user}@{machine}:{pid}".format_map(_Known(client))


class _Known(dict[str, Any]):
    def __missing__(self, key: str) -> str:
        return "?"


def address(resource: str) -> str:
    """The socket's name. Long names are hashed: there are 107 bytes."""
    short = resource if len(resource) <= 64 else hashlib.sha256(resource.encode()).hexdigest()
    return PREFIX + short


def answer(holder: Holder) -> bytes:
    """What who asks is told: one line."""
    names = ("user", "machine", "pid", "what", "since", "host")
    return json.dumps({name: getattr(holder, name) for name in names}).encode()[: MAX_ANSWER - 1] + b"\n"


def read_answer(data: bytes, account: str, process: int) -> Holder:
    """The holder that another process describes; `account` and `process` are the kernel's word."""
    try:
        said = json.loads(data)
    except ValueError:
        said = {}
    said = said if isinstance(said, dict) else {}
    texts = {name: _text(said.get(name)) for name in ("user", "machine", "what", "host")}
    pid, since = said.get("pid"), said.get("since")
    return Holder(
        **texts,
        pid=pid if isinstance(pid, int) else 0,
        since=float(since) if isinstance(since, (int, float)) else 0.0,
        account=account,
        process=process,
    )


def _text(value: object) -> str:
    return "".join(c if c.isprintable() else "?" for c in value[:200]) if isinstance(value, str) else ""


def refusal(resource: str, host: str, holder: Holder, account: str, now: float) -> Refusal:
    """What a client reads that cannot have the resource through `host`. account: our own; now: epoch."""
    what = "this machine" if resource == MACHINE else f"{resource} of this machine"
    theirs = holder.host or host
    if not holder.client:
        who = f"process {holder.process} of account {holder.account}, which does not say for whom"
        step = f"look at it there: ps -fp {holder.process}"
        return Refusal(f"{what} is exclusive and held by {who}", step)
    since = time.strftime("%H:%M:%S UTC", time.gmtime(holder.since))
    text = f"{what} is exclusive and held by {holder.client}, since {since} ({_age(now - holder.since)})"
    if holder.account and holder.account != account:
        text += f", through account {holder.account}"
        return Refusal(text, f"wait, or have {holder.account} run: se-remote kill {theirs} --force")
    if theirs != host:
        text += f", through the host {theirs}"
    return Refusal(text, f"wait, or: se-remote kill {theirs} --force")


def _age(seconds: float) -> str:
    return f"{seconds / 60:.0f} min" if seconds >= 100 else f"{max(0.0, seconds):.0f} s"


@dataclass
class _Asking:
    request: Request
    sock: socket.socket | None
    """None: it let go, or is just taking it; to be tried again at `next`."""
    process: int
    account: str
    until: float
    next: float
    data: bytes = b""


class Exclusive:
    """The resource of one server. Without a name everybody is admitted."""

    def __init__(self, resource: str, host: str) -> None:
        self.resource = resource
        self.poller: Any = None
        """Of the front's loop."""
        self.holder: Holder | None = None
        self._host = host
        self._driver = ""
        self._listener: socket.socket | None = None
        self._asking: list[_Asking] = []

    def admit(self, request: Request, now: float) -> None:
        """Answer a client that wants to begin a session."""
        if not self.resource:
            request.admitted(now)
        elif len(self._asking) >= MAX_ASKING:
            request.refused(Refusal("too many ask for this exclusive host at once", "try again"))
        else:
            self._try(request, now, now + ANSWER_SECONDS)

    def is_held_by(self, driver: str) -> bool:
        return not self.resource or (self._listener is not None and driver == self._driver)

    def release(self) -> None:
        """No session is left, nor anything that moves."""
        if self._listener is not None:
            self.poller.unregister(self._listener.fileno())
            self._listener.close()
        self._listener, self.holder, self._driver = None, None, ""

    def descriptors(self) -> list[int]:
        """To be held by whoever may outlive us: keepers of workers."""
        return [self._listener.fileno()] if self._listener is not None else []

    def described(self) -> dict[str, Any] | None:
        """For state.json."""
        if not self.resource:
            return None
        holder = self.holder
        shown = (
            {k: getattr(holder, k) for k in ("user", "machine", "pid", "what", "since")} if holder else None
        )
        return {"resource": self.resource, "holder": shown}

    # -- the front's loop

    def owns(self, fd: int) -> bool:
        return fd in self.descriptors() or any(
            a.sock is not None and a.sock.fileno() == fd for a in self._asking
        )

    def readable(self, fd: int, now: float) -> None:
        if fd in self.descriptors():
            self._accept()
            return
        asking = next(a for a in self._asking if a.sock is not None and a.sock.fileno() == fd)
        assert asking.sock is not None
        try:
            data = asking.sock.recv(MAX_ANSWER)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        asking.data += data
        if b"\n" in asking.data or len(asking.data) >= MAX_ANSWER:
            self._refuse(asking)
        elif not data:
            # It let go before it answered.
            self._hang_up(asking)
            asking.next = now

    def check(self, now: float) -> None:
        """To be called at `next_deadline`."""
        for asking in list(self._asking):
            if now >= asking.until:
                self._refuse(asking)
            elif asking.sock is None and now >= asking.next:
                self._asking.remove(asking)
                self._try(asking.request, now, asking.until)

    def next_deadline(self) -> float | None:
        times = [asking.until if asking.sock is not None else asking.next for asking in self._asking]
        return min(times) if times else None

    # -- inside

    def _try(self, request: Request, now: float, until: float) -> None:
        if self._listener is not None and request.driver != self._driver:
            assert self.holder is not None
            request.refused(self._refusal(self.holder))
            return
        if self._listener is None:
            try:
                self._take(request)
            except OSError as error:
                if error.errno == errno.EADDRINUSE:
                    self._ask(request, now, until)
                else:
                    text = f"it is exclusive, and that cannot be held: {error.strerror or error}"
                    request.refused(Refusal(text, "look at the server's log"))
                return
        request.admitted(now)

    def _take(self, request: Request) -> None:
        """Raises OSError."""
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        try:
            listener.bind(address(self.resource))
            listener.listen(64)
        except OSError:
            listener.close()
            raise
        self.poller.register(listener.fileno(), zmq.POLLIN)
        self._listener, self._driver = listener, request.driver
        client = request.client
        self.holder = Holder(
            _text(client.get("user")) or "?",
            _text(client.get("machine")) or "?",
            client["pid"] if isinstance(client.get("pid"), int) else 0,
            _text(client.get("what")),
            time.time(),
            self._host,
            account_name(os.getuid()),
        )

    def _accept(self) -> None:
        assert self._listener is not None and self.holder is not None
        for _ in range(MAX_ACCEPTED):
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            with connection:
                connection.setblocking(False)
                with contextlib.suppress(OSError):
                    connection.send(answer(self.holder))

    def _ask(self, request: Request, now: float, until: float) -> None:
        asking = _Asking(request, None, 0, "?", until, now + AGAIN_SECONDS)
        self._asking.append(asking)
        sock = None
        try:
            sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
            sock.connect(address(self.resource))
        except OSError:
            # Gone again, bound but not listening yet, or so many ask that there is no room: once more, soon.
            if sock is not None:
                sock.close()
            return
        asking.sock = sock
        asking.process, asking.account = _peer(sock)
        self.poller.register(sock.fileno(), zmq.POLLIN)

    def _hang_up(self, asking: _Asking) -> None:
        if asking.sock is not None:
            self.poller.unregister(asking.sock.fileno())
            asking.sock.close()
            asking.sock = None

    def _refuse(self, asking: _Asking) -> None:
        self._hang_up(asking)
        self._asking.remove(asking)
        line = asking.data.partition(b"\n")[0]
        asking.request.refused(self._refusal(read_answer(line, asking.account, asking.process)))

    def _refusal(self, holder: Holder) -> Refusal:
        return refusal(self.resource, self._host, holder, account_name(os.getuid()), time.time())


def _peer(sock: socket.socket) -> tuple[int, str]:
    """The process that listens at the other end, and its account."""
    size = struct.calcsize("3i")
    pid, uid, _ = struct.unpack("3i", sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, size))
    return pid, account_name(uid)


def account_name(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)
