"""The scripts as text: what any POSIX sh accepts, and nothing of an inventory in them unquoted."""

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from launcher import family, plan, scripts, wrapper
from launcher.errors import InventoryError
from launcher.model import HostSpec, Machine

NASTY = "'; touch /tmp/pwned; echo '$(id)`id`\n\"$HOME\" \\ ü"
SHELLS = [shell for shell in ("dash", "bash", "zsh") if shutil.which(shell)]


def nasty_host() -> HostSpec:
    return HostSpec(
        "lab-pc", Machine(), setup=NASTY, env={"A": NASTY, "B": "~/x y"}, python=f"~/{NASTY}", session=NASTY,
        server="{server} --verbose", shell="zsh",
    )  # fmt: skip


def all_scripts(host: HostSpec) -> dict[str, bytes]:
    bring_up = scripts.bring_up(
        host, "lab-pc", base="", nonce="n", token="t", keep=None, started_by=NASTY, what=NASTY
    )
    return {
        "bring_up": bring_up,
        "stop": scripts.stop("lab-pc", base=NASTY, nonce="n", mode="force"),
        "status": scripts.status(base=NASTY, nonce="n"),
        "logs": scripts.logs("lab-pc", base=NASTY, nonce="n", lines=3),
        "places": scripts.places("lab-pc", base=NASTY, nonce="n", keys=["a", "b"], session="s"),
        "tidy": scripts.tidy(base=NASTY, nonce="n", output=NASTY, deep=True),
        "follow": scripts.follow("lab-pc", base=NASTY, lines=3),
        "wrapper": wrapper.wrapper_script(host, "lab-pc", "t").encode(),
    }


@pytest.mark.parametrize("shell", SHELLS)
@pytest.mark.parametrize("name", list(all_scripts(nasty_host())))
def test_every_shell_parses_it(shell, name):
    for host in (nasty_host(), HostSpec("lab-pc", Machine())):
        done = subprocess.run([shell, "-n"], input=all_scripts(host)[name], capture_output=True)
        assert done.returncode == 0 and done.stderr == b""


@pytest.mark.parametrize("name", ["bring_up", "stop", "status", "logs", "places", "tidy"])
def test_one_function_called_on_the_last_line(name):
    text = all_scripts(nasty_host())[name]
    assert text.startswith(b"se_remote() {\n") and text.endswith(b"\n}\nse_remote </dev/null\n")
    cut = text[: -len(b" </dev/null\n") - 3]
    done = subprocess.run(["sh"], input=cut, capture_output=True, cwd="/")
    assert done.stdout == b"", "half a script does nothing"


def words(line: str, home: str = "/home/a b") -> list[str]:
    code = f"printf '%s\\0' {line}"
    done = subprocess.run(
        ["sh", "-c", code], env={"HOME": home, "SE_REMOTE_RUN": "/r d"}, capture_output=True, check=True
    )
    return done.stdout.decode().split("\0")[:-1]


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("~", "/home/a b"),
        ("~/x y", "/home/a b/x y"),
        ("/opt/$x", "/opt/$x"),
        ("a~b", "a~b"),
        ("~nobody;x", "~nobody;x"),
    ],
)
def test_path_word(path, expected):
    assert words(wrapper.path_word(path)) == [expected]


def test_default_server_command():
    host = HostSpec("lab-pc", Machine(), python="~/v/python", lease=2.5)
    got = words(wrapper.default_server(host, "t", keep=None, started_by="a b@c", what=NASTY))
    assert got == [
        "/home/a b/v/python", "-m", "remote_exec.server", "--run-dir", "/r d", "--ephemeral",
        "--name", "lab-pc",
        "--config-hash", host.config_hash, "--lease", "2.5", "--started-by=a b@c", f"--what={NASTY}",
    ]  # fmt: skip
    for seconds, option in ((28800.0, "--keep 28800"), (0.0, "--keep 0")):
        kept = wrapper.default_server(host, "t", keep=seconds, started_by="", what="")
        assert option in kept and "--ephemeral" not in kept


@pytest.mark.parametrize(
    ("template", "is_exec"),
    [
        ("{server}", True),
        ("{server} --verbose", True),
        ("{server} | tee x", False),
        ("cd x && {server}", False),
    ],
)
def test_a_list_of_commands_is_not_execed(template, is_exec):
    host = HostSpec("h", Machine(), server=template)
    text = wrapper.server_file(host, "t", keep=None, started_by="", what="")
    assert text.startswith("exec ") is is_exec


@pytest.mark.parametrize("change", [{"env": {"A-B": "x"}}, {"env": {"A": "\0"}}, {"shell": "/usr/bin/fish"}])
def test_what_cannot_work_is_refused(change):
    with pytest.raises(InventoryError):
        all_scripts(HostSpec("lab-pc", Machine(), **change))


def test_a_grep_that_ends_at_a_nul_finds_nothing_less(tmp_path):
    """busybox's does: what carries SE_REMOTE_RUN is found all the same."""
    busybox = shutil.which("busybox")
    if busybox is None:
        pytest.skip("no busybox here")
    for tool in ("grep", "ls", "tr"):
        (tmp_path / tool).symlink_to(busybox)
    run = f"{tmp_path}/run"
    sleeper = subprocess.Popen(["sleep", "60"], env={"A": "b", "SE_REMOTE_RUN": run, "PATH": "/usr/bin:/bin"})
    try:
        code = f"{wrapper.COMMON}\n{family.FAMILY}\nrun='{run}'; roots=; family; echo $found"
        for path in (str(tmp_path), "/usr/bin:/bin"):
            done = subprocess.run(["/bin/sh", "-c", code], env={"PATH": path}, capture_output=True, text=True)
            assert done.stdout.split() == [str(sleeper.pid)], done.stderr
    finally:
        sleeper.kill()
        sleeper.wait()


@pytest.mark.parametrize(
    "shell", [["dash"], ["busybox", "sh"], ["bash", "--posix"]], ids=lambda words: words[0]
)
def test_a_file_that_cannot_be_written_does_not_end_the_script(shell, tmp_path):
    """When a redirection of a special builtin (`:`) fails, POSIX shells end: no answer, and a wrong error."""
    if shutil.which(shell[0]) is None:
        pytest.skip(f"no {shell[0]} here")
    run = tmp_path / "base/lab-pc"
    (run / "coming.me").mkdir(parents=True)  # so the mark cannot be written
    (tmp_path / "base").chmod(0o700)
    stat = Path("/proc/self/stat").read_text().rpartition(") ")[2].split()
    boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    (run / "pid").write_text(f"{os.getpid()} {stat[19]} {boot}\n")
    (run / "endpoint.json").write_text('{"socket": "/x"}\n')
    script = scripts.bring_up(
        HostSpec("lab-pc", Machine()), "lab-pc", base=str(tmp_path / "base"), nonce="n", token="t", keep=None,
        client="me", started_by="", what="",
    )  # fmt: skip
    done = subprocess.run(shell, input=script, capture_output=True, timeout=30)
    reply = plan.parse_reply(done.stdout, "n")
    assert reply is not None and reply.verb == "running", (done.returncode, done.stdout, done.stderr)


def test_no_special_builtin_writes_files():
    for name, text in all_scripts(nasty_host()).items():
        assert not re.search(rb"(^|[;&|{] *):( +[0-9]*>|>)", text, re.MULTILINE), name
