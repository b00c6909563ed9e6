"""Stochastic rounding keeps the mean, is reproducible and is the same in every executor."""

import pytest
import torch
from torch import nn

from sooner.execute import using
from sooner.execute.rounding import round_stochastically, salt_of
from sooner.update import SGD, AdamW


def test_a_value_goes_to_one_of_its_neighbours_with_the_right_probability():
    x = torch.full((200_000,), 1 + 0.25 / 128)  # a quarter of the way from 1 to the next bfloat16
    rounded = round_stochastically(x, 0, salt_of(1))
    assert set(rounded.tolist()) == {1.0, 1 + 1 / 128}
    assert abs((rounded > 1).float().mean().item() - 0.25) < 0.005
    assert torch.equal(rounded, rounded.bfloat16().float())
    assert torch.equal(round_stochastically(-x, 0, salt_of(1)), -rounded)


def test_what_bfloat16_can_hold_stays_and_so_do_nan_and_infinity():
    exact = torch.tensor([0.0, -0.0, 1.0, -2.5, 2.0**100, float("inf"), -float("inf")])
    assert torch.equal(round_stochastically(exact, 7, salt_of(3)), exact)
    assert round_stochastically(torch.tensor([float("nan")]), 0, 0).isnan().all()


def test_steps_and_elements_draw_their_own_noise():
    x = torch.full((1000,), 1 + 0.5 / 128)
    first, second = (round_stochastically(x, 0, salt_of(step)) for step in (1, 2))
    assert 0.4 < (first == second).float().mean() < 0.6
    assert torch.equal(round_stochastically(x[400:], 400, salt_of(1)), first[400:])


@pytest.mark.parametrize("method", [SGD, AdamW])
def test_executors_round_alike(method):
    def train(executor):
        generator = torch.Generator().manual_seed(0)
        params = [nn.Parameter(torch.randn(s, generator=generator).bfloat16()) for s in [(300, 300), (5,), ()]]
        optimizer = method(params, lr=1e-3, stochastic_rounding=True)
        for _ in range(3):
            for p in params:
                p.grad = torch.randn(p.shape, generator=generator).bfloat16()
            with using(executor):
                optimizer.step()
        return params

    pairs = zip(train("eager"), train("native"), strict=True)
    # PyTorch's root may differ from C's in the last bit, which makes one in ten thousand draws fall the other way
    few = 1e-4 if method is AdamW else 0
    assert sum(int((p != q).sum()) for p, q in pairs) <= few * 90_006


def test_steps_below_the_spacing_add_up():
    p = nn.Parameter(torch.ones(20_000).bfloat16())
    lost = nn.Parameter(torch.ones(20_000).bfloat16())
    for optimizer in (SGD([p], lr=1e-4, momentum=0, stochastic_rounding=True), SGD([lost], lr=1e-4, momentum=0)):
        for _ in range(50):
            optimizer.param_groups[0]["params"][0].grad = torch.ones(20_000).bfloat16()
            optimizer.step()
    assert torch.equal(lost.detach().float(), torch.ones(20_000))
    assert abs(p.detach().float().mean().item() - (1 - 50e-4)) < 2e-4
