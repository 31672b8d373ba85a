"""Processes on machines of their own: network namespaces, whose wires are cut and whose power goes."""

from __future__ import annotations

import json
import os
import signal
import subprocess

import namespaces
import pytest
import yaml
from bedcase import MARK
from commandline import BIN, ENDS_WITHIN, Done
from stackbed import LONG, until


class Net:
    """A client's folder in the bed's client network."""

    def __init__(self, bed, name, count):
        self.bed = bed
        self.hosts = bed.hosts[:count]
        self.mark = f"{bed.directory.name}-{name}"
        self.folder = bed.directory / name
        (self.folder / ".ssh").mkdir(parents=True)
        config = f"Host *\n  IdentityFile {bed.identity}\n  UserKnownHostsFile {bed.known_hosts}\n"
        (self.folder / ".ssh" / "config").write_text(config)

    def machine(self, number):
        return f"root@{self.hosts[number].address}"

    def processes(self, **entries):
        ssh = {"identity": str(self.bed.identity), "known_hosts": str(self.bed.known_hosts)}
        entries = {name: {"ssh": ssh, **entry} for name, entry in entries.items()}
        (self.folder / "se-remote.yaml").write_text(yaml.safe_dump({"processes": entries}))

    def start(self, *words):
        env = {
            "PATH": f"{BIN}:{namespaces.PATH}",
            "HOME": str(self.folder),
            MARK: self.mark,
            "LANG": "C.UTF-8",
        }
        return self.bed.popen(
            [str(BIN / "se-remote"), *words],
            cwd=self.folder,
            env=env,
            start_new_session=True,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )

    def ended(self, process):
        out, err = process.communicate(timeout=ENDS_WITHIN)
        assert "Traceback" not in out + err, out + err
        return Done(process.returncode, out, err)

    def run(self, *words):
        return self.ended(self.start(*words))

    def states(self):
        rows = json.loads(self.run("status", "--json").out)
        return {row.get("process") or row["host"]: row["state"] for row in rows}

    def leftovers(self):
        return [text for host in self.hosts for text in host.leftovers()]

    def ledger(self, number):
        path = self.hosts[number].path("/root/ledger")
        return path.read_text().splitlines() if path.exists() else []


@pytest.fixture
def net(bed, request):
    made = Net(bed, f"net-{request.node.name[:20]}", 3)
    try:
        yield made
        namespaces.wait_until(lambda: not made.leftovers(), 20)
        assert made.leftovers() == []
    finally:
        for host in made.hosts:
            host.repair()
            host.run("rm -rf /root/ledger /root/go")


def entry(net, number, name, *depends, **more):
    return {
        "cmd": f"echo {name} >>~/ledger; {LONG}",
        "machine": net.machine(number),
        "depends": [*depends],
        **more,
    }


@pytest.mark.slow
def test_a_stack_over_three_machines_whose_wire_is_cut_meanwhile(net):
    """The run goes on when the wire is back, and starts nothing twice."""
    net.processes(
        a=entry(net, 0, "a"),
        b=entry(net, 1, "b", "a", ready_check="test -e /root/go"),
        c=entry(net, 2, "c", "b"),
    )
    running = net.start("run", "c")
    until(lambda: net.ledger(1))
    net.hosts[1].link(False)
    assert not namespaces.wait_until(lambda: running.poll() is not None, 3)
    net.hosts[1].path("/root/go").touch()
    net.hosts[1].link(True)
    done = net.ended(running)
    assert done.code == 0, done.text
    assert [net.ledger(number) for number in range(3)] == [["a"], ["b"], ["c"]]
    assert {net.states()[name] for name in "abc"} == {"ready"}
    killed = net.run("kill", "a")
    assert killed.code == 0, killed.text


@pytest.mark.slow
def test_a_machine_that_loses_its_power(net):
    """It is named, the others' processes are seen; what ran there is not taken for running afterwards."""
    net.processes(a=entry(net, 0, "a"), b=entry(net, 1, "b", "a", ready_check="false", ready_timeout="20s"))
    running = net.start("run", "b", "--keep")
    until(lambda: net.ledger(1))
    net.hosts[1].switch_off()
    done = net.ended(running)
    assert done.code in (1, 3, 4) and "b" in done.text, done.text
    states = net.states()
    assert (states["a"], states["b"]) == ("ready", "unreachable")
    net.hosts[1].switch_on()
    assert net.states()["b"] in ("dead", "stopped")
    assert net.run("kill", "a", "b").code == 0


@pytest.mark.slow
def test_ctrl_c_while_the_network_is_gone(net):
    """It ends, and names what could not be verified."""
    net.processes(a=entry(net, 0, "a"), b=entry(net, 1, "b", "a", ready_check="false"))
    running = net.start("run", "b")
    until(lambda: net.ledger(1))
    net.hosts[1].link(False)
    os.killpg(running.pid, signal.SIGINT)
    done = net.ended(running)
    assert done.code == 130 and "b" in done.text, done.text
    net.hosts[1].link(True)
    assert net.run("kill", "a", "b").code == 0
