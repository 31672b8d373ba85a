"""Action plugins of this machine: finding, loading and describing them.

Plugins are foreign code: loading happens in workers only, never in the front or the fork server.
"""

from __future__ import annotations

import difflib
import importlib.metadata
import inspect
import sys
from collections.abc import Mapping
from functools import cache
from typing import Any, Final

from remote_exec.codec import clean_text
from remote_exec.errors import RemoteError
from remote_exec.host import osc_types

GROUP: Final = "scenario_execution.actions"


@cache
def find_plugin(key: str) -> importlib.metadata.EntryPoint:
    """The one installed plugin of that key. Raises RemoteError (no_plugin).

    Remembered for the life of a worker: looking through what is installed takes milliseconds.
    """
    found = {point.value: point for point in importlib.metadata.entry_points(group=GROUP, name=key)}
    if not found:
        raise RemoteError("no_plugin", _unknown(key))
    if len(found) > 1:
        raise RemoteError("no_plugin", f"several action plugins are called {key!r}: {', '.join(found)}")
    (point,) = found.values()
    return point


def load_action(key: str) -> type[Any]:
    """The class behind a plugin's key (BaseAction or BaseActionSubtree). Raises RemoteError (no_plugin)."""
    from scenario_execution.actions.base_action import BaseAction
    from scenario_execution.actions.base_action_subtree import BaseActionSubtree

    point = find_plugin(key)
    loaded = point.load()
    if not (isinstance(loaded, type) and issubclass(loaded, (BaseAction, BaseActionSubtree))):
        raise RemoteError("no_plugin", f"{key!r} ({point.value}) is not derived from BaseAction")
    return loaded


def origin(point: importlib.metadata.EntryPoint) -> dict[str, str]:
    """The package that a plugin comes from, and its version; "" when unknown."""
    dist = point.dist
    return {
        "package": dist.name if dist is not None else "",
        "version": dist.version if dist is not None else "",
    }


@cache
def origin_of(key: str) -> dict[str, str]:
    """Where a plugin comes from, for the reply to every `create`: asking reads and parses files."""
    return origin(find_plugin(key))


def describe_plugins() -> list[dict[str, Any]]:
    """`describe_plugin` of every installed action plugin."""
    points = importlib.metadata.entry_points(group=GROUP)
    return [_described(point) for point in sorted(points, key=lambda p: p.name)]


def describe_plugin(key: str) -> dict[str, Any]:
    """`{name, package, version, subtree, parameters}`; what a parameter says is in `_parameters`.

    Raises RemoteError (no_plugin, plugin_error).
    """
    described = _described(find_plugin(key))
    error = next((p["error"] for p in described["parameters"] if "error" in p), None)
    if error is not None:
        raise RemoteError("plugin_error", f"the action plugin {key!r} cannot be loaded: {error}")
    return described


def _described(point: importlib.metadata.EntryPoint) -> dict[str, Any]:
    subtree = False
    try:
        loaded = point.load()
        subtree = "BaseActionSubtree" in [cls.__name__ for cls in getattr(loaded, "__mro__", ())]
        parameters = _parameters(loaded, osc_types.of_action(point.name))
    except Exception as error:  # foreign code: one broken plugin must not hide the others
        parameters = [{"name": "", "error": f"{type(error).__name__}: {error}"}]
    return {"name": point.name, **origin(point), "subtree": subtree, "parameters": parameters}


def _parameters(loaded: Any, declared: Mapping[str, osc_types.Declared]) -> list[dict[str, Any]]:
    """Per parameter: name, default (repr; nil: there is none), required, of (who takes it: `__init__` or
    `execute`), type (of the .osc library, "" when undeclared) and choices (of an enum, name to value)."""
    found: dict[str, dict[str, Any]] = {}
    for method in ("__init__", "execute"):
        function = getattr(loaded, method, None)
        if not inspect.isfunction(function):
            continue
        for name, parameter in inspect.signature(function).parameters.items():
            if name in ("self", "resolve_variable_reference_arguments_in_execute") or name in found:
                continue  # what __init__ has taken, execute is not given
            if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
                continue
            has_default = parameter.default is not inspect.Parameter.empty
            osc = declared.get(name, osc_types.UNDECLARED)
            found[name] = {
                "name": name,
                "default": clean_text(repr(parameter.default), 200) if has_default else None,
                "required": not has_default or osc.required,
                "of": method,
                "type": osc.type,
                "choices": dict(osc.choices),
            }
    return list(found.values())


def _unknown(key: str) -> str:
    names = sorted({point.name for point in importlib.metadata.entry_points(group=GROUP)})
    close = difflib.get_close_matches(key, names, n=1)
    hint = f"; did you mean {close[0]!r}?" if close else ""
    return f"no action plugin {key!r} is installed for {sys.executable}{hint}"
