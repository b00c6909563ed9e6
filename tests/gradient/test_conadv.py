"""Adversarial inputs of one step ago: how they are made, what they leave alone, and what the loop makes of them."""

from collections import namedtuple
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

import sooner
from sooner.gradient.conadv import ConAdv
from sooner.objective import Objective
from sooner.recipe import Recipe
from sooner.task import from_file

TINY = Path(__file__).parents[1] / "loop" / "tiny_task.py"
Pair = namedtuple("Pair", ["x", "y"])


def conv():
    torch.manual_seed(0)
    layers = nn.Conv2d(2, 3, 3), nn.BatchNorm2d(3), nn.Tanh(), nn.Flatten(), nn.Linear(48, 2)
    return nn.Sequential(*layers).double()


def loss(model, batch):
    x, y = batch
    return nn.functional.cross_entropy(model(x), y)


def batch(number):
    torch.manual_seed(100 + number)
    return torch.randn(5, 2, 6, 6, dtype=torch.float64), torch.randint(2, (5,))


def objective(model, step, micro=1):
    def of(number):
        return [batch(number * micro + i) for i in range(micro)]

    return Objective(model, loss, of(step), next_batches=lambda: of(step + 1))


def statistics(model):
    return {name: value.clone() for name, value in model.named_buffers()}


def same(a, b):
    return all(torch.equal(a[name], b[name]) for name in a)


@pytest.mark.parametrize("micro", [1, 2])
def test_steps_equal_those_written_out_by_hand(micro):
    model, plain = conv(), conv()
    part = ConAdv(model, eps=0.02, weight=0.7)
    optimizers = [torch.optim.SGD(m.parameters(), lr=0.1) for m in (model, plain)]
    prepared = None
    for step in range(4):
        returned = part.backward(objective(model, step, micro))
        # by hand: batch statistics are used in training, so only the means of clean inputs are to be kept apart
        clean = torch.stack([loss(plain, batch(step * micro + i)) for i in range(micro)]).mean()
        kept = statistics(plain)
        total = clean
        if prepared is not None:
            adversarial = [loss(plain, (x, batch(step * micro + i)[1])) for i, x in enumerate(prepared)]
            total = clean + 0.7 * torch.stack(adversarial).mean()
        grads = torch.autograd.grad(total, list(plain.parameters()))
        prepared = []
        for i in range(micro):
            x, y = batch((step + 1) * micro + i)
            leaf = x.clone().requires_grad_()
            (slope,) = torch.autograd.grad(loss(plain, (leaf, y)), leaf)
            new = torch.empty_like(x)
            for c in range(2):
                low, high = x[:, c].min(), x[:, c].max()
                new[:, c] = (x[:, c] + 0.02 * (high - low) * slope[:, c].sign()).clamp(low, high)
            prepared.append(new)
        plain.load_state_dict(kept, strict=False)
        torch.testing.assert_close(returned, clean.detach())
        for p, q, g in zip(model.parameters(), plain.parameters(), grads, strict=True):
            torch.testing.assert_close(p.grad, g, rtol=1e-9, atol=1e-12)
            q.grad = g
        for o in optimizers:
            o.step()
            o.zero_grad()
        torch.testing.assert_close(statistics(model), kept)


def test_the_attack_leaves_gradients_and_statistics_alone_and_raises_the_loss():
    model = conv()
    part = ConAdv(model, eps=0.01)
    before = statistics(model)
    target = batch(3)
    x = part.attack(Objective(model, loss, [target]), target)
    assert all(p.grad is None for p in model.parameters())
    assert not x.requires_grad
    assert same(before, statistics(model))
    assert all(m.track_running_stats for m in model.modules() if isinstance(m, nn.BatchNorm2d))
    assert loss(model, (x, target[1])) > loss(model, target)
    clean = target[0]
    width = clean.amax((0, 2, 3), keepdim=True) - clean.amin((0, 2, 3), keepdim=True)
    assert bool(((x - clean).abs() <= 0.01 * width * (1 + 1e-9)).all())
    assert bool((x.amax((0, 2, 3)) <= clean.amax((0, 2, 3))).all())


def test_a_given_range_is_kept():
    model = conv()
    part = ConAdv(model, eps=0.5, low=0.0, high=1.0)
    x, y = batch(0)
    found = part.attack(Objective(model, loss, []), (x.sigmoid(), y))
    assert float(found.min()) == 0
    assert float(found.max()) == 1
    flat = part.attack(Objective(nn.Identity(), lambda m, b: b["x"].sum(), []), {"x": torch.tensor([0.2, 0.9])})
    assert flat.tolist() == pytest.approx([0.7, 1.0])


def test_adversarial_inputs_have_statistics_of_their_own():
    model = conv()
    part = ConAdv(model, eps=0.05)
    initial = statistics(model)
    part.backward(objective(model, 0))
    with part.adversarial_statistics():
        assert same(initial, statistics(model))  # no adversarial input was trained on yet
    part.backward(objective(model, 1))
    clean = statistics(model)
    with part.adversarial_statistics():
        adversarial = statistics(model)
    assert int(clean["1.num_batches_tracked"]) == 2
    assert int(adversarial["1.num_batches_tracked"]) == 1
    assert not torch.equal(clean["1.running_mean"], adversarial["1.running_mean"])
    assert same(clean, statistics(model))


