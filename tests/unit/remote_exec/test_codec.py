"""The codec: what crosses comes back equal and of the same type; nothing else gets through."""

from __future__ import annotations

import enum

import msgpack
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from remote_exec import codec
from remote_exec.errors import BadMessage, ValueDoesNotCross
from remote_exec.messages import MAX_CONTAINERS, MAX_DEPTH, MAX_MESSAGE_BYTES, Variable

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
LEAVES = (
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False)
    | TEXT
    | st.binary(max_size=20)
    | TEXT.map(Variable)
)
VALUES = st.recursive(
    LEAVES,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.lists(inner, max_size=4).map(tuple)
        | st.dictionaries(TEXT, inner, max_size=4)
    ),
    max_leaves=20,
)
MAPS = st.dictionaries(TEXT, VALUES, max_size=5)


def same(left: object, right: object) -> bool:
    if type(left) is not type(right):
        return False
    if isinstance(left, dict) and isinstance(right, dict):
        return left.keys() == right.keys() and all(same(left[key], right[key]) for key in left)
    if isinstance(left, (list, tuple)) and isinstance(right, (list, tuple)):
        return len(left) == len(right) and all(map(same, left, right))
    return left == right


@given(MAPS)
def test_what_crosses_comes_back_the_same(message: dict[str, object]) -> None:
    codec.check_value(message, "args")
    assert same(codec.unpack(codec.pack(message)), message)


@given(st.binary(max_size=200))
@settings(max_examples=500)
def test_random_bytes_are_a_bad_message_or_a_map(body: bytes) -> None:
    for unpack in (codec.unpack, codec.unpack_v1):
        try:
            assert isinstance(unpack(body), dict)
        except BadMessage:
            pass


@given(MAPS, st.data())
def test_truncated_messages_are_bad(message: dict[str, object], data: st.DataObject) -> None:
    body = codec.pack(message)
    cut = data.draw(st.integers(0, len(body) - 1))
    with pytest.raises(BadMessage):
        codec.unpack(body[:cut])


@pytest.mark.parametrize(
    "body",
    [
        msgpack.packb([1]),
        msgpack.packb(3),
        msgpack.packb({1: 2}),
        msgpack.packb({b"k": 2}),
        msgpack.packb({"t": msgpack.Timestamp(1)}),
        msgpack.packb({"t": [1, {b"k": 2}]}),
        msgpack.packb({"t": [[], 1, [msgpack.Timestamp(1)]]}),
        msgpack.packb({"t": msgpack.ExtType(9, b"x")}),
        msgpack.packb({"t": msgpack.ExtType(1, b"\xc1")}),
        msgpack.packb({"t": msgpack.ExtType(1, b"\x01")}),
        b"\x81\xa1a" + b"\x91" * 5000 + b"\x01",
        b"\x81\xa1a\xa2\xff\xfe",
        b"",
    ],
)
def test_what_does_not_belong_is_refused(body: bytes) -> None:
    with pytest.raises(BadMessage):
        codec.unpack(body)


def test_variables_do_not_cross_to_the_older_protocol() -> None:
    with pytest.raises(ValueDoesNotCross, match="no variables"):
        codec.pack_v1({"args": {"target": Variable("/test/x")}})


def test_a_nest_of_tuples_is_refused_without_recursion() -> None:
    payload = b"\x90"
    for _ in range(300):
        payload = b"\x91" + msgpack.packb(msgpack.ExtType(codec.TUPLE_EXT, payload))
    with pytest.raises(BadMessage, match="deep"):
        codec.unpack(b"\x81\xa1a" + payload)


def test_size_is_bounded_at_both_ends() -> None:
    with pytest.raises(ValueDoesNotCross, match="bytes"):
        codec.pack({"a": b"x" * (MAX_MESSAGE_BYTES + 1)})
    with pytest.raises(BadMessage, match="bytes"):
        codec.unpack(b"\0" * (MAX_MESSAGE_BYTES + 1))


class Colour(enum.Enum):
    RED = 1


class Level(enum.IntEnum):
    HIGH = 3


def nest(depth: int) -> list[object]:
    value: list[object] = []
    for _ in range(depth):
        value = [value]
    return value


def test_a_message_may_be_as_deep_as_its_sender_may_make_it() -> None:
    deepest = {"a": nest(MAX_DEPTH - 2)}
    codec._check(deepest, "", MAX_DEPTH)
    assert codec.unpack(msgpack.packb(deepest)) == deepest
    with pytest.raises(BadMessage, match="deep"):
        codec.unpack(msgpack.packb({"a": nest(MAX_DEPTH - 1)}))


@pytest.mark.parametrize(
    ("value", "where"),
    [
        ({"command": ["a", "b", object()]}, r"args\.command\[2\]"),
        ({"a": {"b": (1, Colour.RED)}}, r"args\.a\.b\[1\]"),
        ({"a": 2**70}, r"args\.a"),
        ({"a": {1: 2}}, r"args\.a"),
        ({"a": "\ud800"}, r"args\.a"),
        ({"a": {1, 2}}, r"args\.a"),
        ({"a": nest(MAX_DEPTH)}, r"args\.a"),
    ],
)
def test_the_sender_names_what_does_not_cross(value: object, where: str) -> None:
    with pytest.raises(ValueDoesNotCross, match="^" + where):
        codec.check_value(value, "args")


def test_pack_itself_never_raises_anything_else() -> None:
    cycle: list[object] = []
    cycle.append(cycle)
    for value in (cycle, object(), 2**70, "\ud800", nest(2000)):
        with pytest.raises(ValueDoesNotCross):
            codec.pack({"a": value})


def test_subclasses_cross_as_their_base() -> None:
    assert codec.unpack(codec.pack({"a": Level.HIGH, "b": (Level.HIGH,)})) == {"a": 3, "b": (3,)}


def test_v1_has_no_tuples() -> None:
    assert codec.unpack_v1(codec.pack_v1({"a": ("SIGINT", 2)})) == {"a": ["SIGINT", 2]}


def test_frames() -> None:
    assert codec.split_frames([b"r", b"x"]) == codec.Incoming(b"r", 2, b"x")
    assert codec.split_frames([b"r", b"", b"x"]) == codec.Incoming(b"r", 1, b"x")
    for frames in ([b"r"], [b"r", b"x", b"y"], [b"r", b"", b"x", b"y"], []):
        with pytest.raises(BadMessage):
            codec.split_frames(frames)


def test_clean_text_always_packs() -> None:
    text = codec.clean_text("a\ud800" + "b" * 10, limit=5)
    assert codec.unpack(codec.pack({"t": text}))["t"].startswith("a\\ud800")


def test_more_containers_than_anybody_needs_are_refused_at_both_ends() -> None:
    body = b"\x81\xa1k\xdd" + (8_000_000).to_bytes(4, "big") + b"\x90" * 8_000_000
    for unpack in (codec.unpack, codec.unpack_v1):
        with pytest.raises(BadMessage, match="lists and maps"):
            unpack(body)
    with pytest.raises(ValueDoesNotCross, match=r"args.*lists and maps"):
        codec.check_value([[]] * MAX_CONTAINERS, "args")
    inside = [()] * (MAX_CONTAINERS - codec.ENVELOPE_CONTAINERS - 1)
    codec.check_value(inside, "args")
    assert codec.unpack(codec.pack({"args": inside, "k": [{}]}))["args"] == inside
