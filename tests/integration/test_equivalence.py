"""A remote action behaves like a local one: every case runs twice with the real command, and is compared.

Compared are the result, the statuses that every node went through (from `--bt-log`), and what was logged of
variables and arguments. The cases (equivalence/cases.py) run in a few files of many scenarios, all of them
against one server. RUNNING is left out of the comparison: a result that comes later than in the tick of its
execution leaves one that is not there locally, and as the host does not tick at the same moments, one that
lasts for a single period locally may not be seen.
"""

from __future__ import annotations

import csv
import json
import re
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

import pytest

sys.path.insert(0, str(Path(__file__).parent))
sys.path.insert(0, str(Path(__file__).parent / "equivalence"))
from cases import CASES, HEAD, scenario
from scenario_tools import Server, commands_running, eventually, run_scenario

HERE = Path(__file__).parent / "equivalence"
ACTIONS = {
    "eq_show": "Show",
    "eq_args": "Args",
    "eq_count": "Count",
    "eq_flaky": "Flaky",
    "eq_trouble": "Trouble",
    "eq_cancellable": "Cancellable",
    "eq_ref": "Reference",
    "robot_eq.eq_mood": "Mood",
    "robot_eq.eq_tell": "Tell",
    "eq_context": "Context",
    "eq_twice": "Twice",
    "eq_processes": "Processes",
    "eq_other": "Other",
}
NOISE = "echo first\nsleep 0.4\necho second\nsleep 0.3\n"
SAID = re.compile(r"eq |-?\d|[\[{(]|(one|two|grü.*|a|b|try)$")
FILES = 4
AT_THE_END = ("emit_end", "emit_fail")
"""Locally nobody tells an action that runs when the scenario ends; remotely it is cancelled."""


def write_plugin(folder: Path, without: str = "") -> Path:
    """The distribution `eq-actions`; the folder belongs on PYTHONPATH."""
    package = folder / "eq_actions_osc"
    (package / "lib_osc").mkdir(parents=True)
    (package / "__init__.py").write_text("")
    shutil.copy(HERE / "eq_actions.py", folder)
    shutil.copy(HERE / "eq.osc", package / "lib_osc")
    info = folder / "eq_actions-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: eq-actions\nVersion: 1.0\n")
    actions = "".join(f"{name} = eq_actions:{kind}\n" for name, kind in ACTIONS.items() if name != without)
    (info / "entry_points.txt").write_text(
        f"[scenario_execution.actions]\n{actions}\n[scenario_execution.modifiers]\nhere = eq_actions:here\n\n"
        "[scenario_execution.osc_libraries]\neq = eq_actions:library\n"
    )
    return folder


@pytest.fixture(scope="module")
def plugin(tmp_path_factory):
    return write_plugin(tmp_path_factory.mktemp("plugin"))


@pytest.fixture(scope="module")
def server(plugin, tmp_path_factory):
    server = Server(tmp_path_factory.mktemp("server"), plugin, env={"EQ_SIDE": "host"})
    yield server
    server.stop()


def written(text: str, server: Server | None) -> str:
    """As it is run with this server, or locally."""
    if server is None:
        return re.sub(r"REMOTE(_OF\(where\)|_NOBODY)?", "here()", text)
    text = text.replace("REMOTE_NOBODY", f'remote("{server.path}.nobody")')
    text = text.replace("REMOTE_OF(", "remote(").replace("ADDRESS", str(server.path))
    return text.replace("REMOTE", f'remote("{server.path}")')


# --- what a run was


@dataclass
class Seen:
    """What is the same locally and remotely."""

    passed: bool | None
    statuses: dict[str, list[list[str]]]
    """For each name, of every node with that name the statuses it went through."""
    said: list[str]


def statuses_in(path: Path) -> dict[str, list[list[str]]]:
    if not path.exists():
        return {}
    nodes: dict[str, tuple[str, list[str]]] = {}
    for line in path.read_text().splitlines()[1:]:
        record = json.loads(line)
        if not record.get("removed"):
            _, seen = nodes.setdefault(record["behavior_id"], (record["behavior_name"], []))
            seen.append(record["status"])
    found: dict[str, list[list[str]]] = {}
    for name, seen in nodes.values():
        if name != "remote":  # the decorator that stands for it on a composition
            found.setdefault(name, []).append(seen)
    return found


