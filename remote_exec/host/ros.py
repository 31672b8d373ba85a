"""A ROS 2 node for the actions of a session: setup()'s `node`, as under scenario_execution's ROS runner.

Rules:
- Where rclpy cannot be imported it provides nothing and costs nothing: rclpy comes with ROS and is on no
  package index. One that is there and made for another Python is said once per session.
- One node per session, of a unique name, spun by an executor in a thread of its own until the session ends.
- Signals stay the worker's: rclpy installs no handlers.
"""

from __future__ import annotations

import importlib.util
import sys
import threading
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Final

from remote_exec.host.context import SessionInfo

STOP_SECONDS: Final = 2.0
"""How long callbacks that still run may hold up the end."""
RESUME_SECONDS: Final = 0.1


@contextmanager
def open_node(session: SessionInfo) -> Iterator[Mapping[str, Any]]:
    """{"node": a spinning rclpy node}, or {} where there is no ROS."""
    if not _usable(session.logger):
        yield {}
        return
    import rclpy
    from rclpy.executors import MultiThreadedExecutor
    from rclpy.signals import SignalHandlerOptions

    ours = not rclpy.ok()  # unless an action has initialised it for itself
    if ours:
        rclpy.init(args=[], signal_handler_options=SignalHandlerOptions.NO)
    try:
        node = rclpy.create_node(f"se_remote_{uuid.uuid4().hex[:12]}")
        executor = MultiThreadedExecutor()
        executor.add_node(node)
        stopping = threading.Event()
        thread = threading.Thread(target=_spin, args=(executor, stopping, session.logger), daemon=True)
        thread.start()
        try:
            yield {"node": node}
        finally:
            stopping.set()
            executor.shutdown(timeout_sec=STOP_SECONDS)
            thread.join(STOP_SECONDS)
            node.destroy_node()
    finally:
        if ours:
            rclpy.try_shutdown()


def _usable(logger: Any) -> bool:
    if importlib.util.find_spec("rclpy") is None:
        return False
    try:
        import rclpy  # noqa: F401
    except ImportError as error:
        # A sourced ROS leads every Python to its rclpy, which only one version of Python can load.
        logger.info(f"no ROS node for actions: {sys.executable} cannot import rclpy: {error}")
        return False
    return True


def _spin(executor: Any, stopping: threading.Event, logger: Any) -> None:
    """In a thread: callbacks run here. An exception of one of them is logged and ends none of the others."""
    from rclpy.executors import ExternalShutdownException

    while not stopping.is_set():
        try:
            executor.spin()
            return
        except ExternalShutdownException:
            return
        except Exception as error:  # of a callback
            logger.error(f"a callback of the ROS node raised {type(error).__name__}: {error}")
            stopping.wait(RESUME_SECONDS)
