"""What is traced and compiled computes what PyTorch computes, and what can't be traced runs all the same."""

import functools
import itertools
import math

import numpy as np
import pytest
import torch
from torch import nn
from toys import (
    Apply,
    Average,
    Centre,
    Clip,
    Fading,
    Keep,
    Lengths,
    Median,
    ModelFading,
    ModelLengths,
    ModelRecalling,
    Recalling,
    RowLengths,
    Toy,
    UnitRows,
    assert_same,
    give_gradients,
    parameters,
    stepped,
)  # fmt: skip

from sooner.execute import native, using
from sooner.execute.expression import BINARY, UNARY, Program, Symbol, UntraceableError

SHAPES = [(3, 4), (5,), (), (3, 4), (2, 3, 2), (0,), (0, 3), (3, 0), (1,), (7, 1)]

EXACT = {
    "add": [lambda u, t: u + t, lambda u, t: torch.add(u, t), lambda u, t: u.add(2.0), lambda u, t: 2.0 + u],
    "sub": [lambda u, t: u - t, lambda u, t: torch.sub(u, t), lambda u, t: 0.1 - u, lambda u, t: u.sub(0.1)],
    "mul": [lambda u, t: u * t, lambda u, t: torch.mul(u, t), lambda u, t: -0.3 * u, lambda u, t: u.mul(u)],
    "div": [lambda u, t: u / t, lambda u, t: torch.div(u, t), lambda u, t: u / 0.3, lambda u, t: u.div(t)],
    "neg": [lambda u, t: -u, lambda u, t: torch.neg(u), lambda u, t: u.neg()],
    "abs": [lambda u, t: abs(u), lambda u, t: torch.abs(u), lambda u, t: u.abs()],
    "sqrt": [lambda u, t: u.sqrt(), lambda u, t: torch.sqrt(u.abs())],
    "rsqrt": [lambda u, t: u.rsqrt(), lambda u, t: torch.rsqrt(u)],
    "square": [lambda u, t: u.square(), lambda u, t: torch.square(u), lambda u, t: u**2],
    "reciprocal": [lambda u, t: u.reciprocal(), lambda u, t: 1 / u, lambda u, t: 0.7 / u],
    "sign": [lambda u, t: u.sign(), lambda u, t: torch.sign(u)],
    "isfinite": [lambda u, t: u.isfinite(), lambda u, t: torch.isfinite(u)],
    "maximum": [lambda u, t: u.maximum(t), lambda u, t: torch.maximum(u, t), lambda u, t: u.clamp_min(0.5)],
    "minimum": [
        lambda u, t: u.minimum(t),
        lambda u, t: torch.minimum(u, t),
        lambda u, t: u.clamp_max(0.5),
        lambda u, t: u.clamp(-1.0, 1.0),
        lambda u, t: torch.clamp(u, min=-1.0, max=1.0),
        lambda u, t: torch.clamp(u, max=2.0),
    ],
    "lt": [lambda u, t: u < t, lambda u, t: torch.lt(u, t), lambda u, t: u.lt(0.5), lambda u, t: u < 0.5],
    "le": [lambda u, t: u <= t, lambda u, t: torch.le(u, t), lambda u, t: u.le(0.5), lambda u, t: u <= 0.5],
    "gt": [lambda u, t: u > t, lambda u, t: torch.gt(u, t), lambda u, t: u.gt(0.5), lambda u, t: u > 0.5],
    "ge": [lambda u, t: u >= t, lambda u, t: torch.ge(u, t), lambda u, t: u.ge(0.5), lambda u, t: u >= 0.5],
    "eq": [lambda u, t: u == t, lambda u, t: torch.eq(u, t), lambda u, t: u.eq(1.0), lambda u, t: u == 1.0],
    "ne": [lambda u, t: u != t, lambda u, t: torch.ne(u, t), lambda u, t: u.ne(1.0), lambda u, t: u != 1.0],
    "logical_and": [
        lambda u, t: u.logical_and(t),
        lambda u, t: (u > 0) & (t > 0),
        lambda u, t: torch.logical_and(u, t),
    ],
    "logical_or": [lambda u, t: u.logical_or(t), lambda u, t: (u > 0) | (t > 0), lambda u, t: torch.logical_or(u, t)],
    "logical_not": [lambda u, t: u.logical_not(), lambda u, t: ~(u > t), lambda u, t: torch.logical_not(u)],
    "where": [
        lambda u, t: torch.where(u > t, u, t),
        lambda u, t: u.where(t > 0, 2 * t),
        lambda u, t: torch.where(u == t, u, 0.0),
    ],
}
NEARLY = {
    "exp": [lambda u, t: u.exp(), lambda u, t: torch.exp(-u)],
    "sigmoid": [lambda u, t: u.sigmoid(), lambda u, t: torch.sigmoid(u * t)],
}
TOUCHY = [
    lambda u, t: torch.tensor(0.3) * u,
    lambda u, t: u / torch.tensor(3.0, dtype=torch.float64),
    lambda u, t: torch.tensor(2.0) - u,
    lambda u, t: torch.tensor(2.0) / u,
]
"""0-d tensors among the operands."""


