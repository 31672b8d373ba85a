"""`se-remote`: the command line. Parses, dispatches, and turns errors into exit codes.

Exit codes: 0 done; 1 the thing itself failed; 2 usage or inventory; 3 unreachable or authentication;
4 started but not ready; 130 interrupted, 143 terminated. Everything heavy (YAML, SSH, ZeroMQ) is imported
by the command that needs it: `--help` costs little more than starting Python.
"""

from __future__ import annotations

import argparse
import importlib
import io
import os
import signal
import sys
import threading
from collections.abc import Callable, Sequence

from launcher import __version__
from launcher.cli import arguments_doctor, arguments_provision, arguments_running, arguments_seeing

EXIT_USAGE = 2
EXIT_INTERRUPTED = 130

_COMMANDS = {
    "up": "launcher.cli.up",
    "provision": "launcher.cli.provision",
    "extend": "launcher.cli.extend",
    "with": "launcher.cli.with_hosts",
    "status": "launcher.cli.status",
    "logs": "launcher.cli.logs",
    "attach": "launcher.cli.attach",
    "mon": "launcher.cli.mon",
    "run": "launcher.cli.run",
    "restart": "launcher.cli.run",
    "kill": "launcher.cli.kill",
    "clean": "launcher.cli.clean",
    "push": "launcher.cli.files",
    "pull": "launcher.cli.files",
    "call": "launcher.cli.call",
    "actions": "launcher.cli.call",
    "inventory": "launcher.cli.inventory",
    "demo": "launcher.cli.demo",
    "doctor": "launcher.cli.doctor",
    "init": "launcher.cli.init",
    "completion": "launcher.cli.completion",
}
"""Command → module with `run(args) -> exit code`."""

_HOST = """\
HOST is a name or alias of the inventory (optionally NAME+variant), `local`,
or user@machine[:port]. NAME is a HOST, or a process of the inventory.
The inventory is looked for in: --inventory, $SE_REMOTE_INVENTORY,
./se-remote.yaml and the folders above, ~/.config/se-remote/inventory.yaml.
"""

_EPILOG = f"""\
{_HOST}
Exit codes: 0 done; 1 the thing itself failed; 2 usage or inventory;
3 unreachable or authentication; 4 started but not ready; 130 interrupted.
`se-remote COMMAND --help` shows a command's options.
"""


