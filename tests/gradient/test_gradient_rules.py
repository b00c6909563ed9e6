"""What the rules compute: against independent transcriptions, in float64, and what always holds."""

import math

import pytest
import references_gradient as references
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

import sooner
from sooner.execute import using
from sooner.gradient.clip_value import SAMPLE, directional_sharpness, threshold

RULES = {
    "clip_norm(max_norm=0.7)": lambda g, w: references.clip_norm(g, w, 0.7),
    "clip_norm(max_norm=1e6)": lambda g, w: references.clip_norm(g, w, 1e6),
    "clip_adaptive(clipping=0.3)": lambda g, w: references.clip_adaptive(g, w, 0.3),
    "clip_adaptive(clipping=0.3, eps=50.0)": lambda g, w: references.clip_adaptive(g, w, 0.3, eps=50.0),
    "perpgrad": references.perpgrad,
    "clip_value(fraction=0.25)": lambda g, w: references.clip_value(g, w, 0.25),
    "clip_value(fraction=0.5, over='parameter')": lambda g, w: references.clip_value(g, w, 0.5, each=True),
    "clip_value(fraction=None, value=0.2)": lambda g, w: references.clip_value(g, w, value=0.2),
}
SHAPES = [(7, 4), (7, 4), (3, 2, 2, 2), (5,), (1,), (), (9, 1), (1, 6)]


def weights(dtype=torch.float64, shapes=SHAPES):
    made = [nn.Parameter(torch.randn(shape, dtype=dtype)) for shape in shapes]
    for p in made:
        p.grad = torch.randn(p.shape, dtype=dtype) * 3
    return made


class Listed(nn.Module):
    """A model that is a list of parameters."""

    def __init__(self, parameters):
        super().__init__()
        self.listed = nn.ParameterList(parameters)


def changed(recipe, parameters):
    """Return the gradients that a step of SGD with learning rate 1 used."""
    before = [p.detach().clone() for p in parameters]
    sooner.Recipe(recipe).build(Listed(parameters), 10).step()
    return [(old - p.detach()).to(p.dtype) for old, p in zip(before, parameters, strict=True)]


@pytest.mark.parametrize("executor", ["eager", "native"])
@pytest.mark.parametrize("optimizer", ["sgd(lr=1.0, momentum=0.0)", "torch.optim.SGD(lr=1.0)"])
@pytest.mark.parametrize("rule", RULES)
def test_every_rule_equals_its_transcription(rule, optimizer, executor):
    for _ in range(3):
        parameters = weights()
        parameters[0].grad[2] = 0.0
        expected = RULES[rule]([p.grad.clone() for p in parameters], [p.detach().clone() for p in parameters])
        with using(executor):
            got = changed(f"{rule} + {optimizer}", parameters)
        for a, b in zip(got, expected, strict=True):
            torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-12)


