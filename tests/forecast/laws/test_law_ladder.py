"""Chains of two laws, on made rows and against the figures that were published with the public runs."""

import csv
import gzip
import importlib
import json
import sys
from pathlib import Path

import numpy as np
import pytest

from sooner.error import SoonerError
from sooner.forecast.laws.chinchilla import Chinchilla
from sooner.forecast.laws.loss_to_accuracy import IDEAL, LossToAccuracy, on_flat_side
from sooner.forecast.laws.overtraining import Overtraining, forms
from sooner.forecast.laws.task_ladder import TaskLadder
from sooner.forecast.table import Table, table

CURVES = Path(__file__).parents[4] / "shared/data/curves"
TESTBED, OLMO = CURVES / "gadre_testbed/testbed.csv", CURVES / "olmo_ladder/ladder_runs.csv.gz"
SIGMOID = (-0.7, 4.0, 0.9, 0.98)


def accuracy(loss):
    return SIGMOID[0] / (1 + np.exp(-SIGMOID[1] * (loss - SIGMOID[2]))) + SIGMOID[3]


@pytest.fixture
def testbed(monkeypatch):
    """What the benchmark knows of the public runs."""
    monkeypatch.syspath_prepend(str(Path(__file__).parents[3] / "benchmarks"))
    yield importlib.import_module("_gadre_testbed")
    for name in ("_gadre_testbed", "_forecast_rows"):
        sys.modules.pop(name, None)


@pytest.mark.skipif(not TESTBED.exists(), reason="the public runs are not bundled")
def test_the_published_errors_of_over_trained_models(testbed):
    ladder = testbed.ladder(CURVES)
    assert (len(ladder.first.table), len(ladder.second.table)) == (5, 6)
    held = (("open_lm_1b", 32.0), ("open_lm_7b", 1.0))
    for run, loss, error in zip(held, (0.7103, 0.7320), (3.6365, 0.0464), strict=True):
        at = testbed.runs(CURVES, "rpj", {run})
        assert 100 * abs(ladder.first.at(at)[0] / at["loss"][0] - 1) == pytest.approx(loss, abs=1e-3)
        assert 100 * abs(ladder.at(at)[0] / at["error"][0] - 1) == pytest.approx(error, abs=1e-3)
        band, whole = ladder.first.predict(at), ladder.predict(at)
        assert band.low[0] <= at["loss"][0] <= band.high[0]
        assert whole.low[0] <= at["error"][0] <= whole.high[0]
        assert any("times the largest fitted" in warning for warning in whole.warnings)


@pytest.mark.skipif(not OLMO.exists(), reason="the public runs are not bundled")
@pytest.mark.parametrize(
    ("task", "loss", "published"),
    [("hellaswag_val", 0.65318, 0.85304), ("piqa_val", 0.87479, 0.82080), ("csqa_val", 0.66173, 0.77609)],
)
def test_the_published_ladder_to_13_billion_parameters(task, loss, published):
    settings = json.loads((OLMO.parent / "final.json").read_text())
    size = {Path(path).stem: one["n"] for one in settings.values() if one["mode"] == "train" for path in one["paths"]}
    with gzip.open(OLMO, "rt") as file:
        rows = [row for row in csv.DictReader(file) if row["run"] in size]
    made = table(
        [row["run"] for row in rows],
        parameters=[size[row["run"]] for row in rows],
        tokens=[float(row["throughput/total_tokens"]) for row in rows],
        loss=[float(row[f"bpb:{task}_rc_5shot_bpb"]) for row in rows],
        accuracy=[float(row[f"acc:{task}_rc_5shot_len_norm"]) for row in rows],
    )
    ladder = TaskLadder().fit(made, draws=30)
    at = table(parameters=settings["13B-5T"]["n"], tokens=5000088518656)
    assert ladder.first.at(at)[0] == pytest.approx(loss, abs=2e-5)
    assert ladder.at(at)[0] == pytest.approx(published, abs=2e-4)


def test_both_forms_of_the_over_training_law_are_the_law():
    values = np.array([166.0, 366.0, -0.27, 1.84])
    rows = table(parameters=[1e7, 1e8, 1e9], tokens=[1e9, 5e9, 1e12])
    expected = Overtraining().predict(values[None], Overtraining().prepare(rows))[0]
    made, n, d = forms(values), rows["parameters"], rows["tokens"]
    m, c, eta = d / n, 6 * n * d, made["eta"]
    np.testing.assert_allclose(made["E"] + made["A"] * n ** -made["eta2"] + made["B"] * d ** -made["eta2"], expected)
    np.testing.assert_allclose(made["E"] + (made["a"] * m**eta + made["b"] * m**-eta) * c**-eta, expected)


