"""The inventory: one YAML file that says what machines there are and how servers and processes start on them.

    find() → path → load() = bytes → read() → Inventory → resolve…() → HostSpec, ProcessSpec or DirectAddress

Rules:
- Everything is validated before any machine is touched, and all problems come in one InventoryError.
- `read` and all that follows are pure; only `load` and `find` look at a disk, and what they look with can be
  passed in. The environment is an argument.
- PyYAML is imported by `read` only: it costs 20 ms that `se-remote --help` does not have.
"""

from __future__ import annotations

import dataclasses
import re
import stat
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from launcher.errors import InventoryError
from launcher.inventory import standing
from launcher.inventory.endpoints import (
    DEFAULT_PORT,
    check_selection,
    resolve_endpoint,
    resolve_endpoints,
    resolve_machine_arg,
    resolve_machine_args,
    unsupported,
)
from launcher.inventory.entries import BUILT_IN, Document, read_document
from launcher.inventory.report import Report
from launcher.inventory.resolve import Inventory
from launcher.inventory.settings import (
    INVENTORY,
    Settings,
    check_settings,
    chosen_variants,
    read_settings,
)
from launcher.inventory.yamlnodes import MAX_BYTES, Node, parse
from launcher.model import HostSpec, Problem, ProcessSpec

FILE_NAME = "se-remote.yaml"
CONCERT_FILE = "launcher.yaml"
CONCERT_VARIABLE = "CONCERT_LAUNCHER_DEFAULT_CONFIG"
USER_FILE = ".config/se-remote/inventory.yaml"


def read(text: str, file: str = FILE_NAME) -> Inventory:
    """The inventory in `text`; `file` is its name in messages.

    Raises InventoryError with all that is wrong.
    """
    root, faults = parse(text, file)
    document, report = _read(root, faults, file)
    report.raise_if_any()
    return Inventory(document)


def read_standing(text: str, file: str = FILE_NAME) -> Inventory:
    """As `read`, but of a text with mistakes what stands all the same; they are its `problems`."""
    root, faults = parse(text, file)
    document, report = _read(root, faults, file)
    problems = report.problems()
    if not problems:
        return Inventory(document)
    shared = bool(faults) and _SHARES.search(text) is not None
    return Inventory(standing.standing(document, problems, shared=shared), tuple(problems))


_SHARES = re.compile(r"(?m)(?:^|[\s\[{,:])\*[\w-]")
"""Values stand in several places by anchors: a fault in the YAML of one may then be one of any of them."""


def _read(root: Node | None, faults: list[Problem], file: str) -> tuple[Document, Report]:
    report = Report(faults)
    document = replace(BUILT_IN, file=file) if root is None else read_document(root, file, report)
    return document, report


def load(
    path: Path, read_bytes: Callable[[Path], bytes] | None = None, *, mistaken: bool = False
) -> Inventory:
    """The inventory in a file; `mistaken`: one with mistakes, too, see
    read_standing.

    Raises InventoryError, also when the file cannot be read.
    """

    def read_at_most(file: Path) -> bytes:
        with file.open("rb") as stream:  # bounded: /dev/zero is a file too
            return stream.read(MAX_BYTES + 1)

    try:
        data = (read_bytes or read_at_most)(path)
    except IsADirectoryError as error:
        raise _wrong(path, "is a folder", f"did you mean {path / FILE_NAME}?") from error
    except FileNotFoundError as error:
        raise _wrong(path, "there is no such file") from error
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise _wrong(path, f"cannot be read: {reason}") from error
    if len(data) > MAX_BYTES:
        raise _wrong(path, "is larger than 1 MiB: this is not an inventory")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        problem = Problem("is not text in UTF-8", str(path), line)
        if mistaken:
            return Inventory(replace(BUILT_IN, file=str(path)), (problem,))
        raise InventoryError([problem]) from error
    return (read_standing if mistaken else read)(text, str(path))


def _wrong(path: Path, message: str, hint: str = "") -> InventoryError:
    return InventoryError([Problem(message, str(path), hint=hint)])


