"""`se-remote provision`: machines and containers that have nothing but a Python, and no network."""

from __future__ import annotations

import contextlib
import io
import json
import os
import signal
import subprocess
import zipfile
from pathlib import Path

import pytest
import sshd as private
from provisionbed import RELEASES, ROOT, VENVS, Bare, Box, checkout, distribution, other, prefix

from launcher import __version__
from launcher.plan import WIRE

pytestmark = pytest.mark.timeout(600)


@pytest.fixture(scope="session")
def cache(tmp_path_factory) -> Path:
    """What this machine keeps: shared, since the first provision fetches from the package index."""
    given = os.environ.get("SE_REMOTE_TEST_CACHE")
    return Path(given) if given else tmp_path_factory.mktemp("cache")


@pytest.fixture
def folder(world) -> Path:
    """Not tmp_path: in a world it would lie where nothing may be left."""
    made = world.directory / "mine"
    made.mkdir()
    return made


@pytest.fixture
def bare(world, cache):
    made = Bare(world, cache)
    yield made
    made.se_remote("kill", made.name, "--force")


def test_a_machine_with_python_alone(bare):
    refused = bare.se_remote("-i", "se-remote.yaml", "up", bare.name)
    assert refused.code == 1, refused.text
    assert "cannot import remote_exec" in refused.err
    assert f"try: se-remote -i se-remote.yaml provision {bare.name}\n" in refused.err
    done = bare.provision()
    assert done.code == 0, done.text
    assert "ready after" in done.err and "sent" in done.err
    up = bare.se_remote("up", bare.name)
    assert up.code == 0, up.text
    assert "python 3.10" in up.err and "runs se-remote" not in up.err
    said = bare.se_remote("call", bare.name, "run_process", "command=echo here")
    assert said.code == 0 and "here" in said.text
    again = bare.provision()
    assert again.code == 0 and "nothing to do" in again.err, again.text


@pytest.mark.parametrize(
    "version",
    ["3.10", *(pytest.param(each, marks=pytest.mark.slow) for each in ("3.11", "3.12", "3.13"))],
)
def test_a_container_without_network_and_pip(world, boxes, cache, version):
    box = Box(world, boxes, cache, version)
    for module in ("pip", "ensurepip", "venv", "zmq"):
        assert "No module named" in box.inside("sh", "-c", f"python3 -m {module} --help 2>&1; true")
    refused = box.se_remote("up", box.name)
    assert f"try: se-remote provision {box.name}\n" in refused.err, refused.text
    done = box.offline("provision", box.name)
    if done.code:  # no other test has fetched them
        assert "the package index cannot be reached from here" in done.err, done.text
        assert box.se_remote("provision", box.name).code == 0
        box.inside("rm", "-rf", "/root/.local/share/se-remote")
        done = box.offline("provision", box.name)
    # no network on either side: the wheels are kept here
    assert done.code == 0 and "ready after" in done.err, done.text
    again = box.offline("provision", box.name)
    assert "nothing to do" in again.err, again.text
    up = box.se_remote("up", box.name)
    assert up.code == 0 and f"python {version}" in up.err, up.text
    called = box.se_remote("call", box.name, "run_process", "command=hostname")
    assert called.code == 0, called.text
    assert box.se_remote("kill", box.name).code == 0


def test_two_at_once(bare):
    processes = [bare.start("se-remote", "provision", bare.name) for _ in range(2)]
    texts = [process.communicate(timeout=240)[1] for process in processes]
    assert [process.returncode for process in processes] == [0, 0], texts
    assert len(bare.whole()) == 1 and bare.current().name == bare.whole()[0]
    assert sorted(text.count("ready after") for text in texts) == [0, 1] or "nothing to do" in "".join(texts)
    assert {path.name for path in bare.venvs.iterdir()} == {".lock", bare.whole()[0], "current"}


