"""Looking for truths: what is shown, going on after a stop, sharing races, evidence that was damaged or is old."""

from dataclasses import replace

import pytest
from in_process import InProcess
from toy_truths import RACE, toy

from sooner import lab
from sooner.error import SoonerError
from sooner.lab import _evidence, _run
from sooner.lab._truth import Criterion, Setting
from sooner.race.journal_lines import write_line


def change(path, number, edit):
    lines = path.read_text().splitlines()
    lines[number] = edit(lines[number])
    path.write_text("\n".join(lines) + "\n")


def test_a_truth_is_shown_where_all_its_criteria_are_met(run, tmp_path):
    evidence, ran = run()
    assert evidence.shown() == {"quadratic": True, "separable": False}
    assert evidence.failing() == []
    assert len([key for key in ran if key.startswith("separable: counts | ")]) == 12
    (path,) = tmp_path.glob("lab/decay-*/evidence.jsonl")
    assert _evidence.read(path) == evidence
    assert evidence.provenance["command"] == "here"
    bowl = evidence.findings["quadratic: bowl"]
    assert [row["recipe"] for row in bowl["contenders"]] == ["sgd(lr=0.02)", "sgd(lr=log(0.05, 0.5))"]  # as asked


def test_a_truth_that_is_not_shown_where_it_should_be_says_so_and_so_does_one_that_is_said_to_be_absent(run, tmp_path):
    absent = toy(limit=0.6)
    assert run(absent)[0].failing() == ["separable"]
    expected = replace(toy(), on={w: replace(s, absent="") for w, s in toy().on.items()})
    assert run(expected, out=tmp_path / "other")[0].failing() == ["separable"]


def test_what_was_stopped_goes_on_and_ends_with_the_same_evidence(run, tmp_path):
    whole, ran = run(out=tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        run(pool=InProcess(stop_after=len(ran) // 2))
    resumed, rest = run()
    assert len(rest) == len(ran) - len(ran) // 2
    assert resumed.findings == whole.findings
    again, nothing = run()
    assert nothing == []
    assert again == resumed
    assert _run.finished(toy(), tmp_path / "lab")


def test_truths_of_one_race_share_it_and_an_arm_more_runs_alone(run):
    _, first = run(toy(on={"quadratic": toy().on["quadratic"]}))
    assert first
    ends = [Criterion("ends lower", lambda f: f.final_ratio("bowl", "sgd(lr=log"), at_most=1.0)]
    other, ran = run(toy(name="momentum", on={"quadratic": Setting({"bowl": RACE}, ends)}))
    assert ran == []
    assert other.shown() == {"quadratic": True}
    more = replace(RACE, recipes=f"{RACE.recipes}; sgd(lr=0.002)")
    _, ran = run(toy(name="momentum", on={"quadratic": Setting({"bowl": more}, ends)}))
    assert ran
    assert all(key.startswith("sgd(lr=0.002)") for key in ran)


def test_the_published_evidence_answers_what_a_workload_shows(published):
    assert lab.shows("quadratic") == ["decay"]
    assert lab.does_not_show("separable") == ["decay"]
    assert lab.shows("charlm") == []
    outcome = lab.shown("decay", "quadratic")
    assert outcome.met
    assert outcome.measured.value < 0.9
    assert lab.shown("decay", "separable").met is False
    assert lab.shown("decay", "charlm") is None
    assert lab.shown("momentum", "quadratic") is None


def test_an_unknown_truth_is_named_with_the_nearest(monkeypatch):
    with pytest.raises(SoonerError, match=r"no truth named 'decai' \(did you mean 'decay'\?\)"):
        lab.load("decai")
    with pytest.raises(SoonerError, match="no truth named 'decai'"):
        lab.shown("decai", "charlm")


def test_a_criterion_that_cannot_say_is_undecided_and_nothing_is_shown(run):
    nothing = Criterion("there", lambda f: f.mean("counts", "weight"), at_most=1.0)
    setting = replace(toy().on["separable"], criteria=[nothing], absent="")
    evidence, _ = run(toy(on={"separable": setting}))
    assert evidence.failing() == ["separable"]
    assert evidence.outcome("separable").met is None
    assert "weight is missing" in evidence.outcome("separable").why


def test_evidence_edited_by_hand_is_refused_and_says_where(published):
    change(published, 1, lambda line: line.replace("0.", "1.", 1))
    with pytest.raises(SoonerError, match=r"decay\.jsonl: line 2 was changed or cut off .* run `sooner lab decay`"):
        _evidence.read(published)


def test_what_does_not_follow_is_refused(published):
    forged = write_line("shown", "decay", {"shown": {"quadratic": True, "separable": True}}).decode().rstrip("\n")
    change(published, -1, lambda line: forged)
    with pytest.raises(SoonerError, match="but its outcomes give"):
        _evidence.read(published)


def test_evidence_that_is_cut_off_or_of_another_kind_is_refused(published):
    text = published.read_text()
    published.write_text("\n".join(text.splitlines()[:-1]) + "\n")
    with pytest.raises(SoonerError, match="ends before its shown"):
        _evidence.read(published)
    with pytest.raises(SoonerError, match="its last line was changed or cut off"):
        lab.shows("quadratic")
    published.write_text(write_line("claim", "decay", {"format": 1}).decode())
    with pytest.raises(SoonerError, match="its first line names no truth"):
        _evidence.read(published)


def test_evidence_knows_when_it_is_older_than_the_code(published):
    evidence = _evidence.read(published)
    assert {"lab/decay.py", "workloads/quadratic.py", "update/sgd.py"} <= set(evidence.code)
    assert evidence.older_than_code() == []
    evidence.code["update/sgd.py"] = "0" * 16
    evidence.provenance["rules"] = "0"
    assert evidence.older_than_code() == ["update/sgd.py", "docs/race-rules.md"]
