"""`se-remote doctor`: every stage tried on every host, and what else can be wrong there.

    resolve each host  →  one exec per machine gathers facts  →  rules  →  a server on trial, taken down again

Exit codes: 0 a scenario could run on all of them; 1 not on all; 3 a machine could not be reached.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import textwrap
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

from launcher import __version__, plan
from launcher.cli import doctor_places
from launcher.cli.output import Output
from launcher.cli.selection import Selection, select
from launcher.doctor import checklist, gathering
from launcher.doctor.facts import Case, ClientFacts, Finding, Level
from launcher.errors import InventoryError, LauncherError, StageError
from launcher.inventory import Inventory
from launcher.lease import Launcher, Lease
from launcher.machines.ssh_config import Read, config_of, ignored_options
from launcher.model import Event, HostSpec, Stage
from remote_exec.client.hub import request
from remote_exec.errors import RemoteExecError

HELLO_S = 10.0
_LONG_S = 8.0
_UNREACHED = 3
_WIDTH = 14
_NARROW = 20
_SIGNS = {Level.GOOD: "✓", Level.WARNING: "!", Level.FAILED: "✗", Level.UNSEEN: "·"}
_ASCII = {Level.GOOD: "ok", Level.WARNING: "!", Level.FAILED: "X", Level.UNSEEN: "-"}
_STYLES = {Level.GOOD: "good", Level.WARNING: "warning", Level.FAILED: "error", Level.UNSEEN: "dim"}


@dataclass
class _Patient:
    """One host and its checklist so far."""

    name: str
    spec: HostSpec | None = None
    findings: list[Finding] = field(default_factory=list)
    case: Case | None = None
    unreached: bool = False
    processes: tuple[str, ...] = ()
    """Of the inventory, that run there, where no server is to run."""

    @property
    def runs(self) -> bool:
        return checklist.runs(self.findings)


def run(args: argparse.Namespace) -> int:
    """Examines the hosts and prints the checklist."""
    output = Output(inventory=args.inventory)
    selection = select(args)
    patients = _patients(args.host, selection)
    found = [patient for patient in patients if patient.spec is not None and patient.runs]
    here = client_facts([p.spec for p in found if p.spec is not None], selection.environ)
    times = _Times()
    launcher = Launcher(
        selection.inventory, environ=selection.environ, ask=output.asking(selection.ask),
        on_event=times.on_event, what="se-remote doctor",
    )  # fmt: skip
    try:
        output.show_live(f"… looking at {', '.join(patient.name for patient in found)}")
        _examine(found, here, selection, launcher, _Waiting(output))
        output.show_live("… starting a server on trial")
        _try(found, times, launcher, no_start=args.no_start)
    finally:
        left = launcher.close()
        output.show_live("")
    mine = checklist.client(here)
    for line in left:
        output.say(line, "error")
    if args.json:
        output.result(json.dumps(as_json(mine, patients), indent=2))
    else:
        output.result("\n".join(_lines(mine, patients, output)))
    if any(patient.unreached for patient in patients):
        return _UNREACHED
    return 0 if checklist.runs(mine) and all(patient.runs for patient in patients) and not left else 1


class _Waiting:
    """Says what is waited for: on a terminal always, elsewhere when it takes long."""

    def __init__(self, output: Output) -> None:
        self._output = output
        self._said: set[tuple[str, str]] = set()

    def on_note(self, name: str, what: str, seconds: float) -> None:
        """Of a machine, by one of its hosts."""
        self._output.show_live(f"… {name}: {what} ({seconds:.0f} s)")
        if seconds >= _LONG_S and (name, what) not in self._said:
            self._said.add((name, what))
            self._output.say(f"{name}: {what} takes long, {seconds:.0f} s so far")


class _Times:
    """How long the stages of a trial took."""

    def __init__(self) -> None:
        self._last: dict[str, tuple[str, float]] = {}
        self.took: dict[str, dict[str, float]] = {}

    def on_event(self, event: Event) -> None:
        """Takes an event of the launcher."""
        if event.stage is None or event.stage is Stage.STOP:
            return
        stage, since = self._last.get(event.name, ("", event.time))
        if stage and stage != event.stage.value:
            self.took.setdefault(event.name, {})[stage] = event.time - since
        if stage != event.stage.value:
            self._last[event.name] = (event.stage.value, event.time)


def _patients(wanted: Sequence[str], selection: Selection) -> list[_Patient]:
    """The hosts, and where the processes run that are asked for, or that a host needs."""
    known = doctor_places.processes(selection)
    needs = [name for name in wanted if name in known]
    hosts = [name for name in wanted if name not in known]
    if not wanted:
        hosts = list((selection.inventory or Inventory()).hosts())
        needs = list(known)
    patients = _resolved(hosts, selection, needs)
    specs = [patient.spec for patient in patients if patient.spec is not None]
    chosen = [known[name] for name in doctor_places.needed(needs, known)]
    for spec, names in doctor_places.places(chosen, specs):
        patients.append(_Patient(spec.name, spec, checklist.resolved(spec), processes=names))
    return patients


def _resolved(names: Iterable[str], selection: Selection, needs: list[str]) -> list[_Patient]:
    """The hosts; `needs` is given what they depend on."""
    patients: dict[str, _Patient] = {}
    for name in names:
        try:
            (spec,) = selection.hosts([name])
        except InventoryError as error:
            patients[name] = _Patient(name, None, [checklist.unresolved(error)])
            continue
        needs += spec.depends
        spec = replace(spec, depends=())  # what it depends on is not started on trial
        patients.setdefault(spec.name, _Patient(spec.name, spec, checklist.resolved(spec)))
    return list(patients.values())


def client_facts(specs: Iterable[HostSpec], environ: Mapping[str, str]) -> ClientFacts:
    """What there is on this machine."""
    read = config_of(Path(environ.get("HOME") or "~").expanduser())
    points = importlib.metadata.entry_points(group="scenario_execution.actions")
    return ClientFacts(
        version=_version("se-remote") or __version__,
        wire=plan.WIRE,
        framework=_version("scenario_execution"),
        plugins={p.name: (p.dist.name, p.dist.version) for p in points if p.dist is not None},
        modifiers=_modifiers(),
        ignored={spec.name: _ignored(spec, read) for spec in specs if spec.machine.host},
    )


def _modifiers() -> tuple[str, ...]:
    groups = ("scenario_execution.modifiers", "scenario_execution.osc_libraries")
    points = [p for group in groups for p in importlib.metadata.entry_points(group=group, name="remote")]
    return tuple(sorted({point.dist.name for point in points if point.dist is not None}))


def _ignored(spec: HostSpec, read: Read) -> tuple[str, ...]:
    host = spec.machine.host or ""
    both = [option for auth in (False, True) for option in ignored_options(read, host, authenticating=auth)]
    return tuple(dict.fromkeys(str(option) for option in both))


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return ""


def _examine(
    patients: Sequence[_Patient],
    here: ClientFacts,
    selection: Selection,
    launcher: Launcher,
    waiting: _Waiting,
) -> None:
    """One exec per machine; all machines side by side."""
    specs = {patient.name: patient.spec for patient in patients if patient.spec is not None}
    processes = doctor_places.processes(selection).values()
    commands = {name: checklist.commands_of(spec, processes) for name, spec in specs.items()}

    async def work(group: list[HostSpec], runner: Any) -> tuple[float, gathering.Examined]:
        note = partial(waiting.on_note, group[0].name)
        return runner.login_took, await gathering.examine(group, commands, runner, note=note)

    by_name = {patient.name: patient for patient in patients}
    for group, answer in launcher.on_each_machine(list(specs.values()), work):
        for spec in group:
            patient = by_name[spec.name]
            if isinstance(answer, LauncherError):
                _not_examined(patient, spec, here, answer)
                continue
            took, seen = answer
            facts = seen.hosts[spec.name]
            serves = not patient.processes
            patient.case = Case(spec, here, seen.machine, facts, commands[spec.name], serves)
            patient.findings += checklist.reached(spec, here, took)
            patient.findings += checklist.examined(patient.case)


def _not_examined(patient: _Patient, spec: HostSpec, here: ClientFacts, error: LauncherError) -> None:
    if isinstance(error, StageError):
        patient.unreached = error.exit_code == _UNREACHED
        patient.findings += checklist.not_reached(spec, here, error)
    else:
        patient.findings.append(checklist.unresolved(error))


def _try(patients: Sequence[_Patient], times: _Times, launcher: Launcher, *, no_start: bool) -> None:
    """Bring up the servers of those with which nothing is wrong so far, say hello, and end them again."""
    ready = []
    for patient in patients:
        if patient.case is None:
            continue
        if patient.processes:
            patient.findings.append(checklist.not_tried("only processes run there"))
        elif no_start:
            patient.findings.append(checklist.not_tried("--no-start"))
        elif not checklist.may_try(patient.findings, patient.case):
            patient.findings.append(checklist.not_tried("first cure what stands above"))
        else:
            ready.append(patient)
    if not ready:
        return
    outcomes = launcher.open_each([patient.spec for patient in ready if patient.spec is not None])
    for patient in ready:
        patient.findings += _outcome(outcomes[patient.name], times.took.get(patient.name, {}))


def _outcome(outcome: Lease | LauncherError, took: Mapping[str, float]) -> list[Finding]:
    if isinstance(outcome, LauncherError):
        return [checklist.trial_failed(outcome)]
    began = time.monotonic()
    try:
        request(outcome.endpoint, "describe", {}, timeout=HELLO_S, over=partial(_over, outcome))
    except RemoteExecError as error:
        reason = outcome.reasons[0] if outcome.reasons else str(error)
        stage = Stage.TUNNEL if outcome.lost.is_set() else Stage.HELLO
        text = f"no answer through the tunnel: {reason}"
        cure = (
            "there: AllowStreamLocalForwarding yes in /etc/ssh/sshd_config, then: sudo systemctl reload ssh"
        )
        step = cure if stage is Stage.TUNNEL else f"se-remote logs {outcome.host.name}"
        return [checklist.trial_failed(StageError(outcome.host.name, stage, text, step))]
    return [*checklist.tried(took, outcome.started), checklist.answered(time.monotonic() - began)]


def _over(lease: Lease) -> bool:
    return lease.lost.is_set()


def as_json(mine: Sequence[Finding], patients: Sequence[_Patient]) -> dict[str, Any]:
    """The document of `--json`."""
    return {
        "client": [_finding(finding) for finding in mine],
        "hosts": [
            {
                "host": patient.name,
                "machine": str(patient.spec.machine) if patient.spec is not None else None,
                "processes": list(patient.processes),
                "runs": patient.runs,
                "findings": [_finding(finding) for finding in patient.findings],
            }
            for patient in patients
        ],
    }


def _finding(finding: Finding) -> dict[str, Any]:
    level = finding.level.value
    return {"check": finding.check, "level": level, "text": finding.text, "cures": list(finding.cures)}


def _lines(mine: Sequence[Finding], patients: Sequence[_Patient], output: Output) -> Iterable[str]:
    signs = _SIGNS if output.unicode else _ASCII
    yield "this machine"
    for finding in mine:
        yield from _shown(finding, signs, output)
    for patient in patients:
        where = "" if patient.spec is None else f"  {patient.spec.machine}"
        yield f"\n{', '.join(patient.processes) or patient.name}{where}"
        for finding in patient.findings:
            yield from _shown(finding, signs, output)
    yield ""
    for patient in patients:
        yield _verdict(patient)


def _shown(finding: Finding, signs: Mapping[Level, str], output: Output) -> Iterable[str]:
    """On a terminal text is broken between words; cures are not, since they are copied."""
    sign = output.coloured(f"{signs[finding.level]:<2}", _STYLES[finding.level])
    unseen = finding.level is Level.UNSEEN
    pad = " " * (5 if unseen else _WIDTH + 6)
    texts = output.typed(finding.text).splitlines() or [""]
    if unseen:
        texts = [f"{finding.check}: {texts[0]}"]
    first, *rest = [line for text in texts for line in _broken(text, output.width, len(pad))]
    yield (f"  {sign} {first}" if unseen else f"  {sign} {finding.check:<{_WIDTH}} {first}").rstrip()
    yield from (f"{pad}{line}" for line in rest)
    yield from (f"{pad}try: {output.typed(cure)}" for cure in finding.cures)


def _broken(text: str, width: int | None, indent: int) -> list[str]:
    if width is None or width - indent < _NARROW:
        return [text]
    return textwrap.wrap(text, width - indent, break_long_words=False, break_on_hyphens=False) or [""]


def _verdict(patient: _Patient) -> str:
    levels = [finding.level for finding in patient.findings]
    bad, doubtful = levels.count(Level.FAILED), levels.count(Level.WARNING)
    name, what = patient.name, "a scenario"
    if patient.processes:
        name, what = ", ".join(patient.processes), "they" if len(patient.processes) > 1 else "it"
    if bad:
        return f"{name}: {what} could not run there"
    note = f", {doubtful} thing{'s' if doubtful > 1 else ''} to look at" if doubtful else ""
    return f"{name}: {what} can run there{note}"
