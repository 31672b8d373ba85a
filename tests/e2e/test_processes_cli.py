"""`se-remote run | restart | kill` of processes: plan, order, exit codes, Ctrl-C. Real sshd and tmux."""

from __future__ import annotations

import getpass
import signal

import pytest
import sshd as private
from commandline import ENDS_WITHIN, Terminal

STACK = """
context: {{session: {session}, params: {{word: hello}}, .defines: [&far {machine}]}}
hosts:
  gate: {{machine: *far, ssh: {ssh}}}
processes:
  core: {{host: gate, cmd: "echo core says {{word}}; {stays}", ready_check: "test -d /tmp"}}
  left: {{host: gate, cmd: "{stays}", depends: [core]}}
  right:
    machine: local
    cmd: "{stays}"
    depends: [core]
    variants: {{HW Type: [Base Only: {{cmd: "{{cmd}} "}}]}}
  top: {{host: gate, cmd: "{stays}", depends: [left, right], ready_check: {{log: never}}, ready_timeout: 30}}
  one shot: {{host: gate, cmd: "echo it is $PWD 'and' \\"so\\" ; exit 0", persistent: false, depends: [core]}}
  five: {{host: gate, cmd: "echo last words; exit 5"}}
  by signal: {{host: gate, cmd: "kill -9 $$", persistent: false}}
  needs five: {{host: gate, cmd: "touch {folder}/wrong", depends: [five, core]}}
  nowhere: {{machine: "nobody@127.0.0.1:9", cmd: "touch {folder}/wrong"}}
"""


class Stack(Terminal):
    """Processes on the sshd's machine and on this one, in a tmux session of the test's own."""

    def __init__(self, world) -> None:
        super().__init__(world, "run")
        sshd, user = world.sshd, getpass.getuser()
        self.stays = f"exec sleep 3{sshd.port}"
        text = STACK.format(
            session=self.name,
            machine=f"{user}@127.0.0.1:{sshd.port}",
            ssh=f"{{identity: {sshd.client_key}, known_hosts: {world.known_hosts}}}",
            stays=self.stays,
            folder=self.folder,
        )
        (self.folder / "se-remote.yaml").write_text(text)

    def running(self) -> int:
        command = self.stays.removeprefix("exec ")
        found = private.marked(self.world.mark)
        return len([text for text in found if text.partition(" ")[2].strip() == command])


@pytest.fixture
def terminal(world):
    made = Stack(world)
    yield made
    if private.marked(world.mark):
        made.se_remote("kill", "core", "five", "by signal", "right", "--force")
    assert made.running() == 0


def order(text, *parts):
    places = [text.find(part) for part in parts]
    assert -1 not in places and places == sorted(places), (parts, places, text)


def test_the_plan_touches_no_machine(terminal):
    terminal.world.sshd.close()
    done = terminal.se_remote("run", "top", "--plan", "--variant", "Base Only", "--param", "word=Grüß 'Gott'")
    assert done.code == 0 and done.err == "", done.text
    order(done.out, "1. core", "2. left", "2. right+Base Only  on local", "3. top")
    assert "after   left, right" in done.out
    assert """echo core says Grüß '"'"'Gott'"'"'; exec sleep""" in done.out
    wrong = terminal.se_remote("run", "topp", "core", "--variant", "Bass", "--plan")
    assert wrong.code == 2 and 'did you mean "top"' in wrong.err
    terminal.world.sshd.start()


def test_run_use_restart_and_kill(terminal):
    done = terminal.se_remote("run", "left", "right")
    assert done.code == 0, done.text
    order(done.err, "core   ready", "left   ready")
    assert terminal.running() == 3
    again = terminal.se_remote("run", "left")
    assert again.code == 0 and again.err.count("was running") == 2, again.text
    other = terminal.se_remote("run", "left", "--param", "word=other")
    assert other.code == 1 and "try: se-remote restart core" in other.err, other.text
    restarted = terminal.se_remote("restart", "core", "--param", "word=other")
    assert restarted.code == 0, restarted.text
    assert terminal.running() == 3, "those that depend on it run again"
    assert terminal.se_remote("logs", "core").out == "core says other\n"
    killed = terminal.se_remote("kill", "core")
    assert killed.code == 0, killed.text
    assert sorted(killed.out.splitlines()[:2]) == ["left: stopped", "right: stopped"]
    assert killed.out.splitlines()[2:] == ["core: stopped"]
    assert terminal.running() == 0
    gone = terminal.se_remote("kill", "core")
    assert gone.code == 0 and gone.out == "core: was not running\n"


def test_exit_codes_of_what_is_waited_for(terminal):
    done = terminal.se_remote("run", "one shot", "--follow")
    assert done.code == 0, done.text
    assert done.out == f"it is {terminal.world.server_home} and so\n"
    assert terminal.running() == 1, private.marked(terminal.world.mark)
    assert terminal.se_remote("run", "five", "--wait").code == 5
    assert terminal.se_remote("run", "by signal", "--wait").code == 137


def test_a_failure_names_what_and_why_and_what_still_runs(terminal):
    done = terminal.se_remote("run", "needs five", "nowhere", "right")
    assert done.code == 3, done.text
    assert "five: start: it ended before it was ready (exit code 5)\n    | last words" in done.err
    assert "needs five  not started: five is not ready" in done.err
    assert "nowhere: connect: " in done.err
    assert "left running: core, right" in done.err and "se-remote kill core right" in done.err
    assert not (terminal.folder / "wrong").exists(), "nothing of it ran here"
    assert terminal.running() == 2


def test_ctrl_c_stops_what_this_run_has_started(terminal):
    assert terminal.se_remote("run", "core").code == 0
    running = terminal.start("se-remote", "run", "top")
    assert private.wait_until(lambda: terminal.running() == 4, 30)
    running.send_signal(signal.SIGINT)
    out, err = running.communicate(timeout=ENDS_WITHIN)
    assert running.returncode == 130, out + err
    order(err, "interrupted (Ctrl-C again: what is left is killed)\n", "top    stopped", "left   stopped")
    assert terminal.running() == 1, "what ran before stays"
    status = terminal.se_remote("status", "top", "left")
    assert status.out.count("stopped") == 2, status.out


def test_ctrl_c_with_keep_leaves_it(terminal):
    running = terminal.start("se-remote", "run", "top", "--keep")
    assert private.wait_until(lambda: terminal.running() == 4, 30)
    running.send_signal(signal.SIGINT)
    out, err = running.communicate(timeout=ENDS_WITHIN)
    assert running.returncode == 130, out + err
    assert "left running: core, left, right, top" in err and "interrupted\n" in err
    assert terminal.running() == 4
