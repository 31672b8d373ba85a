"""launcher.processes.site on this machine: real sh, real tmux."""

from __future__ import annotations

import asyncio
import os
import shlex
import shutil
import signal
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from sitebed import Bed, go, soon, until

from launcher.errors import InventoryError, StartFailed
from launcher.model import ReadyCheck, State
from launcher.processes.model import Key
from launcher.processes.wrapping import BEHIND_S, ENDS_S

READY, DEAD, STOPPED, CONFLICT = State.READY, State.DEAD, State.STOPPED, State.CONFLICT
NASTY = "'; touch /tmp/se-pwned; echo '$(id)`id`\n\"$HOME\" \\ ü {x} \x01"


@pytest.fixture
def bed() -> Iterator[Bed]:
    made = Bed()
    try:
        yield made
        left = until(lambda: not made.leftovers(), 20) or made.leftovers()
    finally:
        made.close()
    assert left is True


def test_a_process_runs_is_ready_and_is_stopped(bed):
    async def work() -> None:
        async with bed.site() as (site, heard):
            launch = bed.launch("a b", "echo here; exec sleep 1000", env={"A": "1"})
            await site.start([launch])
            ready = await heard.until("a b", READY)
            assert heard.states("a b") == ["starting", "running", "ready"]
            assert ready.ours and ready.token == launch.token
            (run,) = Path(bed.base, ".processes/se").iterdir()
            assert (run / "state").read_text().startswith("ready ")
            pid = int((run / "pid").read_text().split()[0])
            assert Path(f"/proc/{pid}/cmdline").read_bytes() == b"sleep\x001000\x00"
            assert bed.tmux("list-windows", "-a", "-F", "#{@se_remote_process}") == f"se/{run.name}\n"
            (change,) = (await site.stop([launch.key])).values()
            assert (change.state, change.forced, change.left) == (STOPPED, False, ())
            assert not Path(f"/proc/{pid}").exists() and not run.exists()
            (log,) = (bed.archive / "se" / run.name).glob("*-stopped.log")
            assert log.read_text() == "here\n"
            await heard.until("a b", STOPPED)

    go(work())


@pytest.mark.parametrize(
    ("cmd", "code", "number"),
    [
        ("exit 3", 3, None),
        ("true; false", 1, None),
        ("false; true", 0, None),
        ("kill -SEGV $$", None, 11),
        ("sh -c 'kill -9 $$'", None, 9),
        ("/no/such/thing", 127, None),
        ("echo 'open quote", 1, None),
    ],
)
def test_how_it_ended_is_told_truly(bed, cmd, code, number):
    async def work() -> None:
        async with bed.site() as (site, heard):
            await site.start([bed.launch("x", f"echo last words >&2\n{cmd}", persistent=True)])
            dead = await heard.until("x", DEAD)
            if cmd.startswith("echo 'open"):
                assert dead.code not in (0, None)
            else:
                assert (dead.code, dead.signal) == (code, number)
                assert dead.tail[0] == "last words"
            assert bed.run("x").exists(), "it stays for whoever comes to look"
            assert bed.tmux("list-windows", "-a", "-F", "#{@se_remote_process}") == "se/x\n"

    go(work())


def test_nothing_truncates_the_log_and_nobody_breaks_its_pipe(bed):
    """Scripts often say `> /dev/stderr`, which opens what stands there once more."""

    async def work() -> None:
        async with bed.site() as (site, heard):
            cmd = "echo 1; echo 2 > /dev/stderr; echo 3 > /dev/stdout; read -r x; seq 4 99999; sleep 300"
            launch = bed.launch("x", f"trap 'echo 100000; exit 7' INT; {cmd}")
            await site.start([launch])
            await heard.until("x", READY)
            assert await soon(lambda: bed.log("x") == b"1\n2\n3\n")
            (taking,) = [pid for pid, text in bed.marked().items() if text == "cat " and _reads(pid, "x")]
            os.kill(taking, signal.SIGKILL)
            bed.tmux("send-keys", "-t", "=se:=x", "go", "Enter")
            assert await soon(lambda: bed.log("x").endswith(b"\n99999\n"))
            (change,) = (await site.stop([launch.key])).values()
            assert not change.forced
            (log,) = bed.archived("x")
            assert log.read_text().split() == [str(number) for number in range(1, 100001)]

    go(work())