def said_in(output: str) -> list[str]:
    """What actions have said (sorted), without the prefix of where they run."""
    texts = re.findall(r"^\[\w+\] \[[\d.]+\] \[scenario_execution\]: (.*)$", output, re.M)
    plain = [re.sub(r"^\[/\S+\] ", "", text) for text in texts]
    return sorted(text for text in plain if SAID.match(text))


def seen_in(folder: Path, output: str, name: str) -> Seen:
    begin = output.index(f"Executing scenario '{name}'")
    end = output.find("Executing scenario '", begin + 1)
    results = {
        case.get("name"): case.find("failure") is None
        for case in ElementTree.parse(folder / "out" / "test.xml").getroot().iter("testcase")
    }
    part = output[begin : end if end > 0 else None]
    return Seen(results.get(name), statuses_in(folder / "out" / name / "behaviors.jsonl"), said_in(part))


class Runs:
    """All cases, run on both sides; the files of one side run after another, the sides at once."""

    def __init__(self, plugin: Path, server: Server, folder: Path) -> None:
        self._folders: dict[str, dict[str, Path]] = {"local": {}, "remote": {}}
        self._outputs: dict[Path, str] = {}
        names = list(CASES)
        for number in range(FILES):
            self._run(plugin, server, folder / str(number), names[number::FILES])

    def _run(self, plugin: Path, server: Server, folder: Path, names: list[str]) -> None:
        text = HEAD + "".join(scenario(name, *CASES[name]) for name in names)
        running = {}
        for side, of in (("local", None), ("remote", server)):
            place = folder / side
            place.mkdir(parents=True)
            (place / "noise.sh").write_text(NOISE)
            options = ("-o", "out", "--bt-log", "--tick-log")
            running[place] = run_scenario(place, plugin, written(text, of), *options)
            self._folders[side].update(dict.fromkeys(names, place))
        for place, one in running.items():
            one.process.wait(300)
            one.result()
            one.stop()
            self._outputs[place] = one.output

    def timed(self, side: str, name: str) -> set[tuple[str, str]]:
        """Name and phase of what `--tick-log` has timed, for phases that both kinds of node have."""
        path = self._folders[side][name] / "out" / name / "action_timing.csv"
        with path.open(newline="") as file:
            rows = [(row["behavior_name"], row["phase"]) for row in csv.DictReader(file)]
        return {row for row in rows if row[1] in ("setup", "update")}

    def of(self, side: str, name: str) -> Seen:
        folder = self._folders[side][name]
        output = self._outputs[folder]
        complete = f"Executing scenario '{name}'" in output and (folder / "out" / "test.xml").exists()
        assert complete, output[-4000:]
        return seen_in(folder, output, name)


@pytest.fixture(scope="module")
def runs(plugin, server, tmp_path_factory):
    return Runs(plugin, server, tmp_path_factory.mktemp("runs"))


def without_running(sequence: list[str]) -> list[str]:
    kept = [status for status in sequence if status != "RUNNING"]
    return [status for number, status in enumerate(kept) if number == 0 or kept[number - 1] != status]


@pytest.mark.parametrize("name", CASES)
def test_remote_is_as_local(runs, name):
    local, remote = runs.of("local", name), runs.of("remote", name)
    assert remote.passed is local.passed and local.passed is not None
    if name not in AT_THE_END:
        assert remote.said == local.said
    for node, sequences in remote.statuses.items():
        expected = local.statuses[node]
        assert list(map(without_running, sequences)) == list(map(without_running, expected)), node
    inside = set(local.statuses) - set(remote.statuses)
    assert not inside or name.startswith("subtree"), inside


def test_nothing_is_left_of_any_case(runs):
    eventually(lambda: not commands_running("sleep 600."), "a process was left behind")


# --- where the local runner crashes, or does not even start


@pytest.fixture
def run(tmp_path, plugin, server):
    """Run a text on one side: exit code, output, and the failures in its test.xml (None: there is none)."""
    started = []

    def both(side: str, body: str, *options: str, at: Server | None = None, members: str = "", using=plugin):
        folder = tmp_path / side
        folder.mkdir()
        text = written(HEAD + scenario("test", body, members), (at or server) if side == "remote" else None)
        one = run_scenario(folder, using, text, "-o", "out", *options)
        started.append(one)
        code = one.result()
        xml = folder / "out" / "test.xml"
        failures = list(ElementTree.parse(xml).getroot().iter("failure")) if xml.exists() else None
        texts = None if failures is None else "\n".join(f"{f.get('message')} {f.text}" for f in failures)
        return code, one.output, texts

    yield both
    for one in started:
        one.stop()


