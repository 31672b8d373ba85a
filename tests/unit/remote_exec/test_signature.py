"""Arguments put in their places, and everything that is wrong with them in one report."""

from __future__ import annotations

import pytest

from remote_exec.client.signature import Action, bind, read_action
from remote_exec.errors import BadArguments, ProtocolError

PARAMETERS = [
    {"name": "robot", "default": None, "required": True, "of": "__init__", "type": "string"},
    {"name": "speed", "default": "1.0", "required": False, "of": "execute", "type": "float", "choices": {}},
    {"name": "gear", "default": "('low', 1)", "type": "gear", "choices": {"low": 1, "high": 2}},
]
DESCRIBED = {"name": "drive", "package": "robots", "version": "1.2", "parameters": PARAMETERS}


@pytest.fixture
def drive() -> Action:
    return read_action(DESCRIBED)


def test_a_description_is_read(drive: Action) -> None:
    assert (drive.name, drive.package, drive.version, drive.error) == ("drive", "robots", "1.2", "")
    texts = [parameter.text for parameter in drive.parameters]
    assert texts == ["robot: string", "speed: float = 1.0", "gear: gear = ('low', 1)"]


@pytest.mark.parametrize("nonsense", [None, 5, {}, {"parameters": 5}, {"parameters": [5]}])
def test_what_is_no_description_is_the_hosts_fault(nonsense: object) -> None:
    with pytest.raises(ProtocolError):
        read_action(nonsense)


def test_a_plugin_that_cannot_be_loaded_says_why() -> None:
    assert (
        read_action({"name": "x", "parameters": [{"name": "", "error": "ImportError"}]}).error
        == "ImportError"
    )


def test_arguments_go_where_a_scenario_puts_them(drive: Action) -> None:
    bound = bind(drive, {"robot": "r1", "speed": 2})
    assert (bound.init_args, bound.args, bound.actor) == ({"robot": "r1"}, {"speed": 2}, None)


@pytest.mark.parametrize("gear", ["high", ("high", 2), ["high", 2]])
def test_an_enum_is_a_tuple_or_its_name(drive: Action, gear: object) -> None:
    assert bind(drive, {"robot": "r1", "gear": gear}).args == {"gear": ("high", 2)}


def test_the_acting_actor_goes_apart(drive: Action) -> None:
    actor = {"name": "r1", "wheels": 4}
    bound = bind(drive, {"robot": "r1", "associated_actor": actor})
    assert bound.actor == actor and bound.args == {}


def test_all_that_is_wrong_is_said_at_once(drive: Action) -> None:
    with pytest.raises(BadArguments) as caught:
        bind(drive, {"sped": 1, "zzz": 2, "gear": "middle", "speed": object()})
    text = str(caught.value)
    for said in (
        "'sped'; did you mean 'speed'?",
        "'zzz'; it takes robot, speed, gear",
        "missing: robot: string",
        "gear: 'middle' is no gear; expected one of low (1), high (2)",
        "speed: a value of type object cannot be sent",
    ):
        assert said in text
    assert isinstance(caught.value, TypeError) and len(caught.value.problems) == 5
