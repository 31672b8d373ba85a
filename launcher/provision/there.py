"""What runs on the machine to make an environment of wheels that were sent. Its source is sent; it stays not.

Rules:
- standard library only, Python 3.10, no pip and no `venv`: an environment is a file, a link and a folder;
- one at a time on an account (a lock that dies with its holder), what a killed one has left is removed;
- what it holds comes before PYTHONPATH, in its own interpreter alone;
- an environment is whole when its `provision.json` is there, which is written last; `current` leads to a
  whole one at every moment, and the packages that it has led to are never changed;
- an old one is removed when no process uses it.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import json
import os
import shutil
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable, Iterator
from typing import Any

_LOCK_S = 900.0
_TAKEN = ".taken"
_FULL = (errno.ENOSPC, errno.EDQUOT)
_GROWS = 1.7
"""With bytecode an environment takes so much more than what is in its wheels."""
_TRY = "import remote_exec.server, remote_exec.host.front, zmq, msgpack, py_trees, scenario_execution"

_INSTALL = """\
import sys
tool, top, site, headers = sys.argv[1:5]
sys.path.insert(0, tool)
from installer import install
from installer.destinations import SchemeDictionaryDestination
from installer.sources import WheelFile
for wheel in sys.argv[5:]:
    print(wheel.rpartition("/")[2], flush=True)
    with WheelFile.open(wheel) as source:
        scheme = {"purelib": site, "platlib": site, "scripts": top + "/bin", "data": top,
                  "headers": headers + "/" + source.distribution}
        target = SchemeDictionaryDestination(scheme, interpreter=top + "/bin/python", script_kind="posix",
                                             bytecode_optimization_levels=[0])
        install(source, target, additional_metadata={"INSTALLER": b"se-remote"})
"""

_PATH_MODULE = "_se_remote_path"
_PATH = '''\
"""Has what this environment holds come before PYTHONPATH, behind the standard library.

