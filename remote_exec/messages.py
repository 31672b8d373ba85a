"""The wire: every command and event with its fields, in one table. No I/O, no state.

Body frames are msgpack maps. At the server's ROUTER, [id, body] is v2, [id, b"", body] is v1,
anything else is refused.

v2, client to server: `{v: 2, id, session, cmd, …fields}`; every command has an id (counted up by the
client, per session) and is answered exactly once: `{v: 2, re: id, session, ok: true, …}` or
`{v: 2, re: id, session, ok: false, error: {kind, message, where, traceback}}`. A repeated id is
answered from memory and never executed twice. Events are pushed: `{v: 2, session, seq, ev, …fields}`,
`seq` counting up from 1 per session; the client says in `hello`/`ping` what it has `seen`.

`session` is chosen by the client (a uuid4 string), so a repeated `hello` is idempotent. `hello` with
`session: nil` opens nothing: it asks who is there. `hello` with `seen: nil` opens the session (again);
with `seen: N` it resumes it and an unknown session is the error `unknown_session`. A session has no
worker process until its first `configure`; until then it merely holds the server (an ephemeral server
lives while any session lives).

Any message of a client renews its session's lease; `ping` is for when there is nothing else to say.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

WIRE_VERSION: Final = 2
DEFAULT_PORT: Final = 7613

MAX_MESSAGE_BYTES: Final = 8 * 1024 * 1024
"""A longer body is refused; beyond twice that libzmq disconnects its sender without a word."""
MAX_DEPTH: Final = 64
"""Nesting of a value that crosses; deeper is refused at the sender and at the receiver."""
MAX_CONTAINERS: Final = 200_000
"""Lists, tuples and maps in one message. An empty list takes a byte on the wire and sixty in memory."""
MAX_ID_CHARS: Final = 128
"""Length of a session's or action's id."""

STATUSES: Final = ("running", "success", "failure", "invalid")
LOG_LEVELS: Final = ("debug", "info", "warning", "error")

ERROR_KINDS: Final = {
    "bad_message": "not decodable, or a field is missing or of the wrong type",
    "unknown_command": "no such command in this wire version",
    "unknown_session": "the session does not exist (any more): its lease is over, or it said bye",
    "unknown_action": "no action of that id in this session",
    "wrong_state": "the action's state does not allow it (section lifecycle)",
    "no_plugin": "no such action plugin is installed on the host",
    "plugin_error": "the plugin raised in __init__, setup, execute or update",
    "unsupported": "this server cannot do that (yet)",
    "crashed": "the session's worker process died",
    "stopping": "the server is shutting down",
    "exclusive": "another client has what is exclusive on this host; `next` says what to do",
    "internal": "a fault of the server itself",
}


@dataclass(frozen=True)
class Variable:
    """A reference to one of the scenario's variables, as a value among others."""

    name: str
    """Its name on the blackboard, as the client's reference has it."""


@dataclass(frozen=True)
class Field:
    """One field of a message: allowed types, and whether it may be absent (nil is then its value)."""

    types: tuple[type, ...]
    optional: bool = False


_STR = Field((str,))
_STR_OR_NIL = Field((str,), optional=True)
_MAP = Field((dict,))
_MAP_OR_NIL = Field((dict,), optional=True)
_NUMBER = Field((int, float))
_NUMBER_OR_NIL = Field((int, float), optional=True)
_INT_OR_NIL = Field((int,), optional=True)
_BOOL_OR_NIL = Field((bool,), optional=True)
_LIST_OR_NIL = Field((list, tuple), optional=True)
_LIST = Field((list,))
_INT = Field((int,))
_BOOL = Field((bool,))

COMMANDS: Final[Mapping[str, Mapping[str, Field]]] = {
    # client: {version, user, machine, pid, what, id, driver}. id: which of the client's own runs this is, so
    # that it knows its sessions again. driver: processes that say the same one count as one client where a
    # host is exclusive; nil: this process alone. lease: seconds, nil = the server's default.
    # -> server {version, wire, machine, pid, python, time}, session, resumed, lease; dropped: how many log
    # records the bound has cost that this client has not been told of
    "hello": {
        "client": _MAP,
        "seen": _INT_OR_NIL,
        "lease": _NUMBER_OR_NIL,
        "on_loss": _STR_OR_NIL,
    },
    "ping": {"seen": _INT_OR_NIL},
    # starts the session's worker. tick_period in seconds. clock: "host": running actions are ticked each
    # tick_period, changes of status are pushed; "sim": they are ticked by `tick` alone.
    "configure": {
        "scenario_file_directory": _STR_OR_NIL,
        "input_dir": _STR_OR_NIL,
        "output_dir": _STR_OR_NIL,
        "tick_period": _NUMBER,
        "clock": _STR,
        "debug": _BOOL_OR_NIL,
        # stream what labelled processes print: somebody at the client may look for it
        "outputs": _BOOL_OR_NIL,
    },
    # source: [file, line, column, text] of the action in the .osc file. args: for an action that is a
    # subtree, what it may ask its model for while it builds. actor_path: where its actor's variables are
    # on the blackboard; vars: those variables.
    # -> package, version: where the plugin comes from on the host
    "create": {
        "action": _STR,
        "plugin": _STR,
        "name": _STR,
        "label": _STR_OR_NIL,
        "source": _LIST_OR_NIL,
        "init_args": _MAP,
        "actor": _MAP_OR_NIL,
        "args": _MAP_OR_NIL,
        "actor_path": _STR_OR_NIL,
        "vars": _MAP_OR_NIL,
    },
    "setup": {"action": _STR},
    # vars: values of variables that the host does not know yet
    # t, also of `cancel`: simulated time in seconds, with the clock "sim"
    # -> status, feedback of the first update
    "execute": {
        "action": _STR,
        "args": _MAP,
        "actor": _MAP_OR_NIL,
        "vars": _MAP_OR_NIL,
        "seen": _INT_OR_NIL,
        "t": _NUMBER_OR_NIL,
    },
    # with the clock "sim": ticks every running action once, at this simulated time in seconds
    # -> statuses {action: [status, feedback]} of the actions that were running
    "tick": {"t": _NUMBER},
    # vars: values that changed at the client. seen (here and in execute): number of the last `set` event
    # that it had applied; what an action has set since then wins
    "set": {"vars": _MAP, "seen": _INT_OR_NIL},
    "cancel": {"action": _STR, "t": _NUMBER_OR_NIL},
    "shutdown": {"action": _STR},
    # answered when what the action's ended process printed has been sent, or after half a second
    "drain": {"action": _STR},
    # -> plugin: {name, package, version, subtree, parameters}, one entry of what `describe` lists
    "signature": {"plugin": _STR},
    # -> plugins, sessions
    "describe": {},
    # keeps the server up (stops being ephemeral) for at least so long from now; seconds, nil = until killed
    # -> left: seconds (nil: until killed), more when it was kept for longer; until: epoch at the host
    "keep": {"seconds": _NUMBER_OR_NIL},
    # ends the session. release: an ephemeral server need not wait for a further session of this client.
    # abort: what ran was given up (Ctrl-C, SIGTERM, an exception), so the host's `on_stop` runs
    # -> left: [text per process that did not stop]
    "bye": {"release": _BOOL_OR_NIL, "abort": _BOOL_OR_NIL},
}

