"""Coordinate-wise clipping: cut off the few largest entries of the gradient, which make plain descent zigzag.

    g_j <- sign(g_j) * min(|g_j|, tau),   tau fixed, or such that a fraction q of the entries that are not 0 is cut

Use it when few coordinates dominate, as with SGD on Transformers; raise the learning rate with it.

Leave it when AdaBelief follows: clipped gradients have no variance left.

It costs a quantile of the gradients per step (from a sample), or nothing with a fixed limit; no state; nothing on the
wire.

Pan and Li, 2023, arXiv 2306.00204, algorithm 1; they clip about a tenth for SGD and about half for adaptive methods.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal, NamedTuple

import torch
from torch import Tensor
from torch.optim import Optimizer

from sooner.error import SoonerError
from sooner.gradient._gradient import GradientPart
from sooner.part import check_range
from sooner.space import Knob, Log
from sooner.transform import Clock, Grain, Quantity, State, Transform

SAMPLE = 2**15
"""Entries that a threshold is estimated from; the cut fraction then has a standard error of at most 0.3 points."""


@dataclass(frozen=True)
class ClampFixed(Transform):
    """Cuts every entry at a fixed magnitude."""

    value: float

    def rule(self, u: Tensor, state: State, theta: Tensor | None, clock: Clock) -> tuple[Tensor, State]:
        """Clamp to ``[-value, value]``."""
        return u.clamp(-self.value, self.value), state


@dataclass(frozen=True)
class ClampFraction(Quantity):
    """Cuts a fraction of all entries of the model, at one threshold."""

    fraction: float
    refresh: int

    def look(self, updates: Sequence[Tensor], clock: Clock) -> tuple[Tensor, ...]:
        """Return the threshold, from all entries or from a random subset that changes every `refresh` steps."""
        total = sum(u.numel() for u in updates)
        share = min(1.0, SAMPLE / max(total, 1))
        seen = [_sampled(u.view(1, -1), share, clock.step // self.refresh, i) for i, u in enumerate(updates)]
        together = torch.cat([one.to(seen[0]) for one in seen], 1)
        return (threshold(together, self.fraction)[0],)

    def decide(
        self, sums: tuple[Tensor, ...], memory: State, shape: tuple[int, ...], clock: Clock
    ) -> tuple[tuple[Tensor, ...], State]:
        """Pass the threshold on."""
        return sums, memory

    def finish(self, u: Tensor, theta: Tensor | None, numbers: tuple[Tensor, ...], clock: Clock) -> Tensor:
        """Clamp to plus and minus the threshold."""
        return torch.minimum(torch.maximum(u, -numbers[0]), numbers[0])


@dataclass(frozen=True)
class ClampFractionEach(Transform):
    """Cuts the same fraction of the entries of every parameter, each at its own threshold."""

    fraction: float
    refresh: int
    grain: ClassVar[Grain] = "tensor"

    def rule(self, u: Tensor, state: State, theta: Tensor | None, clock: Clock) -> tuple[Tensor, State]:
        """Clamp a stack ``[n, *shape]``."""
        flat = u.reshape(len(u), -1)
        share = min(1.0, SAMPLE / max(flat.shape[1], 1))
        seen = _sampled(flat, share, clock.step // self.refresh, 0)
        tau = threshold(seen, self.fraction).view(-1, *[1] * (u.ndim - 1))
        return torch.minimum(torch.maximum(u, -tau), tau), state


def threshold(entries: Tensor, fraction: float) -> Tensor:
    """Return the magnitude that `fraction` of the entries that are not 0 exceed, for every row.

    Entries of exactly 0 do not count: rows of an embedding that the batch does not use would make the threshold 0.

    Args:
        entries: ``[n, m]``.
        fraction: in [0, 1]; 0 gives infinity.

    Returns:
        Thresholds ``[n]``.
    """
    rows, length = entries.shape
    if fraction == 0 or length == 0:
        return entries.new_full((rows,), math.inf)
    magnitude = entries.abs()
    largest = magnitude.topk(min(length, math.floor(fraction * length) + 1), 1).values
    count = (magnitude > 0).sum(1, keepdim=True)
    exceeding = (fraction * count).long().minimum(count - 1).clamp(0, largest.shape[1] - 1)
    return largest.gather(1, exceeding).squeeze(1)


def _sampled(entries: Tensor, share: float, era: int, number: int) -> Tensor:
    """Return a share of the columns of ``[n, m]``, the same ones throughout an era."""
    if share == 1:
        return entries
    length = entries.shape[1]
    return entries.index_select(1, _columns(length, math.ceil(share * length), era, number, str(entries.device)))


@functools.lru_cache(maxsize=16)
def _columns(length: int, count: int, era: int, number: int, device: str) -> Tensor:
    generator = torch.Generator().manual_seed(1000 * era + number)
    return torch.randint(length, (count,), generator=generator).sort().values.to(device)


class ClipValue(GradientPart):
    """Clipping of single entries of the gradient.

    Raw gradients are clipped, before any momentum. Learning rates want to be tuned anew: without the largest entries
    much larger ones are stable.

    Args:
        optimizer: one optimizer or a list of them; one threshold is found for all.
        fraction: share of the entries (of those that are not 0) that is cut, in [0, 1], default 0.1.
        value: fixed threshold in the gradients' units instead; pass ``fraction=None`` with it.
        over: "model" for one threshold, "parameter" for one per parameter, default "model".
        refresh: steps after which another random subset of large models is looked at, default 100.

    Raises:
        SoonerError: a hyper-parameter out of range, or not exactly one of `fraction` and `value`.
    """

    owns = frozenset({"gradient range"})
    space: ClassVar[Mapping[str, Knob]] = {"fraction": Log(0.01, 0.6)}

    def __init__(
        self,
        optimizer: Optimizer | Sequence[Optimizer],
        fraction: float | None = 0.1,
        value: float | None = None,
        over: Literal["model", "parameter"] = "model",
        refresh: int = 100,
    ) -> None:
        if (fraction is None) == (value is None):
            raise SoonerError(
                f"clip_value: fraction={fraction!r} and value={value!r} should be one threshold; "
                "give a fraction, or a value and fraction=None"
            )
        if over not in ("model", "parameter"):
            raise SoonerError(f"clip_value: over={over!r} is neither 'model' nor 'parameter'; choose one of them")
        check_range("clip_value", "refresh", refresh, 1, math.inf, whole=True)
        rule: Transform
        if value is not None:
            check_range("clip_value", "value", value, 0.0, math.inf)
            rule = ClampFixed(value)
        else:
            check_range("clip_value", "fraction", fraction, 0.0, 1.0)
            rule = (ClampFraction if over == "model" else ClampFractionEach)(fraction or 0.0, refresh)
        super().__init__(optimizer, rule)


class Sharpness(NamedTuple):
    """How the loss behaves along a direction (0-d tensors, float64 where the device has it).

    Attributes:
        sharpness: second derivative of the loss along the direction, scaled to length 1.
        correlation: first derivative, with the sign turned: how fast the loss falls at first.
        decrease: what the best step along the direction gains, by the second-order model.
        step: length of that step.
    """

    sharpness: Tensor
    correlation: Tensor
    decrease: Tensor
    step: Tensor


def directional_sharpness(
    closure: Callable[[], Tensor], parameters: Sequence[Tensor], direction: Sequence[Tensor]
) -> Sharpness:
    """Measure how sharp the loss is along a direction, by one Hessian-vector product. ``.grad`` is left alone.

    Args:
        closure: returns the loss with its graph; use a fixed batch, and evaluation mode where there is dropout.
        parameters: the parameters.
        direction: one tensor per parameter; for the step of an optimizer, its displacement.

    Returns:
        Sharpness and what follows from it, after Pan and Li, 2023, arXiv 2306.00204, section 2.
    """
    with torch.enable_grad():
        found = torch.autograd.grad(closure(), parameters, create_graph=True, allow_unused=True, materialize_grads=True)
        slope = torch.stack([(g * v).sum() for g, v in zip(found, direction, strict=True)]).sum()
    curved = torch.autograd.grad(slope, parameters, allow_unused=True, materialize_grads=True)
    exact = torch.float32 if slope.device.type == "mps" else torch.float64
    square = torch.stack([v.to(exact).square().sum() for v in direction]).sum()
    bend = torch.stack([(h.to(exact) * v).sum() for h, v in zip(curved, direction, strict=True)]).sum()
    sharpness, correlation = bend / square, -slope.detach().to(exact) / square.sqrt()
    return Sharpness(sharpness, correlation, correlation.square() / (2 * sharpness), correlation / sharpness)
