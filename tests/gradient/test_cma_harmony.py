"""Two losses that disagree: what is projected out, what is dropped, and what the loop makes of it."""

import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F

import sooner
from sooner.gradient.cma_harmony import CMAHarmony, harmonized
from sooner.objective import Objective
from sooner.recipe import Recipe
from sooner.task import from_file

TINY = Path(__file__).parents[1] / "loop" / "tiny_task.py"


class TwoHeads(nn.Module):
    def __init__(self):
        super().__init__()
        self.trunk = nn.Linear(3, 4)
        self.a = nn.Linear(4, 2)
        self.b = nn.Linear(4, 2)

    def forward(self, x):
        h = torch.tanh(self.trunk(x))
        return self.a(h), self.b(h)


def losses(model, batch):
    x, sign = batch
    a, b = model(x)
    return {"a": (a - 1).square().mean(), "b": (b + sign).square().mean()}


def objective(model, batches):
    return Objective(model, lambda m, batch: sum(losses(m, batch).values()), batches, losses=losses)


def batches(count=1):
    torch.manual_seed(7)
    return [(torch.randn(6, 3, dtype=torch.float64), 3.0 * (-1) ** i) for i in range(count)]


def two_heads():
    torch.manual_seed(0)
    return TwoHeads().double()


def by_hand(model, batch):
    """Project each from the original of the other, over the trunk, and say the cosine."""
    terms = losses(model, batch)
    trunk = list(model.trunk.parameters())
    flat = {
        n: torch.cat([g.flatten() for g in torch.autograd.grad(t, trunk, retain_graph=True)]) for n, t in terms.items()
    }
    a, b = flat["a"], flat["b"]
    cosine = float(a @ b / (a.norm() * b.norm()))
    if cosine < 0:
        a, b = a - (a @ b) / (b @ b) * b, b - (a @ b) / (a @ a) * a
    heads = torch.autograd.grad(terms["a"], list(model.a.parameters()), retain_graph=True)
    others = torch.autograd.grad(terms["b"], list(model.b.parameters()))
    return torch.cat([a + b, *(g.flatten() for g in (*heads, *others))]), cosine


def gradient(model):
    return torch.cat([p.grad.flatten() for p in model.parameters()])


def test_conflicting_losses_are_realigned_over_what_they_share():
    conflicts = 0
    for batch in batches(4):
        model = two_heads()
        expected, cosine = by_hand(model, batch)
        loss = CMAHarmony().backward(objective(model, [batch]))
        torch.testing.assert_close(gradient(model), expected, rtol=1e-10, atol=1e-12)
        torch.testing.assert_close(loss, sum(losses(model, batch).values()).detach())
        conflicts += cosine < 0
    assert 0 < conflicts < 4


def test_without_realignment_it_is_plain_backpropagation():
    model, plain = two_heads(), two_heads()
    some = batches(3)
    loss = CMAHarmony(realign=False, most_dropped=0.0).backward(objective(model, some))
    reference = objective(plain, some)()
    reference.backward()
    torch.testing.assert_close(gradient(model), gradient(plain), rtol=1e-10, atol=1e-12)
    torch.testing.assert_close(loss, reference.detach())


@settings(max_examples=40)
@given(seed=st.integers(0, 2**30), count=st.integers(2, 4), size=st.integers(2, 9))
def test_what_is_left_goes_against_nothing_and_the_order_does_not_matter(seed, count, size):
    torch.manual_seed(seed)
    own = [[torch.randn(size, dtype=torch.float64)] for _ in range(count)]
    (total,), cosine = harmonized(own)
    (reversed_total,), other = harmonized(own[::-1])
    torch.testing.assert_close(total, reversed_total)
    torch.testing.assert_close(cosine, other)
    pairs = [F.cosine_similarity(own[i][0], own[j][0], dim=0) for i in range(count) for j in range(i)]
    torch.testing.assert_close(cosine, torch.stack(pairs).min())
    if count == 2:
        assert all(float(total @ g[0]) > -1e-9 for g in own)
        if cosine >= 0:
            torch.testing.assert_close(total, own[0][0] + own[1][0])


def test_losses_that_share_nothing_are_added_up():
    one, two = torch.ones(2), -torch.ones(2)
    total, cosine = harmonized([[one, None, None], [None, two, None]])
    assert torch.equal(total[0], one)
    assert torch.equal(total[1], two)
    assert total[2] is None
    assert cosine == 1


