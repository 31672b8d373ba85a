"""One action in a session of its own, over the client's own link: as the proxy does it, without a tree."""

from __future__ import annotations

import queue
from collections.abc import Mapping
from typing import Any

from remote_exec.client.hub import Hub
from remote_exec.client.link import Delivery, Gone, LinkSpec, LinkUp
from remote_exec.client.session import Reply

_TIMEOUT = 20.0
_SETTINGS = {
    "scenario_file_directory": "/tmp", "input_dir": "/tmp", "output_dir": None, "tick_period": 0.1,
    "clock": "host", "debug": False,
}  # fmt: skip
_STEPS: tuple[tuple[str, Mapping[str, Any]], ...] = (
    ("configure", _SETTINGS),
    (
        "create",
        {"action": "a", "plugin": "log", "name": "log", "label": None, "source": None, "init_args": {},
         "actor": None},
    ),
    ("setup", {"action": "a"}),
    ("execute", {"action": "a", "args": {"msg": "hello"}, "actor": None, "vars": None}),
)  # fmt: skip


def run_log_action(endpoint: str) -> None:
    """Returns when the action's first status is here; raises if anything failed."""
    inbox: queue.Queue[Delivery] = queue.Queue()
    hub = Hub()
    try:
        link = hub.connect(LinkSpec("bench", endpoint, ours=True), inbox.put)
        _wait(inbox, lambda item: isinstance(item, LinkUp))
        session = link.session(inbox.put)
        last = [session.send(cmd, fields) for cmd, fields in _STEPS][-1]
        reply = _wait(inbox, lambda item: isinstance(item, Reply) and item.id == last)
        assert isinstance(reply, Reply) and reply.fields.get("status") == "success", reply
        link.leave(release=True)
        _wait(inbox, lambda item: isinstance(item, Gone))
    finally:
        hub.close()


def _wait(inbox: queue.Queue[Delivery], wanted: Any) -> Delivery:
    while True:
        item = inbox.get(timeout=_TIMEOUT)
        if isinstance(item, Reply) and item.error is not None:
            raise item.error
        if wanted(item):
            return item
