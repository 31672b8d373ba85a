"""What this machine's absolute paths are called on a host. Pure.

    a pushed folder, what `path_map` names, the scenario's output folder  →  the folder there

| what                                              | is mapped                                            |
|---------------------------------------------------|------------------------------------------------------|
| an argument of an action that is such a path      | as a whole, also inside of lists, maps and structs   |
| a text argument of run_process and of what        | each word that is such a path, or has one behind a   |
| derives from it                                   | `=` (`--params=/…`, `map:=/…`), in quotes too        |
| anything else: text with a path in it, variables, | not                                                  |
| the acting actor                                  |                                                      |

A path is "such a path" when it is one of the folders or lies below one, as it is written; of several folders
the longest counts. What `..` leads out of the folder is not in it.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterable, Mapping
from typing import Any, Final

_BEFORE: Final = r"""(^|[\s=]["']?|["'])"""
_BEHIND: Final = r"""(?![^/\s"';|&<>()])([^\s"';|&<>()]*)"""


class PathMap:
    """pairs: a folder here and what it is called there; of two that are the same here the first counts."""

    def __init__(self, pairs: Iterable[tuple[str, str]] = ()) -> None:
        self._pairs = sorted(pairs, key=lambda pair: len(pair[0]), reverse=True)
        folders = "|".join(re.escape(here) for here, _ in self._pairs)
        self._in_words = re.compile(f"{_BEFORE}((?:{folders}){_BEHIND})")

    def __bool__(self) -> bool:
        return bool(self._pairs)

    def path(self, text: str) -> str:
        """`text` there, if it is a path that is mapped; else itself."""
        if not self._pairs or not text.startswith("/"):
            return text
        plain = posixpath.normpath(text) if ".." in text else text
        for here, there in self._pairs:
            if plain.rstrip("/") == here or plain.startswith(f"{here}/"):
                return there + plain[len(here) :]
        return text

    def value(self, value: Any, *, words: bool = False) -> Any:
        """An argument, mapped; words: also the words of its texts."""
        if not self._pairs:
            return value
        if isinstance(value, str):
            return self._words(value) if words else self.path(value)
        if isinstance(value, dict):
            return {key: self.value(item, words=words) for key, item in value.items()}
        if isinstance(value, list):
            return [self.value(item, words=words) for item in value]
        if type(value) is tuple:
            return tuple(self.value(item, words=words) for item in value)
        return value

    def arguments(self, values: Mapping[str, Any], *, commands: bool) -> dict[str, Any]:
        """The arguments of an action, mapped; commands: its texts are (parts of) command lines."""
        mapped = {name: self.value(value, words=commands) for name, value in values.items()}
        line = values.get("command")
        if commands and isinstance(line, str) and mapped["command"].count(" ") != line.count(" "):
            # run_process takes a line apart at each blank: not at those of our paths
            mapped["command"] = [self.value(word, words=True) for word in line.split(" ")]
        return mapped

    def _words(self, text: str) -> str:
        return self._in_words.sub(lambda found: found.group(1) + self.path(found.group(2)), text)
