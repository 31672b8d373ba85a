"""The key `provision` of a host: what `se-remote provision` installs there, and whether a bring-up does it.

provision: auto
provision: [numpy, ./my_actions, wheels/arm-1.2-py3-none-any.whl]      when `se-remote provision` is run
provision: {auto: true, with: [my-actions==1.4]}
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from launcher.inventory.kinds import BOOL, Key, Kind, Text, found, is_null, list_kind, read_keys, text_kind
from launcher.inventory.report import Place, Report
from launcher.inventory.yamlnodes import Mapping as MappingNode
from launcher.inventory.yamlnodes import Node, Scalar, Sequence

AUTO: Final = "auto"
_EXPECTED: Final = "auto, a list of packages, or {auto: true, with: [PACKAGE]}"
_PACKAGE: Final = text_kind("a name, a folder or a wheel", one_line=True, empty=False)
_PACKAGES: Final = list_kind("a list of packages", _PACKAGE)

PROVISION_KEYS: Final[Mapping[str, Key]] = {
    "auto": Key("auto", BOOL, "A bring-up does it when there is no server.", "false"),
    "with": Key(
        "with", _PACKAGES, "Packages beside the server: names, folders or wheels of this machine.", "[]"
    ),
}


def is_path(word: str) -> bool:
    """Whether a package is named by where it lies here, and not by its name on a package index."""
    return "/" in word or word.startswith((".", "~")) or word.endswith(".whl")


@dataclass(frozen=True)
class ProvisionEntry:
    """As it is written; paths not yet of any folder."""

    auto: bool
    packages: tuple[Text, ...]


def _read(node: Node, place: Place, report: Report) -> ProvisionEntry | None:
    if is_null(node):
        return ProvisionEntry(False, ())
    if isinstance(node, Scalar) and node.text == AUTO:
        return ProvisionEntry(True, ())
    if isinstance(node, MappingNode):
        fields = read_keys(node, place, report, PROVISION_KEYS)
        if fields is None:
            return None
        packages = fields["with"].value if "with" in fields else ()
        auto = bool(fields["auto"].value) if "auto" in fields else False
        return ProvisionEntry(auto, tuple(field.value for field in packages))
    if isinstance(node, Sequence):
        packages = _PACKAGES.read(node, place, report)
        return None if packages is None else ProvisionEntry(False, tuple(field.value for field in packages))
    report.add(place, f"expected {_EXPECTED}, {found(node)}")
    return None


def _schema() -> dict[str, Any]:
    properties = {key.name: {**key.kind.schema, "description": key.doc} for key in PROVISION_KEYS.values()}
    table = {"type": "object", "properties": properties, "additionalProperties": False}
    return {"anyOf": [{"const": AUTO}, {"type": "null"}, _PACKAGES.schema, table]}


PROVISION: Final = Kind(_EXPECTED, _read, _schema())
