"""Wheels without a build: our own from what is installed here, and one that turns out to be pure.

A wheel is a zip of files with a list of them (RECORD). What is packed is what runs here, from a checkout as
from an installed wheel, so client and server are of one version to the letter. The same files give the same
wheel.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import importlib.metadata
import importlib.util
import io
import re
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

_DISTRIBUTION: Final = "se-remote"
_PACKAGES: Final = ("remote_exec", "launcher")
_CLIENT_ONLY: Final = frozenset({"asyncssh", "packaging"})
"""What nothing on the server's side imports: of no use there, and some of it has machine code of its own."""
_COMPILED: Final = re.compile(r"\.(so|pyd|dylib|dll|a|o)(\.|$)")


@dataclass(frozen=True)
class Packed:
    """A wheel as bytes."""

    name: str
    data: bytes
    requires: tuple[str, ...] = ()

    @property
    def digest(self) -> str:
        return hashlib.sha256(self.data).hexdigest()


class NoWheel(Exception):
    """A file that has the name of a wheel, and is none."""


class NotInstalled(Exception):
    """This package runs here without being installed: nothing says what it needs."""


def own_wheel(version: str) -> Packed:
    """Our own, as it is here. Raises NotInstalled, OSError."""
    try:
        found = importlib.metadata.distribution(_DISTRIBUTION)
    except importlib.metadata.PackageNotFoundError as error:
        raise NotInstalled(str(error)) from error
    about = found.read_text("METADATA") or found.read_text("PKG-INFO") or ""
    files: dict[str, bytes] = {}
    for package in _PACKAGES:
        spec = importlib.util.find_spec(package)
        assert spec is not None and spec.submodule_search_locations
        files.update(_files(Path(next(iter(spec.submodule_search_locations))), package))
    entry_points = found.read_text("entry_points.txt") or ""
    return packed_own(files, about, entry_points, version)


def packed_own(files: Mapping[str, bytes], about: str, entry_points: str, version: str) -> Packed:
    """The wheel of these files; `about`: METADATA as it is at the client."""
    about, requires = for_server(about, version)
    folder = f"{_DISTRIBUTION.replace('-', '_')}-{version}.dist-info"
    more = {
        f"{folder}/METADATA": about.encode(),
        f"{folder}/WHEEL": _wheel_file("se-remote").encode(),
        f"{folder}/entry_points.txt": entry_points.encode(),
        f"{folder}/top_level.txt": "".join(f"{name}\n" for name in sorted(_PACKAGES)).encode(),
    }
    name = f"{_DISTRIBUTION.replace('-', '_')}-{version}-py3-none-any.whl"
    return Packed(name, packed({**files, **more}, folder), requires)


def for_server(about: str, version: str) -> tuple[str, tuple[str, ...]]:
    """METADATA with what only a client needs behind an extra `client`, and what the server needs."""
    head, blank, body = about.partition("\n\n")
    lines, requires = [], []
    for line in head.splitlines():
        key, _, value = line.partition(": ")
        name = re.match(r"[A-Za-z0-9._-]*", value)
        if key == "Version":
            line = f"Version: {version}"
        elif key == "Requires-Dist" and "extra ==" not in value:
            if name and name[0].lower() in _CLIENT_ONLY:
                line = f'{line} ; extra == "client"'
            else:
                requires.append(value)
        lines.append(line)
    return "\n".join([*lines, "Provides-Extra: client"]) + blank + body, tuple(requires)


def pure(name: str, data: bytes) -> Packed | None:
    """The same wheel for every machine, when there is no machine code in it; None: there is."""
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        files = {one.filename: archive.read(one) for one in archive.infolist() if not one.is_dir()}
    if any(_COMPILED.search(path) for path in files):
        return None
    if name.endswith("-none-any.whl"):
        return Packed(name, data)
    folder = next(path.partition("/")[0] for path in files if path.endswith(".dist-info/WHEEL"))
    files.pop(f"{folder}/RECORD", None)
    files[f"{folder}/WHEEL"] = _wheel_file("se-remote, of a wheel without machine code").encode()
    distribution, version = name.split("-")[:2]
    return Packed(f"{distribution}-{version}-py3-none-any.whl", packed(files, folder))


def metadata(data: bytes) -> str:
    """What a wheel says of itself. Raises NoWheel."""
    with contextlib.suppress(zipfile.BadZipFile), zipfile.ZipFile(io.BytesIO(data)) as archive:
        for name in archive.namelist():
            if re.fullmatch(r"[^/]+\.dist-info/METADATA", name):
                return archive.read(name).decode("utf-8", "replace")
    raise NoWheel


def packed(files: Mapping[str, bytes], folder: str) -> bytes:
    """A zip of the files and their RECORD, which goes into `folder`."""
    record = "".join(f"{path},{_record_hash(data)},{len(data)}\n" for path, data in sorted(files.items()))
    record += f"{folder}/RECORD,,\n"
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED, compresslevel=6) as archive:
        for path, data in [*sorted(files.items()), (f"{folder}/RECORD", record.encode())]:
            info = zipfile.ZipInfo(path)  # of 1980: the same files give the same bytes
            info.compress_type, info.external_attr = zipfile.ZIP_DEFLATED, 0o100644 << 16
            archive.writestr(info, data)
    return out.getvalue()


def _wheel_file(generator: str) -> str:
    return f"Wheel-Version: 1.0\nGenerator: {generator}\nRoot-Is-Purelib: true\nTag: py3-none-any\n"


def _record_hash(data: bytes) -> str:
    digest = base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=")
    return f"sha256={digest.decode()}"


def _files(top: Path, package: str) -> dict[str, bytes]:
    found = {}
    for path in sorted(top.rglob("*")):
        name = path.relative_to(top)
        hidden = any(part.startswith(".") or part == "__pycache__" for part in name.parts)
        if path.is_file() and not hidden and path.suffix != ".pyc":
            found[f"{package}/{name.as_posix()}"] = path.read_bytes()
    return found
