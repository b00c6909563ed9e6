"""Compiled optimizers take the same steps as the reference, whatever the shapes, dtypes, layouts and threads."""

import contextlib
import inspect
import math
from unittest.mock import patch

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from sooner import part
from sooner.execute import fused, native, using
from sooner.update._optimizer import ChainOptimizer


def steps_alone(method):
    """Whether the part runs chains and needs nothing but gradients.

    Left out are parts around other optimizers and second-order methods, which run no chain, and parts that evaluate the
    loss themselves: their own tests give them one.
    """
    return issubclass(method, ChainOptimizer) and "closure" not in method.needs


METHODS = [m for m in (part.load(name) for name, home in part.names().items() if home == "update") if steps_alone(m)]
every_method = pytest.mark.parametrize("method", METHODS, ids=lambda m: m.__name__)
DTYPES = [torch.float64, torch.float32, torch.bfloat16, torch.float16]

SHAPES = [(), (0,), (1,), (3,), (2, 3), (3, 2), (0, 2), (2, 0), (4, 1), (2, 1, 3, 3), (17,), (130,), (5, 2, 2, 2)]
LAYOUTS = {
    "contiguous": lambda t: t.clone(),
    "transposed": lambda t: t.movedim(0, -1).contiguous().clone().movedim(-1, 0) if t.ndim else t.clone(),
    "channels last": lambda t: t.clone(memory_format=torch.channels_last) if t.ndim == 4 else t.clone(),
    "every second": lambda t: t.repeat_interleave(2, -1)[..., ::2] if t.ndim else t.clone(),
}