def awkward(dtype):
    """Every pair of the numbers that go wrong, as two vectors."""
    limits = torch.finfo(dtype)
    magnitudes = [math.nan, math.inf, 0.0, 1.0, 0.5, 3.7, 1e-3, 88.0, limits.max, limits.tiny, limits.tiny / 8]
    numbers = [sign * x for x in magnitudes for sign in (1, -1)]
    pairs = torch.tensor(list(itertools.product(numbers, numbers)), dtype=dtype)
    return pairs[:, 0].contiguous(), pairs[:, 1].contiguous()


FORMS = {**EXACT, **NEARLY, "0-d tensors": TOUCHY}


@functools.cache
def by_torch_and_compiled(dtype):
    """Return (result of torch, result of the compiled program) for every form of every operation."""
    u, theta = awkward(dtype)
    functions = tuple(form for forms in FORMS.values() for form in forms)
    kept = []
    for executor in ("eager", "native"):
        p = nn.Parameter(theta.clone())
        p.grad = u.clone()
        optimizer = Toy([p], lambda group: (Keep(functions),), lr=0.0)
        with using(executor):
            optimizer.step()
        kept.append([optimizer.state[p][f"kept{i}"] for i in range(len(functions))])
        torch.testing.assert_close(p.grad, u, rtol=0, atol=0, equal_nan=True)
    pairs = iter(zip(*kept, strict=True))
    return {name: [next(pairs) for _ in forms] for name, forms in FORMS.items()}


def test_every_operation_of_the_list_is_compared_here():
    assert {*EXACT, *NEARLY} == {*UNARY, *BINARY, "where"}
    for name, forms in {**EXACT, **NEARLY}.items():
        for form in forms:
            program = Program()
            form(program.input("update"), program.input("theta"))
            assert name in [line[0] for line in program.lines]


class Ieee:
    """An array whose roots and quotients are IEEE's, as numpy's and C's are on every processor.

    PyTorch's roots are not: where MKL computes them, as with AVX-512-FP16, the last bit may be another.
    """

    OPERATIONS = ("sqrt", "rsqrt", "div", "reciprocal")

    def __init__(self, array):
        self.array = array

    @classmethod
    def __torch_function__(cls, function, types, args=(), kwargs=None):
        return getattr(args[0], function.__name__)(*args[1:])

    def sqrt(self):
        return Ieee(np.sqrt(self.array))

    def rsqrt(self):
        return 1 / self.sqrt()

    def abs(self):
        return Ieee(np.abs(self.array))

    def div(self, other):
        return Ieee(self.array / getattr(other, "array", other))

    def reciprocal(self):
        return Ieee(1 / self.array)

    def __rtruediv__(self, number):
        return Ieee(number * self.reciprocal().array)  # as a tensor does it

    __truediv__ = div


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("name", [*EXACT, "0-d tensors"])
def test_a_compiled_operation_is_ieees_and_torchs_to_the_last_bit(name, dtype):
    u, theta = (Ieee(t.numpy()) for t in awkward(dtype))
    for form, (expected, found) in zip(FORMS[name], by_torch_and_compiled(dtype)[name], strict=True):
        if name in Ieee.OPERATIONS:
            torch.testing.assert_close(found, expected, rtol=4 * torch.finfo(dtype).eps, atol=0, equal_nan=True)
            with np.errstate(all="ignore"):
                expected = torch.from_numpy(form(u, theta).array)
        torch.testing.assert_close(found, expected, rtol=0, atol=0, equal_nan=True)
        if name not in ("maximum", "minimum"):  # of 0 and -0 either may be the larger
            signs = expected.signbit() == found.signbit()
            assert signs[~expected.isnan()].all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("name", NEARLY)
