"""The login over SSH: what asyncssh tells us on the way."""

from __future__ import annotations

import asyncssh

from launcher.machines.ssh_login import Client


def test_asyncssh_knows_every_callback() -> None:
    """What it does not know is not called: `begin_auth` came with 2.20, and tells what is tried again."""
    ours = {name for name in vars(Client) if not name.startswith("_")}
    assert ours <= set(dir(asyncssh.SSHClient))
