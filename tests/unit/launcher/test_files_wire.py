"""Frames, and that what is sent to a machine runs on an old Python there."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from launcher.files import channel, wire

SHIPPED = [Path(channel.__file__).parent / f"{name}.py" for name in channel._SHIPPED]


@given(st.lists(st.binary(max_size=300), max_size=8), st.lists(st.integers(1, 400), min_size=1, max_size=5))
def test_frames_come_out_as_they_went_in_however_they_were_cut(payloads, cuts):
    sent = b"".join(wire.frame(wire.DATA, payload) for payload in payloads)
    frames, heard, at, turn = wire.Frames(), [], 0, 0
    while at < len(sent):
        size = cuts[turn % len(cuts)]
        heard += [bytes(payload) for _, payload in frames.feed(sent[at : at + size])]
        at, turn = at + size, turn + 1
    assert heard == payloads


def test_names_with_any_byte_cross():
    name = wire.text(b"a\n \xff\xfe\xc3\xa4")
    assert wire.value_of(memoryview(wire.said(wire.DIGEST, [name]))[5:]) == [name]
    assert wire.unpacked(memoryview(wire.packed(wire.PLAN, {"n": name}))[5:]) == {"n": name}
    about, content = wire.whole_of(memoryview(wire.whole([name], b"content"))[5:])
    assert (about, bytes(content)) == ([name], b"content")


@pytest.mark.parametrize("noise", [b"Welcome to Ubuntu\n", b"\x01\xff\xff\xff\xff", b"\x00\x00\x00\x00\x00"])
def test_what_is_no_frame_ends_it(noise):
    with pytest.raises(wire.Garbled):
        list(wire.Frames().feed(noise))


@pytest.mark.parametrize("payload", [b"", b"\0\0\0\x09[]", b"\0\0\0\x02{]", b"\xff\xff\xff\xff"])
def test_a_cut_off_file_is_garbled(payload):
    with pytest.raises(wire.Garbled):
        wire.whole_of(memoryview(payload))


@pytest.mark.parametrize("payload", [b"", b"x", wire.packed(wire.PLAN, [1, 2])[5:-3]])
def test_a_manifest_that_is_cut_off_is_garbled(payload):
    with pytest.raises(wire.Garbled):
        wire.unpacked(memoryview(payload))


def test_a_bomb_is_not_unpacked(monkeypatch):
    monkeypatch.setattr(wire, "_UNPACKED", 1000)
    with pytest.raises(wire.Garbled):
        wire.unpacked(memoryview(wire.packed(wire.PLAN, "x" * 2000))[5:])


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_what_is_sent_is_python_3_8_and_the_standard_library(path):
    """Syntax, and what of newer library functions is likely; the real thing needs such a machine."""
    module = ast.parse(path.read_text(), feature_version=(3, 8))
    own = {f"launcher.files.{name}" for name in channel._SHIPPED} | {"launcher.files"}
    known = {
        "__future__", "collections.abc", "contextlib", "errno", "fcntl", "hashlib", "json", "os", "select",
        "stat", "struct", "threading", "time", "typing", "zlib",
    }  # fmt: skip
    for node in ast.walk(module):
        if isinstance(node, ast.ImportFrom):
            assert node.module in own | known
        elif isinstance(node, ast.Import):
            assert {alias.name for alias in node.names} <= known
        elif isinstance(node, ast.Attribute):
            assert node.attr not in ("removeprefix", "removesuffix", "pairwise")
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            assert not (node.func.id == "zip" and node.keywords), "zip(strict=…) is of 3.10"
    for statement in (node for node in module.body if isinstance(node, ast.Assign)):
        for part in ast.walk(statement):
            if isinstance(part, ast.Subscript) and isinstance(part.value, ast.Name):
                assert part.value.id not in ("list", "dict", "tuple", "set"), "evaluated: of 3.9"
