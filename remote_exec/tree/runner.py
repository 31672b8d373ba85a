"""Everything that outlives one scenario: links to hosts, the log, signals, and the end, however it comes.

scenario_execution never calls `shutdown()` on behaviours, and its signal handlers raise nothing. So the first
`setup()` of a proxy looks for the ScenarioExecution object among its callers and hooks it:

| the end comes from                        | what happens                                               |
|-------------------------------------------|------------------------------------------------------------|
| the next scenario's setup                 | the sessions of the last one end, hosts stay up            |
| process_results()                         | everything ends, before results are written                |
| shutdown() of the tree, without a runner  | everything ends                                            |
| interpreter exit                          | everything ends, if it has not; that is an abort           |
| a signal during setup                     | waits end, the setup raises (the runner reports it once)   |
| a setup that fails                        | reported in its own words, without a traceback             |
| a signal later                            | the runner's own handler, then as it ends                  |
| a second signal, or one during the end    | the end is shortened                                       |

An abort (a signal, an exception, an end that nobody announced) is told to the hosts, which then run their
`on_stop`. What is still there after it was killed, or has not come back, makes the result a failure.

Idempotent throughout. Handlers and hooks are put back as they were.
"""

from __future__ import annotations

import atexit
import os
import queue
import threading
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Final

from remote_exec.client.hub import HostLink, Hub
from remote_exec.client.identity import client_info
from remote_exec.client.link import DEFAULT_LEASE, LinkSpec
from remote_exec.errors import SetupFailed
from remote_exec.tree.configuration import configuration, run_output_dir
from remote_exec.tree.execution import fail_last, find_execution, was_aborted
from remote_exec.tree.host_line import HostLine
from remote_exec.tree.lockstep import simulated_clock
from remote_exec.tree.printer import Printer
from remote_exec.tree.scenario import SAY_WAITING_S, Scenario
from remote_exec.tree.signals import SignalChain
from remote_exec.tree.target import Carried, Opened, Opener, OpenerFactory, Target
from remote_exec.tree.versions import own_version

_ATTRIBUTE: Final = "_se_remote_runner"
LEAVE_S: Final = 2.0
DRAIN_S: Final = 5.0
SHOW_S: Final = 0.1
WAKE_S: Final = 0.25
LEFT_RUNNING: Final = "left running on a host"


def runner_of(root: Any, logger: Any, opener_factory: OpenerFactory) -> Runner:
    """The runner that drives `root`'s tree: that of the ScenarioExecution object among the callers, else one
    of the tree's own."""
    execution = find_execution()
    owner = execution if execution is not None else root
    runner: Runner | None = owner.__dict__.get(_ATTRIBUTE)
    if runner is None or runner.closed:
        runner = Runner(execution, logger, opener_factory)
        setattr(owner, _ATTRIBUTE, runner)
    return runner


