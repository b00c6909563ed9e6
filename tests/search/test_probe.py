"""What a probe says of tasks whose truth is planted, and how that orders candidates."""

from dataclasses import replace

import pytest
import torch
from torch import nn

from sooner import Task
from sooner.recipe import Recipe
from sooner.search import choices
from sooner.search.probe import Finding, curvature, ordered, probe
from sooner.workloads import find, quadratic


def found(task, base="adamw"):
    return {one.name: one for one in probe(task, Recipe(base))}


class Rows(nn.Module):
    """A table whose rows are rare, and a matrix behind it."""

    def __init__(self, rows=100):
        super().__init__()
        self.table, self.hidden, self.out = nn.Embedding(rows, 4), nn.Linear(4, 40), nn.Linear(40, 1)

    def forward(self, x):
        return self.out(torch.tanh(self.hidden(self.table(x).mean(1))))


def a_task(make, data, **more):
    def model(seed):
        torch.manual_seed(seed)
        return make()

    def batches(seed, split):
        return [data(torch.Generator().manual_seed(1000 * seed + i), i) for i in range(60)]

    def loss(model, batch):
        return ((model(batch[0]) - batch[1]) ** 2).mean()

    return Task(model=model, batches=batches, loss=loss, steps=60, evaluations=5, **more)


def rare_words(generator, _):
    return torch.randint(0, 5, (8, 3), generator=generator), torch.ones(8, 1)


def plane(generator, step, burst=1.0):
    x = torch.randn(4096, 5, generator=generator)
    return x, x.sum(1, keepdim=True) * (burst if step % 9 == 0 else 1.0)


def test_rare_rows_and_matrices_are_counted():
    seen = found(a_task(Rows, rare_words))
    assert seen["rare rows"].value == pytest.approx(0.95, abs=0.01)
    assert "95% of the rows" in seen["rare rows"].sentence
    whole = sum(p.numel() for p in Rows().parameters())
    assert seen["matrices"].value == pytest.approx(160 / whole)
    named = {choice.name: choice for choice in choices("adamw, sgd, muon")}
    assert [seen["rare rows"].speaks_for(named[name]) for name in ("adamw", "sgd", "muon")] == [True, False, False]


def test_an_even_plane_has_no_noise_no_tail_and_even_curvature():
    seen = found(a_task(lambda: nn.Linear(5, 1, bias=False), plane))
    assert seen["gradient noise"].value < 0.1
    assert seen["tail of gradients"].value < 1.5
    assert seen["curvature"].value > 0.8, "all five directions curve alike"
    assert not any(
        one.speaks_for(choice) for one in seen.values() for choice in choices("adamw, ema, clip_norm, cosine")
    )


def test_bursts_are_a_tail_that_speaks_for_clipping():
    seen = found(a_task(lambda: nn.Linear(5, 1, bias=False), lambda g, i: plane(g, i, burst=30.0)))
    assert seen["tail of gradients"].value > 10
    named = {choice.name: choice for choice in choices("clip_norm, ema")}
    assert seen["tail of gradients"].speaks_for(named["clip_norm"])
    assert not seen["tail of gradients"].speaks_for(named["ema"])


def test_noise_and_curvature_of_the_bowl_are_what_it_was_made_with():
    task = find("quadratic")
    seen = found(task, "sgd(lr=0.001)")
    # a few small steps leave the distance to the optimum what it was: E |G|^2 over random starts gives the scale
    expected = quadratic.noise_scale(0.001, 20)
    assert expected / 4 < seen["gradient noise"].value < 4 * expected
    model = task.model(0)
    batch = task.batches(0, "train")[0]
    effective = sum(1 / i**2 for i in range(1, 101)) / 100
    assert curvature(task, model, batch).value == pytest.approx(effective, rel=0.6)
    assert "curvature 1," in curvature(task, model, batch).sentence
    named = {choice.name: choice for choice in choices("adamw, sgd")}
    assert seen["curvature"].speaks_for(named["adamw"])
    assert not seen["curvature"].speaks_for(named["sgd"])


def test_a_rate_that_is_soon_too_high_speaks_for_what_steadies():
    seen = found(find("quadratic"), "sgd(lr=0.5)")
    assert seen["room for the rate"].value < 30
    steady = {choice.name: choice for choice in choices("clip_norm, wsd, ema")}
    assert [seen["room for the rate"].speaks_for(one) for one in steady.values()] == [True, True, False]
    wide = found(find("quadratic"), "sgd(lr=1e-9)")["room for the rate"]
    assert wide.value == pytest.approx(2.0**12.5)


class Attends(nn.Module):
    """One head of attention, whose fast kernel has no second derivative."""

    def __init__(self):
        super().__init__()
        self.hidden, self.out = nn.Linear(5, 16), nn.Linear(16, 1)

    def forward(self, x):
        seen = self.hidden(x)[None, None]
        return self.out(nn.functional.scaled_dot_product_attention(seen, seen, seen, is_causal=True)[0, 0])


def test_attention_has_a_curvature():
    x = torch.randn(64, 5, generator=torch.Generator().manual_seed(0))
    task = a_task(Attends, lambda g, i: (x, x[:, :1]))
    torch.manual_seed(0)
    assert 0 < curvature(task, Attends(), (x, x[:, :1])).value < 1


class Once(torch.autograd.Function):
    """Squares, and can be differentiated once only."""

    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x * x

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, g):
        return 2 * ctx.saved_tensors[0] * g


def test_what_can_not_be_measured_is_told_and_speaks_for_nobody():
    task = a_task(lambda: nn.Linear(5, 1), plane)
    once = replace(task, loss=lambda model, batch: Once.apply(model(batch[0]) - batch[1]).mean())
    one = found(once)["curvature"]
    assert one.value is None
    assert one.sentence.startswith("could not be measured here")
    assert not any(one.speaks_for(choice) for choice in choices("adamw, ema"))


def test_what_most_findings_speak_for_comes_first_and_nothing_is_lost():
    named = choices("sgd, ema, cosine, muon")
    findings = [
        Finding("one", 1.0, "", lambda c: c.name in ("muon", "cosine")),
        Finding("two", 1.0, "", lambda c: c.name == "muon"),
        Finding("three", None, "", lambda c: False),
    ]
    told = ordered(named, findings)
    assert [(choice.name, why) for choice, why in told] == [
        ("muon", ["one", "two"]),
        ("cosine", ["one"]),
        ("sgd", []),
        ("ema", []),
    ]


def test_global_random_state_is_left_alone():
    torch.manual_seed(3)
    before = torch.random.get_rng_state()
    found(a_task(lambda: nn.Linear(5, 1), plane))
    assert torch.equal(before, torch.random.get_rng_state())
