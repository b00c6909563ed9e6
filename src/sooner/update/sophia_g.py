"""Sophia-G: steps scaled by a running estimate of the Gauss-Newton diagonal, and never longer than the learning rate.

    m <- b1 m + (1 - b1) g
    theta <- theta - lr * ( sign(m) min(|m| / (rho h + 1e-15), 1) + weight_decay * theta )
    every k-th step, after it:  h <- b2 h + (1 - b2) B g^ g^

g^ is the gradient of the mean of B cross-entropies whose labels are drawn from the model's own answers, so that
B g^ g^ estimates the diagonal of the Gauss-Newton matrix (Gauss-Newton-Bartlett). Without bias correction, and before
the first estimate every coordinate moves by lr.

Use it when language models are trained for long, with time to tune `rho`.

Leave it when few steps are run, or the loss is no cross-entropy.

It costs two numbers of state per weight; another forward and backward pass every tenth step; nothing on the wire.

Liu et al., 2023, arXiv 2305.14342, algorithm 3.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Unpack

import torch
from torch import Tensor
from torch.nn import functional

from sooner.execute.shards import is_sharded
from sooner.transform import Chain, Clock, Descend, State, Transform, chain, decay
from sooner.update._answers import answers, wide
from sooner.update._closure import Evaluation, averaged, dense, evaluations, number_of_workers
from sooner.update._options import Options
from sooner.update._sophia import Sophia


@dataclass(frozen=True)
class ClippedNewton(Transform):
    """The running mean of gradients over the curvature, clipped to 1; the curvature is only read."""

    beta: float
    rho: float
    slots: ClassVar[tuple[str, ...]] = ("exp_avg", "hessian")

    def rule(self, u: Tensor, state: State, theta: Tensor | None, clock: Clock) -> tuple[Tensor, State]:
        """Return the clipped direction and the new mean."""
        mean = self.beta * state["exp_avg"] + (1 - self.beta) * u
        length = (mean.abs() / (self.rho * state["hessian"] + 1e-15)).clamp(max=1.0)
        return mean.sign() * length, {"exp_avg": mean, "hessian": state["hessian"]}


class SophiaG(Sophia):
    """Sophia with the Gauss-Newton-Bartlett estimator, for losses made of cross-entropies (over classes or binary).

    The published optimizer takes the number of labels B as an argument, whose default fits one training script; here it
    is found out from the loss itself (see `sooner.update._answers`), masks, weights and micro-batches included. Workers
    who share a model by DDP or FSDP2 average their gradients before they are squared, so that the estimate is that of
    all their batches together. Gradients are not clipped.

    Args:
        params: a model, its parameters or parameter groups.
        lr: learning rate, about that of AdamW; default 1e-3.
        betas: decay rates of gradient and curvature, default (0.965, 0.99).
        rho: scale of the curvature, default 0.04.
        weight_decay: decoupled weight decay (multiplied by lr), default 0.2, twice AdamW's usual one.
        every: steps between two estimates, default 10; each costs a forward and a backward pass.
        **options: see `sooner.update._options.Options`.

    Raises:
        SoonerError: a hyper-parameter outside its range.
    """

    draws_apart = True

    def __init__(
        self,
        params: Any,
        lr: float | Tensor = 1e-3,
        betas: tuple[float, float] = (0.965, 0.99),
        rho: float = 0.04,
        weight_decay: float = 0.2,
        every: int = 10,
        **options: Unpack[Options],
    ) -> None:
        defaults = {"lr": lr, "betas": betas, "rho": rho, "weight_decay": weight_decay}
        super().__init__(params, defaults, every, **options)

    def rule(self, group: dict[str, Any]) -> Chain:
        """``clipped Newton | decay | descend``."""
        return chain(ClippedNewton(group["betas"][0], group["rho"]), decay(group["weight_decay"]), Descend())

    def estimate(self, closure: Evaluation, parameters: list[Tensor]) -> tuple[Tensor, ...]:
        """Return the squares of the gradient of ``sum_i sqrt(w_i) cross-entropy_i`` with labels drawn by the model.

        w_i is the weight of answer i in the loss. Scores of drawn labels have mean 0 and are independent, so the mean
        of the squares is ``sum_i w_i GaussNewton_i``; for a mean of B answers this is B g^ g^.
        """
        total = tuple(torch.zeros_like(p) for p in parameters)
        for share, evaluate in evaluations(closure):
            _, seen = answers(self.name(), evaluate)
            with torch.enable_grad():
                drawn = [functional.cross_entropy(wide(a.logits), self._draw(a.logits), reduction="none") for a in seen]
                losses = [
                    (share * a.weights).abs().sqrt().to(loss.dtype) @ loss for a, loss in zip(seen, drawn, strict=True)
                ]
            gradients = _gradients(losses, parameters)
            dense(self.name(), gradients)
            total = torch._foreach_add(total, gradients)
        if not any(is_sharded(p) for p in parameters):  # which has averaged them itself
            total = tuple(averaged(total))
        return torch._foreach_mul(total, [t * number_of_workers() for t in total])

    def _draw(self, logits: Tensor) -> Tensor:
        """Return a label for each of ``logits [n, classes]``, drawn from their softmax without waiting for a device."""
        waits = torch.empty(logits.shape, device=self.generator.device).exponential_(generator=self.generator)
        return (logits.detach().float() - waits.to(logits.device).log()).argmax(1)


def _gradients(losses: list[Tensor], parameters: list[Tensor]) -> tuple[Tensor, ...]:
    """Return the gradient of a sum of losses; of sharded parameters, their pieces of the mean over the workers'."""
    if not any(is_sharded(p) for p in parameters):
        return torch.autograd.grad(losses, parameters, materialize_grads=True)
    torch.autograd.backward(losses)
    found = tuple(torch.zeros_like(p) if p.grad is None else p.grad for p in parameters)
    for p in parameters:
        p.grad = None  # those of the step are aside
    return found
