"""Prints what many logs say, from a thread of its own, whole lines at a time.

Rules:
- what is said is written in one piece as soon as there is something: a burst costs one write, not one a line;
- there is a bound to what waits; beyond it `line` waits, too, and with it the wire;
- names stand before the lines when there are several, each with a colour of its own where that is shown.
"""

from __future__ import annotations

import contextlib
import re
import threading
from collections.abc import Callable, Sequence
from typing import Final

from launcher.cli.output import Output

_BOUND: Final = 32_000_000
"""Characters that may wait."""


class Printer:
    """Takes lines from any thread until `close`."""

    def __init__(
        self,
        output: Output,
        names: Sequence[str],
        pattern: re.Pattern[str] | None,
        on_gone: Callable[[], None],
    ) -> None:
        """`pattern`: only lines in which it is found. `on_gone`: nobody reads any more; in a thread."""
        self._output = output
        self._pattern = pattern
        self._on_gone = on_gone
        width = max((len(name) for name in names), default=0)
        self._prefixes = {
            name: output.painted(f"[{name}]{' ' * (width - len(name))} ", number) if len(names) > 1 else ""
            for number, name in enumerate(names)
        }
        self._waiting: list[str] = []
        self._size = 0
        self._closed = False
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._print, name="printer", daemon=True)
        self._thread.start()

    def line(self, name: str, text: str) -> None:
        """A line of that log."""
        if self._pattern is not None and self._pattern.search(text) is None:
            return
        with self._changed:
            while self._size > _BOUND and not self._closed:
                self._changed.wait(0.1)
            if self._closed:
                return
            if not self._waiting:
                self._changed.notify_all()
            self._waiting.append(f"{self._prefixes[name]}{text}")
            self._size += len(text) + 1

    def close(self) -> None:
        """Returns when everything is printed or nobody reads; does not wait for a stopped terminal."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        self._thread.join(2.0)

    def _print(self) -> None:
        while True:
            with self._changed:
                while not self._waiting and not self._closed:
                    self._changed.wait()
                lines, self._waiting, self._size = self._waiting, [], 0
                self._changed.notify_all()
            if not lines:
                return
            try:
                self._output.result("\n".join(lines))
            except (OSError, ValueError):
                with self._changed:
                    self._closed = True
                with contextlib.suppress(Exception):
                    self._on_gone()
                return
