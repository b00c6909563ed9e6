"""The entropy reading, and the frontier that a law in compute is fitted to."""

import numpy as np

from sooner.forecast.laws.generative import Generative, compute_frontier, reducible
from sooner.forecast.table import table


def test_the_reducible_loss_is_a_straight_line_in_log_log_axes():
    x = np.geomspace(1e5, 1e9, 20)
    rows = table(tokens=x, loss=1.5 + (2e4 / x) ** 0.25)
    left = reducible(Generative().fit(rows, draws=2).values, rows["loss"])
    slope, intercept = np.polyfit(np.log(x), np.log(left), 1)
    np.testing.assert_allclose(slope, -0.25, rtol=1e-3)
    np.testing.assert_allclose(np.exp(-intercept / slope), 2e4, rtol=1e-2)
    assert reducible(np.ones((7, 3)), rows["loss"]).shape == (7, 20)


def test_no_cheaper_row_undercuts_the_frontier():
    random = np.random.default_rng(0)
    rows = table(compute=random.integers(1, 40, 200).astype(float), loss=random.uniform(1, 2, 200))
    front = compute_frontier(rows)
    expected = [
        row
        for row in range(200)
        if not any(
            (rows["compute"][other], rows["loss"][other]) < (rows["compute"][row], rows["loss"][row])
            and rows["loss"][other] <= rows["loss"][row]
            for other in range(200)
        )
    ]
    assert sorted(front.run.tolist()) == sorted(rows.run[expected].tolist())
    assert (np.diff(front["compute"]) > 0).all()
    assert (np.diff(front["loss"]) < 0).all()


def test_compute_is_derived_for_the_frontier():
    front = compute_frontier(table(parameters=[1.0, 2.0], tokens=[3.0, 4.0], loss=[2.0, 1.0]))
    np.testing.assert_array_equal(front["compute"], [18.0, 48.0])
