"""Runs of stacks over a small recording site: order, one start each, failures, the way back, lost machines.

The same tests run over the real Site, on this machine, in tests/integration/test_processes_engine.py.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from typing import Any
from unittest.mock import patch

import pytest

from launcher import inventory
from launcher.errors import Conflict, LauncherError, NotReady, NotStarted, ProcessDied, Unreachable
from launcher.model import Event, Machine, SshOptions, Stage, State
from launcher.processes import unwinding
from launcher.processes.engine import Engine
from launcher.processes.graph import Stack, build
from launcher.processes.model import Change, Key, Launch
from launcher.processes.outcomes import exit_code, late
from launcher.processes.run import Run

STAYS = "exec sleep 300"


class FakeMachine:
    """What runs on one machine, however many sites look at it."""

    def __init__(self) -> None:
        self.log: list[tuple[str, tuple[str, ...]]] = []
        self.running: dict[Key, Launch] = {}
        self.over: dict[str, Change] = {}
        """By token: how it ended."""
        self.sites: list[FakeSite] = []
        self.reachable = True
        self.leases: dict[str, float] = {}
        self.opened = 0
        self.stubborn = False
        self.silent = False
        """Nothing is answered any more, and the connection is not lost either."""
        self.slow = False
        """A start takes a while, and a stop that comes meanwhile finds nothing."""

    async def open(self, name: str, runner: Any, *, on_change: Any, on_lost: Any, base: str = "") -> FakeSite:
        await asyncio.sleep(0)
        if not self.reachable:
            raise Unreachable(name, Stage.CONNECT, "no route to host", "look at the cable")
        self.opened += 1
        site = FakeSite(self, on_change, on_lost)
        self.sites.append(site)
        return site

    def cut(self) -> None:
        sites, self.sites = self.sites, []
        for site in sites:
            site.cut = True
            site.on_lost("reset by peer")

    def tell(self, change: Change) -> None:
        for site in self.sites:
            site.tell(change)

    def end(self, name: str, **how: Any) -> None:
        key = next(key for key in self.running if key.name == name)
        self._over(key, how)

    def _over(self, key: Key, how: Mapping[str, Any]) -> None:
        launch = self.running.pop(key)
        state = State.STOPPED if how.get("code") == 0 and not launch.spec.persistent else State.DEAD
        change = Change(key, state, ours=True, tail=("last words",), **how)
        self.over[launch.token] = change
        self.tell(change)

    def names(self, verb: str) -> list[tuple[str, ...]]:
        return [names for said, names in self.log if said == verb]


class FakeSite:
    def __init__(self, machine: FakeMachine, on_change: Any, on_lost: Any) -> None:
        self.machine = machine
        self.on_change = on_change
        self.on_lost = on_lost
        self.cut = False
        self.tokens: dict[Key, str] = {}
        self.leases: set[str] = set()

    def tell(self, change: Change) -> None:
        if change.key in self.tokens and not self.cut:
            self.on_change(change)

    def _check(self) -> None:
        if self.cut:
            raise Unreachable("x", Stage.CONNECT, "it is cut")

    async def start(self, launches: Sequence[Launch]) -> None:
        self._check()
        self.machine.log.append(("start", tuple(launch.key.name for launch in launches)))
        assert all(launch.lease in {"", *self.leases} for launch in launches), "a lease comes first"
        while self.machine.silent:
            await asyncio.sleep(0.01)
        if self.machine.slow:
            await asyncio.sleep(0.05)
        for launch in launches:
            self.tokens[launch.key] = launch.token
            asyncio.get_running_loop().call_soon(self._begin, launch)

    def _begin(self, launch: Launch) -> None:
        machine, key = self.machine, launch.key
        there = machine.running.get(key)
        if launch.token in machine.over:
            self.tell(machine.over[launch.token])
        elif there is not None and there.config_hash != launch.config_hash:
            self.tell(Change(key, State.CONFLICT, "started otherwise by ann@laptop"))
        elif there is not None:
            self.tell(Change(key, State.READY, ours=there.token == launch.token))
        else:
            machine.running[key] = launch
            machine.log.append(("began", (key.name,)))
            self.tell(Change(key, State.STARTING, ours=True))
            self.tell(Change(key, State.RUNNING, ours=True))
            self._live(launch)

    def _live(self, launch: Launch) -> None:
        cmd = launch.spec.cmd
        if cmd.startswith("exit "):
            self.machine._over(launch.key, {"code": int(cmd[5:])})
        elif cmd.startswith("kill "):
            self.machine._over(launch.key, {"signal": 9})
        elif launch.spec.ready_check is None:
            self.tell(Change(launch.key, State.READY, ours=True))

    async def stop(
        self,
        keys: Sequence[Key],
        *,
        force: bool = False,
        quit: Collection[Key] = (),
        grace: float = 5.0,
        tokens: Mapping[Key, str] | None = None,
    ) -> dict[Key, Change]:
        self._check()
        if self.machine.silent:
            await asyncio.Event().wait()
        self.machine.log.append(("kill" if force else "stop", tuple(key.name for key in keys)))
        while self.machine.stubborn and not force:
            await asyncio.sleep(0.01)
        self.machine.stubborn = False
        done: dict[Key, Change] = {}
        for key in keys:
            there = self.machine.running.get(key)
            if there is None or (tokens and tokens.get(key) != there.token):
                done[key] = Change(key, State.STOPPED, "was not running")
                continue
            del self.machine.running[key]
            done[key] = Change(key, State.STOPPED, signal=2, forced=force)
            self.machine.over[there.token] = done[key]
            self.machine.tell(done[key])
        return done

    async def lease(self, name: str, seconds: float) -> None:
        self._check()
        self.machine.leases[name] = seconds
        self.leases.add(name)

    async def ping(self) -> None:
        self._check()
        if self.machine.silent:
            await asyncio.Event().wait()

    async def release(self, name: str) -> None:
        self._check()
        self.machine.leases.pop(name, None)

    async def close(self) -> None:
        self.cut = True
        with contextlib.suppress(ValueError):
            self.machine.sites.remove(self)


class Bench:
    """Engines over fake machines."""

    def __init__(self) -> None:
        self.machines: dict[str, FakeMachine] = {}
        self.events: list[Event] = []
        self.engines: list[Engine] = []

    def machine(self, name: str = "local") -> FakeMachine:
        return self.machines.setdefault(name, FakeMachine())

    def engine(self, **options: Any) -> Engine:
        async def reach(name: str, machine: Machine, ssh: SshOptions) -> Any:
            return str(machine)

        async def open_site(name: str, runner: Any, **more: Any) -> FakeSite:
            return await self.machine(runner).open(name, runner, **more)

        options.setdefault("patience", 0.3)
        made = Engine(
            reach, started_by="me@here", what="a test", on_event=self.events.append, open_site=open_site,
            **options,
        )  # fmt: skip
        self.engines.append(made)
        return made

    def reasons(self, name: str) -> list[str]:
        return [event.reason for event in self.events if event.name == name]

    def states(self, name: str) -> list[State]:
        return [event.to_state for event in self.events if event.name == name]


def stack(text: str, *names: str) -> Stack:
    inv = inventory.read(text)
    return build(inv, names or inv.processes())


async def settled(run: Run) -> None:
    await asyncio.wait_for(run.settled(), 10)


def over_the_bench(test: Callable[[Bench], Any]) -> Callable[[], None]:
    """An async test: its engines are closed at the end, and no task is left."""

    def wrapper() -> None:
        async def main() -> None:
            bench = Bench()
            try:
                await asyncio.wait_for(test(bench), 30)
            finally:
                for engine in bench.engines:
                    await engine.close()
            await asyncio.sleep(0)
            left = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
            assert left == []

        asyncio.run(main())

    wrapper.__name__ = test.__name__
    wrapper.__doc__ = test.__doc__
    return wrapper


CHAIN = f"""
core: {{cmd: {STAYS}}}
a: {{cmd: {STAYS}, depends: [core]}}
b: {{cmd: {STAYS}, depends: [core]}}
top: {{cmd: {STAYS}, depends: [a, b]}}
"""


@over_the_bench
async def test_each_once_and_those_of_one_moment_in_one_delivery(bench: Bench) -> None:
    run = bench.engine().begin(stack(CHAIN))
    await settled(run)
    assert run.errors == {}
    assert bench.machine().names("start") == [("core",), ("a", "b"), ("top",)]
    assert run.running() == ["core", "a", "b", "top"]
    assert bench.machine().opened == 1
    assert bench.states("top") == [State.WAITING, State.STARTING, State.RUNNING, State.READY]
    assert bench.reasons("top")[0] == "for a, b"
    assert all(event.stage is None for event in bench.events)


@over_the_bench
async def test_machines_side_by_side(bench: Bench) -> None:
    text = (
        f"a: {{cmd: {STAYS}, machine: x}}\nb: {{cmd: {STAYS}, machine: y}}\nc: {{cmd: {STAYS}, machine: x}}"
    )
    run = bench.engine().begin(stack(text))
    await settled(run)
    assert bench.machine("x").names("start") == [("a", "c")]
    assert bench.machine("y").names("start") == [("b",)]
    assert bench.machine().log == []


@over_the_bench
async def test_a_hundred_are_one_delivery(bench: Bench) -> None:
    run = bench.engine().begin(stack("".join(f"p{i}: {{cmd: {STAYS}}}\n" for i in range(100))))
    await settled(run)
    assert [len(names) for names in bench.machine().names("start")] == [100]
    assert await run.unwind() == []
    assert [len(names) for names in bench.machine().names("stop")] == [100]


@over_the_bench
async def test_the_way_back_is_the_other_way_round(bench: Bench) -> None:
    run = bench.engine().begin(stack(CHAIN))
    await settled(run)
    assert await run.unwind() == []
    assert bench.machine().names("stop") == [("top",), ("a", "b"), ("core",)]
    assert bench.machine().running == {}
    assert bench.states("core")[-2:] == [State.STOPPING, State.STOPPED]
    assert run.running() == []


@pytest.mark.parametrize("how", ["exit 3", "kill me"])
def test_a_dependency_that_dies_stops_its_dependants_from_starting(how: str) -> None:
    @over_the_bench
    async def test(bench: Bench) -> None:
        text = f"core: {{cmd: {how}}}\na: {{cmd: {STAYS}, depends: [core]}}\nother: {{cmd: {STAYS}}}"
        run = bench.engine().begin(stack(text))
        await settled(run)
        died = run.errors["core"]
        assert isinstance(died, ProcessDied)
        assert died.tail == ("last words",)
        expected = "exit code 3" if how == "exit 3" else "signal 9"
        assert f"it ended before it was ready ({expected})" in str(died)
        assert died.next_step == "se-remote logs core"
        assert (died.code, died.signal) == ((3, None) if how == "exit 3" else (None, 9))
        assert isinstance(run.errors["a"], NotStarted)
        assert "core is not ready" in str(run.errors["a"])
        assert run.running() == ["other"]
        assert [name for names in bench.machine().names("start") for name in names] == ["core", "other"]
        assert "not started" in bench.reasons("a")[-1]

    test()


@over_the_bench
async def test_a_one_shot_is_ready_when_it_has_ended_with_0(bench: Bench) -> None:
    text = f"once: {{cmd: {STAYS}, persistent: false}}\nthen: {{cmd: {STAYS}, depends: [once]}}"
    run = bench.engine().begin(stack(text))
    await asyncio.sleep(0.05)
    assert bench.machine().names("start") == [("once",)]
    bench.machine().end("once", code=0)
    await settled(run)
    assert run.errors == {}
    assert run.running() == ["then"]
    change = await run.engine.ended(run.stack.items["once"])
    assert exit_code(change) == 0


@over_the_bench
async def test_a_one_shot_that_fails(bench: Bench) -> None:
    text = f"once: {{cmd: exit 7, persistent: false}}\nthen: {{cmd: {STAYS}, depends: [once]}}"
    engine = bench.engine()
    run = engine.begin(stack(text))
    await settled(run)
    assert "it ended (exit code 7)" in str(run.errors["once"])
    assert isinstance(run.errors["then"], NotStarted)
    assert exit_code(await engine.ended(run.stack.items["once"])) == 7


@over_the_bench
async def test_not_ready_in_time_is_left_running(bench: Bench) -> None:
    text = (
        f"slow: {{cmd: {STAYS}, ready_check: 'false', ready_timeout: 50ms}}\n"
        f"then: {{cmd: {STAYS}, depends: [slow]}}"
    )
    run = bench.engine().begin(stack(text))
    await settled(run)
    error = run.errors["slow"]
    assert isinstance(error, NotReady)
    assert "not ready within 0.05 s: its ready_check does not succeed: false" in str(error)
    assert error.exit_code == 4
    assert run.running() == ["slow"]


@over_the_bench
async def test_for_ever_is_for_ever(bench: Bench) -> None:
    run = bench.engine().begin(stack(f"slow: {{cmd: {STAYS}, ready_check: 'false', ready_timeout: 0}}"))
    with pytest.raises(asyncio.TimeoutError):
        await asyncio.wait_for(run.settled(), 0.2)
    await run.unwind()


@over_the_bench
async def test_what_runs_is_used_and_never_stopped(bench: Bench) -> None:
    other = bench.engine().begin(stack(CHAIN, "core"))
    await settled(other)
    run = bench.engine().begin(stack(CHAIN))
    await settled(run)
    assert run.errors == {}
    assert run.running() == ["a", "b", "top"]
    assert "was running" in bench.reasons("core")
    await run.unwind()
    assert [key.name for key in bench.machine().running] == ["core"]
    assert bench.machine().names("began").count(("core",)) == 1


@over_the_bench
async def test_one_of_another_configuration_is_a_conflict(bench: Bench) -> None:
    await settled(bench.engine().begin(stack("core: {cmd: other}")))
    run = bench.engine().begin(stack(CHAIN))
    await settled(run)
    error = run.errors["core"]
    assert isinstance(error, Conflict)
    assert str(error) == "core: started otherwise by ann@laptop"
    assert error.next_step == "se-remote restart core"
    assert run.running() == []


@over_the_bench
async def test_two_runs_of_one_engine_share_what_runs(bench: Bench) -> None:
    engine = bench.engine()
    one, two = engine.begin(stack(CHAIN)), engine.begin(stack(CHAIN, "a"))
    await asyncio.gather(settled(one), settled(two))
    assert one.errors == two.errors == {}
    assert len(bench.machine().running) == 4
    assert bench.machine().names("began").count(("core",)) == 1
    await one.unwind()
    assert {key.name for key in bench.machine().running} == {"core", "a"}, "the other one goes on with it"
    await two.unwind()
    assert bench.machine().running == {}


@over_the_bench
async def test_two_runs_of_one_engine_that_want_different_things(bench: Bench) -> None:
    engine = bench.engine()
    await settled(engine.begin(stack(CHAIN, "core")))
    run = engine.begin(stack("core: {cmd: other}"))
    await settled(run)
    assert isinstance(run.errors["core"], Conflict)
    assert "another configuration, started by me@here (a test)" in str(run.errors["core"])


@over_the_bench
async def test_again_after_its_end(bench: Bench) -> None:
    engine = bench.engine()
    for _ in range(2):
        run = engine.begin(stack("once: {cmd: exit 0, persistent: false}"))
        await settled(run)
        assert run.errors == {}
    assert len(bench.machine().names("start")) == 2


@over_the_bench
async def test_a_machine_that_cannot_be_reached(bench: Bench) -> None:
    bench.machine("x").reachable = False
    text = f"core: {{cmd: {STAYS}, machine: x}}\na: {{cmd: {STAYS}, depends: [core]}}\nb: {{cmd: {STAYS}}}"
    run = bench.engine().begin(stack(text))
    await settled(run)
    error = run.errors["core"]
    assert isinstance(error, Unreachable)
    assert str(error) == "core: connect: no route to host"
    assert error.exit_code == 3
    assert isinstance(run.errors["a"], NotStarted)
    assert [name for names in bench.machine().names("start") for name in names] == ["b"], "nothing of it here"
    bench.machine("x").reachable = True
    again = bench.engines[0].begin(stack(text))
    await settled(again)
    assert again.errors == {}


@over_the_bench
async def test_what_nobody_has_thought_of_is_raised_and_not_waited_for(bench: Bench) -> None:
    text = f"core: {{cmd: {STAYS}}}\nlater: {{cmd: {STAYS}, depends: [core]}}"
    run = bench.engine().begin(stack(text))

    def broken(launches: Sequence[Launch]) -> Any:
        raise RuntimeError("not thought of")

    run._go_on()
    (entry,) = run._entries.values()
    entry.place.start = broken  # type: ignore[method-assign]
    with pytest.raises(RuntimeError, match="not thought of"):
        await settled(run)
    with pytest.raises(RuntimeError, match="not thought of"):
        await run.before("later")
    assert await run.unwind() == []


@over_the_bench
async def test_a_lost_machine_comes_back_and_nothing_is_started_twice(bench: Bench) -> None:
    text = f"once: {{cmd: {STAYS}, persistent: false}}\nthen: {{cmd: {STAYS}, depends: [once]}}\n"
    text += f"stays: {{cmd: {STAYS}}}"
    run = bench.engine(patience=5.0).begin(stack(text), lease=("mine", 3.0))
    await asyncio.sleep(0.05)
    machine = bench.machine()
    machine.reachable = False
    machine.cut()
    machine.end("once", code=0)
    await asyncio.sleep(0.2)
    machine.reachable = True
    await settled(run)
    assert run.errors == {}
    assert sorted(machine.names("began")) == [("once",), ("stays",), ("then",)]
    assert machine.leases == {"mine": 3.0}
    assert any("connection to local lost (reset by peer)" in event.reason for event in bench.events)
    assert any("connected to local again" in event.reason for event in bench.events)
    assert await run.unwind() == []
    assert machine.running == {} and machine.leases == {}


@over_the_bench
async def test_a_machine_that_stays_lost(bench: Bench) -> None:
    text = f"slow: {{cmd: {STAYS}, ready_check: 'false'}}\nthen: {{cmd: {STAYS}, depends: [slow]}}"
    engine = bench.engine()
    run = engine.begin(stack(text))
    await asyncio.sleep(0.05)
    bench.machine().reachable = False
    bench.machine().cut()
    await settled(run)
    assert str(run.errors["slow"]) == "slow: connect: no route to host"
    assert isinstance(run.errors["then"], NotStarted)
    with pytest.raises(Unreachable):
        await engine.ended(run.stack.items["slow"])


@over_the_bench
async def test_the_end_says_what_it_could_not_verify(bench: Bench) -> None:
    run = bench.engine(patience=30.0).begin(stack(CHAIN, "core"), lease=("mine", 3.0))
    await settled(run)
    bench.machine().reachable = False
    bench.machine().cut()
    await asyncio.sleep(0.02)
    (text,) = await asyncio.wait_for(run.unwind(), 5)
    assert "core: its end is not verified (its connection is lost); its machine ends it by itself" in text
    assert "se-remote status core" in text


def test_who_is_late_is_told_what_keeps_it() -> None:
    (item,) = stack(f"a: {{cmd: {STAYS}, ready_check: look}}").items.values()
    item = replace(item, spec=replace(item.spec, setup="source it"))
    key = item.key
    assert late(item, None).cause == "not ready within 60 s: its ready_check does not succeed: look"
    assert "its `setup` has not come to its end" in late(item, Change(key, State.STARTING)).cause
    hindered = Change(key, State.RUNNING, "its ready_check hangs in `setup`")
    assert late(item, hindered).cause.endswith("does not succeed: look (its ready_check hangs in `setup`)")


@over_the_bench
async def test_a_machine_that_says_nothing_is_waited_for_briefly_and_that_is_said(bench: Bench) -> None:
    text = f"a: {{cmd: {STAYS}, machine: a@x}}\nb: {{cmd: {STAYS}, machine: b@x, depends: [a]}}"
    run = bench.engine().begin(stack(f"{text}\nc: {{cmd: {STAYS}, machine: b@x, depends: [b]}}"))
    await settled(run)
    bench.machine("b@x").silent = True
    with patch.object(unwinding, "ANSWERS_S", 1.5):
        texts = await asyncio.wait_for(run.unwind(), 10)
    assert [text.partition(" (no answer")[0] for text in texts] == [
        f"{name}: its end is not verified" for name in "cb"
    ]
    said = [event.reason for event in bench.events if event.level == "warning"]
    assert said == ["b@x does not answer; waiting for it, 1.5 s at most", *["no answer in time"] * 2]
    assert bench.machine("a@x").names("stop") == [("a",)]


@over_the_bench
async def test_a_machine_that_says_nothing_to_a_start_is_named_too(bench: Bench) -> None:
    bench.machine("a@x").silent = True
    run = bench.engine().begin(stack(f"a: {{cmd: {STAYS}, machine: a@x}}"))
    while not bench.machine("a@x").names("start"):
        await asyncio.sleep(0.01)
    with patch.object(unwinding, "ANSWERS_S", 1.5):
        (text,) = await asyncio.wait_for(run.unwind(), 10)
    assert text.startswith("a: its end is not verified (no answer in time)")
    said = [event.reason for event in bench.events if event.level == "warning"]
    assert said == ["a@x does not answer; waiting for it, 1.5 s at most", "no answer in time"]
    bench.machine("a@x").silent = False
    while not bench.machine("a@x").names("began"):
        await asyncio.sleep(0.01)


@over_the_bench
async def test_given_up_before_anything_was_sent(bench: Bench) -> None:
    run = bench.engine().begin(stack(CHAIN))
    assert await run.unwind() == []
    await asyncio.sleep(0.05)
    assert bench.machine().log == []


@over_the_bench
async def test_given_up_at_any_moment_leaves_nothing(bench: Bench) -> None:
    for turns in range(1, 30):
        run = bench.engine().begin(stack(CHAIN))
        for _ in range(turns):
            await asyncio.sleep(0)
        assert await run.unwind() == []
        for _ in range(30):
            await asyncio.sleep(0)
        assert bench.machine().running == {}, turns


@over_the_bench
async def test_what_is_being_started_when_it_is_given_up_is_stopped_behind_that(bench: Bench) -> None:
    bench.machine().slow = True
    run = bench.engine().begin(stack(CHAIN, "core"))
    while not bench.machine().names("start"):
        await asyncio.sleep(0)
    assert await run.unwind() == []
    await asyncio.sleep(0.1)
    assert bench.machine().running == {}


@over_the_bench
async def test_who_has_joined_launches_what_the_first_one_gave_up(bench: Bench) -> None:
    engine = bench.engine()
    one, two = engine.begin(stack(CHAIN, "a")), engine.begin(stack(CHAIN, "a"))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    await one.unwind()
    await settled(two)
    assert two.errors == {}
    assert two.running() == ["core", "a"]


@over_the_bench
async def test_one_that_was_ready_and_dies_holds_back_who_has_not_begun(bench: Bench) -> None:
    text = (
        f"core: {{cmd: {STAYS}}}\nslow: {{cmd: {STAYS}, ready_check: 'false', depends: [core]}}\n"
        f"top: {{cmd: {STAYS}, depends: [core, slow]}}"
    )
    run = bench.engine().begin(stack(text))
    await asyncio.sleep(0.05)
    bench.machine().end("core", signal=11)
    await asyncio.sleep(0.05)
    assert isinstance(run.errors["core"], ProcessDied)
    assert isinstance(run.errors["top"], NotStarted)
    await run.unwind()


@over_the_bench
async def test_stop_of_whoever_started_it_all_at_once(bench: Bench) -> None:
    await settled(bench.engine().begin(stack(CHAIN)))
    inv = inventory.read(CHAIN)
    named = {name: inv.place_of_process(name) for name in ("a", "b", "core")}
    done = await bench.engine().stop(named)
    assert bench.machine().names("stop") == [("a", "b", "core")]
    assert all(isinstance(change, Change) and change.signal == 2 for change in done.values())
    again = await bench.engine().stop({"a": named["a"]}, force=True)
    assert isinstance(again["a"], Change)
    assert again["a"].reason == "was not running"
    assert bench.machine().names("kill") == [("a",)]


@over_the_bench
async def test_stop_where_nobody_is_reached(bench: Bench) -> None:
    bench.machine("x").reachable = False
    inv = inventory.read(f"a: {{cmd: {STAYS}, machine: x}}\nb: {{cmd: {STAYS}}}")
    done = await bench.engine().stop({name: inv.place_of_process(name) for name in "ab"})
    assert isinstance(done["a"], Unreachable)
    assert str(done["a"]).startswith("a: connect")
    assert isinstance(done["b"], Change)


@over_the_bench
async def test_hurry_kills_what_does_not_end(bench: Bench) -> None:
    run = bench.engine().begin(stack(CHAIN, "core"))
    await settled(run)
    bench.machine().stubborn = True
    ending = asyncio.ensure_future(run.unwind())
    await asyncio.sleep(0.05)
    assert not ending.done()
    run.hurry()
    assert await ending == []
    assert bench.machine().names("kill") == [("core",)]


HOSTS = f"""
hosts:
  lab: {{machine: x, depends: [sim]}}
  arm: {{machine: y, depends: [lab]}}