SESSIONLESS: Final = frozenset({"hello", "describe", "keep"})
"""Commands that are allowed with `session: nil`."""

FORWARDED: Final = frozenset(
    {
        "configure", "create", "setup", "execute", "tick", "set", "cancel", "shutdown", "drain", "signature",
    }
)  # fmt: skip
"""Commands that the session's worker answers; all others are answered at once by the front."""

EVENTS: Final[Mapping[str, Mapping[str, Field]]] = {
    # run: id of the `execute` that this status belongs to (nil: the last one). Without it an end of an
    # earlier execution could be taken for the end of one whose reply is still on its way.
    "status": {"action": _STR, "status": _STR, "feedback": _STR, "run": _INT_OR_NIL},
    # time: epoch seconds at the host; dropped: records that a flood lost before this one; action: whose
    # record it is (nil: of the session as a whole, or of a process that prints to the worker's own output)
    "log": {
        "level": _STR,
        "name": _STR,
        "text": _STR,
        "time": _NUMBER,
        "dropped": _INT_OR_NIL,
        "action": _STR_OR_NIL,
    },
    # what an action set, before the status that follows it; number counts up per session
    "set": {"vars": _MAP, "number": _INT_OR_NIL},
    # a process with a label is known to the host's registry from now on
    "process": {"process": _INT, "name": _STR},
    # lines that a process printed since the last of these events; complete: there will be no more
    "output": {"process": _INT, "lines": _LIST, "complete": _BOOL},
    # phase: "setup", "execute", "update"; since: seconds the action has been busy
    "busy": {"action": _STR, "phase": _STR, "since": _NUMBER},
    # the session's worker is gone; all its actions have failed. ended: so is the session, and reason says why
    "lost": {"reason": _STR, "ended": _BOOL_OR_NIL},
    # little is left (seconds, 0: nothing) of the time for which the server is kept up by hand. It ends then,
    # or with its last session if that is later
    "lease": {"left": _NUMBER},
}

V1_COMMANDS: Final[Mapping[str, Mapping[str, Field]]] = {
    "init": {
        "action_id": _STR,
        "plugin_key": _STR,
        "init_args": _MAP_OR_NIL,
        "output_dir": _STR_OR_NIL,
    },
    "setup": {
        "action_id": _STR,
        "tick_period": _NUMBER_OR_NIL,
        "output_dir": _STR_OR_NIL,
        "scenario_file_directory": _STR_OR_NIL,
    },
    "execute": {"action_id": _STR, "exec_args": _MAP_OR_NIL},
    "update": {"action_id": _STR},
    "terminate": {"action_id": _STR, "new_status": _STR_OR_NIL},
    "reset": {"action_id": _STR_OR_NIL},
    "heartbeat": {},
    "quit": {},
    # ours: a v1 peer answers "unknown command"; we answer {status: ok, wire: 2}
    "hello": {},
}
"""The vocabulary in the field: REQ `{cmd, payload}`, REP `{status: ok|error, …}`."""

SERVER_FIELDS: Final = ("version", "wire", "machine", "pid", "python", "time")


def check_fields(fields: Mapping[str, Any], table: Mapping[str, Field], where: str = "") -> dict[str, Any]:
    """The fields of `table` out of `fields`, absent optional ones as None; unknown ones are dropped.

    Raises BadMessage naming the first field that is missing or of a wrong type.
    """
    from remote_exec.errors import BadMessage

    checked: dict[str, Any] = {}
    for name, field in table.items():
        value = fields.get(name)
        if value is None:
            if not field.optional:
                raise BadMessage("missing", where + name)
        elif not isinstance(value, field.types) or (isinstance(value, bool) and bool not in field.types):
            expected = " or ".join(t.__name__ for t in field.types)
            raise BadMessage(f"expected {expected}, got {type(value).__name__}", where + name)
        checked[name] = value
    return checked