def wrong(form):
    x, y = batch(0)
    return {"tensor": x, "integers": (y, y), "nothing": [], "number": 3.0, "text": "a"}[form]


@pytest.mark.parametrize("form", ["tensor", "integers", "nothing", "number", "text"])
def test_other_batches_are_refused(form):
    part = ConAdv(conv())
    with pytest.raises(sooner.SoonerError, match="conadv finds no floating-point input in a batch that is a"):
        part.attack(Objective(conv(), loss, []), wrong(form))


@pytest.mark.parametrize("kind", [tuple, list, lambda pair: Pair(*pair), lambda pair: {"y": pair[1], "x": pair[0]}])
def test_batches_keep_their_form(kind):
    seen = []

    def watching(model, given):
        seen.append(given)
        x, y = (given["x"], given["y"]) if isinstance(given, dict) else given
        return nn.functional.cross_entropy(model(x), y)

    model = conv()
    part = ConAdv(model)
    first = kind(batch(0))
    for _ in range(2):
        part.backward(Objective(model, watching, [first], next_batches=lambda: [first]))
    assert len(seen) == 5  # clean, attack; clean, adversarial, attack
    assert {type(one) for one in seen} == {type(first)}
    assert [list(one) for one in seen[:1]] == [list(first)]


def test_a_batch_that_was_not_announced_is_refused():
    model = conv()
    part = ConAdv(model)
    part.backward(objective(model, 0))
    x, y = batch(1)
    with pytest.raises(sooner.SoonerError, match="conadv: this step's batch is not the one announced as next"):
        part.backward(Objective(model, loss, [(x[:3], y[:3])], next_batches=list))
    with pytest.raises(sooner.SoonerError, match="this loop does not announce its next batch"):
        ConAdv(model).backward(Objective(model, loss, [batch(0)]))


def test_data_that_end_with_the_last_step_are_fine():
    model = conv()
    part = ConAdv(model)
    data = [batch(0)]
    part.backward(Objective(model, loss, [data[0]], next_batches=lambda: [data[1]]))
    assert part.state_dict()["prepared"] == []


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"eps": -0.1}, r"conadv: eps=-0.1 is not a number in \[0, 1\]"),
        ({"weight": -1.0}, "conadv: weight=-1.0 is not a number"),
        ({"low": 1.0, "high": 0.0}, "conadv: low=1.0 is not below high=0.0; give the range of valid inputs"),
    ],
)
def test_hyper_parameters_out_of_range_are_refused(settings, sentence):
    with pytest.raises(sooner.SoonerError, match=sentence):
        ConAdv(conv(), **settings)


def test_a_loop_without_a_next_batch_is_refused_and_so_is_the_state_of_another_model():
    with pytest.raises(
        sooner.SoonerError, match="conadv needs a next batch, which this training loop does not provide"
    ):
        Recipe("conadv + adamw").build(conv(), 5, {"closure"})
    with pytest.raises(sooner.SoonerError, match="conadv: the state is for other batch normalisations"):
        ConAdv(nn.Linear(2, 2)).load_state_dict(ConAdv(conv()).state_dict())


@pytest.mark.parametrize("optimizer", ["sgd + cosine", "clip_norm + torch.optim.AdamW"])
def test_the_loop_trains_with_it_and_resumes_bit_for_bit(optimizer, tmp_path):
    task = from_file(TINY)
    recipe = f"conadv(eps=0.05) + {optimizer}"
    straight = sooner.train(task, recipe, 3, accumulate=2)
    assert not torch.equal(straight.losses, sooner.train(task, optimizer, 3, accumulate=2).losses)

    def stop(step, value):
        if step > 6:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        sooner.train(task, recipe, 3, accumulate=2, checkpoint=tmp_path / "run.pt", save_every=6, progress=stop)
    resumed = sooner.train(task, recipe, 3, accumulate=2, checkpoint=tmp_path / "run.pt")
    assert torch.equal(straight.losses, resumed.losses)
    for a, b in zip(straight.model.state_dict().values(), resumed.model.state_dict().values(), strict=True):
        assert torch.equal(a, b)


def test_the_loop_refuses_batches_without_an_input():
    task = from_file(TINY)
    strange = replace(
        task, loss=lambda m, b: task.loss(m, b[0]), batches=lambda *a: [((task.batches(*a)[i]),) for i in range(13)]
    )
    with pytest.raises(sooner.SoonerError, match="conadv finds no floating-point input in a batch that is a tuple"):
        sooner.train(strange, "conadv + sgd", evaluate_at=[12])


def test_an_attack_leaves_the_random_numbers_and_only_objectives_are_taken():
    model = nn.Sequential(nn.Flatten(), nn.Dropout(0.5), nn.Linear(72, 2)).double()
    part = ConAdv(model)
    given = Objective(model, loss, [batch(0)], next_batches=lambda: [batch(1)])
    x = batch(1)
    before = torch.get_rng_state()
    part.attack(given, x)
    assert torch.equal(before, torch.get_rng_state())
    with pytest.raises(sooner.SoonerError, match=r"conadv needs sooner.objective.Objective\(model, loss, \[batch\]\)"):
        part.backward(lambda: loss(model, x))
