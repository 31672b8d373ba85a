"""Processes where it goes wrong elsewhere, and must not here. Each of these is a line of the issue."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import signal
import time
from pathlib import Path

import pytest
from stackbed import LONG, slow, until

ROOT = Path(__file__).resolve().parents[2]


# -- never here instead of there


@pytest.mark.parametrize("trouble", ["down", "unknown key", slow("no login")])
def test_a_machine_that_cannot_be_had_is_an_error_and_nothing_runs_here(stack, trouble):
    witness = stack.folder / "ran here"
    stack.processes(
        first={"cmd": f"touch '{witness}'"},
        second={"cmd": f"touch '{witness}'", "depends": ["first"], "ready_check": f"touch '{witness}'"},
    )
    stack.folder.chmod(0o777)
    if trouble == "down":
        stack.world.sshd.close()
    elif trouble == "unknown key":
        stack.world.known_hosts.write_text("")
    else:
        (stack.world.directory / "authorized_keys").write_text("")
    done = stack.run("run", "second")
    assert done.code == 3 and "first" in done.text, done.text
    assert {"down": "connect", "unknown key": "host key", "no login": "authenticate"}[
        trouble
    ] in done.text.lower()
    assert not witness.exists()
    assert stack.run("kill", "first").code == 3
    assert "unreachable" in stack.run("status", "first").out
    assert not stack.base().exists() and not Path(stack.world.base).exists()


# -- many


@pytest.mark.parametrize("count", [10, slow(100)])
def test_many_independent_ones_on_one_machine(stack, count):
    """At sshd's default of ten sessions a connection."""
    entries = {f"p{n}": {"cmd": f"echo {n} >>~/ledger; {LONG}"} for n in range(count)}
    stack.processes(**entries)
    done = stack.good("run", *entries)
    assert sorted(map(int, stack.lines("ledger"))) == list(range(count)), done.text
    assert set(stack.states(*entries).values()) == {"ready"}
    assert len(stack.windows()) == count
    stack.good("kill", *entries)
    assert stack.alive("sleep 3600") == [] and not stack.base().exists()


# -- exit codes


def test_a_failed_one_shot_stops_its_dependants(stack):
    stack.processes(
        bad={"cmd": "echo out of luck; false; exit 3", "persistent": False},
        good={"cmd": "true", "persistent": False},
        top={"cmd": "touch ~/started", "depends": ["good", "bad"]},
        above={"cmd": "touch ~/started", "depends": ["top"]},
    )
    done = stack.run("run", "above")
    assert done.code == 1, done.text
    assert [word for word in ("bad", "3", "out of luck", "above") if word not in done.text] == []
    assert not stack.file("started").exists()
    stack.good("kill", "bad")


@pytest.mark.slow
def test_a_dependency_that_dies_of_a_signal_is_named_with_it(stack):
    stack.processes(
        bad={"cmd": "kill -SEGV $$", "ready_check": "false"},
        top={"cmd": "touch ~/started", "depends": ["bad"]},
    )
    done = stack.run("run", "top")
    assert done.code == 1 and re.search(r"SIGSEGV|signal 11|SEGV", done.text), done.text
    seen = stack.status("bad")["bad"]
    assert (seen["state"], seen["signal"]) == ("dead", 11)
    assert not stack.file("started").exists()


# -- quoting

TORTURE = (
    """it's "$HOME" `touch ~/ran`; $(touch ~/ran) {a} {{b}} \\n \\ * ~ ! # %s & | < > äöü 日本 'x' ${IFS}"""
)


def test_what_is_in_a_command_runs_verbatim(stack):
    """printf gets its argument from a here-document: the shell's own quoting is none of ours."""
    text = TORTURE.replace("{{", "{{{{").replace("}}", "}}}}").replace("{a}", "{{a}}")
    command = f"cat >~/said <<'END'\n{text}\nsecond line: \"\nEND\nprintf '%s' 'a'\"'\"'b' >~/quoted; {LONG}"
    stack.processes(p={"cmd": command})
    stack.good("run", "p")
    assert stack.lines("said") == [text.replace("{{", "{").replace("}}", "}"), 'second line: "']
    assert stack.lines("quoted") == ["a'b"]
    assert not stack.file("ran").exists()


