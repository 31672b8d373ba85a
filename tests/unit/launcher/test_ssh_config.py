"""What of ~/.ssh/config asyncssh does not honour is found in what that includes, too."""

from __future__ import annotations

import pytest

from launcher.machines.ssh_config import config_of, ignored_options


@pytest.fixture
def home(tmp_path):
    folder = tmp_path / "home [of] robot"
    (folder / ".ssh" / "config.d").mkdir(parents=True)
    (folder / ".ssh" / "config.d" / "lab.conf").write_text("StrictHostKeyChecking no\n")
    return folder


def found(home, config):
    (home / ".ssh" / "config").write_text(config)
    return [str(one) for one in ignored_options(config_of(home), "lab-pc", authenticating=False)]


@pytest.mark.parametrize(
    "include",
    ["config.d/*", "config.d/**.conf", "~/.ssh/config.d/lab.conf", '"{home}/.ssh/config.d/l?b.conf"'],
)
def test_what_is_included_counts(home, include):
    (home / ".ssh" / "config.d" / ".lab.conf.swp").write_text("StrictHostKeyChecking ask\n")
    place = home / ".ssh" / "config.d" / "lab.conf"
    text = f"Include {include.format(home=str(home).replace('[', '[[]'))}\n"
    assert found(home, text) == [f"StrictHostKeyChecking no ({place}:1)"]


@pytest.mark.parametrize("include", ["/", "config.d", "gone/*", "~bob/x", "[a", "${HOME}/x", '"', "a\0b"])
def test_what_cannot_be_read_is_passed_over(home, include):
    assert found(home, f"Include {include}\nHost other\nBindInterface eth0\n") == []
