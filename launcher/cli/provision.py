"""`se-remote provision`: put the server and action packages on machines that have only a Python."""

from __future__ import annotations

import argparse
import time
from collections.abc import Mapping

from launcher import supplying
from launcher.cli.output import Output, StageProgress
from launcher.cli.selection import select
from launcher.command import quote
from launcher.errors import LauncherError
from launcher.files.plan import amount
from launcher.inventory.provision import is_path
from launcher.lease import Launcher
from launcher.model import HostSpec
from launcher.provision.values import Asked, Provided, Say


def run(args: argparse.Namespace) -> int:
    """Provides every host, side by side; the worst exit code of them."""
    output = Output(inventory=args.inventory)
    selection = select(args)
    specs = selection.hosts(args.host)
    for spec in specs:
        supplying.check(spec)
    packages = tuple(word for words in args.packages for word in words)
    asked = Asked(packages, args.only, args.python)
    began = time.monotonic()
    with StageProgress(output, [spec.name for spec in specs]) as progress:
        launcher = Launcher(
            selection.inventory, environ=selection.environ, ask=output.asking(selection.ask),
            on_event=progress.on_event, what="se-remote provision",
        )  # fmt: skip

        def saying(spec: HostSpec) -> Say:
            return Say(
                lambda text: progress.tell(spec.name, text), lambda text: progress.live(spec.name, text)
            )

        try:
            results = launcher.provide(specs, saying, asked)
        finally:
            launcher.close()
        _say_results(progress, {spec.name: spec for spec in specs}, results, time.monotonic() - began)
    errors = [error for error in results.values() if isinstance(error, LauncherError)]
    for error in errors:
        output.error(error)
    return max((error.exit_code for error in errors), default=0)


def _say_results(
    progress: StageProgress,
    specs: Mapping[str, HostSpec],
    results: Mapping[str, Provided | LauncherError],
    seconds: float,
) -> None:
    for name, done in results.items():
        if isinstance(done, LauncherError):
            continue
        progress.done(name, _text(done, seconds))
        if done.kept:
            many = f"{len(done.kept)} older ones stay" if len(done.kept) > 1 else "an older one stays"
            step = f"a server that runs gets the new one after: se-remote kill {quote([name])}"
            progress.tell(name, f"{many}, in use; {step}")
        spec = specs[name]
        if not spec.provided:
            where = f" in {spec.source}" if spec.source else ""
            progress.tell(
                name, f"its server does not use it: take `python: {spec.python}` out{where}", "warning"
            )


def _text(done: Provided, seconds: float) -> str:
    names = [word.rstrip("/").rpartition("/")[2] if is_path(word) else word for word in done.packages]
    what = " and ".join([f"se-remote {done.version}", *([", ".join(names)] if names else [])])
    if not done.place:
        return f"nothing to do: {what} is there already  (python {_version(done)}, {seconds:.2f} s)"
    sent = f", {amount(done.bytes)} sent" if done.sent else ""
    how = "ready" if done.fresh else "in use again"
    return f"{what} {how} after {seconds:.1f} s  (python {_version(done)}{sent}, {done.place})"


def _version(done: Provided) -> str:
    return ".".join(map(str, done.python.version))
