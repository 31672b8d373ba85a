"""Messages to bytes and back, and what may be in them.

v2 bodies are msgpack maps with two extensions: a tuple crosses as a tuple (an OSC enum is a
`(name, value)` tuple and actions compare it as one), and a reference to a variable as a `Variable`.
Lists stay lists. Rules:

- What crosses: None, bool, int (64 bit), float, str, bytes, list, tuple, map with str keys, Variable.
- A sender calls `check_value` on what a user gave it, so that a refusal names the argument.
- A receiver trusts nothing: whatever is undecodable, too deep, too large or of another type is a
  BadMessage, never another exception.
- v1 bodies are plain msgpack; there tuples become lists, and variables do not cross.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import msgpack

from remote_exec.errors import BadMessage, ValueDoesNotCross
from remote_exec.messages import MAX_CONTAINERS, MAX_DEPTH, MAX_MESSAGE_BYTES, Variable

TUPLE_EXT: Final = 1
"""msgpack extension type of a tuple; its payload is the packed list of the elements."""
VARIABLE_EXT: Final = 2
"""msgpack extension type of a Variable; its payload is the name."""
INTERNAL_BYTES: Final = MAX_MESSAGE_BYTES + 64 * 1024
"""The bound between the processes of one server, which put an envelope around what arrived."""
ENVELOPE_DEPTH: Final = 4
"""Levels that a message puts around a value; `check_value` leaves room for them."""
ENVELOPE_CONTAINERS: Final = 16

_INT_MIN: Final = -(2**63)
_INT_MAX: Final = 2**64 - 1
_PLAIN: Final = frozenset((type(None), bool, float, str, bytes, int, Variable))
_CONTAINERS: Final = frozenset((dict, list, tuple))
_BELONGS: Final = _PLAIN | _CONTAINERS
_KEYS: Final = frozenset((str,))


@dataclass(frozen=True)
class Incoming:
    """One message as it came out of a ROUTER."""

    route: bytes
    """Where an answer goes."""
    wire: int
    """1 or 2, told by the shape of the frames."""
    body: bytes


def pack(message: Mapping[str, Any], limit: int = MAX_MESSAGE_BYTES) -> bytes:
    """The v2 body of `message`, at most `limit` bytes. Raises ValueDoesNotCross."""
    return _pack(message, strict=True, limit=limit)


def unpack(body: bytes, limit: int = MAX_MESSAGE_BYTES) -> dict[str, Any]:
    """The map in a v2 body of at most `limit` bytes. Raises BadMessage."""
    count = _Count()
    return _unpack(body, _TupleHook(0, count), count, limit)


def pack_v1(message: Mapping[str, Any]) -> bytes:
    """The v1 body of `message`; tuples become lists. Raises ValueDoesNotCross."""
    return _pack(message, strict=False, limit=MAX_MESSAGE_BYTES)


def unpack_v1(body: bytes) -> dict[str, Any]:
    """The map in a v1 body. Raises BadMessage."""
    return _unpack(body, _no_ext, _Count(), MAX_MESSAGE_BYTES)


def split_frames(frames: Sequence[bytes]) -> Incoming:
    """What arrived at a ROUTER: [id, body] is v2, [id, b"", body] is v1. Raises BadMessage."""
    if len(frames) == 2:
        return Incoming(frames[0], 2, frames[1])
    if len(frames) == 3 and frames[1] == b"":
        return Incoming(frames[0], 1, frames[2])
    raise BadMessage(f"{len(frames)} frames; expected [id, body] or [id, empty, body]")


def check_value(value: object, where: str) -> None:
    """Raises ValueDoesNotCross with the path (`args.command[2]`) of the first part that cannot be sent."""
    _check(value, where, MAX_DEPTH - ENVELOPE_DEPTH)
    if _containers(value) > MAX_CONTAINERS - ENVELOPE_CONTAINERS:
        raise ValueDoesNotCross(where, type(value), f"it has more than {MAX_CONTAINERS} lists and maps")


def _containers(value: object) -> int:
    if isinstance(value, dict):
        return 1 + sum(map(_containers, value.values()))
    return 1 + sum(map(_containers, value)) if isinstance(value, (list, tuple)) else 0


def clean_text(text: object, limit: int = 64 * 1024) -> str:
    """`text` as a str that can always be packed: no lone surrogates, at most `limit` characters.

    Whatever a plugin gives for a text: one that has none (its `__str__` raises) says so.
    """
    try:
        plain = str(text)
    except Exception as error:
        plain = f"<a {type(text).__name__} without a text: its __str__ raised {type(error).__name__}>"
    if len(plain) > limit:
        plain = plain[:limit] + " …"
    return plain.encode("utf-8", "backslashreplace").decode("utf-8")


def _check(value: object, where: str, depth: int) -> None:
    if value is None or isinstance(value, (bool, float, bytes)):
        return
    if isinstance(value, int):
        if not _INT_MIN <= value <= _INT_MAX:
            raise ValueDoesNotCross(where, value, "needs more than 64 bit")
    elif isinstance(value, str):
        _check_text(value, where)
    elif isinstance(value, Variable):
        _check_text(value.name, where)
    elif isinstance(value, (list, tuple, dict)):
        if depth <= 0:
            raise ValueDoesNotCross(where, value, "nested too deeply")
        if isinstance(value, dict):
            for key, item in value.items():
                if not isinstance(key, str):
                    raise ValueDoesNotCross(where, value, f"its key {key!r} is not a string")
                _check_text(key, where)
                _check(item, f"{where}.{key}" if where else key, depth - 1)
        else:
            for index, item in enumerate(value):
                _check(item, f"{where}[{index}]", depth - 1)
    else:
        raise ValueDoesNotCross(where, value)


def _check_text(value: str, where: str) -> None:
    try:
        value.encode("utf-8")
    except UnicodeEncodeError as error:
        raise ValueDoesNotCross(where, value, "it is no valid Unicode text") from error


def _pack(message: Mapping[str, Any], *, strict: bool, limit: int) -> bytes:
    try:
        body = _packb(message if isinstance(message, dict) else dict(message), strict)
    except ValueDoesNotCross:
        # The packer knows only the type; walk the value to name the place.
        _check(message, "", MAX_DEPTH)
        raise
    except (ValueError, OverflowError, TypeError, RecursionError) as error:
        _check(message, "", MAX_DEPTH)
        raise ValueDoesNotCross("message", message, str(error)) from error
    if len(body) > limit:
        raise ValueDoesNotCross("message", message, f"{len(body)} bytes; at most {limit} cross")
    return body


def _packb(value: Any, strict: bool) -> bytes:
    def default(item: Any) -> Any:
        if isinstance(item, tuple):
            return msgpack.ExtType(TUPLE_EXT, _packb(list(item), strict))
        if isinstance(item, Variable):
            if not strict:
                raise ValueDoesNotCross("message", item, "the older protocol (v1) has no variables")
            return msgpack.ExtType(VARIABLE_EXT, item.name.encode())
        return _as_base(item)

    packed: bytes = msgpack.packb(value, use_bin_type=True, strict_types=strict, default=default)
    return packed


def _as_base(item: object) -> object:
    """Subclasses (an IntEnum, a numpy float, an OrderedDict) equal their base, so that is sent."""
    if isinstance(item, str):
        return str.__str__(item)
    if isinstance(item, int):
        return int(item)
    if isinstance(item, float):
        return float(item)
    if isinstance(item, bytes):
        return bytes(item)
    if isinstance(item, list):
        return list(item)
    if isinstance(item, dict):
        return dict(item)
    raise ValueDoesNotCross("message", item)


class _Count:
    """Counts the containers of one message and stops at too many, before they cost time and memory."""

    def __init__(self) -> None:
        self._left = MAX_CONTAINERS

    def __call__(self, container: Any) -> Any:
        self._left -= 1
        if self._left < 0:
            raise BadMessage(f"more than {MAX_CONTAINERS} lists and maps")
        return container


class _TupleHook:
    """Turns the tuple extension back into tuples; refuses deep nests before they cost anything."""

    def __init__(self, depth: int, count: _Count) -> None:
        self._depth = depth
        self._count = count

    def __call__(self, code: int, data: bytes) -> Any:
        if code == VARIABLE_EXT:
            return self._count(Variable(data.decode("utf-8")))
        if code != TUPLE_EXT:
            raise BadMessage(f"unknown extension type {code}")
        if self._depth >= MAX_DEPTH:
            raise BadMessage("nested too deeply")
        items = _unpackb(data, _TupleHook(self._depth + 1, self._count), self._count)
        if not isinstance(items, list):
            raise BadMessage("a tuple's payload is not a list")
        return tuple(items)


def _no_ext(code: int, data: bytes) -> Any:
    raise BadMessage(f"unknown extension type {code}")


def _unpackb(body: bytes, hook: Any, count: _Count) -> Any:
    return msgpack.unpackb(
        body, raw=False, strict_map_key=True, ext_hook=hook, list_hook=count, object_hook=count
    )


def _unpack(body: bytes, hook: Any, count: _Count, limit: int) -> dict[str, Any]:
    if len(body) > limit:
        raise BadMessage(f"{len(body)} bytes; at most {limit} are accepted")
    try:
        message = _unpackb(body, hook, count)
    except BadMessage:
        raise
    except Exception as error:  # msgpack raises ValueError, its own types and, nested, RecursionError
        raise BadMessage(f"not decodable ({type(error).__name__})") from error
    if type(message) is not dict:
        raise BadMessage(f"expected a map, got {type(message).__name__}")
    _check_decoded(message)
    return message


def _check_decoded(message: dict[str, Any]) -> None:
    """What msgpack lets through and this wire does not: bytes as keys, timestamps, deep nests.

    Every message passes here on each of its ways, so the common one, flat, is looked through without a loop.
    """
    level: list[Any] = [message]
    for _ in range(MAX_DEPTH):
        below: list[Any] = []
        for container in level:
            values = container
            if type(container) is dict:
                if not _KEYS.issuperset(map(type, container)):
                    raise BadMessage("a map's key is not a string")
                values = container.values()
            kinds = set(map(type, values))
            if kinds <= _PLAIN:
                continue
            if not kinds <= _BELONGS:
                strange = (kinds - _BELONGS).pop()
                raise BadMessage(f"a value of type {strange.__name__} does not belong here")
            below += [value for value in values if type(value) in _CONTAINERS]
        if not below:
            return
        level = below
    raise BadMessage("nested too deeply")