NAMES = [
    "HW Type",
    "it's",
    'a "b" $HOME',
    "x; touch ran",
    "ä ö 日本",
    "-rf",
    "a/b",
    "$(touch ran)",
    "%s #[fg=red]",
    "a+b",
]


def test_names_may_be_any_printable_text(stack):
    stack.processes(
        **{name: {"cmd": f"echo {number} >>~/ledger; {LONG}"} for number, name in enumerate(NAMES)}
    )
    stack.good("run", "--", *NAMES)
    assert sorted(map(int, stack.lines("ledger"))) == list(range(len(NAMES)))
    assert set(stack.states(*[n for n in NAMES if n != "-rf"]).values()) == {"ready"}
    for place in (Path(stack.accounts[0].home), stack.folder):
        assert not list(place.rglob("ran"))
    stack.good("kill", "--", *NAMES)
    assert not stack.base().exists()


def test_params_and_env_go_where_they_belong_verbatim(stack):
    """What is put in is not looked at again, neither for parameters nor by a shell."""
    nasty = 'it\'s $HOME `x` {other} "q" 日本'
    stack.write(
        {
            "context": {"params": {"p": "unset"}},
            "processes": {
                "e": {
                    "machine": stack.machine(),
                    "cmd": 'printf %s "$VALUE" >~/value; ' + LONG,
                    "env": {"VALUE": "{p}"},
                }
            },
        }
    )
    stack.good("run", "e", "--param", f"p={nasty}")
    assert stack.file("value").read_text() == nasty


# -- one report before anything starts


def test_everything_that_is_wrong_comes_in_one_report_before_anything_starts(stack):
    at = f"machine: {stack.machine()}"
    stack.write(
        f"""
processes:
  ring: {{cmd: touch ~/started, {at}, depends: [gnir]}}
  gnir: {{cmd: touch ~/started, {at}, depends: [ring]}}
  lonely: {{cmd: touch ~/started, {at}, depends: [nobody]}}
  mute: {{{at}}}
  odd: {{cmd: [1, 2], {at}}}
  empty:
  fine: {{cmd: touch ~/started, {at}}}
"""
    )
    done = stack.run("run", "fine")
    assert done.code == 2
    wanted = ("circle", "nobody", "mute", "cmd", "odd", "empty")
    assert [word for word in wanted if word not in done.text] == [], done.text
    assert len(re.findall(r"se-remote\.yaml:\d+", done.text)) >= 5
    assert not stack.file("started").exists()


def test_unknown_variants_and_params_come_in_one_report(stack):
    stack.processes(
        a={"cmd": "touch ~/started {x}", "variants": {"fast": None}},
        b={"cmd": "touch ~/started", "depends": ["a"]},
    )
    done = stack.run("run", "b", "--variant", "fats", "--param", "z=1")
    assert done.code == 2
    assert [word for word in ("fats", "fast", "x", "z") if word not in done.text] == [], done.text
    assert not stack.file("started").exists()


# -- Ctrl-C


def test_ctrl_c_stops_what_this_run_started_and_no_more(stack):
    trap = "trap 'echo -{0} >>~/ledger; exit' INT TERM; echo +{0} >>~/ledger; while :; do sleep 0.05; done"
    stack.processes(
        there={"cmd": trap.format("there")},
        base={"cmd": trap.format("base"), "depends": ["there"]},
        slow={"cmd": trap.format("slow"), "depends": ["base"], "ready_check": "false"},
        top={"cmd": "touch ~/started", "depends": ["slow"]},
    )
    stack.good("run", "there")
    running = stack.start("run", "top")
    until(lambda: "+slow" in stack.lines("ledger"))
    os.killpg(running.pid, signal.SIGINT)
    done = stack.ended(running)
    assert done.code == 130, done.text
    assert stack.lines("ledger") == ["+there", "+base", "+slow", "-slow", "-base"]
    states = stack.states("there", "base", "slow", "top")
    assert states == {"there": "ready", "base": "stopped", "slow": "stopped", "top": "stopped"}
    kept = stack.start("run", "slow", "--keep")
    until(lambda: stack.lines("ledger").count("+slow") == 2)
    os.killpg(kept.pid, signal.SIGINT)
    assert stack.ended(kept).code == 130
    assert stack.states("base", "slow") == {"base": "ready", "slow": "running"}


