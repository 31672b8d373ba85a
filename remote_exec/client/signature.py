"""What an action takes, as its host describes it, and arguments put in their places. Pure.

A scenario's arguments go to `__init__` as far as that names them and to `execute` otherwise; here it is the
same. Everything that is wrong with a call is reported at once, before anything of it is sent.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from remote_exec.codec import check_value
from remote_exec.errors import BadArguments, ProtocolError

ACTOR: Final = "associated_actor"
"""Not an argument but the acting actor: a map of its values, with its `name`."""


@dataclass(frozen=True)
class Parameter:
    """One parameter of an action."""

    name: str
    required: bool = False
    default: str | None = None
    """As Python writes it; None: there is none."""
    type: str = ""
    """As the .osc library declares it; "" when it does not."""
    choices: Mapping[str, int] = field(default_factory=dict)
    """Of an enum: its names and values."""
    of: str = "execute"
    """Who takes it: ``__init__`` or ``execute``."""

    @property
    def text(self) -> str:
        """As a person reads it: ``wait_for_shutdown: bool = True``."""
        kind = f": {self.type}" if self.type else ""
        return self.name + kind + (f" = {self.default}" if not self.required else "")


@dataclass(frozen=True)
class Action:
    """An action plugin on a host."""

    name: str
    package: str = ""
    version: str = ""
    parameters: tuple[Parameter, ...] = ()
    error: str = ""
    """Why the plugin cannot be used there; "" when it can."""
    subtree: bool = False
    """It is a BaseActionSubtree: what `__init__` takes, its inner actions may ask for again."""


@dataclass(frozen=True)
class Arguments:
    """What goes where."""

    init_args: Mapping[str, Any]
    args: Mapping[str, Any]
    actor: Mapping[str, Any] | None = None


def read_action(described: object) -> Action:
    """An entry of `describe`. Raises ProtocolError."""
    if not isinstance(described, Mapping) or not isinstance(described.get("parameters"), (list, tuple)):
        raise ProtocolError("the host's description of an action is none")
    parameters, error = [], ""
    for entry in described["parameters"]:
        if not isinstance(entry, Mapping):
            raise ProtocolError("the host's description of a parameter is none")
        if entry.get("error"):
            error = str(entry["error"])
            continue
        default, choices = entry.get("default"), entry.get("choices")
        parameters.append(
            Parameter(
                name=str(entry.get("name")),
                required=bool(entry.get("required", default is None)),
                default=None if default is None else str(default),
                type=str(entry.get("type") or ""),
                choices=dict(choices) if isinstance(choices, Mapping) else {},
                of=str(entry.get("of") or "execute"),
            )
        )
    name, package, version = (str(described.get(key) or "") for key in ("name", "package", "version"))
    return Action(name, package, version, tuple(parameters), error, bool(described.get("subtree")))


def bind(action: Action, given: Mapping[str, Any]) -> Arguments:
    """The arguments in their places; an enum may be given by its name. Raises BadArguments."""
    known = {parameter.name: parameter for parameter in action.parameters}
    problems = unknown(action, [name for name in given if name != ACTOR])
    missing = [p for p in action.parameters if p.required and p.name not in given and p.name != ACTOR]
    if missing:
        problems.append(f"missing: {', '.join(parameter.text for parameter in missing)}")
    places: dict[str, dict[str, Any]] = {"__init__": {}, "execute": {}}
    for name, value in given.items():
        parameter = known.get(name)
        if parameter is None:
            continue
        try:
            check_value(value, name)
            value = _enum(parameter, value)
        except Exception as error:  # each names its argument
            problems.append(str(error))
        if name != ACTOR or parameter.of == "__init__":
            places[parameter.of][name] = value
    actor = given.get(ACTOR)
    if actor is not None and not isinstance(actor, Mapping):
        problems.append(f"{ACTOR}: expected a map, got {type(actor).__name__}")
    if problems:
        raise BadArguments(action.name, problems)
    init_args, args = places["__init__"], places["execute"]
    return Arguments(init_args, {**init_args, **args} if action.subtree else args, actor)


def unknown(action: Action, names: Sequence[str]) -> list[str]:
    """A sentence for each name that is no parameter of the action."""
    known = [parameter.name for parameter in action.parameters]
    problems = []
    for name in names:
        if name not in known:
            close = difflib.get_close_matches(name, known, n=1)
            takes = f"it takes {', '.join(known)}" if known else "it takes no arguments"
            hint = f"did you mean {close[0]!r}?" if close else takes
            problems.append(f"unknown argument {name!r}; {hint}")
    return problems


def _enum(parameter: Parameter, value: Any) -> Any:
    """An enum as plugins expect it, a (name, value) tuple. Raises ValueError."""
    if not parameter.choices:
        return value
    if isinstance(value, list):
        value = tuple(value)
    if value in parameter.choices.items():
        return value
    if isinstance(value, str) and value in parameter.choices:
        return (value, parameter.choices[value])
    names = ", ".join(f"{name} ({number})" for name, number in parameter.choices.items())
    raise ValueError(f"{parameter.name}: {value!r} is no {parameter.type}; expected one of {names}")
