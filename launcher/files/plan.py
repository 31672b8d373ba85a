"""What a push has to do, from what lies on both ends. Pure: values in, values out."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from launcher.files.tree import FILE, FOLDER, LINK, Entry

_BLOCK = 4096


@dataclass(frozen=True)
class PushPlan:
    """What makes the folder there like the one here. Folders before what is in them."""

    send: tuple[Entry, ...]
    unchanged: int
    remove: tuple[str, ...]
    folders: tuple[tuple[str, int], ...]
    links: tuple[tuple[str, str], ...]
    modes: tuple[tuple[str, int], ...]
    everything: tuple[str, ...]
    """All names that are this push's or were an earlier one's: a later push may remove those."""
    skipped: tuple[tuple[str, str], ...]
    needed: int
    """Bytes that it needs there at most, beyond what there is."""

    def message(self) -> dict[str, object]:
        """As the agent takes it."""
        return {
            "remove": self.remove, "folders": self.folders, "links": self.links, "modes": self.modes,
            "all": self.everything,
        }  # fmt: skip


def push_plan(
    here: Sequence[Entry], there: Sequence[Entry], mine: Iterable[str], unread: Iterable[str] = ()
) -> PushPlan:
    """`mine`: what earlier pushes have put there; nothing else is removed. `unread`: what is here and could
    not be looked at: it and what is below stays there as it is."""
    ours, theirs = set(mine), {entry.name: entry for entry in there}
    wanted = {entry.name: entry for entry in here}
    blocked = _blocked(here, theirs, ours)
    here = [entry for entry in here if not _is_below(entry.name, blocked)]
    unknown = dict.fromkeys(unread, "")
    gone = [name for name in theirs if name in ours and name not in wanted]
    stays = [name for name in gone if _is_below(name, unknown)]
    above = {name[:at] for name in stays for at in range(len(name)) if name[at] == "/"}
    remove = [name for name in gone if not _is_below(name, unknown) and name not in above]
    send, folders, links, modes, unchanged = [], [], [], [], 0
    for entry in here:
        other = theirs.get(entry.name)
        if other is not None and other.kind != entry.kind:
            if other.kind == FOLDER or entry.kind != FILE:  # a file takes the place of a link by itself
                remove.append(entry.name)
            other = None
        if entry.kind == FOLDER:
            if other is None:
                folders.append((entry.name, entry.mode))
            elif other.mode != entry.mode:
                modes.append((entry.name, entry.mode))
        elif entry.kind == LINK:
            if other is None or other.target != entry.target:
                if other is not None:
                    remove.append(entry.name)
                links.append((entry.name, entry.target))
        elif other is None or (other.size, other.mtime) != (entry.size, entry.mtime):
            send.append(entry)
        else:
            unchanged += 1
            if other.mode != entry.mode:
                modes.append((entry.name, entry.mode))
    new = {entry.name for entry in send} | {name for name, _ in (*folders, *links)}
    everything = [entry.name for entry in here if entry.name in ours or entry.name in new] + stays
    send.sort(key=lambda entry: (entry.name.rpartition("/")[0], entry.name))
    replaced = sum(theirs[entry.name].size for entry in send if entry.name in theirs)
    sizes = [rounded(entry.size) for entry in send]
    needed = min(sum(sizes), sum(sizes) - replaced + max(sizes, default=0))
    return PushPlan(
        tuple(send), unchanged, tuple(sorted(remove, reverse=True)), tuple(folders), tuple(links),
        tuple(sorted(modes, reverse=True)), tuple(everything),
        tuple(sorted(blocked.items())), max(0, needed),
    )  # fmt: skip


def _blocked(here: Sequence[Entry], theirs: dict[str, Entry], ours: set[str]) -> dict[str, str]:
    """Names where something else stands that no push has put there, and that would have to go; why."""
    inhabited = {name.rpartition("/")[0] for name in theirs if name not in ours}
    found = {}
    for entry in here:
        other = theirs.get(entry.name)
        if other is None or other.kind == entry.kind:
            continue
        if other.kind == FOLDER and any(
            entry.name == name or name.startswith(entry.name + "/") for name in inhabited
        ):
            found[entry.name] = "a folder of that name is there, with files that were not pushed"
        elif entry.name not in ours and (other.kind == FOLDER or entry.kind != FILE):
            kind = {FOLDER: "folder", FILE: "file", LINK: "link"}[other.kind]
            found[entry.name] = f"a {kind} of that name is there, which was not pushed"
    return found


def _is_below(name: str, blocked: dict[str, str]) -> bool:
    if not blocked:
        return False
    parts = name.split("/")
    return any("/".join(parts[: count + 1]) in blocked for count in range(len(parts)))


def rounded(size: int) -> int:
    """What a file of that size takes on a disk."""
    return -(-size // _BLOCK) * _BLOCK


def amount(size: int) -> str:
    """Bytes as a person says them."""
    value = float(size)
    for unit in ("B", "kB", "MB", "GB"):
        if value < 999.5:
            break
        value, unit = value / 1000, {"B": "kB", "kB": "MB", "MB": "GB", "GB": "TB"}[unit]
    return f"{value:.0f} {unit}" if unit == "B" or value >= 9.95 else f"{value:.1f} {unit}"