# -- several who do the same


@pytest.mark.parametrize("count", [4])
def test_runs_of_one_process_at_once_are_one_start_and_all_wait(stack, count):
    stack.processes(
        base={"cmd": f"echo base >>~/ledger; {LONG}", "ready_check": "test -e ~/go"},
        top={"cmd": f"echo top >>~/ledger; {LONG}", "depends": ["base"]},
    )
    running = [stack.start("run", "top") for _ in range(count)]
    until(lambda: stack.lines("ledger"))
    time.sleep(0.3)  # nothing to wait for: that nobody else starts it
    assert [one.poll() for one in running] == [None] * count
    stack.file("go").touch()
    done = [stack.ended(one) for one in running]
    assert [one.text for one in done if one.code != 0] == []
    assert stack.lines("ledger") == ["base", "top"]


def test_two_users_on_one_host_do_not_meet(stack):
    second = stack.add_machine()
    entries = {f"p{n}": {"cmd": f"id -u >~/uid; {LONG}", "machine": stack.machine(n)} for n in (0, second)}
    stack.processes(**entries)
    stack.good("run", *entries)
    assert stack.lines("uid", 0) != stack.lines("uid", second) != []
    stack.processes(p={"cmd": f"echo first >>~/who; {LONG}"})
    stack.good("run", "p")
    stack.processes(p={"cmd": f"echo second >>~/who; {LONG}", "machine": stack.machine(second)})
    stack.good("run", "p")
    assert (stack.lines("who", 0), stack.lines("who", second)) == (["first"], ["second"])
    stack.good("kill", "p")
    stack.processes(**entries, p={"cmd": f"echo first >>~/who; {LONG}"})
    assert stack.states("p") == {"p": "ready"}


def test_one_name_in_two_sessions_is_two_processes(stack):
    def document(session):
        entry = {"cmd": f"echo {session} >>~/ledger; {LONG}", "machine": stack.machine()}
        return {"context": {"session": session}, "processes": {"p": entry}}

    stack.write(document("one"))
    stack.good("run", "p")
    stack.write(document("two"))
    assert stack.states("p") == {"p": "stopped"}
    stack.good("run", "p")
    assert stack.lines("ledger") == ["one", "two"]
    assert (stack.windows("one"), stack.windows("two")) == (["p"], ["p"])
    stack.good("kill", "p")
    assert stack.windows("one") == ["p"], "the other one is left alone"
    stack.write(document("one"))
    stack.good("kill", "p")


def test_another_configuration_of_what_runs_is_a_conflict_that_says_how_to_get_it(stack):
    stack.processes(
        p={"cmd": f"echo 1 >>~/ledger; {LONG}", "variants": {"v": {"cmd": "echo 2 >>~/ledger; {cmd}"}}}
    )
    stack.good("run", "p")
    done = stack.run("run", "p", "--variant", "v")
    assert done.code == 1 and "try: se-remote restart " in done.text, done.text
    assert stack.lines("ledger") == ["1"]
    stack.good(*shlex.split(done.text.partition("try: se-remote ")[2].splitlines()[0]))
    assert stack.lines("ledger") == ["1", "2", "1"]


# -- logs


def test_nothing_of_a_hundred_thousand_lines_is_lost(stack):
    count = 100_000
    stack.processes(p={"cmd": f"seq 1 {count}; {LONG}", "ready_check": {"log": f"^{count}$"}})
    follower = stack.start("logs", "p", "-f", "-n", "all")
    stack.good("run", "p")
    heard = []
    for line in iter(follower.stdout.readline, ""):
        heard.append(line)
        if line.startswith(str(count)):
            break
    follower.send_signal(signal.SIGINT)
    stack.ended(follower)
    assert [line.strip() for line in heard if line.strip().isdigit()] == [str(n) for n in range(1, count + 1)]
    read = stack.good("logs", "p", "-n", "all").out.splitlines()
    assert read == [str(n) for n in range(1, count + 1)]


