"""`se-remote call` and `se-remote actions`: a host's actions without a scenario.

Log lines go to stdout as they come, the verdict to stderr; with --json stdout is one JSON document. Ctrl-C
cancels the action on the host and waits for its end; a second one shortens that.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import signal
import time
from collections import deque
from collections.abc import Coroutine
from functools import partial
from typing import Any

from launcher.api import Action, CallResult, Host, Line
from launcher.cli import literals
from launcher.cli.interrupts import cancelled_by_signals
from launcher.cli.output import Output, table
from launcher.cli.selection import select
from launcher.errors import Aborted, LauncherError
from launcher.model import Event, State
from launcher.targets import target
from remote_exec.client.calls import MAX_LINES
from remote_exec.errors import BadArguments, CallTimeout, RemoteError, RemoteExecError

EXIT_FAILED, EXIT_USAGE = 1, 2


def run(args: argparse.Namespace) -> int:
    """Runs one of the two; the exit code is that of the action's result."""
    output = Output(inventory=args.inventory)
    try:
        if args.command == "actions":
            return _interruptible(_actions(args, output), output)
        texts = literals.split(args.action, args.arguments)
        return _interruptible(_call(args, texts, output), output)
    except RemoteExecError as error:
        output.error(error)
        if isinstance(error, RemoteError) and error.traceback:
            output.say(error.traceback.rstrip(), "dim")
        wrong = isinstance(error, BadArguments) or getattr(error, "kind", "") == "no_plugin"
        return EXIT_USAGE if wrong else EXIT_FAILED


def _host(args: argparse.Namespace, output: Output, **options: Any) -> Host:
    selection = select(args)
    resolve = partial(target, args.host, selection.inventory, selection.settings, selection.environ)

    def show(event: Event) -> None:
        over = event.to_state in (State.READY, State.STOPPED)
        output.show_live("" if over or event.stage is None else f"… {event.name}: {event.stage.value}")
        if event.level == "warning":
            output.say(f"{event.name}: {event.reason}", "warning")

    return Host(resolve, ask=selection.ask, on_event=show, **options)


async def _call(args: argparse.Namespace, texts: dict[str, str], output: Output) -> int:
    host = _host(args, output, directory=args.directory, what=f"se-remote call {args.action}")
    closed = _print_lines(host, output) if not args.json else []
    try:
        async with host:
            output.show_live("")
            values = literals.read(await host.action(args.action), texts)
            lines, began = _kept_lines(host), time.monotonic()
            try:
                result = await host.call(args.action, timeout=args.timeout, args=values)
            except CallTimeout as error:
                if args.json:
                    after = time.monotonic() - began
                    late = CallResult(args.action, "timeout", str(error), tuple(lines), after)
                    output.result(json.dumps(as_json(host.name, late), indent=2))
                raise
    except asyncio.CancelledError:
        if closed:
            raise closed[0] from None
        raise
    if args.json:
        output.result(json.dumps(as_json(host.name, result), indent=2))
    style = "good" if result.success else "error"
    feedback = f": {result.feedback}" if result.feedback else ""
    verdict = f"{result.action} on {host.name}: {result.status} after {result.duration:.2f} s"
    output.say(verdict + feedback, style)
    return 0 if result.success else EXIT_FAILED


def _print_lines(host: Host, output: Output) -> list[BrokenPipeError]:
    """Print the host's lines as they come. When the reader has gone: the error, and the task is cancelled."""
    closed: list[BrokenPipeError] = []
    task = asyncio.current_task()

    def show(line: Line) -> None:
        try:
            if not closed:
                output.log_line(line.text, line.level)
        except BrokenPipeError as error:
            closed.append(error)
            if task is not None:
                task.cancel()

    host.on_line(show)
    return closed


def _kept_lines(host: Host) -> deque[Line]:
    """The lines from now on, of a flood the last ones: a call that runs out of time has no result."""
    lines: deque[Line] = deque(maxlen=MAX_LINES)
    host.on_line(lines.append)
    return lines


def as_json(host: str, result: CallResult) -> dict[str, Any]:
    """A result as `--json` prints it; times in seconds (epoch in `log`). After --timeout it is `timeout`."""
    return {
        "host": host,
        "action": result.action,
        "status": result.status,
        "success": result.success,
        "feedback": result.feedback,
        "duration": result.duration,
        "log": [{"time": line.time, "level": line.level, "text": line.text} for line in result.log],
    }


async def _actions(args: argparse.Namespace, output: Output) -> int:
    async with _host(args, output, what="se-remote actions") as host:
        found = await host.actions()
    if args.json:
        output.result(json.dumps([_described(action) for action in found], indent=2))
        return 0
    output.result(table(("ACTION", "PACKAGE", "VERSION", "PARAMETERS"), [_row(action) for action in found]))
    return 0


def _row(action: Action) -> list[str]:
    texts = ", ".join(parameter.text for parameter in action.parameters)
    return [
        action.name,
        action.package,
        action.version,
        f"unusable: {action.error}" if action.error else texts,
    ]


def _described(action: Action) -> dict[str, Any]:
    return {
        "name": action.name,
        "package": action.package,
        "version": action.version,
        "error": action.error,
        "parameters": [
            {
                "name": parameter.name,
                "type": parameter.type,
                "required": parameter.required,
                "default": parameter.default,
                "choices": dict(parameter.choices),
            }
            for parameter in action.parameters
        ],
    }


def _interruptible(work: Coroutine[Any, Any, int], output: Output) -> int:
    """Run `work`; SIGINT, SIGTERM and SIGHUP cancel it, each further one again."""
    signals: list[signal.Signals] = []

    def stop(number: signal.Signals) -> None:
        if not signals:
            output.say("cancelling …", "warning")
        signals.append(number)

    try:
        return asyncio.run(cancelled_by_signals(work, stop))
    except asyncio.CancelledError:
        output.say("interrupted", "warning")
        return 128 + (signals[0] if signals else signal.SIGINT)
    except LauncherError as error:
        output.show_live("")
        if isinstance(error, Aborted) and signals:
            output.say("interrupted", "warning")
            return 128 + signals[0]
        raise
