"""Proxies, their scenario and the tick's budget, over a link that records."""

from __future__ import annotations

import itertools
from collections import deque

import py_trees
import pytest
from py_trees.common import Status
from scenario_execution.actions.base_action import BaseAction

from remote_exec.client.link import Gone
from remote_exec.client.session import Event, Reply
from remote_exec.errors import RemoteError, SetupFailed
from remote_exec.tree.proxy import RemoteAction
from remote_exec.tree.scenario import BYE_S, Scenario
from remote_exec.tree.target import Target


class Action(BaseAction):
    def execute(self, word):
        raise AssertionError("the local instance must never be executed")

    def update(self):
        raise AssertionError("the local instance must never be ticked")


class Model:
    name = None
    actor = None

    def __init__(self, args):
        self.args = args

    def get_resolved_value(self, blackboard, skip_keys):
        return dict(self.args)

    def get_children(self):
        return []

    def get_ctx(self):
        return 4, 8, 'a(word: "x")', "t.osc"


class FakeSession:
    id = "session"

    def __init__(self):
        self.sent: list[tuple[int, str, dict]] = []
        self._ids = itertools.count(1)

    def send(self, cmd, fields):
        number = next(self._ids)
        self.sent.append((number, cmd, dict(fields)))
        return number

    def last(self, cmd):
        return [(n, f) for n, c, f in self.sent if c == cmd][-1]

    def count(self, cmd):
        return len([c for _, c, _ in self.sent if c == cmd])


class FakeLink:
    """Answers everything but execute; what a test wants is delivered by `reply` and `event`."""

    def __init__(self):
        self.round_trip = 0.001
        self.clock_ahead = 0.0
        self.sessions: list[FakeSession] = []

    def session(self, deliver):
        self.deliver = deliver
        self.sessions.append(FakeSession())
        return self.sessions[-1]


class FakeDesk:
    """A clock that only waiting moves; `during_wait` is called once per wait."""

    def __init__(self):
        self.hurry = False
        self.clock = 100.0
        self.waits: list[float] = []
        self.said: list[str] = []
        self.inbox: deque = deque()
        self.during_wait = lambda: None
        self.wait_takes = 0.01

    def now(self):
        return self.clock

    def say(self, level, text):
        self.said.append(text)

    def queue(self, sink, item):
        self.inbox.append((sink, item))

    def pump(self):
        while self.inbox:
            sink, item = self.inbox.popleft()
            sink(item)

    def wait(self, done, deadline, abortable=True):
        self.pump()
        if not done():
            self.during_wait()
            before = self.clock
            self.clock = min(deadline, self.clock + self.wait_takes)
            self.waits.append(self.clock - before)
            self.pump()
        return done()

    def interrupted(self):
        return False

    def tick_begins(self):
        self.pump()
        return True

    def show_lines(self):
        pass

    # what a proxy asks of its runner
    def setup_left(self, scenario):
        pass


class Bench:
    def __init__(self, count=1, args=None):
        self.desk, self.link = FakeDesk(), FakeLink()
        self.proxies = []
        for number in range(count):
            action = Action()
            action._set_base_properities(f"a{number}", Model(args or {"word": "x"}), None)
            action._external_plugin_key, action._external_init_args = "log", {}
            action.osc_source = ("t.osc", 4, 8)
            self.proxies.append(RemoteAction(action, Target("lab-pc"), None, 0.0, 10.0))
        self.root = py_trees.composites.Parallel("root", py_trees.common.ParallelPolicy.SuccessOnAll())
        self.root.add_children(self.proxies)
        self.scenario = Scenario(self.desk, self.root, self.proxies, {"lab-pc": self.link}, 0.1)
        for proxy in self.proxies:
            proxy._join(self.desk, self.scenario)
        self.scenario.begin({"tick_period": 0.1, "clock": "host"})
        self.link.deliver(Reply(0, "hello", {}))
        for number, cmd, _ in list(self.session.sent):
            self.link.deliver(Reply(number, cmd, {}))
        for proxy in self.proxies:
            proxy.setup()

    @property
    def session(self):
        return self.link.sessions[-1]

    @property
    def proxy(self):
        return self.proxies[0]

    def tick(self):
        self.root.tick_once()
        return self.proxy.status

    def reply(self, status, feedback="", **kwargs):
        number, _ = self.session.last("execute")
        fields = {"status": status, "feedback": feedback}
        self.link.deliver(Reply(number, "execute", fields, **kwargs))

    def event(self, status, feedback="", run=0, proxy=None):
        run = run or self.session.last("execute")[0]
        action = (proxy or self.proxy).action_id
        fields = {"action": action, "status": status, "feedback": feedback, "run": run}
        self.link.deliver(Event("status", fields))

    def started(self):
        self.desk.during_wait = lambda: self.reply("running")
        assert self.tick() is Status.RUNNING
        self.desk.during_wait = lambda: None
        return self


