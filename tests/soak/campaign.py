"""What a round of the soak is made of: a client with actions on all hosts, and faults that strike them."""

from __future__ import annotations

import copy
import re
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

import faulttable as faults
import netbed
from bedcase import Case
from faultrun import STOPPED

LEASE = 6.0
NO_SERVER = "server"
REBOOT = "reboot"
LAST_WORDS = re.compile(r": /tmp/se-remote|process \d+ (tmux|sh|tail) ")
"""Of leftovers: what shows what a server that was killed has said."""


@dataclass(frozen=True)
class Kind:
    """A kind of fault. costs: the scenario may fail by it. takes: what of the host's is lost with it."""

    name: str
    strike: Callable[[Case], None]
    costs: bool = False
    takes: str = ""


KINDS = [
    Kind("link down 2 s", faults.link_down(2)),
    Kind("link down 9 s", faults.link_down(LEASE + 3), True),
    Kind("20 % of packets lost", faults.lossy, True),
    Kind("sshd session SIGKILL", faults.guest("sshd: root"), True),
    Kind("sshd SIGKILL, back after 2 s", faults.daemon_restarted, True),
    Kind("half-open tunnel", faults.half_open, True),
    Kind("sshd session SIGSTOP 2 s", faults.guest("sshd: root", signal.SIGSTOP, 2)),
    Kind("client SIGSTOP 2 s", faults.stopped_client(2)),
    Kind("client SIGSTOP 9 s", faults.stopped_client(LEASE + 3), True),
    Kind("client Ctrl-C", faults.client(signal.SIGINT), True),
    Kind("client Ctrl-C twice", faults.client(signal.SIGINT, signal.SIGINT), True),
    Kind("client SIGTERM", faults.client(signal.SIGTERM), True),
    Kind("client SIGKILL", faults.client(signal.SIGKILL), True),
    Kind("worker SIGKILL", faults.server("worker"), True),
    Kind("worker SIGSTOP 2 s", faults.server("worker", signal.SIGSTOP, 2)),
    Kind("front SIGSTOP 2 s", faults.server("front", signal.SIGSTOP, 2)),
    Kind("front SIGKILL", faults.server("front"), True, NO_SERVER),
    Kind("supervisor SIGKILL", faults.server("supervisor"), True, NO_SERVER),
    Kind("fork server SIGKILL", faults.server("fork server"), True, NO_SERVER),
    Kind("keeper SIGKILL", faults.server("keeper"), True, NO_SERVER),
    Kind("tmux server SIGKILL", faults.guest("^tmux"), True, NO_SERVER),
    Kind("clock an hour ahead", faults.stepped(3600)),
    Kind("clock an hour back", faults.stepped(-3600)),
    Kind("reboot", faults.rebooted, True, REBOOT),
]
"""A broken connection may cost the scenario during the bring-up, which does not try again by itself."""


@dataclass
class Strike:
    """A fault of a round: `at` seconds after `since`, on the host of that index."""

    kind: Kind
    since: str
    """`start` of the client, or `running`: all hosts are busy with their long action."""
    at: float
    host: int
    hit: bool = False
    """False as long as there is nothing to hit, as a worker that does not run yet."""
    struck_at: float = field(default=0.0, repr=False)

    def __str__(self) -> str:
        missed = "" if self.hit else " (missed)"
        return f"{self.kind.name}, {self.since} + {self.at:g} s, host {self.host + 1}{missed}"


