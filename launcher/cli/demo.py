"""`se-remote demo`: the whole journey on this machine, with an embedded SSH server as lab-pc.

What runs is the real thing: `scenario_execution` as a command, SSH, tmux, server, tunnel, proxy, teardown.
At the end it is checked that nothing is left.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import shutil
import signal
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

from launcher.cli import demo_server
from launcher.cli.output import Output
from launcher.errors import LauncherError


def host_name(pid: int) -> str:
    """The demo's host. Not lab-pc itself, and another one for each demo: it must meet nobody's server."""
    return f"demo-lab-pc-{pid}"


_WORK = "work"
"""The scenario's folder; beside it lie the keys of the embedded server."""

_SCENARIO = """\
import osc.helpers
import osc.remote

# lab-pc prints what sshd told it about the connection: there is none on this side. measure.sh stands beside
# this file and is sent there; what it writes into the output folder there comes back.
scenario demo:
    do serial:
        log("this line is printed here")
        parallel:
            log("this line is printed on lab-pc") with:
                remote("lab-pc")
            run_process("printenv SSH_CONNECTION") with:
                remote("lab-pc")
            run_process("./measure.sh OUT") with:
                remote("lab-pc")
        log("and this one here again")
"""


_MEASURE = """\
#!/bin/sh
sleep 0.5
echo "measured in $PWD" >"$1/measured.txt"
"""


def run(args: argparse.Namespace) -> int:
    """Runs the demo; 0 if the scenario succeeded and nothing is left."""
    output = Output()
    if shutil.which("tmux") is None:
        raise LauncherError("tmux is not installed", "sudo apt-get install tmux")
    folder = Path(tempfile.mkdtemp(prefix="se-remote-demo-"))
    try:
        return asyncio.run(_demo(folder, output))
    finally:
        if args.keep:
            output.say(f"the demo's files: {folder}")
        else:
            shutil.rmtree(folder, ignore_errors=True)


async def _demo(folder: Path, output: Output) -> int:
    server = await demo_server.start(folder)
    try:
        inventory, scenario = _write_files(folder, server)
        output.say("An SSH server inside this process plays lab-pc. The inventory says so:\n", "dim")
        output.say(_indented(inventory.read_text(encoding="utf-8")))
        output.say("The scenario:\n", "dim")
        output.say(_indented(scenario.read_text(encoding="utf-8")))
        output.say("And beside it, measure.sh:\n", "dim")
        output.say(_indented(_MEASURE))
        output.say(f"$ scenario_execution -o results {scenario.name}\n", "dim")
        environ = {**os.environ, "SE_REMOTE_INVENTORY": str(inventory), "PYTHONUNBUFFERED": "1"}
        for name in ("SE_REMOTE_PARAMS", "SE_REMOTE_VARIANTS", "SE_REMOTE_MAP"):
            environ.pop(name, None)
        verdict = await _run_scenario(scenario, environ)
    finally:
        await server.close()
        await asyncio.to_thread(shutil.rmtree, _logs(host_name(os.getpid())), ignore_errors=True)
    left = await asyncio.to_thread(leftovers, host_name(os.getpid()))
    output.say(f"\nscenario_execution ended with exit code {verdict}", "good" if verdict == 0 else "error")
    measured = folder / _WORK / "results" / "measured.txt"
    if not measured.is_file():
        output.say("measured.txt has not come back", "error")
        return 1
    output.say("\nWhat came back:\n$ cat results/measured.txt", "dim")
    output.say(_indented(measured.read_text(encoding="utf-8")))
    if left:
        output.say("left behind:\n" + "\n".join(f"  {item}" for item in left), "error")
        return 1
    output.say("checked: no process, tmux window, socket, log or directory of the demo is left", "good")
    return 0 if verdict == 0 else 1


async def _run_scenario(scenario: Path, environ: Mapping[str, str]) -> int:
    """Its exit code. Given up, it is interrupted and awaited: its teardown needs the SSH server."""
    command = str(Path(sys.executable).with_name("scenario_execution"))
    runner = await asyncio.create_subprocess_exec(
        command, "-o", "results", scenario.name, cwd=scenario.parent, env=environ, start_new_session=True
    )
    try:
        return await runner.wait()
    except asyncio.CancelledError:
        with contextlib.suppress(ProcessLookupError):
            runner.send_signal(signal.SIGINT)
        await runner.wait()
        raise


def _write_files(folder: Path, server: demo_server.DemoServer) -> tuple[Path, Path]:
    work = folder / _WORK
    work.mkdir()
    inventory = work / "se-remote.yaml"
    inventory.write_text(
        f"hosts:\n"
        f"  {host_name(os.getpid())}:\n"
        f"    aliases: [lab-pc]\n"
        f"    machine: 127.0.0.1:{server.port}\n"
        f"    ssh: {{identity: {server.identity}, known_hosts: {server.known_hosts}}}\n"
        f"    python: {sys.executable}\n"
        f"    push: scenario\n",
        encoding="utf-8",
    )
    measure = work / "measure.sh"
    measure.write_text(_MEASURE, encoding="utf-8")
    measure.chmod(0o755)
    scenario = work / "demo.osc"
    scenario.write_text(_SCENARIO.replace("OUT", str(work / "results")), encoding="utf-8")
    return inventory, scenario


def _indented(text: str) -> str:
    return "".join(f"    {line}\n" if line else "\n" for line in text.splitlines())


def _logs(host: str) -> Path:
    """Where the servers of `host` leave their logs."""
    return Path.home() / ".local/state/se-remote" / host


def leftovers(host: str) -> list[str]:
    """What is left of the server of `host` on this machine; waits for nothing.

    Every process that a server starts carries SE_REMOTE_RUN, its run directory, in its environment.
    """
    run = f"/tmp/se-remote-{os.getuid()}/{host}"  # noqa: S108 # the run directory's documented place
    outputs = Path.home() / ".local/state/se-remote/outputs" / host
    left = [str(path) for path in (Path(run), outputs, _logs(host)) if path.exists()]
    marker = f"SE_REMOTE_RUN={run}".encode()
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            if marker in (entry / "environ").read_bytes().split(b"\0"):
                command = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
                left.append(f"process {entry.name}: {command}")
        except OSError:
            continue  # ended meanwhile, or not ours
    return left