def _reads(pid: int, name: str) -> bool:
    try:
        return os.readlink(f"/proc/{pid}/fd/0").endswith(f"/se/{name}/out")
    except OSError:
        return False


def test_what_it_said_last_is_told_even_when_the_pipe_is_slow(bed):
    async def work() -> None:
        async with bed.site() as (site, heard):
            await site.start([bed.launch("x", "sleep 1000 & read -r x; echo last words; exit 7")])
            await heard.until("x", READY)
            pid = int((bed.run("x") / "pid").read_text().split()[0])
            (taking,) = [pid for pid, text in bed.marked().items() if text == "cat " and _reads(pid, "x")]
            os.kill(taking, signal.SIGSTOP)
            bed.tmux("send-keys", "-t", "=se:=x", "go", "Enter")
            assert await soon(lambda: Path(f"/proc/{pid}/stat").exists() is False)
            os.kill(taking, signal.SIGCONT)
            dead = await heard.until("x", DEAD)
            assert (dead.code, dead.tail) == (7, ("last words",))

    go(work())


def test_a_one_shot_is_done_and_leaves_its_log(bed):
    async def work() -> None:
        async with bed.site() as (site, heard):
            good = bed.launch("good", "echo done", persistent=False)
            bad = bed.launch("bad", "echo oops; exit 4", persistent=False)
            await site.start([good, bad])
            assert (await heard.until("good", STOPPED)).code == 0
            dead = await heard.until("bad", DEAD)
            assert (dead.code, dead.tail) == (4, ("oops",))
            assert await soon(lambda: not bed.run("good").exists())
            (log,) = bed.archived("good")
            assert log.read_text() == "done\n" and log.name.endswith("-done.log")
            # asked again, as after a lost connection: never a second time
            heard.changes.clear()
            await site.start([good, bad])
            assert (await heard.until("good", STOPPED)).code == 0
            assert (await heard.until("bad", DEAD)).code == 4
            assert heard.states("good") == ["stopped"] and heard.states("bad") == ["dead"]
            assert len(bed.archived("good")) == 1

    go(work())


def test_nothing_of_a_command_is_run_elsewhere_and_all_of_it_there(bed):
    async def work() -> None:
        async with bed.site() as (site, heard):
            cmd = "printf '%s\\n' \"$A\" 'single $x' \"dou\\\"ble\" {a,b} ü\nprintf '%s' second; sleep 1000"
            launch = bed.launch(
                f"n {NASTY}", cmd, env={"A": NASTY}, setup=f": {shlex.quote(NASTY)}", what=NASTY
            )
            await site.start([launch])
            await heard.until(f"n {NASTY}", READY)
            (run,) = Path(bed.base, ".processes/se").iterdir()
            assert await soon(lambda: b"second" in (run / "log").read_bytes())
            expected = f'{NASTY}\nsingle $x\ndou"ble\na\nb\nü\nsecond'
            assert (run / "log").read_text() == expected
            assert not Path("/tmp/se-pwned").exists()

    go(work())


CHECKS = {
    "log": ("sleep 0.3; echo 'now it is UP'; sleep 1000", ReadyCheck(log="is (UP|up)$")),
    "file": ('sleep 0.3; touch "$HOME/a b"; sleep 1000', ReadyCheck(file="~/a b")),
    "command": (
        "sleep 0.3; touch $MARK; sleep 1000",
        ReadyCheck(command="[ -e $MARK ] && [ $IN_SETUP = 1 ]"),
    ),
}


@pytest.mark.parametrize("kind", list(CHECKS))
def test_ready_when_its_check_says_so(bed, kind):
    cmd, check = CHECKS[kind]

    async def work() -> None:
        async with bed.site() as (site, heard):
            env = {"MARK": str(bed.directory / "mark")}
            await site.start([bed.launch("x", cmd, ready_check=check, env=env, setup="IN_SETUP=1")])
            await heard.until("x", State.RUNNING)
            never = bed.launch("never", "sleep 1000", ready_check=ReadyCheck(log="is UP"))
            await site.start([never])
            await heard.until("x", READY)
            assert "ready" not in heard.states("never")

    go(work())


