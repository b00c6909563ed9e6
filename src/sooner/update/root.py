"""ROOT: Muon with outliers of the momentum cut off and the orthogonalisation fitted to the shape of every matrix.

    M <- momentum * M + G,   Z = G + momentum * M  (Nesterov; else M)
    B = clamp(Z, -q, q),   q the 0.9-quantile of |Z| over the matrix (+ 1e-9)
    O = NewtonSchulz(B) with coefficients (a, b, c) for the matrix's shape
    theta <- theta - lr * ( 0.2 sqrt(max(rows, columns)) * O + weight_decay * theta )

What is cut off is thrown away at this step, and the buffer keeps it. The scaling gives updates a root mean square of
about 0.2, as AdamW's have, so AdamW's learning rates and weight decays carry over. Only hidden weight matrices
(convolution kernels as ``[out, in * kernel]``, stacked experts one by one) are stepped this way, all else by AdamW
inside the same optimizer.

Use it when Muon fits and gradients hold outliers, from rare tokens or faulty sources.

Leave it when gradients are clean: then it does what Muon does, with one in ten entries cut.

It costs one number of state per matrix weight, two per other weight; a quantile and five matrix products per matrix
and step; nothing on the wire.

He et al., 2025, arXiv 2511.20626; scaling: Liu et al., 2025, arXiv 2502.16982. For the coefficients see `_newton_fit`.
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
from sooner.update._form import AS_STORED, Form, Split
from sooner.update._matrices import MatrixOptimizer, Select
from sooner.update._newton_fit import coefficients
from sooner.update._options import Options
from sooner.update._orthogonal import check_iteration, in_chunks, iteration_dtype, newton_schulz
from sooner.update.sgd import Momentum


@dataclass(frozen=True)
class CutOutliers(Transform):
    """Limits the entries of every matrix to a quantile of their sizes; a quantile of 1 leaves them alone."""

    quantile: float
    form: Form = AS_STORED
    grain: ClassVar[Grain] = "tensor"

    def rule(self, u: Tensor, state: State, theta: Tensor | None, clock: Clock) -> tuple[Tensor, State]:
        """Clamp the matrices of a stack ``[n, *shape]`` of same-shaped weights."""
        return self.form.each(u, lambda matrices: in_chunks(self._clamped, matrices)), state

    def _clamped(self, matrices: Tensor) -> Tensor:  # [m, rows, columns]
        limit = quantile_of_size(matrices.flatten(1), self.quantile)[:, None, None] + 1e-9
        return matrices.clamp(-limit, limit)


def quantile_of_size(entries: Tensor, quantile: float) -> Tensor:
    """Return a quantile of the absolute values of every row of ``[n, entries]``, interpolated as `torch.quantile` does.

    `torch.quantile` sorts, and takes no more than 16 million entries; choosing the largest ones takes a seventh of its
    time for the 0.9-quantile, and has no such limit.
    """
    position = quantile * (entries.shape[1] - 1)
    below = math.floor(position)
    largest = entries.abs().topk(entries.shape[1] - below, dim=1, sorted=False).values
    ends = largest.topk(min(2, largest.shape[1]), dim=1, largest=False).values  # the ones on either side of position
    return torch.lerp(ends[:, 0], ends[:, -1], position - below)


@dataclass(frozen=True)
class OrthogonalizeByShape(Transform):
    """Newton-Schulz with coefficients fitted to the shape, scaled to a root mean square of about 0.2."""

    iterations: int
    precision: str
    form: Form = AS_STORED
    grain: ClassVar[Grain] = "tensor"

    def rule(self, u: Tensor, state: State, theta: Tensor | None, clock: Clock) -> tuple[Tensor, State]:
        """Orthogonalise the matrices of a stack ``[n, *shape]`` of same-shaped weights."""
        return self.form.each(u, self._factors), state

    def _factors(self, matrices: Tensor) -> Tensor:  # [m, rows, columns]
        rows, columns = matrices.shape[1:]
        fitted = coefficients(min(rows, columns), max(rows, columns), self.iterations)
        factors = newton_schulz(matrices, self.iterations, fitted, iteration_dtype(self.precision, matrices.device))
        return factors.mul_(0.2 * math.sqrt(max(rows, columns)))


class ROOT(MatrixOptimizer):
    """ROOT for hidden weight matrices and AdamW for the rest, with an explicit partition.

    Args:
        params: a model, named parameters, parameters or groups of them, as `sooner.update.muon.Muon` takes; a group
            with ``"root": False`` gets AdamW at its own ``lr``.
        lr: learning rate, default 1e-3, on AdamW's scale.
        momentum: in [0, 1), default 0.95.
        nesterov: look ahead by one momentum step, default True.
        quantile: of a matrix's absolute entries, above which they are cut off, in [0, 1], default 0.9; 1 cuts none.
        iterations: Newton-Schulz iterations, default 5.
        weight_decay: decoupled weight decay (multiplied by the group's learning rate), default 0.1.
        adamw_lr: learning rate of everything else, which keeps its ratio to `lr` under a schedule; default None means
            that of the matrices.
        betas: AdamW's moment decay rates, default (0.9, 0.95).
        eps: AdamW's eps, default 1e-8.
        select: for a model, ``select(name, parameter) -> bool`` says which parameters are matrices for ROOT.
        precision: of the iteration, "float32" (default), "bfloat16" or "auto"; see `sooner.update.muon.Muon`.
        split, heads: cut fused projections, so that each piece has outliers, coefficients and scale of its own.
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
        quantile: float = 0.9,
        iterations: int = 5,
        weight_decay: float = 0.1,
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
        own = {"momentum": momentum, "nesterov": nesterov, "quantile": quantile, "iterations": iterations}
        super().__init__(params, {"lr": lr, **adamw, **own, "precision": precision}, select, split, heads, **options)

    @classmethod
    def check(cls, group: dict[str, Any]) -> None:
        """Refuse hyper-parameters out of range."""
        super().check(group)
        check_range("root", "momentum", group["momentum"], 0.0, 1.0, open_high=True)
        check_range("root", "quantile", group["quantile"], 0.0, 1.0)
        check_iteration("root", group)

    def matrix_rule(self, group: dict[str, Any], form: Form) -> Chain:
        """``momentum | cut outliers | orthogonalize | decay | descend``."""
        momentum = Momentum(group["momentum"], nesterov=group["nesterov"])
        cut = CutOutliers(group["quantile"], form) if group["quantile"] < 1 else None
        orthogonalize = OrthogonalizeByShape(group["iterations"], group["precision"], form)
        return chain(momentum, cut, orthogonalize, decay(group["weight_decay"]), Descend())
