"""Every claim's miniature runs from beginning to end and leaves evidence that reads back; its verdict means nothing."""

import functools
import json

import pytest
from few_examples import SEEDS, few, few_seeds
from toy_claims import InProcess

from sooner import claims
from sooner.claims import _claim, _code, _evidence, _fingerprint, _quadratics, _run
from sooner.claims._conclude import VERDICTS
from sooner.race import limits, shelf


@pytest.fixture(scope="session")
def shared(tmp_path_factory):
    """One folder, so that races of one baseline share its runs as they do in earnest."""
    return tmp_path_factory.mktemp("miniatures")


@pytest.fixture(scope="module", autouse=True)
def _once():
    """What many claims look at is made once: journals of the races beside theirs, and quadratics, of few rates."""
    read, made = shelf.read, {}

    def read_once(folder):
        key = folder, (folder / shelf.FILE).stat().st_mtime_ns
        if key not in made:
            made[key] = read(folder)
        return made[key]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(shelf, "read", read_once)
        patch.setattr(_quadratics, "Quadratics", functools.cache(_quadratics.Quadratics))
        patch.setattr(_quadratics, "RATES", _quadratics.RATES[:2])
        _quadratics.best_rate.cache_clear()
        yield
    _quadratics.best_rate.cache_clear()


@pytest.fixture(autouse=True)
def _few(monkeypatch):
    """Races take few seeds and few examples here."""
    task_of = _code.task_of
    monkeypatch.setattr(limits, "LEAST_SEEDS", SEEDS)
    monkeypatch.setattr(limits, "LEAST_STEPS", 6)
    monkeypatch.setattr(limits, "TARGET_SEEDS", SEEDS)
    monkeypatch.setattr(_claim, "MINIATURE_STEPS", 6)
    monkeypatch.setattr(_fingerprint, "STEPS", 1)
    monkeypatch.setattr(_fingerprint, "LONGEST", 1)
    monkeypatch.setattr(_code, "task_of", lambda race: few(task_of(race)))


@pytest.mark.parametrize("name", claims.names())
def test_miniature(name, shared, monkeypatch):
    claim = few_seeds(claims.load(name).miniature())
    monkeypatch.setattr(claims, "load", lambda name: claim)
    evidence = _run.run(claim, shared, jobs=1, pool=InProcess())
    assert evidence.verdict in VERDICTS
    assert len(evidence.outcomes) == len(claim.criteria) + len(claim.known)
    assert evidence.trend.keys() == claim.trend.keys()
    again = _evidence.read(_run.folder_of(claim, shared) / "evidence.jsonl")
    assert json.dumps(again.findings) == json.dumps(evidence.findings)  # in which NaN is NaN
    assert again.code == evidence.code
    assert again.fingerprint.keys() == claim.experiments.keys()
