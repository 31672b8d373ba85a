"""What may stand where the cursor is: from the parser and an inventory."""

from __future__ import annotations

import subprocess
import sys

import pytest

from launcher import inventory as inventories
from launcher.cli import complete
from launcher.cli.main import _COMMANDS, parser

TEXT = """
context: {params: {distro: jazzy}}
hosts:
  lab-pc:
    machine: robot@lab-pc.example
    aliases: [lab]
    variants: {debug: {env: {A: "1"}}, distro: [humble, jazzy]}
  arm: {machine: robot@arm.example, env: {D: "{distro}"}}
processes:
  gz sim: {cmd: gz sim, machine: local}
"""
INVENTORY = inventories.read(TEXT)


def answer(line, inventory=INVENTORY, seen=None):
    words, current = complete.split_line(line)

    def find(named):
        if seen is not None:
            seen.append(named)
        return inventory

    return complete.complete(parser(), words, current, find)


def words(line, inventory=INVENTORY):
    return [word for word, _ in answer(line, inventory).candidates]


HOSTS = ["lab-pc", "arm", "local", "lab"]


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("up ", HOSTS),
        ("up la", ["lab-pc", "lab"]),
        ("up lab-pc ", ["arm", "local", "lab"]),
        ("up lab-pc+", ["lab-pc+debug", "lab-pc+humble", "lab-pc+jazzy"]),
        ("up lab-pc+debug+h", ["lab-pc+debug+humble"]),
        ("-i x.yaml up a", ["arm"]),
        ("kill --force a", ["arm"]),
        ("call lab-pc run_p", ["run_process"]),
        ("up --variant ", ["debug", "humble", "jazzy"]),
        ("up lab-pc --variant d", ["debug"]),
        ("up --variant=lab-pc=h", ["--variant=lab-pc=humble"]),
        ("up --variant lab-pc=debug+j", ["lab-pc=debug+jazzy"]),
        ("up --param d", ["distro="]),
        ("inventory sho", ["show"]),
        ("inventory show ar", ["arm"]),
        ("completion ", ["bash", "zsh", "fish"]),
        ("kill --al", ["--all"]),
        ("clean --dry-run --va", ["--variant"]),
        ("extend lab-pc --for 8h ar", ["arm"]),
        ("extend lab-pc --for ", []),
        ("nonsense ", []),
        ("up 'la", ["lab-pc", "lab"]),
        ("inventory show arm ", []),
    ],
)
def test_candidates(line, expected):
    assert words(line) == expected


@pytest.mark.parametrize(
    ("line", "kind"),
    [
        ("-i ", "files"), ("up -i x", "files"), ("push lab-pc ", "dirs"), ("with lab-pc -- ", "command 4"),
        ("with lab-pc -- ls -", "command 4"), ("up --param ", "nospace"), ("up ", "plain"),
    ],
)  # fmt: skip
def test_kinds(line, kind):
    assert answer(line).kind == kind


def test_every_command_is_completed_and_the_hidden_one_is_not():
    found = words("")
    assert set(found) == set(_COMMANDS)
    assert all(text for _, text in answer("").candidates), "each says what it is"


def test_every_option_is_completed():
    for name in _COMMANDS:
        assert "--help" in words(f"{name} --"), name


def test_processes_stand_where_a_name_is_asked_for():
    import argparse

    top = argparse.ArgumentParser()
    top.add_argument("name", nargs="*", metavar="NAME")
    top.add_argument("--only", metavar="PROCESS")
    names = complete.complete(top, [], "", lambda named: INVENTORY)
    assert [word for word, _ in names.candidates] == [*HOSTS, "gz sim"]
    only = complete.complete(top, ["--only"], "g", lambda named: INVENTORY)
    assert only.candidates == (("gz sim", "process"),)


def test_the_inventory_that_is_named_is_read_and_only_where_it_is_needed():
    seen = []
    answer("-i lab.yaml up ", seen=seen)
    answer("up --inventory=other.yaml ", seen=seen)
    assert seen == ["lab.yaml", "other.yaml"]
    for line in ("", "up --", "completion ", "call lab-pc ", "with a -- "):
        answer(line, seen=seen)
    assert len(seen) == 2


def test_without_an_inventory():
    assert words("up ", None) == ["local"] and words("up --variant ", None) == []


@pytest.mark.parametrize(
    ("argv", "text"),
    [
        (["line", "=:", "se-remote up --variant=lab"], "plain\n"),
        (["words", "se-remote", "completion", "z"], "plain\nzsh\n"),
        (["line", ":=", "se-remote 'open"], "plain\n"),
        (["words", "se-remote", "up", "-i", "/no/such/file", "l"], "plain\nlocal\tthis machine\n"),
        (["what"], ""),
        ([], ""),
    ],
)
def test_it_never_fails_loudly(argv, text, tmp_path):
    (tmp_path / "se-remote.yaml").write_text("hosts: [this is wrong")
    command = [sys.executable, "-m", "launcher.cli.main", "__complete", *argv]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == text


def test_what_is_not_needed_is_not_imported(tmp_path):
    """YAML, SSH and ZeroMQ cost more than all the rest."""
    (tmp_path / "se-remote.yaml").write_text(TEXT)
    code = (
        "import sys; from launcher.cli.main import main;"
        "main(['__complete', 'words', 'se-remote', *sys.argv[1:]]);"
        "print([name for name in ('yaml', 'asyncssh', 'zmq', 'py_trees', 'asyncio') if name in sys.modules])"
    )

    def imported(*line):
        done = subprocess.run(
            [sys.executable, "-c", code, *line], capture_output=True, text=True, cwd=tmp_path
        )
        return done.stdout.splitlines()[-1]

    assert imported("u") == imported("up", "--") == "[]"
    assert imported("up", "l") == "['yaml']"


def test_a_word_that_the_shell_breaks_is_given_from_its_last_break_on(capsys, tmp_path, monkeypatch):
    (tmp_path / "se-remote.yaml").write_text(TEXT)
    monkeypatch.chdir(tmp_path)
    for breaks, word in (("=:", "debug"), ("", "--variant=lab-pc=debug")):
        complete.main(parser, ["line", breaks, "se-remote up --variant=lab-pc=d"])
        assert capsys.readouterr().out == f"plain\n{word}\tvariant\n"
