"""The two scripts that a provision runs on a machine, as text, and how their answers are read. Pure.

look      →  Seen: the interpreter there, the environment that is in use
install   →  place, removed │ the wheels that are missing │ StageError
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files
from typing import Any, Final

from launcher import scripts, wrapper
from launcher.errors import StartFailed
from launcher.model import Stage
from launcher.plan import Reply, read_json
from launcher.provision.target import read_python, unfit
from launcher.provision.values import Python, Seen

WHEELS: Final = ".local/share/se-remote/wheels"
"""Under home, on the machine: what was sent last; what of it is wanted again is not sent again."""

_PROBE: Final = r"""
import sys
sys.path = [entry for entry in sys.path if entry]
out = {"version": list(sys.version_info[:3]), "executable": sys.executable, "machine": "", "bits": 64,
       "implementation": "cpython", "glibc": None, "musl": None, "free_threaded": False, "missing": [],
       "manifest": {}, "works": False}
import json
if sys.version_info >= (3, 8):
    import glob, importlib.util, os, struct, subprocess
    def said(words):
        try:
            done = subprocess.run(words, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                                  stderr=subprocess.STDOUT, timeout=20)
            return done.stdout.decode("utf-8", "replace").strip()
        except (OSError, subprocess.SubprocessError):
            return ""
    base = os.path.realpath(getattr(sys, "_base_executable", "") or sys.executable)
    out["executable"], out["machine"] = base, os.uname().machine
    out["bits"] = 8 * struct.calcsize("P")
    out["implementation"] = sys.implementation.name
    out["free_threaded"] = "t" in getattr(sys, "abiflags", "")
    try:
        name, number = os.confstr("CS_GNU_LIBC_VERSION").split()[:2]
        out["glibc"] = [int(part) for part in number.split(".")[:2]]
    except (ValueError, AttributeError, OSError):
        for loader in glob.glob("/lib/ld-musl-*.so.1"):
            lines = [line for line in said([loader]).splitlines() if line.startswith("Version ")]
            if lines:
                out["musl"] = [int(part) for part in lines[0].split()[1].split(".")[:2]]
    needed = "asyncio ctypes multiprocessing zipfile zlib fcntl hashlib"
    out["missing"] = [name for name in needed.split() if importlib.util.find_spec(name) is None]
    current = os.path.join(os.path.expanduser("~"), sys.argv[1], "current")
    try:
        with open(os.path.join(current, "provision.json")) as file:
            out["manifest"] = json.load(file)
        words = [os.path.join(current, "bin", "python"), "-I", "-c",
                 "import sys, remote_exec.server, zmq, msgpack; from importlib.util import find_spec; "
                 "there = find_spec('py_trees') and find_spec('scenario_execution'); "
                 "print(*sys.version_info[:3]) if there else sys.exit(1)"]
        out["works"] = said(words) == " ".join(str(part) for part in out["manifest"]["python"])
    except (OSError, ValueError, KeyError, TypeError):
        pass
sys.stdout.write(json.dumps(out) + "\n")
"""
"""Runs in any Python, to be able to say that it is too old; what lies in the home is nothing to it."""

_LOOK: Final = r"""
look_there() {
  field at provision
  uid=$(id -u)
  command -v "$python" >/dev/null || no_python
  said=$("$python" -E -s -S -c "$probe" "$venvs" 2>&1)
  field python "$said"
  answer
}
no_python() {
  hint='install python3'
  for tool in 'apt-get install' 'dnf install' 'zypper install' 'pacman -S' 'apk add'; do
    command -v "${tool%% *}" >/dev/null && { hint="sudo $tool python3"; break; }
  done
  [ "$python" = python3 ] || hint='correct `python` in the inventory, or --python; by default it is python3'
  refuse python "there is no $python on this machine (PATH=$PATH)" "$hint"
}
"""

_INSTALL: Final = r"""
install_there() { exec "$python" -I -S -c "$program" "$nonce" "$request"; }
"""


@dataclass(frozen=True)
class Installed:
    """What the install script said."""

    place: str = ""
    fresh: bool = False
    removed: tuple[str, ...] = ()
    kept: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()
    """Wheels that were not there: nothing was done."""


def look(python: str, *, nonce: str) -> bytes:
    """Find out which Python `python` is there, and which environment is in use."""
    values = {"nonce": nonce, "probe": _PROBE, "venvs": wrapper.VENVS}
    parts = [f"python={wrapper.path_word(python)}", scripts.REPLY, _LOOK, "look_there"]
    return scripts.script(values, parts)


def read_look(name: str, reply: Reply) -> Seen:
    """Raises StartFailed when the server cannot run with what is there."""
    if reply.verb == "refused":
        raise StartFailed(name, Stage(reply.get("stage")), reply.get("cause"), reply.get("next"))
    text = reply.get("python").strip()
    said = read_json(text.splitlines()[-1] if text else "")
    try:
        python = read_python(said)
    except (KeyError, TypeError, ValueError) as error:
        raise StartFailed(
            name, Stage.PYTHON, "the Python there does not run", "", text.splitlines()
        ) from error
    cause, step = unfit(python)
    if cause:
        raise StartFailed(name, Stage.PYTHON, cause, step)
    manifest = said.get("manifest")
    return Seen(python, manifest if isinstance(manifest, dict) else {}, said.get("works") is True)


def install(
    python: str,
    key: str,
    files_there: Sequence[tuple[str, str]],
    tool: str,
    manifest: dict[str, Any],
    *,
    nonce: str,
) -> bytes:
    """Make the environment `key` of these wheels (name, digest) and switch to it. `tool`: which installs."""
    request = {
        "venvs": wrapper.VENVS, "wheels": WHEELS, "key": key, "files": [list(one) for one in files_there],
        "tool": tool, "manifest": manifest,
    }  # fmt: skip
    source = files("launcher.provision").joinpath("there.py").read_text("utf-8")
    program = f"{source}\nsys.exit(main(*sys.argv[1:]))\n"
    values = {"nonce": nonce, "program": program, "request": json.dumps(request)}
    parts = [f"python={wrapper.path_word(python)}", _INSTALL, "install_there"]
    return scripts.script(values, parts)


def read_install(name: str, reply: Reply) -> Installed:
    """Raises StartFailed when it was refused."""
    if reply.verb == "refused":
        raise StartFailed(name, Stage(reply.get("stage")), reply.get("cause"), reply.get("next"))
    return Installed(
        reply.get("place"), reply.get("fresh") == "yes", tuple(reply.get("removed").split()),
        tuple(reply.get("kept").split()), tuple(reply.get("names").splitlines()),
    )  # fmt: skip


def word(python: Python) -> str:
    """The interpreter that was seen, as a shell word."""
    return wrapper.path_word(python.executable)
