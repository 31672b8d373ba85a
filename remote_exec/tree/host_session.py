"""One scenario's session at one host: its commands and what comes back. In the tree's thread.

Rules:
- The hub's thread only queues, but for log lines, which go straight to the printer.
- What comes is applied in the order in which the host said it: values before the status that follows them.
- When the session is over, its actions fail at once.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import Any, Protocol

from remote_exec.client.hub import HostLink
from remote_exec.client.link import Delivery, Gone, RemoteSession
from remote_exec.client.notices import lease_text
from remote_exec.client.paths import PathMap
from remote_exec.client.session import Event, Reply
from remote_exec.errors import HostLost, RemoteError, ValueDoesNotCross
from remote_exec.tree.outputs import RemoteProcesses
from remote_exec.tree.target import Carried, Target
from remote_exec.tree.variables import HostVariables
from remote_exec.tree.versions import Versions

SAY_DROPPED_S = 1.0
CLOCK_TOLERANCE_S = 1.0
_NOTHING_CARRIED = Carried()
_FOLDERS = ("scenario_file_directory", "input_dir")


class Desk(Protocol):
    """What a scenario needs of the run it belongs to (see runner.py)."""

    hurry: bool

    def now(self) -> float: ...
    def say(self, level: str, text: str) -> None: ...
    def queue(self, sink: Callable[[Any], None], item: Any) -> None:
        """From any thread: have `sink(item)` called by the tree's thread."""

    def pump(self) -> None:
        """Apply what came."""

    def tick_begins(self) -> bool:
        """Apply what came; False: nothing must be ticked any more."""

    def show_lines(self) -> None:
        """Let the lines that are here be printed, briefly."""

    def wait(self, done: Callable[[], bool], deadline: float, abortable: bool = True) -> bool: ...

    def interrupted(self) -> bool:
        """A signal came: the run is to end."""


class RemoteActionPort(Protocol):
    """A proxy, as its scenario sees it."""

    name: str
    action_id: str
    target: Target
    setup_timeout: float

    @property
    def running(self) -> bool:
        """Its last known status, of an execution that counts."""

    def create_fields(self, paths: PathMap) -> Mapping[str, Any]: ...
    def where(self) -> str: ...
    def took_status(self, status: str, feedback: str, run: int | None) -> None: ...
    def host_gone(self, reason: str) -> None: ...
    def longest_shutdown(self) -> float: ...


