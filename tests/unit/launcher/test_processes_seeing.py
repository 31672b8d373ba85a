"""What is seen of processes, decided purely: replies read, rows, trees, times, command lines."""

from __future__ import annotations

import io
import re
import time

import pytest

from launcher.cli import status_processes
from launcher.cli.output import Output
from launcher.cli.printer import Printer
from launcher.cli.since import parse_since
from launcher.errors import StartFailed
from launcher.machines.ssh_line import remote_words, ssh_words
from launcher.model import Machine, SshOptions, State
from launcher.plan import Reply
from launcher.processes import attaching, looking, seeing
from launcher.processes.model import Key, Node, Seen
from launcher.processes.viewing import Place, Subject, View, matched

LAB = Place(Machine("lab-pc.example", "robot"), SshOptions())
ABOUT = ["token1", "hash1", "robot@client", "run x", "", "", "planner", "yes", "20261121T161037Z-0000001"]


def reply(*lines: str, **sections: str) -> Reply:
    runs = "\n".join(["run /tmp/b/.processes/lab/planner/", *lines])
    return Reply((("verb", "status"), ("runs", runs), *sections.items()))


def about(*more: str) -> list[str]:
    return [*(f"about {line}" for line in ABOUT), *more]


@pytest.mark.parametrize(
    ("lines", "state", "reason"),
    [
        (["state ready 1 2 3 b 7", "pid 7", "wrapper yes"], State.READY, ""),
        (["state starting 1", "pid ", "wrapper none"], State.STARTING, "its window is about to open"),
        (["state running 1", "pid -", "wrapper no", "process yes"], State.STOPPING, "guard ends it"),
        (["state ready 1", "wrapper no", "process yes", "guard yes"], State.STOPPING, "guard ends it"),
        (["state ready 1", "wrapper no", "process yes", "guard no"], State.DEAD, "nobody watches it"),
        (["state starting 1", "wrapper no", "process no"], State.DEAD, "its start was cut short"),
        (
            ["state starting 1", "wrapper no", "process no", "exit 1 0 5 `setup` failed"],
            State.DEAD,
            "`setup`",
        ),
        (["state running 1", "pid 7", "wrapper no", "process no"], State.DEAD, "vanished without a word"),
        (["state running 1", "wrapper no", "exit 1 0 5"], State.DEAD, "exit code 1"),
        (["state dead 1", "exit 0 0 5 the lease is over"], State.DEAD, "the lease is over"),
        (["state dead 1", "exit 137 9 5"], State.DEAD, "signal 9 (SIGKILL)"),
        (["state dead 1", "exit 255 127 5"], State.DEAD, "signal 127"),
        (["state dead 1"], State.DEAD, "vanished without a word"),
        (["state nonsense 1", "wrapper yes"], State.STARTING, ""),
    ],
)
def test_the_states(lines, state, reason):
    (seen,) = seeing.read_status(reply(*about(*lines)))
    assert seen.state is state and reason in seen.reason and (reason or seen.reason == "")
    assert seen.key == Key("lab", "planner") and seen.since == 1795277437.0


def test_one_that_does_not_say_what_it_is_is_passed_over():
    assert seeing.read_status(reply("state starting 1", "about token1")) == ()


def test_a_machine_that_refuses():
    with pytest.raises(StartFailed, match="is a link"):
        seeing.read_status(Reply((("verb", "refused"), ("stage", "shell"), ("cause", "is a link"))))


def stat(pid: int, parent: int, ticks: int = 0, start: int = 100, name: str = "x", state: str = "S") -> str:
    rest = f"{pid} {pid} 0 -1 0 0 0 0 0 {ticks} 0 0 0 20 0 1 0 {start} 1000 25"
    return f"{pid} ({name}) {state} {parent} {rest} 0 0"


