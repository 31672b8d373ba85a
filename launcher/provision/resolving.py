"""Finds the wheels for an interpreter on another machine, by this machine's pip; what has none is made here.

pip looks for another interpreter among wheels alone. What an index has as source only is therefore built
here first, without a compiler (packages whose machine code is optional then come without it), and taken when
there is no machine code in it: such a wheel fits every machine. Which ones these are says pip's own
resolution for this machine.

    1  what was found for the same needs before: no pip, no network
    2  pip for the target, with what was built before; the first time that would be in vain
    3  what pip would build for this machine is built; pip for the target
    4  what of the rest has no wheel for the target is built; pip for the target
    5  without an index, from what is kept here: when the index cannot be reached
    6  what is needed there and not here (a condition on Python or platform) is asked for, too; from 2 on
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from launcher.errors import StageError
from launcher.machines.pip import Pip
from launcher.model import Completed, Stage
from launcher.provision import needs, packing
from launcher.provision.library import Library, digest_of_folder
from launcher.provision.target import pip_words, why_not
from launcher.provision.values import Python, Wanted, Wheel

TOOL: Final = "installer>=0.7,<2"
"""What installs wheels there: a wheel itself, of the standard library only."""
_OURS: Final = "se_remote-"
_BUILD: Final = ("wheel", "--use-pep517", "--no-deps")
"""Apart from what is installed here: pip before 23.1 otherwise calls a `setup.py` with the setuptools of this
environment, which has no `bdist_wheel` when `wheel` is not there, as in a new one of Python 3.10."""
_NO_COMPILER: Final = {"CC": "false", "CXX": "false"}
_OFFLINE: Final = re.compile(
    r"name resolution|Name or service not known|NewConnectionError|Max retries|Connection refused|timed out|"
    r"ConnectionError|ProxyError|unreachable|No route to host|Failed to establish",
    re.IGNORECASE,
)

Tell = Callable[[str], None]


class Resolver:
    """For one host's provision. `pip` is called when it is needed only; raises LauncherError then."""

    def __init__(
        self, host: str, library: Library, pip: Callable[[], Pip], tell: Tell, again: str = ""
    ) -> None:
        self._host, self._library, self._find_pip, self._tell = host, library, pip, tell
        self._again = again or f"se-remote provision {host}"
        self._own = ""
        self._given: frozenset[str] = frozenset()

    async def found(self, wanted: Wanted, python: Python) -> tuple[tuple[Wheel, ...], Wheel]:
        """All wheels, and the one of the tool. Raises StageError."""
        for wheel in wanted.wheels:
            reason = why_not(wheel.name, python)
            if reason:
                step = f"build it on a machine like {self._host}: python3 -m pip wheel --no-deps …"
                raise self._error(f"{wheel.name} cannot be installed there: {reason}", step)
        found = await self._cached([*wanted.requires, *wanted.names, TOOL], wanted, python)
        tool = next(wheel for wheel in found if wheel.name.startswith("installer-"))
        rest = [wheel for wheel in found if wheel is not tool]
        return (wanted.own, *rest), tool

    async def of_folder(self, folder: Path) -> Wheel:
        """The wheel of a local project; built anew when something in it has changed."""
        key = digest_of_folder(folder)
        before = self._library.note("folder", key)
        if before is not None:
            return before
        self._tell(f"building a wheel of {folder}")
        with self._library.work() as work:
            done = await self._run(work, *_BUILD, "-w", str(work), str(folder))
            made = sorted(work.glob("*.whl"))
            if done.exit_code != 0 or not made:
                raise self._failed(f"no wheel can be built of {folder}", done)
            wheel = self._library.add(made[0].name, made[0].read_bytes(), apart=True)
        self._library.remember(f"folder-{key}", [wheel])
        return wheel

    async def _cached(self, words: Sequence[str], wanted: Wanted, python: Python) -> tuple[Wheel, ...]:
        key = wanted.needs(python)
        known = self._library.plan(key)
        if known is not None:
            return (*wanted.wheels, *known)
        self._tell(f"looking for {_named(words)}")
        self._own = str(wanted.own.path.parent)  # a package may need se-remote itself
        self._given = frozenset(wheel.name for wheel in wanted.wheels)
        found = await self._whole(words, wanted, python)
        self._library.remember(key, found)
        return (*wanted.wheels, *found)

    async def _whole(self, words: Sequence[str], wanted: Wanted, python: Python) -> list[Wheel]:
        """With what is needed there and would not be here."""
        given = [str(wheel.path) for wheel in wanted.wheels]
        asked = needs.there(words, python)
        while True:
            found = await self._resolve([*asked, *given], python)
            wheels = (wanted.own, *wanted.wheels, *found)
            abouts = [needs.read_about(packing.metadata(wheel.path.read_bytes())) for wheel in wheels]
            roots = [*asked, *(about.name for about in abouts[: 1 + len(given)])]
            more = [need for need in needs.unmet(roots, abouts, python) if need not in asked]
            if not more:
                return found
            asked += more

    async def _resolve(self, asked: Sequence[str], python: Python) -> list[Wheel]:
        first = None
        if self._library.has_built():
            first, found = await self._ask(asked, python)
            if found is not None:
                return found
        if first is None or not _offline(first):
            candidates = await self._for_this_machine(asked)
            sources = [name for name, is_source in candidates.items() if is_source]
            for chosen in (sources, None):
                if chosen is None:
                    chosen = await self._without_wheel([n for n in candidates if n not in sources], python)
                if not chosen and first is not None:
                    continue
                await self._build(chosen, python)
                done, found = await self._ask(asked, python)
                if found is not None:
                    return found
                first = done
        last, found = await self._ask(asked, python, index=False)
        if found is not None:
            self._tell("the package index was of no use: taken from what this machine keeps")
            return found
        said = first or last
        named = re.search(rb"No matching distribution found for (\S+)", said.stderr)
        what = named[1].decode("utf-8", "replace") if named else "what is needed"
        cause = f"the package index has no wheels of {what} for Python {python.short} on {python.machine}"
        raise self._failed(cause, said)

    async def _ask(
        self, asked: Sequence[str], python: Python, *, index: bool = True
    ) -> tuple[Completed, list[Wheel] | None]:
        """What pip finds for the target; None: it does not."""
        where = ["--find-links", str(self._library.folder / "built"), "--find-links", self._own]
        if not index:
            where += ["--no-index", "--find-links", str(self._library.wheels)]
        (self._library.folder / "built").mkdir(parents=True, exist_ok=True)
        self._library.wheels.mkdir(parents=True, exist_ok=True)
        with self._library.work() as work:
            words = ["download", "--retries", "1", *pip_words(python), *where, "-d", str(work), *asked]
            done = await self._run(work, *words)
            if done.exit_code != 0:
                return done, None
            new = [path for path in sorted(work.glob("*.whl")) if not self._known(path.name)]
            return done, [self._library.take(path) for path in new]

    def _known(self, name: str) -> bool:
        return name in self._given or name.startswith(_OURS)

    async def _for_this_machine(self, asked: Sequence[str]) -> dict[str, bool]:
        """What pip would install here, ``name==version``, and whether that is a source; {}: nothing."""
        with self._library.work() as work:
            report = work / "report.json"
            words = ["install", "--dry-run", "--ignore-installed", "--quiet", "--report", str(report)]
            # --target: nothing here is in the way, also where the system's Python is not to be touched
            words += ["--retries", "1", "--find-links", self._own, "--target", str(work / "none")]
            done = await self._run(work, *words, *asked)
            if b"no such option" in done.stderr:
                pip = self._find_pip()
                cause = f"pip of this machine is too old ({pip.shown}): it has no --report, of pip 22.2"
                raise self._error(cause, f"{pip.shown} install --upgrade pip")
            if done.exit_code != 0:
                return {}
            return _read_report(json.loads(report.read_text("utf-8")))

    async def _without_wheel(self, pins: Iterable[str], python: Python) -> list[str]:
        """Those that no wheel for the target is there of: pip names them, one at a time."""
        left, missing = list(pins), list[str]()
        where = ["--find-links", str(self._library.folder / "built")]
        with self._library.work() as work:
            while left:
                words = ["download", "--no-deps", *pip_words(python), *where, "-d", str(work)]
                done = await self._run(work, *words, *left)
                said = re.search(rb"No matching distribution found for (\S+)", done.stderr)
                named = [pin for pin in left if said and pin == said[1].decode("utf-8", "replace")]
                if done.exit_code == 0 or not named:
                    break
                missing += named
                left = [pin for pin in left if pin not in named]
        return missing

    async def _build(self, pins: Sequence[str], python: Python) -> None:
        for pin in pins:
            if self._library.has_built(pin):
                continue
            name = pin.partition("==")[0]
            self._tell(f"building {pin}, of which there is no wheel for Python {python.short}")
            with self._library.work() as work:
                words = [*_BUILD, "--no-binary", name, "-w", str(work), pin]
                done = await self._run(work, *words, environ=_NO_COMPILER)
                made = sorted(work.glob("*.whl"))
                step = f"a wheel of it, made on a machine like {self._host}: --with PATH/{name}-….whl"
                if done.exit_code != 0 or not made:
                    raise self._failed(
                        f"there is no wheel of {pin}, and without a compiler none is built", done, step
                    )
                pure = packing.pure(made[0].name, made[0].read_bytes())
            if pure is None:
                raise self._error(
                    f"there is no wheel of {pin} for that machine, and it holds machine code", step
                )
            self._library.built(pure.name, pure.data)

    async def _run(self, work: Path, *words: str, environ: Mapping[str, str] | None = None) -> Completed:
        temporary = work / "tmp"  # a pip that is killed leaves there what it has unpacked
        temporary.mkdir(exist_ok=True)
        return await self._find_pip().run(*words, environ={**(environ or {}), "TMPDIR": str(temporary)})

    def _failed(self, cause: str, done: Completed, step: str = "") -> StageError:
        said = (done.stderr or done.stdout).decode("utf-8", "replace").strip().splitlines()
        if _offline(done):
            cause = "the package index cannot be reached from here, and not all that is needed is kept here"
            step = step or "with a network here, once: " + self._again
        errors = [line for line in said if line.startswith("ERROR")] or said
        return self._error(cause, step or f"with other names or versions: {self._again}", errors[-6:])

    def _error(self, cause: str, step: str, tail: Sequence[str] = ()) -> StageError:
        return StageError(self._host, Stage.PROVISION, cause, step, tail)


def _read_report(report: Any) -> dict[str, bool]:
    """Of `pip install --report`; what is a file of this machine is no candidate."""
    found = {}
    for item in report["install"]:
        url, about = str(item["download_info"]["url"]), item["metadata"]
        if url.startswith("file:") and url.endswith(".whl"):
            continue
        found[f"{about['name']}=={about['version']}"] = not url.endswith(".whl")
    return found


def _offline(done: Completed) -> bool:
    return bool(_OFFLINE.search(done.stderr.decode("utf-8", "replace")))


def _named(words: Sequence[str]) -> str:
    names = [re.split(r"[^A-Za-z0-9._-]", need, maxsplit=1)[0] for need in words]
    return ", ".join(names)
