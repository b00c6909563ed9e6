"""The loss around the present weights: its value, gradient and an (approximate) Hessian, as products or whole."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.autograd import grad

from sooner.update._answers import Answers, answers
from sooner.update._closure import Evaluation, dense, differentiable_attention, evaluations, with_graph

Product = Callable[[Tensor, bool], Tensor]
"""``product(v, batched)``: the matrix times ``v [D]``, or times every row of ``v [k, D]`` where `batched`."""


@dataclass(frozen=True)
class Local:
    """A quadratic model of the loss. It lives on graphs, so it is void once the weights have changed.

    Attributes:
        loss: 0-d, without graph.
        gradient: ``[D]``, all parameters one after the other.
        product: multiplies by the curvature.
        rows: how many products at once fit the memory.
    """

    loss: Tensor
    gradient: Tensor
    product: Product
    rows: int

    def matrix(self) -> Tensor:
        """Return the curvature as a symmetric matrix ``[D, D]``."""
        unit = torch.eye(len(self.gradient), dtype=self.gradient.dtype, device=self.gradient.device)
        whole = torch.cat([self.product(some, True) for some in torch.split(unit, self.rows)])
        return (whole + whole.T) / 2


def value_and_gradient(part: str, closure: Evaluation, parameters: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    """Return the loss, 0-d, and its gradient ``[D]``."""
    total, slope = torch.zeros((), device=parameters[0].device), _flat(parameters, [None] * len(parameters))
    for share, evaluate in evaluations(closure):
        loss = with_graph(part, evaluate)
        found = grad(loss, parameters, allow_unused=True)
        dense(part, found)
        slope = slope + share * _flat(parameters, found)
        total = total + share * loss.detach()
    return total, slope


@torch.enable_grad()
def hessian(part: str, closure: Evaluation, parameters: Sequence[Tensor]) -> Local:
    """Return the model whose curvature is the Hessian of the loss."""
    with differentiable_attention():
        losses = [share * with_graph(part, evaluate) for share, evaluate in evaluations(closure)]
        slopes = grad(losses, parameters, create_graph=True, allow_unused=True)
    dense(part, slopes)
    curved = [i for i, slope in enumerate(slopes) if slope is not None and slope.requires_grad]

    def product(v: Tensor, batched: bool) -> Tensor:
        parts = _parts(v, parameters)
        if not curved:
            return torch.zeros_like(v)
        found = grad(
            [slopes[i] for i in curved],
            parameters,
            [parts[i] for i in curved],
            retain_graph=True,
            allow_unused=True,
            is_grads_batched=batched,
        )
        return _flat(parameters, found, v)

    loss = torch.stack([one.detach() for one in losses]).sum()
    gradient = _flat(parameters, [None if s is None else s.detach() for s in slopes])
    return Local(loss, gradient, product, rows=max(1, 2**24 // max(1, len(gradient)) // 16))


@torch.enable_grad()
def gauss_newton(part: str, closure: Evaluation, parameters: Sequence[Tensor]) -> Local:
    """Return the model whose curvature is the generalised Gauss-Newton matrix of the loss's cross-entropies.

    It is ``sum_i w_i J_i^T (diag(p_i) - p_i p_i^T) J_i``, with J_i the derivative of the logits of answer i, p_i their
    softmax and w_i the answer's weight in the loss: never indefinite, and the Hessian itself where logits are linear in
    the parameters. Terms of the loss that are no cross-entropy do not enter it.
    """
    losses: list[Tensor] = []
    seen: list[Answers] = []
    for share, evaluate in evaluations(closure):
        with differentiable_attention():
            loss, found = answers(part, evaluate)
        losses.append(share * loss)
        seen += [Answers(one.logits, one.wrong, share * one.weights) for one in found if one.logits.requires_grad]
    slopes = grad(losses, parameters, retain_graph=True, allow_unused=True)
    dense(part, slopes)
    logits = [one.logits for one in seen]
    shares = [(one.weights.clamp(min=0).unsqueeze(1), one.logits.detach().softmax(1)) for one in seen]
    # J v by differentiating J^T z, which is linear in z, along v: forward-mode would not see through a closure
    along = [torch.zeros_like(z, requires_grad=True) for z in logits]
    pulled = grad(logits, parameters, along, create_graph=True, allow_unused=True)
    reached = [i for i, one in enumerate(pulled) if one is not None and one.requires_grad]

    def product(v: Tensor, batched: bool) -> Tensor:
        parts = _parts(v, parameters)
        outputs, weights = [pulled[i] for i in reached], [parts[i] for i in reached]
        pushed = grad(outputs, along, weights, retain_graph=True, is_grads_batched=batched, materialize_grads=False)
        curved = [w * p * (j - (p * j).sum(-1, keepdim=True)) for (w, p), j in zip(shares, pushed, strict=True)]
        found = grad(logits, parameters, curved, retain_graph=True, allow_unused=True, is_grads_batched=batched)
        return _flat(parameters, found, v)

    loss = torch.stack([one.detach() for one in losses]).sum()
    widest = sum(z.numel() for z in logits)
    return Local(loss, _flat(parameters, slopes), product, rows=max(1, 2**24 // max(1, widest)))


def conjugate_gradient(
    product: Callable[[Tensor], Tensor], right: Tensor, iterations: int, tolerance: float
) -> Tensor | None:
    """Return x ``[D]`` with ``product(x) = right`` up to a relative residual; None where the matrix is not positive.

    Hestenes and Stiefel, 1952.
    """
    x, residual = torch.zeros_like(right), right
    direction, square = right, right @ right
    enough = tolerance**2 * square
    for _ in range(iterations):
        if not bool(square > enough):
            break
        image = product(direction)
        curvature = direction @ image
        if not bool(curvature > 0):
            return None
        length = square / curvature
        x = x + length * direction
        residual = residual - length * image
        before, square = square, residual @ residual
        direction = residual + square / before * direction
    return x


def _parts(v: Tensor, parameters: Sequence[Tensor]) -> list[Tensor]:
    """Cut ``v [..., D]`` into one piece per parameter, in its shape and dtype."""
    pieces = torch.split(v, [p.numel() for p in parameters], dim=-1)
    return [piece.reshape((*v.shape[:-1], *p.shape)).to(p.dtype) for piece, p in zip(pieces, parameters, strict=True)]


def _flat(parameters: Sequence[Tensor], pieces: Sequence[Tensor | None], like: Tensor | None = None) -> Tensor:
    """Put pieces together as ``[..., D]``, zeros for those that are None, in float32 or better."""
    lead = () if like is None else like.shape[:-1]
    filled = [
        (p.new_zeros(p.shape).expand((*lead, *p.shape)) if piece is None else piece).reshape((*lead, -1))
        for p, piece in zip(parameters, pieces, strict=True)
    ]
    whole = torch.cat(filled, dim=-1).detach()
    return whole.float() if whole.dtype in (torch.float16, torch.bfloat16) else whole
