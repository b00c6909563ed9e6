"""The unified schedule: the paper's expression, its two limits, and what its bend does to the mean rate."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

import sooner
from sooner.schedule import UBA, Cosine


def optimizer():
    return torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=1.0)


def as_published(p, phi):
    """The paper's expression with its own c, written independently."""
    c = 1 + math.cos(math.pi * p)
    return 2 * c / (2 * phi + (2 - phi) * c)


@given(phi=st.floats(0.05, 50), step=st.integers(0, 100))
def test_it_is_the_published_expression(phi, step):
    made = UBA(optimizer(), 100, phi=phi, warmup=0.0)
    assert made.factor(step) == pytest.approx(as_published(step / 100, phi), rel=1e-12, abs=1e-15)


@given(steps=st.integers(1, 300), warmup=st.floats(0, 0.9), floor=st.floats(0, 1))
def test_a_bend_of_2_is_cosine_bit_for_bit(steps, warmup, floor):
    ours, cosine = (
        UBA(optimizer(), steps, phi=2.0, warmup=warmup, floor=floor),
        Cosine(optimizer(), steps, warmup, floor),
    )
    assert [ours.factor(t) for t in range(steps + 2)] == [cosine.factor(t) for t in range(steps + 2)]


@pytest.mark.parametrize(
    ("phi", "at"),
    [  # progress .1, .25, .5, .75, .9
        (0.25, (0.997, 0.979, 0.889, 0.579, 0.167)),
        (0.5, (0.994, 0.959, 0.800, 0.407, 0.091)),
        (1.0, (0.988, 0.921, 0.667, 0.255, 0.048)),
        (5.0, (0.941, 0.700, 0.286, 0.064, 0.010)),
    ],
)
def test_its_table_of_values(phi, at):
    made = UBA(optimizer(), 100, phi=phi, warmup=0.0)
    assert [round(made.factor(step), 3) for step in (10, 25, 50, 75, 90)] == list(at)


@given(phi=st.floats(0.05, 50), floor=st.floats(0, 0.9), warmup=st.floats(0, 0.5), steps=st.integers(10, 200))
def test_it_falls_from_1_to_the_floor(phi, floor, warmup, steps):
    made = UBA(optimizer(), steps, phi=phi, warmup=warmup, floor=floor)
    found = [made.factor(t) for t in range(steps + 3)]
    warm = round(warmup * steps)
    assert found[warm] == 1.0
    assert found[warm:] == sorted(found[warm:], reverse=True)
    assert found[steps:] == [floor] * 3
    assert all(0 <= f <= 1 for f in found)


@pytest.mark.parametrize("phi", [0.25, 0.5, 1.0, 2.0, 5.0])
def test_the_mean_factor_is_the_integral(phi):
    exact = 1 / (1 + math.sqrt(phi / 2))
    assert UBA(optimizer(), 20_000, phi=phi, warmup=0.0).mean_factor() == pytest.approx(exact, abs=1e-4)


def test_three_phases_fall_rise_and_fall():
    made = UBA(optimizer(), 300, phi=5.0, phases=3, warmup=0.0)
    one = UBA(optimizer(), 100, phi=5.0, warmup=0.0)
    for step in range(101):
        assert made.factor(step) == pytest.approx(one.factor(step), abs=1e-12)
        assert made.factor(200 - step) == pytest.approx(one.factor(step), abs=1e-12)
        assert made.factor(200 + step) == pytest.approx(one.factor(step), abs=1e-12)


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"phi": 0.0}, r"uba: phi=0.0 is not a number in \[1e-06, 1e\+06\]"),
        ({"phi": math.nan}, "uba: phi=nan is not a number"),
        ({"phases": 2}, "uba: phases=2 would end with a rise; choose an odd number"),
        ({"phases": 1.5}, "uba: phases=1.5 is not a whole number"),
    ],
)
def test_a_bad_number_is_named(settings, sentence):
    with pytest.raises(sooner.SoonerError, match=sentence):
        UBA(optimizer(), 10, **settings)


def test_a_race_tunes_its_bend():
    recipe = sooner.Recipe("adamw(lr=0.1) + uba")
    assert recipe.default == {"phi": 1.0}
    assert recipe.with_settings({"phi": 5.0}).build(nn.Linear(2, 2), steps=10).schedules[0].phi == 5.0
