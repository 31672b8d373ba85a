"""What the patterns understand of .osc libraries, and that they agree with the parser's own library."""

from __future__ import annotations

from remote_exec.host import osc_types
from remote_exec.host.plugins import describe_plugin

LIBRARY = """
import osc.types

enum colour: [red = 1, green = 5, blue]   # blue is 6
enum mood: [
    calm,
    wild
]

struct place:
    x: length = 1m

action base:
    # a comment: string
    name: string
    colour: colour = colour!red

action robot.paint inherits base:
    places: list of  place
    amount: float = 1.5   # how much

actor robot:
    wheels: int = 4

action quiet
"""


def test_types_enums_defaults_and_inheritance() -> None:
    actions = osc_types.read(LIBRARY)
    assert list(actions) == ["base", "robot.paint", "quiet"]
    paint = actions["robot.paint"]
    assert {name: declared.type for name, declared in paint.items()} == {
        "name": "string",
        "colour": "colour",
        "places": "list of place",
        "amount": "float",
    }
    assert paint["colour"].choices == {"red": 1, "green": 5, "blue": 6}
    assert [name for name, declared in paint.items() if declared.required] == ["name", "places"]
    assert actions["quiet"] == {}


def test_nonsense_declares_nothing() -> None:
    assert osc_types.read("enum x: [,=,a = b\naction :\n  x:\n\0") == {}


def test_the_base_library_as_it_is_installed() -> None:
    found = {p["name"]: p for p in describe_plugin("run_process")["parameters"]}
    assert found["command"]["required"], "Python's signature has a default; a scenario must give it"
    assert found["wait_for_shutdown"]["type"] == "bool" and not found["wait_for_shutdown"]["required"]
    assert found["shutdown_signal"]["choices"]["sigint"] == 2