def test_ready_when_somebody_listens_on_its_port(bed):
    async def work() -> None:
        async with bed.site() as (site, heard):
            with socket.socket() as free:
                free.bind(("127.0.0.1", 0))
                port = free.getsockname()[1]
            await site.start([bed.launch("x", "sleep 1000", ready_check=ReadyCheck(port=port))])
            await heard.until("x", State.RUNNING)
            await asyncio.sleep(0.6)
            assert heard.states("x")[-1] == "running"
            with socket.socket() as busy:
                busy.bind(("127.0.0.1", port))
                busy.listen()
                await heard.until("x", READY)

    go(work())


def test_a_check_that_runs_does_not_hold_up_a_stop_and_is_ended_with_it(bed):
    async def work() -> None:
        async with bed.site() as (site, _heard):
            check = ReadyCheck(command="touch ~/checking; sleep 777 & sleep 778")
            launch = bed.launch("x", "sleep 1000", ready_check=check)
            await site.start([launch])
            assert await soon(lambda: (bed.home / "checking").exists())
            (change,) = (await site.stop([launch.key], grace=60.0)).values()
            assert change.state is STOPPED and not change.forced
            assert not [text for text in bed.marked().values() if "sleep 77" in text]

    go(work())


@pytest.mark.slow
def test_a_check_that_hangs_is_ended_with_all_it_started_and_asked_again(bed):
    async def work() -> None:
        async with bed.site() as (site, heard):
            text = "if [ -e ~/second ]; then exit 0; fi; touch ~/second; sleep 777 & sleep 778"
            await site.start([bed.launch("x", "sleep 1000", ready_check=ReadyCheck(command=text))])
            await heard.until("x", READY)
            assert not [text for text in bed.marked().values() if "sleep 77" in text]

    go(work())


def test_setup_that_fails_is_named_and_the_command_not_run(bed):
    async def work() -> None:
        async with bed.site() as (site, heard):
            await site.start([bed.launch("x", "touch ~/ran", setup="echo wrong here\nfalse")])
            dead = await heard.until("x", DEAD)
            assert dead.reason == "`setup` failed" and dead.tail == ("wrong here",) and dead.code == 1
            assert not (bed.home / "ran").exists()

    go(work())


def test_two_at_once_start_one_and_another_configuration_is_a_conflict(bed):
    async def work() -> None:
        async with bed.site() as (one, heard), bed.site() as (two, also):
            cmd = "echo started >>~/starts; sleep 1000"
            first, second = bed.launch("x", cmd), bed.launch("x", cmd)
            await asyncio.gather(one.start([first]), two.start([second]))
            told = [await heard.until("x", READY), await also.until("x", READY)]
            assert sorted(change.ours for change in told) == [False, True]
            assert (bed.home / "starts").read_text() == "started\n"
            await two.start([bed.launch("x", cmd, config_hash="other", token="third")])
            conflict = await also.until("x", CONFLICT)
            assert "me@here" in conflict.reason
            assert conflict.token == "third" and not conflict.ours
            assert heard.changes[-1].state is READY
            # stopped by one, the other hears of it
            assert (await one.stop([first.key], tokens={first.key: "nobody's"}))[first.key].state is STOPPED
            assert bed.run("x").exists(), "it is another's"
            await one.stop([first.key])
            await also.until("x", STOPPED)

    go(work())


def test_a_window_that_is_not_ours_is_a_conflict_and_left_alone(bed):
    async def work() -> None:
        async with bed.site() as (site, heard):
            await site.start([bed.launch("first", "sleep 1000")])
            await heard.until("first", READY)
            bed.tmux("new-window", "-d", "-t", "=se:", "-n", "x", "sleep", "1000")
            await site.start([bed.launch("x", "touch ~/ran"), bed.launch("y", "sleep 1000")])
            conflict = await heard.until("x", CONFLICT)
            assert "not ours" in conflict.reason
            await heard.until("y", READY)
            await site.stop([Key("se", "x")])
            assert "x" in bed.tmux("list-windows", "-a", "-F", "#{window_name}").split()
            assert not (bed.home / "ran").exists()
            bed.tmux("kill-window", "-t", "=se:=x")

    go(work())


