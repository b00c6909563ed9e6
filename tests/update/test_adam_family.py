"""AdamP, SGDP, diffGrad, SGD-SaI and AdaGrad-Norm: their papers' steps, their authors' packages, what they promise."""

import itertools
import math

import adamp as authors
import pytest
import references_adam_family as references
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from test_conformance import STEPS, displacement_error, gradients, parameters
from torch import nn

from sooner.error import SoonerError
from sooner.execute import using
from sooner.transform import Clock
from sooner.update import SGD, SGDP, AdaGradNorm, AdamP, AdamW, DiffGrad, SGDSaI

SHAPES = [(4, 6), (6,), (4, 6), (), (3, 2, 2, 2), (0,), (9, 3), (1, 5), (7,), (0, 3), (3, 0), (1,), (5, 2, 3, 3)]
SOLID = [shape for shape in SHAPES if 0 not in shape]
EVERYWHERE = 1e9
"""A delta with which every row counts as orthogonal."""

CASES = [
    (AdamP, references.adamp, {"lr": 1e-2}),
    (AdamP, references.adamp, {"lr": 1e-2, "betas": (0.8, 0.95), "eps": 1e-3, "weight_decay": 0.3, "wd_ratio": 0.5}),
    (AdamP, references.adamp, {"lr": 1e-2, "nesterov": True, "delta": 0.8, "weight_decay": 0.1}),
    (AdamP, references.adamp, {"lr": 1e-2, "betas": (0.0, 0.0), "delta": 0.0}),
    (SGDP, references.sgdp, {"lr": 0.1}),
    (SGDP, references.sgdp, {"lr": 0.1, "nesterov": False, "weight_decay": 0.01}),
    (SGDP, references.sgdp, {"lr": 0.1, "momentum": 0.5, "dampening": 0.3, "weight_decay": 0.1, "delta": 0.8}),
    (SGDP, references.sgdp, {"lr": 0.1, "momentum": 0.0, "wd_ratio": 0.0, "weight_decay": 0.1}),
    (DiffGrad, references.diffgrad, {"lr": 1e-2}),
    (DiffGrad, references.diffgrad, {"lr": 1e-2, "betas": (0.8, 0.95), "eps": 1e-3, "weight_decay": 0.3}),
    (DiffGrad, references.diffgrad, {"lr": 1e-2, "weight_decay": 0.3, "decoupled": True}),
    (SGDSaI, references.sgd_sai, {"lr": 1e-2}),
    (SGDSaI, references.sgd_sai, {"lr": 1e-2, "momentum": 0.0, "eps": 0.1, "weight_decay": 0.0}),
    (SGDSaI, references.sgd_sai, {"lr": 1e-2, "scaling": "sqrt_numel", "weight_decay": 0.1}),
    (SGDSaI, references.sgd_sai, {"lr": 1e-2, "scaling": "none"}),
    (AdaGradNorm, references.adagrad_norm, {}),
    (AdaGradNorm, references.adagrad_norm, {"lr": 0.3, "b0": 5.0, "eps": 0.0}),
    (AdaGradNorm, references.adagrad_norm, {"lr": 3.0, "b0": 0.0, "eps": 1e-2}),
]
ALL = (AdamP, SGDP, DiffGrad, SGDSaI, AdaGradNorm)


def partly_orthogonal(params, step):
    """Gradients that are orthogonal to the weights by rows, as a whole, or not at all, so that every view is taken."""
    made = []
    for number, (p, g) in enumerate(zip(params, gradients(params, 100 + step), strict=True)):
        kind = (number + step) % 3
        if p.ndim > 1 and p.numel() and kind < 2:
            w, rows = p.detach().reshape(p.shape[0] if kind else 1, -1), g.reshape(p.shape[0] if kind else 1, -1)
            g = (rows - w * ((rows * w).sum(1) / (w * w).sum(1))[:, None]).reshape(p.shape)
        made.append(g)
    return made


def worst_error(params, shadow, step_ours, step_theirs, check=lambda: None):
    """Step both with gradients at their own parameters; return the largest relative displacement error of all steps."""
    start, worst = [p.detach().clone() for p in params], 0.0
    with torch.no_grad():
        for step in range(1, STEPS + 1):
            for some in (params, shadow):
                for p, g in zip(some, partly_orthogonal(some, step), strict=True):
                    p.grad = g
            step_ours()
            step_theirs(step)
            check()
            worst = max(worst, displacement_error(params, shadow, start))
    return worst


