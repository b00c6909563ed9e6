"""The script's side of a race of commands."""

import json

import pytest
import torch

import sooner
from sooner.contending import VARIABLE


@pytest.fixture
def race(tmp_path, monkeypatch):
    told = {"seed": 7, "steps": 20, "recipe": "adamw", "settings": {"lr": 0.1}, "device": "cuda:1"}
    told.update(folder=str(tmp_path / "out"), reports=str(tmp_path / "report-1.jsonl"))
    (tmp_path / "run-1.json").write_text(json.dumps(told))
    monkeypatch.setenv(VARIABLE, str(tmp_path / "run-1.json"))
    monkeypatch.delenv("RANK", raising=False)
    return tmp_path / "report-1.jsonl"


def test_outside_a_race_what_is_given_holds(monkeypatch, tmp_path):
    monkeypatch.delenv(VARIABLE, raising=False)
    monkeypatch.chdir(tmp_path)
    with sooner.contender(seed=3, steps=10, recipe="muon") as run:
        assert (run.seed, run.steps, run.recipe, run.settings, run.racing) == (3, 10, "muon", {}, False)
        assert torch.device(run.device)
        run.report(1, val_loss=2.0)
    assert not list(tmp_path.iterdir())


def test_in_a_race_it_is_told_and_tells(race):
    with sooner.contender(seed=3, steps=10) as run:
        assert (run.seed, run.steps, run.recipe, run.settings) == (7, 20, "adamw", {"lr": 0.1})
        assert (run.device, run.folder.name, run.racing) == ("cuda:1", "out", True)
        run.report(4, val_loss=torch.tensor(2.5), lr=None)
        with pytest.raises(sooner.SoonerError, match="val_loss = 'low' is no number"):
            run.report(5, val_loss="low")
        with pytest.raises(sooner.SoonerError, match=r"step = 1\.5 is no number of steps"):
            run.report(1.5, val_loss=1.0)
    row = json.loads(race.read_text())
    assert (row["step"], row["val_loss"], "lr" in row) == (4, 2.5, False)


def test_only_the_first_process_reports(race, monkeypatch):
    monkeypatch.setenv("RANK", "1")
    with sooner.contender() as run:
        run.report(4, val_loss=2.5)
    assert not race.exists()


def test_a_race_that_is_gone_is_said(monkeypatch, tmp_path):
    monkeypatch.setenv(VARIABLE, str(tmp_path / "gone.json"))
    with pytest.raises(sooner.SoonerError, match="unset it"), sooner.contender():
        pass