def ladder_rows(noise: float = 0.0, seed: int = 0) -> Table:
    """Return 12 runs of 30 checkpoints; the last losses of a run are on the law, the early ones far above it."""
    random, rows = np.random.default_rng(seed), []
    for size in (1e8, 3e8, 1e9):
        for tokens in (2e9, 8e9, 3.2e10, 1.28e11):
            final = 0.3 + 30.0 / size**0.25 + 60.0 / tokens**0.25
            loss = final * (1 + np.where(np.arange(30) < 25, np.linspace(0.5, 0.1, 30), 0.0))
            loss = loss * np.exp(noise * random.standard_normal())
            rows += [(f"{size:g}-{tokens:g}", size, tokens, one, accuracy(one)) for one in loss]
    run, *columns = zip(*rows, strict=True)
    return table(list(run), **dict(zip(("parameters", "tokens", "loss", "accuracy"), columns, strict=True)))


FAR = table(parameters=[4e9, 4e9], tokens=[1.28e11, 5.12e11])
FAR_LOSS = 0.3 + 30.0 / FAR["parameters"] ** 0.25 + 60.0 / FAR["tokens"] ** 0.25


def test_a_ladder_finds_both_of_its_laws():
    ladder = TaskLadder(second=LossToAccuracy(ideal=float(accuracy(1e-6))), average=5).fit(ladder_rows(), draws=10)
    assert len(ladder.first.table) == 12
    assert len(ladder.second.table) == 12 * 27 + 1, "without the first tenth, with the ideal point"
    np.testing.assert_allclose(ladder.first.at(FAR), FAR_LOSS, rtol=1e-3)
    np.testing.assert_allclose(ladder.at(FAR), accuracy(FAR_LOSS), rtol=2e-3)


def test_a_ladders_band_holds_the_truth():
    held = []
    for seed in range(5):
        band = TaskLadder().fit(ladder_rows(0.01, seed), draws=60, seed=seed).predict(FAR)
        held.append(np.mean((band.low <= accuracy(FAR_LOSS)) & (accuracy(FAR_LOSS) <= band.high)))
    assert np.mean(held) >= 0.7


def test_a_ladder_averages_the_last_checkpoints():
    rows = ladder_rows()
    bumpy = rows.plus(loss=rows["loss"] * np.tile(np.where(np.arange(30) == 29, 1.05, 1.0), 12))
    first = TaskLadder(average=5).fit(bumpy, draws=2).first.table
    np.testing.assert_allclose(first["loss"], 1.01 * rows.last()["loss"])


def test_a_ladder_of_laws_that_do_not_meet():
    with pytest.raises(SoonerError, match="a law of the loss and one from the loss"):
        TaskLadder(second=Chinchilla())
    with pytest.raises(SoonerError, match="average is 0"):
        TaskLadder(average=0)
    with pytest.raises(SoonerError, match="'accuracy' is missing"):
        TaskLadder().fit(table(parameters=[1.0, 2.0], tokens=[1.0, 2.0], loss=[3.0, 2.0]))


def test_the_flat_side_of_a_sigmoid_is_told():
    random = np.random.default_rng(0)
    high = np.linspace(1.9, 3.0, 25)
    flat = LossToAccuracy(chance=0.28).fit(
        table(loss=high, accuracy=accuracy(high) + 0.004 * random.standard_normal(25)), draws=5
    )
    warning = on_flat_side(flat)
    assert warning is not None
    assert "flat side" in warning
    low = np.linspace(0.5, 1.6, 25)
    assert on_flat_side(LossToAccuracy().fit(table(loss=low, accuracy=accuracy(low)), draws=5)) is None


def test_the_ideal_point_is_added_once():
    law = LossToAccuracy(ideal=0.9)
    once = law.table(table(loss=[2.0, 1.0], accuracy=[0.3, 0.6]))
    assert law.table(once).run.tolist() == once.run.tolist() == ["0", "1", IDEAL]
    assert once["accuracy"][-1] == 0.9
    assert len(law.table(table(loss=[2.0]), target=False)) == 1
