"""Cross-modality gradient harmonization: where two losses pull in opposite directions, step only where both agree.

    <g_a, g_b> < 0:   g_a' = g_a - <g_a, g_b> / ||g_b||^2 g_b,   g_b' = g_b - <g_a, g_b> / ||g_a||^2 g_a
    otherwise both stay; the step goes along g_a' + g_b'
    micro-batches with cos(g_a, g_b) < gamma(t) are dropped, gamma rising linearly from `start` to `end`

Angles are taken over the parameters that both losses reach (the shared trunk), for every micro-batch. More than two
losses are realigned pair by pair, always along the original gradients, so that their order does not matter.

Use it when two losses share a trunk and pull it in different directions.

Leave it when there is one loss, or losses need not be weighed against each other.

It costs one backward pass per loss instead of one in all, and a copy of the gradients; nothing on the wire.

Wu et al., 2022, arXiv 2211.02077, section 3 (the rise of gamma is our choice; the paper's is not published in full).
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor

from sooner.error import SoonerError
from sooner.gradient._source import GradientSource, fill, trainable
from sooner.objective import Count, Objective
from sooner.part import check_flags, check_range
from sooner.space import Knob, Uniform

Gradients = Sequence[Tensor | None]
"""The gradient of one loss: one tensor per parameter, None where the loss does not reach it."""


class CMAHarmony(GradientSource):
    """Realignment of conflicting losses and a curriculum that drops the micro-batches on which they conflict most.

    It takes one backward pass per loss, and the memory of one gradient per micro-batch while a step has several.

    Args:
        realign: take out of every gradient what goes against another one, default True.
        start: cosine below which a micro-batch is dropped at the first step, default -0.3.
        end: the same after `ramp` steps, default 0.
        ramp: steps over which the threshold moves from `start` to `end`, default 1000.
        most_dropped: largest share of a step's micro-batches that may be dropped, in [0, 1), default 0.5; 0 switches
            the curriculum off. The ones that conflict most go first, and a step with one micro-batch keeps it.

    Attributes:
        dropped: micro-batches dropped so far, a 0-d tensor.

    Raises:
        SoonerError: a hyper-parameter out of range.
    """

    needs = frozenset({"losses"})
    space: ClassVar[Mapping[str, Knob]] = {"end": Uniform(-0.3, 0.3)}

    def __init__(
        self,
        realign: bool = True,
        start: float = -0.3,
        end: float = 0.0,
        ramp: int = 1000,
        most_dropped: float = 0.5,
    ) -> None:
        for name, value in (("start", start), ("end", end)):
            check_range("cma_harmony", name, value, -1.0, 1.0)
        check_range("cma_harmony", "ramp", ramp, 1, float("inf"), whole=True)
        check_range("cma_harmony", "most_dropped", most_dropped, 0.0, 1.0, open_high=True)
        check_flags("cma_harmony", realign=realign)
        self.realign = realign
        self.start, self.end, self.ramp, self.most_dropped = start, end, ramp, most_dropped
        self.step = 0
        self.dropped = torch.zeros((), dtype=torch.int64)

    def backward(self, objective: Objective) -> Tensor:
        """Put the harmonized gradients into ``.grad`` and return the mean of all losses, dropped ones included."""
        parameters = trainable(objective.model)
        found = [self._micro_batch(objective, batch, parameters) for batch in objective.batches]
        loss = objective.settle([one for _, one, _, _ in found], [count for _, _, _, count in found])
        shares = objective.shares()
        keep = self._kept(torch.stack([cosine for _, _, cosine, _ in found]))
        kept = keep * keep.new_tensor(shares)
        weights = kept / kept.sum().clamp(min=torch.finfo(kept.dtype).tiny) * sum(shares)
        total: list[Tensor | None] = [None] * len(parameters)
        for (gradients, _, _, _), weight in zip(found, weights, strict=True):
            for i, g in enumerate(gradients):
                if g is not None:
                    scaled = torch.where(weight > 0, g * weight.to(g), 0)  # a dropped one may hold infinities
                    total[i] = scaled if total[i] is None else total[i] + scaled  # type: ignore[operator]
        fill(parameters, total)
        self.step += 1
        return loss

    def _micro_batch(
        self, objective: Objective, batch: Any, parameters: Sequence[Tensor]
    ) -> tuple[Gradients, Tensor, Tensor, Count | None]:
        """Return the gradient of a micro-batch's losses together, their sum, the least cosine of a pair and a count."""
        losses, count = objective.terms(batch)
        if len(losses) < 2:
            raise SoonerError(
                f"cma_harmony harmonizes two losses or more, losses(model, batch) gave {', '.join(losses) or 'none'}; "
                "return every term under its name"
            )
        terms = list(losses.values())
        own = [
            torch.autograd.grad(term, parameters, retain_graph=i < len(terms), allow_unused=True)
            for i, term in enumerate(terms, 1)
        ]
        gradients, cosine = harmonized(own, self.realign)
        return gradients, torch.stack([term.detach() for term in terms]).sum(), cosine, count

    def _kept(self, cosines: Tensor) -> Tensor:
        """Return 1.0 for every micro-batch that stays and 0.0 for the others, ``[micro-batches]``."""
        gamma = self.start + (self.end - self.start) * min(1.0, self.step / self.ramp)
        allowed = int(self.most_dropped * len(cosines))
        worst = torch.zeros_like(cosines, dtype=torch.bool)
        worst[cosines.argsort(stable=True)[:allowed]] = True
        drop = worst & (cosines < gamma)
        self.dropped = self.dropped.to(drop.device) + drop.sum()
        return (~drop).to(cosines.dtype)

    def state_dict(self) -> dict[str, Any]:
        """Return how many steps were taken and how many micro-batches were dropped."""
        return {"step": self.step, "dropped": self.dropped.clone()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Load what `state_dict` returned."""
        self.step = state["step"]
        self.dropped = state["dropped"].clone()


def harmonized(own: Sequence[Gradients], realign: bool = True) -> tuple[list[Tensor | None], Tensor]:
    """Add up the gradients of several losses, without what goes against one another.

    Args:
        own: the gradient of every loss.
        realign: whether conflicts are projected out; otherwise this is the plain sum.

    Returns:
        The sum, and the smallest cosine between two of the losses over the parameters that both reach (1 where no
        pair shares any).
    """
    changed = [list(gradients) for gradients in own]
    cosines = []
    for a, b in itertools.combinations(range(len(own)), 2):
        shared = [i for i, (x, y) in enumerate(zip(own[a], own[b], strict=True)) if x is not None and y is not None]
        if not shared:
            continue
        dot, of_a, of_b = (_dot(own[x], own[y], shared) for x, y in ((a, b), (a, a), (b, b)))
        cosines.append(dot / (of_a * of_b).sqrt().clamp(min=1e-30))
        against = dot.clamp(max=0.0)
        for mine, other, square in ((a, b, of_b), (b, a, of_a)) if realign else ():
            share = against / square.clamp(min=1e-30)
            for i in shared:
                g = own[other][i]
                changed[mine][i] = changed[mine][i] - share.to(g) * g  # type: ignore[operator]
    total = [_sum([one[i] for one in changed]) for i in range(len(own[0]))]
    return total, torch.stack(cosines).min() if cosines else _one(own)


def _dot(x: Gradients, y: Gradients, shared: Sequence[int]) -> Tensor:
    exact = torch.float32 if x[shared[0]].device.type == "mps" else torch.float64  # type: ignore[union-attr]
    return torch.stack([(x[i] * y[i]).sum(dtype=exact) for i in shared]).sum()  # type: ignore[operator]


def _sum(parts: Sequence[Tensor | None]) -> Tensor | None:
    present = [g for g in parts if g is not None]
    return torch.stack(present).sum(0) if present else None


def _one(own: Sequence[Gradients]) -> Tensor:
    reached = next(g for gradients in own for g in gradients if g is not None)
    return torch.ones((), dtype=torch.float64, device=reached.device)
