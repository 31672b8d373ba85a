"""One action in a worker: the plugin's instance, where it is in its life, and what it still owns.

An action that is a subtree (BaseActionSubtree) is its composite and all the nodes in it: what is asked of
an action here (is a process alive? was it cancelled?) is asked of every node.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from typing import Any, Final

from py_trees.common import Status

from remote_exec.host.lifecycle import ActionState, Step, advance
from remote_exec.host.standins import ModelStandIn

DEFAULT_SHUTDOWN_SECONDS: Final = 10.0
"""For an action without a usable `shutdown_timeout` of its own."""


class CancelOnce:
    """In place of a node's `request_cancel`: asks it once per execution, from whichever thread is first."""

    def __init__(self, node: Any) -> None:
        self.node = node
        self._lock = threading.Lock()
        self._result: bool | None = None
        self._original = node.request_cancel
        node.request_cancel = self.request

    def request(self) -> bool:
        with self._lock:
            return self._ask()

    def request_unless_asked(self) -> None:
        """Does not wait for another thread that is asking it just now: it may never come back."""
        if self._lock.acquire(blocking=False):
            try:
                self._ask()
            finally:
                self._lock.release()

    def _ask(self) -> bool:
        if self._result is None:
            self._result = False
            self._result = bool(self._original())
        return self._result

    @property
    def taken(self) -> bool:
        return bool(self._result)

    def forget(self) -> None:
        self._result = None


class HostedAction:
    """See the module's text. period: seconds."""

    def __init__(self, action_id: str, instance: Any, model: ModelStandIn, period: float) -> None:
        self.id = action_id
        self.instance = instance
        self.model = model
        self.period = period
        self.state = ActionState.NEW
        self.run: int | None = None
        self.last: tuple[str, str] = ("", "")
        """Status and feedback as the client knows them."""
        self.seen: tuple[Any, Any] = (None, None)
        """The objects that `last` was made of."""
        self.settle_until = 0.0
        self.waiting: Callable[[bool], None] | None = None
        """An execute that waits for the end of a cancelled one; called with whether to start."""
        self._cancels: list[CancelOnce] = []

    def answer_waiting(self, go: bool) -> None:
        """An execute that waits begins, or is answered without having been done."""
        if self.waiting is not None:
            waiting, self.waiting = self.waiting, None
            waiting(go)

    def step(self, step: Step) -> None:
        self.state = advance(self.state, step)

    # -- foreign code

    def set_up(self, kwargs: Mapping[str, Any]) -> None:
        """In the order of py_trees: what is inside first."""
        for node in self.instance.iterate():
            node.setup(**kwargs)
        known = [cancel.node for cancel in self._cancels]
        for node in self._nodes():
            if node not in known and callable(getattr(node, "request_cancel", None)):
                self._cancels.append(CancelOnce(node))

    def shut_down(self) -> None:
        """Raises the first exception when all nodes were asked."""
        errors: list[Exception] = []
        for node in self._nodes():
            try:
                node.shutdown()
            except Exception as error:  # foreign code
                errors.append(error)
        if errors:
            raise errors[0]

    def settle(self) -> bool:
        """Tick on what is ending, after a cancel; whether any of it is still running."""
        ending = [cancel.node for cancel in self._cancels if cancel.taken or _process_alive(cancel.node)]
        statuses = [node.update() for node in ending]
        return Status.RUNNING in statuses

    def request_cancel(self) -> None:
        """From another thread, while the main one hangs in this action."""
        for cancel in self._cancels:
            if cancel.node is self.instance or cancel.node.status == Status.RUNNING:
                cancel.request_unless_asked()

    # -- what it says

    @property
    def took_cancel(self) -> bool:
        return any(cancel.taken for cancel in self._cancels)

    def forget_cancel(self) -> None:
        for cancel in self._cancels:
            cancel.forget()

    @property
    def feedback(self) -> object:
        """The action's; of a subtree that says nothing itself, that of the node which decides its status."""
        text = getattr(self.instance, "feedback_message", None)
        if self.model.is_subtree and not text:
            text = getattr(self.instance.tip(), "feedback_message", None)
        return "" if text is None else text

    @property
    def shutdown_seconds(self) -> float:
        """The action's own `shutdown_timeout`, bounded; of a subtree, the sum of its nodes'."""
        if not self.model.is_subtree:
            return _shutdown_seconds(self.instance)
        return sum(_shutdown_seconds(node) for node in self._nodes() if _own(node, "shutdown_timeout"))

    def process_alive(self) -> bool:
        """Whether it owns a child process (as run_process and what derives from it) that still runs."""
        return any(_process_alive(node) for node in self._nodes())

    def drained(self) -> bool:
        """False while a process that has ended left output which is still being read."""
        return all(_drained(node) for node in self._nodes())

    @property
    def active(self) -> bool:
        return self.state in (ActionState.RUNNING, ActionState.STOPPING)

    def _nodes(self) -> list[Any]:
        return list(self.instance.iterate()) if self.model.is_subtree else [self.instance]


def _own(node: Any, name: str) -> Any:
    """An attribute of a plugin's node; None without one, or when its property raises."""
    try:
        return getattr(node, name, None)
    except Exception:  # foreign code
        return None


def _shutdown_seconds(node: Any) -> float:
    value = _own(node, "shutdown_timeout")
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value < 3600:
        return DEFAULT_SHUTDOWN_SECONDS
    return float(value)


def _process_alive(node: Any) -> bool:
    poll = getattr(_own(node, "process"), "poll", None)
    try:
        return callable(poll) and poll() is None
    except Exception:  # foreign code
        return False


def _drained(node: Any) -> bool:
    complete = _own(node, "is_output_complete")
    if not callable(complete) or _own(node, "process") is None or _process_alive(node):
        return True
    try:
        return bool(complete())
    except Exception:  # foreign code
        return True
