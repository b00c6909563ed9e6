"""Rows of sweeps: the best of every cell counts, seeds stay, and what can't be told apart is refused."""

import numpy as np
import pytest

from sooner.error import SoonerError
from sooner.forecast.decide.allocate import allocate
from sooner.forecast.decide.cells import one_per_cell
from sooner.forecast.fit import fit
from sooner.forecast.laws import find
from sooner.forecast.table import table

SIZE, TOKENS = (one.ravel() for one in np.meshgrid(np.geomspace(1e8, 3e9, 4), np.geomspace(2e9, 1e11, 4)))
LOSS = 1.8 + 480 / SIZE**0.35 + 2100 / TOKENS**0.37
BEST = 1.79 * SIZE**-0.713 * TOKENS**0.307


def sweep(times=(0.25, 0.5, 1.0, 2.0, 4.0), bend=0.04):
    """Learning rates about the best of every cell, shuffled; the loss is quadratic in their logarithm."""
    made = [np.tile(one, len(times)) for one in (SIZE, TOKENS, LOSS)]
    factor = np.repeat(times, len(SIZE))
    rows = table(
        parameters=made[0],
        tokens=made[1],
        lr=np.tile(BEST, len(times)) * factor,
        loss=made[2] * (1 + bend * np.log(factor) ** 2),
    )
    return rows.where(np.random.default_rng(0).permutation(len(rows)))


def test_of_a_sweep_the_best_row_of_every_cell_counts_and_that_is_said():
    kept = one_per_cell(sweep())
    assert len(kept) == len(SIZE)
    order = np.lexsort((kept["tokens"], kept["parameters"]))
    truth = np.lexsort((TOKENS, SIZE))
    np.testing.assert_allclose(kept["loss"][order], LOSS[truth])
    np.testing.assert_allclose(kept["lr"][order], BEST[truth])
    said = "of each size and number of tokens the lowest loss counts: 64 rows with another lr are left out"
    assert said in kept.notes


def test_a_sweep_and_its_best_rows_split_a_budget_alike():
    plain = table(parameters=SIZE, tokens=TOKENS, loss=LOSS)
    ours, theirs = (allocate(fit(find("chinchilla"), rows, draws=20), 1e21) for rows in (one_per_cell(sweep()), plain))
    assert ours.parameters.value == pytest.approx(theirs.parameters.value, rel=1e-6)
    # all rows together would say something else
    mixed = allocate(fit(find("chinchilla"), sweep(), draws=20), 1e21)
    assert mixed.loss.value > 1.005 * theirs.loss.value


def test_a_sweep_over_batch_and_learning_rate_has_one_best_row():
    rows = sweep().plus(batch=np.random.default_rng(1).choice([1e5, 2e5], len(sweep())))
    kept = one_per_cell(rows)
    assert len(kept) == len(SIZE)
    assert any("another lr or batch" in note for note in kept.notes)


def test_seeds_of_one_run_all_stay_and_equal_rows_count_once():
    seeds = table(parameters=[1e8] * 3 + [2e8], tokens=[1e9] * 3 + [2e9], loss=[3.0, 3.01, 3.0, 2.8])
    kept = one_per_cell(seeds)
    assert kept["loss"].tolist() == [3.0, 3.01, 2.8]
    assert kept.notes == ("1 rows that were there twice count once",)
    clean = table(parameters=SIZE, tokens=TOKENS, loss=LOSS)
    assert one_per_cell(clean) is not None
    assert one_per_cell(clean).notes == clean.notes


def test_sizes_that_differ_by_rounding_are_one_cell():
    rows = table(parameters=[1.0e8, 1.0002e8, 3e8], tokens=[1e9, 1e9, 1e9], lr=[1e-3, 2e-3, 1e-3], loss=[3.0, 3.2, 2.7])
    assert one_per_cell(rows)["loss"].tolist() == [3.0, 2.7]


def test_losses_of_several_kinds_under_one_cell_are_refused_with_what_tells_them_apart():
    rows = table(parameters=1e8, tokens=1e9, loss=[3.0, 3.5], width=[512, 1024])
    with pytest.raises(SoonerError, match=r"2 rows with 1e\+08 parameters .* from 3 to 3\.5; width differ .* --where"):
        one_per_cell(rows)
    with pytest.raises(SoonerError, match=r"from 3 to 3\.5; keep those of one kind"):
        one_per_cell(rows.without("width"))