@pytest.mark.slow
def test_two_at_once_that_want_different_things(bare, folder):
    """What the second one sends takes the wheels of the first one away, while that installs them."""
    bare.provide()
    wanted = [str(package(folder, f"se_remote_test_{name}")) for name in "ab"]
    first = bare.start("se-remote", "provision", bare.name, "--with", wanted[0])
    known = {bare.current().name, "current"}

    def installs() -> bool:
        return any(not known & {*path.parts} for path in bare.venvs.glob("*/lib/*/site-packages/*"))

    assert private.wait_until(installs, 240)
    wheels = bare.venvs.parent / "wheels"
    for wheel in wheels.iterdir():  # as another push does, only sooner
        wheel.unlink()
    second = bare.start("se-remote", "provision", bare.name, "--with", wanted[1])
    texts = [process.communicate(timeout=240)[1] for process in (first, second)]
    assert [first.returncode, second.returncode] == [0, 0], texts
    assert [path.name for path in bare.current().glob("lib/*/site-packages/se_remote_test_*.py")]


def test_interrupted_half_way_and_repeated(bare):
    process = bare.start("se-remote", "provision", bare.name)
    assert private.wait_until(lambda: [*bare.venvs.glob("*/lib/*/site-packages/*")], 240)
    process.kill()
    there = [int(text.split()[0]) for text in private.marked(bare.world.mark) if VENVS in text]
    for number in (signal.SIGSTOP, signal.SIGKILL):  # the machine itself goes down, all of it at once
        for pid in there:
            os.kill(pid, number)
    process.communicate(timeout=30)
    assert len(there) >= 2 and bare.whole() == [] and not (bare.venvs / "current").is_symlink()
    assert [*bare.venvs.glob("*/lib")], "half of it is there"
    refused = bare.se_remote("up", bare.name)
    assert f"try: se-remote provision {bare.name}\n" in refused.err
    done = bare.provision()
    assert done.code == 0 and "ready after" in done.err, done.text
    assert "wheels sent" not in done.err, "they were there already"
    assert bare.se_remote("up", bare.name).code == 0


@pytest.mark.slow
def test_the_installer_is_killed(bare):
    process = bare.start("se-remote", "provision", bare.name)
    assert private.wait_until(lambda: [*bare.venvs.glob("*/lib/*/site-packages/*")], 240)
    for text in private.marked(bare.world.mark):
        if VENVS in text:
            with contextlib.suppress(ProcessLookupError):
                os.kill(int(text.split()[0]), signal.SIGKILL)
    error = process.communicate(timeout=60)[1]
    assert process.returncode == 3 and "provision: " in error and "what was in use there is in use" in error
    assert f"try: se-remote provision {bare.name}\n" in error
    assert bare.provision().code == 0 and len(bare.whole()) == 1


@pytest.mark.slow
def test_ctrl_c_and_again(bare):
    process = bare.start("se-remote", "provision", bare.name)
    assert private.wait_until(lambda: [*bare.venvs.glob("*/lib/*/site-packages/*")], 240)
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=20)
    assert process.returncode == 130
    assert bare.provision().code == 0 and len(bare.whole()) == 1


@pytest.mark.slow
@pytest.mark.parametrize("seen", ["exists", "works"])
def test_ctrl_c_in_a_container_that_was_stopped(world, boxes, cache, seen):
    """While it is being started, and while something is installed in it: it is stopped again, at once."""
    box = Box(world, boxes, cache)
    boxes.dockerd.run("stop", "-t", "0", box.box)

    def there() -> bool:
        state = boxes.dockerd.state(box.box)
        return state == "running" and (seen == "exists" or VENVS in box.inside("find", f"/root/{VENVS}"))

    for _ in range(3):
        process = box.start("se-remote", "provision", box.name)
        assert private.wait_until(there, 240)
        process.send_signal(signal.SIGINT)
        text = process.communicate(timeout=40)[1]
        assert process.returncode == 130, text
        assert private.wait_until(lambda: boxes.dockerd.state(box.box) == "exited", 30), text
        if seen == "works":
            boxes.dockerd.run("start", box.box)
            box.inside("rm", "-rf", f"/root/{VENVS}")
            boxes.dockerd.run("stop", "-t", "0", box.box)
    done = box.se_remote("provision", box.name)
    assert done.code == 0 and boxes.dockerd.state(box.box) == "exited", done.text


