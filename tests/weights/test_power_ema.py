"""The power-function average: its weights, its width, and that it is an EMA in all else."""

import copy
import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

import sooner
from sooner.weights import PowerEMA
from sooner.weights.power_ema import exponent


def model():
    return nn.Linear(3, 2).double()


def trained(net, average, steps, seed=0):
    """Move the weights at random, and return them after every step."""
    generator = torch.Generator().manual_seed(seed)
    seen = []
    for _ in range(steps):
        with torch.no_grad():
            for p in net.parameters():
                p.add_(torch.randn(p.shape, generator=generator, dtype=p.dtype))
        average.after_step()
        seen.append(net.weight.detach().clone())
    return seen


def test_every_step_counts_as_the_equation_says():
    net = model()
    average = PowerEMA(net, width=0.1)
    seen = trained(net, average, 12)
    gamma = exponent(0.1)
    expected = torch.zeros_like(seen[0])
    for t, theta in enumerate(seen, start=1):  # Karras et al., equation 4: beta_t = (1 - 1 / t)^(gamma + 1)
        beta = (1 - 1 / t) ** (gamma + 1)
        expected = beta * expected + (1 - beta) * theta
    with average.view():
        torch.testing.assert_close(net.weight, expected, rtol=1e-12, atol=0)
    assert torch.equal(net.weight, seen[-1])


@given(st.floats(0.001, 0.288))
def test_the_profile_is_as_wide_as_asked(width):
    gamma = exponent(width)
    assert math.isclose(math.sqrt((gamma + 1) / (gamma + 3)) / (gamma + 2), width, rel_tol=1e-9)


def test_published_exponents():
    """Karras et al., appendix C.1: 16.97 for a width of 0.05, 6.94 for 0.1."""
    assert [round(exponent(width), 2) for width in (0.05, 0.1)] == [16.97, 6.94]


def test_the_width_stays_when_the_run_gets_longer():
    """Measured on what single steps count in the average of runs of two lengths."""
    for steps in (200, 2000):
        gamma, count = exponent(0.1), torch.zeros(steps, dtype=torch.float64)
        for t in range(1, steps + 1):
            beta = (1 - 1 / t) ** (gamma + 1)
            count[:t] *= beta
            count[t - 1] = 1 - beta
        at = torch.arange(steps, dtype=torch.float64) / steps
        mean = (count * at).sum()
        assert math.isclose(float((count * (at - mean) ** 2).sum().sqrt()), 0.1, rel_tol=0.01)


def test_the_widest_counts_all_steps_alike():
    net = model()
    average = PowerEMA(net, width=1 / math.sqrt(12))
    seen = trained(net, average, 9)
    with average.view():
        torch.testing.assert_close(net.weight, torch.stack(seen).mean(0), rtol=1e-9, atol=0)


def test_it_goes_on_from_its_state_to_the_last_bit():
    net = model()
    average = PowerEMA(net, width=0.05)
    trained(net, average, 5)
    again = copy.deepcopy(net)
    resumed = PowerEMA(again, width=0.05)
    resumed.load_state_dict(average.state_dict())
    trained(net, average, 5, seed=1)
    trained(again, resumed, 5, seed=1)
    with average.view(), resumed.view():
        assert torch.equal(net.weight, again.weight)


@pytest.mark.parametrize("width", [0.0, 0.3, -0.1, math.nan])
def test_a_width_that_no_profile_has_is_refused(width):
    with pytest.raises(sooner.SoonerError, match="power_ema: width="):
        PowerEMA(model(), width=width)
