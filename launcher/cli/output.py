"""What a person sees: stage lines with times, tables, errors. The only place of the CLI that prints.

Rules: progress and errors go to stderr, results to stdout; colours and live lines only on a terminal.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TextIO

from launcher.command import quote
from launcher.errors import LauncherError
from launcher.machines.runner import Asker
from launcher.model import Event, Stage, State

_OURS = re.compile(
    r"(^|: |&& |\()se-remote (?=(?:actions|attach|call|clean|doctor|extend|inventory|kill|logs|mon|provision|"
    r"pull|push|restart|run|status|up|with)\b)",
    re.MULTILINE,
)
"""A command of ours that is to be tried, where nothing says yet which inventory is meant."""
_LIVE_PERIOD = 0.1
"""Seconds between two redraws of the live line."""

_COLOURS = {"error": "\033[31m", "warning": "\033[33m", "good": "\033[32m", "dim": "\033[2m"}
_TELLING_APART = tuple(f"\033[{code}m" for code in (36, 33, 32, 35, 34, 96, 93, 92, 95, 94))
_RESET = "\033[0m"
_GAP = "  "
_LEAST = 24

_STATE_COLOURS = {
    State.READY: "good",
    State.RUNNING: "good",
    State.STARTING: "warning",
    State.WAITING: "warning",
    State.STOPPING: "warning",
    State.DEAD: "error",
    State.UNREACHABLE: "error",
    State.CONFLICT: "error",
}


class Output:
    """One command's terminal. Safe to call from any thread.

    `inventory`: the one that the command line named; commands of ours that are to be tried name it, too.
    """

    def __init__(
        self,
        out: TextIO | None = None,
        err: TextIO | None = None,
        environ: Mapping[str, str] | None = None,
        *,
        inventory: str | None = None,
    ) -> None:
        self._out = out or sys.stdout
        self._err = err or sys.stderr
        self._ours = quote(["se-remote", "-i", inventory]) if inventory else "se-remote"
        environ = os.environ if environ is None else environ
        plain = environ.get("NO_COLOR") or environ.get("TERM") == "dumb"
        self.live = self._err.isatty() and not plain
        self._colour_out = self._out.isatty() and not plain
        self._lock = threading.Lock()
        self._live_text = ""
        self._held: list[str] | None = None
        """While a question stands on the terminal: what has been said since."""

    def result(self, text: str) -> None:
        """A result, on stdout."""
        with self._lock:
            self._clear_live()
            print(text, file=self._out, flush=True)

    def log_line(self, text: str, level: str) -> None:
        """A line of an action's log, on stdout; warnings and errors coloured where that is a terminal."""
        style = level if level in ("warning", "error") else ""
        self.result(self._styled(text, style, self._colour_out))

    def say(self, text: str, style: str = "") -> None:
        """Progress or a remark, on stderr."""
        with self._lock:
            line = self._styled(self.typed(text), style, self.live)
            if self._held is not None:
                self._held.append(line)
                return
            self._clear_live()
            print(line, file=self._err, flush=True)
            self._draw_live()

    def typed(self, text: str) -> str:
        """With the inventory in our commands: for hints in a result, which is printed as it is."""
        return _OURS.sub(lambda found: f"{found[1]}{self._ours} ", text)

    def show_live(self, text: str) -> None:
        """The one line that is redrawn; "" removes it. Nothing happens without a terminal.

        It is cut to the terminal's width: only one line can be taken back.
        """
        if not self.live:
            return
        width = shutil.get_terminal_size().columns - 1
        with self._lock:
            self._clear_live()
            self._live_text = shortened(text, width)
            self._draw_live()

    @contextlib.contextmanager
    def screen(self) -> Iterator[Callable[[str], None]]:
        """A picture that is shown again and again: in place on a terminal, one below the other elsewhere."""
        if not (self._out.isatty() and self.live):
            yield self.result
            return

        def show(text: str) -> None:
            rows = shutil.get_terminal_size().lines - 1
            lines = text.splitlines()
            if len(lines) > rows:
                lines = [*lines[: rows - 1], f"… {len(lines) - rows + 1} more lines"]
            self._write("\033[H" + "".join(f"{line}\033[K\r\n" for line in lines) + "\033[J")

        self._write("\033[?1049h\033[?7l\033[?25l")  # another screen, no wrapping, no cursor
        try:
            yield show
        finally:
            self._write("\033[?7h\033[?25h\033[?1049l")

    def _write(self, text: str) -> None:
        with self._lock:
            self._out.write(text)
            self._out.flush()

    def asking(self, ask: Asker | None) -> Asker | None:
        """`ask` with the terminal to itself: no live line meanwhile, and what is said comes afterwards."""
        if ask is None:
            return None

        def question(prompt: str, *, secret: bool) -> str | None:
            with self._lock:
                self._clear_live()
                self._held = []
            try:
                return ask(prompt, secret=secret)
            finally:
                with self._lock:
                    held, self._held = self._held, None
                    for line in held or ():
                        print(line, file=self._err)
                    self._draw_live()

        return question

    def error(self, error: BaseException) -> None:
        """An error with stage, cause and what to do next."""
        with self._lock:
            self._clear_live()
            self._live_text = ""
            label = self._styled("error:", "error", self.live)
            first, *rest = self.typed(str(error)).split("\n")
            print(self.folded(f"error: {first}").replace("error:", label, 1), file=self._err)
            for line in rest:
                print(line if line.startswith(" ") else self.folded(line), file=self._err)
            next_step = error.next_step if isinstance(error, LauncherError) else ""
            for line in self.typed(next_step).splitlines():
                print(f"  try: {line}", file=self._err)
            self._err.flush()

    def folded(self, text: str) -> str:
        """A paragraph, broken between words where stderr is a terminal."""
        if not self._err.isatty():
            return text
        indent = text[: len(text) - len(text.lstrip())]
        width = max(_LEAST, shutil.get_terminal_size().columns - 1)
        return textwrap.fill(
            text, width, subsequent_indent=f"{indent}  ", break_long_words=False, break_on_hyphens=False
        )

    @property
    def unicode(self) -> bool:
        """Whether stdout takes more than ASCII."""
        return (self._out.encoding or "").lower().replace("-", "").startswith("utf")

    @property
    def width(self) -> int | None:
        """Columns of the terminal that stdout is; None: it is none."""
        return shutil.get_terminal_size().columns if self._out.isatty() else None

    def coloured(self, text: str, style: str) -> str:
        """Part of a result, coloured where stdout is a terminal; style as in `say`."""
        return self._styled(text, style, self._colour_out)

    def left(self, names: Sequence[str]) -> None:
        """Processes that go on, although what they were started for came to nothing."""
        if names:
            self.say(f"left running: {', '.join(names)}", "warning")
            self.say(f"  to stop that: se-remote kill {quote(names)}")

    def state(self, state: State) -> str:
        """The state's word, coloured where stdout is a terminal."""
        return self._styled(state.value, _STATE_COLOURS.get(state, ""), self._colour_out)

    def painted(self, text: str, number: int) -> str:
        """In the colour of that number, where stdout is a terminal: to tell several apart."""
        colour = _TELLING_APART[number % len(_TELLING_APART)]
        return f"{colour}{text}{_RESET}" if self._colour_out else text

    def _styled(self, text: str, style: str, colour: bool) -> str:
        return f"{_COLOURS[style]}{text}{_RESET}" if style and colour else text

    def _clear_live(self) -> None:
        if self._live_text and self._held is None:
            self._err.write("\r\033[K")

    def _draw_live(self) -> None:
        if self._live_text and self._held is None:
            self._err.write(self._live_text)
            self._err.flush()