def find(
    environ: Mapping[str, str],
    cwd: Path,
    scenario_dir: Path | None = None,
    explicit: str | Path | None = None,
    *,
    is_file: Callable[[Path], bool] | None = None,
    is_private: Callable[[Path], bool] | None = None,
) -> Path | None:
    """The inventory to use, or None if there is none.

    `explicit` (``--inventory``), SE_REMOTE_INVENTORY, se-remote.yaml in the scenario's folder, in `cwd` and
    the folders above it, ``~/.config/se-remote/inventory.yaml`` with HOME of `environ`. Where there is none,
    the file of concert_launcher that it would take itself: CONCERT_LAUNCHER_DEFAULT_CONFIG, else
    launcher.yaml in `cwd`.

    Raises InventoryError when one that was named is not there. Folders above `cwd` that everybody may write
    to, such as /tmp, are passed over: an inventory says what is run, so a stranger's must not be picked up
    by chance.
    """
    exists = is_file or _is_file
    named = str(explicit) if explicit is not None else environ.get(INVENTORY, "")
    if named or explicit is not None:
        source = "--inventory" if explicit is not None else INVENTORY
        path = cwd / _expanded(named, environ)
        if not named or not exists(path):
            raise InventoryError([Problem(f"{source} names an inventory that is not a file", str(path))])
        return path
    for candidate in _candidates(environ, cwd, scenario_dir, is_private or _is_private):
        if exists(candidate):
            return candidate
    theirs = environ.get(CONCERT_VARIABLE, "")
    path = cwd / _expanded(theirs or CONCERT_FILE, environ)
    if exists(path):
        return path
    if theirs:
        raise InventoryError([Problem(f"{CONCERT_VARIABLE} names a file that is not there", str(path))])
    return None


def not_found(cwd: Path, scenario_dir: Path | None) -> str:
    """Where `find` has looked in vain, and what to do."""
    folders = [f"{cwd} and above"]
    if scenario_dir is not None and cwd / scenario_dir != cwd:
        folders.insert(0, str(cwd / scenario_dir))
    return (
        f"no inventory was found: looked for {FILE_NAME} in {', in '.join(folders)}, and for ~/{USER_FILE}\n"
        f"    try: write one (docs/inventory.md), or name it: {INVENTORY}=FILE"
    )


def _candidates(
    environ: Mapping[str, str], cwd: Path, scenario_dir: Path | None, is_private: Callable[[Path], bool]
) -> Iterator[Path]:
    if scenario_dir is not None:
        yield cwd / scenario_dir / FILE_NAME
    yield cwd / FILE_NAME
    for folder in cwd.parents:
        if is_private(folder):
            yield folder / FILE_NAME
    if environ.get("HOME"):
        yield Path(environ["HOME"]) / USER_FILE


def _expanded(path: str, environ: Mapping[str, str]) -> str:
    home = environ.get("HOME", "")
    return home + path[1:] if home and (path == "~" or path.startswith("~/")) else path


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except (OSError, ValueError):
        return False


def _is_private(folder: Path) -> bool:
    try:
        return not folder.stat().st_mode & stat.S_IWOTH
    except OSError:
        return False


def known_names(inventory: Inventory | None) -> list[str]:
    """What may stand where HOST is asked for: for messages and completion."""
    return inventory.known_names() if inventory is not None else ["local"]


def describe(spec: HostSpec | ProcessSpec) -> dict[str, Any]:
    """The spec as plain values, ready for JSON: what `inventory show` prints. Times in seconds."""
    result = dataclasses.asdict(spec)
    result["machine"] = str(spec.machine)
    result["ssh"] = {name: value for name, value in result["ssh"].items() if value is not None}
    if spec.docker is not None:
        result["docker"] = {name: value for name, value in result["docker"].items() if value}
    result["env"] = dict(spec.env)
    if isinstance(spec, ProcessSpec) and spec.ready_check is not None:
        check = {name: value for name, value in result["ready_check"].items() if value}
        result["ready_check"] = check.get("command") or check
    if isinstance(spec, HostSpec):
        result["path_map"] = dict(spec.path_map)
        result["push"] = [
            {"from": push.folder or "scenario", **({"to": push.to} if push.to else {})} for push in spec.push
        ]
        provision = spec.provision
        result["provision"] = provision and {"auto": provision.auto, "with": list(provision.packages)}
    return {key: list(value) if isinstance(value, tuple) else value for key, value in result.items()}


__all__ = [
    "DEFAULT_PORT",
    "FILE_NAME",
    "Inventory",
    "Settings",
    "check_selection",
    "check_settings",
    "chosen_variants",
    "describe",
    "find",
    "known_names",
    "load",
    "not_found",
    "read",
    "read_settings",
    "read_standing",
    "resolve_endpoint",
    "resolve_endpoints",
    "resolve_machine_arg",
    "resolve_machine_args",
    "schema",
    "unsupported",
]


def schema() -> dict[str, Any]:
    """A JSON Schema (draft 2020-12) of inventories, for editors. From the same table that validates."""
    from launcher.inventory import keys as table

    return table.schema()
