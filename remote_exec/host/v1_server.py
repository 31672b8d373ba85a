"""The v1 vocabulary, served: what REQ clients in the field send, and what they get.

    cmd        | answered
    -----------+------------------------------------------------------------------
    heartbeat  | at once
    update     | at once, from the last status the worker pushed
    hello      | at once: {status: ok, wire: 2}
    quit       | at once; the server stops
    init       | when the worker has constructed the action (a known id is replaced)
    setup      | when the worker has set it up
    execute    | when the worker has started it, or ok after SOON; an error after that is a `failure`
    terminate  | as execute
    reset      | as execute; an unknown id is ok; no id: all

Rules: all v1 clients share one worker, in which actions are keyed by `action_id`; it ticks them itself,
so no answer waits for a busy action. Pure: what is to be done is returned as effects.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from remote_exec.codec import unpack_v1
from remote_exec.errors import BadMessage
from remote_exec.messages import MAX_ID_CHARS, V1_COMMANDS, WIRE_VERSION, check_fields

SOON: Final = 0.5
"""Seconds after which `execute`, `terminate` and `reset` are answered though the worker has not."""
MAX_ACTIONS: Final = 10_000
SESSION: Final = "v1"
DEFAULT_TICK_PERIOD: Final = 0.1
MAX_TICK_PERIOD: Final = 3600.0


@dataclass(frozen=True)
class Reply:
    route: bytes
    body: Mapping[str, Any]


@dataclass(frozen=True)
class Start:
    """The v1 worker is needed and there is none."""


@dataclass(frozen=True)
class Forward:
    message: Mapping[str, Any]


@dataclass(frozen=True)
class Quit:
    """Stop the server."""


V1Effect = Reply | Start | Forward | Quit


@dataclass
class _Action:
    plugin: str
    status: str = "invalid"
    run: int | None = None
    """The `execute` whose statuses count."""
    lost: str = ""
    """Why it is no more, though its client may not know: the worker died."""


@dataclass
class _Pending:
    route: bytes | None
    """None: answered already."""
    cmd: str
    action_id: str
    deadline: float | None


class V1Server:
    """See the module's text."""

    def __init__(self, *, debug: bool = False) -> None:
        self._debug = debug
        self._next_id = 0
        self._worker = False
        self._actions: dict[str, _Action] = {}
        self._pending: dict[int, _Pending] = {}

    def message(self, route: bytes, body: bytes, now: float) -> list[V1Effect]:
        """One v1 body. Raises BadMessage; the caller answers that with `error_body`."""
        message = unpack_v1(body)
        cmd, payload = message.get("cmd"), message.get("payload")
        if not isinstance(cmd, str):
            raise BadMessage("expected str", "cmd")
        if cmd not in V1_COMMANDS:
            raise BadMessage(f"unknown command '{cmd:.60}'", kind="unknown_command")
        if payload is not None and not isinstance(payload, dict):
            raise BadMessage(f"expected map, got {type(payload).__name__}", "payload")
        fields = check_fields(payload or {}, V1_COMMANDS[cmd], "payload.")
        if len(fields.get("action_id") or "") > MAX_ID_CHARS:
            raise BadMessage(f"longer than {MAX_ID_CHARS} characters", "payload.action_id")
        if not 0 <= (fields.get("tick_period") or 0) < MAX_TICK_PERIOD:
            raise BadMessage(f"{fields['tick_period']} is no period in seconds", "payload.tick_period")
        return self._command(route, cmd, fields, now)

    def _command(self, route: bytes, cmd: str, fields: Mapping[str, Any], now: float) -> list[V1Effect]:
        if cmd == "heartbeat":
            return [Reply(route, {"status": "ok"})]
        if cmd == "hello":
            return [Reply(route, {"status": "ok", "wire": WIRE_VERSION})]
        if cmd == "quit":
            return [Reply(route, {"status": "ok"}), Quit()]
        if cmd == "reset":
            return self._reset(route, fields["action_id"], now)
        if cmd == "init":
            return self._init(route, fields, now)
        action = self._actions.get(fields["action_id"])
        if action is None:
            return [Reply(route, error_body(f"unknown action_id '{fields['action_id']}'"))]
        if cmd == "update":
            return [Reply(route, {"status": "ok", "action_status": action.status})]
        if action.lost:
            return [Reply(route, {"status": "ok"} if cmd == "terminate" else error_body(action.lost))]
        if cmd == "setup":
            extra = {
                "tick_period": fields["tick_period"] or DEFAULT_TICK_PERIOD,
                "output_dir": fields["output_dir"],
                "scenario_file_directory": fields["scenario_file_directory"],
            }
            return [self._forward(route, "setup", fields["action_id"], None, {"extra": extra})]
        if cmd == "execute":
            return self._execute(route, action, fields, now)
        return self._terminate(route, action, fields, now)

    def _init(self, route: bytes, fields: Mapping[str, Any], now: float) -> list[V1Effect]:
        action_id = fields["action_id"]
        known = action_id in self._actions
        if not known and len(self._actions) >= MAX_ACTIONS:
            return [Reply(route, error_body(f"there are {MAX_ACTIONS} actions already"))]
        effects = self._ensure_worker()
        if known:
            effects.append(self._forward(None, "shutdown", action_id, None, {}))
        self._actions[action_id] = _Action(fields["plugin_key"])
        effects.append(
            self._forward(
                route,
                "create",
                action_id,
                None,
                {
                    "plugin": fields["plugin_key"],
                    "name": fields["plugin_key"],
                    "label": None,
                    "source": None,
                    "init_args": fields["init_args"] or {},
                    "actor": None,
                    "output_dir": fields["output_dir"],
                },
            )
        )
        return effects

    def _execute(
        self, route: bytes, action: _Action, fields: Mapping[str, Any], now: float
    ) -> list[V1Effect]:
        effects: list[V1Effect] = []
        if action.status == "running":
            # The client starts it again without having terminated it.
            effects.append(self._forward(None, "cancel", fields["action_id"], None, {}))
        forward = self._forward(
            route,
            "execute",
            fields["action_id"],
            now + SOON,
            {"args": fields["exec_args"] or {}, "actor": None, "vars": None},
        )
        action.status, action.run = "running", forward.message["id"]
        return [*effects, forward]

    def _terminate(
        self, route: bytes, action: _Action, fields: Mapping[str, Any], now: float
    ) -> list[V1Effect]:
        new = (fields["new_status"] or "INVALID").upper()
        new = new if new in ("SUCCESS", "FAILURE") else "INVALID"
        ended = action.status in ("success", "failure") and new != "INVALID"
        if ended or (action.status == "invalid" and action.run is None):
            # It has been told so when it ended, or has never run.
            return [Reply(route, {"status": "ok"})]
        action.status, action.run = new.lower(), None
        return [self._forward(route, "cancel", fields["action_id"], now + SOON, {"status": new})]

    def _reset(self, route: bytes, action_id: str | None, now: float) -> list[V1Effect]:
        for each in [i for i, a in self._actions.items() if a.lost and action_id in (None, i)]:
            del self._actions[each]
        chosen = [each for each in self._actions if action_id in (None, each)]
        if not chosen:
            return [Reply(route, {"status": "ok"})]
        effects: list[V1Effect] = []
        for each in chosen:
            del self._actions[each]
            last = each == chosen[-1]
            deadline = now + SOON if last else None
            effects.append(self._forward(route if last else None, "shutdown", each, deadline, {}))
        return effects

    # -- from the worker

    def worker_said(self, message: Mapping[str, Any]) -> list[V1Effect]:
        """A reply or an event of the worker."""
        if message.get("ev") == "status":
            action = self._actions.get(str(message.get("action")))
            if action is not None and action.run is not None and action.run == message.get("run"):
                action.status = str(message.get("status"))
            return []
        msg_id = message.get("re")
        pending = self._pending.pop(msg_id, None) if isinstance(msg_id, int) else None
        if pending is None:
            return []
        action = self._actions.get(pending.action_id)
        ok = bool(message.get("ok"))
        if action is not None and pending.cmd == "execute" and action.run == msg_id:
            action.status = str(message.get("status")) if ok else "failure"
        if not ok and pending.cmd == "create":
            self._actions.pop(pending.action_id, None)
        if pending.route is None:
            return []
        return [Reply(pending.route, {"status": "ok"} if ok else error_body(error_text(message)))]

    def worker_lost(self, reason: str) -> list[V1Effect]:
        """The worker died: its actions have failed. The next `init` starts another one."""
        self._worker = False
        text = f"the process that runs the actions died: {reason}"
        for action in self._actions.values():
            action.status, action.run, action.lost = "failure", None, text
        body = error_body(text)
        waiting = [p.route for p in self._pending.values() if p.route is not None]
        self._pending.clear()
        return [Reply(route, body) for route in waiting]

    def forget(self) -> None:
        """Its clients are gone; who comes back finds none of its actions."""
        self._actions.clear()

    # -- time

    def check(self, now: float) -> list[V1Effect]:
        """Answers what has waited long enough."""
        effects: list[V1Effect] = []
        for pending in self._pending.values():
            if pending.deadline is not None and pending.route is not None and now >= pending.deadline:
                effects.append(Reply(pending.route, {"status": "ok"}))
                pending.route = None
        return effects

    def next_deadline(self) -> float | None:
        return min(
            (p.deadline for p in self._pending.values() if p.deadline is not None and p.route is not None),
            default=None,
        )

    def actions(self) -> list[dict[str, str]]:
        """For `describe` and state.json."""
        return [
            {"id": i, "name": a.plugin, "plugin": a.plugin, "status": a.status}
            for i, a in self._actions.items()
        ]

    # -- inside

    def _ensure_worker(self) -> list[V1Effect]:
        if self._worker:
            return []
        self._worker = True
        return [
            Start(),
            self._forward(
                None,
                "configure",
                "",
                None,
                {
                    "scenario_file_directory": None,
                    "input_dir": None,
                    "output_dir": None,
                    "chdir": False,
                    "tick_period": DEFAULT_TICK_PERIOD,
                    "clock": "host",
                    "debug": self._debug,
                },
            ),
        ]

    def _forward(
        self, route: bytes | None, cmd: str, action_id: str, deadline: float | None, fields: Mapping[str, Any]
    ) -> Forward:
        self._next_id += 1
        self._pending[self._next_id] = _Pending(route, cmd, action_id, deadline)
        return Forward({"id": self._next_id, "cmd": cmd, "action": action_id, **fields})


def error_body(text: str) -> dict[str, str]:
    return {"status": "error", "message": text}


def error_text(message: Mapping[str, Any]) -> str:
    """What a worker's error says, in one line."""
    error = message.get("error")
    if not isinstance(error, dict):
        return "it failed"
    where = error.get("where")
    return str(error.get("message")) + (f" ({where})" if where else "")
