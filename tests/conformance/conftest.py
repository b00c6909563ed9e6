"""Compiled code of these tests is kept in a folder of their own."""

import pytest


@pytest.fixture(scope="session", autouse=True)
def _own_cache(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SOONER_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield
