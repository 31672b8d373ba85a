"""A package of another version on the host: one sentence per package."""

from __future__ import annotations

from remote_exec.tree.versions import Versions, installed


def test_one_sentence_per_package() -> None:
    versions = Versions("lab-pc", lambda plugin: ("robots", "1.0"))
    created = {"package": "robots", "version": "2.0"}
    said = versions.difference("drive", "go", "test.osc:5:9", created)
    for word in ("[lab-pc]", "'go'", "test.osc:5:9", "robots 2.0 there", "robots 1.0 here"):
        assert word in said
    assert versions.difference("turn", "turn", "test.osc:7:9", created) == ""
    assert versions.difference("grip", "grip", "x", {"package": "grippers", "version": "1.0"}) != ""


def test_nothing_is_said_of_what_is_equal_or_unknown() -> None:
    versions = Versions("lab-pc", lambda plugin: ("robots", "1.0"))
    assert versions.difference("drive", "go", "x", {"package": "robots", "version": "1.0"}) == ""
    assert versions.difference("drive", "go", "x", {}) == "", "an older server does not say it"
    assert (
        Versions("lab-pc", lambda plugin: ("", "")).difference(
            "a", "a", "x", {"package": "p", "version": "1"}
        )
        == ""
    )


def test_what_is_installed_here() -> None:
    assert installed("run_process")[0] == "scenario_execution"
    assert installed("no_such_action") == ("", "")
