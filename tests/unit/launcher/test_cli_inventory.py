"""`se-remote inventory check`: what the file names on this machine."""

from __future__ import annotations

import pytest

from launcher.cli import inventory, main

TEXT = """
context: {{params: {{folder: launch}}}}
hosts:
  robot:
    machine: robot@robot.example
    ssh: {{identity: ./no-key}}
    push: [scenario, maps, mpas, "{{folder}}"]
    provision: [numpy, ./wheels/a.whl]
    variants:
      sim: {{machine: local, push: nowhere}}
      other: {{push: "{{folder}}/{{x}}", params: {{x: a}}}}
  here: {{machine: local, push: nowhere{key}}}
"""


@pytest.fixture
def check(tmp_path, capsys):
    def run(key: str = "") -> tuple[str, list[str]]:
        file = tmp_path / "se-remote.yaml"
        file.write_text(TEXT.format(key=key))
        assert inventory.run(main.parser().parse_args(["inventory", "check", "-i", str(file)])) == 0
        out, err = capsys.readouterr()
        return out, err.replace(f"{tmp_path}/", "").splitlines()

    return run


def test_folders_and_files_that_are_not_on_this_machine_are_noted(check, tmp_path):
    (tmp_path / "maps").mkdir()
    out, (*notes, hint) = check()
    assert "good: 2 hosts and local, 0 processes" in out and hint.endswith("se-remote.yaml doctor")
    assert notes == [
        "note: se-remote.yaml:7: hosts.robot.push: there is no folder mpas on this machine",
        "note: se-remote.yaml:7: hosts.robot.push: there is no folder launch on this machine",
        "note: se-remote.yaml:8: hosts.robot.provision: there is no wheels/a.whl on this machine",
        "note: se-remote.yaml:6: hosts.robot.ssh.identity: there is no file ./no-key on this machine",
        "note: se-remote.yaml:7: hosts.robot.push: there is no folder launch/a on this machine",
    ]


def test_a_container_here_has_files_of_its_own(check):
    _, notes = check(", docker: box")
    assert any("hosts.here.push: there is no folder nowhere" in note for note in notes)
