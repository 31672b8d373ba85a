"""pip of this machine, as a subprocess: what finds, fetches and builds wheels. Nothing of it is imported.

It is the user's own, with the index, proxy and certificates that it is configured with.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib.util
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

from launcher.command import quote
from launcher.errors import LauncherError
from launcher.model import Completed

_LOOK_S = 0.02


class NoPip(LauncherError):
    """There is no pip on this machine."""


class Pip:
    """Runs pip; `words`: the command."""

    def __init__(self, words: tuple[str, ...], environ: Mapping[str, str]) -> None:
        self._words = words
        self._environ = {**environ, "PIP_DISABLE_PIP_VERSION_CHECK": "1", "PIP_NO_INPUT": "1",
                         "PIP_PROGRESS_BAR": "off"}  # fmt: skip

    @property
    def shown(self) -> str:
        """The command, as it is typed."""
        return quote(self._words)

    async def run(self, *words: str, environ: Mapping[str, str] | None = None) -> Completed:
        """One command, to its end; a cancel ends it."""
        with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
            process = subprocess.Popen(
                [*self._words, *words], stdin=subprocess.DEVNULL, stdout=out, stderr=err,
                env={**self._environ, **(environ or {})}, start_new_session=True,
            )  # fmt: skip
            try:
                while process.poll() is None:
                    await asyncio.sleep(_LOOK_S)
            finally:
                if process.poll() is None:
                    with contextlib.suppress(ProcessLookupError):
                        os.killpg(process.pid, signal.SIGKILL)
                    process.wait()
            out.seek(0)
            err.seek(0)
            return Completed(process.returncode, out.read(), err.read())


def find_pip(environ: Mapping[str, str]) -> Pip:
    """The pip of this environment, else the one in PATH. Raises NoPip."""
    if importlib.util.find_spec("pip") is not None:
        return Pip((sys.executable, "-m", "pip"), environ)
    for name in ("pip3", "pip"):
        path = shutil.which(name, path=environ.get("PATH"))
        if path is not None:
            return Pip((path,), environ)
    text = (
        f"there is no pip on this machine (of {sys.executable}, or in PATH): it finds and fetches the wheels"
    )
    step = f"{sys.executable} -m ensurepip"
    if Path("/etc/debian_version").exists() and sys.prefix == sys.base_prefix:
        step = "sudo apt-get install python3-pip"
    raise NoPip(text, step)
