"""Small rules for the tests of executors, and an optimizer that runs any chain of them."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import nn

from sooner.execute import using
from sooner.transform import Descend, Grain, Quantity, Reduction, Scope, Transform, chain
from sooner.update._optimizer import ChainOptimizer


class Toy(ChainOptimizer):
    """Runs ``rules(group)`` and then descends."""

    def __init__(self, params: Any, rules: Callable[[dict[str, Any]], tuple[Transform, ...]], lr: Any = 1.0, **hyper):
        self.rules = rules
        options = {name: hyper.pop(name) for name in ("maximize", "non_finite") if name in hyper}
        super().__init__(params, {"lr": lr, **hyper}, **options)

    def rule(self, group):
        return chain(*self.rules(group), Descend())


@dataclass(frozen=True)
class Apply(Transform):
    """``u <- function(u, theta)``, element by element."""

    function: Callable[..., Any]
    reads_theta: ClassVar[bool] = True

    def rule(self, u, state, theta, clock):
        return self.function(u, theta), state


@dataclass(frozen=True)
class Keep(Transform):
    """Keeps every ``function(u, theta)`` as state of its own and leaves u alone."""

    functions: tuple[Callable[..., Any], ...]
    reads_theta: ClassVar[bool] = True

    @property
    def slots(self):
        return tuple(f"kept{i}" for i in range(len(self.functions)))

    def rule(self, u, state, theta, clock):
        return u, {slot: function(u, theta) for slot, function in zip(self.slots, self.functions, strict=True)}


@dataclass(frozen=True)
class Average(Transform):
    """A running mean of u."""

    beta: float
    slots: ClassVar[tuple[str, ...]] = ("mean",)

    def rule(self, u, state, theta, clock):
        mean = self.beta * state["mean"] + (1 - self.beta) * u
        return mean, {"mean": mean}


@dataclass(frozen=True)
class Lengths(Reduction):
    """Divides u by the longest length so far and adds its cosine with theta, with sums over rows, in three forms."""

    scale: float
    slots: ClassVar[tuple[str, ...]] = ("previous",)
    memory: ClassVar[tuple[str, ...]] = ("longest", "calls")
    reads_theta: ClassVar[bool] = True

    def prepare(self, u, state, theta, clock):
        u = u + 0.5 * state["previous"]
        return u, {"previous": u}, (u * u, u * theta, theta * theta)

    def decide(self, sums, memory, shape, clock):
        uu, ut, tt = sums
        total = uu.sum(1) if uu.ndim == 2 else uu
        longest = torch.maximum(memory["longest"], total)
        cosine = ut / ((uu * tt).sqrt() + 1e-9)
        length = longest.sqrt() + memory["calls"] + 1e-3 * len(shape)
        return (self.scale / (length + 1e-9), cosine), {"longest": longest, "calls": memory["calls"] + 1}

    def finish(self, u, theta, numbers, clock):
        inverse, cosine = numbers
        return inverse * u + cosine * theta


@dataclass(frozen=True)
class RowLengths(Lengths):
    over: ClassVar[Scope] = "row"


@dataclass(frozen=True)
class ModelLengths(Lengths):
    over: ClassVar[Scope] = "model"


@dataclass(frozen=True)
class UnitRows(Reduction):
    """Divides every row by its length; keeps nothing."""

    over: ClassVar[Scope] = "row"

    def prepare(self, u, state, theta, clock):
        return u, state, (u * u,)

    def decide(self, sums, memory, shape, clock):
        return (1 / (sums[0].sqrt() + 1e-9),), memory

    def finish(self, u, theta, numbers, clock):
        return u * numbers[0]


@dataclass(frozen=True)
class Clip(Reduction):
    """Divides u by the norm of the whole model where that is above `limit`."""

    limit: float
    over: ClassVar[Scope] = "model"

    def prepare(self, u, state, theta, clock):
        return u, state, (u * u,)

    def decide(self, sums, memory, shape, clock):
        return ((self.limit / sums[0].sqrt()).clamp(max=1.0),), memory

    def finish(self, u, theta, numbers, clock):
        return u * numbers[0]


@dataclass(frozen=True)
class Fading(Reduction):
    """Shrinks u by a factor that it keeps per parameter; nothing is added up."""

    factor: float
    memory: ClassVar[tuple[str, ...]] = ("faded",)

    def prepare(self, u, state, theta, clock):
        return u + 1.0, state, ()

    def decide(self, sums, memory, shape, clock):
        faded = memory["faded"] + self.factor
        return (1 / (1 + faded),), {"faded": faded}

    def finish(self, u, theta, numbers, clock):
        return u * numbers[0]


@dataclass(frozen=True)
class ModelFading(Fading):
    over: ClassVar[Scope] = "model"


@dataclass(frozen=True)
class Recalling(Reduction):
    """Keeps a mean whose weight is one over the number of its steps, which the memory counts; nothing is added up."""

    scale: float
    slots: ClassVar[tuple[str, ...]] = ("recalled_mean",)
    memory: ClassVar[tuple[str, ...]] = ("counted",)
    recalls: ClassVar[tuple[str, ...]] = ("share", "counted_so_far")

    def recall(self, memory, clock):
        return {"share": self.scale / (memory["counted"] + 1), "counted_so_far": memory["counted"]}

    def prepare(self, u, state, theta, clock):
        mean = state["recalled_mean"] + state["share"] * (u - state["recalled_mean"])
        return mean + state["counted_so_far"] * u, {"recalled_mean": mean}, ()

    def decide(self, sums, memory, shape, clock):
        return (), {"counted": memory["counted"] + 1}

    def finish(self, u, theta, numbers, clock):
        return u


@dataclass(frozen=True)
class ModelRecalling(Recalling):
    """The same for the whole model, where what is counted is the sum of all magnitudes so far."""

    over: ClassVar[Scope] = "model"

    def prepare(self, u, state, theta, clock):
        u, after, _ = super().prepare(u, state, theta, clock)
        return u, after, (after["recalled_mean"].abs(),)

    def decide(self, sums, memory, shape, clock):
        return (1 / (1 + sums[0]),), {"counted": memory["counted"] + sums[0]}

    def finish(self, u, theta, numbers, clock):
        return u * numbers[0]


@dataclass(frozen=True)
class Median(Quantity):
    """Limits u to the median of its magnitudes in the whole model, averaged over the steps."""

    memory: ClassVar[tuple[str, ...]] = ("median",)

    def look(self, updates, clock):
        return (torch.cat([u.double() for u in updates]).abs().median(),)

    def decide(self, sums, memory, shape, clock):
        median = 0.5 * memory["median"] + 0.5 * sums[0]
        return (median,), {"median": median}

    def finish(self, u, theta, numbers, clock):
        return torch.minimum(torch.maximum(u, -numbers[0]), numbers[0])


@dataclass(frozen=True)
class Centre(Transform):
    """A tensor rule: takes the mean off every parameter, and counts in a state of its own shape."""

    grain: ClassVar[Grain] = "tensor"
    slots: ClassVar[tuple[str, ...]] = ("seen",)

    def slot_shape(self, slot, shape):
        return (2,)

    def rule(self, u, state, theta, clock):
        flat = u.flatten(1) if u.ndim > 1 else u[:, None]
        return u - flat.mean(1).view(-1, *[1] * (u.ndim - 1)), {"seen": state["seen"] + 1}


def parameters(shapes, dtype=torch.float64, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return [nn.Parameter(torch.randn(s, generator=generator, dtype=torch.float64).to(dtype)) for s in shapes]


def give_gradients(params, step):
    generator = torch.Generator().manual_seed(1000 + step)
    for p in params:
        p.grad = torch.randn(p.shape, generator=generator, dtype=torch.float64).to(p.dtype)


def stepped(executor, optimizer, params, steps, before_step=lambda step: None):
    """Step with this executor; return parameters and state, in the order of the parameters."""
    for step in range(1, steps + 1):
        give_gradients(params, step)
        before_step(step)
        with using(executor):
            optimizer.step()
    return [p.detach() for p in params], [dict(optimizer.state[p]) for p in params]


def assert_same(found, expected, rtol, atol=0.0):
    """Compare what `stepped` returned, NaN for NaN."""
    for a, b in zip(found[0], expected[0], strict=True):
        torch.testing.assert_close(a, b, rtol=rtol, atol=atol, equal_nan=True)
    for a, b in zip(found[1], expected[1], strict=True):
        assert a.keys() == b.keys()
        for slot in a:
            torch.testing.assert_close(a[slot], b[slot], rtol=rtol, atol=atol, equal_nan=True)
