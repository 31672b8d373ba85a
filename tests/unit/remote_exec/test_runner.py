"""The runner's hooks on a ScenarioExecution object: the end before the results, signals told once."""

from __future__ import annotations

import signal
from types import SimpleNamespace
from xml.etree import ElementTree

import pytest

from remote_exec.errors import SetupFailed
from remote_exec.tree.execution import fail_last, find_execution
from remote_exec.tree.runner import Runner, runner_of
from remote_exec.tree.signals import SIGNALS


class Logger:
    def __init__(self):
        self.lines = []

    def info(self, text):
        self.lines.append(text)

    debug = warning = error = info


class ScenarioExecution:
    """By its name and its methods, what scenario_execution's is to us."""

    scenario_file = "folder/test.osc"

    def __init__(self):
        self.calls = []
        self.told = []
        for number in SIGNALS:
            signal.signal(number, lambda number, frame: self.told.append(number))

    def setup(self, scenario):
        self.calls.append("setup")
        return self.look()

    def look(self):
        return find_execution()

    def process_results(self):
        self.calls.append("results")
        return True

    def fail_from_exception(self, failure_message, e):
        self.calls.append(("traceback", failure_message, str(e)))

    def on_scenario_shutdown(self, result, failure_message="", failure_output=""):
        self.calls.append((result, failure_message, failure_output))


class FakeScenario:
    def __init__(self, calls):
        self.calls = calls
        self.setting_up = False

    def end(self, abort=False):
        self.calls.append("end, given up" if abort else "end")
        self.left = ["[lab-pc] still running: pid 7"]
        return ["[lab-pc] still running: pid 7"]


@pytest.fixture(autouse=True)
def restored():
    before = {number: signal.getsignal(number) for number in SIGNALS}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.fixture
def execution():
    return ScenarioExecution()


@pytest.fixture
def runner(execution):
    runner = Runner(execution, Logger(), lambda what, say, output_dir: None)
    yield runner
    runner.close()


def test_the_execution_is_found_among_the_callers(execution):
    assert execution.setup(None) is execution
    assert find_execution() is None


def test_one_runner_per_execution_and_a_new_one_after_the_end(execution):
    root = SimpleNamespace()
    first = runner_of(root, Logger(), None)
    assert runner_of(root, Logger(), None) is first
    first.close()
    second = runner_of(root, Logger(), None)
    assert second is not first
    second.close()


def test_a_setup_that_fails_is_reported_in_its_own_words(runner, execution):
    execution.fail_from_exception("Setup failed", SetupFailed("lab-pc: connect: no such host"))
    execution.fail_from_exception("Setup failed", ValueError("a bug"))
    assert execution.calls == [
        (False, "Setup failed", "lab-pc: connect: no such host"),
        ("traceback", "Setup failed", "a bug"),
    ]
    runner.close()
    assert "fail_from_exception" not in execution.__dict__


def test_everything_ends_before_the_results_and_only_once(runner, execution):
    runner._scenario = FakeScenario(execution.calls)
    assert execution.process_results() is True
    assert execution.calls == ["end", "results"]
    assert runner.closed and "process_results" not in execution.__dict__ and "setup" not in execution.__dict__
    execution.process_results()
    runner.close()
    assert execution.calls == ["end", "results", "results"]


def test_the_next_setup_ends_the_last_scenario(runner, execution):
    runner._scenario = FakeScenario(execution.calls)
    execution.setup("next")
    assert execution.calls == ["end", "setup"] and not runner.closed


def test_what_is_left_is_logged_as_an_error(execution):
    logger = Logger()
    runner = Runner(execution, logger, None)
    runner._scenario = FakeScenario(execution.calls)
    runner.close()
    assert logger.lines == ["[lab-pc] still running: pid 7"]


def test_a_signal_while_it_runs_is_passed_on_once(runner, execution):
    signal.raise_signal(signal.SIGINT)
    signal.raise_signal(signal.SIGINT)
    assert execution.told == [signal.SIGINT] and runner.hurry