def test_an_old_environment_goes_when_nobody_uses_it(bare, folder):
    bare.provide()
    old = bare.current().name
    assert bare.se_remote("up", bare.name).code == 0
    done = bare.provision("--with", str(package(folder, "se_remote_test_actions")))
    assert done.code == 0 and "an older one stays, in use" in done.err, done.text
    assert len(bare.whole()) == 2 and bare.current().name != old
    said = bare.se_remote("call", bare.name, "run_process", "command=true")
    assert said.code == 0, "its server goes on in the old one"
    assert bare.se_remote("kill", bare.name).code == 0
    again = bare.provision()
    assert (
        again.code == 0 and f"nothing to do: se-remote {__version__} and se_remote_test_actions" in again.err
    )
    dropped = bare.provision("--only")
    assert dropped.code == 0 and "in use again" in dropped.err, dropped.text
    way_back = f"se-remote provision {bare.name} --with {folder}/se_remote_test_actions"
    assert f"goes, since nothing names it any more (to have it there: {way_back})" in dropped.err, dropped.err
    assert bare.whole() == [old], "the other one is gone"


@pytest.mark.slow
def test_what_was_asked_for_before_stays(bare, folder):
    """And one that the inventory lists goes with its line there; what cannot be found here is an error."""
    bare.provide()
    one, two, three = (package(folder, f"se_remote_test_{name}") for name in ("one", "two", "three"))

    def there() -> set[str]:
        return {path.stem[15:] for path in bare.current().glob("lib/*/site-packages/se_remote_test_*.py")}

    bare.write_inventory(bare.bare(provision=f"[{one}]"))
    assert bare.provision("--with", str(two)).code == 0 and there() == {"one", "two"}
    bare.write_inventory(bare.bare())
    done = bare.provision("--with", str(three))
    assert f"as before with {two} (else: --only)" in done.err and f"{one} goes" in done.err, done.text
    assert there() == {"two", "three"}
    moved = two.rename(folder / "elsewhere")
    lost = bare.provision()
    assert lost.code == 1 and f"{two} was put there by hand, and is not on this machine" in lost.err, (
        lost.text
    )
    assert f"with what is to stay: se-remote provision {bare.name} --only --with PACKAGE…\n" in lost.err
    assert there() == {"two", "three"}
    assert bare.provision("--only", "--with", str(moved)).code == 0 and there() == {"two"}


@pytest.mark.slow
def test_a_package_that_changes(bare, folder):
    assert bare.provision("--with", str(package(folder, "se_remote_test_actions"))).code == 0
    again = bare.provision("--with", str(folder / "se_remote_test_actions"))
    assert again.code == 0 and "nothing to do" in again.err
    changed = folder / "se_remote_test_actions" / "se_remote_test_actions.py"
    changed.write_text("there = 'changed'\n")
    assert bare.provision("--with", str(changed.parent)).code == 0
    assert len(bare.whole()) == 1, "the older one is gone"
    site = bare.current() / "lib" / "python3.10" / "site-packages"
    assert (site / changed.name).read_text() == changed.read_text()
    dropped = bare.provision("--only")
    assert dropped.code == 0 and not (bare.current() / "lib/python3.10/site-packages" / changed.name).exists()


BACKEND = """\
import zipfile

ABOUT = "Metadata-Version: 2.1\\nName: NAME\\nVersion: 1.0\\n"
WHEEL = "Wheel-Version: 1.0\\nGenerator: x\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n"
INFO = "NAME-1.0.dist-info"


def build_wheel(folder, settings=None, metadata=None):
    with zipfile.ZipFile(f"{folder}/NAME-1.0-py3-none-any.whl", "w") as wheel:
        wheel.write("NAME.py")
        for name, text in (("METADATA", ABOUT), ("WHEEL", WHEEL)):
            wheel.writestr(f"{INFO}/{name}", text)
        files = ["NAME.py", f"{INFO}/METADATA", f"{INFO}/WHEEL", f"{INFO}/RECORD"]
        wheel.writestr(f"{INFO}/RECORD", "".join(f"{name},,\\n" for name in files))
    return "NAME-1.0-py3-none-any.whl"
"""