def test_a_tree_of_what_carries_the_mark_and_descends_from_it():
    run = "/tmp/b/.processes/lab/planner"
    now = [stat(10, 1, 150), stat(11, 10, 50), stat(12, 11, name="a) b (c"), stat(13, 1), stat(14, 1),
           stat(15, 10, state="Z"), stat(16, 1, start=900)]  # fmt: skip
    text = Reply((
        ("clock", "100 4096"),
        ("before", "up 9.0\n" + "\n".join([stat(10, 1, 100), stat(11, 10, 50)])),
        ("marks", f"/proc/10/environ:SE_REMOTE_RUN={run}\n/proc/13/environ:SE_REMOTE_RUN={run}2\n"
                  f"/proc/99/environ:SE_REMOTE_RUN={run}"),
        ("stats", "up 10.0\n" + "\n".join(now)),
        ("words", "/proc/10/cmdline:python3 planner.py \n/proc/11/cmdline:sh -c a\n/proc/11/cmdline:b"),
    ))  # fmt: skip
    first, second = seeing.read_tree(text, run, 16)
    assert (first.pid, first.command, round(first.cpu, 3), first.rss) == (
        10,
        "python3 planner.py",
        0.5,
        102400,
    )
    (child,) = first.children
    assert (child.pid, child.command, child.cpu) == (11, "sh -c a b", 0.0)
    assert [node.command for node in child.children] == ["[a) b (c]"]
    assert (second.pid, second.children) == (16, ())
    assert [node.pid for node in seeing.flat([first, second])] == [10, 11, 12, 16]


def subject(name: str = "planner", session: str = "lab") -> Subject:
    return Subject(name, Key(session, name), LAB)


def test_what_is_there_finds_its_place_and_the_rest_is_shown_only_when_asked_for():
    found = [Seen(Key("my_lab", "planner"), State.READY), Seen(Key("other", "planner"), State.READY)]
    views = matched([subject(session="my lab"), subject("gone", "my lab")], found, None)
    assert [(view.subject.name, view.seen.state.value) for view in views] == [
        ("planner", "ready"), ("gone", "stopped"),
    ]  # fmt: skip
    views = matched([subject(session="my lab")], found, LAB)
    assert [view.seen.key.session for view in views] == ["my_lab", "other"]


def render(*views: View, trees: bool = False) -> str:
    return status_processes.render(views, Output(io.StringIO(), io.StringIO(), {}), 1000.0, trees=trees)


def test_rows():
    since = Seen(Key("lab", "planner"), State.READY, pid=7, since=940.0, started_by="robot@client",
                 what="a test", container="docker abc nav robot", lease="l1")  # fmt: skip
    dead = Seen(Key("lab", "HW Type"), State.DEAD, "exit code 3", left=("12 sleep 5",), since=1.0)
    text = render(View(subject(), since), View(subject("HW Type"), dead))
    assert text.splitlines() == [
        "PROCESS  MACHINE                       STATE  SINCE  PID  STARTED BY",
        "planner  robot@lab-pc.example, in nav  ready  60 s   7    "
        "robot@client: a test, for as long as it lives",
        "HW Type  robot@lab-pc.example          dead   -      -    -",
        "    exit code 3",
        "    still running: pid 12 sleep 5",
        "    ended by: se-remote kill 'HW Type'",
        "    its output: se-remote logs 'HW Type'",
    ]


def test_a_tree_as_a_person_sees_it():
    leaf = Node(12, 11, "sleep\x1b[2J 5", 0.0, 1_500_000)
    node = Node(10, 1, "python3 a.py", 1.234, 45_000_000, (Node(11, 10, "sh", 0.0, 9000, (leaf,)), leaf))
    text = render(View(subject(), Seen(Key("lab", "planner"), State.READY), (node,)), trees=True)
    assert text.splitlines()[2:] == [
        "    CPU %   MEMORY      PID  COMMAND",
        "    123.4    45 MB       10  python3 a.py",
        "      0.0   9.0 kB       11   ├─ sh",
        "      0.0   1.5 MB       12   │  └─ sleep [2J 5",
        "      0.0   1.5 MB       12   └─ sleep [2J 5",
    ]


def test_points_in_time():
    now = time.mktime((2026, 3, 10, 14, 0, 0, 0, 0, -1))
    at = time.mktime((2026, 3, 10, 13, 30, 0, 0, 0, -1))
    assert parse_since("13:30", now) == at and parse_since("13:30:05", now) == at + 5
    assert parse_since("2026-03-10 13:30", now) == at and parse_since("2026-03-10T13:30:05", now) == at + 5
    assert parse_since("14:30", now) == at + 3600 - 86400, "yesterday's: it has not been today"
    assert parse_since("10m", now) == now - 600 and parse_since(" 1h30m ago", now) == now - 5400
    for wrong in ("", "soon", "25:00", "2026-13-01", "-5"):
        with pytest.raises(ValueError, match="expected a time such as"):
            parse_since(wrong, now)


