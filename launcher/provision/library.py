"""The wheels that this machine keeps for others: a folder of files, and which of them belong together.

    wheels/NAME.whl           fetched and made ones, by name
    own/DIGEST/NAME.whl       of names that do not say which content it is: ours, those of local folders
    plans/KEY.json            what was found for which needs: with it nothing is looked for again

Rules:
- of `own` the last ones used are kept, since each change of ours or of a folder makes another;
- a file appears under its name when it is complete; two at once do not disturb each other;
- its time says what is in it, so that what a machine has already is recognised there, whoever has sent it.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import shutil
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final

from launcher.provision.values import Wheel

_FORGOTTEN_S: Final = 86400.0
_OWN_KEPT: Final = 20
_IN_USE_S: Final = 3600.0
"""Somebody may be sending a wheel that was wanted so many seconds ago."""


class Library:
    """The cache in `folder`. Raises OSError."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.wheels = folder / "wheels"

    def add(self, name: str, data: bytes, *, apart: bool = False) -> Wheel:
        """Keep a wheel; `apart`: of which there may be others by that name."""
        digest = hashlib.sha256(data).hexdigest()
        path = (self.folder / "own" / digest[:16] if apart else self.wheels) / name
        if apart:
            self._use(path.parent)
        if not (apart and path.exists()):
            _write(path, data)
            _set_time(path, digest)
        return Wheel(path, digest)

    def _use(self, folder: Path) -> None:
        """Of `own`: the time of a folder there says when it was wanted last."""
        folder.mkdir(parents=True, exist_ok=True)
        os.utime(folder)
        times = {}
        for one in (self.folder / "own").iterdir():
            with contextlib.suppress(FileNotFoundError):  # two at once
                times[one] = one.stat().st_mtime
        for old in sorted(times, key=times.__getitem__, reverse=True)[_OWN_KEPT:]:
            if time.time() - times[old] > _IN_USE_S:
                shutil.rmtree(old, ignore_errors=True)

    def take(self, path: Path) -> Wheel:
        """Keep the file of a wheel, which goes from where it was."""
        digest = _digest(path)
        _set_time(path, digest)
        path.chmod(0o644)
        self.wheels.mkdir(parents=True, exist_ok=True)
        kept = self.wheels / path.name
        os.replace(path, kept)
        return Wheel(kept, digest)

    def built(self, name: str, data: bytes) -> None:
        """Keep a wheel that was made here of a source, for pip to find."""
        _write(self.folder / "built" / name, data)

    def has_built(self, pin: str = "") -> bool:
        """Whether `pin`, ``name==version``, was; without one: whether anything was."""
        names = [path.name for path in (self.folder / "built").glob("*.whl")]
        return (
            bool(names)
            if not pin
            else any(_plain("==".join(name.split("-")[:2])) == _plain(pin) for name in names)
        )

    def plan(self, key: str) -> tuple[Wheel, ...] | None:
        """What was found for that key, if all of it is still here, and whole."""
        try:
            rows = json.loads((self.folder / "plans" / f"{key}.json").read_text("utf-8"))
            found = tuple(Wheel(self.folder / path, digest) for path, digest in rows)
            if all(_digest(wheel.path) == wheel.digest for wheel in found):
                return found
        except (OSError, ValueError, TypeError):
            pass
        return None

    def remember(self, key: str, found: Sequence[Wheel]) -> None:
        """What belongs to that key."""
        rows = [[os.path.relpath(wheel.path, self.folder), wheel.digest] for wheel in found]
        _write(self.folder / "plans" / f"{key}.json", json.dumps(rows).encode())

    def note(self, kind: str, key: str) -> Wheel | None:
        """The wheel that `remember_one` has noted, as `plan`."""
        found = self.plan(f"{kind}-{key}")
        if not found:
            return None
        self._use(found[0].path.parent)
        return found[0]

    @contextlib.contextmanager
    def work(self) -> Iterator[Path]:
        """A folder for something that is not complete yet."""
        self.folder.mkdir(parents=True, exist_ok=True)
        for old in self.folder.glob(".work-*"):  # of one that was killed
            with contextlib.suppress(OSError):
                if time.time() - old.stat().st_mtime > _FORGOTTEN_S:
                    shutil.rmtree(old, ignore_errors=True)
        with tempfile.TemporaryDirectory(prefix=".work-", dir=self.folder) as folder:
            yield Path(folder)

    @contextlib.contextmanager
    def gathered(self, found: Sequence[Wheel]) -> Iterator[Path]:
        """A folder with these wheels and nothing else, for sending."""
        with self.work() as folder:
            for wheel in found:
                to = folder / wheel.name
                try:
                    os.link(wheel.path, to)
                except OSError:
                    shutil.copyfile(wheel.path, to)
                to.chmod(0o644)
                _set_time(to, wheel.digest)
            yield folder


def cache_folder(environ: Mapping[str, str]) -> Path:
    """~/.cache/se-remote, or where XDG_CACHE_HOME says."""
    base = environ.get("XDG_CACHE_HOME") or os.path.join(
        environ.get("HOME") or os.path.expanduser("~"), ".cache"
    )
    return Path(base) / "se-remote"


def digest_of_folder(folder: Path) -> str:
    """Of what is in a folder, but for what tools leave there."""
    left = {".git", "__pycache__", ".venv", ".mypy_cache", ".pytest_cache", ".ruff_cache"}
    total = hashlib.sha256()
    for path, folders, names in os.walk(folder):
        skip = left | {"build", "dist"} if Path(path) == folder else left
        folders[:] = sorted(one for one in folders if one not in skip and not one.endswith(".egg-info"))
        for name in sorted(names):
            file = os.path.join(path, name)
            if name.endswith(".pyc") or not os.path.isfile(file):
                continue
            total.update(f"{os.path.relpath(file, folder)}\0{_digest(Path(file))}\0".encode())
    return total.hexdigest()[:16]


def _plain(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def _digest(path: Path) -> str:
    total = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            total.update(block)
    return total.hexdigest()


def _set_time(path: Path, digest: str) -> None:
    seconds = int(digest[:7], 16)
    os.utime(path, (seconds, seconds))


def _write(path: Path, data: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    fd, temporary = tempfile.mkstemp(prefix=".part-", dir=path.parent)
    try:
        with os.fdopen(fd, "wb") as file:
            file.write(data)
        os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        raise
