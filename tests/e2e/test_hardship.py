"""Bring-up on machines that are not as one would like them: shells, tmux under attack, the home directory."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import sshd as private

from launcher.errors import StageError, StartFailed
from launcher.model import Stage, State


def tmux(world, *words: str) -> str:
    command = ["tmux", "-u", "-f", "/dev/null", "-S", f"{world.base}/tmux", *words]
    return subprocess.run(command, capture_output=True, text=True).stdout


@pytest.mark.parametrize("shell", ["bash", "busybox", "zsh"])
def test_what_sh_may_be(world, shell):
    path = shutil.which(shell)
    if path is None:
        pytest.skip(f"no {shell} here")
    tools = world.directory / "bin"
    tools.mkdir()
    (tools / "sh").symlink_to(path)
    world.sshd.start(path=f"{tools}:/usr/bin:/bin")
    launcher = world.launcher()
    host = world.standin(setup="export A=1", shell="sh")
    assert launcher.open([host])["lab-pc"].started
    assert launcher.status([host])["lab-pc"].state is State.READY
    assert launcher.close() == []


@pytest.mark.parametrize("shell", ["tcsh"])
def test_csh_as_login_shell(world, shell):
    path = shutil.which(shell)
    if path is None:
        pytest.skip(f"no {shell} here")
    account = world.account(path)
    (account.home / ".cshrc").write_text("echo welcome aboard\nsleep 1\n")
    os.chown(account.home / ".cshrc", account.uid, -1)
    launcher = world.launcher(base="")
    assert launcher.open([world.standin(user=account.name)])["lab-pc"].started
    assert launcher.close() == []


@pytest.mark.parametrize("attack", [["kill-server"], ["kill-window", "-t", ":0"], ["kill-session"]])
def test_tmux_is_killed(world, attack):
    """The server is not its window: it, or nothing, is there; and the teardown leaves nothing."""
    launcher = world.launcher()
    host = world.host()
    launcher.open([host])
    tmux(world, *attack)
    assert launcher.status([host])["lab-pc"].state in (State.READY, State.DEAD, State.STOPPED)
    assert launcher.close() == []


def test_tmux_is_stopped(world):
    """It answers nobody; who closes a window there wakes it, and does not wait for ever."""
    launcher = world.launcher()
    launcher.open([world.host()])
    pid = int(tmux(world, "display-message", "-p", "#{pid}"))
    os.kill(pid, signal.SIGSTOP)
    assert launcher.close() == []


def test_a_stopped_tmux_is_woken_by_the_next_bring_up(world):
    launcher, other = world.launcher(), world.launcher()
    launcher.open([world.host()])
    os.kill(int(tmux(world, "display-message", "-p", "#{pid}")), signal.SIGSTOP)
    other.open([world.host("arm")])
    assert other.close() == launcher.close() == []


@pytest.mark.slow
@pytest.mark.parametrize("met", ["serving", "at its end"])
def test_tmux_that_never_answers(world, met):
    """Who asks it gives up: a bring-up and a stop say so, and the others do without it. So does the wrapper
    at its end, also when a stop meets it there."""
    launcher = world.launcher(keep=True)  # it is there as long as we look, however slow that is
    launcher.open([world.host()])
    place, aside = Path(world.base, "tmux"), Path(world.base, "aside")
    place.rename(aside)
    with socket.socket(socket.AF_UNIX) as deaf:
        deaf.bind(str(place))
        deaf.listen(50)
        with pytest.raises(StageError) as raised:
            world.launcher().open([world.host("arm")])
        assert raised.value.stage is Stage.TMUX and "does not answer" in str(raised.value)
        assert not Path(world.base, "arm").exists() or not list(Path(world.base, "arm").glob("run.*"))
        seen = launcher.status([world.host()])
        assert seen["lab-pc"].state is State.READY
        if met == "at its end":
            os.kill(int(Path(world.base, "lab-pc", "pid").read_text().split()[0]), signal.SIGTERM)
            assert private.wait_until(lambda: "list-windows" in "".join(private.marked(world.mark)))
        done = launcher.stop(world.host())
        assert done.how == "graceful" and "tmux does not answer" in "".join(done.left)
        place.unlink()
    aside.rename(place)
    assert launcher.stop(world.host()).left == ()


@pytest.mark.parametrize("sent", [signal.SIGKILL, signal.SIGSTOP])
@pytest.mark.parametrize("who", ["wrapper", "server"])
def test_killed_or_stopped(world, who, sent):
    launcher = world.launcher()
    host = world.host()
    launcher.open([host])
    (file,) = Path(world.base, "lab-pc").glob("wrapper.*" if who == "wrapper" else "pid")
    os.kill(int(file.read_text().split()[0]), sent)
    assert launcher.close(hurry=True) == []


def test_a_foreign_window_of_that_name_is_left_alone(world):
    Path(world.base).mkdir(mode=0o700)
    tmux(world, "new-session", "-d", "-s", "se-remote", "-n", "lab-pc", "sleep", "300")
    launcher = world.launcher()
    host = world.standin()
    try:
        assert launcher.status([host])["lab-pc"].state is State.CONFLICT
        assert launcher.open([host])["lab-pc"].started
        assert launcher.close() == []
        assert tmux(world, "list-windows", "-a", "-F", "#{window_name}") == "lab-pc\n"
    finally:
        tmux(world, "kill-server")
        shutil.rmtree(world.base)


@pytest.mark.parametrize("home", ["missing", "unwritable"])
def test_home_of_no_use(world, home):
    account = world.account()
    if home == "missing":
        shutil.rmtree(account.home)
    else:
        os.chown(account.home, 0, 0)
        account.home.chmod(0o555)
    launcher = world.launcher(base="")
    assert launcher.open([world.standin(user=account.name)])["lab-pc"].started
    assert launcher.close() == []


@pytest.mark.skipif(os.getuid() != 0 or sys.platform != "linux", reason="mounts")
@pytest.mark.parametrize("options", ["size=4k", "ro", "noexec"])
def test_the_run_directory_is_on(world, options):
    Path(world.base).mkdir(mode=0o700)
    command = ["mount", "-t", "tmpfs", "-o", f"{options},mode=700", "tmpfs", world.base]
    if subprocess.run(command, capture_output=True).returncode:
        pytest.skip("cannot mount here")
    try:
        launcher = world.launcher()
        if options == "noexec":
            assert launcher.open([world.standin(setup="export A=1")])["lab-pc"].started
        else:
            with pytest.raises(StartFailed) as caught:
                launcher.open([world.standin()])
            assert caught.value.stage is Stage.SHELL and world.base in str(caught.value)
        assert launcher.close() == []
    finally:
        subprocess.run(["umount", "-l", world.base], check=True)
        private.wait_until(lambda: not os.path.ismount(world.base), 20)
        Path(world.base).rmdir()


def test_the_log_goes_home_also_below_an_old_tmux_server(world):
    """tmux's own environment may be of another login, with another HOME."""
    Path(world.base).mkdir(mode=0o700)
    other = {**os.environ, "HOME": "/nonexistent"}
    command = [
        "tmux",
        "-u",
        "-f",
        "/dev/null",
        "-S",
        f"{world.base}/tmux",
        "new-session",
        "-d",
        "sleep",
        "300",
    ]
    subprocess.run(command, check=True, env=other)
    launcher = world.launcher()
    host = world.standin()
    try:
        launcher.open([host])
        assert launcher.close() == []
        assert "up in" in world.launcher().read_log(host)[1]
    finally:
        tmux(world, "kill-server")
        shutil.rmtree(world.base)
