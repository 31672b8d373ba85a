"""The end of a session's actions in its worker, also when one of them hangs in foreign code.

    cancel what runs → tick until it has settled → shutdown() of every action → close what extensions gave

The main thread does it. When it hangs for longer than it may, another thread takes over where it is, without
the action that hangs; when that one hangs, too, a further one. Who was taken over from does nothing more.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

from remote_exec.host.context import CLOSE_SECONDS

if TYPE_CHECKING:
    from remote_exec.host.actions import ActionTable

STUCK_SECONDS: Final = 2.0
"""How long foreign code may hold up the others, beyond a shutdown's own time."""


class Ending:
    """See the module's text. budget: seconds for what was cancelled to settle."""

    def __init__(self, table: ActionTable | None, budget: float) -> None:
        self._table = table
        self._since = time.monotonic()
        self._settle_until = self._since + budget
        self._owner = 0
        """Who may act: counts up whenever somebody else has to take over."""
        self._stuck: set[str] = set()
        self._shut: set[str] = set()
        self._done_elsewhere = False

    def run(self) -> None:
        """In the main thread: returns when all is done, and never when another thread took over."""
        if self._table is not None:
            self._end_all(self._table, 0)
        if self._owner != 0:
            threading.Event().wait()

    def _take_over(self, owner: int) -> None:
        if self._table is not None:
            self._end_all(self._table, owner)
        self._done_elsewhere = self._owner == owner

    def watch(self, now: float) -> bool:
        """From the other thread, often: takes over when need be. True: it is all done, but for what hangs."""
        table = self._table
        if table is None:
            return False
        busy = table.busy
        if busy is not None:
            allowed = STUCK_SECONDS
            if busy.phase == "shutdown":
                allowed += table.shutdown_seconds(busy.action) or 10.0
            elif busy.phase == "close":
                allowed = CLOSE_SECONDS
            if now - max(busy.since, self._since) > allowed:
                self._stuck.add(busy.action)
                self._owner += 1
                table.busy = None
                in_thread(self._take_over, self._owner)
        return self._done_elsewhere

    def _end_all(self, table: ActionTable, owner: int) -> None:
        if self._owner == owner:
            # Their cancel may hang, too, where they wait for one another: it is not waited for any longer.
            asked = [in_thread(table.request_cancel_from_outside, one) for one in list(self._stuck)]
            table.cancel_all(self._stuck)
            for thread in asked:
                thread.join(STUCK_SECONDS)
        while self._owner == owner and table.any_active(self._stuck):
            if time.monotonic() > self._settle_until:
                break
            table.tick_due(self._stuck)
            time.sleep(0.01)
        for action_id in table.ids():
            if self._owner != owner or action_id in self._shut:
                continue
            self._shut.add(action_id)
            table.shutdown_now(action_id)
        if self._owner == owner:
            table.close_context()


def in_thread(function: Callable[[Any], None], argument: object) -> threading.Thread:
    thread = threading.Thread(target=function, args=(argument,), daemon=True)
    thread.start()
    return thread
