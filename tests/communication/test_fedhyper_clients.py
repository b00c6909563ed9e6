"""Clients' learning rates by hypergradients: those of the server last, those of the clients begin anew."""

import numpy as np
import pytest
import torch

from sooner.communication import FedHyperClients
from sooner.communication._local import Place
from sooner.error import SoonerError

SIZE = 4


def begin(part, workers):
    state = {slot: torch.zeros(workers, SIZE, dtype=torch.float64) for slot in part.slots}
    return state | {number: torch.zeros(workers, 1, dtype=torch.float64) for number in part.numbers}


def play(part, workers, moves, commons):
    """Return what the part makes of optimizers' moves [round][step] (n, d), and its rates after each round."""
    state, made, rates = begin(part, workers), [], []
    for number, common in enumerate(commons):
        part.window_begins(torch.from_numpy(common), state)
        for raw in moves[number]:
            zero = torch.zeros(workers, SIZE, dtype=torch.float64)
            made.append(part.step(torch.from_numpy(raw), Place(zero, zero, zero, lambda w: w, state)).numpy())
        rates.append(1 + state["excess"].numpy().copy())
    return np.stack(made), np.stack(rates)


def draw(workers, rounds, steps, scale=0.3):
    numbers = np.random.default_rng(1)
    moves = scale * numbers.standard_normal((rounds, steps, workers, SIZE))
    commons = np.concatenate((np.zeros((1, SIZE)), scale * numbers.standard_normal((rounds - 1, SIZE))))
    return moves, commons


def test_cl_is_its_equation():
    moves, commons = draw(3, 4, 5)
    ours, _ = play(FedHyperClients("CL", share=0.02), 3, moves, commons)
    expected = []
    for number, common in enumerate(commons):
        rate, last = np.ones(3), [common] * 3
        for raw in moves[number]:
            d = rate[:, None] * raw
            for i in range(3):
                grown = min(1.1, 1 + d[i] @ last[i] + 0.02 * d[i] @ common)
                rate[i] = np.clip(rate[i] * grown, 0.1, 10)
            last = list(d)
            expected.append(d)
    np.testing.assert_allclose(ours, np.stack(expected), rtol=1e-12, atol=1e-14)


def test_sl_is_its_equation_and_survives_the_round():
    """In the released loop the rates are set back at the start of every round, and do nothing."""
    moves, commons = draw(3, 6, 2)
    ours, rates = play(FedHyperClients("SL", base=0.5), 3, moves, commons)
    rate, last, expected = 1.0, np.zeros(SIZE), []
    for common in commons:
        rate, last = np.clip(rate + last @ common / 0.5, 0.1, 10), common
        expected.append(rate)
    np.testing.assert_allclose(rates[:, :, 0], np.stack(expected)[:, None].repeat(3, 1), rtol=1e-12)
    np.testing.assert_allclose(ours, np.repeat(expected, 2)[:, None, None] * moves.reshape(12, 3, SIZE), rtol=1e-12)
    assert len({round(float(r), 9) for r in rates[:, 0, 0]}) > 3, "the rate must not fall back"


@pytest.mark.parametrize("mode", ["CL", "SL"])
def test_rates_stay_within_a_tenth_and_ten_times(mode):
    numbers = 5 * np.ones((12, 3, 2, SIZE))
    up = play(FedHyperClients(mode), 2, numbers, [np.full(SIZE, 5.0)] * 12)[1]
    signs = np.array([1.0, -1.0] * 6)
    down = play(FedHyperClients(mode), 2, numbers, [s * np.full(SIZE, 5.0) for s in signs])[1]
    assert up.max() <= 10
    assert down.min() >= 0.1 - 1e-12
    if mode == "SL":
        assert (up.max(), down.min()) == (10, pytest.approx(0.1))
    else:
        assert up.max() == pytest.approx(1.1**3), "no more than a tenth per step, and anew in every round"


def test_the_cosine_does_not_depend_on_scale():
    found = []
    for scale in (1e-4, 1.0):
        moves, commons = draw(2, 3, 4, scale)
        made, rates = play(FedHyperClients("CL", cosine=True), 2, moves, commons)
        found.append((made / scale, rates))
    np.testing.assert_allclose(found[0][0], found[1][0], rtol=1e-9)
    np.testing.assert_allclose(found[0][1], found[1][1], rtol=1e-9)


def test_the_gradient_is_left_alone():
    g = torch.randn(2, SIZE)
    part = FedHyperClients()
    assert part.direction(Place(g, g, g, lambda w: w, begin(part, 2))) is g


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: FedHyperClients("G"), "mode='G' is none of CL and SL"),
        (lambda: FedHyperClients(share=2), "share=2"),
        (lambda: FedHyperClients(base=0), "base=0"),
    ],
)
def test_settings_out_of_range_are_refused(make, words):
    with pytest.raises(SoonerError, match=words):
        make()