def test_stop_ends_what_is_stubborn_and_what_left_the_group(bed):
    async def work() -> None:
        async with bed.site() as (site, heard):
            stubborn = "trap '' INT QUIT TERM; setsid sleep 771 & while :; do sleep 0.1; done"
            left = bed.launch("gone", "setsid -f sh -c 'sleep 772'; exit 5")
            polite = bed.launch("polite", "trap 'echo bye; exit' INT; while :; do sleep 0.05; done")
            quits = bed.launch(
                "quits", "trap '' INT; trap 'echo quit; exit' QUIT; while :; do sleep 0.05; done"
            )
            hard = bed.launch("x", stubborn)
            launches = [hard, left, polite, quits]
            await site.start(launches)
            await heard.until("gone", DEAD)
            for name in ("x", "polite", "quits"):
                await heard.until(name, READY)
            keys = [launch.key for launch in launches]
            done = await site.stop(keys, grace=1.0, quit=[quits.key])
            assert {key.name: (change.state, change.forced) for key, change in done.items()} == {
                "x": (STOPPED, True),
                "gone": (DEAD, False),
                "polite": (STOPPED, False),
                "quits": (STOPPED, False),
            }
            assert done[left.key].code == 5
            assert not [text for text in bed.marked().values() if "sleep 77" in text]
            assert bed.archived("polite")[0].read_text() == "bye\n"
            assert "quit\n" in bed.archived("quits")[0].read_text()

    go(work())


def test_who_kills_does_not_wait_for_who_asks(bed):
    async def work() -> None:
        async with bed.site() as (site, heard):
            launch = bed.launch("x", "trap '' INT TERM; while :; do sleep 0.1; done")
            await site.start([launch])
            await heard.until("x", READY)
            gently = asyncio.ensure_future(site.stop([launch.key], grace=60.0))
            await heard.until("x", State.STOPPING)
            done = await asyncio.wait_for(site.stop([launch.key], force=True), 20)
            assert done[launch.key].forced
            assert (await asyncio.wait_for(gently, 20))[launch.key].state is STOPPED

    go(work())


def test_a_tmux_that_was_stopped_keeps_no_window(bed):
    async def work() -> None:
        async with bed.site() as (site, heard):
            launch = bed.launch("x", "exec sleep 1000")
            await site.start([launch])
            await heard.until("x", READY)
            (server,) = [pid for pid, text in bed.marked().items() if text.startswith("tmux ")]
            os.kill(server, signal.SIGSTOP)
            assert (await site.stop([launch.key]))[launch.key].state is STOPPED

    go(work())


def test_force_kills_at_once(bed):
    async def work() -> None:
        async with bed.site() as (site, heard):
            launch = bed.launch("x", "trap 'touch ~/asked; exit' INT TERM; while :; do sleep 0.05; done")
            await site.start([launch])
            await heard.until("x", READY)
            done = await site.stop([launch.key, Key("se", "nobody")], force=True)
            assert done[launch.key].forced and not (bed.home / "asked").exists()
            assert done[Key("se", "nobody")].reason == "was not running"

    go(work())


@pytest.mark.parametrize(
    "how", ["kill-server", *(pytest.param(how, marks=pytest.mark.slow) for how in ("kill-window", "wrapper"))]
)
def test_without_its_window_or_wrapper_it_ends_and_says_why(bed, how):
    async def work() -> None:
        async with bed.site() as (site, heard):
            cmd = "trap '' HUP; setsid sleep 771 & while :; do sleep 0.1; done"
            await site.start([bed.launch("x", cmd)])
            await heard.until("x", READY)
            if how == "wrapper":
                os.kill(int((bed.run("x") / "wrapper").read_text().split()[0]), signal.SIGKILL)
            else:
                bed.tmux(*([how] if how == "kill-server" else [how, "-t", "=se:=x"]))
            dead = await heard.until("x", DEAD)
            assert dead.reason == ("its wrapper was killed" if how == "wrapper" else "its window was closed")
            assert await soon(lambda: not [t for t in bed.marked().values() if "sleep 771" in t])
            assert (bed.run("x") / "state").read_text().startswith("dead ")
            # and it can be started again
            await site.start([bed.launch("x", "sleep 1000")])
            await heard.until("x", READY)

    go(work())


def test_what_a_dead_one_left_is_ended_before_the_next_starts(bed):
    async def work() -> None:
        async with bed.site() as (site, heard):
            await site.start([bed.launch("x", "setsid sleep 771 & while :; do sleep 0.1; done")])
            await heard.until("x", READY)
            for name in ("guard", "wrapper"):
                os.kill(int((bed.run("x") / name).read_text().split()[0]), signal.SIGKILL)
            await site.start([bed.launch("x", "exec sleep 772")])
            assert await soon(
                lambda: heard.states("x")[-1] == "ready" and heard.states("x").count("ready") == 2
            )
            running = [text for text in bed.marked().values() if "sleep 77" in text]
            assert running == ["sleep 772 "]

    go(work())