def one_step(optimizer, *pairs):
    for p, g in pairs:
        p.grad = torch.as_tensor(g, dtype=p.dtype).reshape(p.shape)
    optimizer.step()


def weight(*shape, seed=0, dtype=torch.float64):
    return nn.Parameter(torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=dtype))


@pytest.mark.parametrize("executor", ["eager", "native"])
@pytest.mark.parametrize(("method", "reference", "hyper"), CASES)
def test_the_rule_is_the_papers_step_by_step(method, reference, hyper, executor):
    params, shadow = parameters(SHAPES), parameters(SHAPES)
    memory = [{} for _ in shadow]
    optimizer = method(params, **hyper)
    with using(executor):
        error = worst_error(
            params,
            shadow,
            optimizer.step,
            lambda step: reference(shadow, [p.grad for p in shadow], memory, step, **hyper),
        )
    assert error < 1e-12


@pytest.mark.parametrize(("method", "reference"), [(AdamP, references.adamp), (SGDP, references.sgdp)])
def test_the_comparison_meets_every_view(method, reference):
    shadow = parameters(SHAPES)
    memory, seen = [{} for _ in shadow], []
    step_reference = lambda step: reference(shadow, [p.grad for p in shadow], memory, step, lr=0.01)  # noqa: E731
    params = parameters(SHAPES)
    optimizer = method(params, lr=0.01)
    worst_error(params, shadow, optimizer.step, step_reference, lambda: seen.extend(m["view"] for m in memory))
    assert all(seen.count(view) > STEPS for view in ("channel", "layer", None))


@pytest.mark.parametrize(
    ("ours", "theirs", "hyper"),
    [
        (AdamP, authors.AdamP, {"lr": 1e-2}),
        (AdamP, authors.AdamP, {"lr": 1e-2, "weight_decay": 0.3, "nesterov": True, "betas": (0.8, 0.95)}),
        (AdamP, authors.AdamP, {"lr": 1e-2, "weight_decay": 0.3, "delta": 0.8, "wd_ratio": 0.5, "eps": 1e-3}),
        (SGDP, authors.SGDP, {"lr": 0.1, "momentum": 0.9, "nesterov": True, "weight_decay": 1e-3}),
        (SGDP, authors.SGDP, {"lr": 0.1, "momentum": 0.5, "nesterov": True, "dampening": 0.3, "weight_decay": 0.1}),
        (SGDP, authors.SGDP, {"lr": 0.1, "momentum": 0.9, "nesterov": False, "weight_decay": 0.1, "delta": 0.0}),
    ],
)
def test_it_is_the_authors_package(ours, theirs, hyper):
    params, shadow = parameters(SOLID), parameters(SOLID)
    optimizer, published = ours(params, **hyper), theirs(shadow, **hyper)
    assert worst_error(params, shadow, optimizer.step, lambda _: published.step()) < 1e-12


@pytest.mark.parametrize("method", ALL)
def test_zero_gradients_leave_the_weights_alone(method):
    params = [weight(*shape) for shape in SHAPES]
    before = [p.detach().clone() for p in params]
    optimizer = method(params, **({"weight_decay": 0.0} if method is not AdaGradNorm else {}))
    for _ in range(3):
        one_step(optimizer, *((p, torch.zeros_like(p)) for p in params))
    assert all(torch.equal(p, q) for p, q in zip(params, before, strict=True))


@pytest.mark.parametrize("method", ALL)
def test_zero_weights_take_finite_steps(method):
    p = nn.Parameter(torch.zeros(3, 4))
    one_step(method([p]), (p, torch.randn(3, 4)))
    assert p.isfinite().all()
    assert p.all()


@pytest.mark.parametrize("method", ALL)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_squares_beyond_half_precision_do_no_harm(method, dtype):
    p = nn.Parameter(torch.ones(3, 5, dtype=dtype))
    optimizer = method([p], lr=1e-6)
    for step in range(3):
        one_step(optimizer, (p, 1e4 * torch.randn(3, 5, generator=torch.Generator().manual_seed(step))))
    assert p.isfinite().all()
    assert all(kept.isfinite().all() and kept.dtype == torch.float32 for kept in optimizer.state[p].values())


# AdamP and SGDP