def test_clip_norm_is_what_pytorch_does():
    for scale in (1e-3, 1.0, 1e3):
        parameters = weights(torch.float64)
        for p in parameters:
            p.grad *= scale
        copies = [nn.Parameter(p.detach().clone()) for p in parameters]
        for p, q in zip(parameters, copies, strict=True):
            q.grad = p.grad.clone()
        torch.nn.utils.clip_grad_norm_(copies, 2.0)
        got = changed("clip_norm(max_norm=2.0) + torch.optim.SGD(lr=1.0)", parameters)
        for a, q in zip(got, copies, strict=True):
            torch.testing.assert_close(a, q.grad, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_clip_norm_treats_what_is_not_finite_as_pytorch_does(bad):
    parameters = weights()
    parameters[3].grad[0] = bad
    copies = [nn.Parameter(p.detach().clone()) for p in parameters]
    for p, q in zip(parameters, copies, strict=True):
        q.grad = p.grad.clone()
    torch.nn.utils.clip_grad_norm_(copies, 2.0)
    got = changed("clip_norm(max_norm=2.0) + torch.optim.SGD(lr=1.0)", parameters)
    for a, q in zip(got, copies, strict=True):
        torch.testing.assert_close(a.isnan(), q.grad.isnan())


@settings(max_examples=25)
@given(seed=st.integers(0, 2**30), max_norm=st.floats(1e-3, 1e3), scale=st.floats(1e-4, 1e4))
def test_the_norm_after_clipping_is_at_most_the_largest_allowed(seed, max_norm, scale):
    torch.manual_seed(seed)
    parameters = weights()
    for p in parameters:
        p.grad *= scale
    length = torch.nn.utils.get_total_norm([p.grad for p in parameters])
    optimizer = torch.optim.SGD(parameters, lr=1.0)
    part = sooner.gradient.ClipNorm(optimizer, max_norm)
    part.swap_in()
    after = torch.nn.utils.get_total_norm([p.grad for p in parameters])
    assert after <= max_norm * (1 + 1e-9)
    assert after <= length * (1 + 1e-9)
    if length + 1e-6 <= max_norm:
        assert after == length


@settings(max_examples=25)
@given(seed=st.integers(0, 2**30), scale=st.floats(1e-4, 1e4))
def test_perpgrad_is_orthogonal_to_the_weights_and_keeps_the_norm(seed, scale):
    torch.manual_seed(seed)
    parameters = weights(shapes=[(6, 5), (4,), (2, 3, 2)])
    originals = [p.grad.mul_(scale).clone() for p in parameters]
    sooner.gradient.PerpGrad(torch.optim.SGD(parameters, lr=1.0)).swap_in()
    for p, g in zip(parameters, originals, strict=True):
        assert abs(float((p.grad * p.detach()).sum() / (p.grad.norm() * p.detach().norm()))) < 1e-9
        assert float(p.grad.norm()) == pytest.approx(float(g.norm()), rel=1e-9)
        assert float((p.grad * g).sum()) > 0


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_perpgrad_makes_a_gradient_along_the_weights_zero(dtype):
    parameters = weights(dtype, [(30, 20), (1,), ()])
    with torch.no_grad():
        parameters[0].grad.copy_(parameters[0]).mul_(-0.3)
    sooner.gradient.PerpGrad(torch.optim.SGD(parameters, lr=1.0)).swap_in()
    assert all(int(p.grad.count_nonzero()) == 0 for p in parameters)


def test_perpgrad_leaves_gradients_of_zero_weights_and_zero_gradients_as_they_are():
    parameters = weights()
    kept = parameters[0].grad.clone()
    with torch.no_grad():
        parameters[0].zero_()
    parameters[1].grad.zero_()
    sooner.gradient.PerpGrad(torch.optim.SGD(parameters, lr=1.0)).swap_in()
    torch.testing.assert_close(parameters[0].grad, kept)
    assert int(parameters[1].grad.count_nonzero()) == 0


@settings(max_examples=25)
@given(seed=st.integers(0, 2**30), clipping=st.floats(1e-3, 10), eps=st.floats(1e-6, 10))
def test_adaptive_clipping_bounds_every_row(seed, clipping, eps):
    torch.manual_seed(seed)
    parameters = weights()
    sooner.gradient.ClipAdaptive(torch.optim.SGD(parameters, lr=1.0), clipping, eps).swap_in()
    for p in parameters:
        rows = (p.grad.flatten(1), p.detach().flatten(1)) if p.ndim > 1 else (p.grad.view(1, -1), p.view(1, -1))
        gradient, weight = (one.norm(dim=1) for one in rows)
        assert (gradient <= clipping * weight.clamp(min=eps) * (1 + 1e-9)).all()


@settings(max_examples=25)
@given(seed=st.integers(0, 2**30), fraction=st.floats(0, 1), zeros=st.integers(0, 60))
def test_the_threshold_is_exceeded_by_the_fraction_of_the_entries_that_are_not_zero(seed, fraction, zeros):
    torch.manual_seed(seed)
    entries = torch.cat([torch.randn(3, 80), torch.zeros(3, zeros)], 1)
    found = threshold(entries, fraction)
    exceeding = (entries.abs() > found[:, None]).sum(1)
    assert (exceeding == min(math.floor(torch.tensor(fraction) * 80), 79)).all()
    assert (found > 0).all()


def test_an_embedding_that_is_mostly_unused_does_not_stop_the_others():
    parameters = weights(shapes=[(1000, 8), (5, 8)])
    parameters[0].grad[10:] = 0.0
    sooner.gradient.ClipValue(torch.optim.SGD(parameters, lr=1.0), 0.1).swap_in()
    assert float(parameters[1].grad.abs().max()) > 1.0


def test_a_fraction_of_a_large_model_is_estimated_from_a_subset_that_stays_for_a_while():
    parameters = weights(torch.float32, [(3000, 100), (100, 100)])
    part = sooner.gradient.ClipValue(torch.optim.SGD(parameters, lr=1.0), 0.1, refresh=3)
    thresholds, raw = [], [p.grad for p in parameters]
    assert sum(p.numel() for p in parameters) > SAMPLE
    for _ in range(6):
        part.swap_in()
        thresholds.append(float(max(p.grad.abs().max() for p in parameters)))
        cut = sum(int((p.grad.abs() == thresholds[-1]).sum()) for p in parameters)
        assert cut / 310_000 == pytest.approx(0.1, abs=0.008)
        part.steps += 1
        for p, g in zip(parameters, raw, strict=True):
            p.grad = g
    assert len(set(thresholds)) == 3  # steps 1 and 2, 3 to 5, 6
    assert thresholds[2] == thresholds[3] == thresholds[4]
    each = sooner.gradient.ClipValue(torch.optim.SGD(parameters, lr=1.0), 0.1, over="parameter")
    each.swap_in()
    for p in parameters:
        cut = int((p.grad.abs() == p.grad.abs().max()).sum()) / p.numel()
        assert cut == pytest.approx(0.1, abs=0.008)


def test_directional_sharpness_of_a_quadratic_is_what_algebra_says():
    h = torch.tensor([[3.0, 1.0], [1.0, 2.0]], dtype=torch.float64)
    x = nn.Parameter(torch.tensor([1.0, -2.0], dtype=torch.float64))
    unused = nn.Parameter(torch.ones(3, dtype=torch.float64))
    v = torch.tensor([0.6, 0.1], dtype=torch.float64)
    found = directional_sharpness(lambda: x @ h @ x / 2, [x, unused], [v, torch.zeros(3, dtype=torch.float64)])
    unit = v / v.norm()
    g = h @ x.detach()
    sharpness, correlation = unit @ h @ unit, -g @ unit
    torch.testing.assert_close(found.sharpness, sharpness)
    torch.testing.assert_close(found.correlation, correlation)
    torch.testing.assert_close(found.decrease, correlation**2 / (2 * sharpness))
    torch.testing.assert_close(found.step, correlation / sharpness)
    assert x.grad is None
    best = x.detach() + found.step * unit
    assert float(x.detach() @ h @ x.detach() / 2 - best @ h @ best / 2) == pytest.approx(float(found.decrease))


@pytest.mark.parametrize(
    ("recipe", "sentence"),
    [
        ("clip_norm(max_norm=-1.0)", r"clip_norm: max_norm=-1.0 is not a number in \[0, inf\)"),
        ("clip_adaptive(clipping=-1.0)", "clip_adaptive: clipping=-1.0 is not a number"),
        ("clip_adaptive(eps=-1.0)", "clip_adaptive: eps=-1.0 is not a number"),
        ("clip_value(fraction=1.5)", r"clip_value: fraction=1.5 is not a number in \[0, 1\]"),
        (
            "clip_value(value=1.0)",
            r"fraction=0.1 and value=1.0 should be one threshold; give a fraction, or a value and",
        ),
        ("clip_value(fraction=None)", "fraction=None and value=None should be one threshold"),
        ("clip_value(fraction=None, value=-1.0)", "clip_value: value=-1.0 is not a number"),
        ("clip_value(over='row')", "over='row' is neither 'model' nor 'parameter'"),
        ("clip_value(refresh=0)", "clip_value: refresh=0 is not a whole number"),
        ("clip_norm + clip_norm", "clip_norm and clip_norm both own the gradient norm; keep one of them"),
    ],
)
def test_what_makes_no_sense_is_refused(recipe, sentence):
    with pytest.raises(sooner.SoonerError, match=sentence):
        sooner.Recipe(f"{recipe} + adamw").build(nn.Linear(2, 2), 10)
