"""One scenario: its sessions at the hosts, its proxies, and the tick's budget for waiting.

Rules:
- The hub's thread only queues. The thread of the tree applies what came, in order: at the beginning of a
  tick, and after a wait. So nothing here needs a lock.
- In a tick, all proxies together wait at most for half a tick period, and only for a host whose round trip
  fits into what is left of it. What is not here then is read in a later tick.
- Under simulated time nothing is read later: lockstep.py.
- Setup is pipelined: `begin` sends everything of all proxies, each proxy then takes its own replies.
- The end comes once: `bye` at every host, which ends what runs there, bounded in time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any

from remote_exec.client.hub import HostLink
from remote_exec.errors import HostLost, RemoteError, SetupFailed
from remote_exec.tree.host_session import Desk, HostSession, RemoteActionPort
from remote_exec.tree.lockstep import Lockstep
from remote_exec.tree.target import Carried

BYE_S = 45.0
"""How long the end may take, on top of what the actions were given to shut down: the host's own bounds for
actions that do not end, for what they left running, and for `on_stop`."""
HURRIED_BYE_S = 1.0
AWAY_BYE_S = 0.3
"""After a signal: for hosts that cannot be reached just then."""
SAY_WAITING_S = 2.0


class Scenario:
    """The proxies of one tree and the sessions they use."""

    def __init__(
        self,
        desk: Desk,
        root: Any,
        proxies: Sequence[Any],
        links: Mapping[str, HostLink],
        tick_period: float,
        simulated_clock: Any = None,
        process_registry: Any = None,
        carried: Mapping[str, Carried] = MappingProxyType({}),
    ) -> None:
        self.root = root
        self.proxies = list(proxies)
        self.ended = False
        self.left: list[str] = []
        """Of what `end` returned, what was seen to be still there."""
        self._desk = desk
        self._half_period = tick_period / 2
        self._lockstep = Lockstep(desk, simulated_clock) if simulated_clock is not None else None
        self._spent = 0.0
        self._in_tick = False
        self._began = desk.now()
        targets = {proxy.target.name: proxy.target for proxy in self.proxies}
        self.hosts = {
            name: HostSession(desk, target, links[name], process_registry, carried.get(name, Carried()))
            for name, target in targets.items()
        }
        self._set_up: set[str] = set()

    # --- setup

    def begin(self, configure: Mapping[str, Any]) -> None:
        """Send the setup of every proxy. Raises SetupFailed (a value that cannot cross)."""
        for host in self.hosts.values():
            host.configure(configure)
        for proxy in self.proxies:
            self.hosts[proxy.target.name].add(proxy)
        self._hook_tick()

    @property
    def setting_up(self) -> bool:
        return not self.ended and len(self._set_up) < len(self.proxies)

    def was_set_up(self, proxy: RemoteActionPort) -> bool:
        return proxy.action_id in self._set_up

    def finish_setup(self, proxy: RemoteActionPort) -> HostSession:
        """Wait for one proxy's replies. Raises SetupFailed."""
        host = self.hosts[proxy.target.name]
        self._desk.wait(lambda: host.hello_at is not None or host.over, self._began + proxy.setup_timeout)
        begin = host.hello_at if host.hello_at is not None else self._began
        self._set_up.add(proxy.action_id)
        place = f"action '{proxy.name}' on {host.target.name} ({proxy.where()})"
        limit = proxy.setup_timeout
        if not self._desk.wait(lambda: host.setup_over(proxy.action_id), begin + limit):
            raise SetupFailed(f"{place}: its setup took longer than {limit:g} s (setup_timeout)")
        try:
            host.check_setup(proxy.action_id)
        except RemoteError as e:
            if e.traceback:
                self._desk.say("error", _indented(host.target.name, e.traceback))
            raise SetupFailed(f"{place}: setup failed: {e}") from e
        except HostLost as e:
            raise SetupFailed(f"{place}: {e}") from e
        host.compare_version(proxy)
        return host

    # --- ticks

    def _hook_tick(self) -> None:
        original = self.root.tick

        def tick() -> Iterator[Any]:
            self._spent = 0.0
            self._in_tick = True
            try:
                if not self._desk.tick_begins():
                    return
                if self._lockstep is not None:
                    self._lockstep.tick(self.hosts.values())
                yield from original()
                if self.root.status.name != "RUNNING":
                    self._desk.show_lines()  # the runner prints its verdict next
            finally:
                self._in_tick = False
                for host in self.hosts.values():
                    host.send_variables()

        self.root.tick = tick

    def refresh(self) -> None:
        """Without a hook that sees ticks begin (somebody ticks a part of the tree), apply here."""
        if not self._in_tick:
            self._spent = 0.0
            self._desk.pump()

    def simulated_time(self) -> float | None:
        """Seconds; None when time is real."""
        return self._lockstep.now() if self._lockstep is not None else None

    def wait_in_tick(self, host: HostSession, done: Callable[[], bool]) -> None:
        """Wait for a fresh result if the host is near enough for what is left of this tick's budget."""
        if self._lockstep is not None:
            self._lockstep.wait(host, done)
            return
        left = self._half_period - self._spent
        if left <= (host.link.round_trip or 0.0) or host.over:
            return
        start = self._desk.now()
        self._desk.wait(done, start + left, abortable=False)
        self._spent += self._desk.now() - start

    # --- the end

    def end(self, abort: bool = False) -> list[str]:
        """End every session; what is left, as texts with the host's name. Idempotent.

        abort: the run is given up (a signal, an exception); hosts with an `on_stop` run it.
        """
        if self.ended:
            return []
        self.ended = True
        self.root.__dict__.pop("tick", None)
        hosts = [host for host in self.hosts.values() if not host.ended]
        for host in hosts:
            host.bye(release=False, abort=abort)
        start = self._desk.now()
        limit = start + BYE_S + sum(host.longest_shutdown() for host in hosts)
        if not self._all_over(hosts, min(limit, start + SAY_WAITING_S)):
            for host in hosts:
                if not host.ended:
                    self._desk.say("info", f"[{host.target.name}] waiting for its actions to end")
            self._all_over(hosts, limit)
        self.left = [text for host in hosts if host.ended for text in self._left(host)]
        return [text for host in hosts for text in self._left(host)]

    def _all_over(self, hosts: Sequence[HostSession], deadline: float) -> bool:
        hurried_at: list[float] = []
        start = self._desk.now()

        def done() -> bool:
            if self._desk.hurry and not hurried_at:
                hurried_at.append(self._desk.now())
            late = bool(hurried_at) and self._desk.now() - hurried_at[0] > HURRIED_BYE_S
            if self._desk.interrupted() and self._desk.now() - start > AWAY_BYE_S:
                late = late or all(host.ended or host.link.away for host in hosts)
            return late or all(host.ended for host in hosts)

        self._desk.wait(done, deadline, abortable=False)
        return done()

    @staticmethod
    def _left(host: HostSession) -> list[str]:
        if not host.ended or host.unconfirmed:
            why = f" ({host.unconfirmed})" if host.unconfirmed else ""
            text = f"did not confirm that its actions have ended{why}; the lease will end them"
            return [f"[{host.target.name}] {text}"]
        return [f"[{host.target.name}] still running: {text}" for text in host.left]


def _indented(name: str, text: str) -> str:
    return "\n".join(f"[{name}]   {line}" for line in text.splitlines())
