"""`sooner lab`: the estimate, listing, the check, publishing, the budget, bad input, and what workloads show."""

import pytest

from sooner.lab import _evidence, _panel, _published
from sooner.lab._truth import Criterion, Measurement, Setting, Truth


def count(size):
    return {"count": float(size)}


def truth(name, at_most=3):
    criterion = Criterion(f"at most {at_most}", lambda f: f.mean("counts", "count"), at_most=at_most, paper="2")
    counts = Measurement(count, ({"size": 2},), ({"size": 1},))
    shown = Setting({"counts": counts}, [criterion], seconds=30)
    absent = Setting(
        {"counts": counts}, [Criterion("at most one", criterion.measured, 1)], seconds=30, absent="two is more"
    )
    return Truth(name, "Two is little.", "these tests", "2", {"zipf": shown, "digits": absent})


@pytest.fixture
def counting(monkeypatch, tmp_path):
    """Only two truths exist, both of them quick; evidence is published below tmp_path."""
    truths = {"decay": truth("decay"), "momentum": truth("momentum")}
    monkeypatch.setattr(_panel, "names", lambda: list(truths))
    monkeypatch.setattr(_panel, "load", truths.__getitem__)
    for module in (_evidence, _published):
        monkeypatch.setattr(module, "folder", lambda: tmp_path / "evidence" / "lab")
    _evidence.find.cache_clear()
    yield truths
    _evidence.find.cache_clear()


@pytest.fixture
def in_process(monkeypatch):
    """The pool runs its cells here."""
    from sooner.claims._worker import run_cell
    from sooner.race.engines.processes import Processes

    def run(self, cells, on_result, on_progress=None, on_failure=None):
        for cell in cells:
            on_result(cell, run_cell(cell.payload, lambda *_: None))

    monkeypatch.setattr(Processes, "run", run)


def test_a_truth_runs_and_prints_what_decided_and_where_it_is_shown(cli, counting, in_process):
    told = cli("lab", "decay", "--jobs", "2")
    assert told.code == 0, told.err
    assert "1 truth, 0 already there: about 1 min of processor time" in told.err
    assert "at most 3" in told.out
    assert "not expected here: two is more" in told.out
    assert "shown on zipf; not shown on digits" in told.out
    assert "1 truth, 1 already there" in cli("lab", "decay").err


def test_without_names_what_is_missing_is_run_and_published(cli, counting, in_process):
    told = cli("lab", "--publish", "evidence/lab")
    assert told.code == 0, told.err
    assert "momentum  zipf      digits" in told.out
    _evidence.find.cache_clear()
    assert "0 truths" in cli("lab").err
    listed = cli("lab", "--list").out
    assert "Two is little." in listed
    shown = cli("workloads").out
    assert "shows: decay, momentum" in shown
    assert "does not show: decay, momentum" in shown


def test_the_budget_leaves_out_what_does_not_fit(cli, counting, in_process):
    told = cli("lab", "--minutes", "0.1", "--jobs", "1")
    assert told.code == 0, told.err
    assert "left out, for want of time or because they failed: momentum" in told.out


def test_the_check_names_what_is_missing_old_or_not_shown(cli, counting, in_process):
    told = cli("lab", "--check")
    assert told.code == 1
    assert "decay: no evidence; run `sooner lab decay`" in told.out
    counting["momentum"] = truth("momentum", at_most=1)
    cli("lab", "--publish", "evidence/lab")
    _evidence.find.cache_clear()
    told = cli("lab", "--check")
    assert told.code == 1
    assert told.out == "momentum: not shown on zipf\n"
    told = cli("lab", "--check", "decay")
    assert told.code == 0
    assert "1 truth: all are shown where they should be" in told.out


def test_bad_input_is_one_sentence_and_exit_code_2(cli):
    told = cli("lab", "decai")
    assert told.code == 2
    assert "no truth named 'decai' (did you mean 'decay'?)" in told.err.replace("\n", " ")
    assert cli("lab", "decay", "--jobs", "1.5").code == 2


def test_damaged_evidence_is_one_sentence(cli, counting, tmp_path):
    (tmp_path / "evidence" / "lab").mkdir(parents=True)
    (tmp_path / "evidence" / "lab" / "decay.jsonl").write_text("{}\n")
    for command in (["lab", "--list"], ["lab", "--check"], ["workloads"]):
        told = cli(*command)
        assert told.code == 2
        assert "decay.jsonl: " in told.err.replace("\n", " ")
        assert "was changed or cut off" in told.err.replace("\n", " ")
