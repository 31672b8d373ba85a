"""Actions for test_equivalence.py; installed at both ends as the distribution `eq-actions`.

What is to be the same locally and remotely is logged in lines that begin with `eq `.
"""

import ast
import os
import sys
import threading
import time

from py_trees.common import Status
from scenario_execution.actions.base_action import ActionError, BaseAction
from scenario_execution.actions.base_action_subtree import BaseActionSubtree
from scenario_execution.actions.run_process import RunProcess
from scenario_execution.model.types import VariableReference

HOST = os.environ.get("EQ_SIDE") == "host"
"""Whether this process is (of) the server."""


def literal(text):
    """OSC strings hold no quotation marks: here they are ~."""
    return ast.literal_eval(text.replace("~", '"'))


def here(child, values):
    """A modifier that changes nothing: what stands in the place of `remote` in local runs."""
    return child


def library():
    return "eq_actions_osc", "eq.osc"


class Show(BaseAction):
    """Logs what it was given at both times."""

    def __init__(self, first):
        super().__init__()
        self.first = first

    def execute(self, second):
        self.logger.info(f"eq show {self.name} {self.first!r} {second!r}")

    def update(self):
        return Status.SUCCESS


class Args(BaseAction):
    """All kinds of arguments."""

    def execute(self, spot, names, colour, amount, flag, number, span, places):
        self.logger.info(
            f"eq args {spot!r} {names!r} {colour!r} {amount!r} {flag!r} {number!r} {span!r} {places!r}"
        )

    def update(self):
        return Status.SUCCESS


class Count(BaseAction):
    """Runs for so many updates."""

    def execute(self, updates):
        self.left = updates

    def update(self):
        self.left -= 1
        self.feedback_message = f"{self.left} left"
        return Status.RUNNING if self.left > 0 else Status.SUCCESS


class Flaky(BaseAction):
    """Fails so many times, then succeeds."""

    def __init__(self):
        super().__init__()
        self.tries = 0

    def execute(self, failures):
        self.tries += 1
        self.failures = failures

    def update(self):
        return Status.FAILURE if self.tries <= self.failures else Status.SUCCESS


class Trouble(BaseAction):
    """Does `what` in `phase`."""

    def __init__(self, phase, what):
        super().__init__()
        self.phase, self.what, self.updates = phase, what, 0
        self.go("init")

    def setup(self, **kwargs):
        self.go("setup")

    def execute(self):
        self.updates = 0
        self.go("execute")

    def update(self):
        self.updates += 1
        if self.phase == "update" and self.updates == 2:
            return self.go("update")
        return Status.SUCCESS if self.phase == "terminate" and self.updates == 3 else Status.RUNNING

    def terminate(self, new_status):
        super().terminate(new_status)
        if self.updates:
            self.go("terminate")
            self.go(f"terminate {new_status.name}")

    def go(self, phase):
        if phase != self.phase:
            return None
        if self.what == "raise":
            raise ActionError(f"trouble in {phase}", action=self)
        if self.what == "raise there" and HOST:
            raise ValueError(f"trouble in {phase}")
        if self.what == "exit":
            sys.exit(3)
        if self.what == "_exit":
            os._exit(4)
        return {"invalid": Status.INVALID, "none": None, "failure": Status.FAILURE}.get(self.what)


class Cancellable(BaseAction):
    """Runs until it is cancelled."""

    def execute(self):
        self.cancelled = False

    def update(self):
        return Status.SUCCESS if self.cancelled else Status.RUNNING

    def request_cancel(self):
        self.logger.info(f"eq cancelled {self.name}")
        self.cancelled = True
        return True


class Reference(BaseAction):
    """With a reference to a variable; `how` is what is done with it."""

    def __init__(self):
        super().__init__(resolve_variable_reference_arguments_in_execute=False)

    def execute(self, target, how):
        if not isinstance(target, VariableReference):
            raise ActionError(f"no reference: {target!r}", action=self)
        self.target, self.how, self.updates = target, how, 0
        self.feedback_message = str(target)

    def update(self):
        self.updates += 1
        verb, _, rest = self.how.partition(" ")
        return getattr(self, "do_" + verb)(rest)

    def do_get(self, rest):
        value = self.target.get_value()
        self.logger.info(f"eq get {self.target} {type(value).__name__} {value!r}")
        return Status.SUCCESS

    def do_set(self, rest):
        self.target.set_value(literal(rest))
        return Status.SUCCESS

    def do_append(self, rest):
        self.target.get_value().append(literal(rest))
        return Status.SUCCESS

    def do_put(self, rest):
        key, value = literal(rest)
        self.target.get_value()[key] = value
        return Status.SUCCESS

    def do_ramp(self, rest):
        """Sets 1, 2, 3, … in as many updates."""
        self.target.set_value(self.updates)
        return Status.SUCCESS if self.updates >= int(rest) else Status.RUNNING

    def do_wait(self, rest):
        return Status.SUCCESS if self.target.get_value() == literal(rest) else Status.RUNNING

    def do_later(self, rest):
        """Sets it from a thread, when this action has long ended."""
        value = literal(rest)

        def callback():
            time.sleep(0.3)
            self.target.set_value(value)

        threading.Thread(target=callback, daemon=True).start()
        return Status.SUCCESS

    def do_object(self, rest):
        self.target.set_value(object())
        return Status.SUCCESS


