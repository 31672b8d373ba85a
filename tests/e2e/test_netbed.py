"""The test bed does what its faults say, and leaves nothing, even when it is killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import namespaces
import netbed
import pytest


def ssh(bed, host, command: str) -> subprocess.CompletedProcess[str]:
    words = [
        "ssh",
        "-o",
        f"UserKnownHostsFile={bed.known_hosts}",
        "-o",
        "ConnectTimeout=2",
        "-i",
        str(bed.identity),
    ]
    process = bed.popen(
        [*words, f"root@{host.address}", command], stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    out, _ = process.communicate(timeout=30)
    return subprocess.CompletedProcess([], process.returncode, out)


@pytest.fixture
def host(bed):
    yield bed.hosts[0]
    bed.hosts[0].repair()


def test_a_host_has_its_own_name_files_and_processes(bed, host):
    done = ssh(bed, host, "hostname; echo x >/tmp/mine; ps -e | wc -l")
    name, count = done.stdout.split()
    assert name == "bed1" and int(count) < 12
    assert host.path("/tmp/mine").read_text() == "x\n" and not Path("/tmp/mine").exists()
    assert not bed.hosts[1].path("/tmp/mine").exists()
    assert any("/tmp/mine" in text for text in host.leftovers())
    host.run("rm /tmp/mine")
    assert namespaces.wait_until(lambda: host.leftovers() == [], 20)


def test_a_reboot_keeps_the_disk_and_changes_the_boot_id(bed, host):
    boot_id = "cat /proc/sys/kernel/random/boot_id"
    before = ssh(bed, host, f"touch /tmp/kept; setsid sleep 300 >/dev/null 2>&1 & {boot_id}").stdout
    assert namespaces.wait_until(lambda: any("sleep" in p.command for p in host.guests()), 20)
    host.reboot()
    assert ssh(bed, host, boot_id).stdout != before
    assert host.guests() == [] and host.path("/tmp/kept").exists()
    host.run("rm /tmp/kept")


def test_a_link_that_is_down(bed, host):
    host.link(False)
    assert ssh(bed, host, "true").returncode == 255
    assert ssh(bed, bed.hosts[1], "true").returncode == 0
    host.link(True)
    assert ssh(bed, host, "true").returncode == 0


def test_packets_are_lost(bed, host):
    host.lose(100)
    assert ssh(bed, host, "true").returncode == 255
    host.lose(0)
    assert ssh(bed, host, "true").returncode == 0


def test_a_slow_wire_is_slow(bed, host):
    host.slow(0.2)
    began = time.monotonic()
    assert ssh(bed, host, "true").returncode == 0
    assert time.monotonic() - began > 4 * 0.4  # an SSH login takes more than four round trips


def test_a_full_disk_and_a_directory_that_is_read_only(bed, host):
    host.fill_disk()
    assert "No space left" in ssh(bed, host, "echo x >/tmp/more").stdout
    host.run("rm -f /tmp/ballast /tmp/more && mkdir /tmp/dir")
    host.read_only("/tmp/dir")
    assert "Read-only" in ssh(bed, host, "touch /tmp/dir/more").stdout
    host.reboot()
    host.run("rmdir /tmp/dir")


def test_a_killed_test_leaves_nothing(tmp_path):
    if namespaces.why_not():
        pytest.skip(namespaces.why_not())
    script = f"""
import pathlib, sys, time
sys.path.insert(0, {str(netbed.HERE)!r})
import netbed
with netbed.bed(pathlib.Path({str(tmp_path)!r}), 2) as made:
    made.hosts[0].slow(0.1)
    print(made.client.inode, *(host.net.inode for host in made.hosts), flush=True)
    time.sleep(300)
"""
    process = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    inodes = [int(word) for word in process.stdout.readline().split()]
    assert all(namespaces.processes(inode) for inode in inodes[1:])
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()
    assert namespaces.wait_until(lambda: not any(namespaces.processes(inode) for inode in inodes), 20)
    mounts = Path("/proc/mounts").read_text()
    assert str(tmp_path) not in mounts and "bed1" not in mounts
