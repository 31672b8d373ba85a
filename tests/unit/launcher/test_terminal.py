"""Questions on a terminal: a pseudo-terminal stands for it."""

from __future__ import annotations

import fcntl
import os
import signal
import subprocess
import sys
import termios
import time

import pytest

PROGRAM = """
import sys, threading, time
from launcher.terminal import ask

def question():
    print("answer", repr(ask("secret: ", secret=True)), flush=True)

thread = threading.Thread(target=question, daemon=True)
try:
    thread.start()
    thread.join()
except KeyboardInterrupt:
    sys.exit(130)
"""


class Pty:
    """A program on a terminal of its own."""

    def __init__(self, program):
        self.master, self.slave = os.openpty()
        self.process = subprocess.Popen(
            [sys.executable, "-c", program],
            stdin=self.slave, stdout=self.slave, stderr=self.slave, start_new_session=True,
            preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
        )  # fmt: skip
        self.output = b""

    def read_until(self, text):
        while text not in self.output:
            self.output += os.read(self.master, 1000)

    @property
    def echoes(self):
        return bool(termios.tcgetattr(self.slave)[3] & termios.ECHO)

    def until_silent(self):
        end = time.monotonic() + 10
        while self.echoes and time.monotonic() < end:
            time.sleep(0.02)
        assert not self.echoes

    def close(self):
        self.process.kill()
        self.process.wait()
        os.close(self.master)
        os.close(self.slave)


@pytest.fixture
def pty():
    made = Pty(PROGRAM)
    yield made
    made.close()


def test_an_answer_is_read_without_echo(pty):
    pty.read_until(b"secret: ")
    pty.until_silent()
    os.write(pty.master, b"pw\n")
    assert pty.process.wait(10) == 0
    pty.read_until(b"answer 'pw'")
    assert pty.echoes and pty.output.count(b"pw") == 1


def test_no_answer_is_none(pty):
    pty.read_until(b"secret: ")
    pty.until_silent()
    os.write(pty.master, b"\x04")
    assert pty.process.wait(10) == 0
    pty.read_until(b"answer None")


def test_the_terminal_echoes_after_an_interrupt(pty):
    pty.read_until(b"secret: ")
    pty.until_silent()
    pty.process.send_signal(signal.SIGINT)
    assert pty.process.wait(10) == 130
    assert pty.echoes