def parser() -> argparse.ArgumentParser:
    """The whole command line."""
    top = argparse.ArgumentParser(
        prog="se-remote",
        description="Run the actions of a scenario on any machine, as if they ran here.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    top.add_argument("--version", action="version", version=f"se-remote {__version__}")
    top.add_argument("-i", "--inventory", metavar="FILE", help="the inventory to use")
    commands = top.add_subparsers(dest="command", metavar="COMMAND", required=True)

    shared = argparse.ArgumentParser(add_help=False)
    # Before or behind the command; not given here must not undo what stood before it.
    shared.add_argument(
        "-i", "--inventory", metavar="FILE", default=argparse.SUPPRESS, help="the inventory to use"
    )
    shared.add_argument(
        "--param", action="append", default=[], metavar="K=V", help="sets a parameter (repeatable)"
    )
    shared.add_argument(
        "--variant",
        action="append",
        default=[],
        metavar="[HOST=]NAME",
        help="chooses a variant, of every named host or of HOST alone (repeatable)",
    )

    def command(name: str, text: str) -> argparse.ArgumentParser:
        return commands.add_parser(
            name, parents=[shared], help=text, description=text[0].upper() + text[1:] + ".", epilog=_HOST,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )  # fmt: skip

    up = command("up", "start the servers of hosts and keep them up")
    up.add_argument("host", nargs="+", metavar="HOST")
    _add_for(up)
    extend = command("extend", "keep servers up for longer that are up")
    extend.add_argument("host", nargs="+", metavar="HOST")
    _add_for(extend)

    during = command("with", "have hosts up for the length of a command, and return its exit code")
    during.usage = "se-remote with [-i FILE] [--param K=V] [--variant [HOST=]NAME] HOST... -- COMMAND..."
    during.add_argument("host", nargs="+", metavar="HOST")

    arguments_seeing.add(command)
    arguments_running.add(command)
    clean = command("clean", "remove what stays of servers and processes: old logs, what dead ones have left")
    clean.add_argument("host", nargs="*", metavar="NAME", help="default: all of the inventory")
    clean.add_argument("--dry-run", action="store_true", help="only say what would be removed")

    arguments_provision.add(command)
    _add_files(command)
    _add_call(command)
    arguments_doctor.add(command)
    arguments_doctor.add_completion(commands)
    inventory = commands.add_parser("inventory", help="check and show the inventory")
    actions = inventory.add_subparsers(dest="action", metavar="ACTION", required=True)
    actions.add_parser("check", parents=[shared], help="report everything that is wrong with it")
    listing = actions.add_parser("list", parents=[shared], help="hosts and processes, a line each")
    listing.add_argument("--json", action="store_true", help="machine-readable")
    show = actions.add_parser("show", parents=[shared], help="one host as it resolves, every value")
    show.add_argument("host", metavar="HOST")
    show.add_argument("--json", action="store_true", help="machine-readable")
    schema = actions.add_parser("schema", parents=[shared], help="print the JSON Schema for editors")
    schema.add_argument(
        "--write", action="store_true", help="into a file beside the inventory, which is made to name it"
    )

    demo = commands.add_parser("demo", help="run a scenario on a host played by an embedded SSH server")
    demo.add_argument("--keep", action="store_true", help="keep the demo's files to look at")
    return top


def _add_for(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--for", dest="keep_for", type=_keep_time, default="12h", metavar="TIME",
        help="how long from now: 90s, 30m, 8h (default 12h; 0: until it is killed). One that was to stay "
        "for longer does; a session in use is never cut off",
    )  # fmt: skip


def _keep_time(text: str) -> float:
    from launcher.durations import parse_time

    try:
        return parse_time(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def _add_call(command: Callable[[str, str], argparse.ArgumentParser]) -> None:
    call = command("call", "run one action on a host, without a scenario")
    call.add_argument("host", metavar="HOST", help="or an address: tcp://…, host:port, /path, ./path")
    call.add_argument("action", metavar="ACTION", help="its OSC name; `se-remote actions HOST` lists them")
    call.add_argument("arguments", nargs="*", metavar="KEY=VALUE", help="a number, text, true, false or JSON")
    call.add_argument(
        "--timeout",
        type=_seconds,
        metavar="TIME",
        help="cancel it when it has not ended by then: 30, 1.5s, 3min",
    )
    call.add_argument("--directory", metavar="DIR", help="its working directory, on the host (default: home)")
    call.add_argument("--json", action="store_true", help="the result and its log lines as one document")

    actions = command("actions", "list the action plugins of a host")
    actions.add_argument("host", metavar="HOST", help="or an address, as for `call`")
    actions.add_argument("--json", action="store_true", help="machine-readable")


def _add_files(command: Callable[[str, str], argparse.ArgumentParser]) -> None:
    push = command("push", "make a folder on a host what a folder here is; only what changed is sent")
    push.add_argument("host", metavar="HOST")
    push.add_argument("folder", metavar="FOLDER", help="on this machine")
    push.add_argument(
        "to", nargs="?", metavar="TO", help="the folder there, from home on (default: ~/NAME of FOLDER, as "
        "`scp -r FOLDER HOST:` does). What no push has put there is never removed",
    )  # fmt: skip
    pull = command("pull", "fetch files from a host, verified; nothing that exists here is overwritten")
    pull.add_argument("host", metavar="HOST")
    pull.add_argument(
        "remote", nargs="?", metavar="REMOTE", help="a folder or file there, from home on (default: what "
        "scenarios have left there that could not be fetched; it is removed there then)",
    )  # fmt: skip
    pull.add_argument("into", nargs="?", metavar="INTO", help="the folder here (default: this one)")


def _seconds(text: str) -> float:
    """As the times among the KEY=VALUE words are written."""
    from launcher.cli import literals

    try:
        value = literals.seconds(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError("expected more than 0 seconds")
    return value


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
    """As parse_args, but KEY=VALUE words may also stand behind options, which argparse does not allow."""
    top = parser()
    argv, words = _split_command(list(sys.argv[1:] if argv is None else argv))
    args, rest = top.parse_known_args(argv)
    if args.command == "with":
        if not words:
            top.error("with: the command is missing: se-remote with HOST... -- COMMAND...")
        args.words = words
    if rest and (args.command != "call" or any(word.startswith("-") for word in rest)):
        top.error(f"unrecognized arguments: {' '.join(rest)}")
    if rest:
        args.arguments += rest
    return args


def _split_command(argv: list[str]) -> tuple[list[str], list[str]]:
    """For `with`: the words before the first `--`, and the command behind it. Any other line as it is."""
    first, skip = "", False
    for word in argv:
        if not skip and not word.startswith("-"):
            first = word
            break
        skip = word in ("-i", "--inventory")
    if first != "with" or "--" not in argv:
        return argv, []
    at = argv.index("--")
    return argv[:at], argv[at + 1 :]


class _Ended(KeyboardInterrupt):
    """SIGTERM or SIGHUP: ends a command as Ctrl-C does, with its clean-up."""

    def __init__(self, number: int) -> None:
        self.exit_code = 128 + number


def _take_signals() -> None:
    def end(number: int, frame: object) -> None:
        raise _Ended(number)

    if threading.current_thread() is threading.main_thread():
        for number in (signal.SIGTERM, signal.SIGHUP):
            if signal.getsignal(number) is signal.SIG_DFL:  # not below nohup
                signal.signal(number, end)


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command line; the exit code is returned (the console script exits with it)."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # a terminal that cannot show it all
    words = list(sys.argv[1:] if argv is None else argv)
    if words[:1] == ["__complete"]:
        from launcher.cli import complete

        return complete.main(parser, words[1:])
    args = _parse(words)
    if args.command == "kill" and bool(args.host) == args.all:
        print("se-remote kill: name processes or hosts, or give --all", file=sys.stderr)
        return EXIT_USAGE
    if args.command == "logs" and args.follow + args.runs + bool(args.run) > 1:
        print("se-remote logs: --follow, --run and --runs exclude each other", file=sys.stderr)
        return EXIT_USAGE
    from launcher.errors import LauncherError

    _take_signals()
    try:
        code: int = importlib.import_module(_COMMANDS[args.command]).run(args)
        sys.stdout.flush()
        return code
    except LauncherError as error:
        from launcher.cli.output import Output

        Output(inventory=args.inventory).error(error)
        return error.exit_code
    except KeyboardInterrupt as interrupt:
        print("interrupted", file=sys.stderr)
        return interrupt.exit_code if isinstance(interrupt, _Ended) else EXIT_INTERRUPTED
    except BrokenPipeError:
        # The reader has gone (`| head`): say nothing, also not when the interpreter flushes at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1


if __name__ == "__main__":
    sys.exit(main())
