"""NorMuon: Muon whose neurons learn at the same pace: every row of the orthogonalised momentum by its own usual size.

    b <- momentum * b + (1 - momentum) * g,   d = (1 - momentum) * g + momentum * b  (Nesterov; else b)
    O = NewtonSchulz(d),   v <- beta2 * v + (1 - beta2) * (mean of O^2 over every row)
    N = O / (sqrt(v) + eps)  row by row
    theta <- theta - lr * ( scale * ||O|| / ||N|| * N + weight_decay * theta ),   scale = sqrt(max(1, rows / columns))

Orthogonalisation gives all directions of a matrix the same length, but not all its rows, which are the neurons. The
division changes how the rows compare, not how long the step is. Only hidden weight matrices (convolution kernels as
``[out, in * kernel]``, stacked experts one by one) are stepped this way, everything else by AdamW inside the same
optimizer.

Use it when Muon fits and matrices have more rows than columns, as the first ones of feed-forward layers have.

Leave it when matrices are square or wide: the rows of an orthogonal one have the same length already.

It costs what Muon does: one number of state per matrix weight and one per row, two per other weight; five small matrix
products per matrix and step; nothing on the wire.

Li et al., 2025, arXiv 2510.05491, algorithm 1; Nesterov's look-ahead and the scale as in the authors' repository,
zichongli5/NorMuon. ``adjust="match_rms_adamw"`` is the paper's scale.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, Unpack

import torch
from torch import Tensor

from sooner.part import check_choice, check_range
from sooner.space import Knob, Log
from sooner.transform import Chain, Clock, Descend, Grain, State, Transform, chain, decay
from sooner.update._factors import Factors
from sooner.update._form import AS_STORED, Form, Split
from sooner.update._matrices import MatrixOptimizer, Select
from sooner.update._options import Options
from sooner.update._orthogonal import check_iteration
from sooner.update.muon import ADJUSTMENTS, AveragedMomentum

LEAST_NORM = 1e-10
"""Added to the norm that is divided by, so that a step of zeros stays one."""


@dataclass(frozen=True)
class EvenNeurons(Transform):
    """Divides every row of every matrix by the root of an average of its mean squares, and scales the matrix."""

    beta2: float
    eps: float
    adjust: str = "original"
    form: Form = AS_STORED
    grain: ClassVar[Grain] = "tensor"
    slots: ClassVar[tuple[str, ...]] = ("neuron_avg_sq",)

    def slot_shape(self, slot: str, shape: tuple[int, ...]) -> tuple[int, ...]:
        """Return one number per row, for every matrix of a stack."""
        rows = self.form.size(shape)[1]
        return (*shape[:-2], rows) if self.form.stacked else (rows,)

    def rule(self, u: Tensor, state: State, theta: Tensor | None, clock: Clock) -> tuple[Tensor, State]:
        """Even out the rows of the matrices of a stack ``[n, *shape]`` of same-shaped weights."""
        shape, before = tuple(u.shape[1:]), state["neuron_avg_sq"]
        matrices = self.form.matrices(u)  # [m, rows, columns]
        mean = torch.linalg.vector_norm(matrices, dim=2).square() / matrices.shape[2]
        square = self.beta2 * before.reshape(mean.shape) + (1 - self.beta2) * mean
        even = matrices / (square.sqrt() + self.eps)[..., None]
        for given, done in zip(self.form.cut(matrices, shape), self.form.cut(even, shape), strict=True):
            done.mul_(self._scale(given, done))
        return self.form.stored(even, u), {"neuron_avg_sq": square.view(before.shape)}

    def _scale(self, given: Tensor, done: Tensor) -> Tensor:
        """Return what each piece ``[m, pieces, rows, columns]`` is multiplied by."""
        rows, columns = done.shape[-2:]
        after = _norm(done) + LEAST_NORM
        if self.adjust == "original":
            return _norm(given) * math.sqrt(max(1.0, rows / columns)) / after
        return after.reciprocal() * (0.2 * math.sqrt(rows * columns))


def _norm(pieces: Tensor) -> Tensor:
    norm: Tensor = torch.linalg.vector_norm(pieces, dim=(-2, -1), keepdim=True)
    return norm


class NorMuon(MatrixOptimizer):
    """NorMuon for hidden weight matrices and AdamW for the rest, with an explicit partition.

    Args:
        params: a model, named parameters, parameters or groups of them, as `sooner.update.muon.Muon` takes; a group
            with ``"normuon": False`` gets AdamW at its own ``lr``.
        lr: learning rate of the matrices, default 0.02.
        momentum: in [0, 1), default 0.95.
        nesterov: look ahead by one momentum step, default True. The paper has none.
        beta2: decay rate of the average of the rows' squares, in [0, 1), default 0.95. There is no bias correction: a
            factor that all rows share changes nothing.
        weight_decay: decoupled weight decay (multiplied by the group's learning rate), default 0.
        iterations: Newton-Schulz iterations, default 5.
        adamw_lr: learning rate of everything else, which keeps its ratio to `lr` under a schedule; default None means
            a quarter of the learning rate of the matrices, as with Muon.
        betas: AdamW's moment decay rates, default (0.9, 0.95).
        eps: added to the roots, default 1e-10, also AdamW's.
        select: for a model, ``select(name, parameter) -> bool`` says which parameters are matrices for NorMuon.
        precision: of the iteration, "float32" (default), "bfloat16" or "auto"; see `sooner.update.muon.Muon`.
        adjust: "original" (default): a step is as long as Muon's, times sqrt(max(1, rows / columns)).
            "match_rms_adamw": its root mean square is 0.2, with which AdamW's learning rates and weight decays carry
            over; the paper's.
        split, heads: cut fused projections, so that each piece is orthogonalised and scaled alone; see Muon.
        **options: see `sooner.update._options.Options`.

    Raises:
        SoonerError: no suitable weight matrix, or a hyper-parameter outside its range.
    """

    space: ClassVar[Mapping[str, Knob]] = {"lr": Log(3e-3, 0.3)}
    adamw_share: ClassVar[float] = 0.25

    def __init__(
        self,
        params: Any,
        lr: float | Tensor = 0.02,
        momentum: float = 0.95,
        nesterov: bool = True,
        beta2: float = 0.95,
        weight_decay: float = 0.0,
        iterations: int = 5,
        adamw_lr: float | Tensor | None = None,
        betas: tuple[float, float] = (0.9, 0.95),
        eps: float = 1e-10,
        select: Select | None = None,
        precision: Literal["float32", "bfloat16", "auto"] = "float32",
        adjust: Literal["original", "match_rms_adamw"] = "original",
        split: Split | None = None,
        heads: Split | None = None,
        **options: Unpack[Options],
    ) -> None:
        adamw = {"adamw_lr": adamw_lr, "betas": betas, "eps": eps, "weight_decay": weight_decay}
        own = {"momentum": momentum, "nesterov": nesterov, "beta2": beta2, "iterations": iterations}
        how = {"precision": precision, "adjust": adjust}
        super().__init__(params, {"lr": lr, **adamw, **own, **how}, select, split, heads, **options)

    @classmethod
    def check(cls, group: dict[str, Any]) -> None:
        """Refuse hyper-parameters out of range."""
        super().check(group)
        for name in ("momentum", "beta2"):
            check_range("normuon", name, group[name], 0.0, 1.0, open_high=True)
        check_iteration("normuon", group)
        check_choice("normuon", "adjust", group["adjust"], ADJUSTMENTS)

    def matrix_rule(self, group: dict[str, Any], form: Form) -> Chain:
        """``momentum | factors | even neurons | decay | descend``."""
        momentum = AveragedMomentum(group["momentum"], group["nesterov"])
        factors = Factors(group["iterations"], group["precision"], form)
        even = EvenNeurons(group["beta2"], group["eps"], group["adjust"], form)
        return chain(momentum, factors, even, decay(group["weight_decay"]), Descend())
