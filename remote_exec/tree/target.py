"""What a proxy knows of the host it is for, and the port through which hosts are brought up.

`remote_exec` knows no machines: the modifier passes an `Opener` in, and this is all that is asked of it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from remote_exec.client.link import Way


@dataclass(frozen=True)
class Target:
    """A host as the modifier resolved it. Times in seconds."""

    name: str
    """As it is shown: ``[lab-pc]``; also what makes two targets one host."""
    endpoint: str | None = None
    """ZeroMQ address of a server that is not ours to start; None: the opener brings the host up."""
    spec: Any = None
    """What the opener needs to bring it up; nothing here looks into it."""
    lease: float | None = None
    on_loss: str | None = None
    guessed: str = ""
    """Why its name was taken for an address; "": it was written as one."""


@dataclass(frozen=True)
class Opened:
    """A host that was brought up."""

    endpoint: str
    summary: str
    """E.g. ``server started in 1.2 s``."""
    connected: Callable[[], None]
    """To be called once the server has answered."""
    client_id: str = ""
    """What to call oneself in `hello`."""
    way: Way | None = None
    """Who mends the connection; None: nobody has to."""


@dataclass(frozen=True)
class Carried:
    """How a host sees this machine's files."""

    paths: tuple[tuple[str, str], ...] = ()
    """Folders here and what they are called there; see client/paths.py."""
    output: str = ""
    """Where its actions write there; "": where the scenario does."""


class Opener(Protocol):
    """Brings hosts up and takes down what it started."""

    def open(self, targets: Sequence[Target]) -> Mapping[str, Opened]:
        """All side by side, by name. Raises with stage, cause and next step when one fails."""

    def send(
        self, targets: Sequence[Target], scenario: str | None, output: str | None
    ) -> Mapping[str, Carried]:
        """Send the files that the hosts are to have, by name. Raises with stage, cause and next step.

        scenario: the folder of the .osc file. output: the folder here that `bring_back` fills.
        """

    def bring_back(self, given_up: Sequence[str], interrupted: Callable[[], bool]) -> list[str]:
        """Get what actions have written since `send`; says itself what becomes of it. Idempotent.

        given_up: hosts that are lost. Returns for each host what did not come, why, and the next step.
        """

    def abort(self) -> None:
        """From a signal handler: open() and close() end within a second."""

    def hurry(self) -> None:
        """From a signal handler: shorten the waits of close(), also of one that is under way."""

    def close(self, hurry: bool) -> list[str]:
        """Take down what was started; texts of what is left. Idempotent."""

    def leftovers(self) -> list[str]:
        """Of what `close` returned, what was seen to be still there."""


Say = Callable[[str, str], None]
"""Level and text of a line for the log."""

OpenerFactory = Callable[[str, Say, "str | None"], Opener]
"""Makes the opener of one run: what it is for (``test.osc``), where progress is said, and the folder of the
run's output (`-o`), if there is one."""
