"""What this machine's paths are called on a host."""

from __future__ import annotations

import pytest

from remote_exec.client.paths import PathMap

PATHS = PathMap(
    [("/home/me/ws", "/run/push/1/ws"), ("/home/me/ws/out", "/state/out put"), ("/home/me/my maps", "/maps")]
)


@pytest.mark.parametrize(
    ("here", "there"),
    [
        ("/home/me/ws", "/run/push/1/ws"),
        ("/home/me/ws/", "/run/push/1/ws/"),
        ("/home/me/ws/a b/c", "/run/push/1/ws/a b/c"),
        ("/home/me/ws/out/bag", "/state/out put/bag"),
        ("/home/me/ws/../ws/x", "/run/push/1/ws/x"),
        ("/home/me/ws/x/../../y", "/home/me/ws/x/../../y"),
        ("/home/me/wsx", "/home/me/wsx"),
        ("see /home/me/ws/x", "see /home/me/ws/x"),
        ("home/me/ws", "home/me/ws"),
        ("", ""),
    ],
)
def test_a_whole_path(here, there):
    assert PATHS.path(here) == there
    assert PATHS.value({"a": [here, 1, None], "b": (here, True)}) == {
        "a": [there, 1, None],
        "b": (there, True),
    }


@pytest.mark.parametrize(
    ("here", "there"),
    [
        ("ls /home/me/ws /home/me/wsx", "ls /run/push/1/ws /home/me/wsx"),
        ("/home/me/ws/run /home/me/ws/x", "/run/push/1/ws/run /run/push/1/ws/x"),
        ("ros2 launch a map:=/home/me/ws/m.yaml", "ros2 launch a map:=/run/push/1/ws/m.yaml"),
        ("x --file='/home/me/my maps/a'", "x --file='/maps/a'"),
        ("cat </home/me/ws/x", "cat </home/me/ws/x"),
        ("cat /home/me/ws/x>y;ls '/home/me/ws'", "cat /run/push/1/ws/x>y;ls '/run/push/1/ws'"),
        ("http://home/me/ws a:/home/me/ws", "http://home/me/ws a:/home/me/ws"),
        ("rm /home/me/ws/../x", "rm /home/me/ws/../x"),
    ],
)
def test_the_words_of_a_command_line(here, there):
    assert PATHS.value(here, words=True) == there
    assert PATHS.value(["sh", "-c", here], words=True) == ["sh", "-c", there]


def test_a_command_is_taken_apart_before_a_path_with_a_blank_comes_in():
    mapped = PATHS.arguments({"command": "record -o /home/me/ws/out/bag", "n": 1}, commands=True)
    assert mapped == {"command": ["record", "-o", "/state/out put/bag"], "n": 1}
    assert PATHS.arguments({"command": "ls /home/me/ws"}, commands=True) == {"command": "ls /run/push/1/ws"}
    assert PATHS.arguments({"command": "ls /home/me/ws"}, commands=False) == {"command": "ls /home/me/ws"}


def test_of_two_that_are_the_same_the_first_counts_and_without_any_nothing_is_touched():
    assert PathMap([("/a", "/first"), ("/a", "/second")]).path("/a/x") == "/first/x"
    value = ["/a", {"b": "/a"}]
    assert PathMap().value(value) is value and PathMap().value("x /a", words=True) == "x /a"
