"""SIGINT, SIGTERM and SIGHUP, chained: we are told first and decide whether the handler before us is too."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable
from types import FrameType
from typing import Any, Final

SIGNALS: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class SignalChain:
    """`told(number)` is called in the handler; it returns whether to go on to the previous handler."""

    def __init__(self, told: Callable[[int], bool]) -> None:
        self.count = 0
        self.last = ""
        self._told = told
        self._previous: dict[int, Any] = {}
        self._handler: Any = self._handle  # one bound method: `is` must hold when it is taken away

    def install(self) -> None:
        """Only Python's main thread may; elsewhere (a tree ticked by an executor) this does nothing."""
        if threading.current_thread() is not threading.main_thread():
            return
        for number in SIGNALS:
            previous = signal.getsignal(number)
            if previous is signal.SIG_IGN or previous is None:
                continue  # started with nohup, or a handler from outside Python: not ours to change
            self._previous[number] = previous
            signal.signal(number, self._handler)

    def missed(self) -> None:
        """One came before `install`, and only the handler before us was told."""
        self.count += 1
        self.last = "a signal that came before its setup"

    def restore(self) -> None:
        """Put the previous handlers back, unless somebody has replaced ours meanwhile."""
        if threading.current_thread() is not threading.main_thread():
            return
        for number, previous in self._previous.items():
            if signal.getsignal(number) is self._handler:
                signal.signal(number, previous)
        self._previous = {}

    def pass_on(self) -> None:
        """Call the previous handler for the last signal, which it was not told of."""
        number = signal.Signals[self.last]
        previous = self._previous.get(number)
        if callable(previous):
            previous(number, None)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        self.count += 1
        self.last = signal.Signals(number).name
        previous = self._previous.get(number)
        if not self._told(number):
            return
        if callable(previous):
            previous(number, frame)
        elif previous is signal.SIG_DFL:
            # The default would kill us here and now; this way what runs on hosts is ended on the way out.
            raise SystemExit(128 + number)
