"""`se-remote with`: its command line, and what its command gets by the environment."""

from __future__ import annotations

from pathlib import Path

import pytest

from launcher import inventory as inventories
from launcher.cli.main import _parse, _split_command
from launcher.cli.selection import Selection
from launcher.cli.with_hosts import cannot_start, child_environ, shell_code
from launcher.model import HostSpec, Machine


@pytest.mark.parametrize(
    ("argv", "head", "words"),
    [
        (["with", "a", "--", "make", "-k"], ["with", "a"], ["make", "-k"]),
        (["-i", "with", "up", "--", "a"], ["-i", "with", "up", "--", "a"], []),
        (["-i", "f", "with", "a", "--", "x", "--", "y"], ["-i", "f", "with", "a"], ["x", "--", "y"]),
        (["call", "with", "run", "--", "a=b"], ["call", "with", "run", "--", "a=b"], []),
        (["with", "a"], ["with", "a"], []),
    ],
)
def test_the_command_stands_behind_two_dashes(argv: list[str], head: list[str], words: list[str]) -> None:
    assert _split_command(argv) == (head, words)


def test_options_may_stand_between_the_hosts() -> None:
    args = _parse(["with", "a", "--param", "k=v", "--variant", "sim", "--", "sh", "-c", "exit 3"])
    assert (args.host, args.param, args.variant, args.words) == (
        ["a"],
        ["k=v"],
        ["sim"],
        ["sh", "-c", "exit 3"],
    )
    with pytest.raises(SystemExit) as wrong:
        _parse(["with", "a", "--"])
    assert wrong.value.code == 2


def test_the_command_gets_what_was_named_on_the_command_line() -> None:
    environ = {"HOME": "/h", "SE_REMOTE_PARAMS": "a=1", "SE_REMOTE_VARIANTS": "arm=real"}
    settings = inventories.read_settings(environ, params=["b=x,y"], variants=["sim", "arm=slow+fast"])
    specs = [HostSpec("lab+fast+sim", Machine()), HostSpec("arm+fast+slow", Machine())]
    selection = Selection(Path("/w/lab.yaml"), None, settings, environ)
    got = child_environ(selection, specs, "token", named=True)
    assert got["HOME"] == "/h" and got["SE_REMOTE_DRIVER"] == "token"
    assert got["SE_REMOTE_INVENTORY"] == "/w/lab.yaml"
    again = inventories.read_settings(got)
    assert again.params == {"a": "1", "b": "x,y"}
    assert again.variants == {"arm": ("slow", "fast"), "lab": ("sim",)}, (
        "what the host's own name said is not"
    )
    found = child_environ(
        Selection(Path("/w/lab.yaml"), None, inventories.read_settings({}), {}), [], "t", False
    )
    assert found == {"SE_REMOTE_DRIVER": "t"}, "one that was merely found is found again, or another one"


def test_exit_codes(tmp_path: Path) -> None:
    assert [shell_code(code) for code in (0, 7, -9, -15)] == [0, 7, 137, 143]
    (tmp_path / "x").write_text("")
    assert cannot_start("sh") is None
    assert (cannot_start(str(tmp_path / "x")) or (0, ""))[0] == 126
    assert (cannot_start("no-such-command") or (0, ""))[0] == 127
