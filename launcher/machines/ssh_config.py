"""What asyncssh does not read of ~/.ssh/config: found, so that an error can name it. Pure.

Only options are listed whose absence can make a connection fail that `ssh` itself would make.
"""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

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


@dataclass(frozen=True)
class Ignored:
    """One option that `ssh` would have read for this host and asyncssh does not."""

    option: str
    value: str
    place: str
    """``file:line``"""

    def __str__(self) -> str:
        return f"{self.option} {self.value} ({self.place})"


def ignored_options(files: Mapping[str, str], host: str, *, authenticating: bool) -> tuple[Ignored, ...]:
    """The options for `host` in `files` (path → text) that are not honoured. `Match` counts as matching."""
    matter = _AUTHENTICATE if authenticating else _CONNECT
    found = []
    for path, text in files.items():
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
            elif matching and option.lower() in matter:
                found.append(Ignored(option, value, f"{path}:{number}"))
    return tuple(found)


def _matches(patterns: str, host: str) -> bool:
    hit = False
    for pattern in re.split(r"[\s,]+", patterns):
        if pattern.startswith("!") and fnmatch.fnmatchcase(host, pattern[1:]):
            return False
        hit = hit or fnmatch.fnmatchcase(host, pattern.strip('"'))
    return hit