A sourced ROS names a folder there with a py_trees of its own, and perhaps an older scenario_execution.
Nothing of PYTHONPATH gets lost, and who is started from here finds the variable as it is.
"""

import os
import sys


def behind(path, named, stay):
    """`path` with its entries that are `named` last, but for those that `stay`."""
    moved = [entry for entry in path if entry in named and entry not in stay]
    return [entry for entry in path if entry not in moved] + moved


if os.environ.get("PYTHONPATH") and not sys.flags.ignore_environment:
    _named = {os.path.abspath(entry) for entry in os.environ["PYTHONPATH"].split(os.pathsep)}
    _stay = {os.path.dirname(__file__), os.path.dirname(os.__file__)}
    sys.path[:] = behind(sys.path, _named, _stay)
'''
"""Imported by the environment's last .pth, when its own folders are in sys.path and the system's not yet."""

Say = Callable[[str, str], None]


class Refused(Exception):
    """It cannot be done: cause, and what to do."""

    def __init__(self, cause: str, step: str) -> None:
        self.cause, self.step = cause, step
        super().__init__(cause)


def main(nonce: str, text: str) -> int:
    """Does what the request says, and answers in sections; the exit code."""

    def say(name: str, value: str) -> None:
        os.write(1, f"\n{nonce} {name}\n{value}\n".encode("utf-8", "surrogateescape"))

    say("at", "provision")
    try:
        provide(json.loads(text), say)
    except Refused as error:
        _refuse(say, error.cause, error.step)
    except OSError as error:
        where = f" ({error.filename})" if error.filename else ""
        step = (
            "on the machine: df -h ~" if error.errno in _FULL else "on the machine: ls -ld ~ ~/.local/share"
        )
        what = "no space is left there" if error.errno in _FULL else str(error.strerror or error)
        _refuse(say, f"{what}{where}", step)
    os.write(1, f"\n{nonce} end\n".encode())
    return 0


def _refuse(say: Say, cause: str, step: str) -> None:
    for name, value in (("verb", "refused"), ("stage", "provision"), ("cause", cause), ("next", step)):
        say(name, value)


def provide(request: dict[str, Any], say: Say) -> None:
    """Make the environment, unless it is there, and have `current` lead to it."""
    home = os.path.expanduser("~")
    venvs, wheels = os.path.join(home, request["venvs"]), os.path.join(home, request["wheels"])
    os.makedirs(venvs, mode=0o700, exist_ok=True)
    venvs = os.path.realpath(venvs)
    top = os.path.join(venvs, request["key"])
    with _locked(os.path.join(venvs, ".lock"), say):
        fresh = not os.path.exists(os.path.join(top, "provision.json")) or bool(_fails(top))
        if fresh:
            with _taken(os.path.join(venvs, _TAKEN), wheels, request["files"]) as folder:
                missing = _missing(folder, request["files"])
                if missing:
                    say("verb", "missing")
                    say("names", "\n".join(missing))
                    return
                _make(top, request, folder, say)
        else:
            _note(top, request["manifest"])
        _switch(venvs, request["key"])
        removed, kept = _prune(venvs, request["key"])
    for name, value in (("verb", "provided"), ("place", top), ("fresh", "yes" if fresh else "no"),
                        ("removed", "\n".join(removed)), ("kept", "\n".join(kept))):  # fmt: skip
        say(name, value)


@contextlib.contextmanager
def _locked(path: str, say: Say) -> Iterator[None]:
    fd = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        until, told = time.monotonic() + _LOCK_S, False
        while True:
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > until:
                    raise Refused("another provision there does not end", "try again later") from None
                if not told:
                    told = True
                    say("note", "waiting for another provision on that account")
                time.sleep(0.05)
            except OSError:
                break  # a file system without locks: nobody is waited for
        yield
    finally:
        os.close(fd)


def _missing(folder: str, files: list[list[str]]) -> list[str]:
    """Wheels that are not there, or are not what they should be."""
    missing = []
    for name, digest in files:
        try:
            total = hashlib.sha256()
            with open(os.path.join(folder, name), "rb") as file:
                while block := file.read(1 << 20):
                    total.update(block)
            whole = total.hexdigest() == digest
        except FileNotFoundError:
            whole = False
        if not whole:
            missing.append(name)
    return missing


@contextlib.contextmanager
def _taken(folder: str, wheels: str, files: list[list[str]]) -> Iterator[str]:
    """The wheels by names of our own: another client may send others meanwhile, and these go then."""
    shutil.rmtree(folder, ignore_errors=True)  # of one that was killed
    os.mkdir(folder, 0o700)
    try:
        for name, _ in files:
            kept, taken = os.path.join(wheels, name), os.path.join(folder, name)
            try:
                os.link(kept, taken)
            except FileNotFoundError:
                pass
            except OSError:  # a file system without links
                with contextlib.suppress(FileNotFoundError):
                    shutil.copyfile(kept, taken)
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _make(top: str, request: dict[str, Any], folder: str, say: Say) -> None:
    names = [name for name, _ in request["files"]]
    tool = os.path.join(folder, request["tool"])
    wheels = [os.path.join(folder, name) for name in names if name != request["tool"]]
    shutil.rmtree(top, ignore_errors=True)  # of one that was killed
    _room(os.path.dirname(top), wheels)
    try:
        _bare(top)
        _install(top, tool, wheels, say)
        trouble = _fails(top)
        if trouble:
            cause = f"what was installed does not run with {sys.executable}: {trouble}"
            raise Refused(cause, f"on the machine: {top}/bin/python -c '{_TRY}'")
        _note(top, request["manifest"])
    except BaseException:
        shutil.rmtree(top, ignore_errors=True)  # a full disk has room again
        raise


def _note(top: str, manifest: dict[str, Any]) -> None:
    """What was asked for, which the same wheels may answer in more than one way."""
    _write(os.path.join(top, "provision.json"), json.dumps(manifest))


def _room(folder: str, wheels: list[str]) -> None:
    needed = 0
    for wheel in wheels:
        with zipfile.ZipFile(wheel) as archive:
            needed += sum(one.file_size for one in archive.infolist())
    needed = int(needed * _GROWS)
    seen = os.statvfs(folder)
    free = seen.f_bavail * seen.f_frsize
    if free < needed:
        cause = f"no space is left there: it needs {needed // 10**6} MB in {folder}, {free // 10**6} are free"
        raise Refused(cause, f"on the machine: df -h {folder}")


def _bare(top: str) -> None:
    """A virtual environment as `venv` makes it, without what would have to be there for that."""
    version = _version()
    base = os.path.realpath(getattr(sys, "_base_executable", "") or sys.executable)
    exact = os.path.join(os.path.dirname(base), version)
    if os.path.exists(exact):  # `python3` may lead to another one after an upgrade
        base = exact
    os.makedirs(os.path.join(top, "bin"))
    site = os.path.join(top, "lib", version, "site-packages")
    os.makedirs(site)
    _write(os.path.join(site, f"{_PATH_MODULE}.py"), _PATH)
    _write(os.path.join(site, f"zzz{_PATH_MODULE}.pth"), f"import {_PATH_MODULE}\n")
    os.symlink("lib", os.path.join(top, "lib64"))
    for name in ("python", "python3", version):
        os.symlink(base if name == "python" else "python", os.path.join(top, "bin", name))
    lines = [f"home = {os.path.dirname(base)}", "include-system-site-packages = true"]
    lines += ["version = " + ".".join(map(str, sys.version_info[:3]))]
    _write(os.path.join(top, "pyvenv.cfg"), "\n".join(lines) + "\n")


def _version() -> str:
    return f"python{sys.version_info[0]}.{sys.version_info[1]}{'t' if 't' in sys.abiflags else ''}"


def _install(top: str, tool: str, wheels: list[str], say: Say) -> None:
    version = _version()
    site = os.path.join(top, "lib", version, "site-packages")
    headers = os.path.join(top, "include", "site", version)
    words = [
        os.path.join(top, "bin", "python"),
        "-I",
        "-S",
        "-c",
        _INSTALL,
        tool,
        top,
        site,
        headers,
        *wheels,
    ]
    with subprocess.Popen(
        words, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None and process.stderr is not None
        for count, line in enumerate(process.stdout, 1):
            say("note", f"installing {count} of {len(wheels)}: {line.strip()}")
        said = process.stderr.read().strip().splitlines()
    if process.returncode == 0:
        return
    last = said[-1] if said else f"exit code {process.returncode}"
    if "No space left" in last or "quota" in last:
        raise Refused(f"no space is left there: {last}", f"on the machine: df -h {os.path.dirname(top)}")
    raise Refused(f"the wheels cannot be installed: {last}", "se-remote clean; then try again")


def _fails(top: str) -> str:
    """Why the server could not run in it; "" when it can."""
    try:
        done = subprocess.run(
            [os.path.join(top, "bin", "python"), "-I", "-c", _TRY], stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, check=False,
        )  # fmt: skip
    except OSError as error:
        return str(error)
    said = done.stderr.strip().splitlines()
    return "" if done.returncode == 0 else (said[-1] if said else f"exit code {done.returncode}")


def _write(path: str, text: str) -> None:
    temporary = f"{path}.{os.getpid()}"
    with open(temporary, "w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, path)


def _switch(venvs: str, key: str) -> None:
    current = os.path.join(venvs, "current")
    if os.path.islink(current) and os.readlink(current) == key:
        return
    temporary = os.path.join(venvs, f".current.{os.getpid()}")
    with contextlib.suppress(FileNotFoundError):
        os.unlink(temporary)
    os.symlink(key, temporary)
    os.replace(temporary, current)


def _prune(venvs: str, key: str) -> tuple[list[str], list[str]]:
    """Remove what nobody uses; (removed, kept since somebody uses it)."""
    removed, kept, used = [], [], None
    for name in sorted(os.listdir(venvs)):
        path = os.path.join(venvs, name)
        if name in (key, "current", ".lock", _TAKEN) or os.path.islink(path) or not os.path.isdir(path):
            continue
        if not name.startswith(".gone."):
            used = _in_use(venvs) if used is None else used
            if name in used or "*" in used:
                kept.append(name)
                continue
            removed.append(name)
            gone = os.path.join(venvs, f".gone.{name}")
            os.rename(path, gone)
            path = gone
        shutil.rmtree(path, ignore_errors=True)
    return removed, kept


def _in_use(venvs: str) -> set[str]:
    """The environments in which a process runs; "*": one is about to, nobody knows in which."""
    mark = os.fsencode(venvs) + b"/"
    found: set[str] = set()
    for pid in os.listdir("/proc"):
        if not pid.isdigit() or int(pid) == os.getpid():
            continue
        command, environment = (_read(f"/proc/{pid}/{what}") for what in ("cmdline", "environ"))
        words = command.rstrip(b"\0").split(b"\0")
        if len(words) > 1 and words[-1] in (b"start", b"serve") and b"/run." in words[-2]:
            found.update(() if mark in environment else "*")
        for text in (command, environment):
            for piece in text.split(mark)[1:]:
                name = os.fsdecode(piece.partition(b"/")[0])
                if name and name != "current":
                    found.add(name)
    return found


def _read(path: str) -> bytes:
    try:
        with open(path, "rb") as file:
            return file.read()
    except OSError:
        return b""
