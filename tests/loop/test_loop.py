"""The reference loop: what a step is, when it evaluates, what it reports, and that it repeats itself."""

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import sooner
from sooner.loop import evaluation_steps
from sooner.task import Task, derived_seed, from_file

HERE = Path(__file__).parent


class Rows:
    """Batches of `size` rows in a fixed order: batch i of size n holds rows i*n to (i+1)*n - 1."""

    def __init__(self, seed, size, count=None):
        self.seed, self.size, self.count = seed, size, count

    def __len__(self):
        return self.count

    def __getitem__(self, index):
        rows = [np.random.default_rng([self.seed, index * self.size + i]).standard_normal(4) for i in range(self.size)]
        return torch.tensor(np.stack(rows))


def linear(seed):
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 1)).double()


def squared(model, rows):
    return (model(rows[:, :3]).squeeze(1) - rows[:, 3]).square().mean()


def task(size=6, **more):
    def batches(seed, split):
        return Rows(seed, size, 2 if split == "eval" else None)

    return Task(**{"model": linear, "batches": batches, "loss": squared, "steps": 10, "evaluations": 5, **more})


@pytest.fixture(scope="module")
def tiny():
    return from_file(HERE / "tiny_task.py")


def weights(run):
    return torch.cat([p.detach().flatten() for p in run.model.parameters()])


# the step


@pytest.mark.parametrize("clip_norm", [None, 0.05])
def test_accumulating_n_micro_batches_is_one_batch_of_n_fold_size(clip_norm):
    parts = sooner.train(task(size=6), "adamw(lr=0.05)", accumulate=4, clip_norm=clip_norm)
    whole = sooner.train(task(size=24), "adamw(lr=0.05)", clip_norm=clip_norm)
    start = weights(sooner.train(task(size=6), "adamw(lr=0.0)"))
    assert (weights(parts) - weights(whole)).norm() < 1e-12 * (weights(whole) - start).norm()
    assert torch.allclose(parts.losses, whole.losses, rtol=1e-6)


def test_gradients_are_clipped_to_the_norm_and_smaller_ones_left_alone():
    still = weights(sooner.train(task(), "sgd(lr=0.0)", steps=1))
    plain = weights(sooner.train(task(), "sgd(lr=1.0)", steps=1)) - still
    clipped = weights(sooner.train(task(), "sgd(lr=1.0)", steps=1, clip_norm=0.01)) - still
    assert clipped.norm().item() == pytest.approx(0.01, rel=1e-4)
    assert torch.allclose(clipped / clipped.norm(), plain / plain.norm(), rtol=1e-9)
    assert torch.equal(weights(sooner.train(task(), "sgd(lr=1.0)", steps=1, clip_norm=1e6)) - still, plain)


def test_step_i_sees_batch_i_of_the_seeds_order():
    seen = []

    def loss(model, rows):
        if model.training:
            seen.append(rows)
        return squared(model, rows)

    sooner.train(task(loss=loss), "sgd(lr=0.0)", seed=5, steps=3, accumulate=2)
    expected = Rows(derived_seed(5, "order"), 6)
    assert len(seen) == 6
    assert all(torch.equal(rows, expected[i]) for i, rows in enumerate(seen))


def test_losses_hold_the_training_loss_of_every_step_before_the_step():
    run = sooner.train(task(), "sgd(lr=0.1)", seed=2)
    first = squared(linear(derived_seed(2, "init")), Rows(derived_seed(2, "order"), 6)[0])
    assert run.losses.shape == (10,)
    assert run.losses[0].item() == pytest.approx(first.item(), rel=1e-6)
    assert not run.losses.requires_grad


# evaluation


def test_evaluations_are_evenly_spaced_and_include_both_ends():
    assert sorted(evaluation_steps(100, 4)) == [0, 25, 50, 75, 100]
    assert sorted(evaluation_steps(10, 4)) == [0, 2, 5, 8, 10]
    assert sorted(evaluation_steps(3, 25)) == [0, 1, 2, 3]
    assert sorted(evaluation_steps(7, 1)) == [0, 7]
    told = []
    run = sooner.train(task(evaluations=3), "sgd", progress=lambda step, value: told.append((step, value)))
    assert run.steps == [0, 3, 7, 10]
    assert told == list(zip(run.steps, run.values, strict=True))


def test_evaluations_may_be_asked_for():
    run = sooner.train(task(), "sgd(lr=0.01)", evaluate_at=iter([7, 2, 2]))
    assert run.steps == [2, 7]
    assert run.values == [v for s, v in zip(*full(), strict=True) if s in (2, 7)]


def full():
    run = sooner.train(task(evaluations=10), "sgd(lr=0.01)")
    return run.steps, run.values


def test_metrics_are_means_over_the_evaluation_batches():
    def metrics(model, rows):
        return {"first": rows[0, 0], "one": 1.0}

    run = sooner.train(task(metrics=metrics, metric="first", higher_is_better=True), "sgd(lr=0.0)", steps=1)
    evaluation = Rows(0, 6)
    expected = (evaluation[0][0, 0] + evaluation[1][0, 0]).item() / 2
    assert run.values == [pytest.approx(expected)] * 2
    assert set(run.metrics[0]) == {"loss", "first", "one"}
    assert run.metrics[0]["one"] == 1.0
    losses = [squared(run.model, evaluation[i]).item() for i in (0, 1)]
    assert run.metrics[0]["loss"] == pytest.approx(sum(losses) / 2)


def test_a_metric_that_is_not_returned_is_named():
    with pytest.raises(
        sooner.SoonerError, match=r"metrics\(model, batch\) returns no 'error'; return it or set metric"
    ):
        sooner.train(task(metric="error"), "sgd")


