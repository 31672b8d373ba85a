"""The command line of `ssh` that reaches a machine as our own connection does, for what needs a terminal.

Pure. Host keys are checked as strictly; what an inventory says of identity, known hosts and jumps holds, and
~/.ssh/config below it.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from launcher.command import quote
from launcher.machines.pool import FindMachine, parse_machine
from launcher.model import Machine, SshOptions

_PLAIN = re.compile(r"[A-Za-z0-9_@%=:,./+-]+")


def ssh_words(machine: Machine, options: SshOptions, find: FindMachine, home: str) -> list[str]:
    """`ssh` and its options, up to the machine: what follows is the command there. `home`: what `~` means."""
    words = ["ssh", "-o", "StrictHostKeyChecking=yes", "-o", "ForwardAgent=no", "-o", "ForwardX11=no"]
    if options.identity:
        words += ["-i", _expanded(options.identity, home)]
    if options.known_hosts:
        words += ["-o", f'UserKnownHostsFile="{_expanded(options.known_hosts, home)}"']
    if machine.user:
        words += ["-l", machine.user]
    if machine.port:
        words += ["-p", str(machine.port)]
    if options.jump:
        words += ["-o", f"ProxyCommand={_through(options, find, home)}"]
    return [*words, "--", machine.host or ""]


def _through(options: SshOptions, find: FindMachine, home: str) -> str:
    """ProxyJump knows no identity of its own for the jump, so it is written out."""
    *before, last = [part.strip() for part in (options.jump or "").split(",")]
    found = find(last)
    machine, its = found if found is not None else (parse_machine(last), SshOptions())
    if before:
        its = SshOptions(its.identity, ",".join(before), its.known_hosts)
    *words, dashes, host = ssh_words(machine, its, find, home)
    # what is of the inner command is for that one to expand
    inner, outer = (quote(part).replace("%", "%%") for part in (words, [dashes, host]))
    return f"{inner} -W '[%h]:%p' {outer}"


def remote_words(words: Sequence[str]) -> str:
    """A line for a login shell that may be any: plain words stand in quotes that all of them know."""
    return "exec " + " ".join(_remote_word(word) for word in words)


def _remote_word(word: str) -> str:
    if word == ";":
        return "\\;"
    return f"'{word}'" if _PLAIN.fullmatch(word) else quote([word])


def _expanded(path: str, home: str) -> str:
    return f"{home}{path[1:]}" if path == "~" or path.startswith("~/") else path
