"""A stand-in for rclpy, which is on no package index: does nothing, and records what is asked of it."""

import os
import threading

if os.environ.get("STANDIN_ROS_OF_ANOTHER_PYTHON"):
    raise ImportError("No module named 'rclpy._rclpy_pybind11'")

_ok = False


def record(*words):
    with open(os.environ["STANDIN_ROS"], "a") as file:
        file.write(" ".join(str(word) for word in (os.getpid(), *words)) + "\n")


def ok():
    return _ok


def init(*, args=None, signal_handler_options=None):
    global _ok
    if os.environ.get("STANDIN_ROS_FAILS"):
        raise RuntimeError("no middleware found")
    assert not _ok
    _ok = True
    record("init", signal_handler_options.name)


def try_shutdown():
    global _ok
    _ok = False
    record("shutdown")


class Node:
    def __init__(self, name):
        self.name = name
        self.callbacks = []

    def get_name(self):
        return self.name

    def destroy_node(self):
        record("destroy_node", self.name)


def create_node(name):
    assert _ok and threading.current_thread() is threading.main_thread()
    record("create_node", name)
    return Node(name)