def test_a_lease_that_is_not_kept_ends_what_lives_by_it(bed):
    async def work() -> None:
        async with bed.site() as (site, heard):
            await site.lease("l 1", 2.0)
            with pytest.raises(ValueError):
                await site.start([bed.launch("x", "sleep 1000", lease="other")])
            await site.start([bed.launch("x", "sleep 1000", lease="l 1"), bed.launch("stays", "sleep 1000")])
            await heard.until("x", READY)
            await asyncio.sleep(3.2)
            assert heard.states("x")[-1] == "ready", "it is kept"
        async with bed.site(clean=False) as (site, heard):
            await site.lease("l 2", 2.0)
            await site.start([bed.launch("y", "sleep 1000", lease="l 2"), bed.launch("stays", "sleep 1000")])
            await heard.until("y", READY)
            await heard.until("stays", READY)
        # closed without a word
        async with bed.site() as (site, heard):
            assert await soon(lambda: not bed.run("y").exists())
            assert bed.run("stays").exists()
            await site.stop([Key("se", "stays")])

    go(work())


def test_a_regular_expression_that_grep_refuses_is_told(bed):
    async def work() -> None:
        async with bed.site() as (site, heard):
            await site.start([bed.launch("x", "echo up; sleep 1000", ready_check=ReadyCheck(log="up("))])
            assert await soon(lambda: any(change.reason for change in heard.changes))
            change = heard.changes[-1]
            assert change.state is State.RUNNING and change.reason.startswith(
                "its ready_check cannot succeed:"
            )
            assert b"grep: " in bed.log("x")

    go(work())


@pytest.mark.slow
def test_a_check_that_hangs_says_so_and_where(bed):
    """`setup` passes the first time only."""

    async def work() -> None:
        async with bed.site() as (site, heard):
            setup, check = "[ ! -e ~/set ] || sleep 1000; touch ~/set", ReadyCheck(command="true")
            await site.start(
                [
                    bed.launch("x", "sleep 1000", setup=setup, ready_check=check),
                    bed.launch("y", "sleep 1000", ready_check=ReadyCheck(command="sleep 1000")),
                ]
            )
            assert await soon(lambda: len([change for change in heard.changes if change.reason]) == 2)
            told = {change.key.name: change.reason for change in heard.changes if change.reason}
            assert told["x"] == "its ready_check hangs in `setup`: it is ended after 10 s"
            assert told["y"] == "its ready_check hangs: it is ended after 10 s"

    go(work())


def test_what_setup_sets_keeps_neither_the_process_nor_its_check(bed):
    """The second check finds what the first has written."""

    async def work() -> None:
        async with bed.site() as (site, heard):
            check = ReadyCheck(command="[ -e ~/looked ] || { touch ~/looked; exit 1; }")
            await site.start([bed.launch("x", "sleep 1000", setup="set -eC", ready_check=check)])
            await heard.until("x", READY)

    go(work())


def noting(name: str, first: str = ":") -> str:
    """A command that writes its name into ~/order when it is interrupted."""
    return f"trap '{first}; echo {name} >>~/order; exit 0' INT; while :; do sleep 0.1; done"


def test_when_a_lease_is_over_what_needs_another_ends_first(bed):
    nav, user = Key("se", "nav 1"), Key("se", "user")

    async def work() -> None:
        async with bed.site(clean=False) as (site, heard):
            await site.lease("l", 2.0)
            launches = [
                bed.launch("core", noting("core"), lease="l", behind=(nav, user)),
                bed.launch("nav 1", noting("nav", "sleep 0.7"), lease="l", behind=(user,)),
                bed.launch("user", noting("user", "sleep 0.7"), lease="l"),
            ]
            await site.start(launches)
            for launch in launches:
                await heard.until(launch.key.name, READY)
        assert await soon(lambda: not bed.run("core").exists())
        assert (bed.home / "order").read_text().split() == ["user", "nav", "core"]

    go(work())