class Mood(BaseAction):
    """With its actor's variables."""

    def __init__(self, associated_actor):
        super().__init__()

    def setup(self, **kwargs):
        self.register_access_to_associated_actor_variable("mood")

    def execute(self, associated_actor, value):
        before = self.get_associated_actor_variable("mood")
        self.set_associated_actor_variable("mood", before + value)
        self.set_associated_actor_variable("extra", [value, "x"])
        after, extra = (self.get_associated_actor_variable(name) for name in ("mood", "extra"))
        self.logger.info(f"eq mood {associated_actor!r} {before!r} {after!r} {extra!r}")

    def update(self):
        return Status.SUCCESS


class Tell(BaseAction):
    """Logs its actor's variables."""

    def __init__(self, associated_actor):
        super().__init__()
        self.first = associated_actor

    def execute(self, associated_actor):
        moods = [self.get_associated_actor_variable(name) for name in ("mood", "extra", "colour")]
        self.logger.info(f"eq tell {self.first == associated_actor} {associated_actor!r} {moods!r}")

    def update(self):
        return Status.SUCCESS


class Context(BaseAction):
    """Logs what it can know of its place in the scenario, and what it was set up with."""

    def setup(self, **kwargs):
        self.kwargs = kwargs

    def execute(self):
        line, column, text, file = self._model.get_ctx()
        self.logger.info(f"eq ctx {line} {column} {os.path.basename(file)}")
        self.logger.info(f"eq text {text.partition('with')[0]}")
        self.logger.info(f"eq label {self.name} {self._model.name} {self._model.actor}")
        kinds = {name: type(value).__name__ for name, value in self.kwargs.items()}
        same = {name: kinds[name] for name in sorted(kinds) if name not in ("logger", "process_registry")}
        self.logger.info(f"eq kwargs {sorted(kinds)} {same} {self.kwargs['tick_period']}")

    def update(self):
        return Status.SUCCESS


class Twice(BaseActionSubtree):
    """A subtree: a process, and a child that gets its arguments through the parent."""

    def __init__(self, word, target):
        super().__init__()
        self.word = word

    def create_subtree(self):
        for number in (1, 2):
            child = Inside()
            child._set_base_properities(f"inside {number}", self._model, self.logger)
            self.add_child(child)

    def get_execution_args(self, child):
        args = self._model.get_resolved_value_with_variable_references(child.get_blackboard_client())
        return {"number": self.children.index(child), "word": self.word, "target": args["target"]}


class Inside(BaseAction):
    def setup(self, **kwargs):
        self.logger.info(f"eq inside setup {self.name} {sorted(kwargs)}")

    def execute(self, number, word, target):
        self.number, self.word, self.target = number, word, target
        self.left = 2

    def update(self):
        self.left -= 1
        if self.left:
            return Status.RUNNING
        self.target.set_value(self.target.get_value() + 1)
        self.logger.info(f"eq inside {self.number} {self.word} {self.target.get_value()}")
        return Status.FAILURE if self.word == "fail" else Status.SUCCESS


class Processes(BaseActionSubtree):
    """A subtree that owns a process which has to be stopped."""

    def __init__(self, command):
        super().__init__()
        self.command = command

    def create_subtree(self):
        child = RunProcess()
        child._set_base_properities("inner process", self._model, self.logger)
        self.add_child(child)

    def get_execution_args(self, child):
        return {"command": self.command, "shutdown_timeout": 2}


class Other(BaseAction):
    """Has another signature on the host than at the client."""

    if HOST:

        def execute(self, word, count):
            pass
    else:

        def execute(self, word):
            pass

    def update(self):
        return Status.SUCCESS
