"""Where the server's modules are looked for."""

from __future__ import annotations

import os
import sys

import pytest

from remote_exec.imports import working_folder_last


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (["{cwd}", "/a", "/b"], ["/a", "/b", "{cwd}"]),
        (["/a", "{cwd}", "/b"], ["/a", "{cwd}", "/b"]),  # of PYTHONPATH, and Python was told -P
        ([], []),
    ],
)
def test_the_working_folder_comes_last(monkeypatch, tmp_path, before, after):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [one.format(cwd=os.getcwd()) for one in before])
    working_folder_last()
    assert sys.path == [one.format(cwd=os.getcwd()) for one in after]


def test_a_working_folder_that_was_removed_is_in_nobodys_way(monkeypatch, tmp_path):
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    monkeypatch.setattr(sys, "path", ["/a"])
    working_folder_last()
    assert sys.path == ["/a"]