def test_lines_of_a_megabyte_and_broken_utf_8_pass(stack):
    long = "head -c 1000000 /dev/zero | tr '\\0' x; echo"
    command = f"{long}; printf 'broken \\377\\376 utf\\n'; echo end; {LONG}"
    stack.processes(p={"cmd": command, "ready_check": {"log": "^end$"}})
    stack.good("run", "p")
    lines = stack.good("logs", "p", "-n", "all").out.splitlines()
    assert lines[0] == "x" * 1_000_000
    assert lines[1].startswith("broken ") and lines[1].endswith(" utf") and lines[2] == "end"


@pytest.mark.slow
def test_a_log_file_for_each_run_and_ten_of_them(stack):
    stack.processes(p={"cmd": "echo $(cat ~/n); exit 0", "persistent": False})
    for number in range(12):
        stack.file("n").write_text(f"run {number}\n")
        stack.good("run", "p")
    logs = sorted(stack.file(".local/state/se-remote/processes").rglob("*.log"))
    assert len(logs) == 10
    assert "run 11" in stack.good("logs", "p", "--run", "1").out
    assert "run 2" in stack.good("logs", "p", "--run", "10").out
    assert not stack.base().exists()


# -- machines that are not as one would like them


def test_when_tmux_is_killed_nothing_is_an_orphan(stack):
    stack.processes(
        p={"cmd": f"setsid sleep 3605 & {LONG}"}, q={"cmd": "trap '' INT TERM HUP; while :; do sleep 1; done"}
    )
    stack.good("run", "p", "q")
    stack.tmux("kill-server")
    until(lambda: stack.alive("sleep 360") == [], 30)
    until(lambda: set(stack.states("p", "q").values()) == {"dead"}, 20)
    stack.good("run", "p")
    assert stack.states("p") == {"p": "ready"}


@pytest.mark.parametrize("who", ["wrapper", slow("pid")])
def test_when_the_wrapper_or_the_process_is_killed_all_of_it_goes(stack, who):
    stack.processes(p={"cmd": "setsid sleep 3605 & sleep 3606"})
    stack.good("run", "p")
    (file,) = (stack.base() / ".processes").rglob(who)
    os.kill(int(file.read_text().split()[0]), signal.SIGKILL)
    until(lambda: stack.states("p") == {"p": "dead"}, 30)
    stack.good("kill", "p")
    assert stack.alive("sleep 360") == [] and not stack.base().exists()


def test_a_foreign_window_of_the_same_name_is_a_conflict_and_left_alone(stack):
    stack.base().mkdir(mode=0o700)
    os.chown(stack.base(), stack.accounts[0].uid, -1)
    stack.tmux("new-session", "-d", "-s", "se-remote", "-n", "p", "sleep", "3607")
    stack.processes(p={"cmd": "touch ~/started"})
    try:
        done = stack.run("run", "p")
        assert done.code == 1 and "window" in done.text, done.text
        assert not stack.file("started").exists()
        stack.run("kill", "p")
        assert stack.windows() == ["p"] and stack.alive("sleep 3607")
    finally:
        stack.tmux("kill-server")
        shutil.rmtree(stack.base(), ignore_errors=True)


def test_without_a_utf_8_locale(stack):
    """Of the client and of the machine."""
    stack.world.sshd.environ = {"LC_ALL": "C", "LANG": "C"}
    stack.world.sshd.start()
    stack.processes(**{"näme 日本": {"cmd": f"echo 日本; printf %s ä >~/said; {LONG}"}})
    env = {"LC_ALL": "C", "LANG": "C"}
    stack.good("run", "näme 日本", env=env)
    assert stack.file("said").read_bytes() == "ä".encode()
    assert "ready" in stack.good("status", "näme 日本", env=env).out
    stack.good("kill", "näme 日本", env=env)


