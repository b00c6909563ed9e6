"""Designs: every effect is told apart from what the design says it is, and the whole stack is always among the arms."""

import itertools

import numpy as np
import pytest

from sooner.ablation import design
from sooner.ablation.design import MOST, PAIRS_AT_MOST
from sooner.error import SoonerError


@pytest.mark.parametrize("pairs", [None, False, True])
@pytest.mark.parametrize("parts", range(2, MOST + 1))
def test_effects_are_told_apart(parts, pairs):
    if pairs and parts > PAIRS_AT_MOST:
        with pytest.raises(SoonerError, match="--no-pairs"):
            design(parts, pairs)
        return
    made = design(parts, pairs)
    levels = made.levels.astype(float)
    arms = len(levels)
    assert set(np.unique(levels)) == {-1, 1}
    assert (levels[0] == 1).all(), "the whole stack is the first arm"
    assert len(np.unique(levels, axis=0)) == arms, "no stack races twice"
    products = np.array([levels[:, a] * levels[:, b] for a, b in itertools.combinations(range(parts), 2)])
    assert np.array_equal(levels.T @ levels, arms * np.eye(parts)), "parts do not hide each other"
    assert not (products @ levels).any(), "no pair hides a part"
    if made.pairs:
        assert np.array_equal(products @ products.T, arms * np.eye(len(products))), "pairs do not hide each other"
    names, contrasts = made.contrasts()
    assert len(names) == arms - 1, "nothing that the arms say is left out"
    assert names[:parts] == [(part,) for part in range(parts)]
    assert np.allclose(contrasts @ np.ones(arms), 0)
    assert np.allclose(contrasts @ contrasts.T, 4 / arms * np.eye(arms - 1))


def test_five_parts_take_sixteen_arms_with_all_pairs():
    assert [(len(design(n).levels), design(n).pairs) for n in (2, 3, 4, 5, 6, 9)] == [
        (4, True),
        (8, True),
        (16, True),
        (16, True),
        (16, False),
        (24, False),
    ]


@pytest.mark.parametrize(("parts", "said"), [(0, "race it"), (1, "1 part of the stack"), (13, "at most 12")])
def test_what_makes_no_design_gets_one_sentence(parts, said):
    with pytest.raises(SoonerError, match=said):
        design(parts)