def test_a_process_ends_behind_the_server_that_needs_it(bed):
    """Whose last command may still go through it."""

    async def work() -> None:
        async with bed.site(clean=False) as (site, heard):
            await site.lease("l", 2.0)
            await site.start([bed.launch("core", noting("core"), lease="l", behind=("lab-pc",))])
            await heard.until("core", READY)
            server = subprocess.Popen(["sleep", "1000"], env=bed.environ)
            start = Path(f"/proc/{server.pid}/stat").read_text().rpartition(") ")[2].split()[19]
            boot = Path("/proc/sys/kernel/random/boot_id").read_text()
            room = Path(bed.base, "lab-pc")
            room.mkdir()
            (room / "pid").write_text(f"{server.pid} {start} {boot}")
            await site.release("l")
            assert not await soon(lambda: (bed.home / "order").exists(), 2)
            server.kill()
            server.wait()
            assert await soon(lambda: not bed.run("core").exists())
            shutil.rmtree(room)

    go(work())


@pytest.mark.slow
def test_one_that_does_not_end_holds_no_other_for_ever(bed):
    async def work() -> None:
        async with bed.site() as (site, heard):
            await site.lease("l", 2.0)
            stays = bed.launch("stays", "sleep 1000")
            deaf = bed.launch(
                "deaf", "trap '' INT TERM; while :; do date >~/deaf; sleep 0.1; done", lease="l"
            )
            launches = [
                stays, deaf,
                bed.launch("below", noting("below"), lease="l", behind=(stays.key, deaf.key)),
                bed.launch("core", noting("core"), lease="l", behind=(deaf.key,)),
            ]  # fmt: skip
            await site.start(launches)
            for launch in launches:
                await heard.until(launch.key.name, READY)
            await site.release("l")
            assert await soon(lambda: not bed.run("below").exists(), BEHIND_S + ENDS_S + 10)
            assert bed.run("stays").exists() and not bed.run("deaf").exists()
            assert (bed.home / "order").read_text().split() == ["core", "below"]
            assert (bed.home / "deaf").stat().st_mtime < (bed.home / "order").stat().st_mtime

    go(work())


@pytest.mark.slow
def test_who_comes_back_finds_what_waits_alive(bed):
    async def work() -> None:
        async with bed.site(clean=False) as (site, heard):
            await site.lease("l", 2.0)
            nav = bed.launch("nav", noting("nav", "until [ -e ~/go ]; do sleep 0.1; done"), lease="l")
            core = bed.launch("core", noting("core"), lease="l", behind=(nav.key,))
            await site.start([core, nav])
            await heard.until("nav", READY)
        assert await soon(lambda: (bed.run("nav") / "reason").exists())
        async with bed.site() as (site, heard):
            await site.lease("m", 2.0)
            await site.start([bed.launch("core", noting("core"), lease="m")])
            (bed.home / "go").touch()
            assert await soon(lambda: not bed.run("nav").exists())
            assert await soon(lambda: heard.changes[-1].ours), "it is given on to who came"
            assert (await heard.until("core", READY)).ours

    go(work())


@pytest.mark.slow
def test_a_lease_goes_on_at_the_next_site_and_ends_when_it_is_released(bed):
    async def work() -> None:
        launch = bed.launch("y", "sleep 1000", lease="l")
        async with bed.site(clean=False) as (site, heard):
            await site.lease("l", 3.0)
            await site.start([launch])
            await heard.until("y", READY)
        async with bed.site() as (site, heard):
            await site.lease("l", 3.0)
            await site.start([launch])
            assert (await heard.until("y", READY)).ours
            await asyncio.sleep(4.5)
            assert heard.states("y") == ["ready"]
            await site.release("l")
            assert "lease" in (await heard.until("y", DEAD)).reason

    go(work())


def test_the_rc_file_is_read_once_however_many_want_it(bed):
    # as bash-completion does it: extended patterns in functions
    rc = 'shopt -s extglob; echo noise; sleep 0.3; echo read >>~/reads\nalias hello="echo from alias"\n'
    rc += 'f() { case $1 in @(x|y)) echo "f $1";; esac; }\nA=rc; export A B=rc\nset -eu\nreadonly R=1'
    (bed.home / ".bashrc").write_text(rc)

    async def work() -> None:
        async with bed.site() as (site, heard):
            cmd = "hello; f x; echo $A $B; sleep 1000"
            check = ReadyCheck(command="hello >/dev/null && [ $A = rc ]")
            launches = [
                bed.launch(f"p{n}", cmd, login=True, env={"B": "own"}, ready_check=check) for n in range(3)
            ]
            await asyncio.gather(site.start(launches[:2]), site.start(launches[2:]))
            for n in range(3):
                await heard.until(f"p{n}", READY)
                # its check may have passed before it said a word
                assert await soon(lambda n=n: bed.log(f"p{n}") == b"from alias\nf x\nrc own\n")
            assert (bed.home / "reads").read_text() == "read\n"

    go(work())


