"""The printer: whole lines, bounded, in order, and the logger is given back as it was."""

from __future__ import annotations

import io
import sys
import threading

from scenario_execution.utils.logging import Logger

from remote_exec.tree.printer import Printer


class Recorder:
    def __init__(self):
        self.lines = []
        self.gate = threading.Event()
        self.gate.set()

    def info(self, text):
        self.gate.wait(20)
        self.lines.append(("info", text))

    def warning(self, text):
        self.lines.append(("warning", text))

    def error(self, text):
        self.lines.append(("error", text))

    debug = info


def test_lines_keep_their_level_and_order():
    recorder = Recorder()
    printer = Printer(recorder)
    printer.put("info", "a\nb")
    printer.put("error", "c")
    printer.put("strange", "d")
    assert printer.drain(20)
    printer.close()
    assert recorder.lines == [("info", "a"), ("info", "b"), ("error", "c"), ("info", "d")]


def test_put_never_waits_and_what_does_not_fit_is_counted_and_said():
    recorder = Recorder()
    printer = Printer(recorder, capacity=10)
    recorder.gate.clear()
    for number in range(100):
        printer.put("info", str(number))
    recorder.gate.set()
    assert printer.drain(20)
    printer.close()
    printed = [line for line in recorder.lines if line[0] == "info"]
    dropped = [text for level, text in recorder.lines if level == "warning"]
    assert sum(int(text.split()[0]) for text in dropped) + len(printed) == 100


def test_a_terminal_that_hangs_does_not_hang_the_end():
    recorder = Recorder()
    printer = Printer(recorder)
    recorder.gate.clear()
    printer.put("info", "x")
    assert not printer.drain(0.05)
    recorder.gate.set()
    assert printer.drain(20)
    printer.close()


def test_lines_of_two_threads_are_not_mixed_up(monkeypatch):
    class Unbuffered(io.StringIO):
        def write(self, text):
            for character in text:
                super().write(character)
            return len(text)

    out = Unbuffered()
    monkeypatch.setattr(sys, "stdout", out)
    old = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        logger = Logger("x", False)
        printer = Printer(logger)
        for number in range(300):
            printer.put("info", f"<remote {number}>")
            logger.info(f"<local {number}>")
        assert printer.drain(20)
        printer.close()
    finally:
        sys.setswitchinterval(old)
    lines = out.getvalue().splitlines()
    assert len(lines) == 600
    assert all(line.startswith("[INFO]") and line.endswith(">") and line.count("<") == 1 for line in lines)


def test_the_logger_is_given_back_as_it_was():
    logger = Logger("x", False)
    printer = Printer(logger)
    assert "info" in logger.__dict__
    printer.close()
    assert not {"info", "debug", "warning", "error"} & set(logger.__dict__)
    printer.close()


def test_what_is_missing_is_said_where_it_is_missing():
    recorder = Recorder()
    recorder.gate.clear()
    printer = Printer(recorder, capacity=3)
    for number in range(50):
        printer.put("info", str(number))
    recorder.gate.set()
    assert printer.drain(20)
    printer.put("info", "later")
    assert printer.drain(20)
    printer.close()
    texts = [text for _, text in recorder.lines]
    (said,) = (text for level, text in recorder.lines if level == "warning")
    assert int(said.split()[0]) + len(texts) - 2 == 50
    assert texts[-2:] == [said, "later"]


def test_giving_up_on_a_slow_terminal_keeps_warnings_and_counts_the_rest():
    recorder = Recorder()
    recorder.gate.clear()
    printer = Printer(recorder)
    for number in range(1000):
        printer.put("warning" if number == 500 else "info", str(number))
    printer.give_up()
    recorder.gate.set()
    assert printer.drain(20)
    printer.close()
    printed = [text for level, text in recorder.lines if level == "info"]
    warnings = [text for level, text in recorder.lines if level == "warning"]
    assert warnings[0] == "500"
    assert sum(int(text.split()[0]) for text in warnings[1:]) + len(printed) == 999


def test_closing_does_not_wait_for_a_hanging_terminal_and_says_what_is_missing():
    recorder = Recorder()
    recorder.gate.clear()
    printer = Printer(recorder)
    for number in range(100):
        printer.put("info", str(number))
    printer.close()
    recorder.gate.set()
    printer.drain(20)
    dropped = [text for level, text in recorder.lines if level == "warning"]
    printed = [text for level, text in recorder.lines if level == "info"]
    assert sum(int(text.split()[0]) for text in dropped) + len(printed) == 100


def test_warnings_find_room_when_a_flood_has_taken_it_and_are_bounded_too():
    recorder = Recorder()
    recorder.gate.clear()
    printer = Printer(recorder, capacity=10)
    for number in range(50):
        printer.put("info", str(number))
    printer.put("warning", "7 lines were lost elsewhere")
    for number in range(50):
        printer.put("warning", f"more {number}")
    recorder.gate.set()
    assert printer.drain(20)
    printer.close()
    texts = [text for _, text in recorder.lines]
    assert "7 lines were lost elsewhere" in texts
    assert len(texts) < 30