def package(folder: Path, name: str) -> Path:
    """A project without dependencies, that needs no network to be built."""
    top = folder / name
    top.mkdir()
    (top / "pyproject.toml").write_text(
        '[build-system]\nrequires = []\nbuild-backend = "backend"\nbackend-path = ["."]\n'
        f'[project]\nname = "{name}"\nversion = "1.0"\n'
    )
    (top / f"{name}.py").write_text("there = 'yes'\n")
    (top / "backend.py").write_text(BACKEND.replace("NAME", name))
    return top


def wheel_of(name: str) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr(
            f"{name}-1.0.dist-info/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n"
        )
    return out.getvalue()


@pytest.mark.slow
def test_what_cannot_be(bare, folder):
    """Each with its cause and what to do; nothing half-made is left."""
    foreign = folder / "arm-1.0-cp310-cp310-manylinux2014_aarch64.whl"
    foreign.write_bytes(wheel_of("arm"))
    none = folder / "none-1.0-py3-none-any.whl"
    none.write_bytes(b"PK")
    cases = [
        (["--with", str(foreign)], "it is for manylinux2014_aarch64, and the machine is x86_64", "pip wheel"),
        (["--with", str(none)], "is not a wheel, or not all of one", "zipfile"),
        (["--with", "numpy[bad"], "'numpy[bad' names no package", "a name as for pip"),
        (["--with", "./nowhere"], "there is no folder or wheel ./nowhere", "ls -la"),
        (["--with", str(folder)], "neither a pyproject.toml nor a setup.py", "ls -la"),
        (["--python", "python3.99"], "there is no python3.99 on this machine", "or --python"),
    ]
    for words, cause, step in cases:
        done = bare.provision(*words)
        assert done.code in (1, 2) and cause in done.err and step in done.err.split("try:")[1], done.text
    local = bare.se_remote("provision", "local")
    assert local.code == 2 and "is this machine" in local.err, local.text
    assert bare.whole() == []


def test_a_machine_without_a_python_that_does(bare):
    bare.use_python("")
    done = bare.provision()
    assert done.code == 1 and "there is no python3 on this machine" in done.err, done.text
    bare.use_python("3.8")
    done = bare.provision()
    assert done.code == 1 and "is Python 3.8" in done.err and "3.10 or newer is needed" in done.err, done.text


def test_a_full_disk(world, boxes, cache):
    box = Box(world, boxes, cache, "3.10", "--tmpfs", "/root:size=14m")
    done = box.se_remote("provision", box.name)
    assert done.code == 1 and "no space is left there" in done.err, done.text
    assert "df -h" in done.err.split("try:")[1]
    assert box.inside("sh", "-c", "ls /root/.local/share/se-remote/venvs") == ""


def test_auto_in_an_inventory(bare):
    bare.write_inventory(bare.bare(provision="auto"))
    done = bare.scenario('run_process("echo it is there") with:\n    remote("lab-pc")', "-t")
    assert done.code == 0, done.text
    assert "there is no server: it is brought there" in done.text
    assert "it is there" in done.text
    again = bare.se_remote("up", bare.name)
    assert again.code == 0 and "provision" not in again.err, again.text


@pytest.mark.slow
def test_auto_in_containers(world, boxes, cache):
    """One that is there, and one that is made for the lease and is bare each time."""
    box = Box(world, boxes, cache)
    box.write_inventory(box.entry_text("    provision: auto"))
    for _ in range(2):
        done = box.scenario('run_process("echo it is there") with:\n    remote("lab-pc")', "-t")
        assert done.code == 0 and "it is there" in done.text, done.text
    assert "it is brought there" not in done.text
    box.write_inventory(box.entry_text("    provision: auto", docker=json.dumps(box.image())))
    refused = box.se_remote("provision", box.name)
    assert refused.code == 2 and "and removed again" in refused.err, refused.text
    done = box.scenario('run_process("echo it is there") with:\n    remote("lab-pc")', "-t")
    assert done.code == 0 and "it is brought there" in done.text and "it is there" in done.text, done.text