def test_the_micro_batches_that_conflict_most_are_dropped_and_at_most_half():
    some = batches(5)
    model = two_heads()
    cosines = [by_hand(model, batch)[1] for batch in some]
    order = sorted(range(5), key=lambda i: cosines[i])
    for gamma in (-1.0, -0.3, 0.0, 1.0):
        model = two_heads()
        part = CMAHarmony(start=gamma, end=gamma)
        loss = part.backward(objective(model, some))
        dropped = {i for i in order[:2] if cosines[i] < gamma}
        kept = [by_hand(model, batch)[0] for i, batch in enumerate(some) if i not in dropped]
        torch.testing.assert_close(gradient(model), torch.stack(kept).mean(0), rtol=1e-10, atol=1e-12)
        assert int(part.dropped) == len(dropped)
        torch.testing.assert_close(loss, objective(model, some)().detach())  # the dropped ones count here
    assert len(dropped) == 2
    alone = CMAHarmony(start=1.0, end=1.0)
    alone.backward(objective(two_heads(), some[:1]))
    assert int(alone.dropped) == 0


def test_the_threshold_rises_linearly():
    part = CMAHarmony(start=-0.4, end=0.2, ramp=4, most_dropped=0.75)
    for expected in (-0.4, -0.25, -0.1, 0.05, 0.2, 0.2):
        just = torch.tensor([expected - 1e-6, expected + 1e-6, 1.0, 1.0], dtype=torch.float64)
        assert part._kept(just).tolist() == [0, 1, 1, 1]
        part.backward(objective(two_heads(), batches(1)))


def test_a_dropped_micro_batch_may_hold_infinities():
    def opposed(model, scale):
        pull = model.trunk(torch.ones(1, 3, dtype=torch.float64)).sum()
        return {"a": pull + scale * model.a(torch.ones(1, 4, dtype=torch.float64)).sum(), "b": -pull}

    model = two_heads()
    CMAHarmony(start=1.0, end=1.0).backward(Objective(model, None, [float("inf"), 1.0], losses=opposed))
    assert torch.equal(model.a.weight.grad, torch.ones_like(model.a.weight))


def test_gradients_are_added_to_those_that_are_there_as_in_backpropagation():
    model, once = two_heads(), two_heads()
    CMAHarmony().backward(objective(once, batches()))
    for _ in range(2):
        CMAHarmony().backward(objective(model, batches()))
    torch.testing.assert_close(gradient(model), 2 * gradient(once))


@pytest.mark.parametrize("given_losses", [None, lambda m, b: {"only": m(b[0])[0].sum()}, lambda m, b: {}])
def test_fewer_than_two_losses_are_refused(given_losses):
    wanted = r"cma_harmony harmonizes two losses or more, losses\(model, batch\) gave (only|none); return every term"
    with pytest.raises(sooner.SoonerError, match=wanted):
        CMAHarmony().backward(Objective(two_heads(), None, batches(), losses=given_losses))


@pytest.mark.parametrize(
    ("setting", "sentence"),
    [
        ("start=-2.0", r"cma_harmony: start=-2.0 is not a number in \[-1, 1\]"),
        ("end=nan", "cma_harmony: end=nan"),
        ("ramp=0", "cma_harmony: ramp=0 is not a whole number"),
        ("most_dropped=1.0", r"cma_harmony: most_dropped=1.0 is not a number in \[0, 1\)"),
    ],
)
def test_hyper_parameters_out_of_range_are_refused(setting, sentence):
    name, _, value = setting.partition("=")
    number = math.nan if value == "nan" else (int(value) if name == "ramp" else float(value))
    with pytest.raises(sooner.SoonerError, match=sentence):
        CMAHarmony(**{name: number})


def test_a_recipe_asks_for_the_losses_and_for_a_single_source():
    with pytest.raises(sooner.SoonerError, match="cma_harmony needs losses, which this training loop does not provide"):
        sooner.train(from_file(TINY), "cma_harmony + adamw")
    with pytest.raises(sooner.SoonerError, match="both own the backward; keep one of them"):
        Recipe("cma_harmony + deepzero + adamw")


def parted(model, batch):
    x, y, rest = batch
    logits = model(x, rest)
    return {"fit": F.cross_entropy(logits, y), "small": 0.3 * logits.square().mean()}


def test_the_loop_trains_with_it_and_resumes_bit_for_bit(tmp_path):
    task = replace(from_file(TINY), losses=parted, loss=lambda m, b: sum(parted(m, b).values()))
    recipe = "cma_harmony(ramp=6, start=-0.9, end=0.9) + clip_norm + adamw + cosine"
    straight = sooner.train(task, recipe, 3, accumulate=2)
    assert len(set(straight.losses.tolist())) == 12

    def stop(step, value):
        if step > 6:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        sooner.train(task, recipe, 3, accumulate=2, checkpoint=tmp_path / "run.pt", save_every=6, progress=stop)
    resumed = sooner.train(task, recipe, 3, accumulate=2, checkpoint=tmp_path / "run.pt")
    assert torch.equal(straight.losses, resumed.losses)
    for a, b in zip(straight.model.parameters(), resumed.model.parameters(), strict=True):
        assert torch.equal(a, b)
    saved = torch.load(tmp_path / "run.pt", weights_only=True)["training"]["parts"]
    counts = next(part for part in saved if "dropped" in part)
    assert counts["step"] == 12
    assert 0 < int(counts["dropped"]) <= 12
