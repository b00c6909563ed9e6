"""SOAP: Adam in the eigenbasis of Shampoo's preconditioner, so that it sees the curvature of whole weight matrices.

    G' = Q_L^T G Q_R,   M' <- b1 M' + (1 - b1) G',   V <- b2 V + (1 - b2) G'^2
    theta' = theta - lr * sqrt(1 - b2^t) / (1 - b1^t) * Q_L ( M' / (sqrt(V) + eps) ) Q_R^T
    theta <- theta' - lr * weight_decay * theta'
    L <- b L + (1 - b) G G^T,   R <- b R + (1 - b) G^T G;   b is b2 unless `shampoo_beta` is given
    every `interval` steps  Q_L <- QR(L Q_L),  Q_R <- QR(R Q_R),  columns sorted first, M' turned into the new basis

The first gradient moves nothing: Q_L and Q_R are its singular vectors, and t counts from the second. Only hidden weight
matrices (convolution kernels as ``[out, in * kernel]``, stacked experts one by one) are stepped this way, all else by
AdamW inside the same optimizer.

Use it when matrices hold most of the weights and batches are large, where the paper finds most to gain.

Leave it when memory is short, or sides are long and steps are short: a refresh is a QR factorisation of every side.

It costs two numbers of state per weight, and 2 (rows^2 + columns^2) per matrix; six matrix products per matrix and
step, a QR factorisation per side every `interval` steps; nothing on the wire.

Vyas et al., 2024, arXiv 2409.11321, algorithms 3 and 4; first step, decay and defaults as in the authors' repository,
nikhilvyas/SOAP.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Unpack

import torch
from torch import Tensor

from sooner.space import Knob, Log
from sooner.transform import Chain, Descend, chain
from sooner.update._eigenbasis import first_basis, into_basis, out_of_basis, refreshed_basis
from sooner.update._form import Form, Split
from sooner.update._matrices import Select
from sooner.update._options import Options
from sooner.update._tiled import TiledOptimizer, TiledRule, decay_later, shampoo_beta, tiling
from sooner.update._tiles import Kept

SIDES = {
    "row_moment": Kept("rows"),
    "column_moment": Kept("columns"),
    "row_basis": Kept("rows"),
    "column_basis": Kept("columns"),
}
"""Shampoo's L and R, and their eigenvectors."""