def values(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@contextlib.contextmanager
def nothing_but_native():
    """Inside, everything steps natively; to fall back to the eager executor is an error."""

    def complain(rules, error):
        raise AssertionError(f"{', '.join(type(rule).__name__ for rule in rules)} run eagerly: {error}")

    with using("native"), patch.object(fused, "_say", complain):
        yield


def hyper_of(method, positions=(), weight_decay=0.0):
    """Settings at these positions of the part's tuning space, one after the other."""
    hyper = {name: knob.at(u) for (name, knob), u in zip(method.space.items(), positions, strict=False)}
    if "weight_decay" in inspect.signature(method).parameters:
        hyper["weight_decay"] = weight_decay
    return hyper


def run(method, executor, start, gradients, *, threads=1, **hyper):
    """Step as often as there are gradients; return the parameters and all state afterwards."""
    params = [nn.Parameter(p) for p in start()]
    optimizer = method(params, **hyper)
    for step in gradients:
        for p, g in zip(params, step, strict=True):
            p.grad = g
        before = [g.clone() for g in step]
        torch.set_num_threads(threads)
        try:
            with nothing_but_native() if executor == "native" else using(executor):
                optimizer.step()
        finally:
            torch.set_num_threads(1)
        for p, g, kept in zip(params, step, before, strict=True):
            assert p.grad is g
            torch.testing.assert_close(g, kept, rtol=0, atol=0, equal_nan=True)
    return [p.detach() for p in params], [dict(optimizer.state[p]) for p in params]


def assert_equal_steps(found, expected, start):
    """Compare displacements: in float64 to 1e-12, in float32 to a few roundings, in half precision to a single one."""
    for after, reference, before in zip(found[0], expected[0], start, strict=True):
        assert after.dtype == before.dtype
        assert torch.equal(after.isnan(), reference.isnan())
        way, apart = reference.double() - before.double(), after.double() - reference.double()
        ulp = torch.finfo(before.dtype).eps
        if before.dtype == torch.float64:
            allowed = 1e-12 * way.abs() + 4 * ulp * before.abs()
        elif before.dtype == torch.float32:
            allowed = 8 * ulp * (way.abs() + torch.maximum(before.double().abs(), reference.double().abs()))
        else:
            allowed = ulp * torch.maximum(before.double().abs(), reference.double().abs())
        same = after == reference  # infinities too
        assert (same | reference.isnan() | (apart.abs() <= allowed)).all(), (apart / way).abs().max()
    for kept, reference in zip(found[1], expected[1], strict=True):
        assert kept.keys() == reference.keys()
        for slot, value in kept.items():
            assert value.dtype == reference[slot].dtype
            rtol = 1e-11 if value.dtype == torch.float64 else 1e-5
            # coordinates in another basis are sums of many terms, so small ones are as exact as the largest
            atol = (
                rtol * value.nan_to_num().abs().max().item() if "row_basis" in kept and value.numel() else 1e-3 * rtol
            )
            torch.testing.assert_close(value, reference[slot], rtol=rtol, atol=atol, equal_nan=True)


def assert_executors_agree(method, start, gradients, **hyper):
    native_steps = run(method, "native", start, gradients, **hyper)
    eager_steps = run(method, "eager", start, gradients, **hyper)
    assert_equal_steps(native_steps, eager_steps, start())
    return native_steps


def test_the_parts_compared_here_are_all_that_step_alone():
    assert {"AdamW", "AdaBelief", "Muon", "SGD", "AdamP", "AdaGradNorm"} <= {m.__name__ for m in METHODS}
    for name, home in part.names().items():
        method = part.load(name)
        if home == "update" and issubclass(method, torch.optim.Optimizer) and method not in METHODS:
            assert method.needs, name  # a closure, an objective or a held-out loss


@every_method
@settings(max_examples=5)
@given(data=st.data())
def test_any_shapes_and_settings(method, data):
    shapes = [(3, 4), *data.draw(st.lists(st.sampled_from(SHAPES), max_size=12), label="shapes")]
    dtype = data.draw(st.sampled_from(DTYPES[:2]), label="dtype")
    positions = data.draw(st.lists(st.floats(0, 1), min_size=len(method.space), max_size=len(method.space)))
    flags = {"maximize": data.draw(st.booleans(), label="maximize")}
    hyper = hyper_of(method, positions, data.draw(st.sampled_from([0.0, 0.1]), label="weight decay"))
    start = [values(*shape, seed=i).to(dtype) for i, shape in enumerate(shapes)]
    steps = [[values(*shape, seed=100 * t + i).to(dtype) for i, shape in enumerate(shapes)] for t in range(1, 4)]
    assert_executors_agree(method, lambda: [p.clone() for p in start], steps, **hyper, **flags)


@every_method
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_any_memory_layout(method, dtype):
    shapes = [(3, 4), (4, 6), (2, 3, 3, 3), (2, 3, 2), (5,), ()]
    start = [values(*shape, seed=i).to(dtype) for i, shape in enumerate(shapes)] * len(LAYOUTS)
    forms = [form for form in LAYOUTS.values() for _ in shapes]
    steps = []
    for t in range(1, 7):
        step = [values(*p.shape, seed=100 * t + i).to(dtype) for i, p in enumerate(start)]
        step = [form(g) for form, g in zip(forms[t:] + forms[:t], step, strict=True)]
        step[1] = step[1][:1].expand(4, 6)  # every row the same memory, as broadcasting leaves it
        steps.append(step)
    with patch.object(native.NativeStretch, "_run", side_effect=native.NativeStretch._run) as launch:
        assert_executors_agree(
            method,
            lambda: [form(p) for form, p in zip(forms, start, strict=True)],
            steps,
            **hyper_of(method, weight_decay=0.1),
        )
    assert launch.call_count >= len(steps)


@every_method
def test_nan_and_infinity_go_the_same_way(method):
    shapes = [(3, 4), (4, 5), (6,), ()]
    start = [values(*shape, seed=i).float() for i, shape in enumerate(shapes)]
    steps = [[values(*shape, seed=100 * t + i).float() for i, shape in enumerate(shapes)] for t in range(1, 4)]
    steps[1][1][2, 3] = math.nan
    steps[1][2][:3] = torch.tensor([math.inf, -math.inf, 1e38])
    (after, _) = assert_executors_agree(method, lambda: [p.clone() for p in start], steps, **hyper_of(method))
    assert after[1].isnan().any()


@every_method
def test_threads_share_the_work_and_equal_runs_give_equal_bits(method, monkeypatch):
    shapes = [(3, 1001), (1500,), (2, 3, 170), (7,)]
    start = [values(*shape, seed=i).float() for i, shape in enumerate(shapes)]
    steps = [[values(*shape, seed=100 * t + i).float() for i, shape in enumerate(shapes)] for t in (1, 2)]
    hyper = hyper_of(method, weight_decay=0.1)
    monkeypatch.setattr(native, "ELEMENTS_PER_THREAD", 1000)
    assert sum(map(torch.numel, start)) > 4 * native.ELEMENTS_PER_THREAD

    def steps_with(executor, threads):
        return run(method, executor, lambda: [p.clone() for p in start], steps, threads=threads, **hyper)

    eager, two, again = steps_with("eager", 1), steps_with("native", 2), steps_with("native", 2)
    assert_equal_steps(two, eager, start)
    assert all(map(torch.equal, two[0], again[0]))
    for kept, kept_again in zip(two[1], again[1], strict=True):
        assert all(torch.equal(kept[slot], kept_again[slot]) for slot in kept)
    for threads in (3, 4):
        assert_equal_steps(steps_with("native", threads), eager, start)
