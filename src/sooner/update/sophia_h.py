"""Sophia-H: steps scaled by a running estimate of the Hessian's diagonal, and never longer than the learning rate.

    m <- b1 m + (1 - b1) g
    theta <- theta - lr * ( clip(m / max(rho h, eps), -1, 1) + weight_decay * theta )
    every k-th step, after it:  h <- b2 h + (1 - b2) u (H u),   u of independent signs

E[u (H u)] is the diagonal of the Hessian H (Hutchinson). Where the curvature is negative or tiny, and everywhere before
the first estimate, a coordinate moves by lr. For any loss that can be differentiated twice.

Use it when the loss is no cross-entropy and curvature differs much between weights.

Leave it when operations without a second derivative are in the model, or memory for the graph of the gradient is not
there.

It costs two numbers of state per weight; a differentiated gradient (about two passes) every tenth step; nothing on the
wire.

Liu et al., 2023, arXiv 2305.14342, algorithms 1 and 3; signs in place of normal u, whose estimate has more variance.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar, Unpack

import torch
from torch import Tensor

from sooner.error import SoonerError
from sooner.execute.shards import is_sharded
from sooner.part import check_range
from sooner.transform import Chain, Clock, Descend, State, Transform, chain, decay
from sooner.update._closure import Evaluation, averaged, dense, differentiable_attention, evaluations, with_graph
from sooner.update._options import Options
from sooner.update._sophia import Sophia


@dataclass(frozen=True)
class FlooredNewton(Transform):
    """The running mean of gradients over the curvature raised to `eps`, clipped to 1; the curvature is only read."""

    beta: float
    rho: float
    eps: float
    slots: ClassVar[tuple[str, ...]] = ("exp_avg", "hessian")

    def rule(self, u: Tensor, state: State, theta: Tensor | None, clock: Clock) -> tuple[Tensor, State]:
        """Return the clipped direction and the new mean."""
        mean = self.beta * state["exp_avg"] + (1 - self.beta) * u
        length = mean.abs() / (self.rho * state["hessian"]).clamp(min=self.eps)
        return mean.sign() * length.clamp(max=1.0), {"exp_avg": mean, "hessian": state["hessian"]}


class SophiaH(Sophia):
    """Sophia with Hutchinson's estimator.

    Args:
        params: a model, its parameters or parameter groups.
        lr: learning rate, about that of AdamW; default 1e-3.
        betas: decay rates of gradient and curvature, default (0.965, 0.99).
        rho: scale of the curvature, default 0.01.
        eps: least curvature (times rho) to divide by, default 1e-12.
        weight_decay: decoupled weight decay (multiplied by lr), default 0.2.
        every: steps between two estimates, default 10; each costs about two forward and backward passes.
        **options: see `sooner.update._options.Options`.

    Raises:
        SoonerError: a hyper-parameter outside its range.
    """

    def __init__(
        self,
        params: Any,
        lr: float | Tensor = 1e-3,
        betas: tuple[float, float] = (0.965, 0.99),
        rho: float = 0.01,
        eps: float = 1e-12,
        weight_decay: float = 0.2,
        every: int = 10,
        **options: Unpack[Options],
    ) -> None:
        defaults = {"lr": lr, "betas": betas, "rho": rho, "eps": eps, "weight_decay": weight_decay}
        super().__init__(params, defaults, every, **options)

    @classmethod
    def check(cls, group: dict[str, Any]) -> None:
        """Refuse hyper-parameters out of range."""
        super().check(group)
        check_range("sophia_h", "eps", group["eps"], 0.0, math.inf)

    def rule(self, group: dict[str, Any]) -> Chain:
        """``floored Newton | decay | descend``."""
        newton = FlooredNewton(group["betas"][0], group["rho"], group["eps"])
        return chain(newton, decay(group["weight_decay"]), Descend())

    def estimate(self, closure: Evaluation, parameters: list[Tensor]) -> tuple[Tensor, ...]:
        """Return ``u (H u)`` for one vector u of signs, the same for all micro-batches."""
        if any(is_sharded(p) for p in parameters):
            raise SoonerError(
                f"{self.name()} needs a second derivative, which sharded weights do not have; use sophia_g, or DDP"
            )
        signs = [self._signs(p) for p in parameters]
        total = tuple(torch.zeros_like(p) for p in parameters)
        for share, evaluate in evaluations(closure):
            with torch.enable_grad(), differentiable_attention():
                loss = share * with_graph(self.name(), evaluate)
                slopes = torch.autograd.grad(loss, parameters, create_graph=True, materialize_grads=True)
                dense(self.name(), slopes)
                pairs = [(g, u) for g, u in zip(slopes, signs, strict=True) if g.requires_grad]
                if pairs:  # else the loss is linear
                    outputs, along = zip(*pairs, strict=True)
                    products = torch.autograd.grad(outputs, parameters, along, materialize_grads=True)
                    total = torch._foreach_add(total, products)
        ascending = {p for group in self.param_groups if group["maximize"] for p in group["params"]}
        signs = [-u if p in ascending else u for p, u in zip(parameters, signs, strict=True)]
        return tuple(averaged(torch._foreach_mul(total, signs)))

    def _signs(self, like: Tensor) -> Tensor:
        generator = self.generator
        return (torch.randint(0, 2, like.shape, generator=generator, device=generator.device) * 2 - 1).to(like)
