"""Variables on both sides: what is sent when, and which value stands when two pass each other."""

from __future__ import annotations

import itertools

import pytest
from py_trees.blackboard import Blackboard, Client
from py_trees.common import Access
from scenario_execution.model.types import VariableReference

from remote_exec.errors import ValueDoesNotCross
from remote_exec.host.standins import ModelStandIn
from remote_exec.host.variables import VariableStore
from remote_exec.messages import Variable
from remote_exec.tree.variables import HostVariables, as_sent

X, Y = "/test/x", "/test/y"


@pytest.fixture(autouse=True)
def blackboard(monkeypatch):
    """A blackboard of this test alone."""
    monkeypatch.setattr(Blackboard, "storage", {})
    monkeypatch.setattr(Blackboard, "metadata", {})
    return Blackboard


class Host:
    """A worker's side: what was sent, and actions' references."""

    def __init__(self):
        self.sent: list[dict] = []
        self.store = VariableStore(self.sent.append)
        self.store.install()

    def reference(self, name=X):
        return VariableReference(Client(name="action"), name)


@pytest.fixture
def host():
    return Host()


def arrive(host, values, seen=0, **args):
    host.store.arrive({"args": args, "vars": values, "seen": seen})


def test_an_action_reads_what_came_and_what_it_sets_is_sent_at_once(host):
    arrive(host, {X: 3}, target=Variable(X))
    reference = host.reference()
    assert reference.get_value() == 3 and not host.sent
    reference.set_value(4)
    assert host.sent == [{"ev": "set", "vars": {X: 4}, "number": 1}]


def test_a_variable_that_has_no_value_yet_is_shared_when_it_is_set(host):
    arrive(host, {}, target=[{"deep": Variable(X)}])
    host.reference().set_value([1])
    assert host.sent[-1]["vars"] == {X: [1]}


def test_other_keys_of_the_blackboard_stay_here(host):
    arrive(host, {X: 3})
    host.reference(Y).set_value(object())
    assert not host.sent


def test_an_actors_variables_are_shared_also_new_ones(host):
    host.store.arrive({"actor_path": "/test/bot", "vars": {"/test/bot/mood": 1}})
    host.reference("/test/bot/extra").set_value("x")
    host.reference("/test/bottle").set_value("y")
    assert [event["vars"] for event in host.sent] == [{"/test/bot/extra": "x"}]


def test_what_changes_in_place_is_found_and_sent_once(host):
    arrive(host, {X: [1], Y: 2})
    host.store.send_changes()
    host.reference().get_value().append(2)
    host.store.send_changes()
    host.store.send_changes()
    assert [event["vars"] for event in host.sent] == [{X: [1, 2]}]


def test_what_cannot_cross_raises_where_it_is_set_and_changes_nothing(host):
    arrive(host, {X: 3})
    with pytest.raises(ValueDoesNotCross, match="variable /test/x"):
        host.reference().set_value(object())
    assert host.reference().get_value() == 3 and not host.sent


def test_what_cannot_cross_after_a_change_in_place_is_blamed_on_one_call_and_holds_up_nothing(host):
    arrive(host, {X: [1], Y: [1]})
    host.reference(X).get_value().append(object())
    host.reference(Y).get_value().append(2)
    with pytest.raises(ValueDoesNotCross, match="variable /test/x"):
        host.store.send_changes()
    assert [event["vars"] for event in host.sent] == [{Y: [1, 2]}]
    host.store.send_changes()  # of an action that has nothing to do with it
    host.reference(X).get_value()[1] = 3
    host.store.send_changes()
    assert host.sent[-1]["vars"] == {X: [1, 3]}
    host.reference(X).get_value().append(object())
    with pytest.raises(ValueDoesNotCross):
        host.store.send_changes()


def test_the_actions_value_stands_when_two_pass_each_other(host):
    arrive(host, {X: 1})
    host.reference().set_value(2)
    arrive(host, {X: 10, Y: 10}, seen=0)
    assert host.reference().get_value() == 2 and host.reference(Y).get_value() == 10
    arrive(host, {X: 11}, seen=1)
    assert host.reference().get_value() == 11


