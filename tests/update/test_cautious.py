"""Cautious steps: against transcriptions on every executor, of matrices, with NaN, resumed, and where refused."""

import copy

import pytest
import references
import torch
from torch import nn

from sooner import Recipe
from sooner.error import SoonerError
from sooner.update import (
    APOLLO,
    MARS,
    ROOT,
    SGD,
    SOAP,
    AdaBelief,
    AdaGradNorm,
    AdamP,
    AdaMuon,
    AdamW,
    Adan,
    AdEMAMix,
    KLShampoo,
    Lion,
    Muon,
    NAdamW,
    NormalizedGD,
    NorMuon,
)

SHAPES = [(4, 6), (6,), (), (3, 2, 2, 2), (1, 5)]
METHODS = [
    (AdamW, references.adamw, {"lr": 1e-2, "weight_decay": 0.3}),
    (AdaBelief, references.adabelief, {"lr": 1e-2, "weight_decay": 0.1}),
    (Lion, references.lion, {"lr": 1e-2, "weight_decay": 0.3}),
    (AdEMAMix, references.ademamix, {"lr": 1e-2, "weight_decay": 0.3, "alpha_warmup": 9, "beta3_warmup": 9}),
    (Adan, references.adan, {"lr": 1e-2, "weight_decay": 0.3, "proximal": False}),
    (NAdamW, references.nadamw, {"lr": 1e-2, "weight_decay": 0.3}),
    (SGD, references.sgd, {"lr": 0.1}),
    (NormalizedGD, references.normalized_gd, {"lr": 0.1, "momentum": 0.9}),
]


def parameters(shapes=SHAPES, dtype=torch.float64):
    generator = torch.Generator().manual_seed(1)
    return [nn.Parameter(torch.randn(shape, generator=generator, dtype=dtype)) for shape in shapes]


def give(params, step):
    generator = torch.Generator().manual_seed(step)
    for p in params:
        p.grad = p.detach() + torch.randn(p.shape, generator=generator, dtype=torch.float64).to(p.dtype)


def masked(way, gradient):
    """Return what is left of a displacement to take away, as the paper has it."""
    agrees = (way * gradient > 0).double()
    return way * agrees / max(agrees.mean().item(), 1e-3)


@pytest.mark.parametrize("executor", ["eager", "native"])
@pytest.mark.parametrize(("method", "reference", "settings"), METHODS, ids=lambda one: getattr(one, "__name__", ""))
def test_the_step_is_the_papers(monkeypatch, executor, method, reference, settings):
    monkeypatch.setenv("SOONER_EXECUTOR", executor)
    ours, shadow = parameters(), parameters()
    optimizer, memory = method(ours, cautious=True, **settings), [{} for _ in shadow]
    plain = {**settings, "weight_decay": 0.0} if "weight_decay" in settings else settings
    for step in range(1, 21):
        give(ours, step)
        give(shadow, step)
        optimizer.step()
        with torch.no_grad():
            gradients, moved = [p.grad for p in shadow], [p.detach().clone() for p in shadow]
            reference(moved, gradients, memory, step, **plain)
            for p, after, g in zip(shadow, moved, gradients, strict=True):
                p.sub_(masked(p - after, g) + settings["lr"] * settings.get("weight_decay", 0.0) * p)
    for p, q in zip(ours, shadow, strict=True):
        torch.testing.assert_close(p, q, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("method", [Muon, NorMuon, AdaMuon, ROOT, SOAP, KLShampoo, APOLLO])
def test_matrices_are_masked_one_by_one(method):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 8), nn.Linear(8, 8), nn.Linear(8, 8), nn.Linear(8, 3)).double()
    other = copy.deepcopy(model)
    optimizer, plain = method(model, weight_decay=0.0, cautious=True), method(other, weight_decay=0.0)
    for step in (1, 2):
        before = [p.detach().clone() for p in model.parameters()]
        for p, q, b in zip(model.parameters(), other.parameters(), before, strict=True):
            q.data.copy_(b)
            assert p.shape == q.shape
        give(list(model.parameters()), step)
        give(list(other.parameters()), step)
        optimizer.step()
        plain.step()
        for p, q, b in zip(model.parameters(), other.parameters(), before, strict=True):
            torch.testing.assert_close(b - p, masked(b - q, p.grad), rtol=1e-9, atol=1e-12)


