"""The life of one remote action, as a table; both ends follow it.

    state      | create   setup   execute  finish  cancel    settle  shutdown
    -----------+---------------------------------------------------------------
    new        | created  .       .        .       new       .       gone
    created    | .        ready   .        .       created   .       gone
    ready      | .        ready   running  .       stopping  .       gone
    running    | .        .       .        ready   stopping  .       gone
    stopping   | .        .       stopping .       stopping  ready   gone
    gone       | created  .       .        .       gone      .       gone

`finish`: update() gave a final status, or raised. `cancel` of an action that is not active is
harmless: it crosses the final status on the wire (`ready` → `stopping` is for what an action left
running when it ended, before its shutdown). In `stopping` the action is ticked on until what
it started has ended (`settle`); an `execute` that arrives meanwhile waits there for it. A dot is an
illegal transition: it raises and changes nothing.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from typing import Final

from remote_exec.errors import IllegalTransition


class ActionState(enum.Enum):
    """Where an action is in its life."""

    NEW = "new"
    CREATED = "created"
    READY = "ready"
    RUNNING = "running"
    STOPPING = "stopping"
    GONE = "gone"


class Step(enum.Enum):
    """What happens to an action."""

    CREATE = "create"
    SETUP = "setup"
    EXECUTE = "execute"
    FINISH = "finish"
    CANCEL = "cancel"
    SETTLE = "settle"
    SHUTDOWN = "shutdown"


_S, _T = ActionState, Step

TABLE: Final[Mapping[tuple[ActionState, Step], ActionState]] = {
    (_S.NEW, _T.CREATE): _S.CREATED,
    (_S.NEW, _T.CANCEL): _S.NEW,
    (_S.NEW, _T.SHUTDOWN): _S.GONE,
    (_S.CREATED, _T.SETUP): _S.READY,
    (_S.CREATED, _T.CANCEL): _S.CREATED,
    (_S.CREATED, _T.SHUTDOWN): _S.GONE,
    (_S.READY, _T.SETUP): _S.READY,
    (_S.READY, _T.EXECUTE): _S.RUNNING,
    (_S.READY, _T.CANCEL): _S.STOPPING,
    (_S.READY, _T.SHUTDOWN): _S.GONE,
    (_S.RUNNING, _T.FINISH): _S.READY,
    (_S.RUNNING, _T.CANCEL): _S.STOPPING,
    (_S.RUNNING, _T.SHUTDOWN): _S.GONE,
    (_S.STOPPING, _T.EXECUTE): _S.STOPPING,
    (_S.STOPPING, _T.CANCEL): _S.STOPPING,
    (_S.STOPPING, _T.SETTLE): _S.READY,
    (_S.STOPPING, _T.SHUTDOWN): _S.GONE,
    (_S.GONE, _T.CREATE): _S.CREATED,
    (_S.GONE, _T.CANCEL): _S.GONE,
    (_S.GONE, _T.SHUTDOWN): _S.GONE,
}


def advance(state: ActionState, step: Step) -> ActionState:
    """The state after `step`. Raises IllegalTransition."""
    after = TABLE.get((state, step))
    if after is None:
        raise IllegalTransition(f"an action that is {state.value} cannot do {step.value!r}")
    return after
