import shutil

import pytest
from in_process import InProcess
from toy_truths import toy

from sooner.lab import _evidence, _panel, _published, _run


@pytest.fixture
def known(monkeypatch):
    """Lets workers find a toy truth under its name."""

    def put(truth):
        monkeypatch.setattr(_panel, "load", lambda name: truth)
        return truth

    return put


@pytest.fixture
def run(known, tmp_path):
    """Looks for a toy truth in this process: evidence and the keys of the cells that ran, but for its fingerprint."""

    def go(truth=None, out=None, pool=None):
        pool = pool or InProcess()
        found = _run.run(known(truth or toy()), out or tmp_path / "lab", jobs=1, command="here", pool=pool)
        return found, [key for key in pool.ran if not key.startswith("fingerprint")]

    return go


@pytest.fixture(scope="session")
def _finished(tmp_path_factory):
    out = tmp_path_factory.mktemp("finished") / "lab"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_panel, "load", lambda name: toy())
        _run.run(toy(), out, jobs=1, command="here", pool=InProcess())
    return out


@pytest.fixture
def finished(_finished, tmp_path):
    """The folder in which the toy truth has been looked for to the end, a copy for this test."""
    return shutil.copytree(_finished, tmp_path / "lab")


@pytest.fixture
def published(finished, known, monkeypatch, tmp_path):
    """The file of the toy truth's published evidence."""
    known(toy())
    (path,) = finished.glob("decay-*/evidence.jsonl")
    folder = tmp_path / "evidence"
    folder.mkdir()
    for module in (_evidence, _published):
        monkeypatch.setattr(module, "folder", lambda: folder)
    _evidence.find.cache_clear()
    yield shutil.copy(path, folder / "decay.jsonl")
    _evidence.find.cache_clear()
