"""DeepZero: gradients from forward passes alone, one finite difference per coordinate.

    cge:  g_i = (f(theta + mu e_i) - f(theta)) / mu            for every coordinate i of the mask, 0 elsewhere
    rge:  g = d / q * sum_j u_j (f(theta + mu u_j) - f(theta)) / mu,   u_j on the unit sphere, j = 1..q

With `sparsity` only a random share of the weights is estimated, another one every `refresh` steps; nothing is set to
zero. The shares of the layers are found once, by pruning with the score -theta * (Hessian * gradient) (ZO-GraSP).

Use it when the loss can be evaluated but not differentiated, and weights are few or sparse.

Leave it when gradients are available.

It costs one forward pass per weight that is estimated, every step; no memory for activations; nothing on the wire.

Chen et al., 2023, arXiv 2310.02025, sections 3 and 4; Wang et al., 2020, arXiv 2002.07376, for the sign of the score.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator, Mapping
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from sooner.error import SoonerError, nearest
from sooner.foundation import snapshots
from sooner.foundation.generators import generator_at
from sooner.foundation.intercept import BackwardHeld
from sooner.gradient._queries import Queries
from sooner.gradient._source import GradientSource, asked, fill, trainable
from sooner.objective import Objective
from sooner.part import check_flags, check_range
from sooner.space import Knob, Log

METHODS = ("cge", "rge")
STACK = 2**22
"""Largest number of elements in a stack of perturbed parameters."""


class DeepZero(GradientSource):
    """Zeroth-order gradients: no backward pass, no graph; a step costs as many forward passes as it has coordinates.

    Queries run many at a time (`torch.func.vmap`), so that layers before the perturbed one are evaluated once per
    block; models that do not allow it are queried one at a time, with parameters restored by copy.

    Args:
        method: "cge" (every coordinate) or "rge" (random directions), default "cge".
        directions: random directions per step of "rge", and of the search for the layers' shares, default 192.
        mu: length of the perturbation, default 5e-3.
        sparsity: share of the entries of weights (of two or more dimensions) that is not estimated, in [0, 1),
            default 0. Biases and gains always are.
        refresh: steps after which another random share is estimated, default 200.
        evaluation: query the model in evaluation mode, default False: dropout then keeps one mask through all queries
            of a step, and batch normalisation updates its running statistics once.
        block: largest number of queries at a time, default 64.

    Attributes:
        queries: evaluations of the step's loss so far.

    Raises:
        SoonerError: a hyper-parameter out of range.
    """

    needs = frozenset({"closure"})
    space: ClassVar[Mapping[str, Knob]] = {"mu": Log(1e-4, 3e-2)}

    def __init__(
        self,
        method: Literal["cge", "rge"] = "cge",
        directions: int = 192,
        mu: float = 5e-3,
        sparsity: float = 0.0,
        refresh: int = 200,
        evaluation: bool = False,
        block: int = 64,
    ) -> None:
        if method not in METHODS:
            known = " or ".join(METHODS)
            raise SoonerError(f"deepzero: method={method!r}{nearest(str(method), METHODS)} is unknown; choose {known}")
        for name, value in (("directions", directions), ("refresh", refresh), ("block", block)):
            check_range("deepzero", name, value, 1, math.inf, whole=True)
        check_flags("deepzero", evaluation=evaluation)
        check_range("deepzero", "mu", mu, 1e-8, math.inf)
        check_range("deepzero", "sparsity", sparsity, 0.0, 1.0, open_high=True)
        self.method, self.directions, self.mu = method, directions, mu
        self.sparsity, self.refresh, self.evaluation, self.block = sparsity, refresh, evaluation, block
        self.step = 0
        self.queries = 0
        self._seed = int(torch.randint(2**31, ()))  # noise of its own, from the generator that the run seeded
        self._shares: list[float] = []
        self._together: bool | None = None

    @torch.no_grad()
    def backward(self, objective: Objective) -> Tensor:
        """Put the estimated gradients into ``.grad`` and return the loss, in float64 where the device has it.

        Args:
            objective: the step's loss; where it calls backward itself, that is held back.

        Raises:
            SoonerError: it is no `Objective`, which says what the parameters are.
        """
        asked("deepzero", objective)
        with BackwardHeld(), _mode(objective.model, self.evaluation):
            queries = Queries(objective, self._together is not False)
            parameters = trainable(objective.model)
            base = queries.base()
            if self._together is None:
                queries.check({p: (p + self.mu)[None] for p in parameters}, base)
            if self.sparsity and not self._shares:
                self._shares = self._layer_shares(queries, parameters, base)
            masks = self._masks(parameters)
            if self.method == "cge":
                gradients = [
                    self._coordinates(queries, p, mask, base) for p, mask in zip(parameters, masks, strict=True)
                ]
            else:
                gradients = self._random(queries, parameters, masks, base, self.step)
        fill(parameters, gradients)
        self._together = queries.together
        self.queries += queries.count
        self.step += 1
        return base

    def _coordinates(self, queries: Queries, p: Tensor, mask: Tensor | None, base: Tensor) -> Tensor:
        """Return the finite differences along the coordinates of one parameter that are in the mask."""
        flat = p.detach().reshape(-1)
        chosen = torch.arange(len(flat), device=p.device) if mask is None else mask
        gradient = torch.zeros_like(flat)
        for some in torch.split(chosen, max(1, min(self.block, STACK // max(1, len(flat))))):
            stack = flat.repeat(len(some), 1)
            rows = torch.arange(len(some), device=p.device)
            stack[rows, some] += self.mu
            moved = (stack[rows, some] - flat[some]).to(base.dtype)  # mu as the parameter's dtype rounds it
            slope = (queries.at({p: stack.view(-1, *p.shape)}) - base) / moved
            gradient[some] = torch.where(moved == 0, 0.0, slope).to(p.dtype)
        return gradient.view_as(p)

    def _random(
        self, queries: Queries, parameters: list[Tensor], masks: list[Tensor | None], base: Tensor, number: int
    ) -> list[Tensor]:
        """Return the average of finite differences along random directions in the masked space."""
        total = [torch.zeros_like(p) for p in parameters]
        inside = [_indicator(p, mask) for p, mask in zip(parameters, masks, strict=True)]
        dimension = sum(p.numel() if mask is None else len(mask) for p, mask in zip(parameters, masks, strict=True))
        most = max(1, min(self.block, STACK // max(1, dimension)))
        generator = generator_at(self._seed, number)
        for first in range(0, self.directions, most):
            count = min(most, self.directions - first)
            drawn = [
                torch.randn(count, *p.shape, generator=generator).to(p) * i
                for p, i in zip(parameters, inside, strict=True)
            ]
            length = torch.stack([u.flatten(1).square().sum(1) for u in drawn]).sum(0).sqrt()  # [count]
            units = [u / length.view(-1, *[1] * (u.ndim - 1)) for u in drawn]
            points = {p: p + self.mu * u for p, u in zip(parameters, units, strict=True)}
            slope = (queries.at(points) - base) / self.mu * (dimension / self.directions)
            for sum_, u in zip(total, units, strict=True):
                sum_ += torch.tensordot(slope.to(u), u, 1)
        return total

    def _layer_shares(self, queries: Queries, parameters: list[Tensor], base: Tensor) -> list[float]:
        """Return the share of every parameter that ZO-GraSP keeps; the parameters are as before afterwards."""
        everything: list[Tensor | None] = [None] * len(parameters)
        here = self._random(queries, parameters, everything, base, -1)
        kept = [p.clone() for p in parameters]
        snapshots.settle()
        try:
            for p, g in zip(parameters, here, strict=True):
                p += self.mu * g
            there = queries.at({p: p[None].clone() for p in parameters})[0]
            ahead = self._random(queries, parameters, everything, there, -1)  # along the same directions
        finally:
            for p, value in zip(parameters, kept, strict=True):
                p.copy_(value)
        scores = [-p * (b - a) / self.mu for p, a, b in zip(parameters, here, ahead, strict=True)]
        weights = [score.flatten() for score in scores if score.ndim >= 2]
        if not weights:
            return [1.0] * len(parameters)
        together = torch.cat([one.to(weights[0]) for one in weights])
        limit = together.kthvalue(max(1, round((1 - self.sparsity) * len(together)))).values  # high scores are pruned
        return [float((s <= limit.to(s)).float().mean()) if s.ndim >= 2 else 1.0 for s in scores]

    def _masks(self, parameters: list[Tensor]) -> list[Tensor | None]:
        """Return the coordinates ``[k]`` of every parameter that are estimated now; None stands for all."""
        if not self._shares:
            return [None] * len(parameters)
        generator = generator_at(self._seed, 2**31 + self.step // self.refresh)
        masks: list[Tensor | None] = []
        for p, share in zip(parameters, self._shares, strict=True):
            count = max(1, round(share * p.numel()))
            masks.append(torch.randperm(p.numel(), generator=generator)[:count].to(p.device) if p.ndim >= 2 else None)
        return masks

    def state_dict(self) -> dict[str, Any]:
        """Return the counters, the seed and the layers' shares, from which the mask follows."""
        kept = {"step": self.step, "queries": self.queries, "seed": self._seed}
        return {**kept, "shares": list(self._shares), "together": self._together}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Load what `state_dict` returned."""
        self.step, self.queries, self._seed = state["step"], state["queries"], state["seed"]
        self._shares, self._together = list(state["shares"]), state["together"]


def _indicator(p: Tensor, mask: Tensor | None) -> Tensor:
    """Return 1 for the coordinates of the mask and 0 elsewhere, shaped like the parameter."""
    if mask is None:
        return torch.ones_like(p)
    return torch.zeros_like(p).view(-1).index_fill(0, mask, 1.0).view_as(p)


@contextlib.contextmanager
def _mode(model: nn.Module, evaluation: bool) -> Iterator[None]:
    """Inside, the model is in evaluation mode if that is wanted."""
    modes = [(m, m.training) for m in model.modules()]
    try:
        if evaluation:
            model.eval()
        yield
    finally:
        for m, mode in modes:
            m.training = mode