def test_a_signal_in_setup_raises_there_instead(runner, execution):
    runner._in_setup = True
    signal.raise_signal(signal.SIGINT)
    assert execution.told == []
    with pytest.raises(SetupFailed, match="aborted by SIGINT"):
        runner.wait(lambda: False, runner.now() + 20)


def test_a_signal_that_came_too_late_for_the_setup_is_passed_on_before_anything_is_ticked(runner, execution):
    runner._in_setup = True
    signal.raise_signal(signal.SIGTERM)
    runner._in_setup = False
    assert runner.tick_begins() is False
    assert execution.told == [signal.SIGTERM]
    assert runner.tick_begins() is True


def test_after_a_signal_no_further_scenario_is_set_up(runner, execution):
    signal.raise_signal(signal.SIGINT)
    with pytest.raises(SetupFailed, match="aborted by SIGINT"):
        execution.setup("next")
    assert execution.calls == [] and execution.current_scenario == "next"


def test_a_signal_during_the_end_only_hurries_it(runner, execution):
    runner._ending = True
    signal.raise_signal(signal.SIGINT)
    assert execution.told == [] and runner.hurry


def test_handlers_are_put_back(execution):
    before = signal.getsignal(signal.SIGTERM)
    runner = Runner(execution, Logger(), None)
    assert signal.getsignal(signal.SIGTERM) is not before
    runner.close()
    assert signal.getsignal(signal.SIGTERM) is before


def test_a_signal_from_before_the_first_setup_is_not_lost(execution):
    execution.results = [SimpleNamespace(failure_message="Aborted")]
    runner = Runner(execution, Logger(), lambda what, say, output_dir: None)
    for _ in range(2):
        with pytest.raises(SetupFailed, match="before its setup"):
            runner.begin(SimpleNamespace(name="a"), [], {})
    with pytest.raises(SetupFailed, match="before its setup"):
        execution.setup(SimpleNamespace(name="b"))
    runner.close()


def test_results_of_earlier_scenarios_are_no_signal(execution):
    execution.results = [SimpleNamespace(failure_message="execution failed.")]
    runner = Runner(execution, Logger(), lambda what, say, output_dir: None)
    assert not runner._signals.count
    runner.close()


def test_what_is_left_fails_the_scenario_that_was_run(runner, execution):
    from types import SimpleNamespace

    execution.results = [SimpleNamespace(result=True, failure_message="", failure_output="")]
    runner._scenario = FakeScenario(execution.calls)
    runner.close()
    assert execution.results[0].result is False
    assert "pid 7" in execution.results[0].failure_output


def test_an_end_that_nobody_announced_is_an_abort(runner, execution):
    runner._scenario = FakeScenario(execution.calls)
    runner._at_exit()
    assert execution.calls == ["end, given up"]


def test_output_that_did_not_come_fails_the_scenario_in_words_that_test_xml_can_hold():
    came = SimpleNamespace(result=True, failure_message="", failure_output="")
    failed = SimpleNamespace(result=False, failure_message="Aborted", failure_output="it said")
    text = 'output files of lab-pc did not come: "<&>": the disk is full; se-remote pull lab-pc'
    for result in (came, failed):
        execution = ScenarioExecution()
        execution.results = [SimpleNamespace(result=True), result]  # type: ignore[attr-defined]
        runner = Runner(execution, Logger(), lambda *_: None)
        asked = []
        runner._opener = SimpleNamespace(
            bring_back=lambda lost, interrupted, asked=asked: asked.append(lost) or [text],
            close=lambda hurry: [],
            leftovers=list,
        )
        assert execution.process_results()
        assert asked == [[]] and execution.results[0].result  # type: ignore[attr-defined]
    assert not came.result and came.failure_output == text
    assert ElementTree.fromstring(f'<failure message="{came.failure_message}"/>').get("message") == text
    assert (failed.failure_message, failed.failure_output) == ("Aborted", f"it said\n\n{text}")


def test_nothing_that_did_not_come_fails_nothing():
    result = SimpleNamespace(result=True, failure_message="", failure_output="")
    fail_last(SimpleNamespace(results=[result]), [])
    assert result.result and not result.failure_output
