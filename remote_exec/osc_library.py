"""Where `import osc.remote` finds its file. Loaded by scenario_execution through an entry point."""

from __future__ import annotations


def get_remote_library() -> tuple[str, str]:
    """Package and file name; the file is looked up as ``<package>/lib_osc/<file>``."""
    return "remote_exec", "remote.osc"
