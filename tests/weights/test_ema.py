"""The average is the textbook's, evaluation sees it, and training and resuming never do."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

import sooner
from sooner.error import SoonerError
from sooner.recipe import Recipe
from sooner.weights import EMA


def walk(model, ema, steps, seed=0):
    """Random steps, each taken into the average; returns the weights after every step."""
    generator = torch.Generator().manual_seed(seed)
    path = []
    for _ in range(steps):
        with torch.no_grad():
            for p in model.parameters():
                p += torch.randn(p.shape, generator=generator).to(p.dtype)
        ema.after_step()
        path.append([p.detach().clone() for p in model.parameters()])
    return path


def seen(model, ema):
    with ema.view():
        return [p.detach().clone() for p in model.parameters()]


@given(st.integers(1, 20), st.sampled_from([0.0, 0.5, 0.9, 0.99]))
def test_the_average_is_the_weighted_mean_of_all_weights_so_far(steps, decay):
    model = nn.Linear(3, 2).double()
    ema = EMA(model, decay)
    path = walk(model, ema, steps)
    weights = torch.tensor([(1 - decay) * decay ** (steps - 1 - t) for t in range(steps)], dtype=torch.float64)
    for i, found in enumerate(seen(model, ema)):
        expected = sum(w * at[i] for w, at in zip(weights, path, strict=True)) / weights.sum()
        assert torch.allclose(found, expected, rtol=1e-12, atol=1e-12)


def test_torch_s_own_average_agrees_once_the_start_is_forgotten():
    model = nn.Linear(3, 2).double()
    ema, theirs = EMA(model, 0.5), AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(0.5))
    for _ in range(80):
        walk(model, ema, 1)
        theirs.update_parameters(model)
    for ours, p in zip(seen(model, ema), theirs.module.parameters(), strict=True):
        assert torch.allclose(ours, p, rtol=1e-10)


def test_training_weights_come_back_bit_for_bit_even_after_an_error():
    model = nn.Linear(3, 2)
    ema = EMA(model)
    assert all(torch.equal(a, b) for a, b in zip(seen(model, ema), model.parameters(), strict=True))
    walk(model, ema, 3)
    before = [p.detach().clone() for p in model.parameters()]
    view = ema.view()
    view.__enter__()
    assert not torch.equal(model.weight, before[0])
    assert not view.__exit__(RuntimeError, RuntimeError("in between"), None)
    assert all(torch.equal(p, b) for p, b in zip(model.parameters(), before, strict=True))


def test_half_precision_is_averaged_in_float32():
    model = nn.Linear(3, 2).bfloat16()
    ema = EMA(model, 0.999)
    with torch.no_grad():
        model.weight.fill_(1.0)
    for _ in range(400):
        ema.after_step()
    assert ema.averages[0].dtype == torch.float32
    assert torch.equal(seen(model, ema)[0], torch.ones(2, 3).bfloat16())


def test_tied_parameters_are_averaged_once():
    model = nn.Sequential(nn.Linear(3, 3, bias=False), nn.Linear(3, 3, bias=False))
    model[1].weight = model[0].weight
    assert len(EMA(model).averages) == 1


@pytest.mark.parametrize("steps", [8, 20])
def test_resuming_is_bitwise(tmp_path, steps):
    task, file = sooner.workload("quadratic"), tmp_path / "state.pt"
    whole = sooner.train(task, "sgd + ema(decay=0.9)", 0, 2 * steps, evaluate_at=[2 * steps])
    calls = []

    def stop(step, value):
        calls.append(step)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        sooner.train(
            task, "sgd + ema(decay=0.9)", 0, 2 * steps, checkpoint=file, save_every=steps, evaluate_at=[2 * steps],
            progress=stop,
        )  # fmt: skip
    again = sooner.train(task, "sgd + ema(decay=0.9)", 0, 2 * steps, checkpoint=file, evaluate_at=[2 * steps])
    assert again.values == whole.values
    assert all(torch.equal(p, q) for p, q in zip(again.model.parameters(), whole.model.parameters(), strict=True))


def test_a_race_evaluates_the_average_and_trains_the_weights():
    task = sooner.workload("quadratic")
    plain = sooner.train(task, "sgd(lr=0.3)", 0, 100)
    averaged = sooner.train(task, "sgd(lr=0.3) + ema(decay=0.95)", 0, 100)
    assert all(torch.equal(p, q) for p, q in zip(plain.model.parameters(), averaged.model.parameters(), strict=True))
    assert averaged.values[-1] < plain.values[-1]


def test_bad_settings_and_foreign_states_are_refused():
    with pytest.raises(SoonerError, match=r"ema: decay=1\.0 is not a number in"):
        EMA(nn.Linear(2, 2), 1.0)
    with pytest.raises(SoonerError, match="no parameters to average"):
        EMA(nn.ReLU())
    with pytest.raises(SoonerError, match="averages of other shapes"):
        EMA(nn.Linear(2, 2)).load_state_dict(EMA(nn.Linear(2, 3)).state_dict())
    with pytest.raises(SoonerError, match="both own the evaluation weights"):
        Recipe("sgd + ema + ema(decay=0.5)")
