"""The pool of connections: what is still being made when it is closed is given up; secrets stay apart."""

import asyncio

from launcher.machines.pool import Machines
from launcher.model import Machine, SshOptions


def test_a_cancel_that_is_swallowed_does_not_hold_the_close_up(monkeypatch):
    """As asyncio.wait_for did before Python 3.12, when what it waits for is done in that very moment."""
    swallowed = []

    async def connect(*_):
        try:
            await asyncio.sleep(0)
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            swallowed.append(True)
        await asyncio.Event().wait()

    async def trial() -> None:
        pool = Machines({}, ask=None, keepalive=1, find=lambda name: None)
        monkeypatch.setattr(pool, "_connect", connect)
        asking = asyncio.ensure_future(pool.runner("a", Machine("a"), SshOptions()))
        await asyncio.sleep(0.05)
        await asyncio.wait_for(pool.close(), 10)
        await asyncio.wait([asking], timeout=5)
        assert swallowed and asking.cancelled()

    asyncio.run(trial())


def test_what_was_typed_for_one_machine_is_never_given_to_another(monkeypatch):
    """Two robots may have one address, behind gates of their own: then both ask the same question."""
    from launcher.machines import ssh

    answers: list[str | None] = []
    typed = iter(["secret of the first", "secret of the second"])

    class Made:
        alive, through = False, None

        async def close(self) -> None: ...

    async def connect(target, *, ask, **_):
        answers.append(ask("robot@192.168.1.1's password: ", secret=True))
        return Made()

    async def trial() -> None:
        pool = Machines({}, ask=lambda prompt, *, secret: next(typed), keepalive=1, find=lambda name: None)
        machine = Machine("192.168.1.1", "robot")
        for gate in ("first", "second", "first"):  # each is dead at once: the third is the way mended
            await pool.runner("a", machine, SshOptions(jump=gate))

    monkeypatch.setattr(ssh, "connect", connect)
    asyncio.run(trial())
    assert answers == ["secret of the first", "secret of the second", "secret of the first"]
