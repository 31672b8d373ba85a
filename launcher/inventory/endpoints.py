"""From what a user wrote, in a scenario or on the command line, to a host or an address.

    tcp://…  ipc://…  /path  ./path  host:port      a direct address (port 7613 if none is given)
    IP address  localhost                           a direct address
    local                                           this machine: a host, with or without a file
    name, alias, name+variant+…                     a host of the inventory
    a bare hostname without any inventory file      tcp://hostname:7613
    user@machine, on the command line only          a host made up for this machine

With an inventory an unknown name is an error: it never becomes an address by accident.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from launcher.errors import InventoryError
from launcher.inventory.entries import BUILT_IN
from launcher.inventory.kinds import parse_machine
from launcher.inventory.report import Place, Report, printable
from launcher.inventory.resolve import Inventory, resolve_host, split_name
from launcher.inventory.settings import (
    INVENTORY,
    MAP,
    Settings,
    check_settings,
    chosen_variants,
    read_settings,
)
from launcher.model import DirectAddress, HostSpec, Problem

DEFAULT_PORT = 7613
_MAX_SOCKET_PATH = 107
_HOSTNAME = re.compile(r"(?![-.])[A-Za-z0-9._-]{1,253}\Z")
_FORMS = "expected a host of the inventory, tcp://host:port, host:port, ipc:///path, /path or ./path"
_NO_SETTINGS = Settings()


def resolve_endpoint(
    text: str,
    inventory: Inventory | None,
    settings: Settings | Mapping[str, str] = _NO_SETTINGS,
    *,
    cwd: Path | None = None,
) -> DirectAddress | HostSpec:
    """What a modifier's endpoint string means; `inventory` is None when there is no file.

    `settings` may be the environment itself, which is then read. ``./path`` counts from `cwd`.
    Raises InventoryError with all that is wrong.
    """
    return resolve_endpoints([text], inventory, settings, cwd=cwd)[text]


def resolve_endpoints(
    texts: Iterable[str],
    inventory: Inventory | None,
    settings: Settings | Mapping[str, str] = _NO_SETTINGS,
    *,
    cwd: Path | None = None,
) -> dict[str, DirectAddress | HostSpec]:
    """All endpoint strings of a scenario at once: one report, and a check of the selection as a whole."""
    settings = settings if isinstance(settings, Settings) else read_settings(settings)
    report = Report()
    result: dict[str, DirectAddress | HostSpec] = {}
    for text in dict.fromkeys(texts):
        target = _mapped(text, inventory, settings)
        own = Report()
        found: DirectAddress | HostSpec | None = _address(target, inventory, cwd, own)
        if found is None and target:
            found = _host(target, inventory, settings, own)
        if found is not None:
            result[text] = found
        because = f'{MAP} puts it in the place of "{text}"' if target != text else ""
        report.extend(replace(p, hint="; ".join(filter(None, (because, p.hint)))) for p in own.problems())
    specs = [spec for spec in result.values() if isinstance(spec, HostSpec)]
    if inventory is not None and (specs or report.count):
        report.extend(check_settings(inventory, settings))
    report.extend(_conflicts(specs))
    report.raise_if_any()
    return result


def resolve_machine_arg(
    text: str, inventory: Inventory | None, settings: Settings | Mapping[str, str] = _NO_SETTINGS
) -> HostSpec:
    """What HOST means on the command line. Raises InventoryError with all that is wrong."""
    return resolve_machine_args([text], inventory, settings)[0]


def resolve_machine_args(
    texts: Sequence[str],
    inventory: Inventory | None,
    settings: Settings | Mapping[str, str] = _NO_SETTINGS,
    *,
    places: bool = False,
) -> list[HostSpec]:
    """Several HOST arguments with one report; each host once, in the order given.

    `places`: only of what says where they are, for who starts nothing there: what runs needs no values.
    """
    settings = settings if isinstance(settings, Settings) else read_settings(settings)
    report = Report()
    specs: dict[str, HostSpec] = {}
    unused = set(settings.for_all)
    for text in texts:
        spec = _machine(text, report) if "@" in text else _named(text, inventory, settings, report, places)
        if spec is not None:
            specs.setdefault(spec.name, spec)
            unused -= set(spec.name.split("+")[1:])
    if inventory is not None and not inventory.problems:  # else what they name may have been left out
        report.extend(check_settings(inventory, settings))
    if not report.count:
        for variant in sorted(unused):
            report.add(Place("--variant"), f'none of {", ".join(texts)} has a variant "{variant}"')
    if not places:
        report.extend(_conflicts(specs.values()))
    report.raise_if_any()
    return list(specs.values())


def check_selection(specs: Iterable[HostSpec]) -> None:
    """Raises InventoryError when two variants of one exclusive host are to be used at once."""
    problems = _conflicts(specs)
    if problems:
        raise InventoryError(problems)


def unsupported(spec: HostSpec) -> list[Problem]:
    """Keys of the spec that cannot be heeded. To use such a host is an error, never to ignore the key."""
    file, _, line = spec.source.rpartition(":")
    name = split_name(spec.name)[0]
    found = [
        (
            "server",
            f"`server` of {name} starts a server that cannot be told of `{key}`",
            "write {server} where its command line belongs",
        )
        for key in ("exclusive", "on_stop")
        if getattr(spec, key) and "{server}" not in spec.server
    ]
    at = (file, int(line)) if line.isdigit() else (spec.source, 0)
    return [Problem(text, *at, f"hosts.{name}.{key}", hint) for key, text, hint in found]


def _conflicts(specs: Iterable[HostSpec]) -> list[Problem]:
    report = Report()
    by_name: dict[str, dict[str, HostSpec]] = {}
    for spec in specs:
        by_name.setdefault(split_name(spec.name)[0], {})[spec.name] = spec
    for name, variants in by_name.items():
        if len(variants) > 1 and any(spec.exclusive for spec in variants.values()):
            source = next(spec.source for spec in variants.values())
            report.add(
                Place(source, 0, f"hosts.{name}"),
                f"is exclusive, and {' and '.join(sorted(variants))} are to be used at once",
                "use one of them",
            )
    return report.problems()


def _mapped(text: str, inventory: Inventory | None, settings: Settings) -> str:
    """SE_REMOTE_MAP applied, once: the text as a whole, else its name with the variants kept."""
    if text in settings.names:
        return settings.names[text]
    name, variants = split_name(text)
    for old, new in settings.names.items():
        canonical = inventory.canonical(name) if inventory is not None else None
        same = canonical is not None and inventory is not None and inventory.canonical(old) == canonical
        if old == name or same:
            return "+".join([new, *variants])
    return text


def _address(
    text: str, inventory: Inventory | None, cwd: Path | None, report: Report
) -> DirectAddress | None:
    """A direct address; None if it is none, after a report when it can be nothing else either."""
    place = Place("", 0, text if len(text) < 80 else text[:77] + "…")
    if not text.strip() or not text.isprintable():
        report.add(place, f"the endpoint is {'empty' if not text.strip() else 'not printable'}", _FORMS)
        return None
    if text.startswith("ipc://"):
        return _socket(text[6:], cwd, place, report)
    if text.startswith(("/", "./", "../")):
        return _socket(text, cwd, place, report)
    if text.startswith("tcp://"):
        return _tcp(text[6:], place, report)
    bare = inventory is None and _HOSTNAME.match(text) is not None and text != "local"
    if text == "localhost" or bare or ("://" not in text and (":" in text or _ip(text))):
        found = _tcp(text, place, report)
        guessed = bare and text != "localhost" and not _ip(text)
        return replace(found, bare=True) if found is not None and guessed else found
    return None


def _socket(path: str, cwd: Path | None, place: Place, report: Report) -> DirectAddress | None:
    if not path:
        report.add(place, "the path of the socket is missing", "ipc:///path or /path")
        return None
    whole = path if path.startswith(("/", "@")) or cwd is None else str(cwd / path)
    if len(whole.encode("utf-8", "surrogateescape")) > _MAX_SOCKET_PATH:
        report.add(place, f"the path of a socket has at most {_MAX_SOCKET_PATH} bytes", whole)
        return None
    return DirectAddress(f"ipc://{whole}")


def _tcp(text: str, place: Place, report: Report) -> DirectAddress | None:
    """host, host:port, [IPv6], [IPv6]:port or a bare IPv6 address."""
    port = str(DEFAULT_PORT)
    if text.startswith("["):
        host, bracket, tail = text[1:].partition("]")
        good = bool(bracket) and _ip(host) == 6 and (not tail or tail.startswith(":"))
        port = tail[1:] if tail else port
        host = f"[{host}]"
    elif _ip(text) == 6:
        host, good = f"[{text}]", True
    else:
        host, colon, tail = text.partition(":")
        port = tail if colon else port
        good = _HOSTNAME.match(host) is not None
    if not good:
        hint = (
            "user@machine works on the command line only: name the machine in an inventory"
            if "@" in text
            else _FORMS
        )
        report.add(place, f'"{text}" is no host:port', hint)
        return None
    if not (re.match(r"[0-9]{1,5}\Z", port) and 0 < int(port) < 65536):
        report.add(place, f'"{port}" is no port (1 to 65535)')
        return None
    return DirectAddress(f"tcp://{host}:{int(port)}")


def _ip(text: str) -> int:
    """4 or 6; 0 for what is no IP address."""
    try:
        return ipaddress.ip_address(text).version
    except ValueError:
        return 0


def _host(text: str, inventory: Inventory | None, settings: Settings, report: Report) -> HostSpec | None:
    if not text.isprintable() or not text.strip():
        return None
    if ":" in text:  # reported by _address, but for other schemes than tcp and ipc
        if "://" in text and not text.startswith(("tcp:", "ipc:")):
            report.add(Place("", 0, text), "this kind of address is not known", _FORMS)
        return None
    if text.startswith(("/", "./", "../")):
        return None
    if "@" in text:
        report.add(
            Place("", 0, text),
            "user@machine works on the command line only",
            "name the machine in an inventory",
        )
        return None
    return _of_inventory(text, inventory, settings, report)


def _of_inventory(
    text: str, inventory: Inventory | None, settings: Settings, report: Report, place: bool = False
) -> HostSpec | None:
    name = split_name(text)[0]
    if inventory is None and name != "local":
        report.add(Place("", 0, text), "there is no inventory, so there are no hosts but local", _NO_FILE)
        return None
    inventory = inventory if inventory is not None else Inventory()
    host = inventory.canonical(name)
    variants = chosen_variants(inventory, host, settings) if host is not None else []
    return resolve_host(inventory.document, text, variants, settings.params, report, place=place)


_LOOKED = "looked for se-remote.yaml here and above, and for ~/.config/se-remote/inventory.yaml"
_NO_FILE = f"{_LOOKED}; name one with --inventory or {INVENTORY}"


def _named(
    text: str, inventory: Inventory | None, settings: Settings, report: Report, place: bool
) -> HostSpec | None:
    """A HOST argument without a user."""
    if text == "localhost":
        return _of_inventory("local", inventory, settings, report, place)
    if "/" in text or ":" in text:
        report.add(Place("", 0, text), "is no host", "a machine is written user@machine or user@machine:port")
        return None
    if inventory is None and split_name(text)[0] != "local":
        report.add(Place("", 0, text), "there is no inventory", _LOOKED)
        machine = printable(split_name(text)[0])
        report.next_step = (
            f"write user@{machine}, or name an inventory: --inventory FILE, or {INVENTORY}=FILE"
        )
        return None
    return _of_inventory(text, inventory, settings, report, place)


def _machine(text: str, report: Report) -> HostSpec | None:
    machine = parse_machine(text)
    if isinstance(machine, str):
        report.add(Place("", 0, text), machine)
        return None
    local = resolve_host(BUILT_IN, "local", (), {}, report)
    return replace(local, name=str(machine), machine=machine) if local is not None else None
