"""Compiled code of these tests is kept in a folder of their own, so that they start cold and leave nothing behind."""

import pytest


@pytest.fixture(scope="session", autouse=True)
def _own_cache(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SOONER_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture
def run_eagerly(monkeypatch, caplog):
    """A function that returns what fell back to the eager executor since the test began, as the log tells it."""
    monkeypatch.setattr("sooner.execute.fused._said", set())
    caplog.set_level("DEBUG", logger="sooner.execute")
    return lambda: [record.getMessage() for record in caplog.records if "run eagerly" in record.getMessage()]