@pytest.mark.slow
def test_an_explicit_python_is_not_overruled(bare):
    """`python` is what runs the server, unless `provision` stands beside it."""
    bare.provide()
    python = prefix("3.10") / "bin" / "python3.10"
    bare.write_inventory(bare.bare(python=str(python)))
    refused = bare.se_remote("up", bare.name)
    assert refused.code == 1 and f"take `python` out of {bare.name}" in refused.err, refused.text
    done = bare.provision()
    assert done.code == 0 and f"take `python: {python}` out" in done.err, done.text
    bare.write_inventory(bare.bare(python=str(python), provision="auto"))
    assert bare.se_remote("up", bare.name).code == 0


ACTION = """
import os, fake_rclpy, py_trees
from scenario_execution.actions.base_action import BaseAction

class Drive(BaseAction):
    def execute(self):
        self.logger.info(f"{fake_rclpy.there}, py_trees of {os.path.dirname(py_trees.__file__)}")
    def update(self):
        return py_trees.common.Status.SUCCESS
"""


def test_what_ros_has_on_pythonpath_shadows_nothing(bare, folder):
    """Its py_trees, its older scenario_execution; what else is there and a workspace's actions are found."""
    bare.provide()
    ros, workspace = folder / "ros", folder / "workspace"
    for name in ("py_trees", "msgpack", "scenario_execution", "zmq", "remote_exec"):
        distribution(ros, name).write_text("raise ImportError('of ROS')\n")
    distribution(ros, "fake_rclpy").write_text("there = 'rclpy of ROS'\n")
    points = "[scenario_execution.actions]\ndrive = drive_actions:Drive\n"
    distribution(workspace, "drive_actions", entry_points=points).write_text(ACTION)
    path = f"{workspace}:{ros}"
    bare.write_inventory(bare.bare(setup=f"export PYTHONPATH={path}"))
    said = bare.se_remote("call", bare.name, "drive")
    assert said.code == 0, said.text
    assert f"rclpy of ROS, py_trees of {bare.current()}/lib/python3.10/site-packages/py_trees" in said.text
    seen = bare.se_remote("doctor", bare.name, "--no-start")
    assert seen.code == 0 and "PYTHONPATH" not in seen.out, seen.text
    child = folder / "child.sh"
    child.write_text("python3 -c 'import py_trees' 2>&1 | tail -n 1; echo path $PYTHONPATH\n")
    said = bare.se_remote("call", bare.name, "run_process", f"command=sh {child}")
    assert said.code == 0 and "ImportError: of ROS" in said.text and f"path {path}" in said.text, said.text


@pytest.mark.parametrize("version", ["3.10", "3.11", "3.12", "3.13"])
def test_where_pythonpath_stands_in_an_environment(version, tmp_path):
    """Behind what is in it and what that adds, before the system's; the standard library stays first."""
    top, first, second = tmp_path / "venv", tmp_path / "first", tmp_path / "second"
    python = prefix(version) / "bin" / f"python{version}"
    make = "import sys; from launcher.provision import there; there._bare(sys.argv[1])"
    subprocess.run([python, "-c", make, top], env={"PYTHONPATH": str(ROOT)}, check=True)
    own = top / "lib" / f"python{version}" / "site-packages"
    added, library = own / "added", Path(prefix(version), "lib", f"python{version}")
    added.mkdir()
    (own / "more.pth").write_text("added\n")

    def path(named: str, *options: str) -> list[str]:
        words = [top / "bin" / "python", *options, "-c", "import sys; print(*sys.path[1:], sep='\\n')"]
        environ = {"PYTHONPATH": named, "HOME": str(tmp_path)}
        done = subprocess.run(words, env=environ, cwd=second, check=True, capture_output=True, text=True)
        return [line for line in done.stdout.splitlines() if not line.endswith((".zip", "lib-dynload"))]

    second.mkdir()
    system = path("")[3:]  # what `include-system-site-packages` brings
    assert path("") == [str(library), str(own), str(added), *system] and system
    wanted = [str(library), str(own), str(added), str(first), str(second), *system]
    assert path(f"{first}:{second}") == path(f"{first}:{second}:{first}") == path(f"{first}:") == wanted
    assert path(f"{own}:{first}")[:2] == [str(own), str(library)], "named by the user, it may stand first"
    assert path(f"{library}:{system[0]}")[:3] == [str(library), str(own), str(added)]
    assert path(f"{first}:{second}", "-E") == path("")


