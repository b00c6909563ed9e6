"""Prodigy: the one number that it finds for the whole model, and what may happen to that."""

import itertools
import math

import pytest
import references
import torch
from torch import nn

from sooner.execute import using
from sooner.recipe import Recipe
from sooner.update import Prodigy


def parameters(dtype=torch.float64, shapes=((3, 4), (4,), ())):
    generator = torch.Generator().manual_seed(1)
    return [nn.Parameter(torch.randn(s, generator=generator, dtype=torch.float64).to(dtype)) for s in shapes]


def give(params, step):
    generator = torch.Generator().manual_seed(step)
    for p in params:
        p.grad = (p.detach() + torch.randn(p.shape, generator=generator, dtype=torch.float64)).to(p.dtype)


def distance(optimizer):
    """The d of the next step; all parameters show the same."""
    first, *others = (state["distance"].item() for state in optimizer.state.values())
    assert all(other == first or math.isnan(other) for other in others)
    return optimizer.distance.item()


def test_two_steps_by_hand():
    p = nn.Parameter(torch.zeros(1, dtype=torch.float64))
    optimizer = Prodigy([p], betas=(0.0, 0.25), eps=0.0, d0=0.5)  # the sums keep half
    assert optimizer.distance.item() == 0.5
    p.grad = torch.full_like(p, 2.0)
    optimizer.step()  # m = 0.5 * 2, v = 0.75 m^2; r = 0, so that d stays
    way = -0.5 / math.sqrt(0.75)
    assert p.item() == pytest.approx(way)
    assert distance(optimizer) == 0.5
    p.grad = torch.full_like(p, 4.0)
    optimizer.step()  # m = 2, v = 0.25 * 0.75 + 0.75 * 4
    r, s = 0.5 * 4 * -way, 0.5 * (0.5 * 2) + 0.5 * 4
    assert p.item() == pytest.approx(way - 0.5 * 2 / math.sqrt(0.1875 + 3.0))
    assert distance(optimizer) == pytest.approx(max(0.5, r / s))
    assert r / s < 0.5


@pytest.mark.parametrize("executor", ["eager", "native"])
def test_all_groups_share_one_number_and_each_has_its_rate(executor):
    params = parameters()
    groups = [{"params": params[:1]}, {"params": params[1:], "lr": 0.0, "weight_decay": 0.5}]
    optimizer, other = Prodigy(groups, d0=0.01), parameters()[:1]
    alone = Prodigy(other, d0=0.01)
    before = [p.detach().clone() for p in params[1:]]
    for step in range(1, 9):
        give(params, step)
        other[0].grad = params[0].grad.clone()
        with using(executor):
            optimizer.step()
            alone.step()
    assert torch.allclose(params[0], other[0], rtol=1e-12)  # a group that rests has no say
    assert distance(optimizer) == pytest.approx(distance(alone), rel=1e-12)
    assert distance(optimizer) > 0.01
    assert all(torch.equal(p, q) for p, q in zip(params[1:], before, strict=True))


@pytest.mark.parametrize("scale", [1e-2, 1.0, 1e2])
def test_it_finds_the_order_of_magnitude_of_the_distance(scale):
    goal = scale * torch.tensor([1.0, -2.0, 3.0, 0.5], dtype=torch.float64)
    p = nn.Parameter(torch.zeros(4, dtype=torch.float64))
    optimizer = Prodigy([p])
    for _ in range(300):
        p.grad = (p.detach() - goal).sign()
        optimizer.step()
    assert 0.1 * goal.abs().max() < distance(optimizer) <= goal.abs().max() * (1 + 1e-9)
    assert (p.detach() - goal).abs().max() < goal.abs().max()


def test_it_grows_no_faster_than_allowed_after_the_first_growth():
    free, held = parameters(), parameters()
    quick, slow = Prodigy(free), Prodigy(held, growth_rate=1.1)
    distances = []
    for step in range(1, 30):
        for params, optimizer in ((free, quick), (held, slow)):
            give(params, step)
            optimizer.step()
        distances.append(distance(slow))
    growth = [b / a for a, b in itertools.pairwise(distances) if a > 1e-6]
    assert max(growth) == pytest.approx(1.1)
    assert distances[-1] < distance(quick)


def test_it_grows_where_half_precision_weights_do_not_move_yet():
    wide, half = [nn.Parameter(p.detach().bfloat16().float()) for p in parameters()], parameters(torch.bfloat16)
    ours, exact = Prodigy(half), Prodigy(wide)
    for step in range(1, 60):
        give(half, step)
        for p, q in zip(half, wide, strict=True):
            q.grad = p.grad.float()
        ours.step()
        exact.step()
    assert distance(ours) == pytest.approx(distance(exact), rel=1e-5)  # from the same gradients
    assert distance(ours) > 1e-3


def test_gradients_of_zero_move_nothing_and_spoil_nothing():
    params, shadow = parameters(), parameters()
    optimizer, memory = Prodigy(params, d0=0.01), [{} for _ in shadow]
    for p in params:
        p.grad = torch.zeros_like(p)
    before = [p.detach().clone() for p in params]
    optimizer.step()
    assert all(torch.equal(p, q) for p, q in zip(params, before, strict=True))
    assert distance(optimizer) == 0.01
    with torch.no_grad():
        references.prodigy(shadow, [p.grad for p in params], memory, 1, d0=0.01)
    for step in range(2, 9):
        give(params, step)
        give(shadow, step)
        optimizer.step()
        with torch.no_grad():
            references.prodigy(shadow, [p.grad for p in shadow], memory, step, d0=0.01)
    assert all(torch.allclose(p, q, rtol=1e-12) for p, q in zip(params, shadow, strict=True))


def test_a_gradient_that_is_no_number_is_seen_or_left_out():
    for how, finite in (("pass", False), ("skip", True)):
        params = parameters()
        optimizer = Prodigy(params, non_finite=how)
        give(params, 1)
        optimizer.step()
        give(params, 2)
        params[1].grad[0] = math.nan
        optimizer.step()
        give(params, 3)
        optimizer.step()
        assert math.isfinite(distance(optimizer)) is finite
        assert all(p.isfinite().all() for p in params) is finite


def test_schedules_go_with_it():
    net = nn.Linear(3, 2)
    training = Recipe("prodigy + cosine").build(net, 4)
    rates = []
    for step in range(4):
        rates.append(training.learning_rates()[0])
        give(list(net.parameters()), step)
        training.step()
    assert rates[0] > rates[-1]