def test_a_compiled_function_is_torchs_to_a_few_ulp(name, dtype):
    limits = torch.finfo(dtype)
    for expected, found in by_torch_and_compiled(dtype)[name]:
        torch.testing.assert_close(found, expected, rtol=4 * limits.eps, atol=4 * limits.tiny, equal_nan=True)


def test_all_of_them_are_compiled(run_eagerly):
    by_torch_and_compiled.cache_clear()
    assert by_torch_and_compiled(torch.float32)
    assert run_eagerly() == []


# what can't be traced

OUTSIDE = torch.arange(1.0, 7.0, dtype=torch.float64)


def branches(u, theta):
    return u if u.abs().max() > 1 else 2 * u


def branches_on_an_element(u, theta):
    return u if (u > 0).all() else -u


UNTRACEABLE = {
    "a method": lambda u, t: u.tanh(),
    "a function": lambda u, t: torch.tanh(u),
    "a reduction": lambda u, t: u / u.norm(),
    "a scan": lambda u, t: torch.cumsum(u, 0),
    "a decision": branches,
    "another decision": branches_on_an_element,
    "a vector from outside": lambda u, t: u * OUTSIDE,
    "a vector from outside, first": lambda u, t: OUTSIDE - u,
    "a vector from outside in clamp": lambda u, t: torch.clamp(OUTSIDE, u, u + 1),
    "a keyword": lambda u, t: u.add(t, alpha=2),
    "a keyword of a function": lambda u, t: torch.sub(u, t, alpha=2),
    "a rounding mode": lambda u, t: u.div(0.3, rounding_mode="floor"),
    "a third power": lambda u, t: u**3,
    "a power": lambda u, t: u.pow(2),
    "a power of two": lambda u, t: 2**u,
    "a power of itself": lambda u, t: u.abs() ** u,
    "a remainder": lambda u, t: u % 0.3,
    "a whole quotient": lambda u, t: u // 0.3,
    "an index": lambda u, t: u * (u[...] > 0),
    "a length": lambda u, t: u * len(u),
    "a loop": lambda u, t: torch.stack([2 * x for x in u]),
    "a number": lambda u, t: u * float(u.sum()),
    "its shape": lambda u, t: u * u.shape[0],
    "a new vector": lambda u, t: u + torch.ones_like(u),
    "a product": lambda u, t: (u @ t) * u,
}


@pytest.mark.parametrize("function", UNTRACEABLE.values(), ids=UNTRACEABLE)
def test_what_is_not_an_element_operation_runs_eagerly(function, run_eagerly):
    results = []
    for executor in ("eager", "native"):
        params = parameters([(6,)])
        optimizer = Toy(params, lambda group: (Average(0.5), Apply(function), Fading(0.5)), lr=0.1)
        results.append(stepped(executor, optimizer, params, 3))
    assert_same(*results, rtol=1e-14)
    assert len(run_eagerly()) == 1
    assert run_eagerly()[0].startswith("Average, Apply, Fading, Descend run eagerly: ")


def test_a_symbol_belongs_to_one_program():
    program, other = Program(), Program()
    with pytest.raises(UntraceableError):
        program.input("update") + other.input("update")
    with pytest.raises(UntraceableError):
        torch.where(program.input("update") > 0)
    with pytest.raises(AttributeError):
        program.input("update").__wrapped__
    assert isinstance(torch.where(program.input("update") > 0, 1.0, 0.0), Symbol)


def test_programs_differ_by_what_they_compute_and_not_by_their_numbers():
    def traced(function):
        program = Program()
        program.outputs["update"] = program.operand(function(program.input("update"), program.input("theta")))
        return program

    assert traced(lambda u, t: 0.1 * u + t).key() == traced(lambda u, t: 7 * u + t).key()
    assert traced(lambda u, t: 0.1 * u + t).key() != traced(lambda u, t: 0.1 * u - t).key()
    assert traced(lambda u, t: 0.1 * u).key() != traced(lambda u, t: 0.1 * t).key()
    again = Program.from_key(traced(lambda u, t: 0.1 * u + t).key())
    assert again.numbers == [0.0]
    assert again.key() == traced(lambda u, t: 0.1 * u + t).key()


