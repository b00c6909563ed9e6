"""Effects against planted truths: found where they are, intervals that hold, and nothing needed is thrown away."""

import itertools
import math

import numpy as np
import pytest

from sooner.ablation import design, effects
from sooner.ablation.effects import mean

WORTH = math.log(1.05)


def planted(made, mains, pairs=(), *, noise=0.0, luck=0.0, seeds=8, generator=None):
    """Values of all arms: effects of parts and pairs, a level per seed, luck per arm and noise per run."""
    draw = generator or np.random.default_rng(0)
    levels = made.levels.astype(float)
    truth = levels @ np.array(mains) / 2
    for (one, other), size in dict(pairs).items():
        truth = truth + levels[:, one] * levels[:, other] * size / 2
    arms = len(levels)
    values = truth[:, None] + luck * draw.standard_normal((arms, 1)) + draw.standard_normal((1, seeds))
    return values + noise * draw.standard_normal((arms, seeds))


@pytest.mark.parametrize("parts", [2, 3, 4, 5, 6])
def test_without_noise_the_truth_comes_out(parts):
    made = design(parts, True)
    draw = np.random.default_rng(parts)
    mains = draw.normal(size=parts)
    pairs = {pair: draw.normal() for pair in itertools.combinations(range(parts), 2)}
    found = effects(made, planted(made, mains, pairs), WORTH)
    assert np.allclose([e.value for e in found.parts], mains)
    assert np.allclose([e.value for e in found.pairs], list(pairs.values()))
    assert [e.parts for e in found.pairs] == list(pairs)


def test_leaving_out_of_the_whole_stack_counts_the_pairs_that_are_sure():
    made = design(5)
    found = effects(made, planted(made, [-0.4, -0.1, 0, 0, 0], {(0, 1): -0.2}, noise=0.01), WORTH)
    assert [pair.parts for pair in found.pairs if pair.sure] == [(0, 1)]
    without = {e.parts[0]: e.value for e in found.left_out}
    assert without[0] == pytest.approx(0.6, abs=0.02), "its own 0.4, and 0.2 that it did with the other"
    assert without[1] == pytest.approx(0.3, abs=0.02)
    assert found.kept == [0, 1]


def test_of_two_parts_that_do_the_same_one_stays():
    """Each alone saves a fifth, both together no more: either may go, and not both."""
    made = design(5)
    found = effects(made, planted(made, [-0.1, -0.1, 0, 0, 0], {(0, 1): 0.1}, noise=0.005), WORTH)
    assert len(found.kept) == 1
    assert found.kept[0] in (0, 1)


@pytest.mark.parametrize(("parts", "luck"), [(3, 0.05), (5, 0.05), (5, 0.0), (8, 0.05)])
def test_intervals_hold_and_false_alarms_are_rare(parts, luck):
    made = design(parts)
    mains = [-0.3, -0.1] + [0.0] * (parts - 2)
    draw = np.random.default_rng(1)
    held, false, lost = [], 0, 0
    for _ in range(150):
        found = effects(made, planted(made, mains, noise=0.1, luck=luck, generator=draw), WORTH)
        held += [e.low <= truth <= e.high for e, truth in zip(found.parts, mains, strict=True)]
        false += any(e.sure for e in found.parts[2:])
        lost += not {0, 1} <= set(found.kept)
    assert np.mean(held) >= 0.94
    assert false <= 11, "at most 5 % of studies, and what chance adds to that in 150"
    assert lost <= 4


def test_a_mean_is_as_sure_as_its_seeds():
    sure, unsure = mean(np.array([-0.5, -0.6, -0.55, -0.5, -0.52])), mean(np.array([-0.5, 0.6, -0.55, 0.5]))
    assert sure.sure
    assert sure.high < 0
    assert not unsure.sure
    assert unsure.low < 0 < unsure.high
    assert mean(np.zeros(4)).p == 1


def test_values_that_say_nothing_are_refused():
    made = design(3)
    for values in (np.zeros((8, 1)), np.zeros((7, 4)), np.full((8, 4), np.nan)):
        with pytest.raises(ValueError, match="8 arms need finite values"):
            effects(made, values, WORTH)
