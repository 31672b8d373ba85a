"""Which options of ~/.ssh/config are not honoured: in which files they are looked for."""

from __future__ import annotations

from pathlib import Path

from launcher.machines.ssh_config import config_of, ignored_options


def test_included_files_are_those_that_ssh_reads(tmp_path: Path) -> None:
    """Hidden ones (an editor's) are not; a pattern that finds nothing must not hide what went wrong."""
    folder = tmp_path / ".ssh" / "conf.d"
    folder.mkdir(parents=True)
    for name in ("lab", ".lab.swp"):
        (folder / name).write_text("Host lab\n  StrictHostKeyChecking no\n")
    (tmp_path / ".ssh" / "config").write_text("Include conf.d/* a**b / ~robot/x\n")
    found = ignored_options(config_of(tmp_path), "lab", authenticating=False)
    assert [option.place for option in found] == [f"{folder}/lab:2"]