def test_a_schedule_of_numbers_compiles_once(monkeypatch):
    compiled = []
    original = native.load
    monkeypatch.setattr(native, "load", lambda source: compiled.append(source) or original(source))
    native._compiled.cache_clear()
    params = parameters([(3, 4), (5,)])
    optimizer = Toy(params, lambda group: (Average(group["beta"]), Clip(group["beta"])), beta=0.9)

    def schedule(step):
        (group,) = optimizer.param_groups
        rate = 0.1 / step
        group.update(lr=[rate, torch.tensor(rate), 1, 0][step % 4], beta=1 - 0.5**step)

    stepped("native", optimizer, params, 12, schedule)
    assert len(compiled) == 2  # up to the norm, and from it on
    assert len(set(compiled)) == 2


# reductions

EVERY_CHAIN = {
    "row": lambda group: (RowLengths(group["scale"]),),
    "parameter": lambda group: (Lengths(group["scale"]),),
    "model": lambda group: (ModelLengths(group["scale"]),),
    "between element rules": lambda group: (Average(0.9), RowLengths(group["scale"]), Apply(lambda u, t: u + 0.1 * t)),
    "two in a row": lambda group: (Lengths(group["scale"]), UnitRows()),
    "two in a row, rows first": lambda group: (UnitRows(), Lengths(group["scale"])),
    "three in a row": lambda group: (UnitRows(), Clip(group["scale"]), Lengths(group["scale"])),
    "nothing to add up": lambda group: (Average(0.5), Fading(group["scale"]), Apply(lambda u, t: u - t)),
    "nothing to add up in the model": lambda group: (ModelFading(group["scale"]),),
    "nothing to add up, then a sum": lambda group: (Fading(group["scale"]), RowLengths(1.0)),
    "a sum, then nothing to add up": lambda group: (Clip(group["scale"]), Fading(1.0)),
    "recalled": lambda group: (Average(0.5), Recalling(group["scale"]), Apply(lambda u, t: u - t)),
    "recalled, then a sum": lambda group: (Recalling(group["scale"]), RowLengths(1.0)),
    "a sum, then recalled": lambda group: (Clip(group["scale"]), Recalling(1.0)),
    "recalled in the model": lambda group: (ModelRecalling(group["scale"]), Average(0.5)),
    "recalled behind a tensor rule": lambda group: (Centre(), ModelRecalling(group["scale"])),
    "a quantity": lambda group: (Average(0.5), Median()),
    "a quantity first": lambda group: (Median(), Clip(group["scale"])),
    "a quantity behind a sum": lambda group: (RowLengths(group["scale"]), Median()),
    "a tensor rule behind a sum": lambda group: (RowLengths(group["scale"]), Centre(), Average(0.5)),
    "a sum behind a tensor rule": lambda group: (Centre(), Lengths(group["scale"])),
    "a tensor rule between sums": lambda group: (Clip(group["scale"]), Centre(), UnitRows()),
    "a quantity behind a tensor rule": lambda group: (Centre(), Median()),
}
every_chain = pytest.mark.parametrize("rules", EVERY_CHAIN.values(), ids=EVERY_CHAIN)


@every_chain
@pytest.mark.parametrize("maximize", [False, True])
def test_sums_are_the_same_compiled(rules, maximize, run_eagerly):
    results = []
    for executor in ("eager", "native"):
        params = parameters(SHAPES)
        optimizer = Toy(params, rules, lr=0.1, scale=0.7, maximize=maximize)
        results.append(stepped(executor, optimizer, params, 3))
    assert_same(*results, rtol=1e-12, atol=1e-14)
    assert run_eagerly() == []


@every_chain
def test_groups_and_precisions_share_what_belongs_to_the_model(rules):
    results = []
    for executor in ("eager", "native"):
        params = [*parameters([(3, 4), (5,), (2, 2)]), *parameters([(3, 4), (3,)], torch.float32)]
        groups = [{"params": params[:2]}, {"params": params[2:], "scale": 2.0, "lr": torch.tensor(0.3)}]
        optimizer = Toy(groups, rules, lr=0.1, scale=0.7)
        results.append(stepped(executor, optimizer, params, 3))
    assert_same(*results, rtol=1e-5, atol=1e-6)


def test_memory_is_kept_once_where_a_rule_behind_it_turns_out_to_run_eagerly(run_eagerly):
    results = []
    for executor in ("eager", "native"):
        params = parameters([(6,), (2, 3)])
        rules = (Fading(0.5), Recalling(1.0), Apply(lambda u, t: u * len(u)))
        results.append(stepped(executor, Toy(params, lambda group, rules=rules: rules, lr=0.1), params, 3))
    assert_same(*results, rtol=1e-14)
    assert len(run_eagerly()) == 1


