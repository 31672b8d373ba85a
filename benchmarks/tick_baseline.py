"""The plain way to run an action elsewhere: a REQ socket per action and an exchange per update.

Both ends are as small as this scheme can be, so that nothing but the scheme is measured: the server is a loop
over one REP socket that calls the action at once. `python benchmarks/tick_baseline.py ENDPOINT` serves.
"""

from __future__ import annotations

import importlib.metadata
import sys
import uuid
from types import SimpleNamespace
from typing import Any

import msgpack
import py_trees
import zmq
from py_trees.common import Status

STATUSES = {status.value.lower(): status for status in Status}


class RequestReplyAction(py_trees.behaviour.Behaviour):
    """A proxy that asks for its status in every update."""

    def __init__(self, name: str, plugin: str, context: zmq.Context[Any], endpoint: str) -> None:
        super().__init__(name)
        self.action_id = str(uuid.uuid4())
        self.plugin = plugin
        self.socket = context.socket(zmq.REQ)
        self.socket.linger = 0
        self.socket.connect(endpoint)

    def ask(self, cmd: str, **payload: Any) -> dict[str, Any]:
        message = {"cmd": cmd, "payload": {"action_id": self.action_id, **payload}}
        self.socket.send(msgpack.packb(message))
        reply: dict[str, Any] = msgpack.unpackb(self.socket.recv())
        assert reply["status"] == "ok", reply
        return reply

    def setup(self, **kwargs: Any) -> None:
        self.ask("init", plugin_key=self.plugin, init_args={}, output_dir=None)
        self.ask("setup", tick_period=0.1, output_dir=None, scenario_file_directory=None)

    def initialise(self) -> None:
        self.ask("execute", exec_args={})

    def update(self) -> Status:
        return STATUSES[self.ask("update")["action_status"]]


def serve(endpoint: str) -> None:
    plugins = {p.name: p for p in importlib.metadata.entry_points(group="scenario_execution.actions")}
    actions: dict[str, Any] = {}
    context: zmq.Context[Any] = zmq.Context()
    socket = context.socket(zmq.REP)
    socket.bind(endpoint)
    print("ready", flush=True)
    while True:
        message = msgpack.unpackb(socket.recv())
        cmd, payload = message["cmd"], message["payload"]
        reply: dict[str, Any] = {"status": "ok"}
        action = actions.get(payload["action_id"])
        if cmd == "init":
            action = actions[payload["action_id"]] = plugins[payload["plugin_key"]].load()()
            model = SimpleNamespace(actor=None, get_resolved_value=lambda *a, **k: {})
            action._set_base_properities("action", model, None)
        elif cmd == "execute":
            action.execute(**payload["exec_args"])
        elif cmd == "update":
            reply["action_status"] = action.update().value.lower()
        socket.send(msgpack.packb(reply))


if __name__ == "__main__":
    serve(sys.argv[1])
