"""What `se-remote push` and `pull` suggest when something is wrong over there."""

from __future__ import annotations

import pytest

from launcher.cli.files import look
from launcher.model import Container, HostSpec, Machine, SshOptions

FAR = Machine("lab-pc.example", "robot", 2222)


@pytest.mark.parametrize(
    ("spec", "folder", "step"),
    [
        (HostSpec("lab-pc", FAR), "bags", "ssh -p 2222 robot@lab-pc.example 'ls -la bags'"),
        (HostSpec("lab-pc", Machine("lab-pc")), "~/bags", "ssh lab-pc 'ls -la bags'"),
        (HostSpec("lab-pc", FAR, ssh=SshOptions("/k", "me@gate")), "/",
         "ssh -i /k -J me@gate -p 2222 robot@lab-pc.example 'ls -la /'"),
        (HostSpec("local", Machine()), ".", "(cd && ls -la .)"),
        (HostSpec("nav", FAR, docker=Container("nav")), "/ws", "ls -la /ws   (in the container)"),
    ],
)  # fmt: skip
def test_where_to_look(spec, folder, step):
    assert look(spec, folder, "") == step
    assert look(spec, folder, "se-remote pull x") == (
        f"{step}   (or what scenarios have left there: se-remote pull x)"
    )
