"""AdaMuon: orthogonalise the signs of the momentum, and divide every entry of the result by its own usual size.

    b <- momentum * b + (1 - momentum) * g,   d = (1 - momentum) * g + momentum * b  (Nesterov; else b)
    O = NewtonSchulz(sign(d)),   v <- beta2 * v + (1 - beta2) * O^2,   N = O / (sqrt(v) + eps)
    theta <- theta - lr * ( 0.2 sqrt(rows * columns) / ||N|| * N + weight_decay * theta )

The signs keep large entries of the momentum from deciding the directions alone. The scaling gives updates a root mean
square of 0.2, as AdamW's have, so AdamW's learning rates and weight decays carry over. Only hidden weight matrices
(convolution kernels as ``[out, in * kernel]``, stacked experts one by one) are stepped this way, all else by AdamW
inside the same optimizer.

Use it when Muon fits and runs are long: rates are AdamW's, and single weights get step sizes of their own.

Leave it when memory is short: it keeps twice as much for matrices as Muon.

It costs two numbers of state per weight, as Adam; five small matrix products per matrix and step; nothing on the wire.

Si et al., 2025, arXiv 2507.11005, algorithm 1; the average and the look-ahead as in the authors' repository,
Chongjie-Si/AdaMuon (the scale of a momentum means nothing to its sign).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, Unpack

import torch
from torch import Tensor

from sooner.part import check_range
from sooner.space import Knob, Log
from sooner.transform import Chain, Clock, Descend, Grain, State, Transform, chain, decay
from sooner.update._factors import Factors
from sooner.update._form import AS_STORED, Form, Split
from sooner.update._matrices import MatrixOptimizer, Select
from sooner.update._options import Options
from sooner.update._orthogonal import check_iteration
from sooner.update.muon import AveragedMomentum


@dataclass(frozen=True)
class Signs(Transform):
    """The signs of the direction; what is NaN stays NaN."""

    def rule(self, u: Tensor, state: State, theta: Tensor | None, clock: Clock) -> tuple[Tensor, State]:
        """``sign(u)``."""
        return torch.where(u == u, u.sign(), u), state  # torch's sign of NaN is 0


@dataclass(frozen=True)
class EvenEntries(Transform):
    """Divides every entry by the root of an average of its squares, and scales matrices to the size of Adam's steps."""

    beta2: float
    eps: float
    form: Form = AS_STORED
    grain: ClassVar[Grain] = "tensor"
    slots: ClassVar[tuple[str, ...]] = ("factor_avg_sq",)

    def rule(self, u: Tensor, state: State, theta: Tensor | None, clock: Clock) -> tuple[Tensor, State]:
        """Even out the entries of a stack ``[n, *shape]`` of same-shaped weights, and scale its matrices."""
        square = self.beta2 * state["factor_avg_sq"] + (1 - self.beta2) * u * u
        even = self.form.matrices(u / (square.sqrt() + self.eps))  # [m, rows, columns]
        for piece in self.form.cut(even, tuple(u.shape[1:])):
            rows, columns = piece.shape[-2:]
            norm = torch.linalg.vector_norm(piece, dim=(-2, -1), keepdim=True)
            piece.mul_(0.2 * math.sqrt(rows * columns) / (norm + self.eps))
        return self.form.stored(even, u), {"factor_avg_sq": square}


class AdaMuon(MatrixOptimizer):
    """AdaMuon for hidden weight matrices and AdamW for the rest, with an explicit partition.

    Args:
        params: a model, named parameters, parameters or groups of them, as `sooner.update.muon.Muon` takes; a group
            with ``"adamuon": False`` gets AdamW at its own ``lr``.
        lr: learning rate, default 1e-3, on AdamW's scale.
        momentum: in [0, 1), default 0.95.
        nesterov: look ahead by one momentum step, default True.
        beta2: decay rate of the average of squares, in [0, 1), default 0.95; the authors take that of the momentum.
            There is no bias correction: a factor that all entries share changes nothing.
        weight_decay: decoupled weight decay (multiplied by the group's learning rate), default 0.1.
        iterations: Newton-Schulz iterations, default 5.
        adamw_lr: learning rate of everything else, which keeps its ratio to `lr` under a schedule; default None means
            that of the matrices.
        betas: AdamW's moment decay rates, default (0.9, 0.95).
        eps: added to the root and to the norm, default 1e-8, also AdamW's.
        select: for a model, ``select(name, parameter) -> bool`` says which parameters are matrices for AdaMuon.
        precision: of the iteration, "float32" (default), "bfloat16" or "auto"; see `sooner.update.muon.Muon`.
        split, heads: cut fused projections, so that each piece is orthogonalised and scaled alone; see Muon.
        **options: see `sooner.update._options.Options`.

    Raises:
        SoonerError: no suitable weight matrix, or a hyper-parameter outside its range.
    """

    space: ClassVar[Mapping[str, Knob]] = {"lr": Log(3e-4, 1e-1)}

    def __init__(
        self,
        params: Any,
        lr: float | Tensor = 1e-3,
        momentum: float = 0.95,
        nesterov: bool = True,
        beta2: float = 0.95,
        weight_decay: float = 0.1,
        iterations: int = 5,
        adamw_lr: float | Tensor | None = None,
        betas: tuple[float, float] = (0.9, 0.95),
        eps: float = 1e-8,
        select: Select | None = None,
        precision: Literal["float32", "bfloat16", "auto"] = "float32",
        split: Split | None = None,
        heads: Split | None = None,
        **options: Unpack[Options],
    ) -> None:
        adamw = {"adamw_lr": adamw_lr, "betas": betas, "eps": eps, "weight_decay": weight_decay}
        own = {"momentum": momentum, "nesterov": nesterov, "beta2": beta2, "iterations": iterations}
        super().__init__(params, {"lr": lr, **adamw, **own, "precision": precision}, select, split, heads, **options)

    @classmethod
    def check(cls, group: dict[str, Any]) -> None:
        """Refuse hyper-parameters out of range."""
        super().check(group)
        for name in ("momentum", "beta2"):
            check_range("adamuon", name, group[name], 0.0, 1.0, open_high=True)
        check_iteration("adamuon", group)

    def matrix_rule(self, group: dict[str, Any], form: Form) -> Chain:
        """``momentum | signs | factors | even entries | decay | descend``."""
        momentum = AveragedMomentum(group["momentum"], group["nesterov"])
        factors = Factors(group["iterations"], group["precision"], form)
        even = EvenEntries(group["beta2"], group["eps"], form)
        return chain(momentum, Signs(), factors, even, decay(group["weight_decay"]), Descend())