def test_an_rc_file_that_ends_the_shell_is_named(bed):
    (bed.home / ".bashrc").write_text("echo leaving >&2; exit 3")

    async def work() -> None:
        async with bed.site() as (site, _heard):
            with pytest.raises(StartFailed, match=r"rc file of bash ended the shell.*leaving"):
                await site.start([bed.launch("x", "true", login=True)])

    go(work())


def test_bytes_pass_and_the_window_is_its_standard_input(bed):
    async def work() -> None:
        async with bed.site() as (site, heard):
            cmd = r"printf '\377\376 broken\n'; head -c 1000000 /dev/zero | tr '\0' x; echo"
            cmd += "; read line; echo got $line; sleep 1000"
            await site.start([bed.launch("x", cmd, ready_check=ReadyCheck(log="^got typed"))])
            await heard.until("x", State.RUNNING)
            bed.tmux("send-keys", "-t", "=se:=x", "typed", "Enter")
            await heard.until("x", READY)
            assert bed.log("x") == b"\xff\xfe broken\n" + b"x" * 1_000_000 + b"\ngot typed\n"

    go(work())


def test_tmux_that_is_missing_is_named_and_nothing_is_left(bed, tmp_path):
    for tool in (
        "sh",
        "bash",
        "id",
        "ls",
        "mkdir",
        "rm",
        "mkfifo",
        "cat",
        "date",
        "dd",
        "sed",
        "rmdir",
        "grep",
        "sleep",
        "awk",
        "mv",
    ):
        (tmp_path / tool).symlink_to(shutil.which(tool))
    # whoever hears of it may be gone before its claim is
    (tmp_path / "rm").unlink()
    script = f'#!/bin/sh\ncase $* in */.claims/*) sleep 1 ;; esac\nexec {shutil.which("rm")} "$@"\n'
    (tmp_path / "rm").write_text(script)
    (tmp_path / "rm").chmod(0o755)

    async def work() -> None:
        bed.environ["PATH"] = str(tmp_path)
        async with bed.site() as (site, _heard):
            with pytest.raises(StartFailed, match="tmux: there is no tmux on this machine"):
                await site.start([bed.launch("x", "true")])

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sys.executable", str(tmp_path / "python"))
        go(work())


def test_a_base_that_is_not_ours_is_refused(bed):
    async def work() -> None:
        os.symlink("/tmp", bed.base)
        with pytest.raises(StartFailed, match="symbolic link"):
            async with bed.site():
                pass
        os.unlink(bed.base)

    go(work())


def test_what_no_shell_can_do_is_refused_before_anything_starts(bed):
    async def work() -> None:
        async with bed.site() as (site, _heard):
            for launch in (bed.launch("x", "true", shell="fish"), bed.launch("x", "a\0b")):
                with pytest.raises(InventoryError):
                    await site.start([launch])
            with pytest.raises(StartFailed, match="no shell nosuch"):
                await site.start([bed.launch("x", "true", shell="nosuch")])

    go(work())


def test_names_of_digits_and_other_sessions_do_not_clash(bed):
    async def work() -> None:
        async with bed.site() as (site, heard):
            names = ["7", "0", "x", "=x", "xx"]
            launches = [bed.launch(name, "sleep 1000") for name in names]
            launches += [bed.launch("x", "sleep 1000", session="other session")]
            await site.start(launches)
            for name in names:
                await heard.until(name, READY)
            windows = bed.tmux("list-windows", "-a", "-F", "#{@se_remote_process}").split()
            assert len(set(windows)) == 6 and {"se/7", "se/x", "other_session/x"} <= set(windows)
            await site.stop([Key("se", "x")])
            assert len(bed.tmux("list-windows", "-a", "-F", "#{@se_remote_process}").split()) == 5

    go(work())


SHELLS = {
    "dash": ["dash"],
    "bash": ["bash"],
    "busybox": ["busybox", "sh"],
    "zsh": ["zsh", "--emulate", "sh"],
}


