"""A first inventory: what is read of ~/.ssh/config, what is written, and that it is never written over."""

from __future__ import annotations

import json

import pytest

from launcher import inventory as inventories
from launcher.cli import init
from launcher.cli.main import main
from launcher.inventory import starting
from launcher.inventory.starting import Entry, Known

CONFIG = """
Include conf.d/*.conf
Host lab-pc pc1
  HostName 10.0.0.5
  User = robot
  Port 2222
Host *.example !bad
  User someone
Match host x
  HostName nowhere
Host robot.field
"""


@pytest.fixture
def home(tmp_path, monkeypatch):
    ssh = tmp_path / ".ssh"
    (ssh / "conf.d").mkdir(parents=True)
    (ssh / "config").write_text(CONFIG)
    (ssh / "conf.d/more.conf").write_text(
        "Host arm\n  HostName arm.example\nHost lab-pc\n  User late\nInclude ../config\n"
    )
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_what_ssh_knows(home):
    found = init.known_machines({"HOME": str(home)})
    assert found == [
        Known("lab-pc", "robot@10.0.0.5:2222"), Known("pc1", "robot@10.0.0.5:2222"), Known("robot.field"),
        Known("arm", "arm.example"),
    ]  # fmt: skip


def test_quoted_words_of_ssh_stay_whole(home):
    (home / ".ssh" / "my confs").mkdir()
    (home / ".ssh" / "my confs" / "a.conf").write_text('Host "gate" gate2\n  HostName "gate.example"\n')
    (home / ".ssh" / "config").write_text('Include "my confs/*.conf" more\nHost "two words" arm\n  User me\n')
    assert init.known_machines({"HOME": str(home)}) == [
        Known("arm"), Known("gate", "gate.example"), Known("gate2", "gate.example")
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("machine", "taken", "name"),
    [
        ("robot@10.0.0.5:22", [], "10-0-0-5"), ("lab.example", [], "lab-example"), ("local", [], "local-2"),
        ("[::1]:22", [], "1-22"), ("lab", ["lab"], "lab-2"), ("ü", [], "host"),
    ],
)  # fmt: skip
def test_names(machine, taken, name):
    assert starting.name_for(machine, taken) == name and starting.is_name(name)


@pytest.mark.parametrize(
    "entries",
    [
        [],
        [Entry("lab-pc", "robot@[2001:db8::5]:22", "~/v e/bin/python", "a remark")],
        [Entry("a", "x"), Entry("b", "robot@10.0.0.5:2222", "/opt/py")],
    ],
)
def test_what_is_written_is_an_inventory(entries):
    text = starting.render(entries)
    read = inventories.read(text)
    assert read.hosts() == [*(entry.name for entry in entries), "local"] and read.check() == []
    for entry in entries:
        spec = read.resolve(entry.name)
        assert (str(spec.machine), spec.python) == (
            entry.machine,
            entry.python or inventories.read("hosts: {a: {machine: b}}").resolve("a").python,
        )
    assert text.startswith(starting.SCHEMA_LINE + "\n")
    for line in [line for line in text.splitlines() if line.startswith("    # ")]:
        assert inventories.read(f"hosts:\n  a:\n    machine: b\n    {line[6:]}\n"), (
            f"a comment that is wrong: {line}"
        )


def test_yes_writes_all_and_never_over_a_file(home, capsys):
    assert main(["init", "--yes"]) == 0
    text = (home / "se-remote.yaml").read_text()
    assert inventories.read(text).hosts() == ["lab-pc", "pc1", "robot-field", "arm", "local"]
    assert "machine: robot.field" in text and "robot@10.0.0.5:2222, as ~/.ssh/config says" in text
    assert json.loads((home / "se-remote.schema.json").read_text()) == inventories.schema()
    (home / "se-remote.yaml").write_text("hosts: {}\n")
    assert main(["init", "--yes"]) == 2
    assert (home / "se-remote.yaml").read_text() == "hosts: {}\n"
    assert "not written over" in capsys.readouterr().err
    (home / "dangling").symlink_to(home / "nothing")
    assert main(["init", "--yes", "--file", "dangling"]) == 2 and not (home / "nothing").exists()


def test_hosts_by_argument(home):
    assert main(["init", "lab-pc", "arm1=ann@10.0.0.9:23", "ann@x", "--python", "~/v/bin/python"]) == 0
    read = inventories.load(home / "se-remote.yaml")
    assert {name: str(read.resolve(name).machine) for name in read.hosts()} == {
        "lab-pc": "lab-pc", "arm1": "ann@10.0.0.9:23", "x": "ann@x", "local": "local",
    }  # fmt: skip
    assert read.resolve("x").python == "~/v/bin/python"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["no-such"], 'no Host "no-such" (it has: lab-pc, pc1'), (["a b=x"], "no name of a host"),
        (["local=x"], "no name of a host"), (["a=x y z"], ""),
    ],
)  # fmt: skip
def test_arguments_that_are_wrong_write_nothing(home, capsys, words, said):
    assert main(["init", *words]) == 2
    assert said in capsys.readouterr().err and list(home.glob("*.yaml")) == list(home.glob("*.json")) == []


def test_without_a_terminal_nothing_is_asked(home, capsys):
    assert main(["init"]) == 1
    assert "--yes" in capsys.readouterr().err and list(home.glob("*.yaml")) == []


def test_answers(home):
    answers = iter(
        ["", "n", "y", "no", "ann@10.0.0.9", "crane", "bob@c:22", "", "x@y", "not a name", "", "", "python3"]
    )
    prompts = []

    def ask(prompt, *, secret):
        prompts.append(prompt)
        return next(answers)

    entries = init.asked(ask, init.known_machines({"HOME": str(home)}), None)
    assert [(entry.name, entry.machine, entry.python) for entry in entries] == [
        ("lab-pc", "lab-pc", ""), ("robot-field", "robot.field", ""), ("crane", "ann@10.0.0.9", ""),
        ("c", "bob@c:22", ""),
    ]  # fmt: skip
    assert next(answers, None) is None and "lab-pc (robot@10.0.0.5:2222)" in prompts[0]


def test_the_schema_beside_an_inventory(home, capsys):
    path = home / "se-remote.yaml"
    path.write_text("# mine\nhosts: {a: {machine: b}}\n")
    path.chmod(0o640)
    assert main(["inventory", "schema", "--write"]) == 0
    assert path.read_text() == f"{starting.SCHEMA_LINE}\n# mine\nhosts: {{a: {{machine: b}}}}\n"
    assert path.stat().st_mode & 0o777 == 0o640
    assert json.loads((home / starting.SCHEMA_FILE).read_text()) == inventories.schema()
    assert main(["inventory", "check"]) == main(["inventory", "schema", "--write"]) == 0
    assert path.read_text().count("yaml-language-server") == 1, "once"
    path.write_text("hosts: {}\n#yaml-language-server: $schema=https://x\n")
    assert main(["inventory", "schema", "--write"]) == 0
    assert path.read_text().startswith("hosts"), "it names another one"
    (home / starting.SCHEMA_FILE).write_text('{"title": "mine"}')
    assert main(["inventory", "schema", "--write"]) == 2
    assert (home / starting.SCHEMA_FILE).read_text() == '{"title": "mine"}'
    assert "not our schema" in capsys.readouterr().err
