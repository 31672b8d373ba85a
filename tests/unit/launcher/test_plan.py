"""Decisions from replies."""

import json
from dataclasses import replace

import pytest

from launcher import plan
from launcher.errors import Conflict, LauncherError, NotReady, StartFailed, Unreachable
from launcher.model import Completed, Container, HostSpec, Machine, Stage, State
from remote_exec.messages import WIRE_VERSION

SPEC = HostSpec("lab-pc", Machine("lab-pc.example"), python="~/venv/bin/python", source="lab.yaml:7")
NONCE = "0123abcd"


def frames(**sections: object) -> plan.Reply:
    texts = ((k, v if isinstance(v, str) else json.dumps(v)) for k, v in sections.items())
    return plan.Reply(tuple(texts))


def test_wire_version_is_the_servers():
    assert plan.WIRE == WIRE_VERSION


def test_reply_stands_between_noise():
    out = b"welcome\r\n0123abcd\n\n0123abcd verb\nready\n\n0123abcd log\na\n\nb\n"
    out += b"\n0123abcd end\nbye 0123abcd x\n"
    reply = plan.parse_reply(out, NONCE)
    assert reply is not None
    assert reply.verb == "ready" and reply.get("log") == "a\n\nb" and reply.get("state") == ""


@pytest.mark.parametrize("out", [b"", b"noise", b"\n0123abcd verb\nready\n", b"\xff\xfe\n0123abcd verb\n"])
def test_a_cut_reply_is_none(out):
    assert plan.parse_reply(out, NONCE) is None


def test_slug():
    assert plan.slug("lab-pc+debug") == "lab-pc+debug"
    odd = [plan.slug(name) for name in ("tmux", "a/b", "a b", "..", "x" * 90, "-", "", "Grüße")]
    assert len(set(odd)) == len(odd)
    for name in odd:
        assert len(name) <= 48 and "/" not in name and name not in ("tmux", ".", "..", "-") and name


def test_no_frame():
    assert plan.no_frame("lab", Completed(None, b"", b"")).stage is Stage.CONNECT
    error = plan.no_frame("lab", Completed(1, b"", b"This account is currently not available.\n"))
    assert error.stage is Stage.SHELL and "not available" in error.tail[0]


@pytest.mark.parametrize(
    ("sections", "kind", "stage", "text"),
    [
        ({"verb": "refused", "stage": "tmux", "cause": "none"}, StartFailed, Stage.TMUX, "none"),
        ({"verb": "timeout", "stage": "setup"}, NotReady, Stage.READY, "the last step was `setup`"),
        ({"verb": "dead", "exit": {"stage": "setup", "code": 3}}, StartFailed, Stage.SETUP, "exit code 3"),
        ({"verb": "dead", "exit": {"stage": "setup", "code": 0}}, StartFailed, Stage.SETUP, "ended the"),
        ({"verb": "dead", "exit": {"stage": "python", "code": 9}}, StartFailed, Stage.PYTHON, "~/venv"),
        ({"verb": "dead", "exit": {"stage": "server", "code": 139}}, StartFailed, Stage.START, "signal 11"),
        ({"verb": "dead", "exit": {"code": 1}, "python": "3.8.10"}, StartFailed, Stage.PYTHON, "3.8"),
        (
            {"verb": "dead", "exit": {"stage": "server", "code": 1}, "log": "x\nNo module named 'zmq'"},
            StartFailed, Stage.PYTHON, "cannot import zmq",
        ),
        ({"verb": "ready", "endpoint": "{half"}, StartFailed, Stage.START, "ended"),
        ({"verb": "what"}, StartFailed, Stage.START, "what"),
    ],
)  # fmt: skip
def test_errors_of_a_bring_up(sections, kind, stage, text):
    with pytest.raises(kind, match=None) as caught:
        plan.read_bring_up(SPEC, frames(**sections))
    assert caught.value.stage is stage and text in str(caught.value)


def test_a_python_that_is_not_there_may_be_taken_out_and_provisioned():
    with pytest.raises(StartFailed) as caught:
        plan.read_bring_up(SPEC, frames(verb="dead", exit={"stage": "python", "code": 127}))
    assert caught.value.next_step.endswith(f"or take it out there and: se-remote provision {SPEC.name}")
    assert "correct `python` of" in caught.value.next_step


@pytest.mark.parametrize(
    ("log", "text"),
    [
        ("cd: /ws: No such file", "there is no /ws in the"),
        ("cd: /ws: Permission denied", "may not enter /ws"),
    ],
)
def test_a_working_directory_that_is_not_in_the_container(log, text):
    spec = replace(SPEC, docker=Container("nav", workdir="/ws"))
    with pytest.raises(StartFailed) as caught:
        plan.read_bring_up(spec, frames(verb="dead", exit={"stage": "workdir", "code": 1}, log=log))
    assert caught.value.stage is Stage.CONTAINER and text in caught.value.cause
    assert caught.value.next_step.startswith("edit `docker.workdir` ")


def found(**endpoint: object) -> plan.Found:
    values = {
        "socket": "/s",
        "config": SPEC.config_hash,
        "wire": WIRE_VERSION,
        "started_by": "ann@pc",
        **endpoint,
    }
    return plan.read_bring_up(SPEC, frames(verb="running", run="/r", endpoint=values, state={"sessions": []}))


def test_fits():
    assert plan.fits(SPEC, found())
    assert not plan.fits(SPEC, found(config="other"))
    assert not plan.fits(SPEC, found(wire=9))


