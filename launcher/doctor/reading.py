"""The reply of the doctor's script, read: sections → facts. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from launcher.doctor.facts import (
    Box,
    Device,
    HostFacts,
    Interpreter,
    Left,
    Logind,
    MachineFacts,
    Packages,
    Shadow,
    Space,
    Sudo,
)
from launcher.plan import Reply, read_json

_NOISE_KEPT: Final = 400
LOGIN_SHELL: Final = "the login shell"
_NEXT: Final = {
    "groups": "tmux", "mounts": "disk", "space": "disk", "real": "disk", "df": "disk", "df_inodes": "disk",
    "logind_bus": "logind", "logs": "what is left there", "engine_there": "the container engine",
    "engine_version": "the container", "box_status": "the container", "asked": "sudo", "sudo": "sudo",
    "shell": "`setup`", "setup_code": "python", "python": "python",
}  # fmt: skip
"""What the script is at behind a section."""


@dataclass
class _Sections:
    """Some sections in a row, the first of each name; where a name may come again it opens a new row."""

    name: str = ""
    found: dict[str, str] = field(default_factory=dict)

    def get(self, key: str) -> str:
        return self.found.get(key, "")

    def lines(self, key: str) -> list[str]:
        return [line.rstrip() for line in self.get(key).splitlines() if line.strip()]


def _rows(reply: Reply, opens: str, ends: Sequence[str] = ()) -> list[_Sections]:
    """The rows that sections called `opens` begin, each up to the next one of `opens` or `ends`."""
    rows: list[_Sections] = []
    within = False
    for key, text in reply.sections:
        if key == opens:
            rows.append(_Sections(text))
            within = True
        elif key in ends:
            within = False
        elif within:
            rows[-1].found.setdefault(key, text)
    return rows


def read_machine(reply: Reply) -> MachineFacts:
    """What of the reply is of the machine itself; `noise`, times and sessions are seen by who asks."""
    uid = reply.get("uid")
    refused = reply.get("refused")
    mounts = _mounts(reply.get("mounts"))
    spaces = _rows(reply, "space", ["logind_bus", "logs", "host"])
    return MachineFacts(
        user=reply.get("user"),
        uid=int(uid) if uid.isdecimal() else -1,
        groups=tuple(reply.get("groups").split()),
        path=reply.get("path"),
        tmux=reply.get("tmux").strip(),
        installer=reply.get("installer"),
        spaces=tuple(_space(row, mounts) for row in spaces),
        refused=(refused, reply.get("refused_next")) if refused else None,
        logind=_logind(reply),
        left=_left(reply),
    )


def ahead(remote: str, before: float, after: float) -> float | None:
    """By how much a clock that showed `remote` (whole epoch seconds) between two moments here is ahead.

    0 when there need be no difference, None when it showed no number.
    """
    if not remote.strip().isdecimal():
        return None
    seen = float(remote)
    if seen > after:
        return seen - after
    return min(0.0, seen + 1 - before)


def noise_before(heard: bytes, nonce: str) -> str:
    """What the login shell printed before the script's first section."""
    text, mark, _ = heard.decode("utf-8", "replace").partition(f"{nonce} ")
    return text.strip()[:_NOISE_KEPT] if mark else ""


def doing(heard: bytes, nonce: str) -> str:
    """What the script is at, by what of its answer has come."""
    found = re.findall(rf"(?:^|\n){re.escape(nonce)} ([a-z_]+)\n([^\n]*)", heard.decode("utf-8", "replace"))
    if not found:
        return LOGIN_SHELL
    host = next((text for name, text in reversed(found) if name == "host"), "")
    what = _NEXT.get(found[-1][0], "looking around")
    return f"{what} of {host}" if host else what


def _mounts(text: str) -> list[tuple[str, str]]:
    """Mount points and types, as in /proc/mounts; of two that are the same the last one counts."""
    found = {}
    for line in text.splitlines():
        words = line.split(" ")
        if len(words) >= 3:
            point = re.sub(r"\\([0-7]{3})", lambda match: chr(int(match.group(1), 8)), words[1])
            found[point] = words[2]
    return sorted(found.items(), key=lambda item: len(item[0]))


def _kind(path: str, mounts: Iterable[tuple[str, str]]) -> str:
    kind = ""
    for point, type_ in mounts:
        if path == point or path.startswith(point.rstrip("/") + "/"):
            kind = type_
    return kind


def _space(row: _Sections, mounts: Sequence[tuple[str, str]]) -> Space:
    written = row.get("written").strip()
    trouble = "" if written.endswith("ok") else written or "nothing could be written"
    return Space(
        row.name, _fourth(row.get("df")), _fourth(row.get("df_inodes")), trouble,
        _kind(row.get("real") or row.name, mounts),
    )  # fmt: skip


