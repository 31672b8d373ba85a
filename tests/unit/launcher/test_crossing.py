"""Files that cross with a session: what is planned, said, tried again, given up. Real shells."""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from launcher import crossing, files, plan, scripts
from launcher.crossing import Crossing, Telling, folders_of, size
from launcher.errors import LauncherError, NotTrusted, StageError, Unreachable
from launcher.files import Fetched, Step
from launcher.model import Completed, HostSpec, Machine, Push, Stage
from remote_exec.client.paths import PathMap

SHELLS = [["dash"], ["bash"], ["bash", "--posix"], ["busybox", "sh"], ["zsh", "--emulate", "sh"]]
FAR = HostSpec("lab-pc", Machine("lab-pc.example"), lease=0.6)


def run(shell: list[str], script: bytes, home: Path) -> plan.Reply:
    if shutil.which(shell[0]) is None:
        pytest.skip(f"no {shell[0]} here")
    environ = {"HOME": str(home), "PATH": os.environ["PATH"]}
    done = subprocess.run(shell, input=script, capture_output=True, env=environ, timeout=30)
    reply = plan.parse_reply(done.stdout, "n")
    assert reply is not None, (done.stdout, done.stderr)
    return reply


@pytest.mark.parametrize("shell", SHELLS, ids=" ".join)
def test_the_folders_there_are_made_ours_alone_and_removed_when_nothing_is_in_them(shell, tmp_path):
    home, base = tmp_path / "a home", tmp_path / "base"
    home.mkdir()
    script = scripts.places("lab-pc", base=str(base), nonce="n", keys=["k1", "k2"], session="abc")
    reply = run(shell, script, home)
    assert (reply.get("home"), reply.get("run")) == (str(home), f"{base}/lab-pc")
    assert all((base / "lab-pc/push" / key).is_dir() for key in ("k1", "k2"))
    output = Path(reply.get("output"))
    assert output.parent == home / ".local/state/se-remote/outputs/lab-pc"
    assert output.stat().st_mode & 0o777 == 0o700

    def tidy(deep: bool) -> str:
        return run(shell, scripts.tidy(base="", nonce="n", output=str(output), deep=deep), home).get("left")

    (output / "a b" / "c").mkdir(parents=True)
    (output / "a b" / "file").touch()
    assert tidy(False) == "yes" and tidy(True) == "yes"
    assert (output / "a b" / "file").exists() and not (output / "a b" / "c").exists()
    (output / "a b" / "file").unlink()
    assert tidy(False) == "yes" and tidy(True) == "no" and tidy(False) == "gone"
    assert list((home / ".local/state/se-remote").iterdir()) == []
    refused = run(shell, scripts.tidy(base="", nonce="n", output=str(home), deep=True), home)
    assert refused.verb == "refused" and home.exists()


def test_without_a_session_nothing_is_made_and_a_full_or_closed_disk_is_named(tmp_path):
    reply = run(["sh"], scripts.places("h", base=str(tmp_path), nonce="n", keys=[], session=""), tmp_path)
    assert reply.get("output") == "" and list(tmp_path.iterdir()) == []
    (tmp_path / ".local").touch()
    reply = run(["sh"], scripts.places("h", base=str(tmp_path), nonce="n", keys=[], session="x"), tmp_path)
    assert (reply.verb, reply.get("stage")) == ("refused", "push") and "cannot make" in reply.get("cause")


def test_two_clients_or_two_folders_never_share_a_place():
    host = HostSpec("h", Machine("m"), push=(Push(), Push("/maps"), Push("/x/y", "site")))
    found = folders_of(host, Path("/home/me/nav"), "me@laptop")
    assert [folder.name for folder in found] == ["nav", "maps", "site"]
    assert [str(folder.path) for folder in found] == ["/home/me/nav", "/maps", "/x/y"]
    others = [
        folders_of(host, Path("/home/me/nav"), "you@laptop"),
        folders_of(host, Path("/nav"), "me@laptop"),
    ]
    keys = [folder.key for folder in found] + [other[0].key for other in others]
    assert len(set(keys)) == 5
    assert found == folders_of(host, Path("/home/me/nav"), "me@laptop")
    assert len(folders_of(host, None, "me@laptop")) == 2, "without a scenario there is no folder of it"


def test_progress_is_said_after_a_while_and_not_too_often():
    clock, said = [0.0], []
    telling = Telling(lambda: clock[0], said.append)
    for now in (0.0, 0.5, 0.9, 1.5, 2.0, 6.4, 6.6):
        clock[0] = now
        telling(Step("h", int(now * 1e6), 10_000_000, "bag"))
    assert said == [
        "1.5 MB of 10.0 MB, 1.0 MB/s, 8 s left (bag)",
        "6.6 MB of 10.0 MB, 1.0 MB/s, 3 s left (bag)",
    ]
    assert [size(n) for n in (0, 999, 1000, 2_500_000, 3e9)] == ["0 B", "999 B", "1.0 kB", "2.5 MB", "3.0 GB"]


