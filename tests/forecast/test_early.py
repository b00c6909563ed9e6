"""Rows of few tokens are left out of joint laws where that predicts larger runs better, and only there."""

import numpy as np
import pytest

from sooner.forecast.early import without_early
from sooner.forecast.fit import fit
from sooner.forecast.laws import find
from sooner.forecast.table import table

SIZE, TOKENS = (one.ravel() for one in np.meshgrid(np.geomspace(5e7, 5e8, 6), np.linspace(2e9, 1e11, 20)))
LARGE = table(parameters=[1e9, 2e9], tokens=[3e11, 3e11])


def loss(n, d):
    return 1.8 + 480 / n**0.35 + 2100 / d**0.37


def runs(early=0.0):
    """Losses at many lengths of every size; their beginnings lie above the law by the share `early`."""
    noise = np.exp(0.001 * np.random.default_rng(0).standard_normal(len(SIZE)))
    above = 1 + early * np.exp(-TOKENS / 4e9)
    return table(parameters=SIZE, tokens=TOKENS, loss=loss(SIZE, TOKENS) * above * noise)


def test_beginnings_that_no_law_describes_are_left_out_and_that_is_said():
    rows = runs(0.3)
    kept = without_early(find("chinchilla"), rows)
    assert 0 < len(rows) - len(kept) < 60
    assert kept["tokens"].min() > np.setdiff1d(rows["tokens"], kept["tokens"]).max()
    assert f"{len(rows) - len(kept)} of 120 rows, of fewer than" in kept.notes[-1]
    truth = loss(LARGE["parameters"], LARGE["tokens"])
    off = [np.abs(fit(find("chinchilla"), one, draws=2).at(LARGE) / truth - 1).mean() for one in (kept, rows)]
    assert off[0] < 0.6 * off[1]


def test_where_the_law_holds_all_rows_stay():
    rows = runs()
    assert without_early(find("chinchilla"), rows) is rows


def test_the_largest_runs_have_no_say_since_a_check_leaves_them_out():
    rows = runs(0.3)
    compute = rows["parameters"] * rows["tokens"]
    other = rows.plus(loss=np.where(compute > 0.96 * compute.max(), 9.0, rows["loss"]))
    kept = [without_early(find("chinchilla"), one) for one in (rows, other)]
    assert kept[0].notes == kept[1].notes
    assert len(kept[0]) < 120


@pytest.mark.parametrize(("law", "over"), [("power_floor", "tokens"), ("kaplan", None), ("annealing", None)])
def test_few_rows_and_other_laws_stay_as_they_are(law, over):
    rows = runs(0.3)
    if law == "kaplan":
        rows = rows.where(np.arange(120) % 10 == 0)
    assert without_early(find(law, over), rows) is rows
    nothing = table(step=[1.0, 2.0], loss=2.0)
    assert without_early(find("chinchilla"), nothing) is nothing