@dataclass(frozen=True)
class EigenbasisAdam(TiledRule):
    """Adam's direction, taken in the eigenbasis of the second moments of rows and columns; see this module."""

    betas: tuple[float, float]
    eps: float
    shampoo_beta: float
    interval: int
    sides: ClassVar[Mapping[str, Kept]] = SIDES
    slots: ClassVar[tuple[str, ...]] = ("exp_avg", "exp_avg_sq", *SIDES)

    def begun(self, gradient: Tensor, state: dict[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
        """Return zeros; begin the bases with the eigenvectors of the first gradient."""
        bases = {
            "row_basis": first_basis(gradient) if state["row_basis"].numel() else state["row_basis"],
            "column_basis": first_basis(gradient.mT) if state["column_basis"].numel() else state["column_basis"],
        }
        fresh = {
            slot: torch.zeros_like(state[slot]) for slot in ("exp_avg", "exp_avg_sq")
        }  # also where step was zeroed
        return gradient * 0.0, {**state, **fresh, **self._moments(gradient, state), **bases}  # NaN stays NaN

    def stepped(self, taken: int, gradient: Tensor, state: dict[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
        """Step in the eigenbasis, and refresh it where that is due."""
        beta1, beta2 = self.betas
        rows, columns = state["row_basis"], state["column_basis"]
        seen = into_basis(gradient, rows, columns)
        mean = beta1 * state["exp_avg"] + (1 - beta1) * seen
        square = beta2 * state["exp_avg_sq"] + (1 - beta2) * seen * seen
        correction = math.sqrt(1 - beta2**taken) / (1 - beta1**taken)
        direction = out_of_basis(mean / (square.sqrt() + self.eps) * correction, rows, columns)
        after = {**state, "exp_avg": mean, "exp_avg_sq": square, **self._moments(gradient, state)}
        return direction, after if taken % self.interval else self._refreshed(after)

    def _moments(self, gradient: Tensor, state: dict[str, Tensor]) -> dict[str, Tensor]:
        """Return Shampoo's L and R with this gradient."""
        new = {}
        for slot, g in (("row_moment", gradient), ("column_moment", gradient.mT)):
            before = state[slot]
            scaled = (1 - self.shampoo_beta) * g
            new[slot] = torch.baddbmm(before, scaled, g.mT, beta=self.shampoo_beta) if before.numel() else before
        return new

    def _refreshed(self, state: dict[str, Tensor]) -> dict[str, Tensor]:
        """Bring the bases up to date, and Adam's moments along: the first is turned, the second follows its vectors."""
        mean = out_of_basis(state["exp_avg"], state["row_basis"], state["column_basis"])
        square = state["exp_avg_sq"]
        new = {}
        if state["row_basis"].numel():
            new["row_basis"], order = refreshed_basis(state["row_moment"], state["row_basis"])
            square = square.gather(1, order[:, :, None].expand_as(square))
        if state["column_basis"].numel():
            new["column_basis"], order = refreshed_basis(state["column_moment"], state["column_basis"])
            square = square.gather(2, order[:, None, :].expand_as(square))
        after = {**state, **new, "exp_avg_sq": square}
        return {**after, "exp_avg": into_basis(mean, after["row_basis"], after["column_basis"])}


class SOAP(TiledOptimizer):
    """SOAP for hidden weight matrices and AdamW for the rest, with an explicit partition.

    Args:
        params: a model, named parameters, parameters or groups of them, as `sooner.update.muon.Muon` takes; a group
            with ``"soap": False`` gets AdamW at its own ``lr``.
        lr: learning rate of the matrices, default 3e-3.
        betas: decay rates of the moments, default (0.95, 0.95), also AdamW's.
        shampoo_beta: decay rate of the second moments of rows and columns, in [0, 1), default None: that of the second
            moment.
        interval: steps between two refreshes of the eigenbasis, default 10.
        eps: added to the root of the second moment, which has no bias correction there, default 1e-8, also AdamW's.
        weight_decay: decoupled weight decay (multiplied by the group's learning rate), default 0.01.
        max_side: a longer side of a matrix keeps its own coordinates, so that SOAP is one-sided, default 10,000. A
            side of that length takes 800 MB of state in float32.
        block: cuts longer sides into blocks of this length (the last may be shorter), each with a basis of its own,
            default None for whole matrices. A blocked weight keeps the state of its sides in one vector.
        adamw_lr: learning rate of everything else, which keeps its ratio to `lr` under a schedule; default None means
            that of the matrices, as in the authors' runs.
        select: for a model, ``select(name, parameter) -> bool`` says which parameters are matrices for SOAP.
        split, heads: cut fused projections, so that each piece has a basis of its own; see Muon.
        **options: see `sooner.update._options.Options`.

    Raises:
        SoonerError: no suitable weight matrix, or a hyper-parameter outside its range.
    """

    space: ClassVar[Mapping[str, Knob]] = {"lr": Log(3e-4, 0.1)}

    def __init__(
        self,
        params: Any,
        lr: float | Tensor = 3e-3,
        betas: tuple[float, float] = (0.95, 0.95),
        shampoo_beta: float | None = None,
        interval: int = 10,
        eps: float = 1e-8,
        weight_decay: float = 0.01,
        max_side: int = 10_000,
        block: int | None = None,
        adamw_lr: float | Tensor | None = None,
        select: Select | None = None,
        split: Split | None = None,
        heads: Split | None = None,
        **options: Unpack[Options],
    ) -> None:
        adamw = {"adamw_lr": adamw_lr, "betas": betas, "eps": eps, "weight_decay": weight_decay}
        own = {"shampoo_beta": shampoo_beta, "interval": interval, "max_side": max_side, "block": block}
        super().__init__(params, {"lr": lr, **adamw, **own}, select, split, heads, **options)

    def matrix_rule(self, group: dict[str, Any], form: Form) -> Chain:
        """``eigenbasis adam | descend | decay``."""
        own = tuple(group["betas"]), group["eps"], shampoo_beta(group), group["interval"]
        adam = EigenbasisAdam(tiling(group, form), *own)
        return chain(adam, Descend(), decay_later(group["weight_decay"]))