class Fleet(Case):
    """One client, all hosts: `host` is the first; `on` gives the view of another."""

    def __init__(self, bed: netbed.Bed, name: str) -> None:
        super().__init__(bed, bed.hosts[0], name)
        self.began = 0.0

    def on(self, index: int) -> Case:
        view = copy.copy(self)
        view.host = self.bed.hosts[index]
        return view

    @property
    def views(self) -> list[Case]:
        return [self.on(index) for index in range(len(self.bed.hosts))]

    # -- the scenario

    def begin(self, seconds: float) -> None:
        """Start the client: on every host `first`, `long`, `last`, with the host's number."""
        plugins = self.bed.directory / "plugins"
        lines = ["hosts:"]
        for host in self.bed.hosts:
            lines += [
                f"  lab{host.number}:", f"    machine: root@{host.address}", f"    python: {sys.executable}",
                f"    ssh: {{identity: {self.bed.identity}, known_hosts: {self.bed.known_hosts}}}",
                f'    env: {{PYTHONPATH: "{plugins}:{host.shim}"}}', f"    lease: {LEASE:g}s",
                f"    on_stop: echo stopped >>{STOPPED}",
            ]  # fmt: skip
        (self.folder / "se-remote.yaml").write_text("\n".join(lines) + "\n")
        body = "parallel:\n"
        for host in self.bed.hosts:
            body += "    serial:\n"
            for tag, takes in (("first", 0.1), ("long", seconds), ("last", 0.1)):
                body += f'        bed_act("{tag}{host.number}", "child", {takes}) with:\n'
                body += f'            remote("lab{host.number}")\n'
        self.write_scenario(body)
        self.began = time.monotonic()
        self.run_scenario()

    def strike(self, strikes: list[Strike]) -> None:
        """One after the other, until the client has ended."""
        running = 0.0
        for strike in strikes:
            while self.code is None:
                if not running and all(v.has(f"long{v.host.number}", "execute") for v in self.views):
                    running = time.monotonic()
                since = self.began if strike.since == "start" else running
                if since and time.monotonic() >= since + strike.at:
                    break
                time.sleep(0.02)
            if self.code is not None:
                return
            try:
                strike.kind.strike(self.on(strike.host))
            except (AssertionError, LookupError, StopIteration, ValueError, OSError, RuntimeError):
                if strike.kind.takes != REBOOT:
                    continue
            strike.hit, strike.struck_at = True, time.monotonic()

    @property
    def code(self) -> int | None:
        return self.client.poll() if self.client is not None else None

    # -- what became of it

    def make_whole(self) -> None:
        """What would hinder the look, or the end."""
        for host in self.bed.hosts:
            host.link(True)
            host.lose(0)
            host.step_clock(0)

    def leftovers(self) -> list[str]:
        mine = [text for text in super().leftovers() if text.startswith("client:")]
        return mine + [text for host in self.bed.hosts for text in host.leftovers()]

    def left_by_itself(self, strikes: list[Strike]) -> Callable[[], list[str]]:
        """What must go without help. A host that has lost its server keeps the last words of it; after a
        reboot what lay on its disk, too."""
        spared = {strike.host for strike in strikes if strike.hit and strike.kind.takes}

        def left() -> list[str]:
            found = []
            for text in self.leftovers():
                names = [f"{host.name}:" for host in self.bed.hosts]
                index = next((i for i, name in enumerate(names) if text.startswith(name)), -1)
                if index not in spared or not LAST_WORDS.search(text):
                    found.append(text)
            return found

        return left

    def kill_by_hand(self) -> None:
        """What a user does after such a day."""
        kill = self.start("se-remote", "kill", *(f"lab{host.number}" for host in self.bed.hosts))
        assert kill.wait(60) == 0, f"se-remote kill ended with {kill.returncode}"

    def executed_twice(self) -> list[str]:
        counts = Counter(tag for view in self.views for tag in view.executed())
        return [tag for tag, count in counts.items() if count > 1]

    def not_executed(self) -> list[str]:
        done = {tag for view in self.views for tag in view.executed()}
        wanted = [f"{tag}{host.number}" for host in self.bed.hosts for tag in ("first", "long", "last")]
        return [tag for tag in wanted if tag not in done]

    def states_a_loss(self) -> bool:
        return bool(re.search(r"\[ERROR\]", self.output)) and "Traceback" not in self.output

    def without_on_stop(self, strikes: list[Strike]) -> list[str]:
        """Hosts whose long action was cut off and that have not run on_stop; a reboot needs none.

        Nor does a client that was killed behind the end of its run, when there is a `test.xml`.
        """
        rebooted = {strike.host for strike in strikes if strike.hit and strike.kind.takes == REBOOT}
        found = []
        for index, view in enumerate(self.views):
            number = view.host.number
            cut = view.has(f"long{number}", "execute") and not view.has(f"last{number}", "done")
            killed = self.code is not None and self.code < 0 and not self.xml
            if killed and cut and index not in rebooted:
                found += [] if view.host.path(STOPPED).exists() else [view.host.name]
        return found

    def evidence(self) -> str:
        parts = [f"-- client\n{self.output[-5000:]}", f"-- test.xml\n{self.xml[-2000:]}"]
        for view in self.views:
            parts.append(f"-- {view.host.name}: ledger {view.ledger()}")
            try:
                logs = (
                    "tail -n 30 /tmp/se-remote-0/*/server.log /root/.local/state/se-remote/*/*.log 2>&1 || :"
                )
                parts.append(
                    view.host.run(f"ps -eo pid,ppid,stat,args; ls -la /tmp/se-remote-0/* 2>&1; {logs}")
                )
            except (RuntimeError, OSError, subprocess.SubprocessError) as error:
                parts.append(str(error))
        return "\n".join(parts)