class StageProgress:
    """A line for every stage of every host with the time it took; on a terminal the running ones live.

    An event with a stage says that this stage begins; the next event of that host ends it. One without is
    of a process: its line comes when it is ready, or over.
    """

    def __init__(self, output: Output, names: Sequence[str]) -> None:
        self._output = output
        self._width = max([len(n) for n in names], default=0)
        self._lock = threading.Lock()
        self._running: dict[str, tuple[Stage | State, float]] = {}
        self._remarks: dict[str, str] = {}
        self._finished = threading.Event()
        self._thread: threading.Thread | None = None

    def __enter__(self) -> StageProgress:
        if self._output.live:
            self._thread = threading.Thread(target=self._redraw, name="progress", daemon=True)
            self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._finished.set()
        if self._thread is not None:
            self._thread.join()
        self._output.show_live("")

    def on_event(self, event: Event) -> None:
        """Takes an event of the launcher; called from its thread, returns at once."""
        self._width = max(self._width, len(event.name))  # of what it depends on, too
        if event.stage is None:
            self._process(event)
            return
        failed = event.to_state in (State.UNREACHABLE, State.DEAD, State.CONFLICT)
        over = failed or event.to_state is State.READY
        with self._lock:
            previous = self._running.get(event.name)
            if previous is not None and previous[0] is event.stage and not over:
                self._remarks[event.name] = event.reason
                return  # a remark within a stage
            self._remarks.pop(event.name, None)
            self._running.pop(event.name, None)
            if event.stage is not None and not over:
                self._running[event.name] = (event.stage, event.time)
        if previous is not None:
            stage, since = previous
            self._line(event.name, stage.value, event.time - since, "failed" if failed else "")
        if event.reason and event.level == "warning":  # an error is said once, by whoever it ends
            self._output.say(f"{event.name:<{self._width}}  {event.reason}", event.level)

    def _process(self, event: Event) -> None:
        state, failed = event.to_state, event.level == "error"
        over = failed or state in (State.READY, State.STOPPED, State.DEAD, State.UNREACHABLE, State.CONFLICT)
        with self._lock:
            before = self._running.pop(event.name, None)
            going_on = before is not None and before[0] in (State.STARTING, State.RUNNING)
            since = before[1] if before is not None and going_on else event.time
            if before is not None and before[0] is State.STOPPING:
                since = before[1]
            if not over:
                self._running[event.name] = (state, since)
        if event.level == "warning":
            self._output.say(f"{event.name:<{self._width}}  {event.reason}", event.level)
        elif failed:
            self._line(event.name, "failed", event.time - since, "")
        elif over:
            done = state is State.STOPPED and event.reason == "done"
            remark = "" if done else event.reason
            self._line(event.name, "done" if done else state.value, event.time - since, remark)

    def tell(self, name: str, text: str, style: str = "") -> None:
        """A remark about a host that stays on the terminal."""
        self._output.say(f"{name:<{self._width}}  {text}", style)

    def live(self, name: str, text: str) -> None:
        """What a host is at just now, within its stage."""
        with self._lock:
            self._remarks[name] = text

    def done(self, name: str, text: str) -> None:
        """The last line of a host."""
        self._output.say(f"{name:<{self._width}}  {text}", "good")

    def _line(self, name: str, stage: str, seconds: float, remark: str) -> None:
        self._output.say(f"{name:<{self._width}}  {stage:<13}{seconds:6.2f} s  {remark}".rstrip())

    def _redraw(self) -> None:
        while not self._finished.wait(_LIVE_PERIOD):
            now = time.monotonic()
            with self._lock:
                running = [
                    f"{n}: {self._remarks.get(n) or s.value} {now - t:.1f} s"
                    for n, (s, t) in self._running.items()
                ]
            self._output.show_live("… " + " · ".join(running) if running else "")


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Left-aligned columns; colour codes inside cells do not count as width."""
    widths = [max(_visible(row[i]) for row in [header, *rows]) for i in range(len(header))]

    def line(cells: Sequence[str]) -> str:
        padded = [cell + " " * (width - _visible(cell)) for cell, width in zip(cells, widths, strict=True)]
        return _GAP.join(padded).rstrip()

    return "\n".join(line(cells) for cells in [header, *rows])


def fitted(
    header: Sequence[str], rows: Sequence[Sequence[str]], width: int | None, spare: Sequence[str]
) -> tuple[list[str], list[list[str]]]:
    """Header and rows for a table of at most `width` (None: any).

    The last column, which is plain text, is cut, but not below `_LEAST`; before that the columns that
    `spare` names go, one by one.
    """
    lines = [list(header), *(list(row) for row in rows)]

    def room() -> int:
        """What the other columns leave for the last one."""
        others = [max(map(_visible, column)) + len(_GAP) for column in list(zip(*lines, strict=True))[:-1]]
        return width - sum(others) if width is not None else max(len(line[-1]) for line in lines)

    least = min(_LEAST, max(len(line[-1]) for line in lines))
    for name in spare:
        if room() < least:
            at = lines[0].index(name)
            lines = [[*line[:at], *line[at + 1 :]] for line in lines]
    left = max(room(), len(header[-1]))
    lines = [[*line[:-1], shortened(line[-1], left)] for line in lines]
    return lines[0], lines[1:]


def shortened(text: str, width: int) -> str:
    """At most `width` characters of it."""
    return text if len(text) <= width else text[: width - 1] + "…"


def _visible(text: str) -> int:
    for code in (*_COLOURS.values(), _RESET):
        text = text.replace(code, "")
    return len(text)


def age(seconds: float) -> str:
    """A duration as a person says it: ``42 s``, ``12 min``, ``3 h 5 min``, ``2 d``."""
    seconds = max(0, int(seconds))
    if seconds < 100:
        return f"{seconds} s"
    if seconds < 100 * 60:
        return f"{seconds // 60} min"
    if seconds < 48 * 3600:
        return f"{seconds // 3600} h {seconds % 3600 // 60} min"
    return f"{seconds // 86400} d"


def size(amount: int) -> str:
    """Bytes as a person says them: ``812 B``, ``34 kB``, ``1.2 MB``."""
    if amount < 1000:
        return f"{amount} B"
    value, unit = (amount / 1000, "kB") if amount < 999_500 else (amount / 1e6, "MB")
    return f"{value:.1f} {unit}" if value < 9.95 else f"{value:.0f} {unit}"