class Desk:
    """A crossing whose host answers from a list: an error, or what a fetch brought."""

    def __init__(self, monkeypatch, tmp_path: Path, *outcomes: object) -> None:
        self.outcomes = list(outcomes)
        self.said: list[tuple[str, str]] = []
        self.tries = 0
        self.hurried = threading.Event()
        self.crossing = Crossing(self.reach, self.remark, self.hurried)
        self.crossing._outputs = [crossing._Output(FAR, "/outputs/lab-pc/1", tmp_path / "out")]
        monkeypatch.setattr(files, "fetch", self.fetch)
        monkeypatch.setattr(Crossing, "_tidy", self.tidy)
        self.left = ["yes", "no"]
        self.before_it_ends: list[tuple[str, str]] = []

    async def reach(self, host: HostSpec) -> object:
        return object()

    async def tidy(self, *_: object, deep: bool) -> str:
        return self.left[deep]

    async def fetch(self, *_: object, beside: Callable[[str, str], None], **__: object) -> Fetched:
        self.tries += 1
        outcome = self.outcomes.pop(0) if len(self.outcomes) > 1 else self.outcomes[0]
        if isinstance(outcome, float):
            await asyncio.sleep(outcome)
            raise AssertionError("it was to be given up")
        if isinstance(outcome, Exception):
            for pair in self.before_it_ends:
                beside(*pair)
            raise outcome
        assert isinstance(outcome, Fetched)
        for pair in outcome.beside:
            beside(*pair)
        return outcome

    def remark(self, host: HostSpec, stage: Stage, text: str, level: str) -> None:
        self.said.append((level, text))

    def back(self, *given_up: str, interrupted: bool = False) -> list[str]:
        return asyncio.run(self.crossing.bring_back(given_up, lambda: interrupted))


CUT = Unreachable("lab-pc", Stage.CONNECT, "the connection was cut")
ALL = Fetched(("bag",), 10, (), ())


def test_a_cut_is_tried_again_and_what_came_is_said(monkeypatch, tmp_path):
    desk = Desk(monkeypatch, tmp_path, CUT, Fetched(("bag", "x.lab-pc"), 10, (("x", "x.lab-pc"),), ()))
    desk.before_it_ends = [("w", "w.lab-pc"), ("x", "x.lab-pc")]
    assert desk.back() == [] and desk.tries == 2
    assert [level for level, _ in desk.said] == ["warning", "warning", "info"]
    assert "2 output files fetched" in desk.said[2][1]
    assert "w.lab-pc" in desk.said[0][1] and "x.lab-pc" in desk.said[1][1], "each once"
    assert desk.back() == [], "once"


@pytest.mark.parametrize(
    ("unchanged", "text"),
    [(0, "2 output files fetched into {} (10 B)"), (1, "1 output file fetched into {} (10 B), 1 unchanged"),
     (2, "2 output files unchanged in {}")],
)  # fmt: skip
def test_what_was_here_already_is_not_said_to_be_fetched(monkeypatch, tmp_path, unchanged, text):
    desk = Desk(monkeypatch, tmp_path, Fetched(("a", "b"), 10, (), (), unchanged))
    assert desk.back() == []
    assert desk.said == [("info", text.format(tmp_path / "out"))]


def test_a_folder_that_is_gone_there_is_named(monkeypatch, tmp_path):
    desk = Desk(monkeypatch, tmp_path, ALL)
    desk.left = ["gone", "no"]
    (left,) = desk.back()
    assert "/outputs/lab-pc/1 is not there any more" in left and desk.tries == 0
    assert desk.said == [("error", left.removeprefix("output files of lab-pc did not come: "))]


def test_a_name_with_any_byte_is_said_in_one_line(monkeypatch, tmp_path):
    odd = "two\nlines \udcff"
    fetched = Fetched(("x",), 1, ((odd, f"{odd}.lab-pc"),), ((odd, f"a link that leads outside, to {odd}"),))
    desk = Desk(monkeypatch, tmp_path, fetched)
    desk.back()
    texts = [text for _, text in desk.said]
    assert len(texts) == 3
    for text in texts:
        assert text.isprintable() and text.encode()


def test_a_way_that_was_renewed_while_it_was_fetched_is_not_used_any_more(monkeypatch, tmp_path):
    desk, ways = Desk(monkeypatch, tmp_path, ALL), iter(["old", "new"])
    used = []

    async def reach(self, host):
        return next(ways)

    async def tidy(self, item, runner, *_, deep):
        used.append(runner)
        return "no" if deep else "yes"

    desk.crossing._reach = reach.__get__(desk)
    monkeypatch.setattr(Crossing, "_tidy", tidy)
    assert desk.back() == [] and used == ["old", "new"]


