"""The stop script and a real server, which says itself whether it is in use: nothing is lost in between."""

from __future__ import annotations

import contextlib
import os
import secrets
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
from server_tools import until
from v2client import CLIENT

from launcher import plan, scripts

ME = {"user": "ann", "machine": "desk"}
WITHIN = 30.0


class Stopper:
    """Runs the script as a machine does, without SSH; a home of its own for the archived logs."""

    def __init__(self, home: Path) -> None:
        self.environ = {**os.environ, "HOME": str(home)}

    def __call__(self, server, mode: str, but=None, patience: float = 3.0) -> plan.Stopped:
        nonce = secrets.token_hex(8)
        script = scripts.stop("run", base=str(server.dir), nonce=nonce, mode=mode, but=but or {},
                              patience=patience)  # fmt: skip
        done = subprocess.run(["sh"], input=script, capture_output=True, timeout=WITHIN, env=self.environ)
        reply = plan.parse_reply(done.stdout, nonce)
        assert reply is not None, done
        return plan.read_stop("lab-pc", reply, but)

    def aside(self, *arguments) -> tuple[threading.Thread, list[plan.Stopped]]:
        """Begun, in a thread of its own."""
        found: list[plan.Stopped] = []
        thread = threading.Thread(target=lambda: found.append(self(*arguments)))
        thread.start()
        return thread, found


@pytest.fixture
def stop(tmp_path):
    return Stopper(tmp_path)


@pytest.fixture
def server(start):
    made = start("--ephemeral")
    until(lambda: (made.run_dir / "endpoint.json").exists())
    return made


def test_who_uses_it_is_named_the_moment_they_do(server, stop):
    client = server.v2()
    for _ in range(3):
        assert client.hello()["ok"]
        used = stop(server, "unused")
        assert used.how == "used" and not used.silent
        assert used.users == (f"robot@lab-pc (pid {os.getpid()}) for test",)
        assert client.ok("bye", release=False)
        client.session = secrets.token_hex(8)
    assert stop(server, "unused").how == "graceful"
    assert server.wait() == 0


def test_kept_counts_unless_it_is_mine_to_kill(server, stop):
    server.v2().ok("keep", seconds=60)
    assert stop(server, "unused").how == stop(server, "release").how == "used"
    done = stop(server, "mine", ME)
    assert done.how == "graceful" and not done.silent and done.kept
    assert server.wait() == 0


def test_my_own_session_is_no_obstacle(server, stop):
    mine, theirs = server.v2(), server.v2()
    mine.open(client={"version": "0", "pid": 1, "what": "", **ME})
    theirs.open()
    used = stop(server, "mine", ME)
    assert used.how == "used" and len(used.sessions) == 2 and len(used.users) == 1
    theirs.ok("bye", release=False)
    done = stop(server, "mine", ME)
    assert done.how == "graceful" and done.users == ("ann@desk (pid 1)",)
    assert server.wait() == 0


def test_a_release_waits_for_who_is_about_to_go(server, stop):
    client = server.v2().open()
    thread, found = stop.aside(server, "release", {"id": "x"}, 20.0)
    until(lambda: list(server.run_dir.glob("answer.*")))
    client.ok("bye", release=False)
    thread.join(WITHIN)
    assert found[0].how == "graceful" and server.wait() == 0


def test_one_that_is_frozen_is_judged_by_what_it_wrote_last(server, stop):
    client = server.v2().open()
    until(lambda: "robot" in (server.run_dir / "state.json").read_text())
    front = server.processes()["front"]
    os.kill(front, signal.SIGSTOP)
    used = stop(server, "unused")
    assert used.how == "used" and used.silent
    os.kill(front, signal.SIGCONT)
    assert client.call("ping", seen=0)["ok"], "a question that nobody waits for any more stops nothing"
    client.ok("bye", release=False)
    until(lambda: '"sessions": []' in (server.run_dir / "state.json").read_text())
    for pid in server.processes().values():
        with contextlib.suppress(ProcessLookupError):  # the keeper is just ending
            os.kill(pid, signal.SIGSTOP)
    done = stop(server, "unused")
    assert done.how == "graceful" and done.silent


def test_an_older_one_is_judged_by_what_it_wrote_last(server, stop):
    (server.run_dir / "ask").unlink()
    done = stop(server, "unused")
    assert done.how == "graceful" and done.silent and server.wait() == 0


@pytest.mark.parametrize("mode", ["unused", "mine", "force"])
def test_two_stops_at_once(server, stop, mode):
    both = [stop.aside(server, mode, ME) for _ in range(2)]
    for thread, _ in both:
        thread.join(WITHIN)
    assert all(found[0].how in ("graceful", "none", "dead") and not found[0].left for _, found in both), both
    assert server.wait() == 0


@pytest.mark.parametrize("rounds", [8, pytest.param(60, marks=pytest.mark.slow)])
def test_a_session_that_begins_at_the_same_moment(start, stop, rounds):
    """It is there, and the server stays; or it is refused, and the server goes. Nothing in between."""
    outcomes, server = [], None
    for number in range(rounds):
        if server is None:
            server = start("--ephemeral")
            until(lambda made=server: (made.run_dir / "ask").exists() and (made.run_dir / "sock").exists())
        client = server.v2()
        thread, found = stop.aside(server, "unused")
        # it may have been answered between two looks
        until(lambda at=server, by=thread: list(at.run_dir.glob("answer.*")) or not by.is_alive(), WITHIN)
        time.sleep(0.0005 * (number % 4))
        sessions = {}
        while thread.is_alive() and len(sessions) < 100:  # one after the other, until it is over
            client.session = f"{number}-{len(sessions)}"
            sessions[client.send("hello", client=CLIENT, seen=None, lease=None)] = client.session
            client.pump(0)
        thread.join(WITHIN)
        done = found[0]
        assert done.how in ("used", "graceful") and not done.left and not done.silent, done
        outcomes.append(done.how)
        if done.how == "graceful":
            assert server.wait() == 0
            while client.pump(0):
                pass
            assert not [reply for reply in client.replies.values() if reply["ok"]], "begun, and ended"
            server = None
        else:
            for asked, client.session in sessions.items():
                assert client.wait(asked)["ok"]
                client.ok("bye", release=False)
    assert "graceful" in outcomes, outcomes


@pytest.mark.parametrize("rounds", [4, pytest.param(30, marks=pytest.mark.slow)])
def test_a_server_that_ends_by_itself_at_the_same_moment(start, stop, rounds):
    for number in range(rounds):
        server = start("--ephemeral")
        until(lambda made=server: (made.run_dir / "endpoint.json").exists())
        client = server.v2()
        assert client.hello()["ok"]
        client.send("bye", release=True)
        time.sleep(0.002 * number)
        done = stop(server, "release", ME)
        assert done.how in ("graceful", "none", "dead") and not done.left and not done.silent, done
        assert server.wait() == 0
