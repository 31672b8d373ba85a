"""What labelled processes print, from the worker's registry to the client's."""

from __future__ import annotations

from types import SimpleNamespace

from scenario_execution.actions.process_registry import ProcessRegistry

from remote_exec.host.outputs import PORTION, StreamedRegistry
from remote_exec.tree.outputs import RemoteProcesses


class Process:
    def __init__(self, *lines):
        self.lines, self.complete = list(lines), False

    def get_output_snapshot(self):
        return list(self.lines)

    def is_output_complete(self):
        return self.complete


class Both:
    """Both registries, with the events carried over."""

    def __init__(self, listening=True):
        self.events: list[dict] = []
        self.there = StreamedRegistry(self.events.append if listening else None, 0.1)
        self.here = ProcessRegistry()
        self._remote = RemoteProcesses(self.here)

    def carry(self):
        events, self.events[:] = list(self.events), []
        for event in events:
            self._remote.took(event["ev"], event)

    def lost(self):
        self._remote.lost()


def test_lines_and_the_end_arrive():
    both, process = Both(), Process("a")
    both.there.register("noise", process)
    both.carry()
    (entry,) = both.here.get("noise")
    assert entry.get_output_snapshot() == [] and both.there.get("noise") == [process]
    both.there.send_due(1.0)
    both.carry()
    assert entry.get_output_snapshot() == ["a"] and not entry.is_output_complete()
    process.lines += ["b", "ü" * 9000]
    process.complete = True
    both.there.send_of(process)
    both.carry()
    assert entry.get_output_snapshot()[1] == "b" and entry.is_output_complete()
    both.there.send_due(2.0)
    assert both.events == []


def test_many_lines_come_in_portions_and_the_end_after_the_last():
    both, process = Both(), Process(*map(str, range(PORTION + 1)))
    process.complete = True
    both.there.register("noise", process)
    both.there.send_due(1.0)
    both.carry()
    (entry,) = both.here.get("noise")
    assert len(entry.get_output_snapshot()) == PORTION and not entry.is_output_complete()
    both.there.send_due(1.05)
    assert both.events == []
    both.there.send_due(1.1)
    both.carry()
    assert entry.get_output_snapshot() == process.lines and entry.is_output_complete()


def test_a_lost_host_ends_its_output():
    both = Both()
    both.there.register("noise", Process("a"))
    both.carry()
    both.lost()
    assert both.here.get("noise")[0].is_output_complete()


def test_nothing_is_streamed_when_nobody_looks_and_odd_entries_do_no_harm():
    both = Both(listening=False)
    both.there.register("noise", Process("a"))
    both.there.send_due(1.0)
    assert both.events == [] and both.there.next_due() is None
    both = Both()
    both.there.register("odd", SimpleNamespace())
    both.there.register("broken", SimpleNamespace(get_output_snapshot=lambda: 1 / 0, is_output_complete=bool))
    both.there.send_due(1.0)
    assert [event["ev"] for event in both.events] == ["process"]
