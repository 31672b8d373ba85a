"""A small client of the raw wire for tests: a DEALER for v2, a REQ for v1. Not the product's client."""

from __future__ import annotations

import os
import time
import uuid
from collections.abc import Callable
from typing import Any

import zmq

from remote_exec import codec
from remote_exec.messages import WIRE_VERSION

CLIENT = {"version": "0", "user": "robot", "machine": "lab-pc", "pid": os.getpid(), "what": "test"}


class V2Client:
    """One session (or none) over one DEALER."""

    def __init__(self, context: zmq.Context[Any], endpoint: str, session: str | None = None) -> None:
        self.session = session if session is not None else str(uuid.uuid4())
        self.context, self.endpoint = context, endpoint
        self.events: list[dict[str, Any]] = []
        self.replies: dict[int, dict[str, Any]] = {}
        self.next_id = 0
        self.connect()

    def connect(self) -> None:
        self.sock = self.context.socket(zmq.DEALER)
        self.sock.setsockopt(zmq.LINGER, 0)
        self.sock.connect(self.endpoint)

    def close(self) -> None:
        self.sock.close(0)

    def raw(self, *frames: bytes) -> None:
        self.sock.send_multipart(frames)

    def send(self, cmd: str, *, msg_id: int | None = None, sessionless: bool = False, **fields: Any) -> int:
        if msg_id is None:
            self.next_id += 1
            msg_id = self.next_id
        self.raw(
            codec.pack(
                {
                    "v": WIRE_VERSION,
                    "id": msg_id,
                    "session": None if sessionless else self.session,
                    "cmd": cmd,
                    **fields,
                }
            )
        )
        return msg_id

    def pump(self, seconds: float) -> bool:
        if not self.sock.poll(int(seconds * 1000)):
            return False
        frames = self.sock.recv_multipart()
        if len(frames) != 1:
            return True  # an answer in v1 form, to what was sent in v1 form
        message = codec.unpack(frames[0])
        if "ev" in message:
            self.events.append(message)
        else:
            self.replies[message["re"]] = message
        return True

    def wait(self, msg_id: int, seconds: float = 20.0) -> dict[str, Any]:
        self.until(lambda: msg_id in self.replies, seconds, f"reply to {msg_id}")
        return self.replies.pop(msg_id)

    def until(self, condition: Callable[[], Any], seconds: float = 20.0, what: str = "") -> None:
        deadline = time.monotonic() + seconds
        while not condition():
            left = deadline - time.monotonic()
            assert left > 0, f"nothing after {seconds} s: {what} {self.events[-5:]} {self.replies}"
            self.pump(min(left, 0.2))

    def call(self, cmd: str, *, timeout: float = 20.0, **fields: Any) -> dict[str, Any]:
        return self.wait(self.send(cmd, **fields), timeout)

    def ok(self, cmd: str, **fields: Any) -> dict[str, Any]:
        reply = self.call(cmd, **fields)
        assert reply["ok"], reply
        return reply

    # -- usual sequences

    def hello(self, *, seen: int | None = None, lease: float | None = None, **more: Any) -> dict[str, Any]:
        fields = {"client": CLIENT, **more}
        return self.call("hello", seen=seen, lease=lease, **fields)

    def open(self, *, lease: float | None = None, tick_period: float = 0.02, **more: Any) -> V2Client:
        assert self.hello(lease=lease, **more)["ok"]
        self.ok(
            "configure",
            scenario_file_directory=None,
            input_dir=None,
            output_dir=None,
            tick_period=tick_period,
            clock="host",
            debug=False,
        )
        return self

    def make(self, action: str, plugin: str, init_args: dict[str, Any] | None = None, **more: Any) -> None:
        self.ok(
            "create",
            action=action,
            plugin=plugin,
            name=more.pop("name", plugin),
            source=["/s/test.osc", 7, 8, "echo(1)"],
            init_args=init_args or {},
            **more,
        )
        self.ok("setup", action=action)

    def execute(self, action: str, **args: Any) -> dict[str, Any]:
        return self.call("execute", action=action, args=args)

    def status(self, action: str) -> str:
        found = [e["status"] for e in self.events if e["ev"] == "status" and e["action"] == action]
        return found[-1] if found else ""

    def result(self, action: str, **args: Any) -> str:
        """Executes it and waits for its end."""
        self.events.clear()
        reply = self.execute(action, **args)
        assert reply["ok"], reply
        if reply["status"] != "running":
            return str(reply["status"])
        self.until(lambda: self.status(action) not in ("", "running"), what=action)
        return self.status(action)

    def logs(self) -> str:
        return "\n".join(e["text"] for e in self.events if e["ev"] == "log")


class V1Client:
    """One REQ socket."""

    def __init__(self, context: zmq.Context[Any], endpoint: str) -> None:
        self.sock = context.socket(zmq.REQ)
        self.sock.setsockopt(zmq.LINGER, 0)
        self.sock.connect(endpoint)

    def call(self, cmd: str, *, timeout: float = 20.0, **payload: Any) -> dict[str, Any]:
        self.sock.send(codec.pack_v1({"cmd": cmd, "payload": payload}))
        assert self.sock.poll(int(timeout * 1000)), f"no answer to {cmd} within {timeout} s"
        return codec.unpack_v1(self.sock.recv())

    def until_status(self, action_id: str, statuses: tuple[str, ...], seconds: float = 20.0) -> str:
        deadline = time.monotonic() + seconds
        while True:
            status = str(self.call("update", action_id=action_id)["action_status"])
            if status in statuses:
                return status
            assert time.monotonic() < deadline, status
            time.sleep(0.02)

    def close(self) -> None:
        self.sock.close(0)