def test_ssh_goes_the_way_our_connection_goes():
    gate = (Machine("gate.example", "g", 2222), SshOptions("~/.ssh/gate", "first%1@far.example", "~/kh 2"))
    words = ssh_words(
        Machine("lab-pc.example", "robot", 23), SshOptions("~/.ssh/lab", "gate", "/etc/kh"),
        lambda name: gate if name == "gate" else None, "/home/me",
    )  # fmt: skip
    assert words[-2:] == ["--", "lab-pc.example"] and words[0] == "ssh"
    text = " ".join(words)
    assert "-o StrictHostKeyChecking=yes" in text and "-i /home/me/.ssh/lab" in text
    assert '-o UserKnownHostsFile="/etc/kh"' in text and "-l robot -p 23" in text
    proxy = next(word for word in words if word.startswith("ProxyCommand="))
    assert "-i /home/me/.ssh/gate" in proxy and "-l g -p 2222" in proxy
    assert proxy.endswith(" -W '[%h]:%p' -- gate.example")
    assert 'UserKnownHostsFile="/home/me/kh 2"' in proxy
    # what the inner ssh expands has passed the outer one
    assert "first%%%%1" in proxy and "[%%h]:%%p" in proxy


def test_what_goes_to_a_login_shell_stands_in_quotes_that_all_of_them_know():
    line = remote_words(attaching.tmux_words("/tmp/se-remote-0/tmux", "@5", "look", "a b", bare=True))
    assert line.startswith("exec 'sh' '-c' 'trap : HUP ")
    assert " 'tmux' '-u' '-f' '/dev/null' '-S' '/tmp/se-remote-0/tmux' 'new-session'" in line
    assert " \\; 'link-window' '-k' '-s' '@5' '-t' '=look:0' \\; " in line


def test_a_name_is_no_format_of_tmux():
    words = attaching.tmux_words("s", "@5", "look", "#(reboot) #{x} ü", bare=False)
    assert "[--reboot- --x- ü] " in words


def test_names_stand_before_lines_only_when_there_are_several_and_colours_only_on_a_terminal():
    for names, prefix in ((["a"], ""), (["a", "long"], "[a]    ")):
        out = io.StringIO()
        printer = Printer(Output(out, io.StringIO(), {}), names, re.compile("e+"), lambda: None)
        for line in ("one", "tw", "three"):
            printer.line("a", line)
        printer.close()
        assert out.getvalue() == f"{prefix}one\n{prefix}three\n"


class Tty(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(
    ("environ", "coloured"), [({}, True), ({"NO_COLOR": "1"}, False), ({"TERM": "dumb"}, False)]
)
def test_each_name_has_a_colour_of_its_own(environ, coloured):
    output = Output(Tty(), Tty(), environ)
    first, second = output.painted("[a]", 0), output.painted("[b]", 1)
    assert ("\033[" in first) is coloured
    assert (first.partition("[a]")[0] != second.partition("[b]")[0]) is coloured


def test_a_printer_whose_reader_has_gone_says_so_and_holds_nobody_up():
    class Gone(io.StringIO):
        def write(self, text: str) -> int:
            raise BrokenPipeError

    gone = []
    printer = Printer(Output(Gone(), io.StringIO(), {}), ["a"], None, lambda: gone.append(1))
    printer.line("a", "x")
    deadline = time.monotonic() + 10
    while not gone and time.monotonic() < deadline:
        time.sleep(0.005)
    for _ in range(100):
        printer.line("a", "x" * 1_000_000)
    printer.close()
    assert gone == [1]


def test_a_picture_is_redrawn_in_place_and_cut_to_the_screen(monkeypatch):
    monkeypatch.setenv("LINES", "5")
    monkeypatch.setenv("COLUMNS", "40")
    out = Tty()
    with Output(out, Tty(), {}).screen() as show:
        show("\n".join(map(str, range(10))))
    assert "2\033[K\r\n… 7 more lines" in out.getvalue() and "3\033[K" not in out.getvalue()
    assert out.getvalue().endswith("\033[?1049l")
    plain = io.StringIO()
    with Output(plain, io.StringIO(), {}).screen() as show:
        show("a")
        show("b")
    assert plain.getvalue() == "a\nb\n"


def test_scripts_name_what_they_are_given_in_quotes():
    key = Key("my session", "HW Type'; reboot")
    script = looking.read(key, base="", nonce="n", lines=3, run=0, ago=None).decode()
    assert "session=my_session\n" in script and "reboot" in script and "'; reboot" not in script
