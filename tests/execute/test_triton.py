"""Triton kernels, run by Triton's interpreter, take the steps of the reference, whatever shapes, dtypes and layouts."""

from unittest.mock import patch

import pytest
import torch
from test_native import LAYOUTS, METHODS, assert_equal_steps, hyper_of, values
from torch import nn
from toys import Average, Clip, Fading, RowLengths, Toy, UnitRows, parameters, stepped

from sooner import update
from sooner.execute import fused, tables, using
from sooner.execute import triton as ours

pytest.importorskip("triton")
pytestmark = pytest.mark.filterwarnings("ignore::RuntimeWarning:triton.runtime.interpreter")  # numpy's, of NaN and 0 / 0

SHAPES = [(), (0,), (1,), (3, 2), (0, 2), (2, 1, 3, 3), (32,), (7, 11)]
"""With blocks of 32: one that is a block, and one that is more than two, and no multiple of one."""

DTYPES = [torch.float32, torch.bfloat16]
EVERY = [(m, d) for m in METHODS for d in DTYPES] + [
    (m, d) for m in METHODS if m in (update.AdamW, update.AdamP) for d in (torch.float64, torch.float16)
]


@pytest.fixture(autouse=True)
def _interpreted(monkeypatch):
    monkeypatch.setenv("TRITON_INTERPRET", "1")
    monkeypatch.setattr(tables, "BLOCK", 32)


@pytest.fixture
def nothing_else(monkeypatch):
    """To fall back to the eager executor is an error."""

    def complain(rules, error):
        raise AssertionError(f"{', '.join(type(rule).__name__ for rule in rules)} run eagerly: {error}")

    monkeypatch.setattr(fused, "_say", complain)


def steps(start, count, forms=()):
    made = [[values(*p.shape, seed=100 * t + i).to(p.dtype) for i, p in enumerate(start)] for t in range(count)]
    return [[form(g) for form, g in zip(forms, step, strict=True)] for step in made] if forms else made


def run(method, executor, start, gradients, **hyper):
    params = [nn.Parameter(p.clone()) for p in start]
    optimizer = method(params, **hyper)
    for step in gradients:
        for p, g in zip(params, step, strict=True):
            p.grad = g
        with using(executor):
            optimizer.step()
    return [p.detach() for p in params], [dict(optimizer.state[p]) for p in params]


@pytest.mark.parametrize(("method", "dtype"), EVERY, ids=lambda one: getattr(one, "__name__", str(one)))
def test_every_method_takes_the_steps_of_the_reference(method, dtype, nothing_else):
    start = [values(*shape, seed=i).to(dtype) for i, shape in enumerate(SHAPES)]
    hyper = hyper_of(method, weight_decay=0.1)
    found, expected = (run(method, executor, start, steps(start, 3), **hyper) for executor in ("triton", "eager"))
    assert_equal_steps(found, expected, start)