@pytest.mark.parametrize("method", [AdamP, SGDP])
@settings(max_examples=40)
@given(
    rows=st.integers(1, 5), length=st.integers(2, 6), seed=st.integers(0, 10**6), size=st.sampled_from([1e-3, 1.0, 1e3])
)
def test_a_projected_update_is_orthogonal_to_every_row(method, rows, length, seed, size):
    p = weight(rows, length, seed=seed)
    with torch.no_grad():
        p.mul_(size)
    optimizer = method([p], lr=1e-2 * size, delta=EVERYWHERE, eps=1e-20, weight_decay=0.0)
    for step in range(3):
        before = p.detach().clone()
        one_step(optimizer, (p, weight(rows, length, seed=seed + step + 1)))
        moved = p.detach() - before
        assert ((moved * before).sum(1).abs() <= 1e-12 * before.norm(dim=1) * (moved.norm(dim=1) + size)).all()
        grown = before.square().sum(1) + moved.square().sum(1)  # Pythagoras: no more than this
        assert torch.allclose(p.detach().square().sum(1), grown, rtol=1e-12)


@pytest.mark.parametrize(("method", "power"), [(AdamP, 1), (SGDP, 2)])
@settings(max_examples=25)
@given(factor=st.floats(0.05, 20.0), seed=st.integers(0, 10**6))
def test_in_front_of_a_normalisation_the_scale_of_weights_is_idle(method, power, factor, seed):
    inputs = weight(16, 5, seed=seed + 1).detach()
    goal = weight(16, 4, seed=seed + 2).detach()
    results = []
    for scale in (1.0, factor):
        w = weight(4, 5, seed=seed)
        with torch.no_grad():
            w.mul_(scale)
        optimizer = method([w], lr=0.05 * scale**power, eps=1e-25, weight_decay=0.0)
        before = w.detach().norm()
        for _ in range(5):
            optimizer.zero_grad()
            outputs = nn.functional.normalize(inputs @ w.T, dim=0)  # each output over the batch, as batch norm
            (outputs - goal).square().sum().backward()
            optimizer.step()
        results.append(w.detach() / scale)
        assert w.detach().norm() < 1.5 * before
    assert torch.allclose(*results, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("method", [AdamP, SGDP])
def test_vectors_and_numbers_are_never_projected(method):
    hyper = {"lr": 0.1, "weight_decay": 0.5}
    for shape in ((), (1,), (6,)):
        never, always = weight(*shape), weight(*shape)
        for delta, p in ((0.0, never), (EVERYWHERE, always)):
            optimizer = method([p], delta=delta, **hyper)
            for step in range(3):
                one_step(optimizer, (p, weight(*shape, seed=step)))
        assert torch.equal(never, always)


@pytest.mark.parametrize("delta", [0.0, 0.1])
def test_without_projection_they_are_adamw_and_sgd(delta):
    for ours, theirs, hyper in (
        (AdamP, AdamW, {"lr": 0.01, "weight_decay": 0.3}),
        (SGDP, SGD, {"lr": 0.1, "momentum": 0.9, "nesterov": True, "weight_decay": 0.0}),
    ):
        params, shadow = parameters(SOLID), parameters(SOLID)
        a, b = ours(params, delta=delta, **hyper), theirs(shadow, **hyper)
        for step in range(5):
            for some, optimizer in ((params, a), (shadow, b)):
                one_step(optimizer, *((p, p.detach() + weight(*p.shape, seed=step)) for p in some))
        same = [torch.allclose(p, q, rtol=1e-12, atol=1e-14) for p, q in zip(params, shadow, strict=True)]
        assert all(same)


def test_one_row_along_its_gradient_spares_the_whole_weight_from_the_channel_view():
    w, g = weight(4, 6).detach(), weight(4, 6, seed=1).detach()
    g -= w * ((g * w).sum(1) / (w * w).sum(1))[:, None]
    for lean in (0.0, 1.0):
        p = nn.Parameter(w.clone())
        optimizer = SGDP([p], lr=0.0, momentum=0.5, nesterov=False, weight_decay=0.0)
        one_step(optimizer, (p, w))  # the buffer points along the weights, which stay
        optimizer.param_groups[0]["lr"] = 1.0
        leaning = g.clone()
        leaning[2] += lean * w[2]
        one_step(optimizer, (p, leaning))
        expected = g if lean == 0.0 else leaning + 0.5 * w
        assert torch.allclose(w - p.detach(), expected, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize(("method", "strength"), [(AdamP, 1.0), (SGDP, 10.0)])
def test_decay_is_weaker_on_projected_weights_only(method, strength):
    matrix, vector = weight(3, 4), weight(4)
    before = matrix.detach().clone(), vector.detach().clone()
    optimizer = method([matrix, vector], lr=0.1, weight_decay=0.02)
    one_step(optimizer, (matrix, torch.zeros(3, 4)), (vector, torch.zeros(4)))
    assert torch.allclose(matrix, before[0] * (1 - 0.1 * 0.02 * strength * 0.1), rtol=1e-14)
    assert torch.allclose(vector, before[1] * (1 - 0.1 * 0.02 * strength), rtol=1e-14)


def test_sgdp_never_projects_its_buffer_and_the_release_does():
    p, q = weight(4, 6), weight(4, 6)
    hyper = {"lr": 0.1, "momentum": 0.9, "nesterov": False, "delta": EVERYWHERE}
    ours, theirs = SGDP([p], **hyper), authors.SGDP([q], **hyper)
    total = torch.zeros(4, 6, dtype=torch.float64)
    for step in range(3):
        g = weight(4, 6, seed=10 + step).detach()
        total = 0.9 * total + g
        one_step(ours, (p, g))
        one_step(theirs, (q, g.clone()))
    assert torch.allclose(ours.state[p]["momentum_buffer"], total, rtol=1e-13)
    assert not torch.allclose(theirs.state[q]["momentum"], total, rtol=0.1)


# diffGrad


def test_diffgrad_keeps_a_copy_of_the_last_gradient():
    p = weight(3)
    optimizer = DiffGrad([p], lr=0.1, weight_decay=0.5)
    p.grad = torch.ones(3, dtype=torch.float64)
    expected = 1 + 0.5 * p.detach()
    optimizer.step()
    p.grad.mul_(5.0)  # the same tensor, as zero_grad(set_to_none=False) leaves it
    assert torch.allclose(optimizer.state[p]["previous_grad"], expected)  # with the coupled decay
    apart = DiffGrad([weight(3)], lr=0.1, weight_decay=0.5, decoupled=True)
    (q,) = apart.param_groups[0]["params"]
    one_step(apart, (q, torch.ones(3)))
    assert torch.equal(apart.state[q]["previous_grad"], torch.ones(3, dtype=torch.float64))


@settings(max_examples=30)
@given(
    sizes=st.lists(st.floats(-50, 50).filter(lambda g: abs(g) > 1e-3), min_size=1, max_size=6),
    scale=st.sampled_from([1e-9, 1.0]),
)
def test_diffgrad_is_adam_slowed_by_between_a_half_and_one(sizes, scale):
    p, q = weight(1), weight(1)
    ours, adam = DiffGrad([p], lr=0.01, eps=0.0), AdamW([q], lr=0.01, eps=0.0, weight_decay=0.0)
    last = 0.0
    for g in sizes:
        before = p.item(), q.item()
        one_step(ours, (p, [scale * g]))
        one_step(adam, (q, [scale * g]))
        friction = 1 / (1 + math.exp(-scale * abs(g - last)))
        slowed, free = p.item() - before[0], q.item() - before[1]
        assert slowed == pytest.approx(friction * free, rel=1e-9, abs=1e-14)
        assert friction == pytest.approx(0.5, abs=1e-6) or scale == 1.0
        last = g


# SGD-SaI


@settings(max_examples=40)
@given(count=st.integers(2, 50), mean=st.floats(-3, 3), size=st.sampled_from([1e-3, 1.0, 1e5]), seed=st.integers(0, 99))
def test_the_scale_of_sgd_sai_is_norm_over_spread_and_knows_no_units(count, mean, size, seed):
    p = weight(count)
    g = mean + weight(count, seed=seed).detach()
    optimizer = SGDSaI([p], eps=0.0)
    one_step(optimizer, (p, size * g))
    squared = optimizer.state[p]["scale"].item() ** 2
    rel = 1e-9 + 1e-14 * squared  # a spread far below the mean is what rounding leaves of a difference
    assert squared == pytest.approx(count - 1 + count * g.mean().item() ** 2 / g.var().item(), rel=rel)
    assert squared == pytest.approx((g.norm() / g.std()).item() ** 2, rel=rel)
    assert torch.equal(optimizer.state[p]["momentum_buffer"], size * g)  # m_1 = G_1


@pytest.mark.parametrize("executor", ["eager", "native"])
@pytest.mark.parametrize(("first", "measured"), [(1, 1), (2, 2), (3, 4), (5, 8)])
def test_sgd_sai_measures_the_first_gradient_that_is_not_zero_at_powers_of_two(executor, first, measured):
    p, early = weight(4, 3), weight(4, 3)
    optimizer = SGDSaI([early, p], lr=0.01, momentum=0.0, weight_decay=0.0)
    with using(executor):
        for step in range(1, 12):
            g = 1 + weight(4, 3, seed=step).detach()
            given_here = g if step >= first else torch.zeros_like(g)
            before = p.detach().clone()
            one_step(optimizer, (p, given_here), (early, g))
            scale = optimizer.state[p]["scale"].item()
            if step == measured:
                expected = (g.norm() / (g.std() + 1e-8)).item()
            if step < measured:
                assert scale == 0.0
                assert torch.allclose(before - p.detach(), 0.01 * math.sqrt(12) * given_here, rtol=1e-10)
            else:
                assert scale == pytest.approx(expected, rel=1e-12)
                assert torch.allclose(before - p.detach(), 0.01 * expected * given_here, rtol=1e-9)


def test_sgd_sai_adds_up_only_where_it_measures():
    (rule, *_) = SGDSaI([weight(3)]).rule(SGDSaI([weight(3)]).param_groups[0]).rules
    state, ones = {"momentum_buffer": torch.zeros(3)}, torch.ones(3)
    measuring = [step for step in range(1, 40) if rule.prepare(ones, state, None, Clock(step, 0.1))[2]]
    assert measuring == [1, 2, 4, 8, 16, 32]


@pytest.mark.parametrize("executor", ["eager", "native"])
@pytest.mark.parametrize("late_first", [True, False])
def test_a_late_parameter_of_sgd_sai_is_measured_at_its_own_steps(executor, late_first):
    early, late = weight(4, 3), weight(5, 3)
    optimizer = SGDSaI([late, early] if late_first else [early, late])
    with using(executor):
        for step in range(1, 5):
            one_step(optimizer, (early, weight(4, 3, seed=step).detach()))
        one_step(optimizer, (late, weight(5, 3).detach()))  # step 5 of the other one, which does not measure there
    expected = (weight(5, 3).norm() / (weight(5, 3).std() + 1e-8)).item()
    assert optimizer.state[late]["scale"].item() == pytest.approx(expected, rel=1e-12)


def test_single_entries_of_sgd_sai_take_plain_steps():
    for shape in ((), (1,), (1, 1)):
        p = weight(*shape)
        before = p.detach().clone()
        one_step(SGDSaI([p], lr=0.1, weight_decay=0.0), (p, torch.full(shape, 3e-4)))
        assert torch.allclose(before - p.detach(), torch.full(shape, 3e-5, dtype=torch.float64), rtol=1e-6)


@pytest.mark.parametrize("bad", [math.inf, math.nan])
def test_a_first_gradient_that_is_not_finite_is_not_frozen_into_the_scale(bad):
    p = weight(3)
    optimizer = SGDSaI([p])
    one_step(optimizer, (p, [1.0, bad, 2.0]))
    assert optimizer.state[p]["scale"].item() == 0.0
    one_step(optimizer, (p, [1.0, 3.0, 2.0]))
    assert optimizer.state[p]["scale"].item() == pytest.approx(math.sqrt(14))


def test_the_scale_is_restored_before_and_after_it_is_measured():
    for first in (1, 4):
        p = weight(4, 3)
        optimizer = SGDSaI([p])
        for step in range(1, 4):
            one_step(optimizer, (p, weight(4, 3, seed=step).detach() * (step >= first)))
        q = nn.Parameter(p.detach().clone())
        resumed = SGDSaI([q], lr=0.7)
        resumed.load_state_dict(optimizer.state_dict())
        assert resumed.state[q]["scale"].shape == ()
        for step in range(4, 7):
            one_step(optimizer, (p, weight(4, 3, seed=step).detach()))
            one_step(resumed, (q, weight(4, 3, seed=step).detach()))
        assert torch.equal(p, q)
        assert torch.equal(optimizer.state[p]["scale"], resumed.state[q]["scale"])
        assert optimizer.state[p]["scale"] > 0


# AdaGrad-Norm


@settings(max_examples=30)
@given(cuts=st.lists(st.integers(0, 12), max_size=4), scale=st.floats(1e-3, 1e3), groups=st.booleans())
def test_adagrad_norm_sees_one_vector_whatever_its_parts_and_units(cuts, scale, groups):
    whole = weight(12)
    edges = [0, *sorted(cuts), 12]
    pieces = [slice(a, b) for a, b in itertools.pairwise(edges)]
    parts = [nn.Parameter(whole.detach()[piece].clone()) for piece in pieces]
    one = AdaGradNorm([whole], b0=0.0, eps=1e-300)
    several = AdaGradNorm([{"params": [p]} for p in parts] if groups else parts, b0=0.0, eps=1e-300)
    for step in range(4):
        g = weight(12, seed=step).detach()
        before = whole.detach().clone()
        one_step(one, (whole, g))
        one_step(several, *((p, scale * g[piece]) for p, piece in zip(parts, pieces, strict=True)))
        assert step > 0 or (whole.detach() - before).norm().item() == pytest.approx(1.0)
    assert torch.allclose(torch.cat([p.detach() for p in parts]), whole.detach(), rtol=1e-9, atol=1e-12)
    kept = {several.state[p]["squared_norms"].item() for p in parts}
    assert len(kept) == 1
    assert kept.pop() == pytest.approx(scale**2 * one.state[whole]["squared_norms"].item(), rel=1e-9)


def test_adagrad_norm_shortens_its_steps_under_a_steady_gradient():
    p = nn.Parameter(torch.zeros(4, dtype=torch.float64))
    optimizer = AdaGradNorm([p], lr=2.0, b0=0.0)
    for step in range(1, 6):
        before = p.detach().clone()
        one_step(optimizer, (p, torch.ones(4)))
        assert (p.detach() - before).norm().item() == pytest.approx(2.0 / math.sqrt(step), rel=1e-6)


@pytest.mark.parametrize(
    ("method", "bad", "sentence"),
    [
        (AdamP, {"delta": -0.1}, r"adamp: delta=-0.1 is not a number in \[0, inf\)"),
        (AdamP, {"wd_ratio": 1.5}, r"adamp: wd_ratio=1.5 is not a number in \[0, 1\]"),
        (AdamP, {"betas": (0.9, 1.0)}, r"adamp: betas\[1\]=1.0"),
        (SGDP, {"momentum": 1.0}, r"sgdp: momentum=1.0 is not a number in \[0, 1\)"),
        (SGDP, {"dampening": 2}, "sgdp: dampening=2"),
        (SGDP, {"weight_decay": -1.0}, "sgdp: weight_decay=-1.0"),
        (SGDP, {"eps": -1.0}, "sgdp: eps=-1.0"),
        (SGDP, {"delta": math.nan}, "sgdp: delta=nan"),
        (DiffGrad, {"eps": -1.0}, "diffgrad: eps=-1.0"),
        (SGDSaI, {"momentum": -0.1}, "sgd_sai: momentum=-0.1"),
        (SGDSaI, {"eps": -1.0}, "sgd_sai: eps=-1.0"),
        (SGDSaI, {"weight_decay": -1.0}, "sgd_sai: weight_decay=-1.0"),
        (SGDSaI, {"scaling": "gsnt"}, r"sgd_sai: scaling='gsnt' \(did you mean 'gsnr'\?\) is not one of gsnr, sqrt_n"),
        (AdaGradNorm, {"b0": -1.0}, "adagrad_norm: b0=-1.0"),
        (AdaGradNorm, {"eps": -1.0}, "adagrad_norm: eps=-1.0"),
        (
            AdaGradNorm,
            {"b0": 0.0, "eps": 0.0},
            "adagrad_norm: b0=0 and eps=0 divide by zero .* set one of them above 0",
        ),
    ],
)
def test_a_bad_hyper_parameter_is_named(method, bad, sentence):
    with pytest.raises(SoonerError, match=sentence):
        method([weight(2, 2)], **bad)
    with pytest.raises(SoonerError, match=sentence):
        method([weight(2, 2)]).add_param_group({"params": [weight(3)], **bad})
