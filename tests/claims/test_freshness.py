"""Freshness by behaviour: edits that change nothing leave evidence as it is, those of a rule or declaration don't."""

import pytest
from in_process import InProcess
from toy_claims import CASES, half, toy

from sooner.claims import _evidence, _fingerprint
from sooner.claims._claim import Criterion, Measurement, Race
from sooner.claims._freshness import confirm, tolerance_of
from sooner.update.sgd import SGD


@pytest.fixture
def edited(finished, run):
    """Evidence whose code was edited: a digest is no longer that of the file."""
    evidence, _ = run(out=finished)
    evidence.code["update/sgd.py"] = "0" * 16
    assert evidence.older_than_code() == ["update/sgd.py"]
    return evidence


def test_an_edit_that_changes_no_number_does_not_age(edited, tmp_path):
    renewed, why = confirm(edited, InProcess())
    assert why == ""
    assert renewed.older_than_code() == []
    assert renewed.verdict == edited.verdict
    _evidence.write(renewed, tmp_path / "muon.jsonl")
    again = _evidence.read(tmp_path / "muon.jsonl")
    assert again == renewed
    assert again.confirmed["tolerance"] == tolerance_of(edited.provenance) == _fingerprint.SAME


def test_one_constant_of_a_rule_does(edited, monkeypatch):
    step = SGD.step

    def other(self, closure=None):
        for group in self.param_groups:
            group["lr"] *= 1.001
        return step(self, closure)

    monkeypatch.setattr(SGD, "step", other)
    renewed, why = confirm(edited, InProcess())
    assert renewed is None
    assert why.startswith("it behaves otherwise (bowl, sgd(lr=0.02)")


def test_so_does_a_measurement_that_gives_other_numbers(edited, known):
    def measure(seed, arm):
        return {"count": (seed + 2) * (1 if arm == "new" else 2) + (seed == 1), "nothing": None}

    claim = toy()
    known(toy(experiments={**claim.experiments, "counts": Measurement(measure, CASES, CASES[:4])}))
    renewed, why = confirm(edited, InProcess())
    assert renewed is None
    assert why.startswith("it behaves otherwise (counts, ")
    known(toy(experiments={**claim.experiments, "counts": Measurement(measure, CASES, CASES[:2])}))
    assert confirm(edited, InProcess())[0] is None  # fewer cases in the miniature are another miniature


@pytest.mark.parametrize(
    "changes",
    [
        {"criteria": [Criterion("half", lambda f: f.mean("counts", "count"), at_most=0.5)]},
        {"experiments": {"bowl": Race("sgd(lr=0.02); sgd(lr=log(0.05, 0.5))", "quadratic", steps=50, seeds=6, tune=1)}},
    ],
)
def test_another_declaration_does(edited, known, changes):
    known(toy(**changes))
    assert "claims/muon.py" in edited.older_than_code()
    assert confirm(edited, InProcess()) == (None, "its experiments, criteria or controls are declared otherwise now")


def test_a_criterion_that_asks_for_another_figure_does(edited, known):
    sooner, half = toy().criteria
    known(toy(criteria=[sooner, Criterion(half.says, lambda f: f.mean("counts", "count"), at_most=0.5)]))
    assert confirm(edited, InProcess()) == (None, "its criteria make something else of the same findings")


def test_evidence_without_a_fingerprint_or_of_other_rules_is_not_confirmed(edited):
    edited.fingerprint.clear()
    assert confirm(edited, InProcess()) == (None, "it keeps no fingerprint of its behaviour")
    edited.provenance["rules"] = "0"
    assert "version 0 of the race rules" in confirm(edited, InProcess())[1]


def test_fingerprints_agree_to_a_tolerance():
    ours = {"race": {"adamw": {"losses": [1.0, 2.0], "end": [3.0]}, "sgd": {"words": "a", "none": None}}}
    near = {"race": {"adamw": {"losses": [1.0, 2.0 + 1e-4], "end": [3.0]}, "sgd": {"words": "a", "none": None}}}
    assert _fingerprint.differences(ours, near, 1e-3) == []
    assert _fingerprint.differences(ours, near, 1e-6) == ["race, adamw"]
    assert _fingerprint.differences(ours, {"race": {**near["race"], "muon": {}}}, 1e-3) == ["race, muon"]
    assert _fingerprint.differences(ours, {"race": {"sgd": {"words": "b", "none": None}}}, 1e-3) != []


@pytest.mark.parametrize(
    ("recipe", "steps"), [("adamw + cosine", 20), ("adamw + diloco(every=40)", 80), ("adamw + diloco", 100)]
)
def test_a_recipe_is_run_for_two_of_its_intervals(recipe, steps):
    assert _fingerprint.steps_of(recipe) == steps


def test_no_fingerprint_speaks_of_time(edited, known):
    known(toy(experiments={**toy().experiments, "counts": Measurement(half, CASES, CASES[:4], timed=True)}))
    assert confirm(edited, InProcess()) == (None, "it measures time, of which no fingerprint speaks")
