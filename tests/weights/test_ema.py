"""The moving average of the weights: its values, what the view shows and leaves behind, and going on from a file."""

import copy

import pytest
import torch
from hypothesis import given, settings, strategies
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn, update_bn

import sooner
from sooner.weights import EMA


def network(seed=0, dtype=torch.float32):
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Tanh(), nn.Linear(4, 2)).to(dtype)


def advance(net, optimizer, step):
    torch.manual_seed(1000 + step)
    dtype = next(net.parameters()).dtype
    net(torch.randn(8, 3).to(dtype)).square().sum().backward()
    optimizer.step()
    optimizer.zero_grad()


def weights(net):
    return {name: value.detach().clone() for name, value in net.state_dict().items()}


def same(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def from_the_definition(history, decay):
    """The average that starts from zero, divided by what it lacks of one; one tensor at a time in float64."""
    total = torch.zeros_like(history[0], dtype=torch.float64)
    for value in history:
        total = decay * total + (1 - decay) * value.double()
    return total / (1 - decay ** len(history))


@settings(deadline=None, max_examples=30)
@given(decay=strategies.floats(0.0, 0.9999), steps=strategies.integers(1, 12))
def test_it_is_the_average_that_the_definition_gives(decay, steps):
    net = network(dtype=torch.float64)
    ema, optimizer, history = EMA(net, decay), torch.optim.SGD(net.parameters(), lr=0.1), []
    for step in range(steps):
        advance(net, optimizer, step)
        ema.after_step()
        history.append(weights(net))
    with ema.view():
        for name, value in net.state_dict().items():
            if value.is_floating_point():
                expected = from_the_definition([h[name] for h in history], decay)
                torch.testing.assert_close(value, expected, rtol=1e-9, atol=1e-12)


def test_it_is_the_average_of_pytorch_less_the_weight_of_the_start():
    """PyTorch starts from the first weights a step too heavily: it holds decay^t of them more than is their due."""
    net = network(dtype=torch.float64)
    ema, optimizer, decay = EMA(net, 0.9), torch.optim.SGD(net.parameters(), lr=0.1), 0.9
    theirs = AveragedModel(net, multi_avg_fn=get_ema_multi_avg_fn(decay), use_buffers=False)
    first = None
    for step in range(1, 10):
        advance(net, optimizer, step)
        ema.after_step()
        theirs.update_parameters(net)
        first = first or {name: p.detach().clone() for name, p in net.named_parameters()}
        with ema.view():
            for (name, ours), other in zip(net.named_parameters(), theirs.module.parameters(), strict=True):
                expected = (other - decay**step * first[name]) / (1 - decay**step)
                torch.testing.assert_close(ours.detach(), expected.detach(), rtol=1e-9, atol=1e-12)


def test_with_the_same_formula_pytorch_averages_weights_and_statistics_to_the_same():
    net = network()
    ema, optimizer, decay = EMA(net, 0.8), torch.optim.SGD(net.parameters(), lr=0.1), 0.8
    theirs = AveragedModel(
        net, avg_fn=lambda a, p, n: a + (p - a) * (1 - decay) / (1 - decay ** (int(n) + 1)), use_buffers=True
    )
    for step in range(6):
        advance(net, optimizer, step)
        ema.after_step()
        theirs.update_parameters(net)
    with ema.view():
        for name, ours in net.state_dict().items():
            if ours.is_floating_point():
                torch.testing.assert_close(ours, theirs.module.state_dict()[name], rtol=1e-6, atol=1e-7)


def test_without_decay_it_is_the_last_weights():
    net = network()
    ema, optimizer = EMA(net, 0.0), torch.optim.SGD(net.parameters(), lr=0.1)
    for step in range(3):
        advance(net, optimizer, step)
        ema.after_step()
    last = weights(net)
    with ema.view():
        assert same(weights(net), last)


def test_weights_that_rest_are_their_own_average_bit_for_bit():
    net = network()
    ema = EMA(net, 0.97)
    for _ in range(5):
        ema.after_step()
    last = weights(net)
    with ema.view():
        assert same(weights(net), last)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_view_gives_the_training_weights_back_whatever_happens_inside(dtype):
    net = network(dtype=dtype)
    ema, optimizer = EMA(net, 0.5), torch.optim.SGD(net.parameters(), lr=0.1)
    for step in range(4):
        advance(net, optimizer, step)
        ema.after_step()
    before = weights(net)

    def interrupted():
        with ema.view():
            assert not same(weights(net), before)
            average = weights(net)
            with ema.view():
                assert same(weights(net), average)
                nn.init.zeros_(net[0].weight)
            assert same(weights(net), average)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert same(weights(net), before)


def test_before_the_first_step_the_view_shows_the_weights_themselves():
    net = network()
    ema, before = EMA(net), weights(net)
    with ema.view():
        assert same(weights(net), before)
    assert ema.state_dict() == {"steps": 0, "averages": {}}


def test_statistics_are_averaged_counts_stay_and_measuring_anew_inside_the_view_is_undone():
    net = network()
    ema, optimizer, history = EMA(net, 0.5), torch.optim.SGD(net.parameters(), lr=0.1), []
    for step in range(3):
        advance(net, optimizer, step)
        ema.after_step()
        history.append(net[1].running_var.clone())
    before = weights(net)
    with ema.view():
        torch.testing.assert_close(net[1].running_var.double(), from_the_definition(history, 0.5))
        assert net[1].num_batches_tracked == 3
        averaged = net[1].running_mean.clone()
        update_bn([torch.randn(64, 3)], net)
        assert not torch.equal(net[1].running_mean, averaged)
    after = weights(net)
    after["1.num_batches_tracked"] = before["1.num_batches_tracked"]  # a count, which no average owns
    assert same(after, before)


def test_other_buffers_are_left_alone():
    net = network()
    net.register_buffer("mask", torch.tensor([0.0, -torch.inf]))
    ema = EMA(net, 0.5)
    for _ in range(2):
        net.mask += 1
        ema.after_step()
    with ema.view():
        assert net.mask.tolist() == [2.0, -torch.inf]
    assert set(ema.state_dict()["averages"]) == {
        *(name for name, _ in net.named_parameters()),
        *("1.running_mean", "1.running_var"),
    }


def test_half_precision_is_averaged_in_single():
    """In bfloat16 itself the average would stand still: a step of 1/8 of its last digit is lost."""
    net = nn.Linear(1, 1, bias=False, dtype=torch.bfloat16)
    ema, history = EMA(net, 0.99), []
    for step in range(400):
        nn.init.constant_(net.weight, 1 + (step % 2) / 128 + step / 1024)
        ema.after_step()
        history.append(net.weight.detach().clone())
    average = ema.state_dict()["averages"]["weight"]
    assert average.dtype == torch.float32
    expected = from_the_definition(history, 0.99)
    torch.testing.assert_close(average.double(), expected, rtol=1e-5, atol=0)
    with ema.view():
        assert torch.equal(net.weight.detach(), average.bfloat16())


def test_models_of_mixed_precision_keep_each_parameter_in_its_own():
    net = nn.Sequential(nn.Linear(2, 2, dtype=torch.float64), nn.Linear(2, 2, dtype=torch.float16))
    ema = EMA(net, 0.5)
    for scale in (1.0, 0.5):
        for p in net.parameters():
            nn.init.constant_(p, scale)
        ema.after_step()
    assert [a.dtype for a in ema.state_dict()["averages"].values()] == [torch.float64] * 2 + [torch.float32] * 2
    with ema.view():
        assert [p.dtype for p in net.parameters()] == [torch.float64] * 2 + [torch.float16] * 2
        torch.testing.assert_close(net[0].bias.detach(), torch.full((2,), 2 / 3, dtype=torch.float64))


def test_tied_weights_are_averaged_once_and_frozen_ones_not_at_all():
    net = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3))
    net[1].weight = net[0].weight
    net[1].bias.requires_grad_(False)
    ema = EMA(net, 0.5)
    for value in (1.0, 4.0):
        for p in net.parameters():
            nn.init.constant_(p, value)
        ema.after_step()
    assert list(ema.state_dict()["averages"]) == ["0.weight", "0.bias"]
    with ema.view():
        assert net[1].weight is net[0].weight
        torch.testing.assert_close(net[0].weight.detach(), torch.full((3, 3), 3.0))
        assert net[1].bias.tolist() == [4.0] * 3


