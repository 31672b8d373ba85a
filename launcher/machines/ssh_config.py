"""What asyncssh does not read of ~/.ssh/config: found, so that an error can name it. Only `config_of` reads.

Only options are listed whose absence can make a connection fail that `ssh` itself would make.
"""

from __future__ import annotations

import contextlib
import fnmatch
import glob
import re
import shlex
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

Read = Callable[[str], Iterable[tuple[str, str]]]
"""A path or pattern, as `Include` has it → path and text of each such file."""

_CONNECT: Final = {
    "stricthostkeychecking", "knownhostscommand", "verifyhostkeydns", "checkhostip", "revokedhostkeys",
    "nohostauthenticationforlocalhost", "updatehostkeys", "proxyusefdpass", "bindinterface",
    "hostbasedacceptedalgorithms", "hostbasedkeytypes", "localcommand",
}  # fmt: skip
_AUTHENTICATE: Final = {
    "pubkeyacceptedalgorithms", "pubkeyacceptedkeytypes", "securitykeyprovider", "addkeystoagent",
    "usekeychain", "gssapiclientidentity", "gssapiserveridentity", "gssapitrustdns", "smartcarddevice",
    "numberofpasswordprompts", "kbdinteractivedevices",
}  # fmt: skip


_DEEPEST: Final = 16
"""So often a file may include another, as for `ssh`."""


@dataclass(frozen=True)
class Ignored:
    """One option that `ssh` would have read for this host and asyncssh does not."""

    option: str
    value: str
    place: str
    """``file:line``"""

    def __str__(self) -> str:
        return f"{self.option} {self.value} ({self.place})"


def config_of(home: Path) -> Read:
    """Reads ~/.ssh/config and what it includes; what cannot be read is passed over, as a missing file is."""

    def read(pattern: str) -> Iterator[tuple[str, str]]:
        path = home / pattern[2:] if pattern.startswith("~/") else home / ".ssh" / pattern
        for one in sorted(glob.glob(str(path))):  # as for `ssh`: Path.glob finds hidden files, and may raise
            with contextlib.suppress(OSError):
                yield one, Path(one).read_text(errors="replace")

    return read


def ignored_options(read: Read, host: str, *, authenticating: bool) -> tuple[Ignored, ...]:
    """The options for `host` that are not honoured. `Match` counts as matching."""
    matter = _AUTHENTICATE if authenticating else _CONNECT
    return tuple(
        option for option in _options(read, "config", host, _DEEPEST) if option.option.lower() in matter
    )


def _options(read: Read, pattern: str, host: str, deep: int) -> Iterator[Ignored]:
    """All options for `host`. What is included inside of a `Host` counts for that one."""
    for path, text in read(pattern):
        matching = True
        for number, line in enumerate(text.splitlines(), 1):
            match = re.match(r"\s*([A-Za-z0-9]+)(?:\s*=\s*|\s+)(.*?)\s*$", line)
            if match is None:
                continue
            option, value = match.group(1), match.group(2).strip('"')
            if option.lower() == "host":
                matching = _matches(value, host)
            elif option.lower() == "match":
                matching = True
            elif matching and option.lower() == "include" and deep:
                for each in _words(match.group(2)):
                    yield from _options(read, each, host, deep - 1)
            elif matching:
                yield Ignored(option, value, f"{path}:{number}")


def _words(text: str) -> list[str]:
    try:
        return shlex.split(text, comments=True)
    except ValueError:  # ssh refuses that, too
        return []


def _matches(patterns: str, host: str) -> bool:
    hit = False
    for pattern in re.split(r"[\s,]+", patterns):
        if pattern.startswith("!") and fnmatch.fnmatchcase(host, pattern[1:]):
            return False
        hit = hit or fnmatch.fnmatchcase(host, pattern.strip('"'))
    return hit