def test_a_model_wide_number_sees_every_group():
    params = parameters([(3,), (4,)])
    groups = [{"params": params[:1]}, {"params": params[1:], "lr": 0.5}]
    optimizer = Toy(groups, lambda group: (Clip(1.0),), lr=1.0)
    before = [p.detach().clone() for p in params]
    stepped("native", optimizer, params, 1)
    norm = torch.cat([p.grad for p in params]).norm()
    for p, q, rate in zip(params, before, (1.0, 0.5), strict=True):
        torch.testing.assert_close(p.detach(), q - rate * p.grad / norm)


@every_chain
@pytest.mark.parametrize("shapes", [[(0,)], [(0, 3), (3, 0)], [(0,), (2, 0, 2)]])
def test_nothing_but_empty_parameters_is_no_trouble(rules, shapes):
    if rules in (EVERY_CHAIN[name] for name in EVERY_CHAIN if "quantity" in name):
        shapes = [*shapes, (1,)]  # the median of nothing is nothing
    params = parameters(shapes)
    optimizer = Toy(params, rules, scale=0.7)
    found = stepped("native", optimizer, params, 2)
    assert [tuple(p.shape) for p in found[0]] == [*shapes]
    assert all(kept["step"] == 2 for kept in found[1])


@every_chain
def test_nan_and_infinity_reach_the_same_elements(rules):
    results = []
    for executor in ("eager", "native"):
        params = parameters([(3, 4), (5,), (2, 2)])
        optimizer = Toy(params, rules, lr=0.1, scale=0.7)

        def spoil(step, params=params):
            if step == 2:
                params[0].grad[1, 2] = math.nan
                params[1].grad[3] = math.inf

        results.append(stepped(executor, optimizer, params, 3, spoil))
    assert_same(*results, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("over", [Lengths, RowLengths, ModelLengths])
def test_gradients_that_come_and_go_keep_the_memory_of_each(over):
    results = []
    for executor in ("eager", "native"):
        params = parameters([(3, 4), (3, 4), (5,)])
        optimizer = Toy(params, lambda group: (over(0.7),), lr=0.1)

        def leave_out(step, params=params):
            params[step % 3].grad = None

        for step in range(1, 6):
            give_gradients(params, step)
            leave_out(step)
            with using(executor):
                optimizer.step()
        results.append(([p.detach() for p in params], [dict(optimizer.state[p]) for p in params]))
    assert_same(*results, rtol=1e-12, atol=1e-14)


def test_half_precision_is_added_up_in_full(run_eagerly):
    results = []
    for executor in ("eager", "native"):
        params = parameters([(3, 40), (50,)], torch.bfloat16)
        optimizer = Toy(params, EVERY_CHAIN["two in a row"], lr=0.1, scale=0.7)
        results.append(stepped(executor, optimizer, params, 3))
    (found, kept), (expected, _) = results
    assert run_eagerly() == []
    assert all(state["previous"].dtype == torch.float32 for state in kept)
    for a, b in zip(found, expected, strict=True):
        torch.testing.assert_close(a, b, rtol=2**-7, atol=1e-6)
        assert (a == b).double().mean() > 0.97


@functools.cache
def long_rows():
    return [torch.randn(*shape, dtype=torch.float64) for shape in [(3, 30_001), (90_000,), (2, 3, 7_000), (5,)]]


@pytest.mark.parametrize("threads", [1, 2, 3])
@pytest.mark.parametrize("name", ["row", "parameter", "model", "two in a row, rows first"])
def test_threads_share_rows_and_equal_runs_give_equal_bits(threads, name):
    results = []
    torch.set_num_threads(threads)
    try:
        for executor in ("eager", "native", "native"):
            params = [nn.Parameter(w.clone()) for w in long_rows()]
            optimizer = Toy(params, EVERY_CHAIN[name], lr=0.1, scale=0.7)
            for step in (1, 2):
                for p, w in zip(params, long_rows(), strict=True):
                    p.grad = (step * w).cos()
                with using(executor):
                    optimizer.step()
            results.append(([p.detach() for p in params], [dict(optimizer.state[p]) for p in params]))
    finally:
        torch.set_num_threads(1)
    eager, first, second = results
    assert_same(first, eager, rtol=1e-11, atol=1e-12)
    assert_same(second, first, rtol=0)
