"""The whole panel in miniature: every truth runs from beginning to end and leaves evidence that reads back."""

import json
from dataclasses import replace

import pytest
from few_examples import SEEDS, few, measured_once
from in_process import InProcess

from sooner import lab, workloads
from sooner.claims import _code, _fingerprint
from sooner.claims._claim import Measurement, Race
from sooner.lab import _cost, _evidence, _panel, _run
from sooner.race import limits
from sooner.workloads import finetune

STEPS = 2


@pytest.fixture(scope="session")
def shared(tmp_path_factory):
    """One folder, so that truths share races as they do in earnest."""
    return tmp_path_factory.mktemp("panel")


@pytest.fixture(autouse=True)
def _few(monkeypatch):
    """Races take few steps, few seeds and few examples here."""
    for name, value in (("LEAST_SEEDS", SEEDS), ("TARGET_SEEDS", SEEDS), ("LEAST_STEPS", STEPS)):
        monkeypatch.setattr(limits, name, value)
    for name in ("STEPS", "LONGEST"):
        monkeypatch.setattr(_fingerprint, name, 1)
    monkeypatch.setattr(finetune, "START_STEPS", 3)  # a start of its own, kept apart from the real ones
    task_of = _code.task_of
    monkeypatch.setattr(_code, "task_of", lambda race: fewer(task_of(race)))
    finetune.start.cache_clear()
    yield
    finetune.start.cache_clear()


def fewer(task):
    """Return the task with few examples; the bowl's batch is one vector."""
    return task if task.name == "quadratic" else few(task)


def small(truth):
    def short(one):
        if isinstance(one, Race):
            return replace(one.miniature(), steps=STEPS, seeds=SEEDS, tune=0)
        return measured_once(one.miniature())

    on = {w: replace(s, experiments={n: short(e) for n, e in s.experiments.items()}) for w, s in truth.on.items()}
    return replace(truth, on=on)


@pytest.mark.parametrize("name", lab.names())
def test_miniature(name, shared, monkeypatch):
    truth = small(lab.load(name))
    monkeypatch.setattr(_panel, "load", lambda name: truth)
    evidence = _run.run(truth, shared, jobs=1, pool=InProcess())
    assert evidence.shown().keys() == truth.on.keys()
    again = _evidence.read(_run.study_of(truth).folder(shared) / "evidence.jsonl")
    assert json.dumps(again.findings) == json.dumps(evidence.findings)  # in which NaN is NaN
    assert again.code == evidence.code
    assert f"lab/{name}.py" in again.code


def test_the_panel_is_what_the_design_asks_for():
    truths = [lab.load(name) for name in lab.names()]
    assert [truth.name for truth in truths] == lab.names()
    assert len([truth for truth in truths if not truth.oracle]) >= 15
    assert len([truth for truth in truths if truth.oracle]) >= 2
    for truth in truths:
        assert truth.on.keys() <= set(workloads.names())
        assert truth.source
        assert truth.expected
        for setting in truth.on.values():
            assert setting.criteria
            assert setting.seconds > 0 or not any(isinstance(e, Measurement) for e in setting.experiments.values())


def test_the_panel_costs_no_more_than_an_evening():
    assert 60 < _cost.minutes(map(lab.load, lab.names())) < 180