def test_another_version(bare, folder):
    """A newer server understands an older client, and says so to one that speaks another wire."""
    bare.provide()
    old = checkout(folder / "old", "0.0.9")
    up = bare.client(old, "up", bare.name)
    assert up.code == 0, up.text
    assert f"runs se-remote {__version__}, this is 0.0.9; they fit together" in up.err, up.text
    said = bare.client(old, "call", bare.name, "run_process", "command=echo understood")
    assert said.code == 0 and "understood" in said.text, said.text
    assert bare.se_remote("kill", bare.name).code == 0
    wired = checkout(folder / "wired", "0.0.8", wire=1)
    refused(bare.client(wired, "up", bare.name), bare, f"speaks wire version {WIRE}, this one (0.0.8) 1")


@pytest.mark.slow
@pytest.mark.parametrize("release", ["", *sorted(path.name for path in RELEASES.glob("*.whl"))])
def test_a_release_and_this_version(bare, folder, release):
    """Its server with our client, and our server with its client: they work together, or are refused."""
    old = other(folder / "old", release)
    done = bare.client(old.folder, "provision", bare.name)
    assert done.code == 0 and f"se-remote {old.version} ready" in done.err, done.text
    up = bare.se_remote("up", bare.name)
    if old.wire == WIRE:
        fit = f"runs se-remote {old.version}, this is {__version__}; they fit together"
        cure = f"(to have the same there: se-remote provision {bare.name})"
        assert up.code == 0 and f"{fit} {cure}" in up.err, up.text
        said = bare.scenario('run_process("echo understood") with:\n    remote("lab-pc")', "-t")
        fit = f"runs version {old.version}, this is {__version__}; they fit together"
        assert said.code == 0 and "understood" in said.text and fit in said.text, said.text
        assert bare.se_remote("kill", bare.name).code == 0
    else:
        refused(up, bare, f"speaks wire version {old.wire}, this one ({__version__}) {WIRE}")

    assert bare.provision().code == 0
    up = bare.client(old.folder, "up", bare.name)
    if old.wire == WIRE:
        assert up.code == 0 and f"runs se-remote {__version__}, this is {old.version}" in up.err, up.text
        said = bare.client(old.folder, "call", bare.name, "run_process", "command=echo understood")
        assert said.code == 0 and "understood" in said.text, said.text
        assert bare.se_remote("kill", bare.name).code == 0
    else:
        refused(up, bare, f"speaks wire version {WIRE}, this one ({old.version}) {old.wire}")


def refused(done, bare, cause: str) -> None:
    assert done.code == 1 and cause in done.err, done.text
    assert f"se-remote provision {bare.name}" in done.err.split("try:")[1]


@pytest.mark.slow
def test_another_wire(bare, folder):
    """Refused on either side, with what cures it, and cured by a bring-up that may."""
    newer = checkout(folder / "newer", "0.9.0", wire=1)
    assert bare.client(newer, "provision", bare.name).code == 0
    refused(bare.se_remote("up", bare.name), bare, f"speaks wire version 1, this one ({__version__}) {WIRE}")
    bare.write_inventory(bare.bare(provision="auto"))
    up = bare.se_remote("up", bare.name)
    assert up.code == 0 and f"se-remote {__version__}" in up.err, up.text
    assert bare.se_remote("kill", bare.name).code == 0
    bare.write_inventory(bare.bare())
    refused(bare.client(newer, "up", bare.name), bare, f"speaks wire version {WIRE}, this one (0.9.0) 1")
