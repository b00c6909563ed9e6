"""A recipe at work in a user's own loop: evaluation weights, state, and what it costs to keep."""

import copy

import pytest
import torch
import toy_parts
from torch import nn

import sooner
from sooner.recipe import Recipe, slot


def start(recipe="sgd(lr=0.1) + linear", seed=0):
    torch.manual_seed(seed)
    net = nn.Linear(3, 2)
    return net, Recipe(recipe, slot(toy_parts.RunningMean, rate=0.5)).build(net, steps=20)


def advance(net, training, steps, first=0):
    for step in range(first, first + steps):
        torch.manual_seed(1000 + step)
        net(torch.randn(4, 3)).square().sum().backward()
        training.step()
        training.zero_grad()


def weights(net):
    return [p.detach().clone() for p in net.parameters()]


def same(a, b):
    return all(torch.equal(x, y) for x, y in zip(a, b, strict=True))


def test_inside_the_view_stand_the_evaluation_weights_and_outside_the_training_weights():
    net, training = start()
    mean = weights(net)
    for step in range(3):
        advance(net, training, 1, first=step)
        mean = [0.5 * m + 0.5 * p.detach() for m, p in zip(mean, net.parameters(), strict=True)]
    before = weights(net)
    with training.view() as seen:
        assert seen is net
        assert all(torch.allclose(p, m) for p, m in zip(net.parameters(), mean, strict=True))
        assert not same(weights(net), before)
    assert same(weights(net), before)


def test_an_exception_inside_the_view_leaves_the_training_weights():
    net, training = start()
    advance(net, training, 2)
    before = weights(net)
    with pytest.raises(KeyboardInterrupt), training.view():
        raise KeyboardInterrupt
    assert same(weights(net), before)


def test_a_saved_training_goes_on_bit_for_bit():
    net, training = start()
    advance(net, training, 3)
    saved = copy.deepcopy((net.state_dict(), training.state_dict()))
    other, resumed = start(seed=1)
    other.load_state_dict(saved[0])
    resumed.load_state_dict(saved[1])
    advance(net, training, 3, first=3)
    advance(other, resumed, 3, first=3)
    assert same(weights(net), weights(other))
    with training.view(), resumed.view():
        assert same(weights(net), weights(other))
    assert training.learning_rates() == resumed.learning_rates()


def test_the_state_of_other_parts_is_refused():
    _, training = start()
    _, other = start("adamw + linear")
    sentence = (
        "the state holds SGD, Linear, RunningMean where this recipe has AdamW, Linear, RunningMean; load with the"
    )
    with pytest.raises(sooner.SoonerError, match=sentence):
        other.load_state_dict(training.state_dict())
    with pytest.raises(sooner.SoonerError, match="the state holds nothing where"):
        other.load_state_dict({})


def test_zero_grad_drops_all_gradients():
    net = nn.Linear(3, 2)
    training = Recipe("sgd(on='weight') + adamw(on='bias')").build(net, steps=2)
    net(torch.ones(1, 3)).sum().backward()
    training.zero_grad()
    assert [p.grad for p in net.parameters()] == [None, None]


def test_state_bytes_counts_what_is_kept():
    per_parameter = {"sgd(momentum=0.0)": 0, "sgd": 4, "adamw": 8, "torch.optim.AdamW": 8}
    for recipe, expected in per_parameter.items():
        net = nn.Linear(100, 100)
        training = Recipe(recipe).build(net, steps=2)
        assert training.state_bytes() == 0
        net(torch.ones(1, 100)).sum().backward()
        training.step()
        assert training.state_bytes() == pytest.approx(expected * 10_100, abs=16)  # and the step counts


def test_dropping_a_training_mid_way_leaves_plain_pytorch_objects():
    net, training = start()
    assert isinstance(training.optimizers[0], torch.optim.Optimizer)
    assert isinstance(training.schedules[0], torch.optim.lr_scheduler.LRScheduler)
    assert training.model is net
