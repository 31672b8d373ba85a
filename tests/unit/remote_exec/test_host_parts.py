"""Small parts of the host side: /proc, channels, the log gate, the command line, run directory files."""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from remote_exec.codec import unpack
from remote_exec.host import procs, rundir
from remote_exec.host.channel import Channel, channel_pair
from remote_exec.host.keeper import LINE_BYTES, Lines
from remote_exec.host.outbox import LOG_BURST, LogGate, Outbox
from remote_exec.host.settings import Settings
from remote_exec.host.supervisor import Supervisor
from remote_exec.server import UsageError, settings_from


def test_parse_stat_survives_odd_names() -> None:
    tail = " S 7 " + " ".join(str(n) for n in range(5, 22)) + " 4242 0 0"
    proc = procs.parse_stat("12 (a) b (c)" + tail)
    assert (proc.pid, proc.ppid, proc.state, proc.start, proc.name) == (12, 7, "S", 4242, "a) b (c")


def test_descendants_and_signals() -> None:
    with subprocess.Popen(["sh", "-c", "sleep 60 & wait"], stdin=subprocess.DEVNULL) as shell:
        try:
            while len(procs.descendants(shell.pid, procs.all_procs())) < 1:
                pass
            (sleep,) = procs.descendants(shell.pid, procs.all_procs())
            assert shell.pid in [p.pid for p in procs.descendants(os.getpid(), procs.all_procs())]
            # fixtures of other tests may have children of this process, too
            others = {p.pid for p in procs.descendants(os.getpid(), procs.all_procs(), [shell.pid])}
            assert others.isdisjoint({shell.pid, sleep.pid})
            assert not procs.send_signal(sleep._replace(start=sleep.start + 1), signal.SIGKILL)
            assert procs.send_signal(sleep, signal.SIGKILL)
        finally:
            shell.wait(20)
    assert procs.start_time(shell.pid) == 0


def test_who_is_woken_is_a_process_of_the_server_and_not_one_that_has_its_pid_now() -> None:
    with contextlib.ExitStack() as stack:
        started = []
        for _ in range(2):
            one = stack.enter_context(subprocess.Popen(["sleep", "60"], stdin=subprocess.DEVNULL))
            stack.callback(one.kill)
            one.send_signal(signal.SIGSTOP)
            os.waitid(os.P_PID, one.pid, os.WSTOPPED)
            started.append(one)
        front, forkserver = started
        supervisor = Supervisor(Settings())
        supervisor._front, supervisor._forkserver = front.pid, forkserver.pid
        supervisor._statuses = {front.pid: 0}
        supervisor._wake()
        states = [proc.state for one in started if (proc := procs.read_proc(one.pid)) is not None]
        assert [state == "T" for state in states] == [True, False]


def test_what_is_no_frame_of_ours_counts_as_the_end() -> None:
    left, right = channel_pair()
    channel = Channel(right)
    left.sendall(b"\0\0\0\1x" + b"\xff" * 5000)
    assert channel.receive() == [b"x"]
    assert channel.closed
    assert channel.buffered == 0
    left.close()
    channel.close()


def test_exit_reasons() -> None:
    assert procs.exit_reason(3 << 8) == "exit code 3"
    assert procs.exit_reason(signal.SIGSEGV) == "signal SIGSEGV"


def test_a_channel_takes_more_than_its_socket_and_says_when_it_ends() -> None:
    left, right = (Channel(sock) for sock in channel_pair())
    bodies = [os.urandom(300_000), b"", b"x"]
    for body in bodies:
        left.send(body)
    assert left.pending
    got: list[bytes] = []
    while len(got) < 3:
        got += right.receive()
        left.flush()
    assert got == bodies
    left.close()
    right.receive()
    assert right.closed
    right.send(b"nobody is there")
    right.close()


def test_the_log_gate_counts_what_it_refuses() -> None:
    gate = LogGate(0.0, rate=10.0, burst=5.0)
    assert [gate.admit(0.0) for _ in range(7)] == [True] * 5 + [False] * 2
    assert gate.take_dropped() == 2
    assert gate.admit(0.1)
    assert not gate.admit(5.0, room=False)


