"""APOLLO-Mini: scale the raw gradient of a whole matrix by one number, found with moments of a rank-1 projection of it.

    R, m, v, N as in `sooner.update.apollo` with r = 1,   U = G * ||N|| / (||R|| + 1e-8)  with one norm per matrix,
    limited and stepped as there, with scale = 128

The state is 2 max(rows, columns) + 1 numbers for a matrix, which is next to nothing. One random direction is a noisy
view of a gradient: the limit on the growth of the norm is what keeps the method stable.

Use it when state must shrink to almost nothing, as for fine-tuning large models.

Leave it when the run is short or the learning rate can't be tuned: rank one is noisy.

It costs two numbers of state per row or column of a matrix, two per other weight; one random projection per matrix and
step; nothing on the wire.

Zhu et al., 2024, arXiv 2412.05270.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Unpack

from torch import Tensor

from sooner.space import Knob, Log
from sooner.update._form import Split
from sooner.update._matrices import Select
from sooner.update._options import Options
from sooner.update.apollo import APOLLO


class APOLLOMini(APOLLO):
    """APOLLO-Mini for hidden weight matrices and AdamW for the rest, with an explicit partition.

    Args:
        params: a model, named parameters, parameters or groups of them, as `sooner.update.muon.Muon` takes; a group
            with ``"apollo_mini": False`` gets AdamW at its own ``lr``.
        lr: learning rate of the matrices, default 0.01: ten times what one would give Adam.
        scale: its square root multiplies the update, default 128; about the width of the model, or a quarter of it.
        rank: of the projection, default 1.
        scale_front, interval, betas, eps, weight_decay, adamw_lr, seed, select, split, heads: as in
            `sooner.update.apollo.APOLLO`.
        **options: see `sooner.update._options.Options`.

    Raises:
        SoonerError: no suitable weight matrix, or a hyper-parameter outside its range.
    """

    space: ClassVar[Mapping[str, Knob]] = {"lr": Log(1e-3, 0.3)}
    per_channel: ClassVar[bool] = False

    def __init__(
        self,
        params: Any,
        lr: float | Tensor = 0.01,
        rank: int | None = 1,
        scale: float = 128.0,
        scale_front: bool = False,
        interval: int = 200,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-6,
        weight_decay: float = 0.0,
        adamw_lr: float | Tensor | None = None,
        seed: int = 0,
        select: Select | None = None,
        split: Split | None = None,
        heads: Split | None = None,
        **options: Unpack[Options],
    ) -> None:
        own = (rank, scale, scale_front, interval, betas, eps, weight_decay, adamw_lr, seed, select, split, heads)
        super().__init__(params, lr, *own, **options)
