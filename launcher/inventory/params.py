"""Parameters in texts, and the ``k=v,…`` lists that set them.

    {identifier}        the value of the parameter, put in as it is and not looked at again
    ${identifier}       text: the shell's
    {{  and its  }}     literal braces
    anything else       text: {print $2}, {}, {"json": 1}, ${A:-${B}}

``}}`` without a ``{{`` before it is text too: ``${A:-${B}}`` must come out as it went in.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

from launcher.inventory.report import Place, Report

IDENTIFIER = re.compile(r"[A-Za-z_][A-Za-z0-9_]*\Z")
_TOKEN = re.compile(r"\{\{|\}\}|(?<!\$)\{([A-Za-z_][A-Za-z0-9_]*)\}")


def names_in(text: str) -> list[str]:
    """The parameters that `text` asks for, in order of appearance, each once."""
    return list(dict.fromkeys(name for kind, name in _tokens(text) if kind == "name"))


def substitute(text: str, values: Mapping[str, str], keep: tuple[str, ...] = ()) -> tuple[str, list[str]]:
    """The text with parameters replaced, and the names without a value. Those in `keep` stay as they are."""
    out: list[str] = []
    missing: list[str] = []
    for kind, part in _tokens(text):
        if kind == "text":
            out.append(part)
        elif part not in keep and part in values:
            out.append(values[part])
        else:
            out.append("{" + part + "}")
            if part not in keep:
                missing.append(part)
    return "".join(out), list(dict.fromkeys(missing))


def wrap(text: str, name: str, inner: str) -> str:
    """`text` with ``{name}`` replaced by `inner` and all else left for `substitute`."""
    out = ""
    end = 0
    for match in _TOKEN.finditer(text):
        if match.group(1) == name:
            out += text[end : match.start()] + inner
            end = match.end()
    return out + text[end:]


def _tokens(text: str) -> Iterator[tuple[str, str]]:
    """("text", literal) and ("name", parameter) parts."""
    end = 0
    unclosed = 0
    for match in _TOKEN.finditer(text):
        if match.start() > end:
            yield "text", text[end : match.start()]
        end = match.end()
        brace = match.group()
        if brace == "{{":
            unclosed += 1
            yield "text", "{"
        elif brace == "}}":
            yield "text", "}" if unclosed else "}}"
            unclosed = max(0, unclosed - 1)
        else:
            yield "name", match.group(1)
    if end < len(text):
        yield "text", text[end:]


def split_pairs(text: str, place: Place, report: Report) -> dict[str, str]:
    r"""``k=v,k=v`` as a mapping; ``\,`` is a comma in a value. Faults go to the report."""
    pairs: dict[str, str] = {}
    for part in re.split(r"(?<!\\),", text):
        part = part.replace("\\,", ",").strip()
        if not part:
            continue
        key, equals, value = part.partition("=")
        key = key.strip()
        if not equals or not key:
            report.add(place, f'expected name=value, found "{part}"', r"a comma in a value is written \,")
        elif key in pairs:
            report.add(place, f'"{key}" is set twice')
        else:
            pairs[key] = value.strip()
    return pairs