processes:
  sim: {{cmd: {STAYS}}}
  nav: {{cmd: {STAYS}, depends: [arm]}}
"""


@over_the_bench
async def test_hosts_are_brought_up_when_it_is_their_turn(bench: Bench) -> None:
    order: list[str] = []

    async def open_host(spec: Any) -> None:
        order.append(f"open {spec.name} with {[key.name for key in bench.machine().running]}")

    async def close_host(name: str) -> list[str]:
        order.append(f"close {name} with {[key.name for key in bench.machine().running]}")
        return [f"{name}: something is left"]

    run = bench.engine().begin(stack(HOSTS, "nav"), open_host=open_host)
    await run.before("arm")
    await settled(run)
    assert order == ["open lab with ['sim']", "open arm with ['sim']"]
    left = await run.unwind(close_host=close_host)
    assert order[2:] == ["close arm with ['sim']", "close lab with ['sim']"]
    assert left == ["arm: something is left", "lab: something is left"]
    assert bench.machine().running == {}


@over_the_bench
async def test_a_host_that_does_not_come_up(bench: Bench) -> None:
    async def open_host(spec: Any) -> None:
        raise LauncherError("no server")

    run = bench.engine().begin(stack(HOSTS, "nav"), open_host=open_host)
    with pytest.raises(NotStarted):
        await run.before("arm")
    await settled(run)
    assert set(run.errors) == {"lab", "arm", "nav"}
    assert run.running() == ["sim"]


@over_the_bench
async def test_who_waits_for_something_that_is_given_up_is_told(bench: Bench) -> None:
    text = HOSTS.replace(f"sim: {{cmd: {STAYS}}}", f"sim: {{cmd: {STAYS}, ready_check: 'false'}}")
    run = bench.engine().begin(stack(text, "arm"))
    waiting = asyncio.ensure_future(run.before("arm"))
    await asyncio.sleep(0.05)
    await run.unwind()
    with pytest.raises(LauncherError, match="given up"):
        await asyncio.wait_for(waiting, 5)


@over_the_bench
async def test_a_listener_of_one_run_hears_it_alone_and_may_fail(bench: Bench) -> None:
    engine, heard = bench.engine(), list[str]()

    def listen(event: Event) -> None:
        heard.append(event.name)
        raise RuntimeError("a broken listener")

    one = engine.begin(stack(CHAIN, "core"), on_event=listen)
    two = engine.begin(stack("x: {cmd: exec sleep 300}"))
    await asyncio.gather(settled(one), settled(two))
    assert set(heard) == {"core"}
    assert {event.name for event in bench.events} == {"core", "x"}


@over_the_bench
async def test_a_stop_goes_on_over_a_new_connection(bench: Bench) -> None:
    engine = bench.engine(patience=5.0)
    await settled(engine.begin(stack(CHAIN, "core")))
    bench.machine().sites[0].cut = True  # nobody has noticed yet
    spec = inventory.read(CHAIN).place_of_process("core")
    done = await engine.stop({"core": spec})
    assert isinstance(done["core"], Change), done
    assert bench.machine().running == {}
    assert bench.machine().opened == 2


@over_the_bench
async def test_what_is_told_late_of_an_earlier_launch_is_not_of_this_one(bench: Bench) -> None:
    engine = bench.engine()
    await settled(engine.begin(stack(CHAIN, "core")))
    ((key, first),) = bench.machine().running.items()
    await engine.stop({"core": inventory.read(CHAIN).place_of_process("core")})
    run = engine.begin(stack(CHAIN, "core"))
    await asyncio.sleep(0)
    bench.machine().tell(Change(key, State.STOPPED))
    await settled(run)
    bench.machine().tell(Change(key, State.DEAD, code=1, token=first.token))
    assert run.errors == {}
    assert run.running() == ["core"]
