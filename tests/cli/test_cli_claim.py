"""`sooner claim`: listing, running, publishing, the budget, the age check, and bad input."""

import json
import re
from dataclasses import replace

import pytest

from sooner import claims
from sooner.claims import _evidence
from sooner.claims._claim import Claim, Criterion, Measurement, Regime


def count(size):
    return {"count": float(size)}


CLAIM = Claim(
    part="muon",
    paper="",
    headline="Two is less than three.",
    source="these tests",
    experiment="Counting.",
    baseline="Three.",
    experiments={"counts": Measurement(count, ({"size": 2},), ({"size": 1},))},
    criteria=[Criterion("at most three", lambda f: f.mean("counts", "count"), at_most=3, paper="2")],
    minutes=0.5,
    regime=Regime("counting", "none", "none", "none", "counting is counting", start="one"),
    limits="Little is shown.",
)


@pytest.fixture
def counting(monkeypatch, tmp_path):
    """Only two claims exist, both of them quick; evidence is published below tmp_path."""
    monkeypatch.setattr(claims, "names", lambda: ["muon", "root"])
    monkeypatch.setattr(claims, "load", lambda name: replace(CLAIM, part=name))
    monkeypatch.setattr(_evidence, "folder", lambda: tmp_path / "evidence")
    _evidence.find.cache_clear()
    yield
    _evidence.find.cache_clear()


def test_a_claim_runs_and_prints_criteria_and_verdict(cli, counting, tmp_path, in_process):
    told = cli("claim", "muon", "--publish", "evidence")
    assert told.code == 0, told.err
    assert "at most three" in told.out
    assert "verdict: reproduced" in told.out
    assert "Little is shown." in told.out
    assert "counting is counting" in told.out
    assert "about 0 min on" in told.err
    assert _evidence.read(tmp_path / "evidence" / "muon.jsonl").verdict == "reproduced"
    listed = cli("claim")
    assert "Two is less than three." in listed.out
    assert "reproduced" in listed.out
    assert "not run yet" in listed.out


def test_a_claim_is_shown_again_from_its_folder_or_its_file(cli, counting, tmp_path, in_process):
    first = cli("claim", "muon", "--publish", "evidence").out
    (folder,) = (tmp_path / "claims").glob("muon-*")
    assert cli("show", folder).out == first
    assert cli("show", "evidence/muon.jsonl").out == first
    shown = json.loads(cli("show", folder, "--json").out)
    assert shown["verdict"] == "reproduced"
    assert shown["outcomes"][0]["measured"]["value"] == 2.0


def test_the_budget_leaves_out_what_does_not_fit(cli, counting, in_process):
    told = cli("claim", "--all", "--minutes", "0.1", "--jobs", "1")
    assert told.code == 0, told.err
    assert "muon   reproduced" in told.out
    assert "left out, for want of time or of a package: root" in told.out


def test_the_check_names_missing_and_old_evidence(cli, counting, tmp_path, in_process):
    told = cli("claim", "--check")
    assert told.code == 1
    assert "muon: no evidence; run `sooner claim muon`" in told.out
    cli("claim", "muon", "--publish", "evidence")
    _evidence.find.cache_clear()
    told = cli("claim", "--check")
    assert "root: no evidence" in told.out
    assert "muon" not in told.out


def test_edited_code_that_behaves_as_before_is_confirmed(cli, counting, tmp_path, in_process, monkeypatch):
    monkeypatch.setattr(claims, "names", lambda: ["muon"])
    cli("claim", "muon", "--publish", "evidence")
    path = tmp_path / "evidence" / "muon.jsonl"
    evidence = _evidence.read(path)
    _evidence.write(replace(evidence, code={**evidence.code, "update/muon.py": "0" * 16}), path)
    _evidence.find.cache_clear()
    assert re.search(r"muon +reproduced .*\n +\(older than the code\)", cli("claim").out)
    told = cli("claim", "--check")
    assert (told.code, "muon: edited, and behaves as before; `sooner claim muon --confirm`" in told.out) == (0, True)
    assert "muon: behaves as before, confirmed" in cli("claim", "--confirm").out
    _evidence.find.cache_clear()
    assert cli("claim", "muon", "--confirm").out == "nothing is older than its code\n"
    assert "older" not in cli("claim").out


def test_other_behaviour_is_not_confirmed(cli, counting, tmp_path, in_process, monkeypatch):
    cli("claim", "muon", "--publish", "evidence")
    other = {**CLAIM.experiments, "counts": Measurement(lambda size: {"count": 2.0}, ({"size": 2},), ({"size": 1},))}
    path = tmp_path / "evidence" / "muon.jsonl"
    evidence = _evidence.read(path)
    _evidence.write(replace(evidence, code={**evidence.code, "update/muon.py": "0" * 16}), path)
    monkeypatch.setattr(claims, "load", lambda name: replace(CLAIM, part=name, experiments=other))
    _evidence.find.cache_clear()
    told = cli("claim", "muon", "--confirm")
    assert told.code == 1
    assert (
        'muon: it behaves otherwise (counts, {"size": 1}; relative tolerance 1e-06); run `sooner claim muon`'
        in told.out
    )
    missing = cli("claim", "root", "--confirm")
    assert missing.code == 2
    assert "root has no evidence to confirm; run `sooner claim root`" in missing.err.replace("\n", " ")


def test_bad_input_is_one_sentence_and_exit_code_2(cli):
    told = cli("claim", "muonn")
    assert told.code == 2
    assert "no claim named 'muonn' (did you mean 'muon'?)" in told.err.replace("\n", " ")
    assert cli("claim", "muon", "--jobs", "1.5").code == 2
    told = cli("claim", "muon", "--series", "1", "--publish", "evidence")
    assert told.code == 2
    assert "leave --publish out" in told.err


def test_damaged_evidence_is_one_sentence(cli, counting, tmp_path):
    (tmp_path / "evidence").mkdir()
    (tmp_path / "evidence" / "muon.jsonl").write_text("{}\n")
    told = cli("claim")
    assert told.code == 2
    assert "muon.jsonl: line 1 was changed or cut off" in told.err.replace("\n", " ")


@pytest.fixture
def in_process(monkeypatch):
    """The pool runs its cells here."""
    from sooner.claims._worker import run_cell
    from sooner.race.engines.processes import Processes

    def run(self, cells, on_result, on_progress=None, on_failure=None):
        for cell in cells:
            on_result(cell, run_cell(cell.payload, lambda *_: None))

    monkeypatch.setattr(Processes, "run", run)
