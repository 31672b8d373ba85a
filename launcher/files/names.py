"""Names of files in a folder that is sent: which are acceptable, and what one is called that exists. Pure.

Rules:
- standard library only, Python 3.8 (the machine's side checks too: neither end believes the other);
- a name is relative, `/` between its parts, none of them empty, `.` or `..`; any other byte may be in it;
- a link may lead up first and then down, and never out of the folder; where it leads up again behind a
  part that may be a link itself, nobody can say where it ends.
"""

from __future__ import annotations

from launcher.files.wire import raw, text

OWN = ".se-remote-"
PUSHED = OWN + "pushed"
"""In a folder that was pushed to: what was put there."""
PUSHING = OWN + "push-"
"""So begins what is not yet complete there."""
_PART = ".part"
_LONGEST = 255


def acceptable(name: object) -> bool:
    """Whether it can stand for something inside of a folder."""
    if not isinstance(name, str) or not name or "\0" in name:
        return False
    try:
        raw(name)
    except UnicodeEncodeError:
        return False
    return all(part not in ("", ".", "..") for part in name.split("/"))


def stays_inside(name: str, target: str) -> bool:
    """Whether the link `name` of a folder leads to something in it."""
    if not target or target.startswith("/") or "\0" in target:
        return False
    parts = [part for part in target.split("/") if part not in ("", ".")]
    up = 0
    while up < len(parts) and parts[up] == "..":
        up += 1
    return up <= name.count("/") and ".." not in parts[up:]


def is_own(base: str) -> bool:
    """Whether that is one of our own files, which are never sent."""
    return base.startswith(OWN) and (base == PUSHED or base.endswith(_PART))


def part_name(whose: str, key: str) -> str:
    """What is not yet complete is called so."""
    return OWN + whose[:80] + "-" + key + _PART


def beside(name: str, host: str, number: int) -> str:
    """What `name` is called when it exists already: NAME.HOST, NAME.HOST.2, …; 0 is the name itself.

    A name that would be too long for a file system loses some of its end.
    """
    if number == 0:
        return name
    suffix = "." + host + ("." + str(number) if number > 1 else "")
    folder, slash, base = name.rpartition("/")
    room = _LONGEST - len(raw(suffix))
    encoded = raw(base)
    if len(encoded) > room:
        encoded = encoded[: max(room, 1)]
        while encoded and len(encoded) > 1 and (raw(base)[len(encoded)] & 0xC0) == 0x80:
            encoded = encoded[:-1]  # not in the middle of a character
    return folder + slash + text(encoded) + suffix
