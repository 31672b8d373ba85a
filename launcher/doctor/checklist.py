"""The checklist of a host: the rules in the order of a bring-up, and what a trial has shown. Pure.

resolve > connect > authenticate > shell > tmux > container > setup > python > packages > plugins
    > what else the machine is asked > start > ready > tunnel > hello
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from launcher import wrapper
from launcher.doctor import rules_host, rules_machine
from launcher.doctor.facts import Case, ClientFacts, Finding, Level
from launcher.doctor.rules_machine import failed, good, warning
from launcher.errors import Conflict, InventoryError, LauncherError, StageError
from launcher.model import HostSpec, ProcessSpec, Stage

BEFORE: Final = ("resolve", "connect", "authenticate")
THERE: Final = (
    "shell", "tmux", "container", "setup", "python", "packages", "plugins", "sudo", "groups", "run directory",
    "disk", "clock", "logout", "sessions", "leftovers",
)  # fmt: skip
TRIAL: Final = ("start", "tunnel", "hello")

_RULES: Final = (
    rules_machine.shell, rules_machine.tmux, rules_host.container, rules_host.python, rules_host.plugins,
    rules_host.sudo, rules_host.groups, rules_machine.all_of,
)  # fmt: skip

_INSTEAD: Final = {
    "stricthostkeychecking": "an unknown key is never accepted unseen: accept it once, as `connect` says",
    "knownhostscommand": "write the key into known_hosts: ssh-keyscan HOST >> ~/.ssh/known_hosts",
    "verifyhostkeydns": "write the key into known_hosts: ssh-keyscan HOST >> ~/.ssh/known_hosts",
    "bindinterface": "BindAddress is honoured: give the interface's address",
    "addkeystoagent": "ssh-add the key before",
    "usekeychain": "ssh-add the key before: ssh-add --apple-load-keychain",
    "proxyusefdpass": "use ProxyJump, or a ProxyCommand that connects its stdin and stdout",
}


def commands_of(spec: HostSpec, processes: Iterable[ProcessSpec]) -> tuple[tuple[str, str], ...]:
    """The shell text of the inventory that runs where `spec` does, with the key that it stands under."""
    keys = {"setup": spec.setup, "server": spec.server, "on_stop": spec.on_stop}
    found = [(key, text) for key, text in keys.items() if text.strip() and text != "{server}"]
    for process in processes:
        if (process.machine, process.docker) == (spec.machine, spec.docker):
            found += [(f"cmd of {process.name}", process.cmd)]
    return tuple(found)


def resolved(spec: HostSpec) -> list[Finding]:
    """What of an entry can be seen to be wrong before its machine is asked."""
    try:
        wrapper.wrapper_script(spec, "x", "x")
    except InventoryError as error:
        return [unresolved(error)]
    return [good("resolve", f"{spec.machine}" + (f" ({spec.source})" if spec.source else ""))]


def unresolved(error: LauncherError) -> Finding:
    """Of a host that the inventory does not give."""
    return failed("resolve", str(error), *_lines(error.next_step))


def reached(spec: HostSpec, client: ClientFacts, took: float) -> list[Finding]:
    """Of a machine that was reached, in that many seconds."""
    if spec.machine.is_local:
        return []
    text = f"its host key is known; logged in within {took:.2f} s"
    ignored = client.ignored.get(spec.name, ())
    if ignored:
        text += f" (of ~/.ssh/config not honoured, and not needed: {', '.join(ignored)})"
    return [good("connect", text), good("authenticate", "let in")]


def not_reached(spec: HostSpec, client: ClientFacts, error: StageError) -> list[Finding]:
    """Of a machine that was not reached, or whose shell did not answer: the error, and what was not tried."""
    at = error.stage.value
    findings = []
    for check in BEFORE[1:]:
        if check == at:
            break
        findings.append(good(check, "done"))
    text = error.cause + "".join(f"\n| {line}" for line in error.tail)
    findings.append(failed(at, text, *_cures(error)))
    if at in BEFORE:
        findings += [_ignored(at, option) for option in client.ignored.get(spec.name, ())]
    order = [*BEFORE[1:], *THERE, *TRIAL]
    rest = order[order.index(at) + 1 :] if at in order else []
    return [*findings, Finding(", ".join(rest), Level.UNSEEN, "not looked at")]


def _ignored(check: str, option: str) -> Finding:
    name = option.partition(" ")[0].lower()
    instead = _INSTEAD.get(name, "say the same in a way that is honoured: docs/doctor.md")
    return warning(check, f"ssh honours this, se-remote does not: {option}", instead)


def _cures(error: StageError) -> Sequence[str]:
    """The error's own next step; of a changed host key what to do after a machine was installed anew."""
    remove = re.search(r"ssh-keygen -f .*", error.next_step)
    if "has CHANGED" not in error.cause or remove is None:
        return _lines(error.next_step)
    return (
        "was it installed (reflashed) anew? Compare on its own screen: "
        "for f in /etc/ssh/ssh_host_*_key.pub; do ssh-keygen -lf $f; done",
        f"if that shows this fingerprint: {remove.group(0)}; then again, and accept the new key as it says",
        "so that the next image keeps its key: save /etc/ssh/ssh_host_* and put them back after flashing",
        "if nobody has installed it anew: somebody else may answer at this address; do not accept the key",
    )