def test_the_end_says_what_a_flood_has_lost() -> None:
    near, far = (Channel(sock) for sock in channel_pair())
    outbox = Outbox(near, lambda: None)
    for number in range(int(LOG_BURST) + 3000):
        outbox.log("info", "plugin", f"flood {number}")
    outbox.report_dropped(last=True)
    texts = []
    while not outbox.flush() or far_has(far):
        texts += [unpack(body) for body in far.receive()]
    near.close()
    far.close()
    said = [text for text in texts if text["text"].startswith("flood")]
    missing = sum(text.get("dropped", 0) for text in texts)
    assert missing and len(said) + missing == int(LOG_BURST) + 3000


def far_has(channel: Channel) -> bool:
    return bool(select.select([channel], [], [], 0)[0])


def test_lines_are_cut_but_not_lost() -> None:
    lines = Lines()
    assert lines.feed(b"a\nb") == ["a"]
    assert lines.feed(b"c\r\n\xff\n") == ["bc", "\ufffd"]
    assert len(lines.feed(b"x" * (LINE_BYTES + 1))) == 1
    assert lines.feed(b"rest") == []
    assert lines.feed(b"") == ["rest"]


def test_the_options_as_others_give_them() -> None:
    settings, warning = settings_from(["--watchdog", "3", "--connect-timeout", "30", "--socket", "/ipc/x"])
    assert (settings.socket, settings.port) == ("/ipc/x", None)
    assert (settings.watchdog, settings.connect_timeout) == (3, 30)
    assert warning == ""
    assert settings_from([])[0].port == 7613
    assert settings_from([])[0].connect_timeout == 15
    settings, _ = settings_from(["--run-dir", "/d", "--ephemeral", "--name", "n", "--config-hash", "h"])
    assert (settings.socket, settings.port, settings.connect_timeout) == ("/d/sock", None, 0)
    with pytest.raises(UsageError, match="--insecure"):
        settings_from(["--bind", "::"])
    assert "can run commands" in settings_from(["--bind", "::", "--insecure"])[1]
    assert settings_from(["--bind", "::1"])[1] == ""


def test_the_seconds_of_the_escalation(monkeypatch: pytest.MonkeyPatch) -> None:
    signals = [(signal.SIGINT, 3), (signal.SIGTERM, 2), (signal.SIGKILL, 5)]
    assert procs.escalation(procs.ESCALATION) == signals
    for wrong in ("", "1", "1,2,3", "a,b", "-1,2", "nan,1", "inf,1"):
        monkeypatch.setenv(procs.ESCALATION_VARIABLE, wrong)
        with pytest.raises(UsageError, match="SE_REMOTE_ESCALATION"):
            settings_from([])


def test_run_directory_files(tmp_path: Path) -> None:
    run_dir = tmp_path / "r"
    run_dir.mkdir(mode=0o700)
    os.mkfifo(run_dir / "ready.1")
    os.mkfifo(run_dir / "ready.2")
    waiting = os.open(run_dir / "ready.1", os.O_RDWR)
    settings = Settings(run_dir=str(run_dir), socket=f"{run_dir}/sock", name="n", config_hash="h")
    server = {"wire": 2, "version": "1", "python": "3", "time": 5.0}
    rundir.announce(settings, server, (7, 8, "boot"))
    assert os.read(waiting, 100) == b"ready\n"
    os.close(waiting)
    assert (run_dir / "pid").read_text() == "7 8 boot\n"
    endpoint = json.loads((run_dir / "endpoint.json").read_text())
    assert set(endpoint) == {
        "pid",
        "start",
        "boot_id",
        "wire",
        "version",
        "python",
        "socket",
        "config",
        "name",
        "started_by",
        "what",
        "since",
    }
    rundir.remove_files(str(run_dir))
    assert sorted(p.name for p in run_dir.iterdir()) == ["ready.1", "ready.2"]


def test_the_lock_is_inherited_and_exclusive(tmp_path: Path) -> None:
    fd = rundir.lock(str(tmp_path))
    assert fd is not None
    code = (
        f"import sys; from remote_exec.host import rundir; sys.exit(rundir.lock({str(tmp_path)!r}) is None)"
    )
    assert subprocess.run([sys.executable, "-c", code], timeout=20).returncode == 1
    os.close(fd)
    assert subprocess.run([sys.executable, "-c", code], timeout=20).returncode == 0
