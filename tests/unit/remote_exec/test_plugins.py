"""Where action plugins come from."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from remote_exec.errors import RemoteError
from remote_exec.host import plugins


@pytest.fixture(autouse=True)
def forgotten() -> Iterator[None]:
    plugins.origin_of.cache_clear()
    yield
    plugins.origin_of.cache_clear()


def test_files_are_read_for_the_first_action_of_a_plugin_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    first = plugins.origin_of("log")
    assert first == plugins.origin(plugins.find_plugin("log")) and first["version"]
    monkeypatch.setattr(plugins, "origin", lambda point: pytest.fail("it was looked up again"))
    assert plugins.origin_of("log") == first


def test_a_plugin_that_is_missing_is_looked_for_each_time() -> None:
    for _ in range(2):
        with pytest.raises(RemoteError, match=r"no action plugin 'lgo' is installed .* did you mean 'log'"):
            plugins.origin_of("lgo")
