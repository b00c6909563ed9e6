"""Parameters that differ in learning rate and step count step together, each as it would alone."""

import copy
from dataclasses import dataclass
from typing import ClassVar

import pytest
import torch
from torch import nn

from sooner import part
from sooner.execute import fused, using
from sooner.execute.rates import Rates
from sooner.transform import Chain, Descend, Reduction, Transform, chain
from sooner.update._optimizer import ChainOptimizer

RATES = (0.1, 0.02, 0.1, 0.003, 0.05)
EXECUTORS = ("eager", "native", "inductor")
METHODS = ("adamw", "adabelief", "adamp", "diffgrad", "sgd", "sgdp", "muon", "sgd_sai", "apollo", "soap")


def parameters(dtype=torch.float64):
    made = torch.Generator().manual_seed(0)
    shapes = [(4, 3), (4, 3), (3,), (4, 3), ()]
    return [nn.Parameter(torch.randn(shape, generator=made, dtype=torch.float64).to(dtype)) for shape in shapes]


def gradients(step, params):
    """Gradients of a step; some are missing, so that step counts differ."""
    made = torch.Generator().manual_seed(step + 1)
    for i, p in enumerate(params):
        drawn = torch.randn(p.shape, generator=made, dtype=torch.float64).to(p.dtype)
        p.grad = drawn if (step + i) % 3 or step > 3 else None


def make(name, params, groups):
    method = part.load(name)
    settings = {"rank": 2} if name == "apollo" else {}
    return method(groups(params), **settings)


@pytest.mark.parametrize("executor", EXECUTORS[:2])
@pytest.mark.parametrize("name", METHODS)
@pytest.mark.filterwarnings("ignore:.*")
def test_each_parameter_steps_as_alone(name, executor):
    only = 2 if name in ("muon", "apollo", "soap") else None
    together, apart = ([p for p in parameters() if only in (None, p.ndim)] for _ in range(2))
    with using(executor):
        one = make(name, together, lambda ps: [{"params": [p], "lr": r} for p, r in zip(ps, RATES, strict=False)])
        many = [
            make(name, [p], lambda ps, rate=rate: [{"params": ps, "lr": rate}])
            for p, rate in zip(apart, RATES, strict=False)
        ]
        for step in range(8):
            gradients(step, together)
            gradients(step, apart)
            if step == 5:  # a schedule that lets two rates meet
                one.param_groups[1]["lr"] = many[1].param_groups[0]["lr"] = 0.1
            one.step()
            for optimizer in many:
                optimizer.step()
    for p, q in zip(together, apart, strict=True):
        torch.testing.assert_close(p, q, rtol=0, atol=0)


def test_rates_of_their_own_are_traced_once(monkeypatch):
    traces = []
    trace = fused.Stretch.trace
    monkeypatch.setattr(fused.Stretch, "trace", lambda self, *a: traces.append(self) or trace(self, *a))
    params = [nn.Parameter(torch.ones(3)) for _ in range(40)]
    optimizer = part.load("adamw")([{"params": [p], "lr": 0.1 / (1 + i)} for i, p in enumerate(params)])
    with using("native"):
        counts = []
        for step in range(5):
            traces.clear()
            for i, p in enumerate(params):
                p.grad = torch.ones(3) if step or i % 2 else None  # step counts differ too
            optimizer.step()
            counts.append(len(traces))
    assert counts == [1, 1, 1, 2, 0]  # once more to keep it, and then never


@dataclass(frozen=True)
class Momentum(Transform):
    """The gradient itself at a parameter's first step."""

    slots: ClassVar[tuple[str, ...]] = ("buffer",)

    def rule(self, u, state, theta, clock):
        held = u if clock.step == 1 else 0.9 * state["buffer"] + u
        return held, {"buffer": held}


@dataclass(frozen=True)
class UnitNorm(Reduction):
    """``u`` over its norm, taken over the whole model."""

    over: ClassVar[str] = "model"

    def prepare(self, u, state, theta, clock):
        return u, state, (u * u,)

    def decide(self, sums, memory, shape, clock):
        return (sums[0].sqrt(),), memory

    def finish(self, u, theta, numbers, clock):
        return u / numbers[0]


class Normalized(ChainOptimizer):
    """Momentum, then a step of a length that the whole model shares."""

    def __init__(self, params, lr=0.1):
        super().__init__(params, {"lr": lr})

    def rule(self, group) -> Chain:
        return chain(Momentum(), UnitNorm(), Descend())


@pytest.mark.parametrize("executor", EXECUTORS)
def test_what_is_left_as_it_was_reaches_a_rule_for_the_whole_model(executor):
    """At its first step a parameter's momentum is its gradient, which no program writes down."""
    params, wanted, buffers = parameters(), [p.detach().clone() for p in parameters()], {}
    optimizer = Normalized([{"params": [p], "lr": r} for p, r in zip(params, RATES, strict=True)])
    with using(executor):
        for step in range(4):
            gradients(step, params)
            for i, p in enumerate(params):
                if p.grad is not None:
                    buffers[i] = 0.9 * buffers[i] + p.grad if i in buffers else p.grad.clone()
            norm = torch.stack([buffers[i].square().sum() for i, p in enumerate(params) if p.grad is not None]).sum()
            for i, p in enumerate(params):
                if p.grad is not None:
                    wanted[i] -= RATES[i] * buffers[i] / norm.sqrt()
            optimizer.step()
            for p, w in zip(params, wanted, strict=True):
                torch.testing.assert_close(p.detach(), w, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("executor", EXECUTORS[:2])
def test_stochastic_rounding_goes_by_each_parameters_own_step(executor):
    params = parameters(torch.bfloat16)
    optimizer = part.load("adamw")(
        [{"params": [p], "lr": r} for p, r in zip(params, RATES, strict=True)], stochastic_rounding=True
    )
    other = copy.deepcopy(params)
    reference = part.load("adamw")(
        [{"params": [p], "lr": r} for p, r in zip(other, RATES, strict=True)], stochastic_rounding=True
    )
    for step in range(6):
        gradients(step, params)
        gradients(step, other)
        with using(executor):
            optimizer.step()
        with using("eager"):
            reference.step()
    for p, q in zip(params, other, strict=True):
        torch.testing.assert_close(p, q, rtol=0, atol=0)


def test_several_numbers_refuse_what_has_no_single_answer():
    several = Rates([0.1, 0.2])
    assert (1 - several * 2).values == [1 - 0.1 * 2, 1 - 0.2 * 2]
    assert (0.9**several / several).values == [0.9**0.1 / 0.1, 0.9**0.2 / 0.2]
    for question in (
        lambda: several == 0.1,
        lambda: several > 0.1,
        lambda: bool(several),
        lambda: float(several),
        lambda: several * torch.ones(2),
        lambda: torch.ones(2) * several,
        lambda: torch.full((2,), several),
    ):
        with pytest.raises(TypeError):
            question()