def test_it_carries_the_name_and_the_position_of_the_action():
    proxy = Bench().proxy
    proxy.osc_source = ("t.osc", 99, 0)  # what the runner does with the modifier's position
    assert proxy.name == "a0" and proxy.osc_source == ("t.osc", 4, 8)


def test_a_result_that_comes_in_the_first_tick_counts_in_the_first_tick():
    bench = Bench()
    bench.desk.during_wait = lambda: bench.reply("success", "done")
    assert bench.tick() is Status.SUCCESS
    assert bench.proxy.feedback_message == "done"


def test_what_has_not_come_is_running_and_read_later():
    bench = Bench()
    assert bench.tick() is Status.RUNNING
    bench.reply("success", "done")
    assert bench.tick() is Status.SUCCESS and bench.proxy.feedback_message == "done"


def test_all_proxies_of_a_tick_share_half_a_period():
    bench = Bench(count=10)
    bench.tick()
    assert sum(bench.desk.waits) <= 0.05 + 1e-9 and len(bench.desk.waits) < 10
    assert bench.session.count("execute") == 10


def test_each_tick_has_its_own_budget():
    bench = Bench()
    bench.desk.wait_takes = 1.0
    bench.tick()
    bench.reply("success")
    bench.tick()
    bench.tick()
    assert bench.desk.waits == [pytest.approx(0.05)] * 2


def test_a_host_that_is_too_far_is_not_waited_for():
    bench = Bench()
    bench.link.round_trip = 0.06
    assert bench.tick() is Status.RUNNING
    assert bench.desk.waits == []


def test_only_the_first_tick_of_an_execution_waits():
    bench = Bench().started()
    before = len(bench.desk.waits)
    for _ in range(5):
        assert bench.tick() is Status.RUNNING
    assert len(bench.desk.waits) == before


def test_pushed_statuses_and_feedback_are_taken():
    bench = Bench().started()
    bench.event("running", "half way")
    bench.tick()
    assert bench.proxy.feedback_message == "half way"
    bench.event("failure", "it broke")
    assert bench.tick() is Status.FAILURE and bench.proxy.feedback_message == "it broke"


def test_a_status_of_an_earlier_execution_is_not_taken_for_this_one():
    bench = Bench().started()
    first, _ = bench.session.last("execute")
    bench.proxy.stop(Status.INVALID)
    assert bench.tick() is Status.RUNNING
    bench.event("success", run=first)
    assert bench.tick() is Status.RUNNING
    bench.reply("running")
    bench.event("failure")
    assert bench.tick() is Status.FAILURE


def test_a_status_that_overtakes_its_repeated_reply_counts():
    bench = Bench()
    assert bench.tick() is Status.RUNNING
    bench.event("success", "end")
    bench.reply("running")
    assert bench.tick() is Status.SUCCESS


def test_invalid_cancels_once_per_execution():
    bench = Bench().started()
    for _ in range(3):
        bench.proxy.stop(Status.INVALID)
    assert bench.session.count("cancel") == 1
    bench.tick()
    bench.proxy.stop(Status.INVALID)
    assert bench.session.count("cancel") == 2


def test_an_ordinary_end_does_not_cancel():
    bench = Bench().started()
    bench.event("success")
    bench.tick()
    assert bench.session.count("cancel") == 0


def test_what_was_never_executed_is_not_cancelled():
    bench = Bench()
    bench.proxy.stop(Status.INVALID)
    assert bench.session.count("cancel") == 0


def test_an_error_of_the_action_is_failure_with_reason_and_place_and_its_traceback_is_logged():
    bench = Bench()
    error = RemoteError("plugin_error", "ValueError: no", "t.osc:4:8", "Traceback …\nValueError: no")
    bench.desk.during_wait = lambda: bench.reply("", error=error)
    assert bench.tick() is Status.FAILURE
    assert bench.proxy.feedback_message == "ValueError: no (t.osc:4:8)"
    assert "[lab-pc] Traceback …" in bench.desk.said


def test_a_lost_host_fails_its_actions_at_once_and_for_good():
    bench = Bench().started()
    bench.link.deliver(Gone("nothing was heard of lab-pc"))
    assert bench.tick() is Status.FAILURE
    assert bench.tick() is Status.FAILURE
    assert bench.proxy.feedback_message == "nothing was heard of lab-pc"
    assert bench.session.count("execute") == 1


