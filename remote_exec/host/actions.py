"""The actions of one session, in its worker: constructed, set up, ticked, cancelled, shut down.

Every action follows the table in `lifecycle` and is ticked by py_trees' own `tick_once`, so that
`initialise`, `update`, `terminate` and odd results (None, INVALID, no Status at all) behave as in a local
tree. Rules:

- No exception of a plugin leaves this module, but SystemExit, which ends the worker.
- `terminate(INVALID)` comes once per execution. An action that took the cancel (`request_cancel` gave
  true) or still owns a living process is ticked on until that is over; an `execute` waits until then.
- `run` is the id of the `execute` command whose status is meant.
- With a simulated clock `tick_all` ticks what runs, and nothing else does; what is ending uses real time.
- One thread calls everything here but `request_cancel_from_outside` and `busy`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Mapping
from typing import Any, Final

from py_trees.common import Status

from remote_exec.codec import clean_text
from remote_exec.errors import RemoteError, RemoteExecError
from remote_exec.host.construct import construct, model_of, py_trees_status
from remote_exec.host.context import SessionContext, SessionInfo
from remote_exec.host.foreign import Busy, Foreign
from remote_exec.host.hosted_action import HostedAction
from remote_exec.host.lifecycle import ActionState, Step, advance
from remote_exec.host.outputs import StreamedRegistry
from remote_exec.host.plugins import origin_of
from remote_exec.host.replies import error_reply
from remote_exec.host.schedule import Schedule
from remote_exec.host.simulated import ClientClock
from remote_exec.host.standins import ModelStandIn, WireLogger
from remote_exec.host.translate import translate
from remote_exec.host.variables import VariableStore

SETTLE_MARGIN: Final = 2.0
FEEDBACK_CHARS: Final = 8 * 1024
SETTLE_PERIOD: Final = 0.02
"""With a simulated clock: how often what was cancelled is ticked, in real time."""

_UNSEEN: Final = object()

Emit = Callable[[Mapping[str, Any]], None]
Done = Callable[[Mapping[str, Any]], None]
"""Takes the reply to a command."""


class ActionTable:
    """All actions of a worker."""

    def __init__(self, emit: Emit, now: Callable[[], float] = time.monotonic) -> None:
        self._emit = emit
        self._now = now
        self._actions: dict[str, HostedAction] = {}
        self._schedule = Schedule()
        self.busy: Busy | None = None
        self.logger: WireLogger | None = None
        self.variables = VariableStore(emit)
        self.processes: StreamedRegistry | None = None
        self.setup_kwargs: dict[str, Any] = {}
        self.tick_period = 0.1
        self.clock: ClientClock | None = None
        """Simulated time; None: the actions are ticked by real time."""
        self._context = SessionContext()

    # -- commands; each raises RemoteExecError

    def create(self, fields: Mapping[str, Any]) -> dict[str, str]:
        """The package that the plugin comes from, and its version."""
        action_id = fields["action"]
        if action_id in self._actions:
            raise RemoteError("wrong_state", f"action {action_id!r} exists already")
        model = model_of(fields)
        self.variables.arrive(fields)
        with self._foreign(action_id, "create", model):
            logger = self.logger.of_action(action_id) if self.logger is not None else None
            instance = construct(fields, model, logger)
        action = HostedAction(action_id, instance, model, self.tick_period)
        action.step(Step.CREATE)
        self._actions[action_id] = action
        return origin_of(fields["plugin"])

    def setup(self, action_id: str, extra: Mapping[str, Any] | None = None) -> None:
        action = self._get(action_id)
        advance(action.state, Step.SETUP)
        action.period = float((extra or {}).get("tick_period") or self.tick_period)
        with self._foreign(action_id, "setup", action.model):
            provided = self._context.kwargs(self._session_info)
            own = {"logger": action.instance.logger}
            action.set_up({**provided, **self.setup_kwargs, **own, **(extra or {})})
        action.step(Step.SETUP)

    def execute(self, run: int | None, fields: Mapping[str, Any], done: Done) -> None:
        """`done` gets status and feedback of the first update, at once or when a cancel is through."""
        action = self._get(fields["action"])
        self.variables.arrive(fields)
        if action.waiting is not None:
            raise RemoteError("wrong_state", "an execute of this action waits already")
        state = advance(action.state, Step.EXECUTE)

        def start(go: bool) -> None:
            if not go:
                done({"ok": True, "status": "invalid", "feedback": ""})
                return
            try:
                action.step(Step.EXECUTE)
                self._start(action, run, fields)
            except RemoteExecError as error:
                done(error_reply(error))
            else:
                done({"ok": True, "status": action.last[0], "feedback": action.last[1]})

        if state is ActionState.STOPPING:
            action.waiting = start
        else:
            start(True)

    def cancel(self, action_id: str, new_status: str = "INVALID") -> None:
        """What py_trees does to a node that is stopped from above: `stop(status)`, once.

        One that has ended is told, too, as py_trees does; but it is not ticked any more.
        """
        status = py_trees_status(new_status)
        action = self._get(action_id)
        action.answer_waiting(False)
        running = action.state is ActionState.RUNNING
        if running or action.state is ActionState.READY:
            self._stop(action, status)
        if running:
            self._settle_or_rest(action, status)

    def shutdown(self, action_id: str, done: Done) -> None:
        """Calls the plugin's shutdown() and forgets the action; an unknown one is no error.

        A process that it still owns is asked to stop first and waited for between ticks: shutdown()
        itself would wait for it and hold up the session's other actions.
        """
        action = self._actions.get(action_id)
        if action is None:
            done({"ok": True})
            return
        action.answer_waiting(False)
        if action.process_alive():
            self._end_process(action)
        if action.state is ActionState.STOPPING:
            action.waiting = lambda _: done(self.shutdown_now(action_id))
        else:
            done(self.shutdown_now(action_id))

    def drained(self, action_id: str) -> bool:
        """Nothing more is to be expected of what an action's process printed, now or while it lives on."""
        action = self._actions.get(action_id)
        return action is None or action.drained()

    def shutdown_now(self, action_id: str) -> dict[str, Any]:
        """As `shutdown`, whatever the action is doing. Returns the reply."""
        action = self._actions.pop(action_id, None)
        if action is None:
            return {"ok": True}
        action.step(Step.SHUTDOWN)
        try:
            with self._foreign(action_id, "shutdown", action.model):
                action.shut_down()
        except RemoteError as error:
            self._log_error(error)
            return error_reply(error)
        return {"ok": True}

    # -- time

    def tick_all(self) -> dict[str, list[str]]:
        """With a simulated clock: ticks what runs once. {action: [status, feedback]}."""
        if self.clock is None:
            raise RemoteError("wrong_state", "`tick` is for sessions whose clock is 'sim'")
        running = [a for a in self._actions.values() if a.state is ActionState.RUNNING]
        for action in running:
            self._update(action)
        return {action.id: list(action.last) for action in running}

    def tick_due(self, skip: Collection[str] = ()) -> None:
        """Ticks every action whose time has come."""
        now = self._now()
        if self.processes is not None:
            self.processes.send_due(now)
        due = self._schedule.take(now)
        if not due:
            return
        chosen = [a for a in self._actions.values() if a.id in due and a.id not in skip and self._timed(a)]
        # All of them before the first is ticked: it may hang, and another thread then ends the others.
        for action in chosen:
            self._tick_later(action, now)
        for action in chosen:
            if action.state is ActionState.STOPPING:
                self._settle_tick(action)
            elif self._timed(action):
                self._update(action)

    def next_due(self) -> float:
        """When `tick_due` next may have something to do; infinity: never."""
        outputs = self.processes.next_due() if self.processes is not None else None
        return self._schedule.next if outputs is None else min(self._schedule.next, outputs)

    def _timed(self, action: HostedAction) -> bool:
        """Whether real time ticks it."""
        state = action.state
        return state is ActionState.STOPPING or (state is ActionState.RUNNING and self.clock is None)

    # -- for the end of the session

    def close_context(self) -> None:
        """After the last shutdown: what extensions gave to the actions."""
        self.busy = Busy("", "close", self._now())
        problem = self._context.close()
        self.busy = None
        if problem:
            self._emit_log("warning", problem)

    def ids(self) -> list[str]:
        return list(self._actions)

    def any_running(self) -> bool:
        return any(a.state is ActionState.RUNNING or a.waiting for a in self._actions.values())

    def any_active(self, skip: Collection[str] = ()) -> bool:
        return any(a.active and a.id not in skip for a in self._actions.values())

    def cancel_all(self, skip: Collection[str] = ()) -> None:
        """Whatever runs, or left a process running when it succeeded, is asked to stop; side by side."""
        for action in list(self._actions.values()):
            if action.id in skip:
                continue
            if action.process_alive():
                self._end_process(action)
            elif action.state is ActionState.RUNNING or action.waiting:
                self.cancel(action.id)

    def shutdown_seconds(self, action_id: str | None = None) -> float:
        """The longest that one of them (or that one) may take to shut down."""
        chosen = [a for a in list(self._actions.values()) if action_id in (None, a.id)]
        return max((a.shutdown_seconds for a in chosen), default=0.0)

    def request_cancel_from_outside(self, action_id: str) -> None:
        """From another thread, while the main one is busy in foreign code."""
        action = self._actions.get(action_id)
        if action is not None and action.state is ActionState.RUNNING:
            try:
                action.request_cancel()
            except Exception as error:  # foreign code
                self._log_error(translate(error, action.model))

    # -- inside

    def _session_info(self) -> SessionInfo:
        paths = {name: self.setup_kwargs.get(name) for name in ("output_dir", "input_dir")}
        return SessionInfo(logger=self.logger, tick_period=self.tick_period, clock=self.clock, **paths)

    def _get(self, action_id: str) -> HostedAction:
        action = self._actions.get(action_id)
        if action is None:
            raise RemoteError("unknown_action", f"no action {action_id!r} in this session")
        return action

    def _stop(self, action: HostedAction, status: Status) -> None:
        if action.instance.status == Status.INVALID:
            return
        try:
            with self._foreign(action.id, "cancel", action.model):
                action.instance.stop(status)
        except RemoteError as error:
            self._log_error(error)
            action.instance.status = status

    def _end_process(self, action: HostedAction) -> None:
        """Before shutdown(): a process that the action left running when it ended is settled, too."""
        self.cancel(action.id)
        if action.state is ActionState.READY:
            self._settle_or_rest(action, Status.INVALID)

    def _start(self, action: HostedAction, run: int | None, fields: Mapping[str, Any]) -> None:
        action.model.args = dict(fields["args"])
        if fields.get("actor") is not None:
            action.model.set_actor(fields["actor"])
        action.run, action.seen = run, (None, None)
        action.forget_cancel()
        self._tick_later(action, self._now())
        try:
            with self._foreign(action.id, "execute", action.model):
                # py_trees initialises whatever is not RUNNING.
                action.instance.status = Status.INVALID
                action.instance.tick_once()
                action.last = self._result(action)
        except RemoteError:
            self._fail(action)
            raise
        self._after_tick(action)

    def _update(self, action: HostedAction) -> None:
        try:
            with self._foreign(action.id, "update", action.model):
                action.instance.tick_once()
                now = self._result(action)
        except RemoteError as error:
            self._fail(action)
            place = error.where.rpartition(":")[0]
            now = ("failure", clean_text(str(error) + (f" ({place})" if place else ""), FEEDBACK_CHARS))
            self._push(action, now)
            self._log_error(error)
            return
        if now != action.last:
            self._push(action, now)
        self._after_tick(action)

    def _push(self, action: HostedAction, now: tuple[str, str]) -> None:
        action.last = now
        if self.clock is not None:
            return  # the answer to `tick` tells it
        self._emit(
            {
                "ev": "status",
                "action": action.id,
                "status": now[0],
                "feedback": now[1],
                "run": action.run,
            }
        )

    def _result(self, action: HostedAction) -> tuple[str, str]:
        """Status and feedback as they cross; the same object as before where nothing has changed."""
        if self.processes is not None:
            self.processes.send_of(action.instance)
        status, feedback = action.instance.status, action.feedback
        if status is action.seen[0] and feedback is action.seen[1]:
            return action.last
        # Only what cannot change behind our back is recognised again.
        action.seen = (status, feedback if type(feedback) is str else _UNSEEN)
        return status.value.lower(), clean_text(feedback, FEEDBACK_CHARS)

    def _after_tick(self, action: HostedAction) -> None:
        if action.state is not ActionState.RUNNING or action.instance.status == Status.RUNNING:
            return
        if action.instance.status == Status.INVALID:
            self._settle_or_rest(action, Status.INVALID)
        else:
            action.step(Step.FINISH)

    def _fail(self, action: HostedAction) -> None:
        """After an exception the action counts as failed; py_trees would tell it so."""
        action.step(Step.FINISH)
        try:
            with self._foreign(action.id, "terminate", action.model):
                action.instance.stop(Status.FAILURE)
        except RemoteError as error:
            self._log_error(error)
            action.instance.status = Status.FAILURE

    def _settle_or_rest(self, action: HostedAction, status: Status) -> None:
        """After stop(): on to `stopping` when something is still ending, else it may be executed again."""
        action.step(Step.CANCEL)
        if status == Status.INVALID and (action.took_cancel or action.process_alive()):
            action.settle_until = self._now() + action.shutdown_seconds + SETTLE_MARGIN
            self._tick_later(action, self._now())
        else:
            action.step(Step.SETTLE)

    def _settle_tick(self, action: HostedAction) -> None:
        running = False
        try:
            with self._foreign(action.id, "update", action.model):
                running = action.settle()
        except RemoteError as error:
            self._log_error(error)
        if running or action.process_alive():
            if self._now() < action.settle_until:
                return
            text = f"{action.instance.name} was cancelled and has not ended within its time"
            self._emit_log("warning", text)
        action.step(Step.SETTLE)
        action.answer_waiting(True)

    def _tick_later(self, action: HostedAction, now: float) -> None:
        self._schedule.put(action.id, action.period if self.clock is None else SETTLE_PERIOD, now)

    def _foreign(self, action_id: str, phase: str, model: ModelStandIn) -> Foreign:
        return Foreign(self, Busy(action_id, phase, self._now()), model)

    def _log_error(self, error: RemoteError) -> None:
        self._emit_log("error", f"{error}\n{error.traceback}" if error.traceback else str(error))

    def _emit_log(self, level: str, text: str) -> None:
        if self.logger is not None:
            getattr(self.logger, level)(text)
