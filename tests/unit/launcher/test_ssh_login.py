"""The login over SSH: what is tried once more, and what asyncssh tells us on the way."""

from __future__ import annotations

import asyncio
from pathlib import Path

import asyncssh
import pytest

from launcher.machines.runner import Limits
from launcher.machines.ssh_errors import Attempt
from launcher.machines.ssh_login import Client, log_in
from launcher.model import Machine


class Reach:
    """Connections and logins that go as `turns` say: an error while dialling, or None for one that works."""

    def __init__(self, *turns: Exception | None) -> None:
        self.turns = list(turns)

    async def __call__(self, seconds: float):
        turn = self.turns.pop(0)
        if turn is not None:
            raise turn
        return asyncio.sleep(0, "connection")


def log_in_by(reach: Reach) -> tuple[object, list[str]]:
    said: list[str] = []
    attempt = Attempt("lab-pc", Machine(host="lab-pc.example"), Path("/home/robot"))
    return asyncio.run(log_in(reach, attempt, Limits(), said.append))[1], said


def test_a_connection_that_is_reset_while_it_is_made_is_made_once_more() -> None:
    connection, said = log_in_by(Reach(ConnectionResetError(104, "reset"), None))
    assert connection == "connection"
    assert len(said) == 1 and "logging in once more" in said[0]


@pytest.mark.parametrize("error", [ConnectionRefusedError(), TimeoutError(), OSError("no route")])
def test_who_is_not_there_is_not_asked_again(error) -> None:
    reach = Reach(error, None)
    with pytest.raises(type(error)):
        log_in_by(reach)
    assert reach.turns == [None]


def test_asyncssh_knows_every_callback() -> None:
    """What it does not know is not called: `begin_auth` came with 2.20, and tells what is tried again."""
    ours = {name for name in vars(Client) if not name.startswith("_")}
    assert ours <= set(dir(asyncssh.SSHClient))
