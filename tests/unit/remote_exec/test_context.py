"""Extensions of a session: order, laziness, errors that are remembered."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import pytest

from remote_exec.errors import RemoteError
from remote_exec.host.context import Point, SessionContext, SessionInfo, installed

INFO = SessionInfo(logger=None, tick_period=0.1, output_dir=None, input_dir=None, clock=None)


def point(name: str, story: list[str], given: Any, at_end: BaseException | None = None) -> Point:
    @contextmanager
    def extension(session: SessionInfo) -> Iterator[Mapping[str, Any]]:
        assert session is INFO
        story.append(f"open {name}")
        if isinstance(given, BaseException):
            raise given
        yield given
        story.append(f"close {name}")
        if at_end is not None:
            raise at_end

    return Point(name, f"module:{name}", lambda: extension)


def test_opened_once_closed_once_in_reverse() -> None:
    story: list[str] = []
    context = SessionContext(lambda: [point("a", story, {"x": 1}), point("b", story, {"y": 2})])
    assert story == []
    for _ in range(2):
        assert context.kwargs(lambda: INFO) == {"x": 1, "y": 2}
    assert [context.close(), context.close()] == ["", ""]
    assert story == ["open a", "open b", "close b", "close a"]


def test_what_is_never_asked_for_is_never_opened() -> None:
    story: list[str] = []
    context = SessionContext(lambda: [point("a", story, {})])
    assert context.close() == ""
    assert story == []


@pytest.mark.parametrize("error", [ValueError("broken"), SystemExit(3)])
def test_an_error_closes_the_others_and_is_remembered(error: BaseException) -> None:
    story: list[str] = []
    context = SessionContext(lambda: [point("a", story, {"x": 1}), point("b", story, error)])
    for _ in range(2):
        with pytest.raises(RemoteError, match=r"extension 'b' \(module:b\)"):
            context.kwargs(lambda: INFO)
    assert story == ["open a", "open b", "close a"]


def test_an_error_at_the_end_is_told_and_the_others_are_closed() -> None:
    story: list[str] = []
    context = SessionContext(lambda: [point("a", story, {}), point("b", story, {}, OSError("stuck"))])
    context.kwargs(lambda: INFO)
    assert "OSError: stuck" in context.close()
    assert story[-1] == "close a"


def test_what_is_no_mapping_is_an_error() -> None:
    context = SessionContext(lambda: [point("a", [], 7)])
    with pytest.raises(RemoteError, match="extension 'a'"):
        context.kwargs(lambda: INFO)


def test_ours_is_installed() -> None:
    assert [p.value for p in installed() if p.name == "ros"] == ["remote_exec.host.ros:open_node"]
