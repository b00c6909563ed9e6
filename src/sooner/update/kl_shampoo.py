"""KL-Shampoo: whiten gradients with the Kronecker factors that are nearest to their covariance in KL divergence.

    M <- b1 M + (1 - b1) G
    theta' = theta - lr * Q_L ( Q_L^T M Q_R / (sqrt(l_i r_j) + eps) ) Q_R^T
    theta <- theta' - lr * weight_decay * theta'
    L <- b L + (1 - b) G R^-1 G^T / columns,   R <- b R + (1 - b) G^T L^-1 G / rows;   inverses of before this step
    l <- b l + (1 - b) diag(Q_L^T G R^-1 G^T Q_L) / columns,   r alike;   R^-1 = Q_R diag(1 / r) Q_R^T,   L^-1 alike
    every `interval` steps  Q_L <- QR(L Q_L),   Q_R <- QR(R Q_R)

Each factor is estimated with the other one divided out, where Shampoo and SOAP take G G^T as it is, so the product fits
and needs no Adam to set its size. Eigenvalues l and r are followed at every step, in bases that may be old; they begin
at 0.1. The first gradient moves nothing: Q_L and Q_R are its singular vectors. Only hidden weight matrices (convolution
kernels as ``[out, in * kernel]``, stacked experts one by one) are stepped this way, all else by AdamW inside the same
optimizer.

Use it when SOAP fits but for its memory.

Leave it when gradients are tiny (below 1 / side^2, up to sides of 4,000): eigenvalues have a floor.

It costs one number of state per weight, and 2 (rows^2 + columns^2) + rows + columns per matrix; seven matrix products
per matrix and step, a QR factorisation per side every `interval` steps; nothing on the wire.

Lin et al., 2025, arXiv 2509.03378; start and floor of the eigenvalues, first step and decay as in the authors'
repository, yorkerlin/KL-Methods.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Unpack

import torch
from torch import Tensor

from sooner.part import check_range
from sooner.space import Knob, Log
from sooner.transform import Chain, Descend, chain
from sooner.update._eigenbasis import first_basis, into_basis, out_of_basis, power_iteration
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
    "row_values": Kept("rows", square=False),
    "column_values": Kept("columns", square=False),
}
"""The factors L and R, bases and eigenvalues."""

LEAST_INITIAL = 1e-12
"""What eigenvalues may begin at: their inverses are squared along the way, also in float32."""

LEAST_CEILING = 10.0
"""What the inverse root of an eigenvalue may reach at least, however short the side."""


@dataclass(frozen=True)
class Whiten(TiledRule):
    """Momentum over the root of a Kronecker product that follows the gradient's covariance; see this module."""

    beta1: float
    eps: float
    shampoo_beta: float
    interval: int
    initial: float
    ceiling: float
    sides: ClassVar[Mapping[str, Kept]] = SIDES
    slots: ClassVar[tuple[str, ...]] = ("exp_avg", *SIDES)

    def begun(self, gradient: Tensor, state: dict[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
        """Return zeros; begin factors, bases and eigenvalues with the first gradient."""
        new = {"exp_avg": torch.zeros_like(state["exp_avg"])}  # also where somebody zeroed the step
        for side, g in (("row", gradient), ("column", gradient.mT)):
            if state[f"{side}_basis"].numel():
                new[f"{side}_moment"] = self._mean(state[f"{side}_moment"], g)
                new[f"{side}_basis"] = first_basis(g)
                new[f"{side}_values"] = torch.full_like(state[f"{side}_values"], self.initial)
        return gradient * 0.0, {**state, **new}  # NaN stays NaN

    def stepped(self, taken: int, gradient: Tensor, state: dict[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
        """Step by what is whitened, let factors and eigenvalues follow, and refresh the bases where that is due."""
        rows, columns = state["row_basis"], state["column_basis"]
        by_row, by_column = (_inverse_roots(state[f"{side}_values"]) for side in ("row", "column"))  # [m, side]
        down = by_row[:, :, None] if by_row.numel() else gradient.new_ones(())
        across = by_column[:, None, :] if by_column.numel() else gradient.new_ones(())
        no_basis = gradient.new_empty(0)
        of_rows = into_basis(gradient, rows, no_basis)  # Q_L^T G
        seen = into_basis(of_rows, no_basis, columns)
        mean = self.beta1 * state["exp_avg"] + (1 - self.beta1) * seen
        scale = down * across
        direction = out_of_basis(mean * (scale / (1 + self.eps * scale)), rows, columns)
        new = {"exp_avg": mean}
        if rows.numel():
            whitened = into_basis(gradient, no_basis, columns) * across  # G Q_R r^-1/2
            new["row_moment"] = self._mean(state["row_moment"], whitened)
            new["row_values"] = self._values(state["row_values"], seen * across)
        if columns.numel():
            new["column_moment"] = self._mean(state["column_moment"], (of_rows * down).mT)
            new["column_values"] = self._values(state["column_values"], (seen * down).mT)
        after = {**state, **new}
        return direction, after if taken % self.interval else _refreshed(after)

    def _mean(self, moment: Tensor, vectors: Tensor) -> Tensor:
        """Return the running mean of ``V V^T / columns`` of vectors ``[m, side, columns]``."""
        share = (1 - self.shampoo_beta) / vectors.shape[-1]
        return torch.baddbmm(moment, vectors, vectors.mT, beta=self.shampoo_beta, alpha=share)

    def _values(self, values: Tensor, seen: Tensor) -> Tensor:
        """Return the eigenvalues ``[m, side]``, which follow the mean squares of what is seen, ``[m, side, other]``."""
        found = self.shampoo_beta * values + (1 - self.shampoo_beta) * seen.square().mean(-1)
        ceiling = max(LEAST_CEILING, min(values.shape[-1], self.ceiling))
        return torch.where(found > 0, found.clamp(min=ceiling**-2), found)  # zero is left out of the inverse


def _inverse_roots(values: Tensor) -> Tensor:
    """Return ``1 / sqrt(values)``, and 0 for 0."""
    return torch.where(values == 0, 0.0, values.rsqrt())


def _refreshed(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Bring the bases up to date, and turn the momentum along."""
    mean = out_of_basis(state["exp_avg"], state["row_basis"], state["column_basis"])
    new = {
        f"{side}_basis": power_iteration(state[f"{side}_moment"], state[f"{side}_basis"])
        for side in ("row", "column")
        if state[f"{side}_basis"].numel()
    }
    after = {**state, **new}
    return {**after, "exp_avg": into_basis(mean, after["row_basis"], after["column_basis"])}


class KLShampoo(TiledOptimizer):
    """KL-Shampoo for hidden weight matrices and AdamW for the rest, with an explicit partition.

    Args:
        params: a model, named parameters, parameters or groups of them, as `sooner.update.muon.Muon` takes; a group
            with ``"kl_shampoo": False`` gets AdamW at its own ``lr``.
        lr: learning rate of the matrices, default 1e-3.
        betas: decay rates of the momentum, which has no bias correction, and of the factors, default (0.9, 0.98), also
            AdamW's.
        shampoo_beta: decay rate of the factors and their eigenvalues, in [0, 1), default None: the second of `betas`.
        interval: steps between two refreshes of the bases, default 10.
        eps: added to the root of the eigenvalues' products, default 1e-8, also AdamW's.
        weight_decay: decoupled weight decay (multiplied by the group's learning rate), default 0.01.
        initial: eigenvalues at the beginning, at least 1e-12, default 0.1, the authors'. Steps are small until they
            have come down to the gradients', which takes about a hundred steps per power of ten: set it lower for runs
            of a thousand steps.
        ceiling: of the inverse root of an eigenvalue, default 4,000; a side shorter than that has its length as
            the ceiling, but no less than 10.
        max_side: a longer side of a matrix is not whitened, so that the method is one-sided, default 10,000. A side of
            that length takes 800 MB of state in float32.
        block: cuts longer sides into blocks of this length (the last may be shorter), each with factors of its own,
            default None for whole matrices. A blocked weight keeps the state of its sides in vectors.
        adamw_lr: learning rate of everything else, which keeps its ratio to `lr` under a schedule; default None means
            that of the matrices, as in the authors' code.
        select: for a model, ``select(name, parameter) -> bool`` says which parameters are matrices for the method.
        split, heads: cut fused projections, so that each piece has factors of its own; see Muon.
        **options: see `sooner.update._options.Options`.

    Raises:
        SoonerError: no suitable weight matrix, or a hyper-parameter outside its range.
    """

    space: ClassVar[Mapping[str, Knob]] = {"lr": Log(1e-4, 3e-2)}

    def __init__(
        self,
        params: Any,
        lr: float | Tensor = 1e-3,
        betas: tuple[float, float] = (0.9, 0.98),
        shampoo_beta: float | None = None,
        interval: int = 10,
        eps: float = 1e-8,
        weight_decay: float = 0.01,
        initial: float = 0.1,
        ceiling: float = 4000.0,
        max_side: int = 10_000,
        block: int | None = None,
        adamw_lr: float | Tensor | None = None,
        select: Select | None = None,
        split: Split | None = None,
        heads: Split | None = None,
        **options: Unpack[Options],
    ) -> None:
        adamw = {"adamw_lr": adamw_lr, "betas": betas, "eps": eps, "weight_decay": weight_decay}
        own = {"shampoo_beta": shampoo_beta, "interval": interval, "initial": initial, "ceiling": ceiling}
        tiles = {"max_side": max_side, "block": block}
        super().__init__(params, {"lr": lr, **adamw, **own, **tiles}, select, split, heads, **options)

    @classmethod
    def check(cls, group: dict[str, Any]) -> None:
        """Refuse hyper-parameters out of range."""
        super().check(group)
        check_range(cls.name(), "initial", group["initial"], LEAST_INITIAL, math.inf)
        check_range(cls.name(), "ceiling", group["ceiling"], LEAST_CEILING, math.inf)

    def matrix_rule(self, group: dict[str, Any], form: Form) -> Chain:
        """``whiten | descend | decay``."""
        names = ("eps", "interval", "initial", "ceiling")
        own = {"beta1": group["betas"][0], "shampoo_beta": shampoo_beta(group), "tiling": tiling(group, form)}
        whiten = Whiten(**{name: group[name] for name in names}, **own)
        return chain(whiten, Descend(), decay_later(group["weight_decay"]))