@pytest.mark.parametrize(
    "shell",
    [shell if shell == "busybox" else pytest.param(shell, marks=pytest.mark.slow) for shell in SHELLS],
)
def test_under_every_sh(bed, shell):
    words = SHELLS[shell]
    if shutil.which(words[0]) is None:
        pytest.skip(f"no {words[0]} here")
    tools = bed.directory / "bin"
    tools.mkdir()
    (tools / "sh").write_text(f'#!/bin/sh\nexec {shutil.which(words[0])} {" ".join(words[1:])} "$@"\n')
    (tools / "sh").chmod(0o755)

    async def work() -> None:
        bed.environ["PATH"] = f"{tools}:{bed.environ['PATH']}"
        async with bed.site() as (site, heard):
            check = ReadyCheck(command="[ -e ~/up ]")
            launches = [
                bed.launch(
                    "a b", "touch ~/up; trap '' INT TERM; while :; do sleep 0.1; done", ready_check=check
                ),
                bed.launch(
                    "7",
                    "sleep 1000",
                    ready_check=ReadyCheck(log="never"),
                    shell=words[0] if len(words) == 1 else None,
                ),
                bed.launch("one", "echo $A; exit 0", persistent=False, env={"A": NASTY}),
                bed.launch("dies", "exit 3"),
            ]
            await site.lease("l", 2)
            await site.start(launches)
            await heard.until("a b", READY)
            assert (await heard.until("one", STOPPED)).code == 0
            assert (await heard.until("dies", DEAD)).code == 3
            done = await site.stop([launch.key for launch in launches], grace=0.5)
            assert [change.forced for change in done.values()] == [True, False, False, False]

    go(work())


@pytest.mark.parametrize("leases", [("one", "two"), ("one", ""), ("", "two")])
def test_what_another_needs_too_is_given_on_and_not_stopped(bed, leases):
    async def work() -> None:
        async with bed.site() as (first, _), bed.site() as (second, heard):
            for site, lease in zip((first, second), leases, strict=True):
                if lease:
                    await site.lease(lease, 3)
            begun = bed.launch("x", "sleep 1000", lease=leases[0])
            await first.start([begun])
            joined = bed.launch("x", "sleep 1000", lease=leases[1], what="se-remote run x")
            await second.start([joined])
            await heard.until("x", READY)
            key = begun.key
            (change,) = (await first.stop([key], tokens={key: begun.token})).values()
            assert change.state is READY
            assert "still needs it: me@here for se-remote run x; " in change.reason
            assert change.reason.endswith("to end it for all: se-remote kill x")
            about = (bed.run("x") / "about").read_text().splitlines()
            assert about[2:5] == ["me@here", "se-remote run x", leases[1]], "whose it is now"
            if leases[0]:
                await first.release(leases[0])
            assert await soon(lambda: heard.changes[-1].ours)
            (change,) = (await first.stop([key], tokens={key: begun.token})).values()
            assert "was left alone" in change.reason
            assert (await heard.until("x", READY)).ours
            (change,) = (await second.stop([key], tokens={key: joined.token})).values()
            assert change.state is STOPPED and not change.left

    go(work())


def test_what_was_needed_and_is_no_more_is_stopped(bed):
    async def work() -> None:
        async with bed.site() as (first, _), bed.site() as (second, _heard):
            begun, joined = bed.launch("x", "sleep 1000"), bed.launch("x", "sleep 1000")
            await first.start([begun])
            await second.start([joined])
            await second.stop([joined.key], tokens={joined.key: joined.token})
            (change,) = (await first.stop([begun.key], tokens={begun.key: begun.token})).values()
            assert change.state is STOPPED

    go(work())


def test_who_has_a_lease_left_goes_on_when_another_one_is_over(bed):
    async def work() -> None:
        async with bed.site() as (first, _), bed.site() as (second, heard):
            await first.lease("one", 2)
            await second.lease("two", 2)
            begun = bed.launch("x", "sleep 1000", lease="one")
            await first.start([begun])
            await second.start([bed.launch("x", "sleep 1000", lease="two")])
            await heard.until("x", READY)
            await first.release("one")
            assert await soon(lambda: heard.changes[-1].ours)
            await second.release("two")
            assert "lease was given up" in (await heard.until("x", State.DEAD)).reason

    go(work())