@pytest.mark.parametrize(
    ("state", "text"),
    [
        (
            {"sessions": [{"client": {"user": "bob", "machine": "pc", "pid": 3, "what": "x.osc"}}]},
            "bob@pc (pid 3) for x.osc",
        ),
        ({"sessions": [], "ephemeral": False}, "kept up by ann@pc"),
    ],
)  # fmt: skip
def test_users_are_named(state, text):
    seen = plan.Found("/r", False, found(wire=9).endpoint, state)
    assert plan.users(seen) == (text,)
    error = plan.conflict(SPEC, seen)
    assert isinstance(error, Conflict) and text in str(error) and "wire version 9" in str(error)


def test_unused():
    assert plan.users(found()) == ()


def test_other_sessions_than_our_own():
    mine = {"client": {"id": "a1", "machine": "pc", "pid": 1}}
    theirs = {"client": {"id": "b2", "user": "ann", "machine": "pc", "pid": 1}}
    assert plan.others([mine], {"id": "a1"}) == ()
    assert plan.others([mine, theirs, theirs], {"id": "a1"}) == ("ann@pc (pid 1)",)
    assert plan.others([theirs], {"user": "ann", "machine": "pc"}) == ()
    assert plan.others([theirs], {"user": "ann", "machine": "elsewhere"})
    assert plan.others([mine], {}) and plan.others([{}], {"id": "a1"})


def test_stop():
    done = plan.read_stop("lab", frames(verb="stopped", how="killed", left="12 sleep\n"), {})
    assert done.left == ("12 sleep",) and done.users == ()
    state = {"ephemeral": True, "sessions": [{"id": "1", "client": {"user": "ann", "machine": "pc"}}]}
    used = plan.read_stop("lab", frames(verb="used", state=state, silent="yes"), {})
    assert used.how == "used" and len(used.sessions) == 1 and not used.kept and used.silent
    assert used.users == ("ann@pc (pid ?)",)
    assert plan.read_stop("lab", frames(verb="stopped", how="graceful", state=state), {}).users == used.users
    with pytest.raises(StartFailed):
        plan.read_stop("lab", frames(verb="refused", stage="shell", cause="symlink", next="rm"), {})


def test_status():
    windows = "@1 0 se-remote a|a\n@2 0 se-remote |mine\n"
    reply = plan.Reply(
        (
            ("verb", "status"),
            ("host", "a"), ("seen", "running"), ("endpoint", '{"pid": 1}'), ("state", '{"sessions": []}'),
            ("host", "b"), ("seen", "none"), ("exit", '{"stage": "server", "code": 3}'),
            ("host", "c"), ("seen", "starting"), ("stage", "setup"),
            ("host", "d"), ("seen", "none"),
            ("windows", windows),
        )
    )  # fmt: skip
    seen = {one.name: one for one in plan.read_status(["a", "gone", "mine"], reply)}
    assert {name: one.state for name, one in seen.items()} == {
        "a": State.READY, "gone": State.STOPPED, "mine": State.CONFLICT,
        "b": State.DEAD, "c": State.STARTING, "d": State.DEAD,
    }  # fmt: skip
    assert seen["a"].endpoint == {"pid": 1} and "code 3" in seen["b"].reason


@pytest.mark.parametrize(
    ("seen", "lines", "new", "joined"),
    [
        ([], ["a"], ["a"], True),
        (["a", "b"], ["x", "a", "b", "c"], ["c"], True),
        (["a", "b"], ["b", "c"], ["c"], True),
        (["a", "b"], ["a", "b"], [], True),
        (["a"], ["x", "y"], ["x", "y"], False),
        (["a"], [], [], False),
    ],
)
def test_after_overlap(seen, lines, new, joined):
    assert plan.after_overlap(seen, lines) == (new, joined)


def test_several_errors_become_one():
    errors = [StartFailed("a", Stage.SETUP, "x", "edit a"), Unreachable("b", Stage.CONNECT, "y", "ping b")]
    both = plan.joined(errors)
    assert isinstance(both, LauncherError) and both.exit_code == 3
    assert str(both) == "a: setup: x\n    try: edit a\nb: connect: y\n    try: ping b"
    assert plan.joined(errors[:1]) is errors[0]


def test_a_stop_tells_what_on_stop_said():
    text = f"on_stop: braked\non_stop: the command failed (exit code 3): {plan.UNSAFE}\n"
    reply = plan.Reply((("verb", "stopped"), ("how", "graceful"), ("onstop", text), ("left", "7 sleep 1\n")))
    done = plan.read_stop("lab-pc", reply)
    assert done.on_stop[0] == "on_stop: braked" and len(done.on_stop) == 2 and done.unsafe
    assert done.left == ("7 sleep 1",)
    assert not plan.Stopped("graceful", on_stop=("on_stop: done in 0.1 s",)).unsafe


def test_a_status_of_what_is_not_well():
    def status(*sections):
        reply = plan.Reply((("verb", "status"), ("host", "lab-pc"), *sections))
        return plan.read_status(["lab-pc"], reply)[0]

    frozen = status(("seen", "running"), ("frozen", " 12 13"))
    assert frozen.state is State.RUNNING and "kill -CONT 12 13" in frozen.reason
    dead = status(("seen", "none"), ("unsafe", "yes"), ("remains", "7 sleep 100\n8 sleep 200"))
    assert dead.state is State.DEAD and "on_stop has not run" in dead.reason
    assert "pid 7 sleep 100" in dead.reason and "se-remote kill lab-pc" in dead.reason


def test_both_ends_say_it_in_the_same_words():
    from remote_exec.host import safe_state

    assert plan.UNSAFE == safe_state.UNSAFE
