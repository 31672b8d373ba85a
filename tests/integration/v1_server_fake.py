"""A server that speaks only the vocabulary in the field (v1), as small as it can be.

`test_v1_vocabulary.py` runs the same tests over this and over our own server. Run as a program:
`python v1_server_fake.py ENDPOINT`; it prints `ready` when it listens.
"""

from __future__ import annotations

import sys
from importlib.metadata import entry_points
from types import SimpleNamespace
from typing import Any

import msgpack
import zmq
from py_trees.common import Status
from scenario_execution.utils.logging import Logger


class V1Server:
    """Serves real action plugins, one request after the other, in one thread."""

    def __init__(self) -> None:
        self.actions: dict[str, Any] = {}
        self.quit = False

    def answer(self, body: bytes) -> dict[str, Any]:
        try:
            request = msgpack.unpackb(body, raw=False)
            handler = getattr(self, f"do_{request['cmd']}", None)
            if handler is None:
                raise ValueError(f"unknown command: {request['cmd']}")
            return {"status": "ok", **(handler(**request.get("payload", {})) or {})}
        except Exception as e:
            return {"status": "error", "message": str(e)}

    def do_init(self, action_id: str, plugin_key: str, init_args: dict, output_dir: str | None) -> None:
        (plugin,) = entry_points(group="scenario_execution.actions", name=plugin_key)
        action = plugin.load()(**init_args)
        model = SimpleNamespace(name=None, actor=None, get_ctx=lambda: (0, 0, "", ""))
        action._set_base_properities(plugin_key, model, Logger("v1", False))
        self.actions[action_id] = action

    def do_setup(self, action_id: str, **kwargs: Any) -> None:
        self.actions[action_id].setup(logger=self.actions[action_id].logger, **kwargs)

    def do_execute(self, action_id: str, exec_args: dict) -> None:
        action = self.actions[action_id]
        if action.execute_method is not None:
            action.execute(**exec_args)

    def do_update(self, action_id: str) -> dict[str, str]:
        return {"action_status": self.actions[action_id].update().value.lower()}

    def do_terminate(self, action_id: str, new_status: str) -> None:
        self.actions[action_id].terminate(Status.__members__.get(new_status, Status.INVALID))

    def do_reset(self, action_id: str | None = None) -> None:
        for key in [action_id] if action_id is not None else list(self.actions):
            action = self.actions.pop(key, None)
            if action is not None:
                action.shutdown()

    def do_heartbeat(self) -> None:
        pass

    def do_quit(self) -> None:
        self.quit = True


def main(endpoint: str) -> None:
    context = zmq.Context()
    socket = context.socket(zmq.REP)
    socket.bind(endpoint)
    print("ready", flush=True)
    server = V1Server()
    while not server.quit:
        # recv(), not recv_multipart(): like theirs, it does not survive a message of several frames
        body = socket.recv()
        if socket.getsockopt(zmq.RCVMORE):
            raise SystemExit("a message of several frames")
        socket.send(msgpack.packb(server.answer(body)))
    server.do_reset()


if __name__ == "__main__":
    main(sys.argv[1])
