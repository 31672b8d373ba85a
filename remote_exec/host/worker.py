"""The process in which one session's actions run.

The main thread runs foreign code and nothing else: it takes commands from a queue, and ticks. A second
thread owns the channel to the front: it reads commands, writes what waits, says when the main thread is
busy, carries a cancel to an action that is busy itself, and watches over the end (ending.py).

The end is bounded: the keeper ends the process when its budget is over. It hears through a pipe
`budget SECONDS` (when the end begins) and `done`.
"""

from __future__ import annotations

import contextlib
import fcntl
import math
import os
import queue
import select
import sys
import threading
import time
import traceback
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from remote_exec.codec import INTERNAL_BYTES, unpack
from remote_exec.errors import BadMessage, RemoteError, RemoteExecError
from remote_exec.host.channel import Channel
from remote_exec.host.ending import Ending, in_thread
from remote_exec.host.outbox import Outbox
from remote_exec.host.replies import error_reply

if TYPE_CHECKING:
    from remote_exec.host.actions import ActionTable

BUSY_SECONDS: Final = 1.0
"""A call into a plugin that takes longer is reported, once a second."""
CANCEL_SECONDS: Final = 0.25
"""A cancel that the main thread has not taken by then goes to the action from outside."""
DRAIN_SECONDS: Final = 0.5
"""For output of a process that has ended; longer only somebody who inherited it holds it open."""
MAX_BUDGET: Final = 300.0
HUNG_EXIT_CODE: Final = 1
"""Of a worker whose end was up to another thread, since foreign code hung: not in order (host/safety.py)."""
LOGGER_NAME: Final = "scenario_execution"