class HostSession:
    """One scenario's session at one host, in the tree's thread."""

    def __init__(
        self, desk: Desk, target: Target, link: HostLink, registry: Any, carried: Carried = _NOTHING_CARRIED
    ) -> None:
        self.target = target
        self.link = link
        self.paths = PathMap(carried.paths)
        self._output = carried.output
        self.gone = ""
        self.left: list[str] = []
        self.said_bye = False
        self.unconfirmed = ""
        """Why it was not heard that everything has ended there, after it was asked for."""
        self._leaving = False
        """Its worker died: it is over for the tree, and the host has not answered the goodbye yet."""
        self.hello_at: float | None = None
        self._desk = desk
        self._actions: dict[str, RemoteActionPort] = {}
        self._calls: dict[int, Callable[[Reply], None]] = {}
        self._setup: dict[str, dict[str, Reply | None]] = {}
        self._plugins: dict[str, str] = {}
        self._versions = Versions(target.name)
        self._configured: Reply | None = None
        self._busy_said: dict[str, float] = {}
        self._dropped = 0
        """Log lines that the host has dropped and that were not told of."""
        self._say_dropped_at = 0.0
        self._variables = HostVariables(self._say)
        self._processes = RemoteProcesses(registry)
        self._session: RemoteSession = link.session(self._deliver)

    # --- commands

    def call(self, cmd: str, fields: Mapping[str, Any], then: Callable[[Reply], None]) -> int:
        """Send a command; `then` gets its reply in the tree's thread. Raises ValueDoesNotCross."""
        number = self._session.send(cmd, fields)
        self._calls[number] = then
        return number

    def configure(self, fields: Mapping[str, Any]) -> None:
        """The same for all hosts, but for what folders are called there."""
        folders = {name: self.paths.value(fields[name]) for name in _FOLDERS if name in fields}
        output = {"output_dir": self._output} if self._output else {}
        self.call("configure", {**fields, **folders, **output}, self._took_configured)

    def add(self, action: RemoteActionPort) -> None:
        """Create an action and set it up; `setup_of` tells how it went."""
        self._actions[action.action_id] = action
        replies: dict[str, Reply | None] = {"create": None, "setup": None}
        self._setup[action.action_id] = replies

        def take(reply: Reply) -> None:
            replies[reply.cmd] = reply

        fields = {"action": action.action_id, **action.create_fields(self.paths)}
        if fields["actor_path"]:
            self._variables.refer_below(fields["actor_path"])
            fields["vars"] = self._variables.news()
        self._plugins[action.action_id] = str(fields["plugin"])
        self.call("create", fields, take)
        self.call("setup", {"action": action.action_id}, take)

    def execute(
        self, fields: Mapping[str, Any], variables: Collection[str], then: Callable[[Reply], None]
    ) -> int:
        """Send an `execute` that refers to these variables. Raises ValueDoesNotCross."""
        self._variables.refer(variables)
        news = self._variables.news(variables)
        return self.call("execute", {**fields, "vars": news, "seen": self._variables.seen}, then)

    def send_variables(self) -> None:
        """What changed here goes to the host; to be called at the end of a tick."""
        if self.gone or self.said_bye:
            return
        news = self._variables.news()
        if not news:
            return
        try:
            self.call("set", {"vars": news, "seen": self._variables.seen}, lambda reply: None)
        except ValueDoesNotCross as e:  # one by one they do; together they are too large
            self._say("warning", f"{e}; actions there see what the variables were before")

    def setup_over(self, action_id: str) -> bool:
        """Everything that an action's setup waits for is here, or will never be."""
        replies = list(self._setup[action_id].values())
        if self.gone or self._setup_error(action_id) is not None:
            return True
        return self._configured is not None and all(reply is not None for reply in replies)

    def check_setup(self, action_id: str) -> None:
        """Raises RemoteError or HostLost if the action's setup went wrong."""
        error = self._setup_error(action_id)
        if error is not None:
            raise error
        if self.gone:
            raise HostLost(self.gone)

    def compare_version(self, action: RemoteActionPort) -> None:
        """Warn if the action's package is of another version there. After its setup."""
        created = self._setup[action.action_id]["create"]
        plugin = self._plugins[action.action_id]
        if created is not None:
            text = self._versions.difference(plugin, action.name, action.where(), created.fields)
            if text:
                self._desk.say("warning", text)

    def _setup_error(self, action_id: str) -> RemoteError | None:
        replies = [self._configured, *self._setup[action_id].values()]
        return next((r.error for r in replies if r is not None and r.error is not None), None)

    def bye(self, release: bool, abort: bool = False) -> None:
        """abort: what runs is given up, so the host's `on_stop` runs after it."""
        if not self.said_bye and not self.gone:
            self.said_bye = True
            self.call("bye", {"release": release, "abort": abort}, self._took_bye)

    @property
    def over(self) -> bool:
        return bool(self.gone)

    @property
    def ended(self) -> bool:
        """It is over at the host, too, as far as anybody will hear."""
        return self.over and not self._leaving

    def longest_shutdown(self) -> float:
        return sum(action.longest_shutdown() for action in self._actions.values())

    def any_running(self) -> bool:
        return any(action.running for action in self._actions.values())

    # --- what comes back

    def took_statuses(self, reply: Reply) -> None:
        """The answer to `tick`."""
        if reply.error is not None:
            self.lost(f"{self.target.name} could not follow the simulated time: {reply.error}")
            return
        statuses = reply.fields.get("statuses") or {}
        for action_id, (status, feedback) in statuses.items():
            action = self._actions.get(action_id)
            if action is not None:
                action.took_status(status, feedback, None)

    def _deliver(self, item: Delivery) -> None:
        """In the hub's thread."""
        if isinstance(item, Event) and item.name == "log":
            self._print(item.fields)
        else:
            self._desk.queue(self._apply, item)

    def _say(self, level: str, text: str) -> None:
        self._desk.say(level, f"[{self.target.name}] {text}")

    def _print(self, fields: Mapping[str, Any]) -> None:
        self._dropped += fields.get("dropped") or 0
        if self._dropped and self._desk.now() >= self._say_dropped_at:
            self._say_dropped()
        for line in fields["text"].splitlines() or [""]:
            self._desk.say(fields["level"], f"[{self.target.name}] {line}")

    def _say_dropped(self) -> None:
        """How many lines are missing; once a second, or a flood's every line would come with a number."""
        dropped, self._dropped = self._dropped, 0
        self._say_dropped_at = self._desk.now() + SAY_DROPPED_S
        if dropped:
            text = f"{dropped} log lines were dropped on the host: they came too fast"
            self._desk.say("warning", f"[{self.target.name}] {text}")

    def _apply(self, item: Delivery) -> None:
        if isinstance(item, Reply):
            then = self._calls.pop(item.id, None)
            if item.cmd == "hello":
                self._took_hello(item)
            elif then is not None:
                then(item)
        elif isinstance(item, Event):
            self._took_event(item)
        elif isinstance(item, Gone):
            self._leaving = False
            self.lost(item.reason)

    def _took_event(self, event: Event) -> None:
        fields = event.fields
        if event.name == "status":
            action = self._actions.get(fields["action"])
            if action is not None:
                action.took_status(fields["status"], fields["feedback"], fields["run"])
        elif event.name == "set":
            self._variables.took(fields["vars"], fields["number"])
        elif event.name in ("process", "output"):
            self._processes.took(event.name, fields)
        elif event.name == "lost":
            self._took_lost(fields["reason"], bool(fields.get("ended")))
        elif event.name == "busy":
            self._took_busy(fields)
        elif event.name == "lease":
            self._say("warning", lease_text(self.target.name, fields["left"]))

    def _took_lost(self, reason: str, ended: bool) -> None:
        """ended: the session; else its worker alone, and the host would hold it for its lease."""
        name = self.target.name
        if ended:
            self._leaving = False
            self.lost(reason)
            return
        self.lost(f"the worker on {name} is gone: {reason}")
        if not self.said_bye:
            self.said_bye = self._leaving = True
            self.call("bye", {"release": False, "abort": True}, self._took_bye)

    def _took_busy(self, fields: Mapping[str, Any]) -> None:
        """Said once, and again each time it has become twice as long."""
        action = self._actions.get(fields["action"])
        since = fields["since"]
        if action is None or since < 2 * self._busy_said.get(action.action_id, 0.0):
            return
        self._busy_said[action.action_id] = since
        text = f"action '{action.name}' has been busy in {fields['phase']} for {since:.0f} s"
        self._desk.say("warning", f"[{self.target.name}] {text}")

    def _took_hello(self, reply: Reply) -> None:
        self.hello_at = self._desk.now()
        if reply.error is not None:
            self.lost(f"{self.target.name} refused: {reply.error}")
        ahead = self.link.clock_ahead
        if ahead is not None and abs(ahead) > CLOCK_TOLERANCE_S:
            way = "ahead of" if ahead > 0 else "behind"
            self._desk.say(
                "warning", f"[{self.target.name}] its clock is {abs(ahead):.1f} s {way} this machine's"
            )

    def _took_configured(self, reply: Reply) -> None:
        self._configured = reply

    def _took_bye(self, reply: Reply) -> None:
        if reply.error is None:
            self.left = [str(text) for text in reply.fields.get("left") or ()]
        self._leaving = False
        self.gone = self.gone or "the session has ended"
        self._say_dropped()

    def lost(self, reason: str) -> None:
        """The session is over; its actions fail at once."""
        if self.gone:
            return
        name = self.target.name
        self.gone = reason if name in reason else f"{name}: {reason}"
        self._say_dropped()
        self._processes.lost()
        if self.said_bye:
            self.unconfirmed = reason
        else:
            self._desk.say("error", f"[{self.target.name}] {reason}")
            for action in self._actions.values():
                action.host_gone(self.gone)
