"""One row of the table of faults: what it says, and how it is tried on a host of the bed.

    start the scenario → wait for `when` → `fault` → the client ends → both sides are clean

The scenario is three actions after each other, `first`, `long`, `last`; the fault meets `long`.
"""

from __future__ import annotations

import re
import subprocess
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import namespaces
import netbed
from bedcase import Case, measure

START_WITHIN = 40.0
LEASE = "2s"
FOREVER = 600.0
STOPPED = "/run/ledger.stop"
"""Where the host's on_stop writes."""
PHASES: Mapping[str, tuple[str, str]] = {
    "setup": ("long", "setup"),
    "running": ("long", "execute"),
    "cancel": ("long", "cancel"),
    "teardown": ("long", "shutdown"),
}
"""When a fault strikes: the line of the ledger that says it is so. `before` and `bring-up` see Row.run."""
BRING_UP = "touch /run/ledger.up; sleep 3"
"""`setup` lines of a host whose bring-up takes its time."""


@dataclass(frozen=True)
class Row:
    """One fault. Times in seconds, from the fault."""

    name: str
    when: str
    fault: Callable[[Case], None]
    code: int
    """The client's exit code; negative: the signal that killed it."""
    sees: tuple[str, ...] = ()
    """Patterns in what the client prints."""
    xml: str | None = None
    """A pattern in test.xml; None: there need be none."""
    within: float = 20.0
    """The client has ended."""
    clean: float = 30.0
    """Nothing is left, on either side."""
    executed: tuple[str, ...] = ("first", "long")
    """The actions that ran on the host, each once."""
    seconds: float = FOREVER
    """How long `long` runs."""
    trouble: str = ""
    host: Mapping[str, str] = field(default_factory=dict)
    """Further lines of the inventory."""
    before_check: Callable[[Case], None] | None = None
    """Between the client's end and the look at what is left."""
    modifiers: tuple[str, ...] = ()
    """Of `long`, inside of `remote`."""
    remote: str = ""
    """Further arguments of `remote` on `long`."""
    on_stop: bool | None = None
    """Whether the host's on_stop command has run (once or more); None: it has, but for a success and before a
    session was there."""
    slow: bool = False
    part: str = ""
    """What is to be built yet for it to pass."""

    @property
    def stops(self) -> bool:
        early = self.when in ("before", "bring-up")
        return (self.code != 0 and not early) if self.on_stop is None else self.on_stop

    @property
    def id(self) -> str:
        lease = self.host.get("lease", "")
        return re.sub(r"[^a-z0-9]+", "-", f"{self.name} {self.when} {lease}".lower()).strip("-")


@dataclass(frozen=True)
class Measured:
    """What a row took: seconds from the fault; None where there was nothing to measure."""

    noticed: float | None
    """The client's first line after the fault."""
    ended: float | None
    clean: float | None


class Fault(AssertionError):
    """A row that did not go as its line says."""


def run(row: Row, bed: netbed.Bed, host: netbed.BedHost, name: str) -> Measured:
    """Try one row. Raises Fault with everything there is to see."""
    case = Case(bed, host, name)
    try:
        return _run(row, case)
    except (AssertionError, RuntimeError) as error:
        raise Fault(f"{row.name}, {row.when}: {error}\n{_evidence(case)}") from error
    finally:
        case.close()
        host.repair()


def _run(row: Row, case: Case) -> Measured:
    setup = {"setup": f'"{BRING_UP}"'} if row.when == "bring-up" else {}
    case.write_inventory({"lease": LEASE, "on_stop": f"echo stopped >>{STOPPED}", **setup, **row.host})
    case.write_scenario(scenario(row))
    if row.when == "before":
        row.fault(case)
    case.run_scenario()
    assert case.client is not None
    if row.when == "bring-up":
        _wait(case, case.host.path("/run/ledger.up").exists, "the bring-up")
    elif row.when != "before":
        _wait(case, lambda: case.has(*PHASES[row.when]), row.when)
    began = time.monotonic()
    if row.when != "before":
        row.fault(case)
    said = len(case.output)
    noticed = measure(lambda: len(case.output) > said or case.client.poll() is not None, began, row.within)  # type: ignore[union-attr]
    ended = measure(lambda: case.client.poll() is not None, began, row.within)  # type: ignore[union-attr]
    assert ended is not None, f"the client has not ended within {row.within:g} s"
    if row.before_check is not None:
        row.before_check(case)
    clean = measure(lambda: not case.leftovers(), began, row.clean)
    assert clean is not None, f"left after {row.clean:g} s: {case.leftovers()}"
    _check(row, case)
    if row.code != 1:
        noticed = ended = None
    return Measured(noticed, ended, clean)


def scenario(row: Row) -> str:
    modifiers = "".join(f"    {modifier}\n" for modifier in row.modifiers)
    lines = [f'bed_act("{tag}") with:\n    remote("lab")\n' for tag in ("first", "last")]
    long = (
        f'bed_act("long", "{row.trouble}", {row.seconds}) with:\n{modifiers}    remote("lab"{row.remote})\n'
    )
    return lines[0] + long + lines[1]


def _wait(case: Case, there: Callable[[], bool], what: str) -> None:
    assert case.client is not None
    client = case.client
    assert namespaces.wait_until(lambda: there() or client.poll() is not None, START_WITHIN), (
        f"never came to {what}"
    )
    assert there(), f"ended before {what}"


def _check(row: Row, case: Case) -> None:
    assert case.client is not None
    assert case.client.returncode == row.code, f"exit code {case.client.returncode}, not {row.code}"
    for pattern in row.sees:
        assert re.search(pattern, case.output), f"it does not say {pattern!r}"
    if row.code >= 0:
        assert "Traceback" not in case.output
    if row.xml is not None:
        assert re.search(row.xml, case.xml), f"test.xml does not say {row.xml!r}"
    ran = case.host.path(STOPPED).exists()
    assert ran == row.stops, f"on_stop has {'' if ran else 'not '}run"
    assert tuple(case.executed()) == row.executed, f"executed: {case.executed()}, not {row.executed}"


def _evidence(case: Case) -> str:
    """Whatever helps to see what went wrong."""
    parts = [
        f"-- client\n{case.output[-4000:] if (case.folder / 'out.txt').exists() else ''}",
        f"-- test.xml\n{case.xml}",
    ]
    parts.append(f"-- ledger\n{case.ledger()}")
    try:
        logs = "tail -n 40 /tmp/se-remote-0/*/server.log /root/.local/state/se-remote/*/*.log 2>&1 || :"
        parts.append(
            f"-- host\n{case.host.run(f'ps -eo pid,ppid,stat,args; ls -la /tmp/se-remote-0/* 2>&1; {logs}')}"
        )
    except (RuntimeError, OSError, subprocess.SubprocessError) as error:
        parts.append(str(error))
    parts.append(f"-- left\n{case.leftovers()}")
    return "\n".join(parts)
