"""The behaviour that stands in the tree for an action which runs on a host.

It behaves like the action, at no cost to the tree:
- initialise() resolves the arguments exactly as BaseAction.initialise does, and sends them.
- update() reads what has arrived: no I/O, no lock, no exception. In the first tick of an execution it waits
  for the reply while the tick's budget lasts.
- terminate(INVALID) sends one cancel per execution.
- What goes wrong on the host is FAILURE with the reason in `feedback_message`; in setup() it is raised.
- It carries the action's name and position, whatever the modifier's own position is.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from typing import Any

import py_trees
from py_trees.common import Status

from remote_exec.client.paths import PathMap
from remote_exec.client.session import Reply
from remote_exec.codec import check_value
from remote_exec.errors import RemoteExecError, SetupFailed, ValueDoesNotCross
from remote_exec.tree.host_session import HostSession
from remote_exec.tree.resolve import (
    ResolvedCall,
    actor_path,
    actor_values,
    has_command,
    is_subtree,
    resolve_call,
    source_text,
)
from remote_exec.tree.runner import Runner, runner_of
from remote_exec.tree.scenario import Scenario
from remote_exec.tree.target import OpenerFactory, Target

_AS_HERE = PathMap()
STATUSES = {status.value.lower(): status for status in Status}


class RemoteAction(py_trees.behaviour.Behaviour):  # type: ignore[misc]
    """See the module's text.

    action: the local instance, which is never set up nor executed. Times in seconds;
    heartbeat_failure_timeout 0 means the host's lease.
    """

    def __init__(
        self,
        action: Any,
        target: Target,
        opener_factory: OpenerFactory,
        heartbeat_failure_timeout: float,
        setup_timeout: float,
    ) -> None:
        super().__init__(action.name)
        self.action = action
        self.target = target
        self.opener_factory = opener_factory
        self.heartbeat_failure_timeout = heartbeat_failure_timeout
        self.setup_timeout = setup_timeout
        self.action_id = str(uuid.uuid4())
        self._model = action._model
        self._runner: Runner | None = None
        self._scenario: Scenario | None = None
        self._host: HostSession | None = None
        self._run = 0
        """Id of the execute command whose outcome counts; 0: none."""
        self._reply_due = False
        self._executed = False
        self._state = Status.INVALID
        self._longest_shutdown = 0.0

    @property
    def osc_source(self) -> Any:
        """(file, line, column) of the action. The runner would set it to the modifier's line."""
        return getattr(self.action, "osc_source", None)

    @osc_source.setter
    def osc_source(self, value: Any) -> None:
        if getattr(self.action, "osc_source", None) is None:
            self.action.osc_source = value

    # --- setup

    def setup(self, **kwargs: Any) -> None:
        """Raises SetupFailed. The first proxy of a tree sets all of them up at their hosts."""
        if self._scenario is None or self._scenario.ended or self._scenario.was_set_up(self):
            self._begin(kwargs)
        assert self._scenario is not None and self._runner is not None
        self.logger.debug(f"{self.name}: waiting for the setup on {self.target.name}")
        try:
            self._host = self._scenario.finish_setup(self)
        finally:
            self._runner.setup_left(self._scenario)

    def _begin(self, kwargs: Mapping[str, Any]) -> None:
        root = self
        while root.parent is not None:
            root = root.parent
        proxies = [node for node in root.iterate() if isinstance(node, RemoteAction)]
        logger = kwargs.get("logger") or self.logger
        runner = runner_of(root, logger, self.opener_factory)
        scenario = runner.begin(root, proxies, kwargs)
        for proxy in proxies:
            proxy._join(runner, scenario)

    def _join(self, runner: Runner, scenario: Scenario) -> None:
        self._runner, self._scenario, self._host = runner, scenario, None
        self._run, self._reply_due, self._executed = 0, False, False

    def create_fields(self, paths: PathMap = _AS_HERE) -> Mapping[str, Any]:
        """The fields of `create`; `paths` is the host's. Raises SetupFailed if a value cannot cross."""
        words = has_command(self.action)
        init_args = paths.value(self.action._external_init_args, words=words)
        actor = actor_values(self.action)
        # What a subtree may ask for while it builds.
        args = paths.value(resolve_call(self.action).args) if is_subtree(self.action) else None
        try:
            check_value(init_args, "init_args")
            check_value(actor, "associated_actor")
            check_value(args, "args")
        except ValueDoesNotCross as e:
            raise SetupFailed(f"action '{self.name}' on {self.target.name} ({self.where()}): {e}") from e
        return {
            "plugin": self.action._external_plugin_key,
            "name": self.name,
            "label": self._model.name or None,
            "source": [*self.osc_source, source_text(self.action)] if self.osc_source else None,
            "init_args": init_args,
            "actor": actor,
            "args": args,
            "actor_path": actor_path(self.action),
        }

    def where(self) -> str:
        """``file:line:column`` of the action."""
        return ":".join(str(part) for part in self.osc_source or ("no .osc file",))

    # --- ticks

    def initialise(self) -> None:
        self.feedback_message = ""
        self._run = 0
        self._state = Status.RUNNING
        if self._host is None or self._scenario is None:
            self._fail("setup() of this action has not been called")
            return
        self._scenario.refresh()
        if self._host.gone:
            self._fail(self._host.gone)
            return
        try:
            call = resolve_call(self.action)
            self._send(call)
        except RemoteExecError as e:
            self._fail(str(e))
        except Exception as e:
            # Locally an exception here would end the run without results.
            self._fail(f"{type(e).__name__}: {e}")

    def _send(self, call: ResolvedCall) -> None:
        assert self._host is not None
        args = self._host.paths.arguments(call.args, commands=has_command(self.action))
        check_value(args, "args")
        check_value(call.actor, "associated_actor")
        timeout = args.get("shutdown_timeout")
        if isinstance(timeout, (int, float)):
            self._longest_shutdown = max(self._longest_shutdown, float(timeout))
        assert self._scenario is not None
        fields = {
            "action": self.action_id,
            "args": args,
            "actor": call.actor,
            "t": self._scenario.simulated_time(),
        }
        number = self._host.execute(fields, call.variables, self._took_reply)
        self._reply_due = self._executed = True
        self._run = number

    def update(self) -> Status:
        if self._scenario is not None:
            self._scenario.refresh()
            if self._reply_due and self.status != Status.RUNNING and self._host is not None:
                self._scenario.wait_in_tick(self._host, lambda: not self._reply_due)
        return self._state

    def terminate(self, new_status: Status) -> None:
        if new_status != Status.INVALID or not self._executed:
            return
        self._executed = self._reply_due = False
        self._run = 0
        if self._host is not None and not self._host.gone:
            now = self._scenario.simulated_time() if self._scenario is not None else None
            self._host.call("cancel", {"action": self.action_id, "t": now}, lambda reply: None)

    def shutdown(self) -> None:
        """Ends the sessions of the whole tree (py_trees shuts a tree down as a whole). Idempotent."""
        if self._runner is not None and self._scenario is not None and not self._scenario.ended:
            self._runner.tree_shut_down()

    # --- what comes back, in the tree's thread

    def _took_reply(self, reply: Reply) -> None:
        if reply.id != self._run:
            return
        if not self._reply_due:
            return  # a status of this execution has overtaken its repeated reply
        self._reply_due = False
        if reply.error is None:
            self._take(str(reply.fields.get("status")), str(reply.fields.get("feedback") or ""))
            return
        place = f" ({reply.error.where})" if reply.error.where else ""
        self._fail(f"{reply.error}{place}")
        if reply.error.traceback and self._runner is not None:
            text = f"action '{self.name}' failed: {reply.error}{place}\n{reply.error.traceback}"
            for line in text.splitlines():
                self._runner.say("error", f"[{self.target.name}] {line}")

    def took_status(self, status: str, feedback: str, run: int | None) -> None:
        """An event of the host. Of an execution that does not count any more, it is dropped."""
        if not self._run or (run is None and self._reply_due) or (run is not None and run != self._run):
            return
        self._reply_due = False
        self._take(status, feedback)

    def host_gone(self, reason: str) -> None:
        if self._run:
            self._fail(reason)

    @property
    def running(self) -> bool:
        return self._run != 0 and self._state == Status.RUNNING

    def longest_shutdown(self) -> float:
        """Seconds that the action may take to end what it started."""
        return self._longest_shutdown

    def _take(self, status: str, feedback: str) -> None:
        self._state = STATUSES.get(status, Status.FAILURE)
        self.feedback_message = feedback

    def _fail(self, reason: str) -> None:
        self._run = 0
        self._reply_due = False
        self._state = Status.FAILURE
        self.feedback_message = reason
