import shutil

import pytest
from toy_claims import InProcess, toy

from sooner import claims
from sooner.claims import _run


@pytest.fixture
def known(monkeypatch):
    """Lets workers find a toy claim under its part's name."""

    def put(claim):
        monkeypatch.setattr(claims, "load", lambda name: claim)
        return claim

    return put


@pytest.fixture
def run(known, tmp_path):
    """Runs a toy claim in this process: evidence and the keys of the cells that ran."""

    def go(claim=None, out=None, pool=None):
        pool = pool or InProcess()
        return _run.run(known(claim or toy()), out or tmp_path / "claims", jobs=1, command="here", pool=pool), pool.ran

    return go


@pytest.fixture(scope="session")
def _finished(tmp_path_factory):
    out = tmp_path_factory.mktemp("finished") / "claims"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(claims, "load", lambda name: toy())
        _run.run(toy(), out, jobs=1, command="here", pool=InProcess())
    return out


@pytest.fixture
def finished(_finished, tmp_path):
    """The folder of claims in which the toy claim has been run to its end, a copy for this test."""
    return shutil.copytree(_finished, tmp_path / "claims")