def _fourth(text: str) -> int | None:
    """The fourth number of df's last line; the device's name may hold blanks, so it is counted from `%`."""
    match = re.search(r"\s(\d+)\s+(\d+)\s+(\d+)\s+\d+%", text)
    if match is None or int(match.group(1)) == 0:
        return None
    return int(match.group(3))


def _logind(reply: Reply) -> Logind | None:
    keys = {key for key, _ in reply.sections}
    if "logind_conf" not in keys:
        return None
    answers = re.findall(r"^b (true|false)$", reply.get("logind_bus"), re.MULTILINE)
    lingers = reply.get("lingers") == "yes"
    if len(answers) == 2:
        return Logind(answers[0] == "true", answers[1] == "true", lingers)
    written = dict(re.findall(r"^\s*(KillUserProcesses|RemoveIPC)\s*=\s*(\w+)", reply.get("logind_conf"),
                              re.MULTILINE))  # fmt: skip

    def wanted(key: str) -> bool | None:
        return written[key].lower() in ("yes", "true", "on", "1") if key in written else None

    return Logind(wanted("KillUserProcesses"), wanted("RemoveIPC"), lingers)


def _left(reply: Reply) -> Left:
    logs = [line.split(" ", 2) for line in reply.get("logs").splitlines() if line.startswith("log ")]
    dead = _rows(reply, "dead", ["host"])
    return Left(
        logs=tuple((words[2], int(words[1])) for words in logs if words[1:2] and words[1].isdecimal()),
        dead=tuple(row.name for row in dead),
        orphans={row.name: tuple(row.lines("orphans")) for row in dead if row.lines("orphans")},
        outputs=tuple(dict.fromkeys(line for line in reply.get("outputs").splitlines() if line)),
        unsafe=tuple(row.name for row in dead if row.get("unsafe")),
    )


def read_hosts(reply: Reply) -> dict[str, HostFacts]:
    """The facts of each host in the reply."""
    return {row.name: _host(row) for row in _rows(reply, "host")}


def _host(row: _Sections) -> HostFacts:
    asked = row.get("asked") == "yes"
    code = row.get("setup_code").strip()
    python = _interpreter(row.get("python")) if "python" in row.found else None
    return HostFacts(
        row.name,
        asked=asked,
        shell=row.get("shell"),
        setup_code=int(code) if code.isdecimal() else None,
        setup_said=tuple(row.lines("setup_said")),
        python=python,
        sudo=_sudo(row),
        devices=tuple(_device(line) for line in row.lines("devices") if line.count(" ") >= 2),
        box=_box(row) if "engine" in row.found else None,
    )


def _device(line: str) -> Device:
    usable, group, path = line.split(" ", 2)
    return Device(path, group, usable == "yes")


def _sudo(row: _Sections) -> Sudo:
    free, said = row.get("sudo_free") == "yes", row.get("sudo_said").strip()
    return Sudo(row.get("sudo") == "yes", free, row.get("sudo_list"), said)


def _box(row: _Sections) -> Box:
    return Box(
        engine=row.get("engine_version").strip(),
        there=row.get("engine_there") == "yes",
        trouble=row.get("engine_trouble").strip(),
        status=row.get("box_status").strip(),
        image=row.get("image") == "yes",
        names=tuple(row.get("names").split()),
        member=row.get("member") == "yes",
    )


def _interpreter(text: str) -> Interpreter | None:
    """None: there is no such program."""
    if not text.strip():
        return None
    lines = [line for line in text.splitlines() if line.startswith("{")]
    found = read_json(lines[-1]) if lines else {}
    version = found.get("version")
    if not (isinstance(version, list) and all(isinstance(part, int) for part in version)):
        return Interpreter(said="\n".join(text.strip().splitlines()[-5:]))
    wire = found.get("wire")
    return Interpreter(
        version=tuple(version),
        executable=str(found.get("executable", "")),
        packages=_texts(found.get("packages")),
        broken=_texts(found.get("broken")),
        plugins=read_plugins(found.get("plugins")),
        modifiers=tuple(str(name) for name in found.get("modifiers") or ()),
        wire=wire if isinstance(wire, int) else None,
        shadowed=_shadows(found.get("shadowed")),
    )


def _shadows(value: Any) -> tuple[Shadow, ...]:
    """Without those that make no difference."""
    rows = [Shadow(*(str(part) for part in row)) for row in value or () if len(row) == 4]
    return tuple(row for row in rows if not row.version or row.version != row.installed)


def _texts(value: Any) -> Mapping[str, str]:
    return {str(key): str(text) for key, text in value.items()} if isinstance(value, dict) else {}


def read_plugins(value: Any) -> Packages:
    """A plugin's name to package and version; what cannot be one is passed over."""
    items = value.items() if isinstance(value, dict) else ()
    return {str(k): (str(v[0]), str(v[1])) for k, v in items if isinstance(v, list) and len(v) == 2}


__all__ = ["LOGIN_SHELL", "ahead", "doing", "noise_before", "read_hosts", "read_machine", "read_plugins"]
