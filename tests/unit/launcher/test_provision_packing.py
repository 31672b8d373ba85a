"""Wheels that are put together here: our own, and ones that turn out to be pure."""

from __future__ import annotations

import base64
import hashlib
import io
import zipfile

import pytest

import launcher
from launcher.provision import packing
from launcher.provision.packing import for_server, own_wheel, packed, packed_own, pure

ABOUT = """\
Metadata-Version: 2.1
Name: se-remote
Version: 0.1.0
Requires-Dist: pyzmq>=25
Requires-Dist: asyncssh[bcrypt]>=2.18
Requires-Dist: pytest>=8; extra == "dev"
Provides-Extra: dev

Version: this is text.
Requires-Dist: so is this
"""


def contents(data: bytes) -> dict[str, bytes]:
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def test_what_only_a_client_needs_is_an_extra() -> None:
    about, requires = for_server(ABOUT, "0.2.0")
    assert requires == ("pyzmq>=25",)
    assert 'Requires-Dist: asyncssh[bcrypt]>=2.18 ; extra == "client"\n' in about
    assert "Provides-Extra: client\n" in about and "Version: 0.2.0\n" in about
    assert about.endswith("\n\nVersion: this is text.\nRequires-Dist: so is this\n")


def test_a_wheel_lists_its_files() -> None:
    made = packed_own({"launcher/a.py": b"x = 1\n"}, ABOUT, "[console_scripts]\n", "0.2.0")
    assert made.name == "se_remote-0.2.0-py3-none-any.whl"
    files = contents(made.data)
    record = files["se_remote-0.2.0.dist-info/RECORD"].decode().splitlines()
    digest = base64.urlsafe_b64encode(hashlib.sha256(b"x = 1\n").digest()).rstrip(b"=").decode()
    assert f"launcher/a.py,sha256={digest},6" in record
    assert sorted(line.split(",")[0] for line in record) == sorted(files)
    again = packed_own({"launcher/a.py": b"x = 1\n"}, ABOUT, "[console_scripts]\n", "0.2.0")
    assert again.data == made.data


def test_our_own_is_what_is_here() -> None:
    made = own_wheel(launcher.__version__)
    files = contents(made.data)
    for name in ("remote_exec/server.py", "launcher/provision/there.py", "remote_exec/lib_osc/remote.osc"):
        assert name in files
    assert not [name for name in files if "__pycache__" in name]
    assert (
        "scenario_execution_server = remote_exec.server:main"
        in files[f"se_remote-{launcher.__version__}.dist-info/entry_points.txt"].decode()
    )
    names = {requirement.split(">")[0].split("<")[0] for requirement in made.requires}
    assert names == {"scenario_execution", "py_trees", "pyzmq", "msgpack", "pyyaml"}


def test_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packing, "_DISTRIBUTION", "se-remote-of-nobody")
    with pytest.raises(packing.NotInstalled):
        own_wheel("1")


def test_a_wheel_without_machine_code_fits_everywhere() -> None:
    info = "yaml-6.dist-info"
    files = {
        "yaml/__init__.py": b"",
        f"{info}/WHEEL": b"Tag: cp311-cp311-linux_x86_64\n",
        f"{info}/METADATA": b"m",
    }
    name = "yaml-6-cp311-cp311-linux_x86_64.whl"
    made = pure(name, packed(files, info))
    assert made is not None and made.name == "yaml-6-py3-none-any.whl"
    found = contents(made.data)
    assert b"Tag: py3-none-any" in found[f"{info}/WHEEL"] and found["yaml/__init__.py"] == b""
    for binary in ("yaml/_yaml.cpython-311-x86_64-linux-gnu.so", "yaml.libs/libyaml.so.0"):
        assert pure(name, packed({**files, binary: b"ELF"}, info)) is None
    everywhere = packed(files, info)
    same = pure("yaml-6-py3-none-any.whl", everywhere)
    assert same is not None and same.data == everywhere