def test_training_goes_on_as_if_it_were_not_there():
    task = sooner.workload("digits")
    plain, averaged = (
        sooner.train(task, recipe, seed=3, steps=8) for recipe in ("sgd + linear", "sgd + linear + ema(decay=0.9)")
    )
    assert same(weights(plain.model), weights(averaged.model))
    assert plain.losses.tolist() == averaged.losses.tolist()
    assert plain.values[0] == averaged.values[0]
    assert plain.values[-1] != averaged.values[-1]


def test_a_run_goes_on_from_its_checkpoint_bit_for_bit(tmp_path):
    task, recipe, file = sooner.workload("digits"), "sgd + ema(decay=0.9)", tmp_path / "run.pt"

    class Stopped(Exception):
        pass

    def stop(step, value):
        if step == 6:
            raise Stopped

    with pytest.raises(Stopped):
        sooner.train(task, recipe, 3, 8, checkpoint=file, save_every=5, evaluate_at=[6, 8], progress=stop)
    resumed = sooner.train(task, recipe, 3, 8, checkpoint=file, save_every=5, evaluate_at=[6, 8])
    straight = sooner.train(task, recipe, 3, 8, evaluate_at=[6, 8])
    assert resumed.values == straight.values
    assert same(weights(resumed.model), weights(straight.model))


def test_a_loaded_average_shares_no_memory_with_what_was_loaded():
    net = network()
    ema = EMA(net, 0.5)
    ema.after_step()
    state = copy.deepcopy(ema.state_dict())
    other = EMA(network(seed=1), 0.5)
    other.load_state_dict(state)
    kept = copy.deepcopy(state)
    other.after_step()
    assert other.steps == 2
    assert all(torch.equal(state["averages"][name], kept["averages"][name]) for name in kept["averages"])


def test_the_state_of_another_model_is_refused():
    ema = EMA(network())
    ema.after_step()
    other = EMA(nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Tanh(), nn.Linear(4, 3)))
    with pytest.raises(sooner.SoonerError, match=r"another model, which differs in 3\.weight, 3\.bias; load its own"):
        other.load_state_dict(ema.state_dict())


def test_what_can_not_work_is_refused():
    net = network()
    with pytest.raises(sooner.SoonerError, match=r"ema: decay=1\.0 is not a number in \[0, 1\)"):
        EMA(net, 1.0)
    with pytest.raises(sooner.SoonerError, match="no parameter of the model requires gradients"):
        EMA(net.requires_grad_(False))
    training = sooner.Recipe("sgd + ema").build(network(), steps=2)
    training.step()
    with pytest.raises(sooner.SoonerError, match="leave the view to train"), training.view():
        training.step()
    with pytest.raises(sooner.SoonerError, match="ema and ema both own the evaluation weights"):
        sooner.Recipe("sgd + ema + ema")


def test_a_race_tunes_the_decay_and_the_recipe_plans_for_no_end():
    recipe = sooner.Recipe("adamw + ema")
    assert list(recipe.space) == ["lr", "decay"]
    assert recipe.default["decay"] == 0.99
    assert recipe.horizon_free
