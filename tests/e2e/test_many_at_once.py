"""Many at once: `up`, `kill` and scenario runs against one host, in random order. Never more than one server.

What is counted is what the kernel knows: sockets that are bound to the server's path and listen, also when
that path was removed or renamed since. SE_REMOTE_SEED=N repeats an order.
"""

from __future__ import annotations

import os
import random
import threading
import time
from collections import Counter
from pathlib import Path

import pytest
import sshd as private
from commandline import ENDS_WITHIN, Terminal

UP = ("se-remote", "up", "lab-pc", "--for", "10m")
EXTEND = ("se-remote", "extend", "lab-pc")
KILL = ("se-remote", "kill", "lab-pc", "--force")
RUN = ("scenario_execution", "test.osc")
CALL = ("se-remote", "call", "lab-pc", "log", "msg=hello")
SCENARIO = """
run_process("echo there") with:
    remote("lab-pc")
"""


class Watch:
    """Samples how many servers listen at a path, as often as it can."""

    def __init__(self, path: Path) -> None:
        self._path = f" {path}\n"
        self._over = threading.Event()
        self.samples: Counter[int] = Counter()
        self._thread = threading.Thread(target=self._run)

    def _run(self) -> None:
        while not self._over.wait(0.001):
            lines = Path("/proc/net/unix").read_text().splitlines(keepends=True)
            # The fourth column has the flag of a socket that listens.
            found = [line for line in lines if line.endswith(self._path) and line.split()[3] == "00010000"]
            self.samples[len(found)] += 1

    def __enter__(self) -> Watch:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()


@pytest.fixture
def terminal(world):
    made = Terminal(world, "many")
    made.write_scenario(SCENARIO)
    yield made
    made.se_remote("kill", made.name, "--force")
    assert not made.run_dir.exists()


def run_all(terminal, order, spread):
    """Every command, each after a random pause; what each of them was, its exit code and its words."""
    running = []
    for words, pause in order:
        time.sleep(pause * spread)
        running.append((words, terminal.start(*words)))
    done = []
    for words, process in running:
        out, err = process.communicate(timeout=ENDS_WITHIN)
        done.append((words, process.returncode, out + err))
    return done


@pytest.mark.parametrize("count", [8, pytest.param(20, marks=pytest.mark.slow)])
def test_any_order_of_up_kill_and_runs(terminal, count):
    seed = int(os.environ.get("SE_REMOTE_SEED") or random.randrange(10**6))
    print(f"SE_REMOTE_SEED={seed}")
    chance = random.Random(seed)
    order = [(chance.choice((UP, UP, KILL, RUN, RUN, CALL, EXTEND)), chance.random()) for _ in range(count)]
    with Watch(terminal.run_dir / "sock") as watch:
        done = run_all(terminal, order, 0.3)
    print(watch.samples, [(words[:2], code) for words, code, _ in done])
    assert [text for _, _, text in done if "Traceback" in text] == []
    assert set(watch.samples) <= {0, 1}, "never more than one server"
    assert watch.samples[1], "and there was one"
    # A kill may take the host away from anybody; it never fails itself, and nobody hangs or crashes.
    assert [text for words, code, text in done if words == KILL and code != 0] == []
    assert [(words, code, text) for words, code, text in done if code not in (0, 1, 4)] == []
    if not any(words == KILL for words, _, _ in done):
        assert [text for words, code, text in done if words != EXTEND and code != 0] == []

    killed = terminal.se_remote("kill", "lab-pc", "--force")
    assert killed.code == 0, killed.text
    assert private.wait_until(lambda: not terminal.run_dir.exists(), 20)
    assert terminal.run(*RUN).code == 0, "and all is as on the first day"
    assert not terminal.run_dir.exists()


def test_many_runs_share_one_server(terminal):
    """Nobody kills: so nobody may fail, whoever started the server and whoever ends first."""
    with Watch(terminal.run_dir / "sock") as watch:
        done = run_all(terminal, [(RUN, 1.0)] * 6, 0.15)
    assert [text for _, code, text in done if code != 0] == []
    assert set(watch.samples) <= {0, 1}
    assert private.wait_until(lambda: not terminal.run_dir.exists(), 20)


def test_a_server_is_not_stopped_under_who_has_just_found_it(world):
    """Between its bring-up and its hello: its mark is all that the one who stops can see of it."""
    host = world.host("found")
    first, second = world.launcher(), world.launcher()
    assert first.open([host])["found"].started
    assert not second.open([host])["found"].started
    run_dir = Path(world.base) / "found"
    assert len(list(run_dir.glob("coming.*"))) == 1
    assert first.close() == []
    assert (run_dir / "endpoint.json").exists()
    second.close()
    assert not list(run_dir.glob("coming.*")), "it does not come"
    assert private.wait_until(lambda: not run_dir.exists(), 30)