def test_the_model_trains_in_train_mode_and_is_evaluated_in_eval_mode_without_gradients(tiny):
    modes = []

    def loss(model, batch):
        modes.append((model.training, torch.is_grad_enabled()))
        return tiny.loss(model, batch)

    run = sooner.train(replace(tiny, loss=loss), "sgd", steps=2, evaluate_at=[0, 1, 2])
    at_evaluation, at_step = [(False, False)] * 2, [(True, True)]
    assert modes == [*at_evaluation, *at_step, *at_evaluation, *at_step, *at_evaluation]
    assert run.model.training
    quiet = [sooner.train(tiny, "sgd(lr=0.0)", steps=1, evaluate_at=[0]).values for _ in range(2)]
    assert quiet[0] == quiet[1]


def test_evaluation_sees_the_evaluation_weights_and_leaves_the_training_weights(monkeypatch):
    monkeypatch.syspath_prepend(HERE.parent / "recipe")
    plain = sooner.train(task(), "sgd(lr=0.1)")
    averaged = sooner.train(task(), "sgd(lr=0.1) + toy_parts.RunningMean(rate=0.9)")
    assert torch.equal(weights(plain), weights(averaged))
    assert torch.equal(plain.losses, averaged.losses)
    assert plain.values[0] == averaged.values[0]
    assert plain.values[-1] != averaged.values[-1]


# repeating itself


@pytest.mark.parametrize("recipe", ["muon + cosine", "adamw(lr=0.01)"])
def test_two_calls_give_the_same_bits_whatever_the_global_random_state(tiny, recipe):
    torch.manual_seed(1)
    first = sooner.train(tiny, recipe, seed=7)
    torch.manual_seed(2)
    torch.rand(17)
    np.random.seed(5)
    second = sooner.train(tiny, recipe, seed=7)
    assert torch.equal(weights(first), weights(second))
    assert torch.equal(first.losses, second.losses)
    assert (first.steps, first.values, first.metrics) == (second.steps, second.values, second.metrics)
    other = sooner.train(tiny, recipe, seed=8)
    assert not torch.equal(first.losses, other.losses)


def test_the_streams_of_a_seed_are_separate_and_documented_by_value():
    seeds = {derived_seed(s, p) for s in range(50) for p in ("init", "order", "private")}
    assert len(seeds) == 150
    assert all(0 <= s < 2**31 for s in seeds)
    assert derived_seed(0, "init") == derived_seed(0, "init")


# divergence


@pytest.mark.parametrize("bad", [math.nan, math.inf])
@pytest.mark.parametrize("at", [1, 4, 10])
def test_the_first_step_with_a_loss_that_is_not_finite_is_named(bad, at):
    calls = []

    def loss(model, rows):
        if not model.training:
            return squared(model, rows)
        calls.append(1)
        return squared(model, rows) * (bad if len(calls) == at else 1.0)

    run = sooner.train(task(loss=loss, evaluations=2), "sgd(lr=0.01)")
    assert run.diverged_at == at
    assert run.steps[-1] == (5 if at <= 5 else 10)  # noticed at the next evaluation, where training ends
    assert math.isnan(run.values[-1])
    assert all(math.isfinite(v) for v in run.values[:-1])
    assert len(calls) == run.steps[-1]


def test_an_evaluation_that_is_not_finite_is_named():
    def metrics(model, rows):
        return {"ratio": torch.tensor(math.nan)}

    run = sooner.train(task(metrics=metrics, metric="ratio"), "sgd")
    assert (run.diverged_at, run.steps) == (0, [0])
    assert math.isnan(run.values[0])


def test_a_real_divergence_is_found():
    run = sooner.train(task(steps=400), "sgd(lr=1e3)")
    assert 1 < run.diverged_at <= run.steps[-1] < 400
    assert not math.isfinite(run.losses[run.diverged_at - 1])
    assert run.losses[: run.diverged_at - 1].isfinite().all()


def test_a_divergence_after_the_last_evaluation_is_found():
    run = sooner.train(task(steps=400), "sgd(lr=1e3)", evaluate_at=[0])
    assert run.diverged_at == sooner.train(task(steps=400), "sgd(lr=1e3)").diverged_at


def test_a_run_that_goes_well_has_not_diverged(tiny):
    run = sooner.train(tiny, "adamw")
    assert run.diverged_at is None
    assert run.cpu_seconds > 0
    assert run.state_bytes > 0


# bad input


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({"steps": 0}, r"train: steps=0 is not a whole number in \[1, inf\)"),
        ({"steps": 2.5}, "train: steps=2.5 is not a whole number"),
        ({"accumulate": 0}, "train: accumulate=0"),
        ({"save_every": -1}, "train: save_every=-1"),
        ({"clip_norm": -1.0}, r"train: clip_norm=-1.0 is not a number in \[0, inf\)"),
        ({"recipe": "adamv"}, "no part named 'adamv'"),
    ],
)
def test_a_bad_number_is_named(arguments, sentence):
    with pytest.raises(sooner.SoonerError, match=sentence):
        sooner.train(task(), **{"recipe": "sgd", **arguments})


def test_the_name_of_a_workload_is_not_a_task_and_the_refusal_says_how_it_becomes_one():
    with pytest.raises(sooner.SoonerError, match=r"'digits' is not a task; sooner\.workload\('digits'\)"):
        sooner.train("digits", "adamw")


def test_a_model_without_parameters_is_named():
    with pytest.raises(sooner.SoonerError, match="the model has no parameters to train"):
        sooner.train(task(model=lambda seed: nn.ReLU()), "sgd")
