"""Running a claim: the evidence, going on after a stop, sharing runs between races, and what bad input meets."""

import json
from pathlib import Path

import pytest
from toy_claims import InProcess, toy

from sooner.claims import _evidence, _run
from sooner.claims._claim import Measurement, Race
from sooner.claims._code import code_of, task_file
from sooner.error import SoonerError
from sooner.race.journal import read
from sooner.race.source import digest


def test_a_claim_that_holds_is_reproduced_and_its_evidence_reads_back(run, tmp_path):
    evidence, ran = run()
    assert evidence.verdict == "reproduced"
    assert [o.met for o in evidence.outcomes] == [True, True]
    assert evidence.outcomes[1].measured.value == 0.5
    assert evidence.outcomes[0].measured.value == evidence.trend["steps"].value < 0.9
    (path,) = tmp_path.glob("claims/muon-*/evidence.jsonl")
    assert _evidence.read(path) == evidence
    assert len([key for key in ran if key.startswith("counts | ")]) == 12
    assert evidence.provenance["command"] == "here"
    assert evidence.findings["bowl"]["contenders"][0]["curve"]["steps"][0] == 0


def test_a_claim_that_was_stopped_goes_on_and_ends_with_the_same_evidence(run, tmp_path):
    whole, ran = run(out=tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        run(out=tmp_path / "claims", pool=InProcess(stop_after=len(ran) // 2))
    resumed, rest = run(out=tmp_path / "claims")
    assert len(rest) == len(ran) - len(ran) // 2
    assert resumed.findings == whole.findings
    again, nothing = run(out=tmp_path / "claims")
    assert nothing == []
    assert again == resumed


def test_races_against_one_baseline_share_its_runs(run, tmp_path):
    first = {"bowl": Race("sgd(lr=0.02); sgd(lr=log(0.05, 0.5))", "quadratic", steps=40, seeds=6, tune=1)}
    second = {"bowl": Race("sgd(lr=0.02); normalized_gd", "quadratic", steps=40, seeds=6, tune=1)}
    run(toy(experiments=first, criteria=[], trend={}))
    _, ran = run(toy(experiments=second, criteria=[], trend={}))
    assert ran
    assert not any(key.startswith("sgd(") for key in ran)
    run(toy(experiments=second, criteria=[], trend={}), out=tmp_path / "alone")
    (other,) = (read(p.parent) for p in tmp_path.glob("alone/races/*/journal.jsonl"))
    shared = next(
        view
        for p in tmp_path.glob("claims/races/*/journal.jsonl")
        if (view := read(p.parent)).identity == other.identity
    )
    strip = lambda view: {r.key: {**r.data, "cpu_seconds": 0} for r in view.all("cell")}  # noqa: E731
    assert strip(shared) == strip(other)


def place(seed):
    return {
        "task": str(task_file("triplets")),
        "said": f"{task_file('triplets')} is out",
        "others": [seed, None, "a/b.py"],
    }


def test_evidence_names_the_files_of_the_package_from_the_package_on(run):
    assert Path(place(0)["task"]).is_absolute()
    claim = toy(experiments={"places": Measurement(place, ({"seed": 3},), ())}, criteria=[], trend={})
    evidence, _ = run(claim)
    (case,) = evidence.findings["places"]["cases"]
    file = "sooner/claims/tasks/triplets.py"
    assert case["values"] == {"task": file, "said": f"{file} is out", "others": [3, None, "a/b.py"]}


def test_another_series_is_the_same_claim_on_other_seeds(finished, run):
    first, _ = run(out=finished)
    second, ran = run(toy().on_series(1), out=finished)
    assert any(key.startswith("sgd(") for key in ran)
    assert second.verdict == first.verdict
    assert second.findings["counts"] == first.findings["counts"]
    assert first.findings["bowl"]["seeds"]["racing"][0] == 30_000
    assert second.findings["bowl"]["seeds"]["racing"][0] == 130_000


def test_a_missing_package_is_named(run):
    with pytest.raises(SoonerError, match="the claim muon needs surely_not_there, which is not installed: pip install"):
        run(toy(extra="surely_not_there"))


def test_another_task_or_setting_gets_another_folder(tmp_path):
    folders = {
        _run.folder_of(toy(experiments={"bowl": Race("sgd; muon", "quadratic", steps=steps)}), tmp_path)
        for steps in (40, 50)
    }
    assert len(folders) == 2


def test_the_code_of_a_claim_is_its_parts_and_what_they_import(known):
    code = code_of(toy())
    parts = {"update/muon.py", "update/sgd.py", "update/_optimizer.py"}
    assert {"claims/muon.py", "workloads/quadratic.py", *parts} <= set(code)
    assert not {"claims/_claim.py", "transform.py", "update/adabelief.py"} & set(code)


def test_comments_and_docstrings_do_not_change_the_digest():
    code = 'def f(x):\n    """Say."""\n    return x  # why\n'
    assert digest(code) == digest('# new\ndef f(x):\n    """Say more.\n\n    Lines.\n    """\n\n    return x\n')
    assert digest(code) != digest(code.replace("return x", "return -x"))
    assert digest('x = "# no comment"\n') != digest('x = "# another"\n')


def change(path, number, edit):
    lines = path.read_text().splitlines()
    lines[number] = edit(lines[number])
    path.write_text("\n".join(lines) + "\n")


@pytest.fixture
def evidence_file(finished):
    (path,) = finished.glob("muon-*/evidence.jsonl")
    return path


def test_evidence_edited_by_hand_is_refused_and_says_where(evidence_file):
    change(evidence_file, 1, lambda line: line.replace("0.5", "0.4", 1))
    with pytest.raises(SoonerError, match=r"evidence\.jsonl: line 2 was changed or cut off .* run `sooner claim"):
        _evidence.read(evidence_file)


def test_a_verdict_that_does_not_follow_is_refused(evidence_file):
    from sooner.race.journal_lines import write_line

    forged = write_line("verdict", "muon", {"verdict": "not reproduced here"}).decode().rstrip("\n")
    change(evidence_file, -1, lambda line: forged)
    with pytest.raises(SoonerError, match="says 'not reproduced here', but its outcomes give 'reproduced'"):
        _evidence.read(evidence_file)


def test_evidence_of_another_version_or_cut_off_is_refused(evidence_file):
    from sooner.race.journal_lines import write_line

    text = evidence_file.read_text()
    first = json.loads(text.splitlines()[0])["data"]
    change(evidence_file, 0, lambda line: write_line("claim", "muon", {**first, "format": 99}).decode().rstrip("\n"))
    with pytest.raises(SoonerError, match="has the format 99, this version of sooner reads 1"):
        _evidence.read(evidence_file)
    evidence_file.write_text("\n".join(text.splitlines()[:-1]) + "\n")
    with pytest.raises(SoonerError, match="ends before its verdict"):
        _evidence.read(evidence_file)
    with pytest.raises(SoonerError, match="cannot read"):
        _evidence.read(evidence_file.with_name("nothing.jsonl"))


def test_evidence_knows_when_it_is_older_than_the_code(finished, run):
    evidence, ran = run(out=finished)
    assert ran == []
    assert evidence.older_than_code() == []
    evidence.code["update/sgd.py"] = "0" * 16
    assert evidence.older_than_code() == ["update/sgd.py"]
    evidence.provenance["rules"] = "0"
    assert evidence.older_than_code() == ["update/sgd.py", "docs/race-rules.md"]