@pytest.mark.parametrize(
    ("error", "given_up", "tries"),
    [
        (CUT, (), 2),
        (CUT, ("lab-pc",), 1),
        (NotTrusted("lab-pc", Stage.CONNECT, "its key has changed"), (), 1),
        (StageError("lab-pc", Stage.FETCH, "the disk is full"), (), 1),
    ],
)
def test_what_cannot_be_fetched_stays_and_is_named(monkeypatch, tmp_path, error, given_up, tries):
    desk = Desk(monkeypatch, tmp_path, error)
    (text,) = desk.back(*given_up)
    assert error.cause in text and "/outputs/lab-pc/1" in text and "se-remote pull lab-pc" in text
    assert desk.tries == 1 if tries == 1 else desk.tries >= tries
    assert [level for level, _ in desk.said] == ["error"]


def test_names_that_did_not_come_and_what_was_written_late(monkeypatch, tmp_path):
    desk = Desk(monkeypatch, tmp_path, Fetched(("a",), 1, (), (("big", "no space left on device"),)))
    desk.left = ["yes", "yes"]
    (text,) = desk.back()
    assert text == "output files of lab-pc did not come: big: no space left on device; se-remote pull lab-pc"
    assert "big was not fetched: no space left on device" in desk.said[1][1]
    desk = Desk(monkeypatch, tmp_path, ALL)
    desk.left = ["yes", "yes"]
    (text,) = desk.back()
    assert "after the actions had ended" in text
    desk = Desk(monkeypatch, tmp_path, Fetched((), 0, (), tuple((name, "why") for name in "abcde")))
    (text,) = desk.back()
    assert "c: why; and 2 more; se-remote pull lab-pc" in text
    assert len(desk.said) == 5, "each is said"
    desk = Desk(monkeypatch, tmp_path, ALL)
    desk.left = ["no", "no"]
    assert desk.back() == [] and desk.tries == 0 and desk.said == [], "nothing was written"


def test_hurry_and_time_after_an_interrupt_give_it_up(monkeypatch, tmp_path):
    desk = Desk(monkeypatch, tmp_path, 30.0)
    desk.hurried.set()
    (text,) = desk.back()
    assert "did not come: interrupted. " in text
    monkeypatch.setattr(crossing, "INTERRUPTED_S", 0.3)
    desk = Desk(monkeypatch, tmp_path, 30.0)
    (text,) = desk.back(interrupted=True)
    assert "given up some time after an interrupt" in text


def test_on_this_machine_nothing_crosses(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", "/home/me")
    desk = Desk(monkeypatch, tmp_path, ALL)
    here = HostSpec("local", Machine(), push=(Push(),), path_map={"~/a": "~/b", "/c": "/d"})
    sent = asyncio.run(desk.crossing.send([here], tmp_path, tmp_path))
    assert sent["local"].paths == (("/home/me/a", "/home/me/b"), ("/c", "/d")) and sent["local"].output == ""


def test_all_hosts_come_to_their_end_before_an_error_is_raised(tmp_path):
    ended = []

    class Slow:
        async def run(self, *_: object, **__: object) -> Completed:
            await asyncio.sleep(0.2)
            ended.append(True)
            return Completed(0, b"", b"")

    async def reach(host: HostSpec) -> object:
        return Slow()

    desk = Crossing(reach, lambda *_: None, threading.Event())
    wrong = HostSpec(
        "wrong", Machine("m"), push=(Push(str(tmp_path / "nowhere")),), source="se-remote.yaml:4"
    )
    with pytest.raises(LauncherError, match="nowhere is no folder"):
        asyncio.run(desk.send([wrong, FAR], None, tmp_path))
    assert ended == [True]


def test_what_is_in_the_output_folder_before_the_run_is_no_output_when_the_scenario_lies_there(tmp_path):
    work, elsewhere = tmp_path / "work", tmp_path / "elsewhere"
    work.mkdir()
    (work / "drive").touch()
    assert crossing._inputs_in(work, work) == ["drive"] == crossing._inputs_in(work, work / "deep")
    assert crossing._inputs_in(elsewhere, work) == [] == crossing._inputs_in(work, None)


def test_the_output_folder_comes_last_but_before_a_folder_that_is_sent_and_is_the_same():
    sent = [("/maps", "/opt/maps"), ("/work", "/run/push/work")]
    assert crossing._with_output(sent, 1, "/out", "/o", []) == [*sent, ("/out", "/o")]
    paths = PathMap(crossing._with_output(sent, 1, "/work", "/o", ["drive"]))
    assert paths.path("/work/drive") == "/run/push/work/drive"
    assert paths.path("/work/new") == "/o/new" and paths.path("/work") == "/o"
    paths = PathMap(crossing._with_output([], 0, "/work", "/o", ["drive"]))
    assert paths.path("/work/drive") == "/work/drive" and paths.path("/work/new") == "/o/new"
