"""Containers as text and values: scripts any POSIX sh accepts, replies read, reasons and errors named."""

import shutil
import subprocess

import pytest

from launcher import docker, plan, wrapper
from launcher.docker import Box, BoxState
from launcher.errors import StartFailed
from launcher.model import Container, HostSpec, Machine, Stage
from launcher.plan import Reply

NASTY = "'; touch /tmp/pwned; echo '$(id)`id`\n\"$HOME\" \\ ü"
SHELLS = [shell for shell in ("dash", "bash", "zsh") if shutil.which(shell)]
BOX = Box("docker", "0123456789abcdef", "nav", "robot", "/tmp/x/nav", "t")


def host(container: Container, **more) -> HostSpec:
    return HostSpec("lab-pc", Machine(), docker=container, **more)


def all_scripts() -> dict[str, bytes]:
    spec = host(Container(image="a:1", run=(NASTY,)), setup=NASTY, session=NASTY)
    return {
        "enter": docker.enter(spec, "lab-pc", base=NASTY, nonce="n", token="t"),
        "hold": docker.hold(spec, "lab-pc", BOX, base=NASTY, nonce="n", token="t", inside=NASTY),
        "leave": docker.leave("lab-pc", BOX, base=NASTY, nonce="n", token="t"),
        "state": docker.state(BOX, nonce="n"),
        "guard": docker.GUARD.encode(),
        "login": wrapper.wrapper_script(host(Container("nav", login=True)), "lab-pc", "t").encode(),
    }


@pytest.mark.parametrize("shell", SHELLS)
@pytest.mark.parametrize("name", list(all_scripts()))
def test_every_shell_parses_it(shell, name):
    done = subprocess.run([shell, "-n"], input=all_scripts()[name], capture_output=True)
    assert done.returncode == 0 and done.stderr == b""


def test_a_machine_without_the_engine_says_so():
    spec = host(Container("nav", engine="no-such-engine"))
    script = docker.enter(spec, "lab-pc", base="/nonexistent/b", nonce="n", token="t")
    done = subprocess.run(["sh"], input=script, capture_output=True)
    reply = plan.parse_reply(done.stdout, "n")
    assert reply is not None
    with pytest.raises(StartFailed, match="there is no no-such-engine on this machine") as caught:
        docker.read_enter(spec, reply)
    assert caught.value.stage is Stage.CONTAINER and "install no-such-engine" in caught.value.next_step


def test_a_name_that_is_nearly_right():
    reply = Reply((("names", "nav\nother"), ("verb", "refused"), ("stage", "container"),
                   ("cause", "there is no container called nva"), ("next", "docker ps -a")))  # fmt: skip
    with pytest.raises(StartFailed) as caught:
        docker.read_enter(host(Container("nva")), reply)
    assert caught.value.next_step == "did you mean nav? docker ps -a"


@pytest.mark.parametrize(
    ("seen", "cause"),
    [
        (BoxState("running"), ""),
        (BoxState("paused"), "container nav is paused"),
        (BoxState("exited", 137, True), "container nav is exited (out of memory)"),
        (BoxState("exited", 3), "container nav is exited (exit code 3)"),
        (BoxState("removed"), "container nav was removed"),
        (BoxState("unknown", trouble="why"), "docker does not say how container nav is: why"),
    ],
)
def test_why_nothing_answers(seen, cause):
    said, step = docker.why(BOX, seen)
    assert said == cause
    assert not cause or step.startswith("on the machine: docker ")


def test_the_file_that_says_in_which_container():
    assert docker.read_box("docker\n0123456789abcdef\nnav\nrobot\n/tmp/x/nav\nt\n") == BOX
    assert docker.read_box("docker\nid\nnav\n\n/tmp/x\nt") == Box("docker", "id", "nav", "", "/tmp/x", "t")
    assert docker.read_box("") is None
    inside = "/tmp/se-remote-0-0123456789ab-1001/nav"
    theirs = docker.read_box(f"docker\n0123456789abcdef\nnav\n\n{inside}\nt")
    assert theirs is not None and theirs.base == "@0123456789ab-1001"


def test_the_state_of_a_reply():
    assert docker.read_state(Reply((("box_state", "exited 137 true"),))) == BoxState("exited", 137, True)
    assert docker.read_state(None).status == "unknown"


def test_what_decides_how_a_server_runs_is_in_its_hash():
    boxes = [
        Container("a"), Container("b"), Container(image="a"), Container("a", user="u"),
        Container("a", workdir="/w"), Container("a", login=True), Container("a", engine="podman"), None,
    ]  # fmt: skip
    assert len({HostSpec("h", Machine(), docker=box).config_hash for box in boxes}) == len(boxes)


def test_stages_remarks_and_the_window_of_an_answer():
    heard = b"noise\nn at\ncontainer\n\nn note\npulling a:1\n\nn at\ntmux\n\nn window\n/tmp/x/nav\n"
    assert plan.stages(heard, "n") == [
        (Stage.CONTAINER, ""), (Stage.CONTAINER, "pulling a:1"), (Stage.TMUX, ""),
    ]  # fmt: skip
    assert plan.window(heard, "n") == "/tmp/x/nav" and plan.window(heard[:-1], "n") == ""