def trouble(phase: str, what: str = "raise") -> str:
    return f"eq_trouble('{phase}', '{what}') with:\n    REMOTE\n"


CANCELLED = """
eq_trouble('terminate INVALID', 'raise') with:
    failure_is_success()
    timeout(0.4s)
    REMOTE
"""
CRASHES = {
    "raises in execute": (trouble("execute"), "ActionError: trouble in execute"),
    "raises in update": (trouble("update"), "ActionError: trouble in update"),
    "raises in terminate": (trouble("terminate"), "ActionError: trouble in terminate"),
    "exits in update": (trouble("update", "exit"), "exit"),
    "ends the process in update": (trouble("update", "_exit"), "code 4"),
    "exits in execute": (trouble("execute", "exit"), "exit"),
    "no variable": ("increment('x') with:\n    REMOTE\n", "variable reference"),
    "a parameter is no variable": ("increment(k) with:\n    REMOTE\n", "VariableDeclaration"),
    "unknown operator": ("compare('a', '~', 'b') with:\n    REMOTE\n", "Unknown expression operator"),
}


@pytest.mark.parametrize("body, reason", CRASHES.values(), ids=CRASHES.keys())
def test_where_locally_the_runner_crashes_it_is_a_failure_with_a_reason(run, body, reason):
    code, output, texts = run("local", body, members="k: int = 1")
    assert code != 0 and texts is None, output
    code, output, texts = run("remote", body, members="k: int = 1")
    assert code == 1 and texts is not None and reason in texts, output
    assert "\nTraceback" not in output


def test_an_exception_when_it_is_cancelled_is_logged(run):
    code, output, texts = run("local", CANCELLED)
    assert code != 0 and texts is None, output
    code, output, texts = run("remote", CANCELLED)
    assert code == 0 and "trouble in terminate INVALID" in output, output


@pytest.mark.parametrize(
    "body, reason",
    [
        (trouble("init"), "trouble in init"),
        (trouble("setup"), "trouble in setup"),
        ("no_such_action('x') with:\n    REMOTE\n", "no_such_action"),
    ],
    ids=["raises in __init__", "raises in setup", "a missing plugin here"],
)
def test_what_fails_before_the_first_tick_fails_alike(run, body, reason):
    for side in ("local", "remote"):
        code, output, texts = run(side, body)
        assert code == 1 and texts is not None and reason in texts, output


@pytest.mark.parametrize(
    "body, reason",
    [
        (trouble("init", "raise there"), "ValueError: trouble in init"),
        ("eq_other('word') with:\n    REMOTE\n", "count"),
    ],
    ids=["raises in __init__ there", "another signature there"],
)
def test_what_is_wrong_on_the_host_alone_is_told_with_its_place(run, body, reason):
    code, output, texts = run("remote", body)
    assert code == 1 and texts is not None and reason in texts and "test.osc:8" in output, output


def test_a_plugin_that_is_missing_on_the_host(run, tmp_path):
    (tmp_path / "bare").mkdir()
    bare = Server(tmp_path, write_plugin(tmp_path / "bare", without="eq_count"))
    try:
        code, output, texts = run("remote", "eq_count(1) with:\n    REMOTE\n", at=bare)
    finally:
        bare.stop()
    assert code == 1 and texts is not None and "no action plugin 'eq_count'" in texts, output


def test_a_dry_run_of_everything_touches_nobody(tmp_path, plugin):
    class Nobody:
        path = tmp_path / "nobody"

    text = HEAD + "".join(scenario(name, *CASES[name]) for name in CASES)
    one = run_scenario(tmp_path, plugin, written(text, Nobody), "--dry-run")
    assert one.result() == 0 and "nobody" not in one.output, one.output
    one.stop()


def test_a_value_that_cannot_cross_fails_where_it_is_set(run):
    code, output, texts = run("remote", "eq_ref(x, 'object') with:\n    REMOTE\n", members="var x: int = 0")
    assert code == 1 and texts is not None, output
    assert "variable /test/x: a value of type object cannot be sent" in texts


def test_the_records_of_both_sides_name_the_same_actions(runs):
    for name in ("labels", "on_parallel"):
        local, remote = (runs.timed(side, name) for side in ("local", "remote"))
        assert remote and {row for row in remote if row[0] != "remote"} <= local
