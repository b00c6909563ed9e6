"""The trajectory law: its root, and the batch and steps read off it."""

import numpy as np
import pytest
from law_equations import CASES, unraveled

from sooner.error import SoonerError
from sooner.forecast.laws.unraveled import Unraveled, critical_batch, smallest_steps, steps_to
from sooner.forecast.table import table

TRUTH = np.array(CASES["unraveled"].truth)


def test_the_loss_solves_its_equation_for_extreme_parameters_too():
    rows = table(parameters=[1e3, 1e6, 1e12], step=[1.0, 1e4, 1e9], batch=[1.0, 1e5, 1e9])
    for values in ((1e3, 0.01, 1.0, 0.05, 1.0, 10.0), (1e15, 0.5, 1e6, 2.0, 1e12, 0.05), tuple(TRUTH)):
        loss = Unraveled().predict(np.array([values]), Unraveled().prepare(rows))[0]
        size, alpha_n, steps, alpha_s, batch, alpha_b = values
        right = (size / rows["parameters"]) ** alpha_n
        right += ((steps / rows["step"]) * (1 + batch / loss ** (1 / alpha_b) / rows["batch"])) ** alpha_s
        np.testing.assert_allclose(loss, right, rtol=1e-9)


def test_at_the_critical_batch_steps_and_tokens_are_twice_their_least():
    loss, size = 3.6, 1e7
    knee = critical_batch(TRUTH, loss)
    fewest = smallest_steps(TRUTH, size, loss)
    np.testing.assert_allclose(steps_to(TRUTH, size, knee, loss), 2 * fewest)
    tiny = 1e-6 * knee
    np.testing.assert_allclose(2 * fewest * knee, 2 * steps_to(TRUTH, size, tiny, loss) * tiny, rtol=1e-5)


def test_steps_to_a_loss_give_that_loss_back():
    batch, loss, size = 5e4, 3.7, 1e7
    (steps,) = steps_to(TRUTH, size, batch, loss)
    np.testing.assert_allclose(unraveled(*TRUTH, parameters=size, step=steps, batch=batch), loss, rtol=1e-9)


def test_the_critical_batch_of_every_draw_and_loss():
    draws = np.stack([TRUTH, TRUTH * 1.01])
    made = critical_batch(draws, np.array([4.0, 3.5, 3.0]))
    assert made.shape == (2, 3)
    assert (np.diff(made[0]) > 0).all(), "it grows as the loss falls"
    np.testing.assert_allclose(made[0], 2e8 / np.array([4.0, 3.5, 3.0]) ** (1 / 0.21))


def test_a_loss_below_what_the_model_can_reach():
    with pytest.raises(SoonerError, match="never reached"):
        smallest_steps(TRUTH, 1e7, 2.0)