def _lines(text: str) -> tuple[str, ...]:
    return tuple(line for line in text.splitlines() if line.strip())


def examined(case: Case) -> list[Finding]:
    """All that the facts of a machine and a host come to."""
    return [finding for rule in _RULES for finding in rule(case)]


def may_try(findings: Iterable[Finding], case: Case) -> bool:
    """Whether a server can be started on trial: nothing has failed, or is to be pulled or installed first."""
    box = case.host.box
    pulls = case.spec.docker is not None and case.spec.docker.image is not None and not (box and box.image)
    large = pulls or rules_host.to_be_provisioned(case)
    return not large and not any(finding.level is Level.FAILED for finding in findings)


def not_tried(why: str) -> Finding:
    return Finding(", ".join(TRIAL), Level.UNSEEN, f"not tried: {why}")


def tried(took: Mapping[str, float], started: bool) -> list[Finding]:
    """A server answered. took: seconds, by stage."""
    parts = ", ".join(f"{stage} {seconds:.2f}" for stage, seconds in took.items() if stage != "connect")
    how = "a server was started and answered" if started else "the server that is up answered"
    return [good("start", f"{how}" + (f" ({parts} s)" if parts else "")), good("tunnel", "leads there")]


def answered(seconds: float) -> Finding:
    return good("hello", f"{seconds * 1000:.0f} ms")


def trial_failed(error: LauncherError) -> Finding:
    """A server was to be started, and did not come."""
    if isinstance(error, StageError):
        text = error.cause + "".join(f"\n| {line}" for line in error.tail)
        return failed(error.stage.value, text, *_lines(error.next_step))
    stage = Stage.START.value if isinstance(error, Conflict) else Stage.RESOLVE.value
    return failed(stage, str(error), *_lines(error.next_step))


def client(facts: ClientFacts) -> list[Finding]:
    """What is wrong here, whatever the host."""
    found = [good("se-remote", f"{facts.version}, scenario_execution {facts.framework or 'unknown'}")]
    others = [name for name in facts.modifiers if name not in ("se-remote", "")]
    if others:
        names = ", ".join(others)
        text = f"{names} registers `remote`, as se-remote does: which one a scenario gets is chance, or "
        text += "`import osc.remote` fails"
        found.append(failed("modifier", text, f"python3 -m pip uninstall {' '.join(others)}"))
    elif not facts.modifiers:
        text = "no package registers the modifier `remote`: scenarios do not know it"
        found.append(failed("modifier", text, "install se-remote with pip: python3 -m pip install ."))
    else:
        found.append(good("modifier", "`remote` is se-remote's"))
    if not facts.framework:
        text = "scenario_execution is not installed here: no scenario runs"
        found.append(failed("packages", text, "python3 -m pip install scenario_execution"))
    return found


def runs(findings: Iterable[Finding]) -> bool:
    """Whether a scenario could run."""
    return not any(finding.level is Level.FAILED for finding in findings)
