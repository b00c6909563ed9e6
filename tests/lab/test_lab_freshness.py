"""Evidence of truths is as old as the behaviour of the code, not as its text."""

from dataclasses import replace

import pytest
from in_process import InProcess
from toy_truths import toy

from sooner.lab import _evidence
from sooner.lab._freshness import confirm


@pytest.fixture
def fresh(published):
    return _evidence.read(published)


def edited(evidence):
    """The evidence as if a file had had another text when it was made."""
    return replace(evidence, code=dict.fromkeys(evidence.code, "another text"))


def test_an_edit_that_changes_no_number_does_not_age(fresh, tmp_path):
    old = edited(fresh)
    assert old.older_than_code()
    again, why = confirm(old, InProcess())
    assert why == ""
    assert again.older_than_code() == []
    _evidence.write(again, tmp_path / "decay.jsonl")
    assert _evidence.read(tmp_path / "decay.jsonl") == again


def test_an_edit_that_changes_one_does(fresh):
    name = next(n for n, arms in fresh.fingerprint.items() if any("losses" in values for values in arms.values()))
    arms = dict(fresh.fingerprint[name])
    arm = next(iter(arms))
    arms[arm] = {**arms[arm], "losses": [value * 1.01 for value in arms[arm]["losses"]]}
    again, why = confirm(edited(replace(fresh, fingerprint={**fresh.fingerprint, name: arms})), InProcess())
    assert again is None
    assert why.startswith(f"it behaves otherwise ({name}, {arm}")


def test_other_criteria_are_another_truth(fresh, known):
    setting = toy().on["quadratic"]
    harder = replace(setting, criteria=[replace(setting.criteria[0], at_most=0.001)])
    known(toy(on={**toy().on, "quadratic": harder}))
    assert "lab/decay.py" in fresh.older_than_code()
    again, why = confirm(fresh, InProcess())
    assert again is None
    assert "declared otherwise" in why


def test_evidence_of_the_code_as_it_stands_gets_the_fingerprint_that_it_lacks(fresh):
    bare = replace(fresh, fingerprint={}, declared="")
    again, why = confirm(bare, InProcess())
    assert why == ""
    assert again.fingerprint == fresh.fingerprint
    assert again.declared == fresh.declared
    again, why = confirm(edited(bare), InProcess())
    assert again is None
    assert "no fingerprint" in why


def test_races_of_older_rules_are_not_confirmed(fresh):
    again, why = confirm(replace(fresh, provenance={**fresh.provenance, "rules": "1"}), InProcess())
    assert again is None
    assert "race rules" in why