class Worker:
    """One session's process: see the module's text."""

    def __init__(self, channel: Channel, keeper_fd: int) -> None:
        self._channel = channel
        self._keeper_fd = keeper_fd
        self._commands: queue.SimpleQueue[dict[str, Any]] = queue.SimpleQueue()
        self._wake_r, self._wake_w = os.pipe()
        os.set_blocking(self._wake_w, False)
        self._outbox = Outbox(channel, self._wake)
        self._table: ActionTable | None = None
        self._import_error = ""
        self._finishing = False
        self._unhandled_cancels: dict[int, tuple[str, float]] = {}
        self._ending: Ending | None = None
        self._busy_said = 0.0
        self._holding: int | None = None

    def run(self) -> None:
        """Returns when the session has ended; SystemExit of a plugin passes through."""
        try:
            from remote_exec.host.actions import ActionTable

            self._table = ActionTable(self._outbox.send)
            self._table.variables.install()
        except Exception as error:  # whatever the installation of scenario_execution does
            self._import_error = (
                f"scenario_execution cannot be imported by {sys.executable}: {type(error).__name__}: {error}"
            )
        threading.Thread(target=self._io_thread, name="se-remote-io", daemon=True).start()
        while True:
            message = self._next_command()
            if self._ending is not None:
                self._ending.run()
                break
            if message is not None:
                self._handle(message)
            if self._table is not None:
                self._table.tick_due()
                if self._finishing and not self._waits_for(self._table):
                    self._begin_end()

    def flush(self, seconds: float = 1.0) -> None:
        """Waits until the front has what was said, bounded."""
        self._outbox.report_dropped(last=True)
        deadline = time.monotonic() + seconds
        while not self._outbox.flush() and time.monotonic() < deadline:
            select.select([], [self._channel], [], 0.05)
        self._tell_keeper("done")

    def say(self, level: str, text: str) -> None:
        """A log record of the worker itself."""
        self._outbox.log(level, "se-remote", text)

    # -- main thread

    @staticmethod
    def _waits_for(table: ActionTable) -> bool:
        """Without the client, simulated time stands still."""
        return table.clock is None and table.any_running()

    def _next_command(self) -> dict[str, Any] | None:
        due = self._table.next_due() if self._table is not None else math.inf
        timeout = None if due == math.inf else max(0.0, due - time.monotonic())
        with contextlib.suppress(queue.Empty):
            return self._commands.get(timeout=timeout)
        return None

    def _handle(self, message: Mapping[str, Any]) -> None:
        cmd, msg_id = message.get("cmd"), message.get("id")
        if cmd == "finish":
            self._finishing = bool(message.get("on"))
            return
        if cmd == "end" or not isinstance(msg_id, int):
            return
        self._unhandled_cancels.pop(msg_id, None)

        def done(body: Mapping[str, Any]) -> None:
            self._outbox.send({"re": msg_id, **body}, more=not self._commands.empty())

        try:
            if self._table is None:
                raise RemoteError("internal", self._import_error)
            body = self._command(self._table, str(cmd), message, done)
        except RemoteExecError as error:
            body = error_reply(error)
        if body is not None:
            done(body)

    def _command(
        self, table: ActionTable, cmd: str, message: Mapping[str, Any], done: Any
    ) -> dict[str, Any] | None:
        """The reply; None: `done` is called, now or later."""
        if table.clock is not None and message.get("t") is not None:
            table.clock.set(float(message["t"]))
        if cmd == "configure":
            self._configure(table, message)
        elif cmd in ("create", "setup", "execute") and table.logger is None:
            raise RemoteError("wrong_state", "`configure` comes first, and it failed")
        elif cmd == "create":
            if message.get("output_dir") is not None:
                _set_config(output_directory=message["output_dir"])
            return {"ok": True, **table.create(message)}
        elif cmd == "setup":
            table.setup(message["action"], self._v1_setup(message.get("extra")))
        elif cmd == "execute":
            table.execute(message["id"], message, done)
            return None
        elif cmd == "cancel":
            table.cancel(message["action"], str(message.get("status") or "INVALID"))
        elif cmd == "shutdown":
            table.shutdown(message["action"], done)
            return None
        elif cmd == "describe":
            from remote_exec.host.plugins import describe_plugins

            return {"ok": True, "plugins": describe_plugins()}
        elif cmd == "signature":
            from remote_exec.host.plugins import describe_plugin

            return {"ok": True, "plugin": describe_plugin(message["plugin"])}
        elif cmd == "drain":
            in_thread(partial(_drain, table, message["action"]), done)
            return None
        elif cmd == "tick":
            return {"ok": True, "statuses": table.tick_all()}
        elif cmd == "set":
            table.variables.arrive(message)
        else:
            raise RemoteError("unknown_command", f"unknown command {cmd!r}")
        return {"ok": True}

    def _configure(self, table: ActionTable, fields: Mapping[str, Any]) -> None:
        from scenario_execution.simulation import HostClock

        from remote_exec.host.outputs import StreamedRegistry
        from remote_exec.host.simulated import ClientClock
        from remote_exec.host.standins import WireLogger

        if fields["clock"] not in ("host", "sim"):
            raise RemoteError("bad_message", f"clock: expected 'host' or 'sim', got {fields['clock']!r:.40}")
        if not 0 < fields["tick_period"] < 3600:
            raise RemoteError("bad_message", f"tick_period: {fields['tick_period']} is no period in seconds")
        _set_config(fields["scenario_file_directory"], fields["output_dir"])
        self._hold(fields["output_dir"])
        folder = fields["scenario_file_directory"]
        if fields.get("chdir", True):
            with contextlib.suppress(OSError):
                home = os.environ.get("SE_REMOTE_WORKDIR") or Path.home()
                os.chdir(folder if folder and Path(folder).is_dir() else home)
        table.logger = WireLogger(LOGGER_NAME, bool(fields["debug"]), self._outbox.log)
        table.tick_period = float(fields["tick_period"])
        simulated = fields["clock"] == "sim"
        table.clock = ClientClock(table.tick_period) if simulated else None
        if table.processes is None:
            emit = self._outbox.send if fields.get("outputs") else None
            table.processes = StreamedRegistry(emit, table.tick_period)
        previous = table.setup_kwargs
        table.setup_kwargs = {
            "logger": table.logger,
            "output_dir": fields["output_dir"],
            "input_dir": fields["input_dir"],
            "tick_period": table.tick_period,
            "host_clock": previous.get("host_clock") or HostClock(),
            "process_registry": table.processes,
        }
        if table.clock is not None:
            table.setup_kwargs["clock"] = table.clock

    def _hold(self, output_dir: str | None) -> None:
        """Say by a lock that the session still writes there, as long as this process lives: `pull` looks."""
        if output_dir is not None and self._holding is None:
            with contextlib.suppress(OSError):
                self._holding = os.open(output_dir, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
                fcntl.flock(self._holding, fcntl.LOCK_EX | fcntl.LOCK_NB)

    def _v1_setup(self, extra: Mapping[str, Any] | None) -> dict[str, Any]:
        """v1 says with `setup` what v2 says with `configure`."""
        if extra is None:
            return {}
        _set_config(extra.get("scenario_file_directory"), extra.get("output_dir"))
        return {
            "tick_period": float(extra.get("tick_period") or 0.1),
            "output_dir": extra.get("output_dir"),
            "input_dir": extra.get("scenario_file_directory"),
        }

    # -- the thread that owns the channel

    def _io_thread(self) -> None:
        """Its end, as when a plugin closed what is not its own, is a crash: nobody reaches the session."""
        try:
            self._io_loop()
        except BaseException:
            with contextlib.suppress(Exception):
                traceback.print_exc()
            os._exit(1)

    def _io_loop(self) -> None:
        while True:
            writers = [] if self._outbox.flush() else [self._channel]
            ended = self._ending is not None
            readers: list[Any] = [self._wake_r] if self._channel.closed else [self._channel, self._wake_r]
            ready, _, _ = select.select(readers, writers, [], 0.05 if ended else 0.25)
            if self._wake_r in ready:
                os.read(self._wake_r, 4096)
            if self._channel in ready:
                self._read()
            self._watch_over_main()

    def _read(self) -> None:
        for body in self._channel.receive():
            try:
                message = unpack(body, INTERNAL_BYTES)
            except BadMessage:
                continue
            if message.get("cmd") == "end":
                self._begin_end()
            elif message.get("cmd") == "cancel":
                self._unhandled_cancels[message["id"]] = (message["action"], time.monotonic())
            self._commands.put(message)
        if self._channel.closed:
            self._begin_end()

    def _watch_over_main(self) -> None:
        now, table = time.monotonic(), self._table
        self._outbox.report_dropped()
        if table is None:
            return
        for msg_id, (action, since) in list(self._unhandled_cancels.items()):
            if now - since > CANCEL_SECONDS and self._unhandled_cancels.pop(msg_id, ("", 0.0))[0]:
                in_thread(table.request_cancel_from_outside, action)
        busy = table.busy
        if busy is not None and now - busy.since > BUSY_SECONDS and now - self._busy_said > BUSY_SECONDS:
            self._busy_said = now
            self._outbox.send(
                {"ev": "busy", "action": busy.action, "phase": busy.phase, "since": now - busy.since}
            )
        if self._ending is not None and self._ending.watch(now):
            self.flush()
            os._exit(HUNG_EXIT_CODE)

    def _begin_end(self) -> None:
        if self._ending is None:
            longest = self._table.shutdown_seconds() if self._table is not None else 0.0
            budget = min(MAX_BUDGET, 2 * longest + 10.0)
            self._tell_keeper(f"budget {budget:.1f}")
            self._ending = Ending(self._table, budget)
            self._commands.put({"cmd": "end"})

    def _tell_keeper(self, line: str) -> None:
        with contextlib.suppress(OSError):
            os.write(self._keeper_fd, line.encode() + b"\n")

    def _wake(self) -> None:
        with contextlib.suppress(OSError):
            os.write(self._wake_w, b".")


def _set_config(scenario_file_directory: str | None = None, output_directory: str | None = None) -> None:
    """What plugins read at construction; what is None stays as it is."""
    from scenario_execution.scenario_execution_base import ScenarioExecutionConfig

    config = ScenarioExecutionConfig()
    if scenario_file_directory is not None:
        config.scenario_file_directory = scenario_file_directory
    if output_directory is not None:
        config.output_directory = output_directory


def _drain(table: ActionTable, action_id: str, done: Callable[[Mapping[str, Any]], None]) -> None:
    """In a thread of its own: the main one goes on ticking."""
    deadline = time.monotonic() + DRAIN_SECONDS
    while not table.drained(action_id) and time.monotonic() < deadline:
        time.sleep(0.002)
    done({"ok": True})


def main(channel: Channel, keeper_fd: int) -> int:
    """The whole life of a worker process, in the forked child. Returns its exit code."""
    worker = Worker(channel, keeper_fd)
    code = 0
    try:
        worker.run()
    except SystemExit as error:
        code = error.code if isinstance(error.code, int) else 0 if error.code is None else 1
        worker.say("error", f"an action called sys.exit({error.code!r}): it ends all actions of its session")
    except BaseException:
        traceback.print_exc()
        code = 1
    worker.flush()
    return code