def test_mars_keeps_what_agrees_with_the_corrected_gradient():
    p = nn.Parameter(torch.zeros(1, 2, dtype=torch.float64))
    optimizer = MARS([p], lr=1.0, betas=(0.5, 0.5), gamma=1.0, max_norm=9.0, cautious=True)
    p.grad = torch.tensor([[2.0, 1.0]], dtype=torch.float64)
    optimizer.step()
    before = p.detach().clone()
    p.grad = torch.tensor([[0.5, 1.0]], dtype=torch.float64)  # corrected: -1 and 1; the momentum: 0 and 0.75
    optimizer.step()
    assert (p == before).tolist() == [[True, False]]


def test_what_does_not_agree_at_all_moves_nothing_and_decays():
    (p,) = parameters([(3,)])
    optimizer = AdamW([p], lr=0.1, weight_decay=0.5, cautious=True)
    p.grad = torch.ones_like(p)
    optimizer.step()
    before = p.detach().clone()
    p.grad = -0.01 * torch.ones_like(p)  # the momentum still goes the other way
    optimizer.step()
    torch.testing.assert_close(p.detach(), before * (1 - 0.1 * 0.5))


@pytest.mark.parametrize("executor", ["eager", "native"])
def test_nan_is_not_hidden_and_stays_where_it_is(monkeypatch, executor):
    monkeypatch.setenv("SOONER_EXECUTOR", executor)
    (p,) = parameters([(4,)])
    optimizer = AdamW([p], cautious=True)
    p.grad = torch.tensor([1.0, float("nan"), -1.0, 1.0], dtype=torch.float64)
    optimizer.step()
    assert p.isnan().tolist() == [False, True, False, False]


def test_a_group_says_its_own_and_state_goes_on():
    one, two = parameters(), parameters()
    groups = [{"params": one[:2]}, {"params": one[2:], "cautious": True}]
    optimizer = AdamW(groups, lr=1e-2)
    shadow = AdamW([{"params": two[:2]}, {"params": two[2:], "cautious": True}], lr=1e-2)
    for step in (1, 2, 3):
        give(one, step)
        optimizer.step()
    shadow.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    for p, q in zip(one, two, strict=True):
        q.data.copy_(p)
    for step in (4, 5):
        for params, o in ((one, optimizer), (two, shadow)):
            give(params, step)
            o.step()
    for p, q in zip(one, two, strict=True):
        assert torch.equal(p, q)


def test_a_state_of_plain_adamw_goes_on_cautiously():
    params = parameters()
    theirs, ours = torch.optim.AdamW(params), AdamW(params, cautious=True)
    give(params, 1)
    theirs.step()
    ours.load_state_dict(theirs.state_dict())
    ours.step()
    assert ours.param_groups[0]["cautious"] is True


@pytest.mark.parametrize(
    ("method", "settings"), [(SGD, {"momentum": 0.0}), (NormalizedGD, {}), (AdamP, {}), (AdaGradNorm, {})]
)
def test_a_step_without_memory_of_its_own_is_refused_at_once(method, settings):
    with pytest.raises(SoonerError, match="cautious=True keeps of a step what agrees with the gradient of now"):
        method(parameters(), cautious=True, **settings)


def test_a_recipe_may_say_it():
    ways = []
    for text in ("adamw(cautious=True) + cosine", "adamw + cosine"):
        torch.manual_seed(0)
        model = nn.Linear(3, 2)
        training = Recipe(text).build(model, steps=3)
        data = torch.Generator().manual_seed(1)
        for _ in range(3):
            x = torch.randn(2, 3, generator=data)
            model(x).sum().backward()
            training.step()
            training.zero_grad()
        ways.append(model.weight.detach().clone())
    assert not torch.equal(*ways)