def test_a_dead_worker_fails_its_actions_with_the_reason():
    bench = Bench().started()
    bench.link.deliver(Event("lost", {"reason": "signal 11"}))
    assert bench.tick() is Status.FAILURE and "signal 11" in bench.proxy.feedback_message
    assert bench.session.count("bye") == 1, "or the host would hold the session for its lease"


def test_a_session_that_was_ended_at_the_host_names_the_host():
    bench = Bench().started()
    bench.link.deliver(Event("lost", {"reason": "the session has ended: told to", "ended": True}))
    assert bench.tick() is Status.FAILURE
    assert bench.proxy.feedback_message == "lab-pc: the session has ended: told to"
    assert bench.session.count("bye") == 0


def test_a_value_that_cannot_cross_is_failure_naming_the_argument():
    bench = Bench(args={"word": {"deep": [object()]}})
    assert bench.tick() is Status.FAILURE
    assert "args.word.deep[0]" in bench.proxy.feedback_message


def test_an_exception_while_resolving_is_failure_not_the_end_of_the_run():
    bench = Bench()

    def fail(*args, **kwargs):
        raise ValueError("no such variable")

    bench.proxy.action._model.get_resolved_value = fail
    assert bench.tick() is Status.FAILURE and "no such variable" in bench.proxy.feedback_message


def test_a_failed_setup_is_raised_with_place_and_reason():
    bench = Bench()
    bench.scenario.hosts["lab-pc"].add(bench.proxy)
    number, _ = bench.session.last("setup")
    error = RemoteError("no_plugin", "no action plugin 'log'")
    bench.link.deliver(Reply(number, "setup", {}, error))
    with pytest.raises(SetupFailed, match=r"a0.*lab-pc.*t\.osc:4:8.*no action plugin"):
        bench.scenario.finish_setup(bench.proxy)


def test_a_setup_that_takes_too_long_is_raised():
    bench = Bench()
    bench.desk.wait_takes = 100
    bench.scenario.hosts["lab-pc"].add(bench.proxy)
    with pytest.raises(SetupFailed, match="10 s"):
        bench.scenario.finish_setup(bench.proxy)


def test_the_setup_of_all_is_sent_before_any_is_waited_for():
    bench = Bench(count=5)
    assert [c for _, c, _ in bench.session.sent] == ["configure", *["create", "setup"] * 5]
    assert bench.desk.waits == []


def test_the_end_says_bye_once_and_names_what_is_left():
    bench = Bench().started()

    def answer():
        number, _ = bench.session.last("bye")
        bench.link.deliver(Reply(number, "bye", {"left": ["pid 7 (sleep)"]}))

    bench.desk.during_wait = answer
    assert bench.scenario.end() == ["[lab-pc] still running: pid 7 (sleep)"]
    assert bench.scenario.end() == [] and bench.session.count("bye") == 1
    assert "tick" not in bench.root.__dict__


def test_the_end_gives_the_actions_their_time_and_no_more():
    bench = Bench(args={"word": "x", "shutdown_timeout": 40.0}).started()
    bench.desk.wait_takes = 10_000
    (left,) = bench.scenario.end()
    assert "did not confirm" in left
    assert sum(bench.desk.waits[-2:]) == pytest.approx(40.0 + BYE_S)


def test_a_log_event_is_said_with_the_hosts_name_line_by_line():
    bench = Bench()
    fields = {"level": "info", "name": "x", "text": "one\ntwo", "time": 0, "dropped": 3}
    bench.link.deliver(Event("log", fields))
    assert bench.desk.said[-2:] == ["[lab-pc] one", "[lab-pc] two"]
    assert "3 log lines were dropped" in bench.desk.said[-3]


def test_a_clock_that_differs_is_warned_of():
    bench = Bench()
    bench.link.clock_ahead = -90.0
    bench.link.deliver(Reply(0, "hello", {}))
    bench.desk.pump()
    assert "90.0 s behind" in bench.desk.said[-1]


def test_labels_sources_and_init_args_are_sent():
    bench = Bench()
    bench.proxy._model.name = "label"
    fields = bench.proxy.create_fields()
    assert fields == {
        "plugin": "log",
        "name": "a0",
        "label": "label",
        "source": ["t.osc", 4, 8, 'a(word: "x")'],
        "init_args": {},
        "actor": None,
        "args": None,
        "actor_path": None,
    }
