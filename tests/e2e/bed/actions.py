"""The action of the test bed: says on the host what is done with it, and gives trouble where it is told to.

Each line of /run/ledger there: TIME TAG EVENT PID. Whoever executes twice is seen.
"""

import os
import signal
import subprocess
import time

import py_trees
from scenario_execution.actions.base_action import BaseAction

LEDGER = "/run/ledger"


class Act(BaseAction):
    """Runs for some seconds. trouble: words, `PHASE-block` (600 s), `PHASE-slow` (3 s), and see `execute`."""

    def __init__(self, tag: str, trouble: str):
        super().__init__()
        self.tag = tag
        self.trouble = trouble.split()

    def setup(self, **kwargs):
        self.note("setup")

    def execute(self, seconds: float):
        self.until = time.monotonic() + seconds
        if "child" in self.trouble:
            subprocess.Popen(["sleep", "601"])
        if "stubborn" in self.trouble:
            for number in (signal.SIGINT, signal.SIGTERM):
                signal.signal(number, signal.SIG_IGN)
            subprocess.Popen(["sh", "-c", "trap '' INT TERM HUP; while :; do sleep 1; done"])
        if "fork" in self.trouble:
            subprocess.run(
                ["sh", "-c", "setsid sh -c 'sleep 602 & trap \"\" INT; sleep 603' >/dev/null 2>&1 &"]
            )
        self.note("execute")

    def update(self):
        self.phase("update")
        if time.monotonic() < self.until:
            return py_trees.common.Status.RUNNING
        self.note("done")
        return py_trees.common.Status.SUCCESS

    def request_cancel(self):
        self.note("cancel")
        self.until = 0.0
        return True

    def shutdown(self):
        self.note("shutdown")

    def note(self, event):
        line = f"{time.time():.3f} {self.tag} {event} {os.getpid()}\n"
        fd = os.open(LEDGER, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        os.write(fd, line.encode())
        os.close(fd)
        self.phase(event)

    def phase(self, name):
        for word in self.trouble:
            if word == f"{name}-block":
                time.sleep(600)
            elif word == f"{name}-slow":
                time.sleep(3)
            elif word == f"{name}-die":
                os.kill(os.getpid(), signal.SIGKILL)
