"""Action libraries as installed distributions: a module with its entry points, in a folder for PYTHONPATH."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path


def write_distribution(
    folder: Path,
    name: str,
    code: str,
    entry_points: Mapping[str, Mapping[str, str]],
    osc: str = "",
) -> Path:
    """A distribution with one package `name`; with `osc`, a library `osc.NAME`, too.

    entry_points: {group: {name: object in the package}}.
    """
    package = folder / name
    (package / "lib_osc").mkdir(parents=True)
    groups = {group: dict(points) for group, points in entry_points.items()}
    if osc:
        code += f"\n\ndef library():\n    return {name!r}, {name + '.osc'!r}\n"
        (package / "lib_osc" / f"{name}.osc").write_text(osc)
        groups.setdefault("scenario_execution.osc_libraries", {})[name] = "library"
    (package / "__init__.py").write_text(code)
    info = folder / f"{name}-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    lines = []
    for group, points in groups.items():
        lines += [f"[{group}]", *(f"{key} = {name}:{target}" for key, target in points.items()), ""]
    (info / "entry_points.txt").write_text("\n".join(lines))
    return folder
