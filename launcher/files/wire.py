"""Frames between the client and the agent that it sends to a machine. Both ends run this module.

    client → agent                                   agent → client
    REQUEST  what to do, and where                   MANIFEST what lies there, zlib
    DIGEST   of the manifest that is to be there     SAME     it is there already
    PLAN     what to remove, make and change, zlib   PROBLEM  of one name; the rest goes on
    WHOLE, FILE DATA… END, DROP: contents            WHOLE, FILE DATA… END: contents
    GET      which contents, from which offset on    HASHED   digests that were asked for
    HASH     whose digests                           REMOVED  what was not, and why
    REMOVE   what has been verified at the client    FAILED   it ends here, and why
    DONE     that was all                            DONE     all is done
                                                     ALIVE    every few seconds, whatever it is doing

Rules:
- standard library only, Python 3.8: this is executed on the machine, where nothing of ours is installed;
- a frame is kind, length, payload; what is no such frame ends the talk;
- names are text with surrogates for undecodable bytes (`text`, `raw`), in JSON, which carries those.
"""

from __future__ import annotations

import json
import struct
import zlib
from typing import Any, Iterator, Tuple  # noqa: UP035  (evaluated below, by Python 3.8 too)

REQUEST, DIGEST, PLAN, WHOLE, FILE, DATA, END, DROP, GET, HASH, REMOVE, DONE = range(1, 13)
MANIFEST, SAME, PROBLEM, HASHED, REMOVED, FAILED, ALIVE = range(21, 28)
_KINDS = frozenset([*range(1, 13), *range(21, 28)])

BEAT_S = 2.0
"""Between two ALIVE: who hears nothing for many of them talks to something that stands still."""

CHUNK = 1 << 18
"""Bytes of content in a frame, at most."""
SMALL = 1 << 16
"""Up to this size a file's content travels in one frame with all that is said of it."""
_LIMIT = 1 << 28
"""Bytes of a frame; a manifest of millions of files fits."""
_UNPACKED = 1 << 30

_HEADER = struct.Struct(">BI")
_LENGTH = struct.Struct(">I")

Frame = Tuple[int, memoryview]  # noqa: UP006


class Garbled(Exception):
    """What came is no frame, or not what such a frame holds."""


def frame(kind: int, payload: bytes = b"") -> bytes:
    """A whole frame."""
    return _HEADER.pack(kind, len(payload)) + payload


def head(kind: int, length: int) -> bytes:
    """What stands before a payload that is written separately."""
    return _HEADER.pack(kind, length)


def said(kind: int, value: Any) -> bytes:
    """A frame that holds a value."""
    return frame(kind, json.dumps(value, separators=(",", ":")).encode("ascii"))


def packed(kind: int, value: Any) -> bytes:
    """The same, compressed."""
    return frame(kind, zlib.compress(json.dumps(value, separators=(",", ":")).encode("ascii"), 1))


def whole(value: Any, content: bytes) -> bytes:
    """A small file: what is said of it, and its content."""
    about = json.dumps(value, separators=(",", ":")).encode("ascii")
    length = _LENGTH.size + len(about) + len(content)
    return b"".join([_HEADER.pack(WHOLE, length), _LENGTH.pack(len(about)), about, content])


def value_of(payload: memoryview) -> Any:
    """What `said` was given. Raises Garbled."""
    try:
        return json.loads(bytes(payload))
    except ValueError as error:
        raise Garbled("no JSON: %s" % error) from error  # noqa: UP031


def unpacked(payload: memoryview) -> Any:
    """What `packed` was given. Raises Garbled."""
    try:
        unpacker = zlib.decompressobj()
        text = unpacker.decompress(payload, _UNPACKED)
        if not unpacker.eof:
            raise Garbled("it is cut off, or larger than anything real")
        return json.loads(text)
    except (ValueError, zlib.error) as error:
        raise Garbled(str(error)) from error


def whole_of(payload: memoryview) -> tuple[Any, memoryview]:
    """What `whole` was given. Raises Garbled."""
    if len(payload) < _LENGTH.size:
        raise Garbled("cut off")
    (length,) = _LENGTH.unpack_from(payload)
    end = _LENGTH.size + length
    if end > len(payload):
        raise Garbled("cut off")
    return value_of(payload[_LENGTH.size : end]), payload[end:]


class Frames:
    """Takes bytes as they come and gives frames; a payload is valid until the next one is taken."""

    def __init__(self) -> None:
        self._parts: list[bytes] = []
        self._held = 0
        self._wanted = _HEADER.size

    def feed(self, data: bytes) -> Iterator[Frame]:
        """All frames that are whole now. Raises Garbled."""
        self._parts.append(data)
        self._held += len(data)
        if self._held < self._wanted:
            return  # joined once, not for every piece of a large frame
        view = memoryview(b"".join(self._parts) if len(self._parts) > 1 else data)
        at, end, size = 0, len(view), _HEADER.size
        self._wanted = size
        while end - at >= size:
            kind, length = _HEADER.unpack_from(view, at)
            if kind not in _KINDS or length > _LIMIT:
                raise Garbled("no frame: %r" % bytes(view[at : at + 40]))  # noqa: UP031
            if end - at - size < length:
                self._wanted = size + length
                break
            yield kind, view[at + size : at + size + length]
            at += size + length
        self._parts, self._held = [bytes(view[at:])] if at < end else [], end - at


def text(name: bytes) -> str:
    """A name of the file system as text, whatever the locale."""
    return name.decode("utf-8", "surrogateescape")


def raw(name: str) -> bytes:
    """The other way. Raises UnicodeEncodeError for what `text` never gives."""
    return name.encode("utf-8", "surrogateescape")