def test_a_model_gives_values_or_references():
    Blackboard.set(X, [1])
    model = ModelStandIn(None, None)
    model.args = {"a": Variable(X), "b": ("red", 1)}
    assert model.get_resolved_value() == {"a": [1], "b": ("red", 1)}
    references = model.get_resolved_value_with_variable_references(Client(name="c"))
    assert (
        isinstance(references["a"], VariableReference) and str(references["a"]) == f"VariableReference({X})"
    )
    assert model.get_resolved_value(skip_keys=["a"]).keys() == {"a", "b"}
    model.is_subtree = True
    assert model.get_resolved_value(skip_keys=["a"]) == {"b": ("red", 1)}


# --- the client's side


class Told:
    def __init__(self):
        self.said: list[str] = []
        self.host = HostVariables(lambda level, text: self.said.append(text))


@pytest.fixture
def client():
    return Told()


def test_references_become_marks(client):
    board = Client(name="local")
    board.register_key(X, access=Access.WRITE)
    names: set[str] = set()
    sent = as_sent({"a": VariableReference(board, X), "b": [1, ("red", 1)]}, names)
    assert sent == {"a": Variable(X), "b": [1, ("red", 1)]} and names == {X}


def test_only_what_is_referred_to_and_has_changed_is_news(client):
    Blackboard.set(X, 1)
    Blackboard.set(Y, 1)
    assert client.host.news() == {}
    client.host.refer([X])
    assert client.host.news() == {X: 1}
    assert client.host.news() == {}
    Blackboard.set(X, 2)
    assert client.host.news() == {X: 2}


LOOK_ALIKE = [1, 1.0, True, "1", [1], (1,), {"1": 1}, None]


@pytest.mark.parametrize("before, after", list(itertools.permutations(LOOK_ALIKE, 2)))
def test_another_type_is_another_value(client, before, after):
    client.host.refer([X])
    Blackboard.set(X, before)
    client.host.news()
    Blackboard.set(X, after)
    (news,) = client.host.news().values()
    assert type(news) is type(after) and news == after


def test_a_change_in_place_is_news(client):
    value = {"a": [1]}
    Blackboard.set(X, value)
    client.host.refer([X])
    client.host.news()
    value["a"].append(2)
    assert client.host.news() == {X: {"a": [1, 2]}} and client.host.news() == {}


def test_what_an_action_set_is_there_and_not_sent_back(client):
    client.host.refer([X])
    client.host.took({X: 5}, 1)
    assert Blackboard.get(X) == 5 and client.host.news() == {} and client.host.seen == 1


def test_an_actors_variables_that_come_later_are_found(client):
    client.host.refer_below("/test/bot")
    assert client.host.news() == {}
    Blackboard.set("/test/bot/mood", 1)
    Blackboard.set("/test/bottle", 1)
    assert client.host.news() == {"/test/bot/mood": 1}


def test_what_cannot_cross_is_said_once_or_raised_for_who_needs_it(client):
    Blackboard.set(X, object())
    client.host.refer([X])
    assert client.host.news() == {} and client.host.news() == {}
    (said,) = client.said
    assert "variable /test/x" in said and "object" in said
    with pytest.raises(ValueDoesNotCross):
        client.host.news([X])


def test_both_ends_agree_when_two_values_pass_each_other(host, client):
    """The client's value is on its way when the action sets its own."""
    worker_storage = Blackboard.storage
    arrive(host, {X: 0})
    Blackboard.storage = {X: 1}
    client.host.refer([X])
    news, seen = client.host.news(), client.host.seen
    Blackboard.storage = worker_storage
    host.reference().set_value(2)
    arrive(host, news, seen)
    at_host = Blackboard.storage[X]
    Blackboard.storage = {X: 1}
    client.host.took(host.sent[-1]["vars"], host.sent[-1]["number"])
    assert Blackboard.storage[X] == at_host == 2 and client.host.news() == {}


@pytest.mark.parametrize("module", ["remote_exec.tree.variables", "remote_exec.host.variables"])
def test_a_value_that_another_thread_is_changing_is_looked_at_again(host, client, monkeypatch, module):
    """What dict iteration raises then must end neither a tick nor somebody else's call."""
    import importlib

    value = {"a": 1}
    arrive(host, {X: value})
    client.host.refer([X])
    Blackboard.set(X, value)

    def changing(*_):
        raise RuntimeError("dictionary changed size during iteration")

    value["b"] = 2
    with monkeypatch.context() as patched:
        patched.setattr(importlib.import_module(module), "check_value", changing)
        host.store.send_changes()
        client.host.news()
    client.host.news()
    host.store.send_changes()
    assert host.sent[-1]["vars"] == {X: {"a": 1, "b": 2}}
