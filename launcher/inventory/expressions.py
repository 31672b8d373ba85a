"""What is surely wrong with an extended regular expression, whichever grep -E of a machine reads it. Pure.

What they disagree about, and what some take for a literal (a `)` alone, a `{`), is left to the machine.
"""

from __future__ import annotations

import re

_INSIDE = r"(?:\[:[^:\]]*:\]|\[\.[^\]]*\.\]|\[=[^\]]*=\]|[^\]\[]|\[(?![:.=]))"
_BRACKETS = re.compile(rf"\[(?:\^|(?!\^))(?:\]|{_INSIDE}){_INSIDE}*\]")
_CLASS = re.compile(r"\[:([^:\]]*):\]")
_CLASSES = frozenset(
    [
        "alnum",
        "alpha",
        "blank",
        "cntrl",
        "digit",
        "graph",
        "lower",
        "print",
        "punct",
        "space",
        "upper",
        "xdigit",
    ]
)


def fault(text: str) -> str:
    """Words for the first of them; "" when there is none."""
    at = depth = 0
    while at < len(text):
        char, step = text[at], 1
        if char == "\\":
            if at + 1 == len(text):
                return "it ends with a single \\"
            step = 2
        elif char == "[":
            found = _BRACKETS.match(text, at)
            if found is None:
                return "a [ is not closed"
            unknown = set(_CLASS.findall(found[0][1:])) - _CLASSES
            if unknown:
                return f"there is no class [:{min(unknown)}:]"
            step = len(found[0])
        elif char in "()":
            depth = max(0, depth + (1 if char == "(" else -1))
        at += step
    return "a ( is not closed" if depth else ""
