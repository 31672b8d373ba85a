"""What can be wrong with a host on a machine: its container, its python, its rights. As rules_machine."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator, Sequence

from launcher.command import quote
from launcher.doctor.facts import Box, Case, Finding, Interpreter, Packages
from launcher.doctor.rules_machine import failed, good, warning
from launcher.doctor.script import asks_sudo
from launcher.model import Container

_OLDEST_PYTHON = (3, 10)
_NEEDED = {"zmq": "pyzmq", "msgpack": "msgpack", "py_trees": "py_trees",
           "scenario_execution": "scenario_execution", "remote_exec.server": "se-remote"}  # fmt: skip
_SUDO_COMMAND = re.compile(r"(?<![\w./-])sudo((?:\s+-[A-Za-z]+)*)\s+(?:\w+=\S*\s+)*([\w./-]+)")


def provision(case: Case, *packages: str) -> str:
    """The command that puts what is missing there."""
    words = [word for package in packages for word in ("--with", package)]
    return quote(["se-remote", "provision", case.spec.name.split("+")[0], *words])


def serving(case: Case) -> str:
    """What puts the server there: a `python` of the inventory is taken as it is, whatever is provisioned."""
    spec = case.spec
    if not spec.python or spec.provision is not None:
        return provision(case)
    where = f"of {spec.name} in {spec.source}" if spec.source else f"of {spec.name} in the inventory"
    taken = f"take `python` out {where}"
    if spec.is_here:
        return f"{taken}: the installation that runs here is used then"
    return f"{taken} and: {provision(case)}"


def to_be_provisioned(case: Case) -> bool:
    """What the server needs is not there, and the next bring-up installs it by itself."""
    wanted, seen = case.spec.provision, case.host.python
    if wanted is None or not wanted.auto or seen is None or seen.version[:2] < _OLDEST_PYTHON:
        return False
    differs = bool(case.client.wire) and seen.wire != case.client.wire
    return differs or any(name in seen.broken for name in _NEEDED)


def container(case: Case) -> Iterator[Finding]:
    """The engine, the right to use it, and the container or image of the host."""
    wanted, box = case.spec.docker, case.host.box
    if wanted is None or box is None:
        return
    engine = wanted.engine
    if not box.there:
        hint = "" if engine == "podman" else "or, if podman is there: `engine: podman` under `docker`"
        yield failed("container", f"there is no {engine} on this machine", f"install {engine} there",
                     *([hint] if hint else []))  # fmt: skip
    elif not box.engine:
        yield _no_engine(case, engine, box)
    elif wanted.name is not None:
        yield _named_container(engine, wanted.name, box)
    else:
        yield _image(engine, wanted, box)


def _no_engine(case: Case, engine: str, box: Box) -> Finding:
    said, lower = (box.trouble.splitlines() or ["no answer within 8 s"])[-1], box.trouble.lower()
    if "permission denied" in lower:
        if box.member:
            text = f"this login is older than its membership in the group {engine}: {said}"
            return failed("container", text, "end this account's sessions there, or reboot it, then again")
        text = f"{case.machine.user} may not talk to {engine}: {said}"
        return failed(
            "container", text, f"there: sudo usermod -aG {engine} {case.machine.user}, then log in again"
        )
    if any(word in lower for word in ("cannot connect", "daemon running", "refused", "no such file")):
        text = f"the {engine} daemon does not answer: {said}"
        return failed("container", text, f"there: sudo systemctl enable --now {engine}")
    return failed("container", f"{engine} does not answer as it should: {said}", f"there: {engine} info")


def _named_container(engine: str, name: str, box: Box) -> Finding:
    if not box.status:
        near = difflib.get_close_matches(name, box.names, 3, 0.5)
        meant = f"did you mean {' or '.join(near)}? " if near else ""
        return failed("container", f"there is no container called {name}", f"{meant}there: {engine} ps -a")
    if box.status == "running":
        return good("container", f"{name} runs ({engine} {box.engine})")
    if box.status == "paused":
        return failed("container", f"{name} is paused", f"there: {engine} unpause {name}")
    if box.status == "silent":
        return failed(
            "container", f"{engine} does not answer within 8 s", f"there: sudo systemctl restart {engine}"
        )
    return good("container", f"{name} is {box.status}: it is started for a scenario ({engine} {box.engine})")


def _image(engine: str, wanted: Container, box: Box) -> Finding:
    if box.image:
        return good("container", f"{wanted.image} is there ({engine} {box.engine})")
    text = f"the image {wanted.image} is not there: the first scenario waits until it is pulled"
    return warning("container", text, f"there: {engine} pull {wanted.image}")


def python(case: Case) -> Iterator[Finding]:
    """`setup` runs, the interpreter behind it is there, and what the server imports."""
    host, spec = case.host, case.spec
    if not host.asked:
        return
    where = f"of {spec.name} in {spec.source}" if spec.source else f"of {spec.name} in the inventory"
    if not host.shell:
        yield failed("setup", f"there is no {spec.shell or 'sh'} there", f"edit `shell` {where}")
    elif host.setup_code is None or host.setup_code:
        yield _setup(case, where)
    elif not case.serves:
        if spec.setup.strip():
            yield good("setup", "runs")
    elif host.python is None:
        yield failed(
            "python", f"there is no {spec.interpreter} there", serving(case), f"or set `python` {where}"
        )
    else:
        if spec.setup.strip():
            yield good("setup", "runs")
        yield from _interpreter(case, host.python, where)


def _setup(case: Case, where: str) -> Finding:
    code, said = case.host.setup_code, case.host.setup_said
    how = f"exit code {code}" if code else "it ended the shell, or took too long"
    tail = f": {said[-1]}" if said else ""
    return failed("setup", f"`setup` failed ({how}){tail}", f"edit `setup` {where}")


def _interpreter(case: Case, found: Interpreter, where: str) -> Iterator[Finding]:
    number = ".".join(str(part) for part in found.version)
    if not found.version:
        said = found.said.splitlines()[-1] if found.said else "nothing"
        yield failed("python", f"{case.spec.interpreter} does not run: {said}", f"edit `python` {where}")
        return
    if found.version[:2] < _OLDEST_PYTHON:
        text = f"{case.spec.interpreter} is Python {number}; 3.10 or newer is needed"
        yield failed("python", text, f"set `python` {where} to a newer one")
        return
    yield good("python", f"{number} ({found.executable})")
    yield from _packages(case, found)


def _packages(case: Case, found: Interpreter) -> Iterator[Finding]:
    client = case.client
    yield from _shadowed(case, found)
    missing = [_NEEDED[name] for name in found.broken if name in _NEEDED]
    # se-remote cannot be imported without the others: the first one is the reason
    first = next((name for name in _NEEDED if name in found.broken), None)
    if to_be_provisioned(case):
        text = "the server is not there, or another wire version of it: the next bring-up installs it"
        yield warning("packages", f"{text} (`provision: auto`)", provision(case))
        return
    if first is not None:
        absent = "No module named" in found.broken[first]
        installed = _NEEDED[first] in found.packages and not absent
        how = "is broken" if installed else "cannot be imported"
        text = f"{', '.join(dict.fromkeys(missing))} {how} there: {found.broken[first]}"
        own = f"or install se-remote {client.version} there yourself, and name its python: `python:`"
        yield failed("packages", text, serving(case), own)
        return
    version = found.packages.get("se-remote", "unknown")
    if client.wire and found.wire != client.wire:
        text = (
            f"se-remote {version} there speaks wire version {found.wire}, {client.version} here {client.wire}"
        )
        yield failed("packages", text, serving(case))
    elif version != client.version:
        text = f"se-remote is {version} there and {client.version} here: they understand each other"
        yield warning("packages", text, provision(case))
    else:
        yield good("packages", f"se-remote {version}, as here")
    theirs = found.packages.get("scenario_execution", "")
    if client.framework and theirs != client.framework:
        text = f"scenario_execution is {theirs} there and {client.framework} here: its actions may differ"
        yield warning("packages", text, provision(case))
    strangers = [name for name in found.modifiers if name not in ("se-remote", "")]
    if strangers:
        text = f"{', '.join(strangers)} registers a modifier `remote` there, too: a scenario that is run on "
        text += "that machine itself may get either"
        yield warning("packages", text, quote([found.executable, "-m", "pip", "uninstall", *strangers]))


def _shadowed(case: Case, found: Interpreter) -> Iterator[Finding]:
    """What PYTHONPATH puts in front of what is installed: ROS brings a py_trees of its own."""
    spec = case.spec
    for one in found.shadowed:
        text = f"{one.package} {one.version or 'of an unknown version'} is taken from {one.folder}, which "
        text += f"PYTHONPATH names, and not {one.installed or 'what is'} installed for {found.executable}"
        cure = f"what it installs comes before PYTHONPATH: {provision(case)}"
        if not spec.provided:
            cure += f", and take `python` out of {spec.name} in {spec.source or 'the inventory'}"
        yield warning("packages", text, cure, f"or take {one.folder} out of PYTHONPATH at the end of `setup`")


def plugins(case: Case) -> Iterator[Finding]:
    """Action plugins against those of the client, which every action needs too."""
    found, ours = case.host.python, case.client.plugins
    if (
        found is None
        or not case.serves
        or not found.version
        or found.version[:2] < _OLDEST_PYTHON
        or "scenario_execution" in found.broken
    ):
        return
    bad = list(_plugins(case, found.plugins, ours))
    yield from bad
    if not bad:
        packages = sorted({f"{name} {version}" for name, version in found.plugins.values()})
        yield good("plugins", f"{len(found.plugins)} actions, as here: {', '.join(packages)}")


def _plugins(case: Case, theirs: Packages, ours: Packages) -> Iterator[Finding]:
    missing: dict[tuple[str, str], list[str]] = {}
    for name, package in ours.items():
        if name not in theirs:
            missing.setdefault(package, []).append(name)
    for (name, version), names in sorted(missing.items()):
        text = f"{name} {version} is not there: its actions cannot run there ({_some(names)})"
        yield warning("plugins", text, provision(case, name))
    differing = {(ours[name], theirs[name]) for name in ours if name in theirs and theirs[name] != ours[name]}
    for (here, version), (there, other) in sorted(differing):
        text = f"{there} is {other} there and {here} {version} here: its actions may behave differently"
        yield warning("plugins", text, provision(case, f"{here}=={version}"))
    more = sorted({theirs[name][0] for name in theirs if name not in ours})
    if more:
        text = f"only there, and the runner needs it here as well: {', '.join(more)}"
        yield warning("plugins", text, quote(["python3", "-m", "pip", "install", *more]))


def _some(names: Sequence[str]) -> str:
    shown = ", ".join(sorted(names)[:4])
    return shown + (f" and {len(names) - 4} more" if len(names) > 4 else "")


def sudo(case: Case) -> Iterator[Finding]:
    """Where the inventory uses sudo, nobody is there to type a password."""
    if not asks_sudo(case.commands) or not case.host.asked:
        return
    seen = case.host.sudo
    used = [(key, match) for key, text in case.commands for match in _SUDO_COMMAND.finditer(text)]
    keys = ", ".join(dict.fromkeys(f"`{key}`" for key, text in case.commands if asks_sudo([(key, text)])))
    if seen is None or not seen.there:
        yield failed(
            "sudo", f"{keys} of the inventory uses sudo, and there is none", "install sudo there, or edit it"
        )
        return
    if seen.free:
        yield good("sudo", f"needs no password, for {keys}")
        return
    free = _without_password(seen.listed)
    asked = [match.group(2) for _, match in used]
    wanted = sorted({name for name in asked if name.rpartition("/")[2] not in free}) if asked else ["ALL"]
    if not wanted:
        yield good("sudo", f"needs no password for {', '.join(sorted(set(asked)))}, in {keys}")
        return
    text = f"{keys} of the inventory uses sudo ({', '.join(wanted)}), which asks for a password: {seen.said}"
    user, path = case.machine.user, ", ".join(f"$(command -v {name})" for name in wanted)
    rule = f'echo "{user} ALL=(root) NOPASSWD: {path}" | sudo tee /etc/sudoers.d/se-remote'
    yield failed("sudo", text, f"there: {rule}")


def _without_password(listed: str) -> set[str]:
    """Names of the commands that `sudo -l` says need no password."""
    names = set()
    for line in listed.splitlines():
        _, mark, rest = line.partition("NOPASSWD:")
        if mark:
            rest = rest.partition(" PASSWD:")[0]
            names |= {part.split()[0].rpartition("/")[2] for part in rest.split(",") if part.split()}
    return names


def groups(case: Case) -> Iterator[Finding]:
    """Devices that the inventory names, and serial ports that are plugged in."""
    if not case.host.devices:
        return
    named = " ".join(text for _, text in case.commands)
    locked = [device for device in case.host.devices if not device.usable]
    for device in locked:
        used = device.path in named
        mine = device.group in case.machine.groups
        text = f"{case.machine.user} may not read and write {device.path}: its group is {device.group}"
        text += ", and the account is in it: its mode does not allow it" if mine else ""
        cure = f"there: sudo usermod -aG {device.group} {case.machine.user}, then log in again"
        if mine or device.group == "root":
            cure = f"there: a udev rule with MODE and GROUP for it; for now: sudo chmod a+rw {device.path}"
        if case.spec.docker is not None:
            cure += "; or pass it to the container: `run: [--device, …, --group-add, …]`"
        yield (failed if used else warning)("groups", text, cure)
    if not locked:
        paths = ", ".join(device.path for device in case.host.devices)
        yield good("groups", f"{paths} can be read and written")