class Runner:
    """One run of scenario_execution, or of a tree without it. Only `queue` and `say` are for any thread."""

    def __init__(self, execution: Any, logger: Any, opener_factory: OpenerFactory) -> None:
        self.closed = False
        self.hurry = False
        self._execution = execution
        self._inbox: queue.SimpleQueue[tuple[Callable[[Any], None], Any]] = queue.SimpleQueue()
        self._printer = Printer(logger)
        self._opener_factory = opener_factory
        self._opener: Opener | None = None
        self._opening = False
        self._ending = False
        self._in_setup = False
        self._gave_up = False
        """The run does not end as it should: a setup raised, or nobody came to the end."""
        self._passed_on = False
        """The runner's own handler has been told of a signal: once is enough, it adds a result each time."""
        self._hub: Hub | None = None
        self._lines: dict[str, HostLine] = {}
        self._scenario: Scenario | None = None
        self._version = own_version()
        self._end_turn = threading.RLock()
        """Who comes second (the ROS runner shuts down twice, in other threads) finds the end done."""
        self._signals = SignalChain(self._on_signal)
        self._signals.install()
        if was_aborted(execution):
            self._passed_on = True
            self._signals.missed()
        self._hook_execution()
        atexit.register(self._at_exit)

    # --- what scenarios ask (Desk)

    @staticmethod
    def now() -> float:
        return time.monotonic()

    def say(self, level: str, text: str) -> None:
        self._printer.put(level, text)

    def tick_begins(self) -> bool:
        """Apply what came. False: the run is to end, nothing must be ticked any more."""
        self.pump()
        if self._execution is None or self._passed_on or not self._signals.count:
            return True
        # A signal came in the last moment of the setup, when nothing could raise any more.
        self._passed_on = True
        self._signals.pass_on()
        return False

    def interrupted(self) -> bool:
        return self._signals.count > 0

    def show_lines(self) -> None:
        self._printer.drain(SHOW_S)

    def queue(self, sink: Callable[[Any], None], item: Any) -> None:
        self._inbox.put((sink, item))

    def pump(self) -> None:
        while True:
            try:
                sink, item = self._inbox.get_nowait()
            except queue.Empty:
                return
            sink(item)

    def wait(self, done: Callable[[], bool], deadline: float, abortable: bool = True) -> bool:
        """Apply what comes until `done` or the deadline (monotonic seconds); whether it is done.

        abortable: a signal ends it at once, raising SetupFailed.
        """
        self.pump()
        while True:
            if abortable:
                self._check_aborted()
            if done():
                return True
            left = deadline - self.now()
            if left <= 0:
                return False
            try:
                sink, item = self._inbox.get(timeout=min(left, WAKE_S))
            except queue.Empty:
                continue
            sink(item)
            self.pump()

    # --- setup

    def begin(self, root: Any, proxies: Sequence[Any], kwargs: Mapping[str, Any]) -> Scenario:
        """Bring every host up, open the sessions, send every setup. Raises SetupFailed."""
        self._in_setup = True
        try:
            self._check_aborted()
            self.end_scenario()
            links = self._open_links(root, proxies, kwargs)
            period = float(kwargs.get("tick_period") or 0.1)
            configure = configuration(root, kwargs, period)
            carried = self._send(links, configure)
            clock, registry = simulated_clock(kwargs), kwargs.get("process_registry")
            self._scenario = Scenario(self, root, proxies, links, period, clock, registry, carried)
            self._scenario.begin(configure)
            return self._scenario
        except BaseException:
            self._in_setup = False
            raise

    def setup_left(self, scenario: Scenario) -> None:
        """A proxy's setup is over, one way or the other."""
        self._in_setup = scenario.setting_up and not self._signals.count

    def _open_links(
        self, root: Any, proxies: Sequence[Any], kwargs: Mapping[str, Any]
    ) -> dict[str, HostLink]:
        targets = {proxy.target.name: proxy.target for proxy in proxies}
        wanted = [t for n, t in targets.items() if n not in self._lines or self._lines[n].gone]
        opened = self._bring_up([t for t in wanted if t.endpoint is None], root, kwargs)
        if self._hub is None:
            self._hub = Hub()
        for target in wanted:
            old = self._lines.get(target.name)
            if old is not None and old.link is not None:
                old.link.close()
            line = HostLine(self.say, target, opened.get(target.name))
            self._lines[target.name] = line
            mine = [proxy for proxy in proxies if proxy.target.name == target.name]
            spec = self._link_spec(line, mine, self._what(root))
            line.link = self._hub.connect(spec, partial(self.queue, line.apply))
            line.look_up(partial(self.queue, line.apply))
        lines = [self._lines[name] for name in targets]
        limit = max(proxy.setup_timeout for proxy in proxies) + LEAVE_S
        self._wait_for_answers(lines, self.now() + limit)
        failures = [line.failure(limit) for line in lines if line.up is None]
        if failures:
            raise SetupFailed("\n".join(failures))
        for target in wanted:
            self._lines[target.name].introduce(self._version)
        return {line.target.name: line.link for line in lines if line.link is not None}

    def _wait_for_answers(self, lines: Sequence[HostLine], deadline: float) -> None:
        def settled() -> bool:
            return all(line.settled for line in lines)

        if not self.wait(settled, min(deadline, self.now() + SAY_WAITING_S)):
            for line in lines:
                if not line.settled:
                    self.say("info", f"[{line.target.name}] waiting for an answer")
            self.wait(settled, deadline)

    def _bring_up(
        self, targets: Sequence[Target], root: Any, kwargs: Mapping[str, Any]
    ) -> Mapping[str, Opened]:
        if not targets:
            return {}
        if self._opener is None:
            self._opener = self._opener_factory(
                self._what(root), self.say, run_output_dir(self._execution, kwargs)
            )
        self._opening = True
        try:
            return self._opener.open(targets)
        except SetupFailed:
            self._check_aborted()
            raise
        finally:
            self._opening = False

    def _send(self, links: Collection[str], configure: Mapping[str, Any]) -> Mapping[str, Carried]:
        """The files that hosts are to have; those of other people's servers stay as they are."""
        targets = [self._lines[name].target for name in links if self._lines[name].opened is not None]
        if self._opener is None or not targets:
            return {}
        self._opening = True
        try:
            return self._opener.send(targets, configure["scenario_file_directory"], configure["output_dir"])
        except SetupFailed:
            self._check_aborted()
            raise
        finally:
            self._opening = False

    def _bring_back(self) -> None:
        """What the actions of the last scenario have written, after they have ended."""
        if self._opener is not None:
            lost = [name for name, line in self._lines.items() if line.gone or self._away(line)]
            fail_last(self._execution, self._opener.bring_back(lost, self.interrupted))

    def _away(self, line: HostLine) -> bool:
        """After a signal nobody waits for a host that cannot be reached just then."""
        return self.interrupted() and line.link is not None and line.link.away

    def _link_spec(self, line: HostLine, proxies: Sequence[Any], what: str) -> LinkSpec:
        target, opened = line.target, line.opened
        patience = max(proxy.heartbeat_failure_timeout for proxy in proxies)
        lease = target.lease
        if patience > (lease or DEFAULT_LEASE):
            lease = patience  # or the server would end what we still wait for
        return LinkSpec(
            name=target.name,
            endpoint=opened.endpoint if opened is not None else str(target.endpoint),
            ours=opened is not None,
            client=client_info(what, self._version, os.environ, opened.client_id if opened else ""),
            lease=lease,
            patience=patience or None,
            connect_timeout=max(proxy.setup_timeout for proxy in proxies),
            on_loss=target.on_loss,
            way=opened.way if opened is not None else None,
        )

    def _what(self, root: Any) -> str:
        file = getattr(self._execution, "scenario_file", None)
        return f"{Path(file).name}: {root.name}" if file else str(root.name)

    # --- signals

    def _on_signal(self, number: int) -> bool:
        """In the signal handler. Whether the handler that was there before is to be called."""
        if self._signals.count > 1 or self._ending:
            self.hurry = True
        if self._opener is not None and self._opening:
            self._opener.abort()
        if self._opener is not None and self.hurry:
            self._opener.hurry()
        self._inbox.put((lambda item: None, None))
        if self._execution is None:
            return True
        pass_on = not self._passed_on and not self._in_setup and not self._ending
        self._passed_on = self._passed_on or pass_on
        return pass_on

    def _check_aborted(self) -> None:
        if self._signals.count:
            raise SetupFailed(f"aborted by {self._signals.last}") from None

    # --- hooks

    def _hook_execution(self) -> None:
        execution = self._execution
        if execution is None:
            return
        results, setup = execution.process_results, execution.setup
        fail: Any = getattr(execution, "fail_from_exception", None)

        def process_results(*args: Any, **kwargs: Any) -> Any:
            self.close()
            return results(*args, **kwargs)

        def setup_next(scenario: Any, *args: Any, **kwargs: Any) -> Any:
            self.end_scenario()
            if self._signals.count:
                # What setup() itself does first, so that the refusal is reported for the right scenario.
                execution.current_scenario = scenario
                self._check_aborted()
            return setup(scenario, *args, **kwargs)

        def fail_in_words(message: str, error: BaseException) -> Any:
            self._gave_up = True
            if isinstance(error, SetupFailed):  # says itself what, where and what next
                return execution.on_scenario_shutdown(False, message, str(error))
            return fail(message, error)

        execution.process_results, execution.setup = process_results, setup_next
        if fail is not None:
            execution.fail_from_exception = fail_in_words

    def _unhook_execution(self) -> None:
        if self._execution is not None:
            for name in ("process_results", "setup", "fail_from_exception"):
                self._execution.__dict__.pop(name, None)

    # --- the end

    def end_scenario(self) -> None:
        """End the sessions of the scenario that was set up last; hosts stay up."""
        with self._end_turn:
            scenario, self._scenario = self._scenario, None
            if scenario is not None:
                for text in scenario.end(abort=self._gave_up or self._signals.count > 0):
                    self.say("error", text)
                self._gave_up = False
                fail_last(self._execution, scenario.left, LEFT_RUNNING)
            self._bring_back()
            if scenario is not None:
                self._drain()

    def tree_shut_down(self) -> None:
        """The tree's shutdown(): without a runner that calls process_results() this is the end."""
        if self._execution is None:
            self.close()
        else:
            self.end_scenario()

    def close(self) -> None:
        """End everything, verified; what is left is logged as an error. Idempotent."""
        if self.closed:
            return
        self.closed = self._ending = True
        try:
            self.end_scenario()
            self._leave()
            if self._opener is not None:
                for text in self._opener.close(self.hurry):
                    self.say("error", text)
                fail_last(self._execution, self._opener.leftovers(), LEFT_RUNNING)
        finally:
            if self._hub is not None:
                self._hub.close()
            self._printer.close()
            self._unhook_execution()
            self._signals.restore()
            atexit.unregister(self._at_exit)

    def _at_exit(self) -> None:
        self._gave_up = True
        self.close()

    def _leave(self) -> None:
        lines = [line for line in self._lines.values() if line.up is not None and not line.gone]
        links = [(line, line.link) for line in lines if line.link is not None]
        for _, link in links:
            link.leave(release=True)
        limit = self.now() + (LEAVE_S / 4 if self.hurry else LEAVE_S)
        self.wait(lambda: all(line.gone or link.away for line, link in links), limit, abortable=False)

    def _drain(self) -> None:
        """Half of the time for every line; then warnings, errors, and how many lines are left out."""
        half = 0.25 if self.hurry else DRAIN_S / 2
        if not self._printer.drain(half):
            self._printer.give_up()
            self._printer.drain(half)