def test_tmux_missing_is_named(stack):
    tools = stack.world.directory / "bin"
    tools.mkdir()
    for folder in ("/usr/bin", "/bin"):
        for tool in Path(folder).iterdir():
            if tool.name != "tmux" and not (tools / tool.name).exists():
                (tools / tool.name).symlink_to(tool)
    stack.world.sshd.start(path=str(tools))
    stack.processes(p={"cmd": "touch ~/started"})
    done = stack.run("run", "p")
    assert done.code == 1 and re.search(r"tmux.*(not|no|missing|install)", done.text), done.text
    assert not stack.file("started").exists()


@pytest.mark.parametrize("shell", [slow("fish"), slow("zsh"), slow("dash"), slow("tcsh")])
def test_login_shells(stack, shell):
    path = shutil.which(shell)
    if path is None:
        pytest.skip(f"no {shell} here")
    number = stack.add_machine(path)
    for name in (".zshrc", ".cshrc", ".profile", ".zshenv"):
        stack.file(name, number).write_text("echo welcome aboard\n")
    stack.processes(p={"cmd": f"echo it runs; {LONG}", "machine": stack.machine(number)})
    stack.good("run", "p")
    assert stack.good("logs", "p").out == "it runs\n"
    stack.good("kill", "p")


@pytest.mark.parametrize("shell", [slow("bash"), slow("busybox"), slow("zsh")])
def test_what_sh_may_be(stack, shell):
    path = shutil.which(shell)
    if path is None:
        pytest.skip(f"no {shell} here")
    tools = stack.world.directory / "bin"
    tools.mkdir()
    (tools / "sh").symlink_to(path)
    stack.world.sshd.start(path=f"{tools}:/usr/bin:/bin")
    stack.processes(
        p={"cmd": f"setsid sleep 3605 & echo it runs; {LONG}", "shell": "sh", "ready_check": {"log": "runs"}},
        bad={"cmd": "exit 4", "depends": ["p"]},
    )
    done = stack.run("run", "bad", "--wait")
    assert done.code in (1, 4), done.text
    assert stack.states("p", "bad") == {"p": "ready", "bad": "dead"}
    assert stack.status("bad")["bad"]["code"] == 4
    stack.good("kill", "p", "bad")
    assert stack.alive("sleep 360") == []


def test_what_survives_is_named(stack):
    """A process of another account (sudo) cannot be ended by us: it stays, and its pid is said."""
    helper = stack.world.directory / "as-root"
    shutil.copy(str(shutil.which("setpriv")), helper)
    helper.chmod(0o4755)
    stack.processes(p={"cmd": f"{helper} --reuid=0 --clear-groups setsid sleep 3608 & exec sleep 3609"})
    stack.good("run", "p")
    until(lambda: root_sleeps(), 10)
    (pid,) = root_sleeps()
    done = stack.run("kill", "p", "--force")
    os.kill(pid, signal.SIGKILL)
    assert done.code == 1 and str(pid) in done.text, done.text
    until(lambda: not root_sleeps())
    stack.run("kill", "p")


def root_sleeps():
    """Its environment is its own, but not its arguments."""
    found = []
    for line in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if line.read_bytes() == b"sleep\x003608\x00":
                found.append(int(line.parent.name))
        except OSError:
            continue
    return found


def test_what_an_older_wrapper_has_written_is_understood(stack):
    """Its state was two words; who looked opened `wrapper` and `pid` for the rest."""
    stack.processes(p={"cmd": LONG})
    stack.good("run", "p")
    (state,) = (stack.base() / ".processes").rglob("state")
    state.write_text(" ".join(state.read_text().split()[:2]) + "\n")
    (pid,) = stack.alive("sleep 3600")
    seen = stack.status("p")["p"]
    assert (seen["state"], seen["pid"]) == ("ready", pid)
    stack.good("run", "p")
    assert stack.alive("sleep 3600") == [pid]
    stack.good("kill", "p")
    assert not stack.base().exists()
